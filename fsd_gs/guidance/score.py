"""THE residual. Everything called SDS, annealed SDS or FSD in this package is this one line:

    grad = w(t) · [ ε_φ(α x + σ ε, t, y) − ε ]            α, σ at time t; x the (encoded) render of camera c

                        noise ε                      time t
    SDS                 GaussianNoise, fresh         RandomUniform       DreamFusion, arXiv 2209.14988
    annealed SDS        GaussianNoise, fresh         monotone            the control for FSD
    constant noise      ConstantNoise                monotone
    FSD                 WorldMapNoise ε̃(c), fixed    monotone            arXiv 2405.10988
    CFD                 SurfaceNoise, fixed          monotone            arXiv 2501.05445

With ε fixed and t falling it is the right-hand side of the probability-flow ODE written for the clean image x̂ = (x_t − σ ε̃)/α:
dx̂ = dλ [ε_φ − ε̃] (docs/method.md). No gradient flows through ε_φ: the residual is injected as the gradient of x (``inject``).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fsd_gs.guidance.base import Guidance, Noised


@dataclass
class ScoreGuidance(Guidance):
    """ε_φ − ε: SDS, annealed SDS, constant noise, FSD or CFD, depending on the noise and the schedule it is used with."""

    def residual(self, b: Noised) -> Tensor:
        return b.noise(self.scale(b.t), self.cfg_rescale) - b.epsilon
