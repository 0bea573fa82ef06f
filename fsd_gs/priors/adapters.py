"""What may be added to a family's network when it is loaded, and where such additions are published. One record a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fsd_gs.priors.lora import LoraStyle


@dataclass(frozen=True)
class Adapters:
    """A family's adapters.

    Attributes:
        lora: How its LoRA files are read.
        image: Where an IP-Adapter for it is found, by the width of the UNet's cross-attention.
        control: Where a ControlNet for it is found, by that width and what it is shown (depth, normal).
    """

    lora: LoraStyle
    image: Mapping[int, str] = field(default_factory=dict)
    control: Mapping[tuple[int, str], str] = field(default_factory=dict)
