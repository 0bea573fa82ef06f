"""Haze: pixels that are neither object nor background, away from every edge.

a_v(p) ∈ [0, 1] is alpha. Visible pixels are P = {a_v > 0.05}. Hazy ones are

    F = {0.05 < a_v < 0.95} farther than e pixels from the outlines of {a_v > ½} and of {a_v > 0.05}:

an antialiased edge is not haze, a fog is. Over all views: share |F| / |P|, mass Σ_F a_v / Σ a_v, alpha Σ_F a_v / |F| (how dense the fog
is where there is one). A fog of alpha a over an area f beside a solid silhouette of area s has share f / (f + s) and mass a f / (a f + s),
but for its seam of width e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fsd_gs.metrics.geometry.silhouettes import HALF, HIGH, LOW, outline


@dataclass(frozen=True)
class HazeReport:
    """share, mass, alpha in [0, 1], see the module; 0 where nothing is hazy."""

    share: float
    mass: float
    alpha: float


def haze_report(a: np.ndarray, edge: float = 0.03) -> HazeReport:
    """Haze of a [V, H, W]. ``edge``: e as a share of the image side; at least 2 pixels are taken."""
    from scipy.ndimage import binary_dilation, generate_binary_structure

    reach = max(2, math.ceil(edge * max(a.shape[1:])))
    structure = generate_binary_structure(2, 2)
    visible = hazy = 0
    hazy_mass = 0.0
    for image in a:
        near_outline = outline(image > HALF) | outline(image > LOW)
        fog = (image > LOW) & (image < HIGH) & np.logical_not(binary_dilation(near_outline, structure, iterations=reach))
        visible += int((image > LOW).sum())
        hazy += int(fog.sum())
        hazy_mass += float(image[fog].sum())
    mass = float(a.sum())
    return HazeReport(hazy / visible if visible else 0.0, hazy_mass / mass if mass else 0.0, hazy_mass / hazy if hazy else 0.0)


def haze_share(a: np.ndarray, edge: float = 0.03) -> float:
    """The share alone, see :func:`haze_report`."""
    return haze_report(a, edge).share
