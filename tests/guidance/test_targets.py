"""Each alternative target against its formula, written out longhand on a prior with a known score."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from guidance_priors import GaussianFlowPrior, GaussianPrior, LoraGaussianPrior

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.guidance import GUIDANCES, Guidance, TrainablePrior, make_guidance
from fsd_gs.guidance.dsd import DiverseScoreDistillation
from fsd_gs.guidance.ism import IntervalScoreMatching
from fsd_gs.guidance.nfsd import BAD_PICTURE, NoiseFreeScoreDistillation
from fsd_gs.guidance.rfds import RectifiedFlowDistillation
from fsd_gs.guidance.sdi import ScoreDistillationInversion
from fsd_gs.guidance.ucm import UniqueCoupleMatching
from fsd_gs.guidance.vsd import VariationalScoreDistillation

CAMERAS = orbit_cameras([0.0, 90.0], width=8)
T = 0.6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def prior():
    return GaussianPrior(deviation=0.5)


@pytest.fixture
def flow():
    return GaussianFlowPrior(deviation=0.5)


@pytest.fixture
def text(prior):
    return prior.encode_text("red", "dull", CAMERAS)  # means 2 and −1


@pytest.fixture
def x(prior):
    return torch.randn(2, *prior.latent_shape, generator=generator(1)).double()


@pytest.fixture
def noise(prior):
    return torch.randn(2, *prior.latent_shape, generator=generator(2)).double()


def time(value):
    return torch.tensor(value, dtype=torch.float64)


def coefficients(prior, t):
    return prior.schedule.alpha(time(t)), prior.schedule.sigma(time(t))


def epsilon(prior, x_t, t, text, scale):
    return prior.predict_noise(x_t, time(max(t, 1e-3)), text, CAMERAS, scale)


def ddim_move(prior, x_t, t, s, text, scale):
    alpha, sigma = coefficients(prior, t)
    alpha_s, sigma_s = coefficients(prior, s)
    e = epsilon(prior, x_t, t, text, scale)
    return alpha_s * (x_t - sigma * e) / alpha + sigma_s * e


def test_ism(prior, text, x, noise):
    guidance = IntervalScoreMatching(7.5, delta_t=0.05, delta_s=0.2)
    grad = guidance(prior, x, noise, T, text, CAMERAS)
    empty = prior.encode_text("red", "", CAMERAS)  # inverted without any words, though guided away from "dull"
    x_s = x
    for a, b in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.55)):
        x_s = ddim_move(prior, x_s, a, b, empty, 0.0)
    x_t = ddim_move(prior, x_s, 0.55, T, empty, 0.0)
    alpha, sigma = coefficients(prior, T)
    expected = sigma / alpha * (epsilon(prior, x_t, T, text, 7.5) - epsilon(prior, x_s, 0.55, empty, 0.0))
    assert torch.allclose(grad, expected, atol=1e-10)
    assert torch.equal(grad, guidance(prior, x, 5 * noise, T, text, CAMERAS))  # the given noise plays no part


def test_ism_at_the_end_of_the_schedule_has_no_negative_times(prior, text, x, noise):
    prior.calls.clear()
    grad = IntervalScoreMatching(7.5)(prior, x, noise, 0.02, text, CAMERAS)
    assert torch.isfinite(grad).all()
    assert all(t > 0 for t, _ in prior.calls)


def test_sdi(prior, text, x, noise):
    """By the times 0, 1/n, 2/n, … below t, then t + δ; every move with η of DDPM's noise; κ is the noise of its end, put back at t."""
    guidance = ScoreDistillationInversion(7.5, inversion_scale=-2.0, steps=4, eta=0.3)
    grad = guidance(prior, x, noise, T, text, CAMERAS, generator=generator(7))
    random = generator(7)
    last = T + torch.rand((), generator=random, dtype=torch.float64).item() / 4
    x_s = x
    for a, b in ((0.0, 0.25), (0.25, 0.5), (0.5, last)):
        (alpha_a, sigma_a), (alpha_b, sigma_b) = coefficients(prior, a), coefficients(prior, b)
        deviation = sigma_a / sigma_b * (1 - alpha_b**2 / alpha_a**2) ** 0.5
        x_s = ddim_move(prior, x_s, a, b, text, -2.0) + 0.3 * deviation * torch.randn(x.shape, generator=random).to(x)
    kappa = (x_s - alpha_b * x) / sigma_b
    alpha, sigma = coefficients(prior, T)
    assert torch.allclose(grad, sigma / alpha * (epsilon(prior, alpha * x + sigma * kappa, T, text, 7.5) - kappa), atol=1e-10)
    assert torch.equal(grad, guidance(prior, x, 5 * noise, T, text, CAMERAS, generator=generator(7)))


