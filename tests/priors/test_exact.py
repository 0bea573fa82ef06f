"""The ideal denoiser against brute force: its noise must be −σ ∇ log p of the mixture that it claims to know."""

import itertools
import math

import pytest
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import InputError
from fsd_gs.priors.backbones.exact import (
    GUESSED_MEAN,
    GUESSED_STD,
    ExactPrior,
    ImageObjects,
    blend_view_numba,
    blend_view_torch,
    measure_view_numba,
    measure_view_torch,
)
from fsd_gs.priors.base import Prior
from fsd_gs.priors.schedule import DiscreteSchedule, ShiftedSchedule

SIZE, VIEWS, OBJECTS = 4, 2, 3


@pytest.fixture
def renders() -> torch.Tensor:
    """[M, V, S, S, 4] premultiplied and 8-bit, so that the cache loses nothing."""
    generator = torch.Generator().manual_seed(5)
    values = torch.rand(OBJECTS, VIEWS, SIZE, SIZE, 4, generator=generator)
    values[..., :3] *= values[..., 3:]
    return (values * 255).round() / 255


@pytest.fixture
def prior(renders) -> ExactPrior:
    return ExactPrior(ImageObjects(renders, ["a", "b", "b"]), image_size=SIZE, views=VIEWS, shift=1.0)


CAMERAS = orbit_cameras([0, 180], 0, width=SIZE)


