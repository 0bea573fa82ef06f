"""One report on the geometry of an asset, and what in it counts as a failure.

coverage   mean of alpha over views and pixels; the other measures are defined where they are computed: ``holes``, ``tears``, ``haze``,
           ``silhouettes``, ``floaters`` and ``splats``, all in this package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.types import Cameras, Gaussians, Render, check_shape
from fsd_gs.errors import InputError
from fsd_gs.metrics.geometry.haze import haze_report
from fsd_gs.metrics.geometry.holes import gap_report
from fsd_gs.metrics.geometry.settings import GeometrySettings
from fsd_gs.metrics.geometry.silhouettes import HALF, border_share, image_floaters
from fsd_gs.metrics.geometry.splats import PERCENTILES, SplatStatistics, splat_statistics
from fsd_gs.metrics.geometry.tears import tear_report

VIEWS, SIZE, CHUNK = 24, 128, 8

RenderSplats = Callable[..., Render]
"""``fsd_gs.render.base.Rasterizer``, as far as this module needs it: (gaussians, cameras, depth=True) → Render."""


@dataclass(frozen=True)
class GeometryReport:
    """Shares in [0, 1], see the package; failures ⊆ ("empty", "exploded", "hazy", "holes") by :class:`GeometrySettings`.

    Attributes:
        gaps, leaks: regions enclosed by a silhouette over all views, and those among them that the hull calls leaks.
        tears: NaN where no depths were given.
        torn: openings that show the inside, over all views.
    """

    coverage: float
    border: float
    haze: float
    haze_mass: float
    haze_alpha: float
    holes: float
    pinholes: float
    gaps: int
    leaks: int
    tears: float
    torn: int
    image_floaters: float
    splats: SplatStatistics
    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.failures

    def as_dict(self) -> dict[str, float]:
        """Every figure under a flat name, for tables: counts as floats, ok as 1 or 0; tears may be NaN (not measured)."""
        own = ("coverage", "border", "haze", "haze_mass", "haze_alpha", "holes", "pinholes", "gaps", "leaks", "tears", "torn")
        of_splats = ("non_finite", "opacity_mean", "extent", "escaped", "components", "floater_count", "floaters")
        of_splats += ("transparent", "huge", "needles")
        values = {"ok": float(self.ok)} | {name: float(getattr(self, name)) for name in (*own, "image_floaters")}
        values |= {"splats": float(self.splats.count)} | {name: float(getattr(self.splats, name)) for name in of_splats}
        for name in ("scale", "anisotropy"):
            percentiles = getattr(self.splats, f"{name}_percentiles")
            values |= {f"{name}_p{p}": float(value) for p, value in zip(PERCENTILES, percentiles, strict=True)}
        return values


def geometry_report(
    gaussians: Gaussians,
    views: Tensor | Render | RenderSplats,
    cameras: Cameras | None = None,
    settings: GeometrySettings | None = None,
) -> GeometryReport:
    """Judge one asset by views from ``cameras`` (V of them, at least 64 pixels wide; an orbit of 24 tells designs from leaks).

    views: a rasterizer, which then draws alphas and depths, by default from ``evaluation_orbit(24, width=128)``; or what was drawn from
    ``cameras`` already: a Render, or alphas [V, H, W, 1] alone. Tears need depths and cameras; without cameras, small gaps count as
    holes. NaN in an alpha counts as empty. Raises InputError where shapes disagree.
    """
    settings = GeometrySettings() if settings is None else settings
    alphas, depths, cameras = _looked_at(gaussians, views, cameras)
    a = alphas[..., 0].detach().cpu().double().nan_to_num(0.0).clamp(0, 1).numpy()
    haze, gaps = haze_report(a, settings.edge), gap_report(a, cameras, settings)
    tears, torn = math.nan, 0
    if depths is not None and cameras is not None:
        found = tear_report(a, depths[..., 0].detach().cpu().double().nan_to_num(0.0).numpy(), cameras, settings)
        tears, torn = found.share, found.tears
    splats, coverage, border = splat_statistics(gaussians, settings), float(a.mean()), border_share(a)
    visible = bool((a > HALF).any() or haze.share > 0)
    rules = {
        "empty": splats.count == 0 or coverage < settings.min_coverage or not visible,
        "exploded": splats.non_finite > 0
        or splats.escaped > settings.max_escaped
        or border > settings.max_border
        or coverage > settings.max_coverage,
        "hazy": haze.share > settings.max_haze,
        "holes": gaps.holes > settings.max_holes or tears > settings.max_tears,  # NaN is no tear
    }
    return GeometryReport(
        coverage=coverage,
        border=border,
        haze=haze.share,
        haze_mass=haze.mass,
        haze_alpha=haze.alpha,
        holes=gaps.holes,
        pinholes=gaps.pinholes,
        gaps=gaps.gaps,
        leaks=gaps.leaks,
        tears=tears,
        torn=torn,
        image_floaters=image_floaters(a),
        splats=splats,
        failures=tuple(name for name, failed in rules.items() if failed),
    )


def _looked_at(
    gaussians: Gaussians, views: Tensor | Render | RenderSplats, cameras: Cameras | None
) -> tuple[Tensor, Tensor | None, Cameras | None]:
    """Alphas and depths [V, H, W, 1] with their cameras, checked against one another."""
    if not isinstance(views, Tensor | Render):
        cameras = evaluation_orbit(VIEWS, width=SIZE, device=gaussians.means.device) if cameras is None else cameras
        views = draw_views(views, gaussians, cameras)
    alphas, depths = (views.alpha, views.depth) if isinstance(views, Render) else (views, None)
    check_shape("alphas", alphas, ("V", "H", "W", 1))
    count, height, width, _ = alphas.shape
    if count == 0:
        raise InputError("alphas: expected at least one view, got none")
    if depths is not None:
        check_shape("depths", depths, (count, height, width, 1))
    if cameras is not None and (len(cameras), cameras.height, cameras.width) != (count, height, width):
        raise InputError(
            f"cameras: expected {count} views of {width}×{height} as in alphas, got {len(cameras)} of {cameras.width}×{cameras.height}"
        )
    return alphas, depths, cameras


@torch.no_grad()
def draw_views(rasterizer: RenderSplats, gaussians: Gaussians, cameras: Cameras, background: Tensor | None = None) -> Render:
    """Colour, alpha and depth from ``cameras``, a few views at a time so that memory stays bounded; no splats are an empty picture.

    Args:
        rasterizer: Draws them.
        gaussians: The asset.
        cameras: V of them.
        background: [3] colour; None leaves black.

    Raises:
        InputError: The rasterizer draws no depth.
    """
    if not len(gaussians):
        nothing = torch.zeros(len(cameras), cameras.height, cameras.width, 1)
        return Render(nothing.expand(-1, -1, -1, 3), nothing, nothing)
    told = {} if background is None else {"background": background}  # so that a caller's rasterizer need not know of backgrounds
    parts = [rasterizer(gaussians, cameras[i : i + CHUNK], depth=True, **told) for i in range(0, len(cameras), CHUNK)]
    drawn = [(part.rgb, part.alpha, part.depth) for part in parts if part.depth is not None]
    if len(drawn) < len(parts):
        raise InputError("views: expected a rasterizer that draws depth when asked for it, got one that does not; pass alphas instead")
    rgb, alpha, depth = (torch.cat(list(images)) for images in zip(*drawn, strict=True))
    return Render(rgb, alpha, depth)
