"""Cleaning up splats before export: pure functions Gaussians → Gaussians.

Importance of a splat here: opacity × area, the area being the product of its two largest scales. It is what the splat covers on a
screen when seen face on, whatever its depth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fsd_gs.core.points import component_masses
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError

Point = tuple[float, float, float]


@dataclass
class FilterSettings:
    """What :func:`clean` does, in the order of the fields; None or False leaves a step out.

    Attributes:
        min_opacity: [0, 1).
        crop: box corners (low, high) in world units.
        largest_component: drop floaters.
        max_splats: keep the most important.
        recentre: move the middle of the bounding box to the origin.
        radius: scale so that the asset fits a ball of this radius.
    """

    min_opacity: float | None = None
    crop: tuple[Point, Point] | None = None
    largest_component: bool = False
    max_splats: int | None = None
    recentre: bool = False
    radius: float | None = None


def apply_filters(gaussians: Gaussians, settings: FilterSettings) -> Gaussians:
    """``gaussians`` after the steps that ``settings`` asks for."""
    if settings.min_opacity is not None:
        gaussians = drop_transparent(gaussians, settings.min_opacity)
    if settings.crop is not None:
        gaussians = crop(gaussians, *settings.crop)
    if settings.largest_component:
        gaussians = keep_largest_component(gaussians)
    if settings.max_splats is not None:
        gaussians = keep_most_important(gaussians, settings.max_splats)
    if settings.recentre:
        gaussians = recentre(gaussians)
    if settings.radius is not None:
        gaussians = rescale(gaussians, settings.radius)
    return gaussians


def importance(gaussians: Gaussians) -> Tensor:
    """[N] opacity × product of the two largest scales."""
    return gaussians.opacities * gaussians.scales.sort(dim=1).values[:, 1:].prod(dim=1)


def drop_transparent(gaussians: Gaussians, min_opacity: float) -> Gaussians:
    """The splats of opacity ``min_opacity`` or more."""
    if not 0 <= min_opacity < 1:
        raise InputError(f"min_opacity: expected a number in [0, 1), got {min_opacity:g}")
    return gaussians.select(gaussians.opacities >= min_opacity)


def crop(gaussians: Gaussians, low: Point, high: Point) -> Gaussians:
    """The splats whose centres lie in the box between the corners ``low`` and ``high``, inclusive."""
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise InputError(f"crop: expected a low corner below the high corner in x, y and z, got {low} and {high}")
    means = gaussians.means
    inside = (means >= means.new_tensor(low)) & (means <= means.new_tensor(high))
    return gaussians.select(inside.all(dim=1))


def keep_most_important(gaussians: Gaussians, max_splats: int) -> Gaussians:
    """At most ``max_splats`` splats, those of the highest importance, in their old order."""
    if max_splats < 1:
        raise InputError(f"max_splats: expected at least 1, got {max_splats}")
    if len(gaussians) <= max_splats:
        return gaussians
    return gaussians.select(importance(gaussians).topk(max_splats).indices.sort().values)


def keep_largest_component(gaussians: Gaussians) -> Gaussians:
    """The heaviest connected group of splats (``fsd_gs.core.points``): splats touch whose centres lie closer than twice the sum of their
    largest standard deviations, in units of the asset's own."""
    if len(gaussians) < 2:
        return gaussians
    labels, mass = component_masses(gaussians)
    return gaussians.select(labels == mass.argmax())


def recentre(gaussians: Gaussians) -> Gaussians:
    """Moved so that the middle of the bounding box of the centres is the origin (outer 0.5 % on each side ignored)."""
    if not len(gaussians):
        return gaussians
    low, high = _robust_box(gaussians.means)
    return replace(gaussians, means=gaussians.means - (low + high) / 2)


def rescale(gaussians: Gaussians, radius: float) -> Gaussians:
    """Scaled about the origin so that 99 % of the centres lie within ``radius`` of it."""
    if radius <= 0:
        raise InputError(f"radius: expected a number above 0, got {radius:g}")
    if not len(gaussians):
        return gaussians
    extent = _quantile(gaussians.means.norm(dim=1)[:, None], 0.99)
    if extent <= 0:
        return gaussians
    factor = radius / extent
    return replace(gaussians, means=gaussians.means * factor, scales=gaussians.scales * factor)


def _robust_box(points: Tensor) -> tuple[Tensor, Tensor]:
    return _quantile(points, 0.005), _quantile(points, 0.995)


def _quantile(values: Tensor, q: float) -> Tensor:
    """Per column [N, C] → [C]. torch.quantile refuses more than 16 M values."""
    rank = round(q * (len(values) - 1))
    return values.kthvalue(rank + 1, dim=0).values
