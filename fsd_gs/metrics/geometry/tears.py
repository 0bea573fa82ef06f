"""Tears: openings in the front surface through which one sees the inside of the object, where alpha is 1 all the same.

Letters: z_v(p) depth of view v at pixel p, ∞ outside the silhouette S_v = {a_v > ½}; n_v = 1 / z_v nearness, 0 outside.

    n̂_v    n_v with its basins filled: morphological reconstruction by erosion of n_v from the image border (Vincent 1993), the grey
           version of filling the gaps of a silhouette. It is the depth ẑ_v = 1 / n̂_v at which a surface would close the basin.
    basin  a connected region of {z_v − ẑ_v > τ}; those that are mostly background are gaps, and belong to ``holes``.

A basin is a tear unless something speaks for a design:
    1. its rim is a step of more than τ most of the way round (≥ 60 % of it): the floor of a dent or the inside of a bowl goes on from its
       rim, the edge of a tear does not;
    2. half of its rays' segments (ẑ_v, z_v) lie in the visual hull of the views off the axis of v (``rays``): between the slats of a
       chair and its seat they do not, since the side view sees the background there;
    3. on the median of its segments at most a share q of those views see free space, by their own depths: few look into a torn shell,
       many look under an armrest.

tears = Σ_v |tears of v| / Σ_v |B_v|, with B_v as in ``holes``: the share of the silhouettes that shows the inside.
A designed opening into a closed body (a window, an entrance, a mouth) meets all three and counts: images cannot tell it from damage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fsd_gs.core.types import Cameras
from fsd_gs.metrics.geometry.rays import points_in_view, rays_of, views_off_axis
from fsd_gs.metrics.geometry.settings import GeometrySettings
from fsd_gs.metrics.geometry.silhouettes import HALF, filled, outline, pixels_of_regions, regions

RIM_SHARE, HULL_SHARE = 0.6, 0.5
SEGMENT_SAMPLES, MAX_RAYS = 8, 200
SURFACE = 0.05  # in world units: a view sees a point as free if its own surface is at least this much farther


@dataclass(frozen=True)
class TearReport:
    """share in [0, 1] of the silhouettes.

    Attributes:
        basins: candidates.
        tears: those that nothing explains, and mask [V, H, W] their pixels.
    """

    share: float
    basins: int
    tears: int
    mask: np.ndarray


def tear_report(a: np.ndarray, z: np.ndarray, cameras: Cameras, settings: GeometrySettings) -> TearReport:
    """Tears of alphas a [V, H, W] in [0, 1] and depths z [V, H, W] along z, in world units, where a > ½ (ignored elsewhere)."""
    silhouettes = a > HALF
    depths = np.where(silhouettes & (z > 0), z, np.inf)
    mask = np.zeros(a.shape, dtype=bool)
    basins = tears = 0
    for v in range(len(a)):
        surface = filled_depth(depths[v])
        with np.errstate(invalid="ignore"):  # ∞ − ∞ outside everything
            labels, count = regions(np.isfinite(surface) & (depths[v] - surface > settings.tear_depth))
        for index, (rows, columns) in enumerate(pixels_of_regions(labels, count), start=1):
            opaque = silhouettes[v][rows, columns]
            if 2 * opaque.sum() < len(rows):
                continue
            basins += 1
            rim = _rim_share(labels == index, depths[v], settings.tear_depth)
            if rim >= RIM_SHARE and _enters_the_body(depths, cameras, v, rows[opaque], columns[opaque], surface, settings):
                tears += 1
                mask[v, rows[opaque], columns[opaque]] = True
    area = int(filled(silhouettes).sum())
    return TearReport(float(mask.sum()) / area if area else 0.0, basins, tears, mask)


def filled_depth(depth: np.ndarray) -> np.ndarray:
    """ẑ [H, W] of depth z [H, W] > 0, ∞ where there is nothing: the nearest depth from which no path leads to the border without
    climbing nearer."""
    from skimage.morphology import reconstruction

    with np.errstate(divide="ignore"):
        nearness = 1 / depth
        seed = nearness.copy()
        seed[1:-1, 1:-1] = nearness.max()
        return 1 / reconstruction(seed, nearness, method="erosion")


def _rim_share(basin: np.ndarray, depth: np.ndarray, step: float) -> float:
    """Share of the outermost pixels of ``basin`` [H, W] whose neighbourhood falls by more than ``step`` from outside to inside."""
    from scipy.ndimage import maximum_filter, minimum_filter

    rows, columns = np.nonzero(basin)  # the filters need only see the surroundings
    window = (slice(max(rows.min() - 2, 0), rows.max() + 3), slice(max(columns.min() - 2, 0), columns.max() + 3))
    basin, depth = basin[window], np.minimum(depth[window], 1e6)
    floor = maximum_filter(np.where(basin, depth, 0), size=3)
    rim = minimum_filter(np.where(basin, np.inf, depth), size=3)
    return float(((floor - rim) > step)[outline(basin)].mean())


def _enters_the_body(
    depths: np.ndarray, cameras: Cameras, view: int, rows: np.ndarray, columns: np.ndarray, surface: np.ndarray, settings: GeometrySettings
) -> bool:
    """Whether the segments from ``surface`` [H, W] to the depths of ``view`` run inside the hull, where few other views see free space."""
    others = views_off_axis(cameras, view, settings.hull_angle_deg)
    if not others:
        return False  # nothing speaks against a design
    stride = max(1, len(rows) // MAX_RAYS)
    rows, columns = rows[::stride], columns[::stride]
    position, directions = rays_of(cameras, view, rows, columns)
    near, far = surface[rows, columns], depths[view][rows, columns]
    steps = (np.arange(SEGMENT_SAMPLES) + 0.5) / SEGMENT_SAMPLES
    along = near[:, None] + (far - near)[:, None] * steps
    points = (position + along[..., None] * directions[:, None]).reshape(-1, 3)
    free, outside = np.zeros(len(points)), np.zeros(len(points), dtype=bool)
    for other in others:
        r, c, depth, seen = points_in_view(cameras, other, points)
        found = depths[other][r, c]
        free += seen & (found > depth + SURFACE)
        outside |= seen & np.isinf(found)
    in_hull = (~outside).reshape(along.shape).mean(axis=1) >= 0.5
    openness = (free / len(others)).reshape(along.shape).mean(axis=1)
    return bool(in_hull.mean() >= HULL_SHARE and np.median(openness) <= settings.tear_openness)
