"""Settings of the cameras that a run looks from; ``cameras.OrbitSampler`` draws them. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.core.setting import check, setting
from fsd_gs.errors import InputError


@dataclass(frozen=True)
class OrbitSettings:
    """Azimuths are stratified: one random rotation, then 360°/views apart (as MVDream was trained), so that every batch sees the object
    from all around. Elevation is uniform in its range; fov and distance are drawn once a batch so that all views agree."""

    views: int = setting(4, "views rendered a step, their azimuths 360°/views apart", low=1, high=1024)
    elevation_deg: tuple[float, float] = setting((0.0, 30.0), "lowest and highest elevation", low=-90, high=90)
    fov_y_deg: tuple[float, float] = setting((49.1, 49.1), "smallest and largest vertical field of view", above=0, below=180)
    distance: tuple[float, float] = setting((2.2, 2.2), "smallest and largest distance from the origin", above=0, high=1000)
    azimuth_grid: int = setting(
        32, "number of azimuths the batch snaps to, 0 = continuous (the exact prior caches its renders)", low=0, high=100_000
    )
    elevation_grid: int = setting(3, "number of elevations the batch snaps to, 0 = continuous", low=0, high=100_000)
    same_elevation: bool = setting(True, "one elevation for the whole batch; off: one for each view")

    def __post_init__(self) -> None:
        check(self)
        for name in ("elevation_deg", "fov_y_deg", "distance"):
            bounds = getattr(self, name)
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise InputError(f"{name}: expected [low, high] with low ≤ high, got {list(bounds)}")
        if self.azimuth_grid % self.views:
            raise InputError(f"azimuth_grid: expected 0 or a multiple of views ({self.views}), got {self.azimuth_grid}")
