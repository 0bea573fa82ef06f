"""Each alternative target against its formula, written out longhand on a prior with a known score."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from guidance_priors import GaussianFlowPrior, GaussianPrior, Words

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.guidance import GUIDANCES, Cfg, Guidance, make_guidance
from fsd_gs.guidance.dsd import DiverseScoreDistillation
from fsd_gs.guidance.ism import IntervalScoreMatching
from fsd_gs.guidance.nfsd import BAD_PICTURE, NoiseFreeScoreDistillation
from fsd_gs.guidance.rfds import RectifiedFlowDistillation
from fsd_gs.guidance.sdi import ScoreDistillationInversion
from fsd_gs.guidance.ucm import UniqueCoupleMatching
from fsd_gs.guidance.vsd import TrainablePrior, VariationalScoreDistillation

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
    guidance = IntervalScoreMatching(Cfg(7.5), "sigma2", delta_t=0.05, delta_s=0.2)
    grad = guidance(prior, x, noise, T, text, CAMERAS)
    x_s = x
    for a, b in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.55)):
        x_s = ddim_move(prior, x_s, a, b, text, 0.0)
    x_t = ddim_move(prior, x_s, 0.55, T, text, 0.0)
    sigma = coefficients(prior, T)[1]
    expected = sigma**2 * (epsilon(prior, x_t, T, text, 7.5) - epsilon(prior, x_s, 0.55, text, 0.0))
    assert torch.allclose(grad, expected, atol=1e-10)
    assert torch.equal(grad, guidance(prior, x, 5 * noise, T, text, CAMERAS))  # the given noise plays no part


def test_ism_at_the_end_of_the_schedule_has_no_negative_times(prior, text, x, noise):
    prior.calls.clear()
    grad = IntervalScoreMatching(Cfg(7.5))(prior, x, noise, 0.02, text, CAMERAS)
    assert torch.isfinite(grad).all()
    assert all(t > 0 for t, _ in prior.calls)


def test_sdi(prior, text, x, noise):
    grad = ScoreDistillationInversion(Cfg(7.5), "one", inversion_scale=-2.0, inversion_steps=3)(prior, x, noise, T, text, CAMERAS)
    x_t = x
    for a, b in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6)):
        x_t = ddim_move(prior, x_t, a, b, text, -2.0)
    alpha, sigma = coefficients(prior, T)
    kappa = (x_t - alpha * x) / sigma
    assert torch.allclose(grad, epsilon(prior, alpha * x + sigma * kappa, T, text, 7.5) - kappa, atol=1e-10)


def test_sdi_inverts_along_the_ode_of_a_gaussian(prior, text):
    """With fine moves x = m + s z is inverted to x_t = α m + √(α² s² + σ²) z, and κ and ε_φ are both multiples of z."""
    z = torch.randn(2, *prior.latent_shape, generator=generator(5)).double()
    guidance = ScoreDistillationInversion(Cfg(1.0), "one", inversion_scale=1.0, inversion_steps=200)
    alpha, sigma = coefficients(prior, T)
    root = (alpha**2 * 0.25 + sigma**2).sqrt()
    expected = (sigma / root - (root - alpha * 0.5) / sigma) * z
    assert (guidance(prior, 2.0 + 0.5 * z, z, T, text, CAMERAS) - expected).abs().max() < 0.02 * expected.abs().max()


def test_sdi_with_eta_adds_its_share_of_noise(prior, text, x, noise):
    plain = ScoreDistillationInversion(Cfg(1.0), "one")
    noisy = ScoreDistillationInversion(Cfg(1.0), "one", eta=1.0)
    with pytest.raises(ConfigError, match="generator: 'sdi' draws random numbers"):
        noisy(prior, x, noise, T, text, CAMERAS)
    fresh = noisy(prior, x, noise, T, text, CAMERAS, generator=generator(3))
    drawn = torch.randn(x.shape, generator=generator(3)).to(x)
    sds = make_guidance("score", Cfg(1.0), "one")(prior, x, drawn, T, text, CAMERAS)
    assert torch.allclose(fresh, sds)  # η = 1 is SDS
    assert not torch.allclose(fresh, plain(prior, x, noise, T, text, CAMERAS))


def test_dsd(prior, text, x, noise):
    guidance = DiverseScoreDistillation(Cfg(7.5), "sigma2", ode_steps=5, interval=0.5, t_min=0.1)
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
    at_s = epsilon(prior, alpha_s * x + sigma_s * seed_noise, s, text, 1.0)
    assert torch.allclose(grad, sigma**2 * (at_t - at_s), atol=1e-10)
    with pytest.raises(ConfigError, match="generator: 'dsd' draws its interval"):
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
        def with_background(self, text, background):
            return replace(text, background=background, positive=text.positive + background.sum().item(), negative=-7.0)

    told = Told(deviation=0.5)
    text = told.with_background(told.encode_text("red", "dull", CAMERAS), torch.tensor([0.5, 0.25, 0.0]))
    grad = NoiseFreeScoreDistillation(7.5, "one")(told, x, noise, 0.1, text, CAMERAS)
    alpha, sigma = coefficients(told, 0.1)
    prompted, empty = (told.score_noise(alpha * x + sigma * noise, time(0.1), mean) for mean in (2.75, -7.0))
    assert torch.allclose(grad, empty + 7.5 * (prompted - empty), atol=1e-12)


def test_rfds(flow, text, x, noise):
    grad = RectifiedFlowDistillation(Cfg(4.0), "one")(flow, x, noise, T, text, CAMERAS)
    x_t = (1 - T) * x + T * noise
    assert torch.allclose(grad, flow.predict_velocity(x_t, time(T), text, CAMERAS, 4.0) - (noise - x))
    assert torch.isfinite(RectifiedFlowDistillation(Cfg(4.0))(flow, x, noise, 1.0, text, CAMERAS)).all()


def test_ucm(flow, text, x, noise):
    grad = UniqueCoupleMatching(Cfg(4.0), "one", inversion_steps=4)(flow, x, noise, T, text, CAMERAS)
    couple = x
    for step in range(4):
        t = step / 4
        couple = couple + 0.25 * flow.predict_velocity(couple, time(max(t, 1e-3)), text, CAMERAS, 1.0)
    x_t = (1 - T) * x + T * couple
    assert torch.allclose(grad, flow.predict_velocity(x_t, time(T), text, CAMERAS, 4.0) - (couple - x), atol=1e-10)
    early = UniqueCoupleMatching(Cfg(4.0), "one", t_random=0.5)
    rfds = RectifiedFlowDistillation(Cfg(4.0), "one")
    assert torch.equal(early(flow, x, noise, T, text, CAMERAS), rfds(flow, x, noise, T, text, CAMERAS))


def test_ucm_couple_of_a_gaussian_is_its_whitened_self(flow, text):
    """The flow between two Gaussians is monotone: x = m + s z is coupled with z."""
    z = torch.randn(2, *flow.latent_shape, generator=generator(6)).double()
    from fsd_gs.guidance.ode import ddim_path, time_grid

    couple = ddim_path(flow, 2.0 + 0.5 * z, time_grid(0, 1, 400, z), text, CAMERAS, Cfg(1.0))
    assert (couple - z).abs().max() < 0.02


# ---- VSD --------------------------------------------------------------------------------------------------------------------------------


class LoraGaussianPrior(GaussianPrior):
    """A Gaussian prior whose second copy is a small network with real peft adapters: ε_lora = ε_φ + W x_t, W = 0 before LoRA."""

    def add_lora(self, rank, generator):
        from peft import LoraConfig, inject_adapter_in_model

        linear = torch.nn.Linear(self.latent_shape[-1], self.latent_shape[-1], bias=False)
        torch.nn.init.zeros_(linear.weight)
        self.extra = inject_adapter_in_model(LoraConfig(r=rank, target_modules=["0"]), torch.nn.Sequential(linear)).double()
        parameters = [p for name, p in self.extra.named_parameters() if "lora" in name]
        with torch.no_grad():
            for name, p in self.extra.named_parameters():
                if "lora_A" in name:
                    p.copy_(0.3 * torch.randn(p.shape, generator=generator))
        return parameters

    def predict_noise_trainable(self, latents_t, t, text, cameras):
        return self.predict_noise(latents_t, t, text, cameras, 1.0) + self.extra(latents_t)


def test_vsd_starts_as_the_difference_of_guidance(text, x, noise):
    """A fresh LoRA changes nothing: the first gradient is w (ε_cfg − ε_text), whatever the noise of its training."""
    prior = LoraGaussianPrior()
    assert isinstance(prior, TrainablePrior)
    grad = VariationalScoreDistillation(Cfg(7.5), "one")(prior, x, noise, T, text, CAMERAS, generator=generator())
    alpha, sigma = coefficients(prior, T)
    x_t = alpha * x + sigma * noise
    assert torch.allclose(grad, epsilon(prior, x_t, T, text, 7.5) - epsilon(prior, x_t, T, text, 1.0), atol=1e-12)


def test_vsd_lora_learns_the_renders(text, noise):
    """Renders that are not the prior's data: training must lower the denoising loss below the frozen network's."""
    prior = LoraGaussianPrior((1, 8, 8))
    x = torch.full((2, 1, 8, 8), -4.0).double()
    guidance = VariationalScoreDistillation(Cfg(7.5), "one", rank=4, rate=0.02)
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

    prior, guidance, random = LoraGaussianPrior(), VariationalScoreDistillation(Cfg(7.5), rate=0.01), generator()
    assert guidance.state_dict() == {}
    steps(prior, guidance, random, 3)
    state, random_state = guidance.state_dict(), random.get_state()
    expected = steps(prior, guidance, random, 3)

    resumed = VariationalScoreDistillation(Cfg(7.5), rate=0.01)
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


@pytest.mark.parametrize("method", GUIDANCES)
def test_every_method_keeps_the_contract(method, x, noise):
    prior = {"rfds": GaussianFlowPrior, "ucm": GaussianFlowPrior, "vsd": LoraGaussianPrior}.get(method, GaussianPrior)()
    text = prior.encode_text("red", "dull", CAMERAS)
    guidance = make_guidance(method, Cfg(3.0))
    assert isinstance(guidance, Guidance)
    leaf = x.clone().requires_grad_()
    for t in (0.98, 0.5, 0.02):
        grad = guidance(prior, leaf, noise, t, text, CAMERAS, generator=generator())
        assert grad.shape == x.shape
        assert grad.dtype == x.dtype
        assert torch.isfinite(grad).all()
        assert not grad.requires_grad
    guidance.load_state_dict(guidance.state_dict())
    assert make_guidance(method, Cfg(3.0), "sigma2").weight == "sigma2"


@pytest.mark.parametrize("method", ["rfds", "ucm"])
def test_flow_targets_refuse_noise_priors(method, prior, text, x, noise):
    with pytest.raises(ConfigError, match=rf"'{method}' needs a flow-matching prior \(sd3, flux\), got GaussianPrior.*'score', 'ism'"):
        make_guidance(method, Cfg())(prior, x, noise, T, text, CAMERAS)
    with pytest.raises(ConfigError, match=f"cfg_rescale: '{method}' works on velocities"):
        make_guidance(method, Cfg(rescale=0.5))


def test_vsd_refuses_priors_without_lora(prior, text, x, noise):
    with pytest.raises(ConfigError, match="'vsd' trains a LoRA, which GaussianPrior does not offer"):
        make_guidance("vsd", Cfg())(prior, x, noise, T, text, CAMERAS, generator=generator())


def test_stateless_methods_refuse_foreign_state():
    with pytest.raises(ConfigError, match="ScoreGuidance keeps no state"):
        make_guidance("score", Cfg()).load_state_dict({"lora.0": torch.zeros(1)})


def test_words_are_a_text_condition(prior):
    assert isinstance(prior.encode_text("red", "", CAMERAS), Words)
