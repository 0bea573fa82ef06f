"""Which splats to drop: non-finite, faint, oversized, escaped, floating.

A floater is a splat in a connected component that carries less than a given share of the mass. Splats i and j are connected
where their reaches meet,

    |μ_i − μ_j| ≤ max(link, k (σ_i + σ_j)),     mass m = o σ̄²,   σ̄ the geometric mean of the three σ,

with σ_i the largest standard deviation. Components are exact (``fsd_gs.core.points``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.points import component_masses
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import ConfigError
from fsd_gs.splats.optimizers import Optimizers
from fsd_gs.splats.parameters import SplatParameters


@dataclass(frozen=True)
class PruneSettings:
    """Thresholds; lengths in world units for an object in the unit ball.

    Attributes:
        min_opacity: fainter splats go (0 keeps all).
        max_scale: splats with a larger σ go; fog as large as the object by default: a low value tears holes.
        max_radius: splats with a centre farther from the origin go.
        floater_fraction: components with less than this share of the mass go (0 keeps all; the heaviest always stays).
        link: the distance that always links.
        reach: k above.
    """

    min_opacity: float = 0.01
    max_scale: float = 0.5
    max_radius: float = 1.5
    floater_fraction: float = 0.02
    link: float = 0.03
    reach: float = 2.0

    def __post_init__(self) -> None:
        for name in ("min_opacity", "floater_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a number in [0, 1], got {getattr(self, name):g}")
        for name in ("max_scale", "max_radius"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected a length above 0 (inf switches it off), got {getattr(self, name):g}")
        for name in ("link", "reach"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ConfigError(f"{name}: expected a finite number of at least 0, got {getattr(self, name):g}")


@dataclass(frozen=True)
class PruneReport:
    """How many splats each rule took; a splat is counted under the first rule that applies, in this order."""

    non_finite: int
    faint: int
    oversized: int
    escaped: int
    floating: int
    kept: int


def floater_mask(gaussians: Gaussians, settings: PruneSettings) -> Tensor:
    """[N] True for splats in components that hold less than ``floater_fraction`` of the mass. All values must be finite."""
    if len(gaussians) < 2 or settings.floater_fraction == 0:
        return torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
    labels, mass = component_masses(gaussians, link=settings.link, reach=settings.reach)
    small = mass < settings.floater_fraction * mass.sum()
    small[mass.argmax()] = False
    return small[labels]


@torch.no_grad()
def prune_masks(gaussians: Gaussians, settings: PruneSettings | None = None) -> dict[str, Tensor]:
    """Disjoint masks [N] by rule: non_finite, faint, oversized, escaped, floating (among what the others leave)."""
    settings = PruneSettings() if settings is None else settings
    g = gaussians
    finite = torch.stack([torch.isfinite(v).flatten(1).all(dim=1) for v in (g.means, g.quats, g.scales, g.opacities[:, None], g.sh)])
    masks = {"non_finite": ~finite.all(dim=0)}
    rest = ~masks["non_finite"]
    rules = {
        "faint": g.opacities < settings.min_opacity,
        "oversized": g.scales.amax(dim=1) > settings.max_scale,
        "escaped": g.means.norm(dim=1) > settings.max_radius,
    }
    for name, rule in rules.items():
        masks[name] = rest & rule
        rest = rest & ~rule
    masks["floating"] = torch.zeros_like(rest)
    masks["floating"][rest] = floater_mask(g.select(rest), settings)
    return masks


def prune_mask(gaussians: Gaussians, settings: PruneSettings | None = None) -> Tensor:
    """[N] True for every splat that any rule of :func:`prune_masks` drops."""
    return torch.stack(list(prune_masks(gaussians, settings).values())).any(dim=0)


def clean(gaussians: Gaussians, settings: PruneSettings | None = None) -> tuple[Gaussians, PruneReport]:
    """``gaussians`` without what :func:`prune_mask` drops (possibly none left), and the count by rule."""
    masks = prune_masks(gaussians, settings)
    kept = ~torch.stack(list(masks.values())).any(dim=0)
    report = PruneReport(**{name: int(mask.sum()) for name, mask in masks.items()}, kept=int(kept.sum()))
    return gaussians.select(kept), report


def top_scored(score: Tensor, candidates: Tensor, budget: int) -> Tensor:
    """Mask [N] of the ``budget`` candidates with the highest ``score`` [N] (all of them if they are fewer); ties by index."""
    if int(candidates.sum()) <= max(budget, 0):
        return candidates
    order = torch.argsort(torch.where(candidates, score, -math.inf), descending=True, stable=True)
    chosen = torch.zeros_like(candidates)
    chosen[order[: max(budget, 0)]] = True
    return chosen


@torch.no_grad()
def removal_mask(params: SplatParameters, min_opacity: float, max_scale: float, max_fraction: float) -> Tensor:
    """[N] splats to remove during training: fainter than ``min_opacity`` or larger than ``max_scale``.

    At most ``max_fraction`` of all, the faintest first: a phase in which everything fades must not empty the scene.
    """
    opacity = params["opacities"].sigmoid()
    removed = (opacity < min_opacity) | (params["scales"].exp().amax(dim=1) > max_scale)
    return top_scored(-opacity, removed, budget=int(max_fraction * len(opacity)))


def prune(params: SplatParameters, optimizers: Optimizers, tensors: dict[str, Tensor], mask: Tensor) -> int:
    """Removes the splats in ``mask`` [N] from parameters, Adam state and ``tensors`` [N, …] in place; returns how many.

    Parameters are replaced by new tensors: fetch them from ``params`` again.
    """
    from gsplat.strategy.ops import remove

    count = int(mask.sum())
    if count:
        remove(params, optimizers, tensors, mask)  # type: ignore[arg-type]
    return count