def log_density(x_t: torch.Tensor, renders: torch.Tensor, weights: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """log p(x_t) up to a constant: the integral over the background done on a fine grid, each channel by itself."""
    grid = torch.linspace(-2.5, 3.5, 4001, dtype=torch.float64)
    log_background = -0.5 * ((grid - GUESSED_MEAN) / GUESSED_STD) ** 2
    terms = []
    for image, weight in zip(renders.double(), weights, strict=True):
        if weight == 0:
            continue
        total = math.log(weight)
        for channel in range(3):
            colour, opacity = image[..., channel].flatten(), image[..., 3].flatten()
            clean = 2 * (colour[:, None] + (1 - opacity[:, None]) * grid) - 1  # [pixels of all views, grid]
            error = (x_t[:, channel].flatten()[:, None] - alpha * clean).square().sum(0)
            total = total + torch.logsumexp(log_background - error / (2 * sigma**2), 0)
        terms.append(total)
    return torch.logsumexp(torch.stack(terms), 0)


@pytest.mark.parametrize("t", [0.98, 0.7, 0.4, 0.1])
@pytest.mark.parametrize(("prompt", "weights"), [("", [1 / 3, 1 / 3, 1 / 3]), ("a", [1, 0, 0]), ("b", [0, 0.5, 0.5])])
def test_noise_is_the_score_of_the_mixture(prior, renders, t, prompt, weights):
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = prior.schedule.alpha(time).item(), prior.schedule.sigma(time).item()
    x_0 = 2 * (renders[1, ..., :3] + 0.2 * (1 - renders[1, ..., 3:])).permute(0, 3, 1, 2).double() - 1
    x_t = alpha * x_0 + sigma * torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x_t.requires_grad_(True)
    (score,) = torch.autograd.grad(log_density(x_t, renders, torch.tensor(weights), alpha, sigma), x_t)
    text = prior.encode_text(prompt, "", CAMERAS)
    noise = prior.predict_noise(x_t.detach(), time, text, CAMERAS, cfg_scale=1.0)
    torch.testing.assert_close(noise, -sigma * score, atol=2e-5, rtol=1e-4)


def test_a_known_background_is_not_mistaken_for_part_of_the_object(prior, renders):
    """Told the background, the ideal denoiser is the mixture over objects composited on exactly that colour."""
    colour, t = torch.tensor([0.9, 0.1, 0.4]), torch.tensor(0.9)
    text = prior.encode_text("", "", CAMERAS, colour)
    images = 2 * (renders[..., :3] + (1 - renders[..., 3:]) * colour).permute(0, 1, 4, 2, 3) - 1
    x_t = torch.randn(VIEWS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 2
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    weights = torch.softmax(-(x_t - alpha * images).square().sum((1, 2, 3, 4)) / (2 * sigma**2), 0)
    expected = (x_t - alpha * (weights[:, None, None, None, None] * images).sum(0)) / sigma
    torch.testing.assert_close(prior.predict_noise(x_t, t, text, CAMERAS, 1.0), expected, atol=1e-3, rtol=1e-3)
    assert torch.equal(text.background, colour)


def test_cfg_is_the_diffusers_combination(prior):
    text = prior.encode_text("a", "b", CAMERAS)
    x_t = torch.randn(VIEWS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor(0.8)
    positive, negative, guided = (prior.predict_noise(x_t, t, text, CAMERAS, s) for s in (1.0, 0.0, 3.0))
    torch.testing.assert_close(guided, negative + 3 * (positive - negative), atol=1e-5, rtol=1e-5)
    assert (positive - negative).abs().max() > 1e-2


def test_kernels_equal_their_readable_twins():
    generator = torch.Generator().manual_seed(0)
    for side in (7, 32, 40):  # less than a block of 1024 pixels, exactly one, one and a rest
        renders = torch.randint(0, 256, (5, 4, side, side), generator=generator, dtype=torch.uint8)
        z = torch.randn(3, side, side, generator=generator) * 20
        mean = torch.tensor([0.2, 0.5, 0.9])
        fast, slow = measure_view_numba(z, renders, mean), measure_view_torch(z.double(), renders, mean)
        torch.testing.assert_close(fast.residual, slow.residual, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(fast.projection, slow.projection, rtol=1e-4, atol=5e-2)
        torch.testing.assert_close(fast.clear, slow.clear, rtol=1e-5, atol=1e-3)
        chosen, weights, colours = torch.tensor([0, 3, 4]), torch.rand(3, generator=generator), torch.rand(3, 3, generator=generator)
        weights = weights / weights.sum()
        arguments = (renders, chosen, weights, colours)
        torch.testing.assert_close(blend_view_numba(*arguments), blend_view_torch(*arguments), atol=1e-5, rtol=0)


def test_the_ode_ends_on_an_object_and_seeds_differ(prior, renders):
    clean = 2 * (renders[..., :3] + GUESSED_MEAN * (1 - renders[..., 3:])).permute(0, 1, 4, 2, 3) - 1
    reached = set()
    text = prior.encode_text("", "", CAMERAS, torch.full((3,), GUESSED_MEAN))
    for seed in range(12):
        noise = torch.randn(VIEWS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        x = torch.zeros_like(noise)
        times = torch.linspace(0.98, 0.01, 80)
        for t, s in itertools.pairwise(times):
            alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
            predicted = prior.predict_noise(alpha * x + sigma * noise, t, text, CAMERAS, 1.0)
            x = x - (prior.schedule.lambda_(t) - prior.schedule.lambda_(s)) * (predicted - noise)
        distance = ((clean - x) ** 2).flatten(1).mean(1)
        assert distance.min() < 1e-3
        reached.add(int(distance.argmin()))
    assert len(reached) >= 2


def test_it_is_a_prior_and_its_images_survive_encoding(prior):
    assert isinstance(prior, Prior)
    rgb = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.testing.assert_close(prior.decode(prior.encode(rgb)), rgb)
    for size in (2, 3, 16):
        other = torch.full((1, 3, size, size), 0.25, requires_grad=True)
        latents = prior.encode(other)
        torch.testing.assert_close(latents, torch.full((1, 3, SIZE, SIZE), -0.5))
        latents.sum().backward()
        assert other.grad is not None
        assert other.grad.abs().min() > 0


def test_sets_are_independent_and_order_does_not_matter(prior):
    cameras = orbit_cameras([0, 180, 0, 180], 0, width=SIZE)
    text = prior.encode_text("", "", cameras)
    x_t = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    t = torch.tensor(0.9)
    both = prior.predict_noise(x_t, t, text, cameras, 1.0)
    torch.testing.assert_close(both[2:], prior.predict_noise(x_t[2:], t, text, cameras[2:], 1.0))


def test_errors(prior):
    text = prior.encode_text("", "", CAMERAS)
    with pytest.raises(InputError, match="a multiple of 2"):
        prior.predict_noise(torch.zeros(1, 3, SIZE, SIZE), torch.tensor(0.5), text, CAMERAS[0], 1.0)
    with pytest.raises(InputError, match="no object is labelled 'c'"):
        prior.encode_text("c", "", CAMERAS)


def test_shift_widens_the_range_of_lambda():
    t = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    base = DiscreteSchedule.scaled_linear()
    shifted = ShiftedSchedule(base, 4.0)
    torch.testing.assert_close(shifted.lambda_(t), 4 * base.lambda_(t))
    torch.testing.assert_close(shifted.alpha(t) ** 2 + shifted.sigma(t) ** 2, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(shifted.sigma(t) / shifted.alpha(t), shifted.lambda_(t))
    assert ExactPrior(ImageObjects(torch.zeros(1, 1, 8, 8, 4), [""]), image_size=8).schedule.lambda_(t)[-1] > 50
