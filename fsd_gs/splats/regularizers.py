"""Scalar penalties on splats and on the rendered alpha; pure functions, differentiable, each with its formula.

All are means, so a weight means the same at any number of splats or pixels. Letters: o_i opacity, s_i scales, a alpha of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsd_gs.core.setting import check, setting

if TYPE_CHECKING:  # the weights are settings, which are listed without torch
    from torch import Tensor

    from fsd_gs.core.types import Gaussians


def opacity_binarity(opacities: Tensor) -> Tensor:
    """mean_i 4 o_i (1 − o_i) ∈ [0, 1]: 0 when every splat is fully there or not at all."""
    return (4 * opacities * (1 - opacities)).mean()


def opacity_mean(opacities: Tensor) -> Tensor:
    """mean_i o_i: fewer visible splats (the L1 of 3DGS-MCMC, arXiv:2404.09591, eq. 10)."""
    return opacities.mean()


def scale_mean(scales: Tensor) -> Tensor:
    """mean over splats and axes of s: smaller splats (the other half of the same equation). scales [N, 3]."""
    return scales.mean()


def anisotropy(scales: Tensor, max_ratio: float = 3.0) -> Tensor:
    """mean_i max(max(s_i)/min(s_i), r) − r: no needles (PhysGaussian, arXiv:2311.12198, eq. 11). scales [N, 3]; r ≥ 1."""
    from fsd_gs.splats.needles import mean_excess

    return mean_excess(scales, max_ratio)


def alpha_entropy(alpha: Tensor) -> Tensor:
    """mean of −a log₂ a − (1 − a) log₂(1 − a) ∈ [0, 1]: a pixel is object or background, not haze."""
    from fsd_gs.splats.entropy import total_entropy

    return total_entropy(alpha) / max(alpha.numel(), 1)


def alpha_sparsity(alpha: Tensor) -> Tensor:
    """mean of √(a² + 0.01): less covered (DreamFusion's opacity loss as threestudio has it)."""
    return (alpha.square() + 0.01).sqrt().mean()


@dataclass(frozen=True)
class Regularizers:
    """Weights of the penalties; a penalty with weight 0 is not computed."""

    opacity: float = setting(0.0, "weight of mean 4 o(1 − o): splats become clear or opaque (thins out young splats: use with care)", low=0)
    opacity_mean: float = setting(0.0, "weight of the mean opacity: fewer visible splats", low=0)
    scale: float = setting(0.0, "weight of the mean scale", low=0)
    anisotropy: float = setting(0.01, "weight of scale ratios above anisotropy_ratio", low=0)
    anisotropy_ratio: float = setting(3.0, "ratio of the longest to the shortest axis that costs nothing", low=1)
    alpha: float = setting(0.3, "weight of the entropy of the rendered alpha: no haze, closed surfaces", low=0)
    alpha_sparsity: float = setting(0.0, "weight of the mean of √(a² + 0.01): less covered", low=0)
    colour_floor: float = setting(
        0.004,
        "no base colour stays below this, sRGB: below 0 the rasterizer cuts it off, its gradient too, and it never comes back (0: it may)",
        low=0,
        below=1,
    )

    def __post_init__(self) -> None:
        check(self)

    def terms(self, gaussians: Gaussians, alpha: Tensor) -> dict[str, Tensor]:
        """Weighted penalties by name, only those with a weight. alpha [V, H, W, 1]."""
        penalties = {
            "opacity": (self.opacity, lambda: opacity_binarity(gaussians.opacities)),
            "opacity_mean": (self.opacity_mean, lambda: opacity_mean(gaussians.opacities)),
            "scale": (self.scale, lambda: scale_mean(gaussians.scales)),
            "anisotropy": (self.anisotropy, lambda: anisotropy(gaussians.scales, self.anisotropy_ratio)),
            "alpha": (self.alpha, lambda: alpha_entropy(alpha)),
            "alpha_sparsity": (self.alpha_sparsity, lambda: alpha_sparsity(alpha)),
        }
        return {name: weight * penalty() for name, (weight, penalty) in penalties.items() if weight}

    def __call__(self, gaussians: Gaussians, alpha: Tensor) -> Tensor:
        """Sum of :meth:`terms`, a scalar; 0 without gradient when all weights are 0."""
        return sum(self.terms(gaussians, alpha).values(), start=alpha.new_zeros(()))
