"""Holes: rays through the object's hull that meet nothing at all.

Letters: a_v(p) ∈ [0, 1] alpha of view v at pixel p; S_v = {a_v > ½} its silhouette; B_v is S_v with its enclosed gaps filled.

holes      Σ_v Σ_{p ∈ leaks of v} (1 − a_v(p)) / Σ_v |B_v|. A gap is a connected region outside S_v that S_v encloses. Whether it
           is a design (the hole of a torus, the handle of a mug) or a leak (a crack one sees through) is decided by the visual hull of
           the views off the axis of v (``rays``). Where at least a quarter of a gap's rays miss it, other views look through the gap
           too: it is wide compared with its depth (about tan δ) and counts as design. A leak's rays pass through the hull. Without
           cameras, gaps smaller than 1 % of B_v count, whatever they are.
pinholes   the same sum over gaps smaller than 0.1 % of B_v (or 2 pixels), leaks or not: speckle.

Alphas see a hole only where a ray meets nothing: an opening in the front surface before an intact back surface is a *tear* (``tears``).
``holes`` is meant for the holes of constant noise that arXiv:2405.10988 reports.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fsd_gs.core.types import Cameras
from fsd_gs.metrics.geometry.rays import covered, rays_of, views_off_axis
from fsd_gs.metrics.geometry.settings import GeometrySettings
from fsd_gs.metrics.geometry.silhouettes import HALF, filled, pixels_of_regions, regions

MAX_RAYS = 400  # of one gap: enough for a share; a large gap need not be sampled at every pixel


@dataclass(frozen=True)
class GapReport:
    """What the silhouettes leave open.

    Attributes:
        holes, pinholes: shares in [0, 1].
        gaps, leaks: regions enclosed by a silhouette, and those among them that are leaks, over all views.
        mask: the pixels of the leaks [V, H, W].
    """

    holes: float
    pinholes: float
    gaps: int
    leaks: int
    mask: np.ndarray


def gap_report(a: np.ndarray, cameras: Cameras | None, settings: GeometrySettings) -> GapReport:
    """Finds the gaps of every view of a [V, H, W] and decides which of them are leaks."""
    silhouettes = a > HALF
    bounding, mask = filled(silhouettes), np.zeros(a.shape, dtype=bool)
    gaps = leaks = 0
    hole_mass = pinhole_mass = 0.0
    for v, image in enumerate(a):
        labels, count = regions(bounding[v] & ~silhouettes[v])
        size = int(bounding[v].sum())
        gaps += count
        for rows, columns in pixels_of_regions(labels, count):
            mass = float((1 - image[rows, columns]).sum())
            if len(rows) <= max(2, 0.001 * size):
                pinhole_mass += mass
            if cameras is None:
                leak = len(rows) < 0.01 * size
            else:
                leak = share_of_rays_that_miss(silhouettes, cameras, v, rows, columns, settings) < settings.design_share
            leaks += leak
            mask[v, rows, columns] = leak
            hole_mass += mass * leak
    area = int(bounding.sum())
    return GapReport(hole_mass / area if area else 0.0, pinhole_mass / area if area else 0.0, gaps, leaks, mask)


def share_of_rays_that_miss(
    silhouettes: np.ndarray, cameras: Cameras, view: int, rows: np.ndarray, columns: np.ndarray, settings: GeometrySettings
) -> float:
    """Share of the rays of ``view`` through the pixels (rows, columns) that miss the visual hull of the views off its axis.

    silhouettes [V, H, W]. Where there are no such views, every ray hits (nothing confirms the gap).
    """
    others = views_off_axis(cameras, view, settings.hull_angle_deg)
    if not others:
        return 0.0
    stride = max(1, len(rows) // MAX_RAYS)
    points = _points_in_ball(cameras, view, rows[::stride], columns[::stride], settings)  # [R, S, 3]
    inside = np.linalg.norm(points, axis=-1) <= settings.max_radius
    for other in others:
        inside[inside] = covered(silhouettes[other], cameras, other, points[inside])
    return float((~inside.any(axis=1)).mean())


def _points_in_ball(cameras: Cameras, view: int, rows: np.ndarray, columns: np.ndarray, settings: GeometrySettings) -> np.ndarray:
    """[R, S, 3] points on the rays through the pixels, evenly spaced over the ball of max_radius (at most)."""
    position, directions = rays_of(cameras, view, rows, columns)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    nearest = -directions @ position  # distance along the ray of its point nearest to the origin
    offsets = np.linspace(-settings.max_radius, settings.max_radius, settings.hull_samples)
    return position + np.maximum(nearest[:, None] + offsets, 0)[..., None] * directions[:, None]
