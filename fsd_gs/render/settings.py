"""Settings of rendering. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.core.setting import check, setting
from fsd_gs.errors import ConfigError, InputError

BACKENDS = ("auto", "cpu", "cuda", "reference")
BACKGROUNDS = ("random", "white", "gray", "black")


@dataclass(frozen=True)
class RasterizerSettings:
    """What all rasterizers can be told."""

    near_plane: float = setting(0.01, "nothing nearer than this is drawn, in world units along the view", above=0)
    far_plane: float = setting(100.0, "nothing farther than this is drawn", above=0)
    eps2d: float = setting(0.3, "pixel² added to each projected covariance", low=0)
    radius_clip: float = setting(0.0, "splats of at most this radius in pixels are skipped", low=0)
    antialiased: bool = setting(
        False, "compensate the opacity of small splats (Mip-Splatting); exported files then need a viewer that does the same"
    )
    absgrad: bool = setting(False, "also sum |∂L/∂means2d| over pixels, for densification by it")

    def __post_init__(self) -> None:
        check(self)
        if not self.near_plane < self.far_plane:
            raise InputError(f"near_plane, far_plane: expected 0 < near < far, got {self.near_plane:g} and {self.far_plane:g}")


@dataclass(frozen=True)
class RenderSettings(RasterizerSettings):
    """How splats become the pictures of a run: the rasterizer's own settings, and which one, how large, on what."""

    backend: str = setting("auto", "rasterizer: auto, cpu, cuda or reference", choices=BACKENDS)
    sizes: list[int] = setting([64], "image sides in pixels over the run; the prior resizes to its own", low=8, high=16384)
    size_at: list[float] = setting([0.0], "fraction of the run at which each of render.sizes begins", low=0, high=1)
    background: str = setting("random", "random (a colour each step), white, gray or black", choices=BACKGROUNDS)

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes, at = self.sizes, self.size_at
        if not sizes or len(sizes) != len(at) or at[0] != 0 or list(at) != sorted(at):
            raise ConfigError(f"sizes, size_at: expected as many sizes as rising fractions that begin at 0, got {sizes} at {at}")
