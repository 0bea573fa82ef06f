"""Statistics of the splats themselves, without any image.

Letters: μ means, σ_1 ≥ σ_2 ≥ σ_3 scales, o opacity; mass m = o σ̄² with σ̄ = (σ_1 σ_2 σ_3)^⅓, about what a splat covers of a picture.

floaters     share of the mass of the linking splats (o ≥ link_opacity: what one can see) outside their heaviest connected component
             (``floaters``); floater_count the components besides it.
escaped      share of the mass with centres outside ``max_radius``.
anisotropy   σ_1 / σ_3: 1 is a ball, large a disk or a needle. needles: share of the splats with σ_1 > 10 σ_2, which spike out of
             silhouettes; disks on a surface do not count.
transparent  share of the splats with o < 0.05; huge: share with σ_1 > ``huge``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from fsd_gs.core.points import component_masses, splat_mass
from fsd_gs.core.types import Gaussians
from fsd_gs.metrics.geometry.settings import GeometrySettings

PERCENTILES = (5, 50, 95, 100)
TRANSPARENT, NEEDLE = 0.05, 10.0


@dataclass(frozen=True)
class SplatStatistics:
    """count.

    Attributes:
        non_finite: splats with a NaN or infinity, left out of the rest.
        opacity_histogram: splats in ten equal bins of [0, 1].
        scale_percentiles, anisotropy_percentiles: 5, 50, 95, 100 % of σ_1 and σ_1 / σ_3.
        extent: 95 % of the mass lies within it of the origin.
        components: see the module, as for the shares escaped, floaters, transparent, huge, needles.
    """

    count: int
    non_finite: int = 0
    opacity_histogram: tuple[int, ...] = (0,) * 10
    scale_percentiles: tuple[float, ...] = (0.0,) * len(PERCENTILES)
    extent: float = 0.0
    escaped: float = 0.0
    components: int = 0
    floaters: float = 0.0
    opacity_mean: float = 0.0
    anisotropy_percentiles: tuple[float, ...] = (0.0,) * len(PERCENTILES)
    transparent: float = 0.0
    huge: float = 0.0
    needles: float = 0.0

    @property
    def floater_count(self) -> int:
        return max(self.components - 1, 0)


@torch.no_grad()
def splat_statistics(gaussians: Gaussians, settings: GeometrySettings | None = None) -> SplatStatistics:
    """Counts and shares over the finite splats; every share of an empty set is 0."""
    settings = GeometrySettings() if settings is None else settings
    values = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[:, None], gaussians.sh.flatten(1))
    finite = torch.isfinite(torch.cat([v.detach() for v in values], dim=1)).all(dim=1)
    g = gaussians.detach().select(finite).to("cpu", torch.float64)
    nothing = SplatStatistics(len(gaussians), int((~finite).sum()))
    if not len(g):
        return nothing
    means, opacities = g.means.numpy(), g.opacities.numpy()
    scales = np.sort(g.scales.numpy(), axis=1)[:, ::-1]
    mass = splat_mass(g).numpy()
    radius, largest = np.linalg.norm(means, axis=1), scales[:, 0]
    by_component = (
        component_masses(g.select(g.opacities >= settings.link_opacity), link=settings.link, reach=settings.reach)[1].sort().values
    )
    return replace(
        nothing,
        opacity_histogram=tuple(int(n) for n in np.histogram(opacities, bins=10, range=(0, 1))[0]),
        scale_percentiles=_percentiles(largest),
        extent=_radius_of_mass(radius, mass, 0.95),
        escaped=float(mass[radius > settings.max_radius].sum()) / _positive(mass.sum()),
        components=len(by_component),
        floaters=float(by_component[:-1].sum()) / _positive(float(by_component.sum())),
        opacity_mean=float(opacities.mean()),
        anisotropy_percentiles=_percentiles(largest / np.maximum(scales[:, 2], 1e-12)),
        transparent=float((opacities < TRANSPARENT).mean()),
        huge=float((largest > settings.huge).mean()),
        needles=float((largest > NEEDLE * scales[:, 1]).mean()),
    )


def _percentiles(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(p) for p in np.percentile(values, PERCENTILES))


def _radius_of_mass(radius: np.ndarray, mass: np.ndarray, share: float) -> float:
    """The smallest radius within which ``share`` of the mass lies."""
    order = np.argsort(radius)
    within = int(np.searchsorted(np.cumsum(mass[order]), share * float(mass.sum())))
    return float(radius[order][min(within, len(radius) - 1)])


def _positive(value: float) -> float:
    return max(float(value), float(np.finfo(np.float64).tiny))
