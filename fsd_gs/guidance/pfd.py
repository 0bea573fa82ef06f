"""PFD, probability-flow distillation (arXiv 2605.09071): the target is where the ODE ends, not its first Euler step.

    x_t   = α x + σ ε(c)                                  the noise function's ε, or
            DDIM inversion of x along the prompt, 0 → t in n' moves guided by ``inversion_scale``
    x̂_0   = DDIM from x_t at t down to 0 in n moves, CFG s; one prediction a move
    grad  = w(t) (α/σ) (x − x̂_0)

(x_t − σ ε_φ)/α, which SDS and SDI compare x with, is one Euler step over all of the noise that is left: with n = 1 the gradient is that of
``score`` to the last digit. With w = σ/α it is x − x̂_0.

From the paper, as far as could be read (its abstract and public summaries; there is no code): the residual x − x̂_0 without a gradient
through the solver; x_t by inversion of the render, along a *negative* CFG scale because that pass must follow the renders' own distribution
(−6.5, which is 1 − s for s = 7.5); a reverse solve of the ODE. Ours: plain DDIM in evenly spaced times where the authors take DPM++, the
numbers of moves, and ``inversion_steps`` = 0: x_t from the fixed noise of FSD, which keeps the seed in the target. An inverted x_t carries
none.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fsd_gs.core.setting import setting
from fsd_gs.guidance.base import Guidance, Noised
from fsd_gs.guidance.cfg import T_FIRST
from fsd_gs.guidance.ode import time_grid


@dataclass
class ProbabilityFlowDistillation(Guidance):
    """PFD: the distance to the end of the render's own path; the formula is the module's."""

    weight: str = "lambda"
    steps: int = setting(4, "n: DDIM moves from t down to 0", low=1, high=1000)
    inversion_steps: int = setting(
        0, "n': moves of the DDIM inversion that finds x_t; 0 makes it with the noise function's ε", low=0, high=1000
    )
    inversion_scale: float = setting(-6.5, "CFG scale of the inversion, in the form ε_neg + s (ε_text − ε_neg)")

    def residual(self, b: Noised) -> Tensor:
        b = b.at(b.t.clamp_min(T_FIRST), b.epsilon)  # at 0 there is no path, and α/σ is infinite
        *_, last, _ = times = time_grid(b.t, 0.0, self.steps, b.x)
        scale = self.scale(b.t)
        x_last = b.path(self._noisy(b), times[:-1], scale, self.cfg_rescale)
        _, clean = b.noise_and_clean(x_last, last, scale, self.cfg_rescale)  # the last move: α = 1 and σ = 0 at its end
        return b.alpha / b.sigma * (b.x - clean)

    def _noisy(self, b: Noised) -> Tensor:
        """x_t [V, C, h, w]."""
        if self.inversion_steps == 0:
            return b.x_t
        return b.path(b.x, time_grid(0.0, b.t, self.inversion_steps, b.x), self.inversion_scale)
