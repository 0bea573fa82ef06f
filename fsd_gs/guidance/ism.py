"""ISM, interval score matching (LucidDreamer, arXiv 2311.11284, eq. 13–17).

    x_s   = DDIM inversion of x from 0 to s = t − δ_T in moves of δ_S, without text (∅)
    x_t   = one more inversion move from s to t
    grad  = w(t) [ ε_φ(x_t, t, y) − ε_φ(x_s, s, ∅) ]

The noise is found by inverting the render itself, so it is consistent with it but carries no seed: x decides where it goes. ∅ is the empty
prompt; the negative prompt counts in ε_φ(x_t, t, y) alone. ``noise`` is ignored. Published: w = λ, δ_T = 50 and δ_S = 200 of 1000.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fsd_gs.core.setting import setting
from fsd_gs.guidance.base import Guidance, Noised
from fsd_gs.guidance.ode import rising_times


@dataclass
class IntervalScoreMatching(Guidance):
    """Lengths are in units of t."""

    weight: str = "lambda"
    delta_t: float = setting(0.05, "δ_T, the interval between the two scores", above=0, high=1)
    delta_s: float = setting(0.2, "δ_S, one move of the inversion", above=0, high=1)

    def residual(self, b: Noised) -> Tensor:
        s = (b.t - self.delta_t).clamp_min(0)
        empty = b.with_negative("")
        x_s = empty.path(b.x, rising_times(s, self.delta_s), scale=0.0)
        epsilon_s, clean = empty.noise_and_clean(x_s, s, scale=0.0)
        x_t = b.alpha * clean + b.sigma * epsilon_s
        return b.noise_and_clean(x_t, b.t, self.scale(b.t), self.cfg_rescale)[0] - epsilon_s
