"""Moves along the probability-flow ODE, forwards and backwards, that ISM, SDI, DSD and UCM are made of.

    DDIM move t → s     x_s = α_s x̂_0 + σ_s ε̂        (η = 0; s > t is DDIM inversion, arXiv 2010.02502)
    with                ε̂ = ε_φ(x_t, t),  x̂_0 = (x_t − σ_t ε̂)/α_t
    flow priors         ε̂ = x_t + (1 − σ) u, x̂_0 = x_t − σ u: the same move is then the Euler step x_s = x_t + (s − t) u
    clean priors        x̂_0 comes from the prior itself, so that a path can begin at α_t = 0 (zero terminal SNR)

Networks were never shown t = 0; there ε̂ is taken at the smallest time they know, ``T_FIRST`` = 1/1000, and x̂_0 is x.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.guidance.cfg import Cfg, guided_noise
from fsd_gs.priors.base import CleanPrior, FlowPrior, Prior
from fsd_gs.priors.schedule import clean_from_flow, noise_from_flow

T_FIRST = 1e-3


def noise_and_clean(prior: Prior, x_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras, cfg: Cfg) -> tuple[Tensor, Tensor]:
    """(ε̂, x̂_0), each [V, C, h, w], of noisy latents at time t []."""
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    seen_at = t.clamp_min(T_FIRST)
    if isinstance(prior, FlowPrior) and cfg.rescale == 0:
        u = prior.predict_velocity(x_t, seen_at, text, cameras, cfg.scale)
        return noise_from_flow(u, x_t, sigma), clean_from_flow(u, x_t, sigma)
    if isinstance(prior, CleanPrior) and cfg.rescale == 0 and t > T_FIRST:
        clean, epsilon = prior.predict_clean_and_noise(x_t, t, text, cameras, cfg.scale)
        return epsilon, clean
    epsilon = guided_noise(prior, x_t, seen_at, text, cameras, cfg)
    return epsilon, (x_t - sigma * epsilon) / alpha


def ddim_path(prior: Prior, x: Tensor, times: Tensor, text: TextCondition, cameras: Cameras, cfg: Cfg) -> Tensor:
    """x moved along ``times`` [n], rising (inversion) or falling (sampling): x at times[0] → x at times[-1]."""
    for t, s in itertools.pairwise(times):
        epsilon, clean = noise_and_clean(prior, x, t, text, cameras, cfg)
        x = prior.schedule.alpha(s) * clean + prior.schedule.sigma(s) * epsilon
    return x


def time_grid(start: float | Tensor, end: float | Tensor, steps: int, like: Tensor) -> Tensor:
    """steps + 1 evenly spaced times from start to end, both included, in the dtype and on the device of ``like``."""
    fractions = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return (float(start) + (float(end) - float(start)) * fractions).to(like)
