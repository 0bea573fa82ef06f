"""RFDS, rectified-flow distillation sampling (Yang et al., arXiv 2406.03293); VFDS in FlowDreamer (arXiv 2408.05008).

    grad = w(t) r [ u_φ(x_t, t, y) − (ε − x) ],    x_t = (1 − σ) x + σ ε

SDS in the flow's own words: since ε_φ − ε = (1 − σ) [u − (ε − x)], it is ``score`` with the weight w/(1 − σ); it stays finite at t = 1,
where that weight is not. With fixed noise and falling t it is FSD for flow backbones. The authors take w = 1 and draw r = sigmoid(z),
z ~ N(0, 1), anew in every step, whatever t is; r = 1 without ``random_weight``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.setting import setting
from fsd_gs.guidance.base import FlowGuidance, Noised


@dataclass
class RectifiedFlowDistillation(FlowGuidance):
    """RFDS: the residual of a flow's velocity; the formula is the module's.

    Attributes:
        weight: "sigma" makes the gradient what ``score`` gives with "lambda".
    """

    weight: str = "one"
    random_weight: bool = setting(False, "multiply by sigmoid(z), z ~ N(0, 1), as the authors' code does")

    def velocity_residual(self, b: Noised) -> Tensor:
        residual = b.velocity_residual(self.scale(b.t))
        return residual * torch.randn((), generator=b.random()).sigmoid().to(residual) if self.random_weight else residual
