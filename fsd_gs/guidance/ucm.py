"""UCM, unique couple matching (FlowDreamer, arXiv 2408.05008).

    ε*    = Euler integration of dx = u dσ from x at σ = 0 to σ = 1, along the prompt without CFG, in n moves
    grad  = w(t) [ u_φ(x_t, t, y) − (ε* − x) ],    x_t = (1 − σ) x + σ ε*

RFDS with the random noise replaced by the one noise that the flow couples with x: what SDI is to SDS. ``noise`` is used only while ``t`` is
above ``t_random``, where a render is still too unformed to be inverted (the authors do so for the first steps of a run).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.base import Stateless, require_flow, weight_by_name
from fsd_gs.guidance.cfg import Cfg, uniform_time
from fsd_gs.guidance.ode import ddim_path, time_grid
from fsd_gs.guidance.residual import finite_weight
from fsd_gs.guidance.rfds import refuse_rescale, velocity_residual
from fsd_gs.priors.base import Prior


@dataclass
class UniqueCoupleMatching(Stateless):
    """inversion_steps: n. inversion_scale: CFG scale of the inversion. t_random: above it the given noise is used."""

    cfg: Cfg
    weight: str = "one"
    inversion_steps: int = 8
    inversion_scale: float = 1.0
    t_random: float = 1.0

    def __post_init__(self) -> None:
        weight_by_name(self.weight)
        refuse_rescale(self.cfg, "ucm")
        if self.inversion_steps < 1:
            raise ConfigError(f"inversion_steps: expected at least 1, got {self.inversion_steps}")

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
        flow, time, x = require_flow(prior, "ucm"), uniform_time(t, latents), latents.detach()
        couple = noise.to(x)
        if float(time) <= self.t_random:
            couple = ddim_path(flow, x, time_grid(0.0, 1.0, self.inversion_steps, x), text, cameras, Cfg(scale=self.inversion_scale))
        w = finite_weight(weight_by_name(self.weight), prior, time)
        return w * velocity_residual(flow, x, couple, time, text, cameras, self.cfg)
