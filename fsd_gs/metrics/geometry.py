"""How sound the geometry of an asset is, from its splats and the alphas of rendered views; no network, no ground truth.

Letters: a_v(p) ∈ [0, 1] alpha of view v at pixel p; S_v = {a_v > ½} its silhouette; B_v is S_v with its enclosed gaps filled.

coverage   mean of a_v over views and pixels.
haze       share of the visible pixels {a_v > 0.05} that are neither here nor there (0.05 < a_v < 0.95) and farther than e pixels
           from the outline of S_v and from that of {a_v > 0.05}: an antialiased edge is not haze, a fog is.
holes      Σ_v Σ_{p ∈ leaks of v} (1 − a_v(p)) / Σ_v |B_v|. A gap is a connected region outside S_v that S_v encloses. Whether it
           is a design (the hole of a torus, the handle of a mug) or a leak (a crack one sees through) is decided by the visual hull of
           the *other* views: hull_v = points that lie in S_u for every view u whose axis is more than δ away from that of v, in both
           directions, since the view from behind looks through the same crack. Where at least a quarter of a gap's rays miss hull_v,
           other views look through the gap too: it is wide compared with its depth (about tan δ) and counts as design. A leak's rays
           pass through hull_v. Without cameras, gaps smaller than 1 % of B_v count, whatever they are.
pinholes   the same sum over gaps smaller than 0.1 % of B_v (or 2 pixels), leaks or not: speckle.
floaters   of the splats, share of the mass o σ̄² outside the heaviest connected component (σ̄ the geometric mean scale); of the
           images, share of S_v outside its largest region. High is normal for an object of several parts.
escaped    share of the mass with centres outside ``max_radius``.

Alphas see a hole only where a ray meets nothing at all: a hole in the front surface before an intact back surface stays invisible to them.
The visual hull is Laurentini's (1994); ``holes`` is meant for the holes of constant noise that arXiv:2405.10988 reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fsd_gs.errors import ConfigError, InputError
from fsd_gs.neighbours import connected_components
from fsd_gs.types import Cameras, Gaussians, check_shape

LOW, HALF, HIGH = 0.05, 0.5, 0.95
PERCENTILES = (5, 50, 95, 100)


@dataclass(frozen=True)
class GeometrySettings:
    """Thresholds; lengths in world units for an object in the unit ball.

    Sound objects stay well below: over 159 meshes of the embedded catalogue (53 categories × 3, 24 views of 64 pixels, elevation 15°)
    holes ≤ 0.0014 and haze ≤ 0.009. With 12 views the hull is coarser: holes ≤ 0.0076, above the threshold for 5 of 159.
    min_coverage: less is "empty". max_haze, max_holes: more is "hazy", "holes". max_coverage, max_escaped, max_border (share of the
    image border that is covered): more is "exploded". edge: width e as a share of the image side (at least 2 pixels).
    hull_angle_deg: δ. design_share: part of a gap's rays that must miss the hull. max_radius: beyond it a splat has escaped; it also
    bounds the hull. link, reach: splats are connected where |μ_i − μ_j| ≤ max(link, reach (σ_i + σ_j)).
    """

    min_coverage: float = 0.005
    max_coverage: float = 0.95
    max_haze: float = 0.25
    max_holes: float = 0.005
    max_escaped: float = 0.1
    max_border: float = 0.3
    edge: float = 0.03
    hull_angle_deg: float = 12.0
    design_share: float = 0.25
    hull_samples: int = 128
    max_radius: float = 1.5
    link: float = 0.03
    reach: float = 2.0

    def __post_init__(self) -> None:
        shares = ("min_coverage", "max_coverage", "max_haze", "max_holes", "max_escaped", "max_border", "edge", "design_share")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a share in [0, 1], got {getattr(self, name):g}")
        if not 0 <= self.hull_angle_deg < 90:
            raise ConfigError(f"hull_angle_deg: expected degrees in [0, 90), got {self.hull_angle_deg:g}")
        if self.hull_samples < 2:
            raise ConfigError(f"hull_samples: expected at least 2, got {self.hull_samples}")


@dataclass(frozen=True)
class SplatStatistics:
    """count; opacity_histogram: splats in ten equal bins of [0, 1]; scale_percentiles: 5, 50, 95, 100 % of the largest σ; extent: 95 %
    of the mass lies within it of the origin; escaped, floaters: shares of the mass; components; non_finite: splats with a NaN."""

    count: int
    non_finite: int
    opacity_histogram: tuple[int, ...]
    scale_percentiles: tuple[float, ...]
    extent: float
    escaped: float
    components: int
    floaters: float


@dataclass(frozen=True)
class GeometryReport:
    """Shares in [0, 1], see the module; failures ⊆ ("empty", "exploded", "hazy", "holes") by :class:`GeometrySettings`.

    gaps, leaks: regions enclosed by a silhouette over all views, and those among them that the hull calls leaks.
    """

    coverage: float
    border: float
    haze: float
    holes: float
    pinholes: float
    gaps: int
    leaks: int
    image_floaters: float
    splats: SplatStatistics
    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.failures


def geometry_report(
    gaussians: Gaussians, alphas: Tensor, cameras: Cameras | None = None, settings: GeometrySettings | None = None
) -> GeometryReport:
    """Judge one asset by ``alphas`` [V, H, W, 1] rendered from ``cameras`` (V of them; an orbit of 24 tells designs from leaks).

    The images should be at least 64 pixels wide; NaN in an alpha counts as empty. Raises InputError where shapes disagree.
    """
    settings = GeometrySettings() if settings is None else settings
    check_shape("alphas", alphas, ("V", "H", "W", 1))
    views, height, width, _ = alphas.shape
    if views == 0:
        raise InputError("alphas: expected at least one view, got none")
    if cameras is not None and (len(cameras), cameras.height, cameras.width) != (views, height, width):
        raise InputError(
            f"cameras: expected {views} views of {width}×{height} as in alphas, got {len(cameras)} of {cameras.width}×{cameras.height}"
        )
    a = alphas[..., 0].detach().cpu().double().nan_to_num(0.0).clamp(0, 1).numpy()
    splats = splat_statistics(gaussians, settings)
    coverage, border, haze = float(a.mean()), border_share(a), haze_share(a, settings.edge)
    gaps = gap_report(a, cameras, settings)
    failures = _failures(splats, coverage, border, haze, gaps.holes, bool((a > HALF).any() or haze > 0), settings)
    return GeometryReport(
        coverage=coverage,
        border=border,
        haze=haze,
        holes=gaps.holes,
        pinholes=gaps.pinholes,
        gaps=gaps.gaps,
        leaks=gaps.leaks,
        image_floaters=image_floaters(a),
        splats=splats,
        failures=failures,
    )


def _failures(
    splats: SplatStatistics, coverage: float, border: float, haze: float, holes: float, visible: bool, settings: GeometrySettings
) -> tuple[str, ...]:
    rules = {
        "empty": splats.count == 0 or coverage < settings.min_coverage or not visible,
        "exploded": splats.non_finite > 0
        or splats.escaped > settings.max_escaped
        or border > settings.max_border
        or coverage > settings.max_coverage,
        "hazy": haze > settings.max_haze,
        "holes": holes > settings.max_holes,
    }
    return tuple(name for name, failed in rules.items() if failed)


# -- images ----------------------------------------------------------------------------------------------------------------


def border_share(a: np.ndarray) -> float:
    """Share of the pixels on the image border with a > ½, over all views. a [V, H, W]."""
    border = np.concatenate([a[:, 0], a[:, -1], a[:, 1:-1, 0], a[:, 1:-1, -1]], axis=1)
    return float((border > HALF).mean())


def haze_share(a: np.ndarray, edge: float = 0.03) -> float:
    """Haze of a [V, H, W], see the module. ``edge``: half width of the outline's surroundings as a share of the image side."""
    from scipy.ndimage import binary_dilation, generate_binary_structure

    reach = max(2, math.ceil(edge * max(a.shape[1:])))
    visible = hazy = 0
    structure = generate_binary_structure(2, 2)
    for image in a:
        near_outline = outline(image > HALF) | outline(image > LOW)
        far = np.logical_not(binary_dilation(near_outline, structure, iterations=reach))
        visible += int((image > LOW).sum())
        hazy += int(((image > LOW) & (image < HIGH) & far).sum())
    return hazy / visible if visible else 0.0


