"""The residual and what it is made of: against hand-worked formulas on a prior whose score is known."""

from __future__ import annotations

import inspect
import itertools
import math
import re

import pytest
import torch
from guidance_priors import GaussianFlowPrior, GaussianPrior
from scipy import integrate, stats

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.guidance import SCHEDULES, WEIGHTS, ScoreGuidance, guided_noise, inject, make_guidance, time_schedules, weights
from fsd_gs.guidance.cfg import noise_and_clean
from fsd_gs.guidance.time_schedules import DreamTime, Linear, Piecewise, RandomUniform, Sqrt, TimeSchedule
from fsd_gs.guidance.weights import LAMBDA_CAP
from fsd_gs.priors.schedule import DiscreteSchedule, FlowSchedule

CAMERAS = orbit_cameras([0.0, 90.0, 180.0], width=8)


def batch(prior, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, *prior.latent_shape)
    return torch.randn(shape, generator=generator).double(), torch.randn(shape, generator=generator).double()


# ---- time -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Linear, Sqrt, DreamTime])
def test_falling_schedules_start_and_end_where_told_and_never_rise(make):
    schedule = make(0.9, 0.1, 57)
    times = [schedule(step) for step in range(80)]
    assert isinstance(schedule, TimeSchedule)
    assert times[0] == pytest.approx(0.9)
    assert times[56] == pytest.approx(0.1)
    assert times[56] == times[79]
    assert all(a >= b for a, b in itertools.pairwise(times))
    assert make(0.9, 0.1, 1)(0) == pytest.approx(0.9)


def test_known_points():
    assert Linear(1.0, 0.0, 11)(3) == pytest.approx(0.7)
    assert Sqrt(1.0, 0.0, 101)(25) == pytest.approx(0.5)
    cfd = Piecewise(((0, 0.98), (0.1, 0.69), (0.5, 0.40), (1, 0.21)), 101)
    assert [cfd(s) for s in (0, 10, 30, 50, 100, 500)] == pytest.approx([0.98, 0.69, 0.545, 0.40, 0.21, 0.21])


def test_dreamtime_spends_time_as_its_weight_says():
    """The fraction of steps above t is ∫_t^start W / ∫_end^start W, by quadrature."""
    schedule = DreamTime(0.98, 0.02, 1001)

    def weight(t):
        return math.exp(-((t - 0.8) ** 2) / 0.18) if t > 0.8 else math.exp(-((t - 0.5) ** 2) / 0.02) if t < 0.5 else 1.0

    whole = integrate.quad(weight, 0.02, 0.98, points=(0.5, 0.8))[0]
    for step in (1, 100, 400, 700, 950, 999):
        t = schedule(step)
        assert integrate.quad(weight, t, 0.98, points=(0.5, 0.8))[0] / whole == pytest.approx(step / 1000, abs=1e-6)
        assert schedule.weight(t) == pytest.approx(weight(t))


def test_random_times_are_uniform_and_depend_on_seed_and_step_only():
    schedule = RandomUniform(0.2, 0.7, seed=4)
    times = [schedule(step) for step in range(500)]
    assert stats.kstest(times, stats.uniform(0.2, 0.5).cdf).pvalue > 1e-3
    assert abs(stats.pearsonr(times[:-1], times[1:])[0]) < 0.15
    assert RandomUniform(0.2, 0.7, seed=4)(123) == times[123]
    assert RandomUniform(0.2, 0.7, seed=5)(123) != times[123]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(0.1, 0.9), r"Linear: expected t to fall, got start=0.1 < end=0.9; .* 'random' for SDS"),
        (lambda: Sqrt(0.1, 0.9), "Sqrt: expected t to fall"),
        (lambda: DreamTime(0.1, 0.9), "DreamTime: expected t to fall"),
        (lambda: Piecewise(((0, 0.9), (0.5, 0.2), (1, 0.3))), "Piecewise: expected t to fall"),
        (lambda: Piecewise(((0, 0.9), (0.5, 0.2))), "progress rising from 0 to 1"),
        (lambda: Piecewise(((0.0, 0.9),)), "at least two points"),
        (lambda: Linear(1.2, 0.1), r"times in \[0, 1\]"),
        (lambda: Linear(steps=0), "steps of at least 1"),
        (lambda: DreamTime(m1=0.2, m2=0.6), "expected m2 ≤ m1"),
        (lambda: RandomUniform(0.9, 0.1), "0 ≤ t_min ≤ t_max ≤ 1"),
    ],
)
def test_bad_times_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_tables_name_everything():
    """A schedule or weight that is not named in its table cannot be chosen, and a weight that its module does not explain is a riddle."""
    written = {c for c in vars(time_schedules).values() if isinstance(c, type) and c.__module__ == time_schedules.__name__}
    assert set(SCHEDULES.values()) == written - {TimeSchedule}
    functions = {f for f in vars(weights).values() if inspect.isfunction(f) and f.__module__ == weights.__name__}
    assert set(WEIGHTS.values()) == {f for f in functions if list(inspect.signature(f).parameters) == ["schedule", "t"]}
    assert set(re.findall(r"^    (\w+)  ", weights.__doc__, re.M)) | {"lambda_capped"} == set(WEIGHTS)


