"""Fresh white noise for every view and every step: with random t this is SDS (DreamFusion, arXiv 2209.14988), with t falling
monotonically it is annealed SDS, the control that every claim about FSD needs."""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras
from fsd_gs.noise.base import NoiseState


class GaussianNoise(NoiseState):
    """ε ~ N(0, 1), independent in every call.

    Args:
        latent_shape: (C, h, w).
        seed: any integer; the same seed gives the same sequence of calls.
    """

    def __init__(self, latent_shape: tuple[int, int, int], *, seed: int = 0) -> None:
        super().__init__(latent_shape, seed)
        self._stream("random")

    def to(self, device: torch.device | str) -> GaussianNoise:
        super().to(device)
        return self

    def __call__(self, cameras: Cameras, alpha: Tensor | None = None, depth: Tensor | None = None) -> Tensor:
        return self._randn("random", len(cameras), *self.latent_shape).to(self.device)
