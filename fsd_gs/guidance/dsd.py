"""DSD, diverse score distillation (Xu et al., arXiv 2412.06780).

    s     = t + δ,  δ ~ U(0, ρ (t − t_min))                       a little earlier on the path (noisier) than t
    x*_s  = DDIM from the seed's noise ε̃ at t = 1 down to s       the 2D sample this seed would give, so far
    ε*    = ε_φ(x*_s, s, y)
    grad  = w(t) [ ε_φ(α_t x + σ_t ε*, t, y) − ε_φ(α_s x + σ_s ε*, s, y; no CFG) ]

Like FSD each seed follows its own ODE path, but the path is simulated from scratch at every step instead of being carried by x;
``noise`` is the seed's ε̃(c) (any NoiseFunction). It costs up to ``ode_steps`` more predictions a step.
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

_NO_CFG = Cfg(scale=1.0)


@dataclass
class DiverseScoreDistillation(Stateless):
    """ode_steps: DDIM moves for the whole way from 1 to 0 (fewer are taken down to s). interval: ρ. t_min: where δ vanishes."""

    cfg: Cfg
    weight: str = "sigma2"
    ode_steps: int = 10
    interval: float = 0.1
    t_min: float = 0.02

    def __post_init__(self) -> None:
        weight_by_name(self.weight)
        if self.ode_steps < 1 or self.interval < 0:
            raise ConfigError(f"ode_steps, interval: expected at least 1 and at least 0, got {self.ode_steps} and {self.interval}")

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
        x, time, schedule = latents.detach(), uniform_time(t, latents), prior.schedule
        s = self._earlier(time, generator)
        x_s = ddim_path(prior, noise.to(x), self._sampling_times(s), text, cameras, self.cfg)
        epsilon, _ = noise_and_clean(prior, x_s, s, text, cameras, self.cfg)
        at_t = guided_noise(prior, schedule.alpha(time) * x + schedule.sigma(time) * epsilon, time, text, cameras, self.cfg)
        at_s = guided_noise(prior, schedule.alpha(s) * x + schedule.sigma(s) * epsilon, s, text, cameras, _NO_CFG)
        return finite_weight(weight_by_name(self.weight), prior, time) * (at_t - at_s)

    def _earlier(self, t: Tensor, generator: torch.Generator | None) -> Tensor:
        """s = t + δ ≤ 1."""
        if self.interval == 0:
            return t
        if generator is None:
            raise ConfigError("generator: 'dsd' draws its interval δ; pass an explicit torch.Generator, or set interval=0")
        delta = self.interval * max(float(t) - self.t_min, 0.0) * torch.rand((), generator=generator, dtype=torch.float64).item()
        return (t + delta).clamp_max(1.0)

    def _sampling_times(self, s: Tensor) -> Tensor:
        """1, 1 − 1/n, … down to s."""
        grid = torch.linspace(1.0, 0.0, self.ode_steps + 1, dtype=torch.float64)
        return torch.cat([grid[grid > float(s)], s.double().cpu()[None]]).to(s)
