"""SDI, score distillation via inversion (Lukoianov et al., arXiv 2405.15891, eq. 12).

    κ     = (x_t − α x)/σ with x_t the DDIM inversion of x from 0 to t along the *prompt*, in n moves, guided by ``inversion_cfg``
    grad  = w(t) [ ε_φ(α x + σ κ, t, y) − κ ]

The residual of SDS with the random noise replaced by the noise that would have led DDIM to x. The published setting inverts with a
negative scale (−7.5), since inversion has to undo what guidance did. η > 0 replaces the share η² of κ's variance by fresh noise. ``noise``
is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.base import Stateless, random_like, weight_by_name
from fsd_gs.guidance.cfg import Cfg, uniform_time
from fsd_gs.guidance.ode import ddim_path, time_grid
from fsd_gs.guidance.residual import score_residual
from fsd_gs.priors.base import Prior


@dataclass
class ScoreDistillationInversion(Stateless):
    """inversion_scale: CFG scale of the inversion. inversion_steps: n. eta: η ∈ [0, 1]."""

    cfg: Cfg
    weight: str = "lambda"
    inversion_scale: float = -7.5
    inversion_steps: int = 10
    eta: float = 0.0

    def __post_init__(self) -> None:
        weight_by_name(self.weight)
        if self.inversion_steps < 1 or not 0 <= self.eta <= 1:
            raise ConfigError(
                f"inversion_steps, eta: expected at least 1 and a number in [0, 1], got {self.inversion_steps} and {self.eta}"
            )

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
        times = time_grid(0.0, time, self.inversion_steps, x)
        x_t = ddim_path(prior, x, times, text, cameras, Cfg(scale=self.inversion_scale))
        kappa = (x_t - prior.schedule.alpha(time) * x) / prior.schedule.sigma(time)
        if self.eta > 0:
            kappa = (1 - self.eta**2) ** 0.5 * kappa + self.eta * random_like(x, generator, "sdi")
        return score_residual(prior, x, kappa, time, text, cameras, cfg=self.cfg, weight=weight_by_name(self.weight))
