"""What an artist sees at once in eight views of an asset at 192 pixels.

a_v(p) ∈ [0, 1] is the alpha of view v, z_v(p) its expected depth, S_v = {a_v > ½} its silhouette.

haze        |{0.1 < a_v < 0.9}| / |{a_v > 0.1}| over all views: how much of the object is neither there nor not there. An antialiased edge
            counts too; a crisp chair of thin legs has 0.13.
softness    1 − the mean over the outlines of S_v of (max − min of a_v over the 5 × 5 pixels around): 0 where every edge is a step.
dissent     each point of the surface that view v shows, X = ray_v(p, z_v(p)) for p in S_v, is looked for in its two neighbours u. u denies
            it where X projects outside S_u, or in front of u's own surface by more than τ: a panel that is there from one side only, a
            ghost arm, a surface averaged out of two. The share of denied points.
mismatch    where u agrees and X is well inside both silhouettes: the mean distance of its colour c_v in [0, 1]³ to the nearest among those
            that u shows within 2 pixels of X (so that the edge of a painted dot is no mismatch). Surfaces have one colour; veils in front
            of each other have another one from every side.
floaters    share of the splats' mass outside their largest component (``metrics.geometry``).
doubt       1 − mean_v P(category asked | view v) of the embedded judge; NaN for prompts that name none of its categories.
margin      mean_v [log P(asked) − log max of the others], held in [−8, 8], NaN likewise: how clearly it is this and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.types import Cameras, Gaussians, Render
from fsd_gs.errors import InputError
from fsd_gs.metrics.geometry.rays import points_in_view, rays_of
from fsd_gs.metrics.geometry.report import RenderSplats, draw_views
from fsd_gs.metrics.geometry.silhouettes import HALF, outline
from fsd_gs.metrics.geometry.splats import splat_statistics
from fsd_gs.metrics.judge.inference import Judge

VIEWS, SIZE = 8, 192
BACKGROUND = 0.5  # grey: black and white assets both leave ink on it
THIN, DENSE = 0.1, 0.9
WINDOW = 5  # pixels a side around a pixel of an outline
TOLERANCE = 0.08  # τ in world units
STRIDE = 2  # every second pixel a way is asked of the neighbours
SLACK = 2  # pixels in which the colours of two views may lie apart
LIMIT = 8.0  # of the margin


@dataclass(frozen=True)
class Signs:
    """See the module. All but margin are 0 at best and at most 1 (mismatch √3); doubt, margin and tint are NaN where the judge does not
    know what the prompt asks for."""

    haze: float
    softness: float
    dissent: float
    mismatch: float
    floaters: float
    doubt: float = math.nan
    margin: float = math.nan
    tint: float = math.nan

    def as_tuple(self) -> tuple[float, ...]:
        return astuple(self)


NAMES = tuple(f.name for f in fields(Signs))


def look(rasterizer: RenderSplats, gaussians: Gaussians, cameras: Cameras | None = None) -> tuple[Render, Cameras]:
    """The views that :func:`signs_of` reads, by default from the evaluation orbit: rgb over grey, alpha and depth.

    Args:
        rasterizer: ``fsd_gs.render.base.Rasterizer``.
        gaussians: at least one splat.
        cameras: V of them; they should run around the object in order, since neighbours are asked of each other.
    """
    cameras = evaluation_orbit(VIEWS, width=SIZE, device=gaussians.means.device) if cameras is None else cameras
    grey = gaussians.means.new_full((3,), BACKGROUND)
    return draw_views(rasterizer, gaussians, cameras, grey), cameras


def signs_of(views: Render, cameras: Cameras, gaussians: Gaussians | None = None, *, judge: Judge | None = None, prompt: str = "") -> Signs:
    """The signs of one asset.

    Args:
        views: from ``cameras``: rgb [V, H, W, 3] over grey, alpha and depth [V, H, W, 1].
        cameras: V ≥ 2 in order around the object.
        gaussians: the splats, for the floaters; None (a mesh) has none.
        judge: with ``prompt``, for doubt, margin and tint; None leaves them NaN.
        prompt: what was asked for.

    Raises:
        InputError: no depth, or fewer than two views.
    """
    if views.depth is None or len(cameras) < 2:
        raise InputError(f"views: expected depth and at least 2 views, got {len(cameras)} views, depth: {views.depth is not None}")
    a = views.alpha[..., 0].detach().cpu().double().nan_to_num(0.0).clamp(0, 1).numpy()
    z = views.depth[..., 0].detach().cpu().double().nan_to_num(0.0).numpy()
    floaters = 0.0 if gaussians is None else splat_statistics(gaussians).floaters
    doubt, margin, tint = (math.nan, math.nan, math.nan) if judge is None else recognition(judge, views.rgb, prompt)
    rgb = views.rgb.detach().cpu().double().nan_to_num(0.0).clamp(0, 1).numpy()
    dissent, mismatch = disagreement(a, z, rgb, cameras)
    return Signs(haze_of(a), softness_of(a), dissent, mismatch, floaters, doubt, margin, tint)


def haze_of(a: np.ndarray) -> float:
    """Half-transparent share of the object in a [V, H, W]; 1 where there is no object."""
    there = int((a > THIN).sum())
    return float(((a > THIN) & (a < DENSE)).sum() / there) if there else 1.0


def softness_of(a: np.ndarray) -> float:
    """How far the outlines in a [V, H, W] are from steps; 1 where there is none."""
    from scipy.ndimage import maximum_filter, minimum_filter

    steps = []
    for image in a:
        rows, columns = np.nonzero(outline(image > HALF))
        steps.append((maximum_filter(image, WINDOW) - minimum_filter(image, WINDOW))[rows, columns])
    found = np.concatenate(steps)
    return float(1 - found.mean()) if len(found) else 1.0


def disagreement(a: np.ndarray, z: np.ndarray, rgb: np.ndarray, cameras: Cameras) -> tuple[float, float]:
    """(dissent, mismatch) of a, z [V, H, W] and rgb [V, H, W, 3]; (1, 0) where there is no surface."""
    silhouettes, count = a > HALF, len(a)
    near, inner = (np.stack([grow(s) for s in silhouettes]) for grow in (_near, _inner))
    asked, denied, distances = 0, 0, [np.zeros(0)]
    for v in range(count):
        rows, columns = np.nonzero(silhouettes[v])
        chosen = (rows % STRIDE == 0) & (columns % STRIDE == 0)
        rows, columns = rows[chosen], columns[chosen]
        position, directions = rays_of(cameras, v, rows, columns)
        points = position + z[v, rows, columns][:, None] * directions
        for u in {(v - 1) % count, (v + 1) % count}:
            at_row, at_column, depths, seen = points_in_view(cameras, u, points)
            ahead = z[u, at_row, at_column] - depths  # by how much X is in front of u's own surface
            asked += int(seen.sum())
            denied += int((seen & (~near[u, at_row, at_column] | (silhouettes[u, at_row, at_column] & (ahead > TOLERANCE)))).sum())
            shared = seen & (np.abs(ahead) < TOLERANCE) & inner[u, at_row, at_column] & inner[v, rows, columns]
            distances.append(_nearest(rgb[v, rows, columns][shared], rgb[u], at_row[shared], at_column[shared]))
    found = np.concatenate(distances)
    return (denied / asked if asked else 1.0), (float(found.mean()) if len(found) else 0.0)


def _nearest(colors: np.ndarray, image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[P] distance of each of ``colors`` [P, 3] to the nearest of ``image`` [H, W, 3] within SLACK pixels of its place."""
    height, width, _ = image.shape
    best = np.full(len(colors), np.inf)
    for i in range(-SLACK, SLACK + 1):
        for j in range(-SLACK, SLACK + 1):
            there = image[np.clip(rows + i, 0, height - 1), np.clip(columns + j, 0, width - 1)]
            np.minimum(best, np.linalg.norm(colors - there, axis=1), out=best)
    return best