def test_sdi_inverts_along_the_ode_of_a_gaussian(prior, text):
    """With fine moves x = m + s z is inverted to x_t = α m + √(α² s² + σ²) z, and κ and ε_φ are both multiples of z."""
    z = torch.randn(2, *prior.latent_shape, generator=generator(5)).double()
    guidance = ScoreDistillationInversion(1.0, "one", inversion_scale=1.0, steps=200, eta=0.0, shift=False)
    alpha, sigma = coefficients(prior, T)
    root = (alpha**2 * 0.25 + sigma**2).sqrt()
    expected = (sigma / root - (root - alpha * 0.5) / sigma) * z
    assert (guidance(prior, 2.0 + 0.5 * z, z, T, text, CAMERAS) - expected).abs().max() < 0.02 * expected.abs().max()


def test_sdi_draws_only_where_it_has_to(prior, text, x, noise):
    for settings in ({"eta": 0.3, "shift": False}, {"eta": 0.0, "shift": True}):
        with pytest.raises(ConfigError, match="generator: this method draws random numbers"):
            ScoreDistillationInversion(1.0, "one", **settings)(prior, x, noise, T, text, CAMERAS)
    still = ScoreDistillationInversion(1.0, "one", eta=0.0, shift=False)
    assert torch.equal(still(prior, x, noise, T, text, CAMERAS), still(prior, x, noise, T, text, CAMERAS, generator=generator()))
    for t in (1.0, 0.999, 0.001):  # δ may not leave the schedule
        assert torch.isfinite(ScoreDistillationInversion(1.0, "one")(prior, x, noise, t, text, CAMERAS, generator=generator())).all()


def test_sdi_noise_of_a_move_has_ddpms_variance(prior, text):
    """η = 1 makes each move of a path Gaussian with DDPM's posterior variance β̃ (arXiv 2006.11239, eq. 7) around the DDIM move."""
    from fsd_gs.guidance.ode import ddim_path

    x = torch.zeros(4000, *prior.latent_shape).double()
    times = torch.tensor([0.4, 0.5]).double()
    moved = ddim_path(prior, x, times, text, CAMERAS, 1.0, eta=1.0, generator=generator(9))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2
    bars = torch.cumprod(1 - betas, 0)
    expected = (1 - bars[399]) / (1 - bars[499]) * (1 - bars[499] / bars[399])
    assert moved.var().item() == pytest.approx(expected.item(), rel=0.03)


def test_dsd(prior, text, x, noise):
    guidance = DiverseScoreDistillation(7.5, "sigma2", steps=5, interval=0.5, t_min=0.1, target_scale=1.5)
    grad = guidance(prior, x, noise, T, text, CAMERAS, generator=generator(4))
    s = T + 0.5 * (T - 0.1) * torch.rand((), generator=generator(4), dtype=torch.float64).item()
    x_s, previous = noise, 1.0
    for edge in (0.8, 0.6, 0.4, 0.2):
        if edge <= s:
            break
        x_s, previous = ddim_move(prior, x_s, previous, edge, text, 7.5), edge
    x_s = ddim_move(prior, x_s, previous, s, text, 7.5)
    seed_noise = epsilon(prior, x_s, s, text, 7.5)
    (alpha, sigma), (alpha_s, sigma_s) = coefficients(prior, T), coefficients(prior, s)
    at_t = epsilon(prior, alpha * x + sigma * seed_noise, T, text, 7.5)
    at_s = epsilon(prior, alpha_s * x + sigma_s * seed_noise, s, text, 1.5)
    assert torch.allclose(grad, sigma**2 * (at_t - at_s), atol=1e-10)
    with pytest.raises(ConfigError, match="generator: this method draws random numbers"):
        guidance(prior, x, noise, T, text, CAMERAS)
    assert torch.isfinite(guidance(prior, x, noise, 1.0, text, CAMERAS, generator=generator())).all()


