"""Names of background colours, for priors whose training captions say what is behind the object.

A renderer knows its background for certain; a prior that has to guess it takes a haze of splats for a backdrop and keeps it. These are
walls, not the paints of objects (``catalogue.palette.COLORS``): the shipped weights were trained in front of exactly these, and a red chair
in front of a red wall should still be seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "black": (0.0, 0.0, 0.0),
    "gray": (0.5, 0.5, 0.5),
    "white": (1.0, 1.0, 1.0),
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.15),
    "yellow": (0.85, 0.85, 0.2),
    "green": (0.2, 0.75, 0.25),
    "turquoise": (0.2, 0.75, 0.75),
    "blue": (0.15, 0.25, 0.85),
    "purple": (0.5, 0.2, 0.75),
    "pink": (0.9, 0.4, 0.75),
    "brown": (0.4, 0.25, 0.15),
}


def nearest_background(color: Tensor) -> str:
    """The name of the nearest background of an sRGB colour [3] in [0, 1], by Euclidean distance."""
    named = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float64)
    return list(BACKGROUNDS)[int((named - color.detach().double().cpu()).pow(2).sum(1).argmin())]


def composite(rgba: Tensor, background: Tensor) -> Tensor:
    """Pictures in front of a background.

    Args:
        rgba: [B, 4, H, W], colours premultiplied by alpha.
        background: What broadcasts to [B, 3, H, W].

    Returns:
        [B, 3, H, W].
    """
    return rgba[:, :3] + (1 - rgba[:, 3:]) * background


def in_front_of(prompt: str, name: str) -> str:
    """The prompt with its background named: "a red chair, on a white background"."""
    phrase = f"on {'an' if name[0] in 'aeiou' else 'a'} {name} background"
    return f"{prompt}, {phrase}" if prompt else phrase
