"""Half there, half not, is decided at the end: every view's alpha goes through a contrast curve, and the splats are fitted to the result.

    Â_v = s(4 (a_v − m)/w),    Ĉ_v = Â_v c_v          a_v alpha and c_v colour of the finished asset's views, s the logistic curve
    θ  ← argmin Σ_v ‖α_θ(v) − Â_v‖² + ‖rgb_θ(v) − Ĉ_v‖²

Where the prior's views part (what is at the edge, a ghost of an arm), the optimisation of the splats ends in between, and so does their
picture: soft outlines, haze. No prior is asked here; the views are those of one object, so they agree, and what is decided is decided for
all of them. Pixels with more alpha than ``level`` become object, in the colour that they had, the others nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras, Gaussians, Render
from fsd_gs.render.base import Rasterizer
from fsd_gs.splats.optimizers import build_optimizers, step_all
from fsd_gs.splats.parameters import activate, from_gaussians
from fsd_gs.splats.settings import LearningRates, SolidifySettings

VIEWS = 4  # a step
GOLDEN_DEG = 137.50776  # azimuths of this distance cover the circle whatever their number
ABOVE_DEG = (-20.0, 0.0, 15.0, 35.0)  # elevations beside the middle of the run's own, in turn
Orbit = tuple[float, float, float]  # elevation (degrees), distance, vertical field of view (degrees)
RATES = LearningRates(means=2e-3, means_end=2e-3, scales=0.01, quats=0.01, opacities=0.05, sh0=0.01, shN=0.0)


def contrast(alpha: Tensor, level: float, width: float) -> Tensor:
    """Â of each alpha in [0, 1]: below ``level`` towards 0, above it towards 1, over about ``width``."""
    return torch.sigmoid(4 * (alpha - level) / width)


def solidify(splats: Gaussians, rasterizer: Rasterizer, settings: SolidifySettings, steps: int, orbit: Orbit) -> Gaussians:
    """``splats`` with every view's alpha decided; as they were where nothing is asked (no steps), or it did not help.

    Args:
        splats: any number; where some are not finite nothing is done.
        rasterizer: differentiable.
        settings: of the curve and the views.
        steps: of Adam on ``VIEWS`` views each.
        orbit: around which the views lie.

    Returns:
        As many splats, in the same order, on the same device, without a graph.
    """
    if steps == 0 or not len(splats) or any(not torch.isfinite(values).all() for values in vars(splats).values()):
        return splats
    cameras = _views(settings, orbit).to(splats.means.device)
    with torch.no_grad():
        shown = rasterizer(splats, cameras)
    wanted = _decided(shown, settings)
    params = from_gaussians(splats)
    optimizers = build_optimizers(params, RATES)
    generator = torch.Generator().manual_seed(0)  # which views a step sees
    for _ in range(steps):
        some = torch.randperm(len(cameras), generator=generator)[:VIEWS]
        _distance(rasterizer(activate(params), cameras[some]), *(images[some] for images in wanted)).backward()
        step_all(optimizers)
    solid = activate(params).detach()
    with torch.no_grad():
        helped = _distance(rasterizer(solid, cameras), *wanted) < _distance(shown, *wanted)
    return solid if helped else splats


def _views(settings: SolidifySettings, orbit: Orbit) -> Cameras:
    middle, distance, fov = orbit
    elevations = [max(-89.0, min(89.0, middle + ABOVE_DEG[view % len(ABOVE_DEG)])) for view in range(settings.views)]
    azimuths = [GOLDEN_DEG * view % 360 for view in range(settings.views)]
    return orbit_cameras(azimuths, elevations, distance=distance, fov_y_deg=fov, width=settings.size)


def _decided(view: Render, settings: SolidifySettings) -> tuple[Tensor, Tensor]:
    """(Ĉ [V, H, W, 3], Â [V, H, W, 1])."""
    alpha = contrast(view.alpha, settings.level, settings.width)
    return view.rgb / view.alpha.clamp_min(1e-3) * alpha, alpha


def _distance(view: Render, rgb: Tensor, alpha: Tensor) -> Tensor:
    return (view.alpha - alpha).square().mean() + (view.rgb - rgb).square().mean()