def test_nfsd(prior, text, x, noise):
    guidance = NoiseFreeScoreDistillation(7.5, "one")
    for t in (0.1, 0.6):
        grad = guidance(prior, x, noise, t, text, CAMERAS)
        alpha, sigma = coefficients(prior, t)
        x_t = alpha * x + sigma * noise
        prompted, empty, bad = (prior.score_noise(x_t, time(t), mean) for mean in (2.0, 0.0, -3.0))  # "red", "", other negative words
        domain = empty if t < 0.2 else empty - bad
        assert torch.allclose(grad, domain + 7.5 * (prompted - empty), atol=1e-12)
    assert "blurry" in BAD_PICTURE


def test_nfsd_keeps_the_background(prior, x, noise):
    """Its three conditions are read anew from the prompt, each in front of the colour that the text it was given is in front of."""

    class Told(GaussianPrior):
        def encode_text(self, prompt, negative_prompt, cameras, background=None):
            text = super().encode_text(prompt, negative_prompt, cameras)
            assert background is not None
            return replace(text, background=background, positive=text.positive + background.sum().item(), negative=-7.0)

    told = Told(deviation=0.5)
    text = told.encode_text("red", "dull", CAMERAS, torch.tensor([0.5, 0.25, 0.0]))
    grad = NoiseFreeScoreDistillation(7.5, "one")(told, x, noise, 0.1, text, CAMERAS)
    alpha, sigma = coefficients(told, 0.1)
    prompted, empty = (told.score_noise(alpha * x + sigma * noise, time(0.1), mean) for mean in (2.75, -7.0))
    assert torch.allclose(grad, empty + 7.5 * (prompted - empty), atol=1e-12)


def test_rfds(flow, text, x, noise):
    grad = RectifiedFlowDistillation(4.0, "one")(flow, x, noise, T, text, CAMERAS)
    x_t = (1 - T) * x + T * noise
    assert torch.allclose(grad, flow.predict_velocity(x_t, time(T), text, CAMERAS, 4.0) - (noise - x))
    assert torch.isfinite(RectifiedFlowDistillation(4.0)(flow, x, noise, 1.0, text, CAMERAS)).all()


def test_ucm(flow, text, x, noise):
    grad = UniqueCoupleMatching(4.0, "one", steps=4)(flow, x, noise, T, text, CAMERAS)
    couple = x
    for step in range(4):
        t = step / 4
        couple = couple + 0.25 * flow.predict_velocity(couple, time(max(t, 1e-3)), text, CAMERAS, 1.0)
    x_t = (1 - T) * x + T * couple
    assert torch.allclose(grad, flow.predict_velocity(x_t, time(T), text, CAMERAS, 4.0) - (couple - x), atol=1e-10)
    early = UniqueCoupleMatching(4.0, "one", t_random=0.5)
    rfds = RectifiedFlowDistillation(4.0, "one")
    assert torch.equal(early(flow, x, noise, T, text, CAMERAS), rfds(flow, x, noise, T, text, CAMERAS))


def test_ucm_couple_of_a_gaussian_is_its_whitened_self(flow, text):
    """The flow between two Gaussians is monotone: x = m + s z is coupled with z."""
    z = torch.randn(2, *flow.latent_shape, generator=generator(6)).double()
    from fsd_gs.guidance.ode import ddim_path, time_grid

    couple = ddim_path(flow, 2.0 + 0.5 * z, time_grid(0, 1, 400, z), text, CAMERAS, 1.0)
    assert (couple - z).abs().max() < 0.02


# ---- VSD --------------------------------------------------------------------------------------------------------------------------------


def test_vsd_starts_as_the_difference_of_guidance(text, x, noise):
    """A fresh LoRA changes nothing: the first gradient is w (ε_cfg − ε_text), whatever the noise of its training."""
    prior = LoraGaussianPrior()
    assert isinstance(prior, TrainablePrior)
    grad = VariationalScoreDistillation(7.5, "one")(prior, x, noise, T, text, CAMERAS, generator=generator())
    alpha, sigma = coefficients(prior, T)
    x_t = alpha * x + sigma * noise
    assert torch.allclose(grad, epsilon(prior, x_t, T, text, 7.5) - epsilon(prior, x_t, T, text, 1.0), atol=1e-12)


def test_vsd_lora_learns_the_renders(text, noise):
    """Renders that are not the prior's data: training must lower the denoising loss below the frozen network's."""
    prior = LoraGaussianPrior((1, 8, 8))
    x = torch.full((2, 1, 8, 8), -4.0).double()
    guidance = VariationalScoreDistillation(7.5, "one", rank=4, rate=0.02)
    random, losses = generator(), []
    for _ in range(150):
        grad = guidance(prior, x, torch.randn(x.shape, generator=random).double(), T, text, CAMERAS, generator=random)
        losses.append(guidance.last_loss)
    assert sum(losses[-30:]) < 0.5 * sum(losses[:30])
    assert not grad.requires_grad