def outline(mask: np.ndarray) -> np.ndarray:
    """[H, W] pixels of ``mask`` that touch its complement (the image border is no outline)."""
    from scipy.ndimage import binary_erosion

    return mask & np.logical_not(binary_erosion(mask, border_value=1))


def regions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels [H, W] 1…M of the 4-connected regions of ``mask`` (0 outside), and M."""
    from scipy.ndimage import label

    labels = np.zeros(mask.shape, dtype=np.int32)
    return labels, int(label(mask, output=labels))  # type: ignore[arg-type]


def image_floaters(a: np.ndarray) -> float:
    """Share of the silhouettes' area outside the largest region of each view. a [V, H, W]."""
    total = largest = 0
    for image in a:
        labels, count = regions(image > HALF)
        if count:
            sizes = np.bincount(labels.ravel())[1:]
            total, largest = total + int(sizes.sum()), largest + int(sizes.max())
    return 1 - largest / total if total else 0.0


@dataclass(frozen=True)
class GapReport:
    """Sums over all views, see :class:`GeometryReport`."""

    holes: float
    pinholes: float
    gaps: int
    leaks: int


def gap_report(a: np.ndarray, cameras: Cameras | None, settings: GeometrySettings) -> GapReport:
    """Finds the gaps of every view of a [V, H, W] and decides which of them are leaks."""
    from scipy.ndimage import binary_fill_holes

    silhouettes = a > HALF
    area = gaps = leaks = 0
    hole_mass = pinhole_mass = 0.0
    for v, (image, silhouette) in enumerate(zip(a, silhouettes, strict=True)):
        filled = np.asarray(binary_fill_holes(silhouette))
        bounding = int(filled.sum())
        area += bounding
        labels, count = regions(filled & ~silhouette)
        gaps += count
        for index in range(1, count + 1):
            rows, columns = np.nonzero(labels == index)
            mass = float((1 - image[rows, columns]).sum())
            if len(rows) <= max(2, 0.001 * bounding):
                pinhole_mass += mass
            if cameras is None:
                leak = len(rows) < 0.01 * bounding
            else:
                leak = share_of_rays_that_miss(silhouettes, cameras, v, rows, columns, settings) < settings.design_share
            leaks += leak
            hole_mass += mass * leak
    return GapReport(hole_mass / area if area else 0.0, pinhole_mass / area if area else 0.0, gaps, leaks)


