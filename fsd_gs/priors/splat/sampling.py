"""DDIM (arXiv 2010.02502, η = 0) with a splat-native prior, under classifier-free guidance: noise → one set of Gaussians.

    ε = (x_t − α_t x̂_0)/σ_t,   x_s = α_s x̂_0 + σ_s ε

x̂_0 is the guided clean estimate; the asset is what the prior draws, guided as well, at the last time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, Gaussians, TextCondition
from fsd_gs.priors.base import SplatNativePrior

FIRST, LAST = 0.999, 0.01  # times of the first and of the last prediction


@torch.no_grad()
def sample_splats(
    prior: SplatNativePrior,
    text: TextCondition,
    cameras: Cameras,
    noise: Tensor,
    *,
    steps: int = 16,
    cfg_scale: float = 3.0,
    after_step: Callable[[int], None] = lambda step: None,
) -> Gaussians:
    """An asset without optimisation.

    Args:
        prior: draws Gaussians.
        text: of ``prior.encode_text``.
        cameras: V views of one object.
        noise: [V, C, h, w], x at t = 1.
        steps: predictions, evenly in time.
        cfg_scale: 1 is no guidance.
        after_step: told of each step, from 1.

    Returns:
        The Gaussians of the last prediction, in the world's frame.
    """
    schedule = prior.schedule
    x, times = noise, torch.linspace(FIRST, LAST, steps)
    for k, t in enumerate(times[:-1]):
        clean, eps = prior.predict_clean_and_noise(x, t, text, cameras, cfg_scale)
        x = schedule.alpha(times[k + 1]) * clean + schedule.sigma(times[k + 1]) * eps
        after_step(k + 1)
    splats = prior.predict_splats(x, times[-1], text, cameras, cfg_scale)
    after_step(steps)
    return splats
