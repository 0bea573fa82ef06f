"""Named colours and materials of the catalogue: what "a red chair" means in sRGB, and what goes well with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RGB = tuple[float, float, float]

COLORS: dict[str, RGB] = {
    "red": (0.86, 0.15, 0.14),
    "orange": (0.97, 0.52, 0.10),
    "yellow": (0.98, 0.83, 0.18),
    "green": (0.24, 0.66, 0.28),
    "turquoise": (0.14, 0.72, 0.70),
    "blue": (0.16, 0.40, 0.86),
    "purple": (0.52, 0.26, 0.74),
    "pink": (0.97, 0.50, 0.69),
    "brown": (0.52, 0.32, 0.18),
    "white": (0.95, 0.94, 0.92),
    "black": (0.15, 0.15, 0.17),
    "gray": (0.57, 0.59, 0.62),
    "gold": (0.88, 0.66, 0.20),
}
PAINTS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "white", "black")
BRIGHT = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "white")

WOOD: RGB = (0.71, 0.49, 0.29)
DARK_WOOD: RGB = (0.42, 0.26, 0.16)
PALE_WOOD: RGB = (0.86, 0.70, 0.48)
STEEL: RGB = (0.70, 0.73, 0.77)
IRON: RGB = (0.33, 0.35, 0.39)
GOLD: RGB = COLORS["gold"]
BRASS: RGB = (0.83, 0.68, 0.34)
CREAM: RGB = (0.97, 0.92, 0.80)
WHITE: RGB = COLORS["white"]
BLACK: RGB = COLORS["black"]
RUBBER: RGB = (0.18, 0.18, 0.20)
GLASS: RGB = (0.55, 0.78, 0.92)
STONE: RGB = (0.68, 0.66, 0.62)
BRICK: RGB = (0.72, 0.36, 0.28)
LEAF: RGB = (0.28, 0.62, 0.25)
DARK_LEAF: RGB = (0.16, 0.45, 0.22)
SOIL: RGB = (0.36, 0.24, 0.16)
TERRACOTTA: RGB = (0.80, 0.45, 0.28)
GLOW: RGB = (1.35, 1.22, 0.80)  # above 1: shines, so shading hardly darkens it (clipped when baked)
CARROT: RGB = (0.97, 0.50, 0.12)
RED: RGB = COLORS["red"]
YELLOW: RGB = COLORS["yellow"]

ACCENTS: dict[str, tuple[RGB, ...]] = {
    "red": (CREAM, YELLOW, (0.20, 0.26, 0.42)),
    "orange": (CREAM, (0.16, 0.44, 0.52), (0.36, 0.20, 0.14)),
    "yellow": ((0.22, 0.34, 0.56), CREAM, (0.86, 0.34, 0.20)),
    "green": (CREAM, YELLOW, (0.52, 0.30, 0.16)),
    "turquoise": (CREAM, (0.96, 0.52, 0.38), (0.98, 0.84, 0.34)),
    "blue": (WHITE, YELLOW, (0.96, 0.52, 0.22)),
    "purple": (YELLOW, (0.98, 0.80, 0.88), CREAM),
    "pink": (WHITE, (0.52, 0.24, 0.48), (0.45, 0.80, 0.76)),
    "brown": (CREAM, (0.90, 0.66, 0.30), (0.45, 0.66, 0.60)),
    "white": ((0.20, 0.44, 0.78), (0.86, 0.24, 0.22), (0.30, 0.62, 0.42)),
    "black": (GOLD, (0.86, 0.20, 0.18), WHITE),
    "gray": ((0.95, 0.74, 0.22), (0.24, 0.48, 0.76), (0.86, 0.28, 0.22)),
    "gold": ((0.72, 0.12, 0.20), (0.20, 0.28, 0.60), CREAM),
}


@dataclass(frozen=True)
class Palette:
    """The colours of one object.

    Attributes:
        name: the main colour's name.
        main: its sRGB (a touch varied).
        accent: a companion.
        light, dark: the main colour mixed towards white and black.
    """

    name: str
    main: RGB
    accent: RGB
    light: RGB
    dark: RGB


def mix(a: RGB, b: RGB, amount: float) -> RGB:
    """``amount`` of the way from a to b, in sRGB."""
    return (a[0] + (b[0] - a[0]) * amount, a[1] + (b[1] - a[1]) * amount, a[2] + (b[2] - a[2]) * amount)


def make_palette(name: str, rng: np.random.Generator) -> Palette:
    """The palette of a colour name: the main colour varied by up to 0.03 a channel (grays stay gray), one of its companions."""
    shift = rng.uniform(-0.03, 0.03, 3)
    if name in ("white", "black", "gray"):
        shift = shift[:1]
    red, green, blue = (float(c) for c in np.clip(np.array(COLORS[name]) + shift, 0.0, 1.0))
    main = (red, green, blue)
    accent = ACCENTS[name][int(rng.integers(len(ACCENTS[name])))]
    return Palette(name, main, accent, mix(main, (1.0, 1.0, 1.0), 0.4), mix(main, (0.0, 0.0, 0.0), 0.3))