def _near(silhouette: np.ndarray) -> np.ndarray:
    """The silhouette and the pixels that touch it: rounding to pixels is no dissent."""
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(silhouette, iterations=1))


def _inner(silhouette: np.ndarray) -> np.ndarray:
    """The silhouette without its outermost pixels, where the background shines through."""
    from scipy.ndimage import binary_erosion

    return np.asarray(binary_erosion(silhouette, iterations=3))


def recognition(judge: Judge, rgb: Tensor, prompt: str) -> tuple[float, float, float]:
    """(doubt, margin, tint) of views rgb [V, H, W, 3] over grey; NaN where the prompt names no category, or no colour, of the judge."""
    try:
        asked = judge.read(prompt)
    except InputError:
        return math.nan, math.nan, math.nan
    seen = judge(rgb.permute(0, 3, 1, 2).clamp(0, 1))
    log_p = seen.category.log_softmax(dim=1)
    place = judge.categories.index(asked.category)
    own = log_p[:, place]
    others = log_p.index_fill(1, torch.tensor([place], device=log_p.device), -math.inf).amax(1)
    tint = 1 - float(seen.color.softmax(dim=1)[:, judge.colors.index(asked.color)].mean()) if asked.color else math.nan
    return float(1 - own.exp().mean()), float((own - others).mean().clamp(-LIMIT, LIMIT)), tint