def test_vsd_resumes_bit_for_bit(text, x):
    def steps(prior, guidance, random, count):
        return [
            guidance(prior, x, torch.randn(x.shape, generator=random).double(), T, text, CAMERAS, generator=random) for _ in range(count)
        ]

    prior, guidance, random = LoraGaussianPrior(), VariationalScoreDistillation(7.5, rate=0.01), generator()
    assert guidance.state_dict() == {}
    steps(prior, guidance, random, 3)
    state, random_state = guidance.state_dict(), random.get_state()
    expected = steps(prior, guidance, random, 3)

    resumed = VariationalScoreDistillation(7.5, rate=0.01)
    resumed.load_state_dict(state)
    other = LoraGaussianPrior()
    resumed._attach(other, generator(99))  # attaching draws from the generator; a resumed run restores its state after
    random = generator()
    random.set_state(random_state)
    for a, b in zip(steps(other, resumed, random, 3), expected, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="vsd state: expected 2 LoRA tensors"):
        resumed.load_state_dict({"lora.0": torch.zeros(1)})


# ---- all of them ------------------------------------------------------------------------------------------------------------------------

PRIORS = {"rfds": GaussianFlowPrior, "ucm": GaussianFlowPrior, "vsd": LoraGaussianPrior, "dive3d": LoraGaussianPrior}


@pytest.mark.parametrize("method", GUIDANCES)
def test_every_method_keeps_the_contract(method, x, noise):
    prior = PRIORS.get(method, GaussianPrior)()
    text = prior.encode_text("red", "dull", CAMERAS)
    guidance = make_guidance(method, 3.0)
    assert isinstance(guidance, Guidance)
    leaf = x.clone().requires_grad_()
    for t in (0.98, 0.5, 0.02):
        grad = guidance(prior, leaf, noise, t, text, CAMERAS, generator=generator())
        assert grad.shape == x.shape
        assert grad.dtype == x.dtype
        assert torch.isfinite(grad).all()
        assert not grad.requires_grad
    guidance.load_state_dict(guidance.state_dict())
    assert make_guidance(method, 3.0, "sigma2").weight == "sigma2"


@pytest.mark.parametrize("method", GUIDANCES)
def test_late_a_share_of_the_scale_is_left(method, x, noise):
    """At 0.6 and above with all of it, below as if it had been asked for less; no guidance is never taken back further."""

    def grad(t, scale, late=1.0):
        prior = PRIORS.get(method, GaussianPrior)()
        guidance = make_guidance(method, scale, cfg_late=late, cfg_late_from=0.6)
        return guidance(prior, x, noise, t, prior.encode_text("red", "dull", CAMERAS), CAMERAS, generator=generator())

    for t, scale in ((0.9, 8.0), (0.6, 8.0), (0.5, 4.0)):
        assert torch.equal(grad(t, 8.0, 0.5), grad(t, scale))
    assert not torch.equal(grad(0.5, 8.0), grad(0.5, 4.0))
    assert torch.equal(grad(0.5, 1.5, 0.1), grad(0.5, 1.0))
    assert torch.equal(grad(0.5, 0.0, 0.5), grad(0.5, 0.0))


@pytest.mark.parametrize("method", ["rfds", "ucm"])
def test_flow_targets_refuse_noise_priors(method, prior, text, x, noise):
    with pytest.raises(ConfigError, match=rf"'{method}' needs a flow-matching prior \(sd3, flux\), got GaussianPrior.*'score', 'ism'"):
        make_guidance(method)(prior, x, noise, T, text, CAMERAS)
    with pytest.raises(ConfigError, match=f"cfg_rescale: '{method}' works on velocities"):
        make_guidance(method, cfg_rescale=0.5)


@pytest.mark.parametrize("method", ["vsd", "dive3d"])
def test_priors_without_lora_are_refused(method, prior, text, x, noise):
    with pytest.raises(ConfigError, match=f"'{method}' trains a LoRA, which GaussianPrior does not offer"):
        make_guidance(method)(prior, x, noise, T, text, CAMERAS, generator=generator())


def test_stateless_methods_refuse_foreign_state():
    with pytest.raises(ConfigError, match="ScoreGuidance keeps no state"):
        make_guidance("score").load_state_dict({"lora.0": torch.zeros(1)})
