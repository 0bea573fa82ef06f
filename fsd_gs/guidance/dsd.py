"""DSD, diverse score distillation (Xu et al., arXiv 2412.06780).

    s     = t + δ,  δ ~ U(0, ρ (t − t_min))                       a little earlier on the path (noisier) than t
    x*_s  = DDIM from the seed's noise ε̃ at t = 1 down to s       the 2D sample this seed would give, so far
    ε*    = ε_φ(x*_s, s, y)
    grad  = w(t) [ ε_φ(α_t x + σ_t ε*, t, y) − ε_φ(α_s x + σ_s ε*, s, y; s_target) ]

Like FSD each seed follows its own ODE path, but the path is simulated from scratch at every step instead of being carried by x;
``noise`` is the seed's ε̃(c) (any NoiseFunction). It costs up to ``steps`` more predictions a step. The authors write CFG as
ε_text + s (ε_text − ε_∅), so their scales 7.5 and 1 are 8.5 and 2 here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.setting import setting
from fsd_gs.guidance.base import Guidance, Noised


@dataclass
class DiverseScoreDistillation(Guidance):
    """DSD: the residual along each seed's own DDIM path; the formula is the module's."""

    weight: str = "sigma2"
    steps: int = setting(10, "DDIM moves for the whole way from 1 to 0 (fewer are taken down to s)", low=1, high=1000)
    interval: float = setting(0.1, "ρ: how far s may lie above t", low=0, high=1)
    t_min: float = setting(0.32, "time at which δ vanishes: the end of the schedule", low=0, high=1)
    target_scale: float = setting(2.0, "CFG scale of the score at s")

    def residual(self, b: Noised) -> Tensor:
        s, scale = self._earlier(b), self.scale(b.t)
        x_s = b.path(b.epsilon, self._sampling_times(s), scale, self.cfg_rescale)
        epsilon, _ = b.noise_and_clean(x_s, s, scale, self.cfg_rescale)
        at_t = b.at(b.t, epsilon).noise(scale, self.cfg_rescale)
        return at_t - b.at(s, epsilon).noise(self.target_scale)

    def _earlier(self, b: Noised) -> Tensor:
        """s = t + δ ≤ 1."""
        if self.interval == 0:
            return b.t
        return (b.t + self.interval * max(float(b.t) - self.t_min, 0.0) * b.rand()).clamp_max(1.0)

    def _sampling_times(self, s: Tensor) -> Tensor:
        """1, 1 − 1/n, … down to s."""
        grid = torch.linspace(1.0, 0.0, self.steps + 1, dtype=torch.float64)
        return torch.cat([grid[grid > float(s)], s.double().cpu()[None]]).to(s)
