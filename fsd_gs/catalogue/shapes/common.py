"""What the builders share: their type, random proportions, wheels, windows, faces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fsd_gs.catalogue.mesh import Array, Part, box, cylinder, ellipsoid, merge, mirrored
from fsd_gs.catalogue.palette import BLACK, RGB, RUBBER, STEEL, WHITE, Palette

Builder = Callable[[np.random.Generator, str, Palette], list[Part]]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A proportion drawn evenly from [low, high]."""
    return float(rng.uniform(low, high))


def azimuth(points: Array) -> Array:
    """[P] angle about z in (−π, π]."""
    return np.arctan2(points[:, 1], points[:, 0])


def sector(points: Array, count: int) -> Array:
    """[P] which of ``count`` equal slices about z each point lies in, from −x counter-clockwise."""
    return np.floor((azimuth(points) + np.pi) / (2 * np.pi) * count + 1e-6)


def alternate(count: int) -> Callable[[Array], npt.NDArray[np.bool_]]:
    """A mask for ``paint_where``: every second of ``count`` slices about z."""
    return lambda points: sector(points, count) % 2 == 0


def checkered(count: int, height: float) -> Callable[[Array], npt.NDArray[np.bool_]]:
    """A mask for ``paint_where``: a chequerboard of ``count`` slices about z and rows of ``height``."""
    return lambda points: (sector(points, count) + np.floor(points[:, 2] / height)) % 2 == 0


def fluted(part: Part, factor: Callable[[Array], Array]) -> Part:
    """Scale the distance from the z axis by a function of the azimuth: ribs, flutes, grooves."""
    return part.warp(lambda p: np.c_[p[:, :2] * factor(azimuth(p))[:, None], p[:, 2]])


def four_legs(width: float, depth: float, height: float, thickness: float, color: RGB, *, splay: float = 0.0, round_: bool = False) -> Part:
    """Legs from z = 0 to ``height`` at the corners of a depth (x) × width (y) rectangle; ``splay`` moves the feet outward."""
    legs = []
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (depth - thickness) / 2, sy * (width - thickness) / 2
            leg = cylinder(thickness / 2, height, color, sections=10) if round_ else box((thickness, thickness, height), color)
            leg = leg.move(0, 0, height / 2)
            sheared = leg.warp(lambda p, sx=sx, sy=sy: p + np.outer(1 - p[:, 2] / height, [sx * splay, sy * splay, 0]))
            legs.append(sheared.move(x, y))
    return merge(legs)


def wheel(radius: float, width: float, hub: RGB = STEEL) -> Part:
    """A tyre with a hub cap, axle along y, centred."""
    return merge(
        [
            cylinder(radius, width, RUBBER, "y", sections=20),
            cylinder(0.58 * radius, width * 1.12, hub, "y", sections=14),
            cylinder(0.18 * radius, width * 1.2, RUBBER, "y", sections=8),
        ]
    )


def eyes(x: float, y: float, z: float, size: float, *, iris: RGB = BLACK, white: bool = True) -> Part:
    """A pair of round eyes looking towards +x, at ±y."""
    parts = []
    if white:
        parts.append(ellipsoid((0.6 * size, size, size), WHITE, 12).move(x, y, z))
    parts.append(
        ellipsoid((0.5 * size, 0.55 * size, 0.55 * size) if white else size, iris, 10).move(x + (0.35 * size if white else 0), y, z)
    )
    return mirrored(merge(parts))
