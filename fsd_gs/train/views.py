"""What is looked at in a step: cameras whose resolution grows over the run, and the background behind the splats."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fsd_gs.core.cameras import OrbitSampler
from fsd_gs.core.types import Cameras

GRAYS = {"white": 1.0, "gray": 0.5, "black": 0.0}


@dataclass(frozen=True)
class ViewSampler:
    """Cameras of step τ: the orbit sampler at the resolution of that part of the run.

    Attributes:
        sizes: image sides in pixels.
        starts: the step at which each begins (the first is 0).
    """

    orbit: OrbitSampler
    sizes: Sequence[int]
    starts: Sequence[int]

    def __call__(self, step: int, generator: torch.Generator) -> Cameras:
        return self._orbits[bisect_right(self.starts, step) - 1](generator)

    @cached_property
    def _orbits(self) -> tuple[OrbitSampler, ...]:
        return tuple(replace(self.orbit, width=size, height=size) for size in self.sizes)


@dataclass(frozen=True)
class BackgroundSampler:
    """The colour [3] behind the splats. "random" draws one a step, half of them black or white, so that the object can hide in none."""

    kind: str = "random"

    def __call__(self, generator: torch.Generator) -> Tensor:
        if self.kind != "random":
            return torch.full((3,), GRAYS[self.kind])
        colour, coin = torch.rand(3, generator=generator), torch.rand(1, generator=generator).item()
        if coin < 0.5:
            return torch.full((3,), 0.0 if coin < 0.25 else 1.0)
        return colour
