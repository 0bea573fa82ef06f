"""The same patch for every view: the first idea for a fixed noise in 3D, and the paper's counter-example.

    ε(c) = √β · patch + √(1−β) · rand

In 2D this *is* DDIM. In 3D the patch is fixed to the screen while the object turns below it, so parts of the surface converge at
different speeds and holes open (arXiv 2405.10988, §4.2). Kept for that comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras
from fsd_gs.noise.base import NoiseState, check_fraction, mix


class ConstantNoise(NoiseState):
    """One fixed patch [C, h, w] shared by all cameras.

    Args:
        beta: share of the fixed patch, [0, 1].
        gamma: refresh a step, [0, 1].
    """

    def __init__(self, latent_shape: tuple[int, int, int], *, beta: float = 1.0, gamma: float = 0.0, seed: int = 0) -> None:
        super().__init__(latent_shape, seed)
        self.beta, self.gamma = check_fraction("beta", beta), check_fraction("gamma", gamma)
        self._buffers["patch"] = self._randn("patch", *self.latent_shape)
        for stream in ("random", "refresh"):
            self._stream(stream)

    def to(self, device: torch.device | str) -> ConstantNoise:
        super().to(device)
        return self

    def __call__(self, cameras: Cameras, alpha: Tensor | None = None, depth: Tensor | None = None) -> Tensor:
        fixed = self._buffers["patch"].expand(len(cameras), *self.latent_shape)
        if self.beta < 1:
            fixed = mix(fixed, self._randn("random", *fixed.shape), self.beta)
        return fixed.to(self.device).clone()

    def step(self) -> None:
        self._refresh(self.gamma)
