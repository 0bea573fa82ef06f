"""Moves along the probability-flow ODE, forwards and backwards, that ISM, SDI, DSD and UCM are made of.

    DDIM move t → s     x_s = α_s x̂_0 + σ_s ε̂        (η = 0; s > t is DDIM inversion, arXiv 2010.02502)
    flow priors         ε̂ = x_t + (1 − σ) u, x̂_0 = x_t − σ u: the same move is then the Euler step x_s = x_t + (s − t) u

(ε̂, x̂_0) are ``cfg.noise_and_clean``, so that a path can begin at t = 0 and at α = 0 (zero terminal SNR).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.guidance.cfg import noise_and_clean
from fsd_gs.priors.base import Prior


def ddim_path(
    prior: Prior,
    x: Tensor,
    times: Tensor,
    text: TextCondition,
    cameras: Cameras | None,
    scale: float,
    rescale: float = 0.0,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """x moved along ``times`` [n], rising (inversion) or falling (sampling): x at times[0] → x at times[-1].

    eta: η > 0 adds η times DDPM's own deviation to each rising move, (σ_t/σ_s) √(1 − (α_s/α_t)²) with t < s (Score Distillation via
    Inversion); then a generator is needed.
    """
    schedule = prior.schedule
    for t, s in itertools.pairwise(times):
        epsilon, clean = noise_and_clean(prior, x, t, text, cameras, scale, rescale)
        x = schedule.alpha(s) * clean + schedule.sigma(s) * epsilon
        if eta > 0:
            deviation = schedule.sigma(t) / schedule.sigma(s) * (1 - (schedule.alpha(s) / schedule.alpha(t)) ** 2).clamp_min(0).sqrt()
            x = x + eta * deviation * torch.randn(x.shape, generator=generator).to(x)
    return x


def time_grid(start: float | Tensor, end: float | Tensor, steps: int, like: Tensor) -> Tensor:
    """steps + 1 evenly spaced times from start to end, both included, in the dtype and on the device of ``like``."""
    fractions = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return (float(start) + (float(end) - float(start)) * fractions).to(like)


def rising_times(end: Tensor, move: float, *, below: Tensor | None = None) -> Tensor:
    """0, move, 2 move, … as far as they lie below ``below`` (``end`` itself, if not given), then ``end``."""
    times = torch.arange(0.0, float(end if below is None else below), move, dtype=torch.float64)
    return torch.cat([times, end.double().cpu()[None]]).to(end)
