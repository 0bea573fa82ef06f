"""NFSD, noise-free score distillation (Katzir et al., arXiv 2310.17590, eq. 9–11).

    ε_φ − ε is split into a domain part, a condition part and the network's own denoising error; the last is thrown away:
    δ_C   = ε_φ(x_t, y) − ε_φ(x_t, ∅)
    δ_D   = ε_φ(x_t, ∅)                       for t < 0.2
            ε_φ(x_t, ∅) − ε_φ(x_t, p_neg)     above
    grad  = w(t) [ δ_D + s δ_C ]

No −ε appears, so s stays moderate (7.5). ∅ is the empty prompt, p_neg words for bad pictures. Noise only makes x_t here; fixing it (FSD's
noise) is possible and harmless.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.guidance.base import Stateless, weight_by_name
from fsd_gs.guidance.cfg import uniform_time
from fsd_gs.guidance.residual import finite_weight
from fsd_gs.priors.base import Prior, tell_background

BAD_PICTURE = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"


@dataclass
class NoiseFreeScoreDistillation(Stateless):
    """scale: s. t_clean: below it the domain part is ε_φ(x_t, ∅) itself. bad_picture: p_neg."""

    scale: float = 7.5
    weight: str = "sigma2"
    t_clean: float = 0.2
    bad_picture: str = BAD_PICTURE

    def __post_init__(self) -> None:
        weight_by_name(self.weight)

    @torch.no_grad()
    def __call__(
        self,
        prior: Prior,
        latents: Tensor,
        noise: Tensor,
        t: float | Tensor,
        text: TextCondition,
        cameras: Cameras,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        x, time = latents.detach(), uniform_time(t, latents)
        x_t = prior.schedule.alpha(time) * x + prior.schedule.sigma(time) * noise.to(x)
        plain = _with_negative(prior, text, "", cameras)
        prompted = prior.predict_noise(x_t, time, plain, cameras, 1.0)
        empty = prior.predict_noise(x_t, time, plain, cameras, 0.0)
        domain = empty
        if float(time) >= self.t_clean:
            # As a *negative* prompt: view words are not added to it, and priors without such words fall back to ∅.
            bad = _with_negative(prior, text, self.bad_picture, cameras)
            domain = empty - prior.predict_noise(x_t, time, bad, cameras, 0.0)
        return finite_weight(weight_by_name(self.weight), prior, time) * (domain + self.scale * (prompted - empty))


def _with_negative(prior: Prior, text: TextCondition, negative_prompt: str, cameras: Cameras) -> TextCondition:
    """``text`` with another negative prompt, in front of the same background."""
    return tell_background(prior, prior.encode_text(text.prompt, negative_prompt, cameras), text.background)
