"""The judge's network: a small residual CNN (He et al. 2015, arXiv 1512.03385) with three linear heads.

x [B, 3, 64, 64] → pixel-unshuffle (2×2 pixels become channels, which keeps them all at a quarter of the cost) → residual stages, each
halving the grid → mean over the grid: features f [B, F] → category, colour and design logits W f + b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fsd_gs.errors import InputError


@dataclass(frozen=True)
class JudgeSizes:
    """Sizes of the judge's network.

    Attributes:
        channels, blocks: one entry a stage; the last channel count is the number F of features. The rest count the classes.
    """

    channels: tuple[int, ...] = (24, 48, 96, 160)
    blocks: tuple[int, ...] = (1, 1, 2, 1)
    categories: int = 53
    colors: int = 13
    designs: int = 171

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.blocks):
            raise InputError(f"channels, blocks: expected one entry a stage in both, got {self.channels} and {self.blocks}")
        if min(*self.channels, *self.blocks, self.categories, self.colors, self.designs) < 1:
            raise InputError(f"judge sizes: expected at least 1 everywhere, got {self}")

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> JudgeSizes:
        """Sizes written by ``dataclasses.asdict`` through JSON; KeyError or TypeError if they are not."""
        counts = {name: int(stored[name]) for name in ("categories", "colors", "designs")}
        return cls(tuple(stored["channels"]), tuple(stored["blocks"]), **counts)


def _conv_norm(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """relu(skip(x) + conv(relu(conv(x)))); ``stride`` 2 halves the grid, the skip by averaging."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _conv_norm(inputs, outputs, stride), _conv_norm(outputs, outputs)
        pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.skip = nn.Identity() if inputs == outputs and stride == 1 else nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.skip(x) + self.second(torch.relu(self.first(x))))


class JudgeNetwork(nn.Module):
    """Normalised images [B, 3, S, S] → (category, colour, design) logits and features [B, F]."""

    def __init__(self, sizes: JudgeSizes) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), _conv_norm(12, sizes.channels[0]), nn.ReLU())
        stages: list[nn.Module] = []
        inputs = sizes.channels[0]
        for stage, (channels, blocks) in enumerate(zip(sizes.channels, sizes.blocks, strict=True)):
            for block in range(blocks):
                stages.append(ResidualBlock(inputs, channels, stride=2 if stage and not block else 1))
                inputs = channels
        self.stages = nn.Sequential(*stages)
        self.category = nn.Linear(inputs, sizes.categories)
        self.color = nn.Linear(inputs, sizes.colors)
        self.design = nn.Linear(inputs, sizes.designs)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = self.stages(self.stem(images)).mean(dim=(2, 3))
        return self.category(features), self.color(features), self.design(features), features
