"""PFD: where the ODE ends, longhand, against the known end of a Gaussian's path, and as an extension of ``score``."""

from __future__ import annotations

import pytest
import torch
from guidance_priors import GaussianFlowPrior, GaussianPrior

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.guidance import ScoreGuidance
from fsd_gs.guidance.pfd import ProbabilityFlowDistillation

CAMERAS = orbit_cameras([0.0, 90.0], width=8)
T = 0.6


@pytest.fixture(params=[GaussianPrior, GaussianFlowPrior])
def prior(request):
    return request.param(deviation=0.5)


@pytest.fixture
def text(prior):
    return prior.encode_text("red", "dull", CAMERAS)  # means 2 and −1


@pytest.fixture
def x(prior):
    return torch.randn(2, *prior.latent_shape, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def noise(prior):
    return torch.randn(2, *prior.latent_shape, generator=torch.Generator().manual_seed(2)).double()


def coefficients(prior, t):
    time = torch.tensor(t, dtype=torch.float64)
    return prior.schedule.alpha(time), prior.schedule.sigma(time)


def move(prior, x_t, t, s, text, scale):
    """One DDIM move, by hand."""
    (alpha, sigma), (alpha_s, sigma_s) = coefficients(prior, t), coefficients(prior, s)
    seen_at = torch.tensor(max(t, 1e-3), dtype=torch.float64)
    if hasattr(prior, "predict_velocity"):
        u = prior.predict_velocity(x_t, seen_at, text, CAMERAS, scale)
        return x_t + (s - t) * u
    epsilon = prior.predict_noise(x_t, seen_at, text, CAMERAS, scale)
    return alpha_s * (x_t - sigma * epsilon) / alpha + sigma_s * epsilon


def test_three_moves_by_hand(prior, text, x, noise):
    alpha, sigma = coefficients(prior, T)
    clean, previous = alpha * x + sigma * noise, T
    for s in (0.4, 0.2, 0.0):
        clean, previous = move(prior, clean, previous, s, text, 7.5), s
    prior.calls.clear()
    grad = ProbabilityFlowDistillation(7.5, "lambda", steps=3)(prior, x, noise, T, text, CAMERAS)
    assert [round(t, 6) for t, _ in prior.calls] == [0.6, 0.4, 0.2], "one prediction a move"
    assert torch.allclose(grad, x - clean, atol=1e-10)
    by_weight = ProbabilityFlowDistillation(7.5, "one", steps=3)(prior, x, noise, T, text, CAMERAS)
    assert torch.allclose(by_weight, alpha / sigma * (x - clean), atol=1e-10)


def test_one_move_is_the_score(prior, text, x, noise):
    """(x_t − σ ε_φ)/α is one Euler step over all of the noise that is left."""
    for t in (0.02, 0.6, 0.98, 1.0):
        weight = "one" if t == 1 else "lambda"  # λ of flows is infinite there
        one = ProbabilityFlowDistillation(7.5, weight, steps=1)(prior, x, noise, t, text, CAMERAS)
        assert torch.allclose(one, ScoreGuidance(7.5, weight)(prior, x, noise, t, text, CAMERAS), atol=1e-9)


def test_it_ends_where_the_ode_of_a_gaussian_ends(prior, text, noise):
    """x_t = α m + √(α² s² + σ²) z is carried to m + s z; the coarser the solver, the farther from it: an Euler step ends at the mean."""
    x = 2.0 + torch.zeros_like(noise)
    alpha, sigma = coefficients(prior, 0.9)
    z = (sigma * noise) / (alpha**2 * 0.25 + sigma**2).sqrt()
    end = 2.0 + 0.5 * z

    def distance(steps):
        grad = ProbabilityFlowDistillation(1.0, "lambda", steps=steps)(prior, x, noise, 0.9, text, CAMERAS)
        return (x - grad - end).abs().max().item()

    assert distance(400) < 0.01
    assert distance(1) > 3 * distance(8) > 9 * distance(400)


def test_a_sample_of_the_prior_is_where_it_should_be(prior, text, noise):
    """x_t by inversion, with the same guidance there and back: the round trip along the ODE returns to x (PFD's fixed point)."""
    x = 2.0 + 0.5 * noise
    guidance = ProbabilityFlowDistillation(1.0, "lambda", steps=200, inversion_steps=200, inversion_scale=1.0)
    assert guidance(prior, x, 5 * noise, T, text, CAMERAS).abs().max() < 0.02  # and the given noise plays no part
    one_step = ProbabilityFlowDistillation(1.0, "lambda", steps=1, inversion_steps=200, inversion_scale=1.0)
    assert one_step(prior, x, noise, T, text, CAMERAS).abs().max() > 0.1, "what SDI has for a residual there"


def test_inversion_by_hand(prior, text, x, noise):
    x_t = move(prior, move(prior, x, 0.0, 0.3, text, -6.5), 0.3, 0.6, text, -6.5)
    clean = move(prior, move(prior, x_t, 0.6, 0.3, text, 7.5), 0.3, 0.0, text, 7.5)
    grad = ProbabilityFlowDistillation(7.5, "lambda", steps=2, inversion_steps=2)(prior, x, noise, T, text, CAMERAS)
    assert torch.allclose(grad, x - clean, atol=1e-9 * clean.abs().max())


def test_the_last_moment(prior, text, x, noise):
    """At t = 0 there is no path left; the residual there is that of the first time a network knows."""
    assert torch.isfinite(ProbabilityFlowDistillation(7.5, "one")(prior, x, noise, 0.0, text, CAMERAS)).all()