# ---- weights ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [DiscreteSchedule.scaled_linear(), FlowSchedule()])
def test_weights_are_their_formulas(schedule):
    t = torch.tensor([0.02, 0.3, 0.7, 0.98], dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    expected = {
        "one": torch.ones_like(t), "sigma2": sigma**2, "fantasia3d": alpha * sigma**2, "sigma": sigma,
        "lambda": sigma / alpha, "lambda_capped": (sigma / alpha).clamp(max=LAMBDA_CAP),
    }  # fmt: skip
    assert expected.keys() == WEIGHTS.keys()
    for name, weight in WEIGHTS.items():
        assert torch.allclose(weight(schedule, t), expected[name])
    assert WEIGHTS["lambda_capped"](schedule, t).max() == LAMBDA_CAP  # the cap is reached


def test_lambda_makes_the_gradient_a_distance_to_the_denoised_image():
    prior = GaussianPrior()
    x, noise = batch(prior)
    text, t = prior.encode_text("red", "", CAMERAS), torch.tensor(0.6).double()
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    x_t = alpha * x + sigma * noise
    clean = (x_t - sigma * prior.predict_noise(x_t, t, text, CAMERAS, 3.0)) / alpha
    assert torch.allclose(ScoreGuidance(3.0, "lambda")(prior, x, noise, t, text, CAMERAS), x - clean)


# ---- the residual -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.0, 7.5])
def test_residual_of_a_gaussian_by_hand(scale):
    prior = GaussianPrior(deviation=0.5)
    x, noise = batch(prior)
    text = prior.encode_text("red", "dull", CAMERAS)  # means 2 and −1
    t = torch.tensor(0.4, dtype=torch.float64)
    index = 399
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha2 = torch.cumprod(1 - betas, 0)[index].item()
    alpha, sigma = alpha2**0.5, (1 - alpha2) ** 0.5
    mean = -1 + scale * 3  # ε is linear in the mean, so guidance moves the mean
    expected = sigma * (alpha * x + sigma * noise - alpha * mean) / (alpha2 * 0.25 + sigma**2) - noise
    for weight, factor in (("one", 1.0), ("sigma2", sigma**2)):
        grad = ScoreGuidance(scale, weight)(prior, x, noise, t, text, CAMERAS)
        assert torch.allclose(grad, factor * expected, atol=1e-12)
    assert not grad.requires_grad


def test_residual_is_in_the_latents_dtype_and_leaves_no_graph():
    prior = GaussianPrior()
    x, noise = batch(prior)
    leaf = x.float().requires_grad_()
    grad = ScoreGuidance()(prior, leaf, noise.float(), 0.5, prior.encode_text("red", "", CAMERAS), CAMERAS)
    assert grad.dtype == torch.float32
    assert not grad.requires_grad


def test_flow_form_is_the_residual_of_flow_priors():
    prior = GaussianFlowPrior()
    x, noise = batch(prior)
    text, t = prior.encode_text("red", "dull", CAMERAS), torch.tensor(0.7, dtype=torch.float64)
    by_noise = ScoreGuidance(4.0, "lambda")(prior, x, noise, t, text, CAMERAS)
    by_velocity = make_guidance("rfds", 4.0, "sigma")(prior, x, noise, t, text, CAMERAS)
    assert torch.allclose(by_noise, by_velocity, atol=1e-10)


def test_bad_residuals_are_named():
    prior = GaussianPrior()
    x, noise = batch(prior)
    text = prior.encode_text("red", "", CAMERAS)
    flow = GaussianFlowPrior()
    with pytest.raises(ConfigError, match=r"t: expected one number in \[0, 1\] for the whole batch"):
        ScoreGuidance()(prior, x, noise, 1.5, text, CAMERAS)
    with pytest.raises(ConfigError, match="for the whole batch"):
        ScoreGuidance()(prior, x, noise, torch.rand(3), text, CAMERAS)
    with pytest.raises(InputError, match="noise: expected shape"):
        ScoreGuidance()(prior, x, noise[:2], 0.5, text, CAMERAS)
    with pytest.raises(InputError, match="latents: expected shape"):
        ScoreGuidance()(prior, x[:2], noise, 0.5, text, CAMERAS)
    with pytest.raises(ConfigError, match=r"weight: w\(1\) is not finite; .*'lambda_capped'"):
        ScoreGuidance(weight="lambda")(flow, x, noise, 1.0, text, CAMERAS)
    with pytest.raises(ConfigError, match=r"guidance\.weight: unknown name 'lamda'; did you mean 'lambda'"):
        ScoreGuidance(weight="lamda")
    with pytest.raises(ConfigError, match=r"guidance\.method: unknown name 'isn'; did you mean 'ism'"):
        make_guidance("isn")
    with pytest.raises(ConfigError, match="cfg_rescale: expected"):
        ScoreGuidance(cfg_rescale=1.1)


# ---- CFG rescale ------------------------------------------------------------------------------------------------------------------------


def test_rescale_really_rescales():
    prior = GaussianPrior((2, 16, 16))
    x = torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    # Guidance by means alone shifts, it does not stretch; two widths make a guided prediction with another spread.
    narrow = GaussianPrior((2, 16, 16), deviation=0.1)
    prior.predict_noise = lambda x_t, t, text, cameras, s: (1 - s) * prior.score_noise(x_t, t, 0.0) + s * narrow.score_noise(x_t, t, 0.0)
    t, text = torch.tensor(0.5).double(), prior.encode_text("", "", CAMERAS)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)

    def spread(*scale_and_rescale):
        epsilon = guided_noise(prior, x, t, text, CAMERAS, *scale_and_rescale)
        return ((x - sigma * epsilon) / alpha).std(dim=(1, 2, 3))

    text_only, guided = spread(1.0), spread(9.0)
    assert ((guided / text_only - 1).abs() > 0.1).all()
    assert torch.allclose(spread(9.0, 1.0), text_only)
    assert torch.allclose(spread(9.0, 0.5), 0.5 * guided + 0.5 * text_only)
    assert torch.equal(spread(9.0, 0.0), guided)


