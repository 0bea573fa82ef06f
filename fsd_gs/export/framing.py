"""Bringing splats of any size and place into the unit ball that cameras and viewers look at, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fsd_gs.core.types import Gaussians
from fsd_gs.export.filters import recentre, rescale


@dataclass(frozen=True)
class Framed:
    """``gaussians`` in the unit ball; world position = position / scale + centre."""

    gaussians: Gaussians
    centre: Tensor
    scale: float


def framed(gaussians: Gaussians, *, smallest: float = 0.3, largest: float = 1.1, radius: float = 0.85) -> Framed:
    """``gaussians`` as they are if 99 % of the centres lie within a radius of ``smallest`` to ``largest``; else centred and scaled."""
    if not len(gaussians):
        return Framed(gaussians, gaussians.means.new_zeros(3), 1.0)
    distances = gaussians.means.norm(dim=1)
    extent = float(distances.kthvalue(round(0.99 * (len(distances) - 1)) + 1).values)
    if smallest <= extent <= largest:
        return Framed(gaussians, gaussians.means.new_zeros(3), 1.0)
    centred = recentre(gaussians)
    scaled = rescale(centred, radius)
    farthest = centred.means.norm(dim=1).argmax()
    before, after = float(centred.means[farthest].norm()), float(scaled.means[farthest].norm())
    scale = after / before if before > 0 else 1.0
    return Framed(replace(scaled), gaussians.means[0] - centred.means[0], scale)
