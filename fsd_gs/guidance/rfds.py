"""RFDS, rectified-flow distillation sampling (Yang et al., arXiv 2406.03293); VFDS in FlowDreamer (arXiv 2408.05008).

    grad = w(t) [ u_φ(x_t, t, y) − (ε − x) ],    x_t = (1 − σ) x + σ ε

SDS in the flow's own words: since ε_φ − ε = (1 − σ) [u − (ε − x)], it is ``score_residual`` with the weight w/(1 − σ); it stays finite
at t = 1, where that weight is not. With fixed noise and falling t it is FSD for flow backbones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.base import Stateless, require_flow, weight_by_name
from fsd_gs.guidance.cfg import Cfg, uniform_time
from fsd_gs.guidance.residual import finite_weight
from fsd_gs.priors.base import FlowPrior, Prior


@dataclass
class RectifiedFlowDistillation(Stateless):
    """weight: w(t); "sigma" makes the gradient what ``score_residual`` gives with "lambda"."""

    cfg: Cfg
    weight: str = "sigma"

    def __post_init__(self) -> None:
        weight_by_name(self.weight)
        refuse_rescale(self.cfg, "rfds")

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
        flow, time = require_flow(prior, "rfds"), uniform_time(t, latents)
        w = finite_weight(weight_by_name(self.weight), prior, time)
        return w * velocity_residual(flow, latents.detach(), noise.to(latents), time, text, cameras, self.cfg)


def velocity_residual(prior: FlowPrior, x: Tensor, noise: Tensor, t: Tensor, text: TextCondition, cameras: Cameras, cfg: Cfg) -> Tensor:
    """u_φ(x_t, t, y) − (ε − x) [V, C, h, w], x_t = α x + σ ε."""
    x_t = prior.schedule.alpha(t) * x + prior.schedule.sigma(t) * noise
    return prior.predict_velocity(x_t, t, text, cameras, cfg.scale) - (noise - x)


def refuse_rescale(cfg: Cfg, method: str) -> None:
    """Rescale is defined for ε-predictions; a setting that does nothing must not look as if it did."""
    if cfg.rescale > 0:
        raise ConfigError(
            f"cfg_rescale: '{method}' works on velocities and does not rescale, got {cfg.rescale}; set 0, or use method=score"
        )
