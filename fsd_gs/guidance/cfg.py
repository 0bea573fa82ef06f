"""ε_φ after classifier-free guidance and, if asked for, CFG rescale.

    ε_cfg = ε_neg + s (ε_text − ε_neg)
    rescale of "x0"     x̂ = (x_t − σ ε_cfg)/α is brought back to std(x̂_text), then ε = (x_t − α x̂)/σ     as MVDream does, and
                        independent of what the network predicts
    rescale of "noise"  ε_cfg is brought back to std(ε_text)                                             diffusers' guidance_rescale
                        for an ε-network (arXiv 2305.08891, eq. 15–16)

both mixed with the unscaled prediction by φ ∈ [0, 1]. Standard deviations are taken over images that are denoised jointly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError
from fsd_gs.priors.base import Prior
from fsd_gs.priors.schedule import rescale_cfg


@dataclass(frozen=True)
class Cfg:
    """scale: s in the diffusers form (1 = no guidance). rescale: φ ∈ [0, 1]. rescale_of: what the standard deviation is measured on."""

    scale: float = 7.5
    rescale: float = 0.0
    rescale_of: Literal["x0", "noise"] = "x0"

    def __post_init__(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise ConfigError(f"cfg_rescale: expected a number in [0, 1], got {self.rescale}")
        if self.rescale_of not in ("x0", "noise"):
            raise ConfigError(f"rescale_of: expected 'x0' or 'noise', got '{self.rescale_of}'")


def guided_noise(prior: Prior, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras, cfg: Cfg) -> Tensor:
    """ε_φ [V, C, h, w] of noisy latents at time t [].

    Rescaling asks the prior for its text prediction once more (three passes, not two): only the prior knows how it guides (Perp-Neg,
    for one), so ε_cfg cannot be put together from halves here. Priors with a rescale of their own save that pass; use one of the two.
    """
    guided = prior.predict_noise(latents_t, t, text, cameras, cfg.scale)
    if cfg.rescale == 0 or cfg.scale == 1:
        return guided
    positive = prior.predict_noise(latents_t, t, text, cameras, 1.0)
    if cfg.rescale_of == "noise":
        return _rescale_jointly(guided, positive, cfg.rescale, prior.views)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    clean, clean_text = (latents_t - sigma * guided) / alpha, (latents_t - sigma * positive) / alpha
    return (latents_t - alpha * _rescale_jointly(clean, clean_text, cfg.rescale, prior.views)) / sigma


def _rescale_jointly(guided: Tensor, positive: Tensor, rescale: float, views: int) -> Tensor:
    """CFG rescale with one factor for each group of ``views`` images: separate factors would make the views disagree in contrast."""
    grouped = (-1, views * guided.shape[1], *guided.shape[2:])
    return rescale_cfg(guided.reshape(grouped), positive.reshape(grouped), rescale).reshape(guided.shape)


def uniform_time(t: float | Tensor, latents: Tensor) -> Tensor:
    """t as a scalar tensor of the latents' dtype and device, checked to lie in [0, 1]."""
    time = torch.as_tensor(t, dtype=latents.dtype, device=latents.device)
    if time.ndim != 0 or not 0 <= float(time) <= 1:
        raise ConfigError(f"t: expected one number in [0, 1] for the whole batch, got {t}")
    return time