def share_of_rays_that_miss(
    silhouettes: np.ndarray, cameras: Cameras, view: int, rows: np.ndarray, columns: np.ndarray, settings: GeometrySettings
) -> float:
    """Share of the rays of ``view`` through the pixels (rows, columns) that miss the visual hull of the other views.

    silhouettes [V, H, W]. Only views whose axis differs by more than δ from this one's, forwards and backwards, shape the hull; where
    there are none, every ray hits (nothing confirms the gap).
    """
    others = _views_off_axis(cameras, view, settings.hull_angle_deg)
    if not others:
        return 0.0
    stride = max(1, len(rows) // 400)  # enough rays for a share; a large gap need not be sampled at every pixel
    pixels = np.stack([columns[::stride] + 0.5, rows[::stride] + 0.5, np.ones(len(rows[::stride]))], axis=1)
    points = _points_on_rays(cameras, view, pixels, settings)  # [R, S, 3]
    inside = np.linalg.norm(points, axis=-1) <= settings.max_radius
    for other in others:
        inside[inside] = _covered(silhouettes[other], cameras, other, points[inside])
    return float((~inside.any(axis=1)).mean())


def _views_off_axis(cameras: Cameras, view: int, angle_deg: float) -> list[int]:
    axes = cameras.viewmats[:, 2, :3].double().cpu().numpy()  # the viewing direction in the world
    aligned = np.abs(axes @ axes[view]) >= math.cos(math.radians(angle_deg)) - 1e-9
    return [int(u) for u in np.nonzero(~aligned)[0]]


def _points_on_rays(cameras: Cameras, view: int, pixels: np.ndarray, settings: GeometrySettings) -> np.ndarray:
    """[R, S, 3] points on the rays through homogeneous ``pixels`` [R, 3], evenly spaced over the ball of max_radius (at most)."""
    camera_from_world = cameras.viewmats[view].double().cpu().numpy()
    rotation, translation = camera_from_world[:3, :3], camera_from_world[:3, 3]
    directions = pixels @ np.linalg.inv(cameras.Ks[view].double().cpu().numpy()).T @ rotation
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    position = -rotation.T @ translation
    middle = -directions @ position  # nearest to the origin
    offsets = np.linspace(-settings.max_radius, settings.max_radius, settings.hull_samples)
    depths = middle[:, None] + offsets
    return position + np.maximum(depths, 0)[..., None] * directions[:, None]


def _covered(silhouette: np.ndarray, cameras: Cameras, view: int, points: np.ndarray) -> np.ndarray:
    """[P] whether ``points`` [P, 3] project into ``silhouette`` [H, W]. What a view cannot see, it cannot carve away."""
    camera_from_world = cameras.viewmats[view].double().cpu().numpy()
    local = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    depth = local[:, 2]
    projected = local @ cameras.Ks[view].double().cpu().numpy().T
    columns, rows = (np.floor(projected[:, i] / np.maximum(depth, 1e-9)) for i in (0, 1))
    height, width = silhouette.shape
    seen = (depth > 1e-6) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    covered = np.ones(len(points), dtype=bool)
    covered[seen] = silhouette[rows[seen].astype(int), columns[seen].astype(int)]
    return covered


# -- splats ----------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def splat_statistics(gaussians: Gaussians, settings: GeometrySettings | None = None) -> SplatStatistics:
    """Counts and shares over the finite splats; every share of an empty set is 0."""
    settings = GeometrySettings() if settings is None else settings
    values = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[:, None], gaussians.sh.flatten(1))
    finite = torch.isfinite(torch.cat([v.detach() for v in values], dim=1)).all(dim=1)
    g = gaussians.detach().select(finite).to("cpu", torch.float64)
    if not len(g):
        return SplatStatistics(len(gaussians), int((~finite).sum()), (0,) * 10, (0.0,) * len(PERCENTILES), 0.0, 0.0, 0, 0.0)
    mass = (g.opacities * g.scales.prod(dim=1) ** (2 / 3)).numpy()
    total = max(float(mass.sum()), np.finfo(np.float64).tiny)
    radius, largest = g.means.norm(dim=1).numpy(), g.scales.amax(dim=1)
    labels = connected_components(g.means, settings.reach * largest, min_link=settings.link).numpy()
    by_component = np.bincount(labels, weights=mass)
    order = np.argsort(radius)
    within = np.searchsorted(np.cumsum(mass[order]), 0.95 * float(mass.sum()))
    return SplatStatistics(
        count=len(gaussians),
        non_finite=int((~finite).sum()),
        opacity_histogram=tuple(int(n) for n in np.histogram(g.opacities.numpy(), bins=10, range=(0, 1))[0]),
        scale_percentiles=tuple(float(p) for p in np.percentile(largest.numpy(), PERCENTILES)),
        extent=float(radius[order][min(int(within), len(radius) - 1)]),
        escaped=float(mass[radius > settings.max_radius].sum()) / total,
        components=len(by_component),
        floaters=float(np.sort(by_component)[:-1].sum()) / total,
    )
