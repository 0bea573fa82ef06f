"""DDIM (arXiv 2010.02502, η = 0) with the splat-native denoiser, under classifier-free guidance: noise → one set of Gaussians.

    x̂ = x̂_∅ + s (x̂_y − x̂_∅),   ε = (x_t − α_t x̂)/σ_t,   x_s = α_s x̂ + σ_s ε

x̂_y, x̂_∅ are renders of the Gaussians that the network draws with and without the text. The asset is the last x̂_y's Gaussians.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras
from fsd_gs.priors.splat.draw import draw
from fsd_gs.priors.splat.network import SIZE, Condition, SplatDenoiser, SplatField
from fsd_gs.priors.splat.volume import Rays, stack_rays
from fsd_gs.priors.splat.words import encode_words

LAST = 0.01  # the time of the last prediction


def times(steps: int) -> list[float]:
    """t of each prediction, from 1 − 1/(2 steps)… near pure noise, down to LAST, evenly."""
    return torch.linspace(1.0 - 1e-3, LAST, steps).tolist()


@torch.no_grad()
def ddim(
    network: SplatDenoiser,
    caption: str,
    cameras: Cameras,
    background: Tensor,
    noise: Tensor,
    *,
    steps: int = 16,
    cfg_scale: float = 3.0,
    after_step: Callable[[int], None] = lambda step: None,
) -> SplatField:
    """The Gaussians (object 0 of the field) of a caption.

    Args:
        network: in evaluation mode.
        caption: in the words of the training.
        cameras: V views of SIZE pixels in which the sampling happens.
        background: [3] in [0, 1].
        noise: [V, 3, SIZE, SIZE], x at t = 1.
        steps: predictions, each of two passes.
        cfg_scale: 1 is no guidance.
        after_step: told of each step.

    Returns:
        The field of the last prediction with the text.
    """
    views = cameras.resized(SIZE, SIZE)
    rays = stack_rays([Rays.of(views)] * 2)
    words = encode_words([caption, ""], network.settings.text_rows)
    told, known = (2 * background - 1).expand(2, 3), torch.ones(2)
    x, schedule = noise, [*times(steps), 0.0]
    field = None
    for k in range(steps):
        alpha, sigma = math.cos(schedule[k] * math.pi / 2), math.sin(schedule[k] * math.pi / 2)
        log_snr = torch.full((2,), 2 * math.log(alpha / sigma))
        field = network(x.expand(2, *x.shape), rays, Condition(log_snr, words, told, known))
        clean, empty = (2 * draw(field, b, views, background)[0] - 1 for b in range(2))
        guided = (empty + cfg_scale * (clean - empty)).clamp(-1, 1)
        eps = (x - alpha * guided) / sigma
        x = math.cos(schedule[k + 1] * math.pi / 2) * guided + math.sin(schedule[k + 1] * math.pi / 2) * eps
        after_step(k + 1)
    assert field is not None
    return field
