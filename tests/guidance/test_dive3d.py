"""Score-implicit matching: against a case by hand, against finite differences, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from guidance_priors import GaussianPrior, LoraGaussianPrior

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.base import Noised
from fsd_gs.guidance.dive3d import DifferentiablePrior, ScoreImplicitMatching, sim_loss

CAMERAS = orbit_cameras([0.0, 90.0], width=8)
T = torch.tensor(0.6, dtype=torch.float64)


def randn(seed, shape):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double()


def batch(prior, x):
    return Noised(prior, x, randn(2, prior.latent_shape), T, prior.encode_text("red", "dull", CAMERAS), CAMERAS)


class OracleGaussianPrior(GaussianPrior):
    """Its q network knows the one render that there is: ε_q = (x_t − α x̄)/σ, which is ε itself there."""

    render: torch.Tensor

    def add_lora(self, rank, generator):
        return [torch.nn.Parameter(torch.zeros(1).double())]

    def predict_noise_trainable(self, latents_t, t, text, cameras):
        return (latents_t - self.schedule.alpha(t) * self.render) / self.schedule.sigma(t)

    predict_noise_differentiable = GaussianPrior.predict_noise


def test_a_perfect_lora_leaves_the_direction_of_the_score():
    """ε_q = ε makes the loss 0, and only ∂(ε_q)/∂x = α/σ is left of its gradient: λ (α/σ) d/‖d‖ = d/‖d‖ with d = ε_φ − ε, view by view."""
    prior = OracleGaussianPrior(deviation=0.5)
    prior.render = randn(1, prior.latent_shape)
    b = batch(prior, prior.render.clone().requires_grad_())
    loss = sim_loss(prior, b, 7.5)
    assert loss.abs() < 1e-12
    (grad,) = torch.autograd.grad(loss, b.x)
    d = prior.predict_noise(b.x_t, T, b.text, CAMERAS, 7.5).detach() - b.epsilon
    expected = d / d.square().mean((1, 2, 3), keepdim=True).sqrt()
    assert torch.allclose(prior.schedule.lambda_(T) * grad, expected, atol=1e-12)
    assert not torch.allclose(expected[0].norm(), d[0].norm()), "a normalised direction, not the residual of SDS"


def test_loss_by_hand():
    """One view, two numbers: d = (3, 4), ε_q − ε = (1, −2): √2 ⟨(.6, .8), (1, −2)⟩ = −√2."""

    class Constant(GaussianPrior):
        def predict_noise_trainable(self, latents_t, t, text, cameras):
            return torch.tensor([1.0, -2.0]).double().view(1, 2, 1, 1)

        def predict_noise_differentiable(self, latents_t, t, text, cameras, cfg_scale):
            return torch.tensor([4.0, 2.0]).double().view(1, 2, 1, 1)

    prior = Constant((2, 1, 1))
    zero = torch.zeros(1, 2, 1, 1).double()
    b = Noised(prior, zero, zero, T, prior.encode_text("red", "", None), None)
    assert sim_loss(prior, b, 7.5).item() == pytest.approx(-(2**0.5))


def test_gradient_is_that_of_finite_differences():
    """Through both networks and both places where each stands."""
    prior = LoraGaussianPrior()
    for p in prior.add_lora(2, torch.Generator().manual_seed(3)):
        p.data.add_(0.2)  # a LoRA that has learned something: B is no longer 0
    x = randn(1, prior.latent_shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sim_loss(prior, batch(prior, x), 7.5), (x,), eps=1e-6, atol=1e-6)

    guidance = ScoreImplicitMatching(7.5)
    guidance._attach(prior, torch.Generator().manual_seed(0))  # anew: as the call below has it
    b = batch(prior, randn(1, prior.latent_shape))
    grad = guidance(prior, b.x, b.epsilon, T, b.text, CAMERAS, generator=torch.Generator().manual_seed(0))
    fresh = LoraGaussianPrior()
    fresh.add_lora(4, torch.Generator().manual_seed(0))
    leaf = b.x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(sim_loss(fresh, replace(b, prior=fresh, x=leaf), 7.5), leaf)
    assert torch.allclose(grad, prior.schedule.lambda_(T) * expected, atol=1e-12)


def test_its_lora_learns_and_is_saved():
    prior, guidance = LoraGaussianPrior(), ScoreImplicitMatching(7.5, rate=0.01)
    b, random = batch(prior, randn(1, prior.latent_shape)), torch.Generator().manual_seed(0)
    assert guidance.state_dict() == {}
    first = guidance(prior, b.x, b.epsilon, T, b.text, CAMERAS, generator=random)
    second = guidance(prior, b.x, b.epsilon, T, b.text, CAMERAS, generator=random)
    assert not torch.equal(first, second)
    assert {name.partition(".")[0] for name in guidance.state_dict()} == {"lora", "adam"}


def test_where_both_scores_are_one_there_is_no_direction():
    """No guidance and a fresh LoRA: d = 0, and rounding must not be blown up to a unit vector."""
    prior = LoraGaussianPrior()
    b = batch(prior, randn(1, prior.latent_shape))
    grad = ScoreImplicitMatching(1.0)(prior, b.x, b.epsilon, T, b.text, CAMERAS, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(grad).all()


def test_what_it_refuses():
    plain = GaussianPrior()
    b = batch(plain, randn(1, plain.latent_shape))
    with pytest.raises(ConfigError, match="'dive3d' trains a LoRA, which GaussianPrior does not offer"):
        ScoreImplicitMatching()(plain, b.x, b.epsilon, T, b.text, CAMERAS, generator=torch.Generator())
    with pytest.raises(ConfigError, match="cfg_rescale: 'dive3d' differentiates the guided prediction"):
        ScoreImplicitMatching(cfg_rescale=0.5)

    class NotDifferentiable(GaussianPrior):
        add_lora = OracleGaussianPrior.add_lora
        predict_noise_trainable = OracleGaussianPrior.predict_noise_trainable

    assert isinstance(LoraGaussianPrior(), DifferentiablePrior)
    with pytest.raises(ConfigError, match="'dive3d' differentiates the network, which NotDifferentiable does not offer; use a diffusers"):
        ScoreImplicitMatching()(NotDifferentiable(), b.x, b.epsilon, T, b.text, CAMERAS, generator=torch.Generator())
