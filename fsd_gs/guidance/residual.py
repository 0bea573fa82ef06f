"""THE residual. Everything called SDS, annealed SDS or FSD in this package is this one function:

    grad = w(t) · [ ε_φ(α x + σ ε, t, y) − ε ]            α, σ at time t; x the (encoded) render of camera c

                        noise ε                      time t
    SDS                 GaussianNoise, fresh         RandomUniform       DreamFusion, arXiv 2209.14988
    annealed SDS        GaussianNoise, fresh         monotone            the control for FSD
    constant noise      ConstantNoise                monotone
    FSD                 WorldMapNoise ε̃(c), fixed    monotone            arXiv 2405.10988
    CFD                 SurfaceNoise, fixed          monotone            arXiv 2501.05445

With ε fixed and t falling it is the right-hand side of the probability-flow ODE written for the clean image x̂ = (x_t − σ ε̃)/α:
dx̂ = dλ [ε_φ − ε̃] (docs/method.md). No gradient flows through ε_φ: the residual is injected as the gradient of x (``inject``).

    flow priors: ε_φ − ε = (1 − σ) [u − (ε − x)], which is how it is evaluated, since u stays finite at t = 1
"""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition, check_shape
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.cfg import Cfg, guided_noise, uniform_time
from fsd_gs.guidance.weights import Weight
from fsd_gs.priors.base import Prior


@torch.no_grad()
def score_residual(
    prior: Prior,
    latents: Tensor,
    noise: Tensor,
    t: float | Tensor,
    text: TextCondition,
    cameras: Cameras,
    *,
    cfg: Cfg,
    weight: Weight,
) -> Tensor:
    """w(t) (ε_φ(α x + σ ε, t, y) − ε) [V, C, h, w].

    latents: x [V, C, h, w]. noise: ε of the same shape. t: one number in [0, 1] for all views. V must be a multiple of ``prior.views``.
    """
    x, t = latents.detach(), uniform_time(t, latents)
    check_shape("latents", x, (len(cameras), *prior.latent_shape))
    check_shape("noise", noise, tuple(x.shape))
    epsilon = noise.to(x)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    x_t = alpha * x + sigma * epsilon
    return finite_weight(weight, prior, t) * (guided_noise(prior, x_t, t, text, cameras, cfg) - epsilon)


def finite_weight(weight: Weight, prior: Prior, t: Tensor) -> Tensor:
    """w(t), or an error where the schedule makes it infinite (λ of flow models at t = 1)."""
    w = weight(prior.schedule, t)
    if not torch.isfinite(w):
        raise ConfigError(
            f"weight: w({float(t):g}) is not finite; start the time schedule below 1, or use 'lambda_capped', 'sigma2' or 'one'"
        )
    return w