def test_views_denoised_jointly_are_rescaled_jointly():
    prior = GaussianPrior((1, 8, 8))
    prior.views = 3
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([0.2, 1.0, 5.0]).view(3, 1, 1, 1)
    t, text = torch.tensor(0.5).double(), prior.encode_text("", "", CAMERAS)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    prior.predict_noise = lambda x_t, t, text, cameras, s: x_t * (1 - alpha * s) / sigma  # its x̂ is s x_t
    _, clean = noise_and_clean(prior, x, t, text, CAMERAS, 4.0, 1.0)
    assert torch.allclose(clean, x)  # one factor, 1/4, for all three


@pytest.mark.parametrize("scale", [5.0, 50.0])
def test_rescale_is_finite_where_there_is_noise_alone(scale):
    """At t = 1 of a flow prior α is 0: x̂ must not be found by a division."""
    prior = GaussianFlowPrior((2, 8, 8))
    narrow = GaussianFlowPrior((2, 8, 8), deviation=0.1)  # guidance by means alone shifts, it does not stretch
    prior.predict_velocity = lambda x_t, t, text, cameras, s: (1 - s) * prior.velocity(x_t, t, 0.0) + s * narrow.velocity(x_t, t, 0.0)
    x, noise = batch(prior)
    text = prior.encode_text("red", "dull", CAMERAS)
    grad = ScoreGuidance(scale, "one", 0.5)(prior, x, noise, 1.0, text, CAMERAS)
    assert torch.isfinite(grad).all()
    assert torch.allclose(grad, torch.zeros_like(grad))  # ε_φ = x_t = ε there, whatever x̂ is
    below = ScoreGuidance(scale, "one", 0.5)(prior, x, noise, 0.99, text, CAMERAS)
    prior.predict_noise = lambda x_t, t, text, cameras, s: x_t + (1 - t) * prior.predict_velocity(x_t, t, text, cameras, s)
    plain = ScoreGuidance(scale, "one")(prior, x, noise, 0.99, text, CAMERAS)
    assert torch.isfinite(below).all()
    assert not torch.allclose(below, plain, rtol=1e-3)


# ---- injection --------------------------------------------------------------------------------------------------------------------------


def test_injected_gradient_is_the_residual_and_flows_on():
    generator = torch.Generator().manual_seed(0)
    parameter = torch.randn(2, 3, generator=generator).double().requires_grad_()
    matrix = torch.randn(3, 4, generator=generator).double()
    grad = torch.randn(2, 4, generator=generator).double().requires_grad_()
    latents = parameter @ matrix
    latents.retain_grad()
    inject(latents, grad).backward()
    assert torch.equal(latents.grad, grad)
    assert torch.allclose(parameter.grad, grad @ matrix.T)
    assert grad.grad is None
    for reduction, divisor in (("views", 2), ("mean", 8)):
        latents = (parameter @ matrix).detach().requires_grad_()
        inject(latents, grad, reduction).backward()
        assert torch.allclose(latents.grad, grad / divisor)
    with pytest.raises(ConfigError, match="reduction: expected"):
        inject(latents, grad, "max")
    with pytest.raises(InputError, match="grad: expected shape"):
        inject(latents, grad[:1])
