"""Settings of the noise ε(c). Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fsd_gs.core.setting import check, setting
from fsd_gs.errors import ConfigError
from fsd_gs.noise import NOISES, make_noise


@dataclass(frozen=True)
class NoiseSettings:
    """A kind takes of these what it knows; ``params`` are its own."""

    kind: str = setting("world_map", "world_map (FSD), gaussian (SDS), constant or surface (CFD)", choices=lambda: NOISES)
    theta: int | float | str = setting(180.0, "world map: Θ, degrees of azimuth that one view covers, or auto from fov and distance")
    beta: float = setting(1.0, "share of fixed noise: ε = √β ε_fixed + √(1−β) ε_fresh; 0 is SDS, 1 is FSD", low=0, high=1)
    gamma: float = setting(0.0, "refresh of the fixed noise a step; 1 is annealed SDS", low=0, high=1)
    background: str = setting(
        "fixed", "noise where the object is transparent: fixed (in screen space) or fresh", choices=("fixed", "fresh")
    )
    subcell: bool = setting(False, "world map: variance-preserving sub-cell shifts instead of whole cells")
    like: int | None = setting(None, "seed of an asset to stay close to ('more like this one')", low=0, high=2**63 - 1)
    like_mix: float = setting(0.5, "ρ: share of that seed's noise, mixed as √ρ and √(1−ρ)", low=0, high=1)
    params: dict[str, Any] = setting({}, "parameters of the kind's own, such as noise.params.samples=6")

    def __post_init__(self) -> None:
        check(self)
        theta = self.theta
        if isinstance(theta, str):
            if theta != "auto":
                raise ConfigError(f"theta: expected degrees above 0 or 'auto', got '{theta}'")
        elif not 0 < theta <= 360:
            raise ConfigError(f"theta: expected degrees above 0 or 'auto', at most 360, got {theta:g}")
        if self.params:
            make_noise(self, (1, 1, 1), 0, fov_y_deg=45.0, distance=2.0, radius=0.5)  # refuses what the kind does not have
        if self.like is not None and self.kind != "world_map":
            raise ConfigError(f"like: 'more like this one' mixes world maps, got kind={self.kind}")
