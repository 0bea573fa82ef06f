"""Rays of a view, and what the other views of an orbit say about the points on them (numpy, on the CPU).

The visual hull (Laurentini 1994) of a set of views holds the points that project into the silhouette of each of them. The views that
judge a ray of view v are those *off its axis*: more than δ away from its direction, forwards and backwards, since the views beside it and
the view from behind look through the same crack.
"""

from __future__ import annotations

import math

import numpy as np

from fsd_gs.core.types import Cameras


def views_off_axis(cameras: Cameras, view: int, angle_deg: float) -> list[int]:
    """The views whose axis is more than δ = ``angle_deg`` from that of ``view``, in both directions."""
    axes = cameras.viewmats[:, 2, :3].double().cpu().numpy()  # the viewing direction in the world
    aligned = np.abs(axes @ axes[view]) >= math.cos(math.radians(angle_deg)) - 1e-9
    return [int(u) for u in np.nonzero(~aligned)[0]]


def rays_of(cameras: Cameras, view: int, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position [3] of ``view`` and directions [R, 3] through the centres of the pixels (rows, columns) [R], of depth 1 along z: the point
    of depth z on a ray is position + z · direction."""
    camera_from_world = cameras.viewmats[view].double().cpu().numpy()
    rotation, translation = camera_from_world[:3, :3], camera_from_world[:3, 3]
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1)
    return -rotation.T @ translation, pixels @ np.linalg.inv(cameras.Ks[view].double().cpu().numpy()).T @ rotation


def points_in_view(cameras: Cameras, view: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(rows, columns, depths, seen) [P] of ``points`` [P, 3] in ``view``; rows and columns are those of a pixel only where seen."""
    camera_from_world = cameras.viewmats[view].double().cpu().numpy()
    local = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    depths = local[:, 2]
    projected = local @ cameras.Ks[view].double().cpu().numpy().T
    columns, rows = (np.floor(projected[:, i] / np.maximum(depths, 1e-9)) for i in (0, 1))
    seen = (depths > 1e-6) & (columns >= 0) & (columns < cameras.width) & (rows >= 0) & (rows < cameras.height)
    return np.where(seen, rows, 0).astype(int), np.where(seen, columns, 0).astype(int), depths, seen


def covered(silhouette: np.ndarray, cameras: Cameras, view: int, points: np.ndarray) -> np.ndarray:
    """[P] whether ``points`` [P, 3] project into ``silhouette`` [H, W]. What a view cannot see, it cannot carve away."""
    rows, columns, _, seen = points_in_view(cameras, view, points)
    return ~seen | silhouette[rows, columns]
