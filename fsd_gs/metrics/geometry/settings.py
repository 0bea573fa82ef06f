"""The thresholds of the geometry metrics, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.errors import ConfigError


@dataclass(frozen=True)
class GeometrySettings:
    """Lengths in world units for an object in the unit ball; how far sound objects stay below the limits: docs/geometry.md.

    Attributes:
        min_coverage: less is "empty".
        max_haze: more is "hazy".
        max_holes, max_tears: more of either is "holes". max_coverage, max_escaped, max_border (share of the image border that is covered):
            more is "exploded".
        edge: width e of the surroundings of an outline as a share of the image side (at least 2 pixels).
        hull_angle_deg: δ.
        design_share: part of a gap's rays that must miss the hull.
        hull_samples: points on a ray.
        max_radius: beyond it a splat has escaped; it also bounds the hull.
        tear_depth: τ, how much farther than its rim a tear lies.
        tear_openness: q, share of the other views that may look into it.
        link, reach: splats are connected where |μ_i − μ_j| ≤ max(link, reach (σ_i + σ_j)).
        link_opacity: fainter splats connect nothing.
        huge: σ from which a splat counts as huge.
    """

    min_coverage: float = 0.005
    max_coverage: float = 0.95
    max_haze: float = 0.25
    max_holes: float = 0.005
    max_tears: float = 0.01
    max_escaped: float = 0.1
    max_border: float = 0.3
    edge: float = 0.03
    hull_angle_deg: float = 12.0
    design_share: float = 0.25
    hull_samples: int = 128
    max_radius: float = 1.5
    tear_depth: float = 0.1
    tear_openness: float = 0.25
    link: float = 0.03
    reach: float = 2.0
    link_opacity: float = 0.05
    huge: float = 0.25

    def __post_init__(self) -> None:
        shares = (
            "min_coverage",
            "max_coverage",
            "max_haze",
            "max_holes",
            "max_tears",
            "max_escaped",
            "max_border",
            "edge",
            "design_share",
            "tear_openness",
            "link_opacity",
        )
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a share in [0, 1], got {getattr(self, name):g}")
        for name in ("max_radius", "tear_depth", "huge"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected a length above 0, got {getattr(self, name):g}")
        if not 0 <= self.hull_angle_deg < 90:
            raise ConfigError(f"hull_angle_deg: expected degrees in [0, 90), got {self.hull_angle_deg:g}")
        if self.hull_samples < 2:
            raise ConfigError(f"hull_samples: expected at least 2, got {self.hull_samples}")
