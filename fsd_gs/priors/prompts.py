"""What a prompt says from where: view-dependent prompts, their interpolation, and Perp-Neg.

View prompts (DreamFusion, arXiv 2209.14988, §3.2): "a chair" becomes "a chair, front view" for cameras in the front sector, and so on.
Azimuth 0° is the front. With φ the azimuth folded to [0°, 180°] by the left-right symmetry (0 front, 90 side, 180 back):

    overhead   elevation > overhead_deg
    front      φ < front_deg / 2
    back       φ > 180 − back_deg / 2
    side       otherwise

Interpolated: the embedding is r E_a + (1 − r) E_b between the two neighbouring views, r = 1 − φ/90 between front (a) and side (b),
r = 2 − φ/90 between side (a) and back (b).

Perp-Neg (arXiv 2304.04968, §4): with the interpolated prompt as positive, the views are repelled by
the component of their direction that is perpendicular to the positive one,

    ε = ε_neg + s [Δ + Σ_i w_i (Δ_i − ⟨Δ_i, Δ⟩/⟨Δ, Δ⟩ Δ)],   Δ = ε_pos − ε_neg,  Δ_i = ε_i − ε_neg,  w_i = −(a e^{−b r'} + c) ≤ 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from fsd_gs.core.types import Cameras
from fsd_gs.errors import ConfigError

View = Literal["front", "side", "back", "overhead"]
VIEWS: tuple[View, ...] = ("front", "side", "back", "overhead")


@dataclass(frozen=True)
class ViewMix:
    """``weight`` of ``first`` and the rest of ``second``: what one camera sees."""

    first: View
    second: View
    weight: float = 1.0


@dataclass(frozen=True)
class ViewPrompts:
    """Which words a camera adds to the prompt.

    Attributes:
        front_deg, back_deg: full widths of the front and back sectors in degrees of azimuth, in (0, 180].
        overhead_deg: elevation in degrees above which a view is overhead.
        front, side, back, overhead: what is appended to the prompt.
        interpolate: mix the embeddings of neighbouring views instead of switching between them.
    """

    front_deg: float = 90.0
    back_deg: float = 90.0
    overhead_deg: float = 60.0
    front: str = ", front view"
    side: str = ", side view"
    back: str = ", back view"
    overhead: str = ", overhead view"
    interpolate: bool = False

    def __post_init__(self) -> None:
        for name in ("front_deg", "back_deg"):
            if not 0 < getattr(self, name) <= 180:
                raise ConfigError(f"{name}: expected an angle in (0, 180] degrees, got {getattr(self, name):g}")
        if not -90 <= self.overhead_deg <= 90:
            raise ConfigError(f"overhead_deg: expected an elevation in [-90, 90] degrees, got {self.overhead_deg:g}")

    def prompt(self, prompt: str, view: View) -> str:
        """The prompt as said for ``view``."""
        return prompt + getattr(self, view)

    def mix(self, azimuth_deg: float, elevation_deg: float) -> ViewMix:
        """The view, or the two neighbouring views, of one camera."""
        if elevation_deg > self.overhead_deg:
            return ViewMix("overhead", "overhead")
        folded = abs((azimuth_deg + 180.0) % 360.0 - 180.0)
        if self.interpolate:
            return interpolated_mix(folded)
        if folded < self.front_deg / 2:
            return ViewMix("front", "front")
        return ViewMix("back", "back") if folded > 180.0 - self.back_deg / 2 else ViewMix("side", "side")

    def mixes(self, cameras: Cameras) -> list[ViewMix]:
        """One :class:`ViewMix` per camera."""
        angles = zip(cameras.azimuths_deg.tolist(), cameras.elevations_deg.tolist(), strict=True)
        return [self.mix(azimuth, elevation) for azimuth, elevation in angles]


def interpolated_mix(folded_deg: float) -> ViewMix:
    """The neighbouring views of azimuth φ ∈ [0°, 180°] and the weight r of the first."""
    if folded_deg <= 90.0:
        return ViewMix("front", "side", 1.0 - folded_deg / 90.0)
    return ViewMix("side", "back", 2.0 - folded_deg / 90.0)


@dataclass(frozen=True)
class Decay:
    """The repulsion −(a e^{−b r} + c), capped at 0."""

    a: float
    b: float
    c: float

    def __call__(self, r: float) -> float:
        return min(0.0, -(self.a * math.exp(-self.b * r) + self.c))


@dataclass(frozen=True)
class PerpNeg:
    """Strengths of Perp-Neg's repulsion as functions of the interpolation weight r of the first view.

    Between front and side the prompts "front view" and "side view" repel, between side and back "side view" and "front view".
    The defaults are the exponential decays published with the method's 3D version.
    """

    front_in_front_side: Decay = field(default_factory=lambda: Decay(4.0, 0.5, -2.426))
    side_in_front_side: Decay = field(default_factory=lambda: Decay(4.0, 0.5, -2.426))
    side_in_side_back: Decay = field(default_factory=lambda: Decay(1.0, 0.5, -0.606))
    front_in_side_back: Decay = field(default_factory=lambda: Decay(1.0, 0.5, 0.967))

    def weights(self, mix: ViewMix) -> dict[View, float]:
        """View → w_i ≤ 0 for one camera; overhead views repel nothing."""
        r = mix.weight
        if mix.first == "overhead":
            return {"front": 0.0, "side": 0.0}
        if mix.second == "back":
            return {"front": self.front_in_side_back(r), "side": self.side_in_side_back(r)}
        return {"front": self.front_in_front_side(r), "side": self.side_in_front_side(1.0 - r)}


def perpendicular(delta: Tensor, reference: Tensor) -> Tensor:
    """The part of ``delta`` [B, …] that is perpendicular to ``reference`` [B, …], sample by sample."""
    dims = tuple(range(1, delta.ndim))
    projection = (delta * reference).sum(dims, keepdim=True) / (reference * reference).sum(dims, keepdim=True).clamp_min(1e-12)
    return delta - projection * reference


def combine_perp_neg(negative: Tensor, positive: Tensor, repelled: Tensor, weights: Tensor, cfg_scale: float) -> Tensor:
    """CFG with Perp-Neg: negative, positive [B, …]; repelled [n, B, …] predictions for the views to avoid; weights [n, B] ≤ 0."""
    delta = positive - negative
    guided = delta
    for prediction, weight in zip(repelled, weights, strict=True):
        shape = (-1, *([1] * (delta.ndim - 1)))
        guided = guided + weight.to(delta).view(shape) * perpendicular(prediction - negative, delta)
    return negative + cfg_scale * guided
