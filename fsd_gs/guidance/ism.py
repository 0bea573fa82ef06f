"""ISM, interval score matching (LucidDreamer, arXiv 2311.11284, eq. 13–17).

    x_s   = DDIM inversion of x from 0 to s = t − δ_T in moves of δ_S, without text (∅)
    x_t   = one more inversion move from s to t
    grad  = w(t) [ ε_φ(x_t, t, y) − ε_φ(x_s, s, ∅) ]

The noise is found by inverting the render itself, so it is consistent with it but carries no seed: x decides where it goes. ∅ is the
negative prompt of the text condition. ``noise`` is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.base import Stateless, weight_by_name
from fsd_gs.guidance.cfg import Cfg, guided_noise, uniform_time
from fsd_gs.guidance.ode import ddim_path, noise_and_clean
from fsd_gs.guidance.residual import finite_weight
from fsd_gs.priors.base import Prior

_EMPTY = Cfg(scale=0.0)


@dataclass
class IntervalScoreMatching(Stateless):
    """delta_t: δ_T, the interval. delta_s: δ_S, the inversion move; both in units of t (the paper's 50 and 200 of 1000)."""

    cfg: Cfg
    weight: str = "one"
    delta_t: float = 0.05
    delta_s: float = 0.2

    def __post_init__(self) -> None:
        weight_by_name(self.weight)
        if self.delta_t <= 0 or self.delta_s <= 0:
            raise ConfigError(f"delta_t, delta_s: expected numbers above 0, got {self.delta_t} and {self.delta_s}")

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
        s = (time - self.delta_t).clamp_min(0)
        x_s = ddim_path(prior, x, self._inversion_times(s), text, cameras, _EMPTY)
        epsilon_s, clean = noise_and_clean(prior, x_s, s, text, cameras, _EMPTY)
        x_t = prior.schedule.alpha(time) * clean + prior.schedule.sigma(time) * epsilon_s
        w = finite_weight(weight_by_name(self.weight), prior, time)
        return w * (guided_noise(prior, x_t, time, text, cameras, self.cfg) - epsilon_s)

    def _inversion_times(self, s: Tensor) -> Tensor:
        """0, δ_S, 2 δ_S, … up to s."""
        full = torch.arange(0.0, float(s), self.delta_s, dtype=torch.float64)
        return torch.cat([full, s.double().cpu()[None]]).to(s)
