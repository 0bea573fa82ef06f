"""UCM, unique couple matching (FlowDreamer, arXiv 2408.05008).

    ε*    = Euler integration of dx = u dσ from x at σ = 0 to σ = 1, along the prompt without CFG, in n moves
    grad  = w(t) [ u_φ(x_t, t, y) − (ε* − x) ],    x_t = (1 − σ) x + σ ε*

RFDS with the random noise replaced by the one noise that the flow couples with x: what SDI is to SDS. ``noise`` is used only while ``t`` is
above ``t_random``, where a render is still too unformed to be inverted (the authors do so for the first steps of a run).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fsd_gs.core.setting import setting
from fsd_gs.guidance.base import FlowGuidance, Noised
from fsd_gs.guidance.ode import time_grid


@dataclass
class UniqueCoupleMatching(FlowGuidance):
    """UCM for flow priors: noise by inversion; the formula is the module's."""

    weight: str = "one"
    steps: int = setting(8, "n: moves of the integration", low=1, high=1000)
    inversion_scale: float = setting(1.0, "CFG scale of the integration")
    t_random: float = setting(1.0, "above this time the noise function's own noise is used", low=0, high=1)

    def velocity_residual(self, b: Noised) -> Tensor:
        if float(b.t) <= self.t_random:
            b = b.at(b.t, b.path(b.x, time_grid(0.0, 1.0, self.steps, b.x), self.inversion_scale))
        return b.velocity_residual(self.scale(b.t))
