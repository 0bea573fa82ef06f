"""What the network is told about a rig: the object's caption, the name of the background, or less.

a red chair with a tall back, on a white background      usually
a red chair with a tall back                             the background left open
on a white background   /   (nothing)                    the unconditional side of classifier-free guidance (arXiv 2207.12598)
"""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.backgrounds import in_front_of, nearest_background

NAMED_SHARE = 0.85  # of the examples say what is behind the object


def draw_caption(captions: tuple[str, ...], background: Tensor, drop_text: float, generator: torch.Generator) -> str:
    """One of the object's captions, in front of its background [3]. drop_text: share of examples without the object's caption."""
    choice, named, dropped = torch.rand(3, generator=generator).tolist()
    text = "" if dropped < drop_text else captions[int(choice * len(captions))]
    return in_front_of(text, nearest_background(background)) if named < NAMED_SHARE else text
