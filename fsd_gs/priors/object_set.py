"""What the exact prior asks of a finite set of objects: to be looked at, and what a text says about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fsd_gs.core.types import Cameras


@dataclass(frozen=True)
class ObjectWeights:
    """The objects that a prompt or its negative brings into play: their numbers in the set, and log p(i | y) [m] for both texts.

    −inf excludes an object. Both must be normalised over ``objects``.
    """

    objects: tuple[int, ...]
    positive: Tensor
    negative: Tensor


class ObjectSet(Protocol):
    """A finite set of objects that can be looked at, and what a text says about them."""

    def weights(self, prompt: str, negative_prompt: str) -> ObjectWeights:
        """The objects of the prompt and of the negative prompt; an empty text is the unconditional weight."""
        ...

    def render(self, index: int, cameras: Cameras) -> Tensor:
        """Premultiplied RGBA [V, H, W, 4] in [0, 1] of object ``index``."""
        ...
