"""Dive3D's score-implicit matching, SIM (arXiv 2506.13594): VSD's two scores, but what is minimised is not a KL divergence.

    d_v   = ε_φ(x_t, t, y; CFG) − ε_lora(x_t, t, y, c)                  of view v
    L     = λ(t) Σ_v ⟨ d_v/‖d_v‖, ε_lora(x_t, t, y, c) − ε ⟩,    λ = σ/α,  ‖·‖ the root mean square over channels and cells of one view
    grad  = ∂L/∂x through all of it: x_t = α x + σ ε, and *both networks*          and one step of the LoRA (``render_score``)

KL's gradient grows with the distance of the scores and pulls every render to the nearest mode; that of a norm of d does not, which is
where the diversity is said to come from. λ is the weight w(t), so that other weights can be had. The authors divide by the root of the sum
and add up over cells; here gradients are averaged over cells (``inject``), where a direction of length 1 would be nothing against the
regularisers, and the root of the mean makes it as long as other residuals are. Both predictions are differentiated, at the memory of a
network in training. Of Dive3D this is the distillation; its reward (PickScore) is not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.base import Noised, name_of, refuse_rescale
from fsd_gs.guidance.render_score import RenderScoreGuidance, TrainablePrior
from fsd_gs.priors.base import Prior


@runtime_checkable
class DifferentiablePrior(TrainablePrior, Protocol):
    """A prior whose frozen prediction can be differentiated in the latents."""

    def predict_noise_differentiable(
        self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float
    ) -> Tensor:
        """``predict_noise`` with its graph in ``latents_t``."""
        ...


@dataclass
class ScoreImplicitMatching(RenderScoreGuidance):
    """SIM: the norm of the difference of two scores, differentiated through both; the formula is the module's."""

    weight: str = "lambda"

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_rescale(self, "differentiates the guided prediction", "prior.cfg_rescale")

    def residual(self, b: Noised) -> Tensor:
        prior = self._differentiable(b.prior, b.random())
        with torch.enable_grad():
            x = b.x.clone().requires_grad_()
            (grad,) = torch.autograd.grad(sim_loss(prior, replace(b, x=x), self.scale(b.t)), x)
        self._train(prior, b)
        return grad

    def _differentiable(self, prior: Prior, generator: torch.Generator) -> DifferentiablePrior:
        trainable = self._attach(prior, generator)
        if not isinstance(trainable, DifferentiablePrior):
            raise ConfigError(
                f"guidance.method: '{name_of(self)}' differentiates the network, which {type(prior).__name__} does not offer; "
                "use a diffusers backbone (sd15, sdxl, …), or another method"
            )
        return trainable


def sim_loss(prior: DifferentiablePrior, b: Noised, cfg_scale: float) -> Tensor:
    """Σ_v ⟨ d_v/‖d_v‖, ε_lora − ε ⟩ [], L without its λ; differentiable in ``b.x``."""
    x_t = b.x_t
    of_renders = prior.predict_noise_trainable(x_t, b.t, b.text, b.cameras)
    d = prior.predict_noise_differentiable(x_t, b.t, b.text, b.cameras, cfg_scale) - of_renders
    # 1e-6: where a fresh LoRA and no CFG make d zero there is no direction, and rounding must not become one.
    direction = functional.normalize(d.flatten(1), dim=1, eps=1e-6) * math.sqrt(d[0].numel())
    return (direction * (of_renders - b.epsilon).flatten(1)).sum()
