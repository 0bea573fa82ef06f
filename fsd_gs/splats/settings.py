"""Settings of the splats: how they start, how fast they learn, how they are added and removed. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.core.setting import check, setting
from fsd_gs.errors import ConfigError, InputError

KINDS = ("none", "percentile", "default", "mcmc")


@dataclass(frozen=True)
class StartSettings:
    """Where an optimisation starts (``initialize``)."""

    init: str = setting(
        "ball", "ball, a .ply of splats, a mesh file (.glb, .obj, .stl, .ply), or direct: what a splat-native prior samples", text=True
    )
    direct_steps: int = setting(16, "init=direct: steps of the prior's sampler", low=2, high=1000)
    count: int = setting(4000, "splats at the start", low=1, high=10_000_000)
    radius: float = setting(0.6, "radius of the starting ball in world units", low=1e-6, high=10)
    opacity: float = setting(0.1, "starting opacity", low=1e-4, high=0.999)
    sh_degree: int = setting(0, "degree of the spherical harmonics, 0 to 3 (0: colour does not depend on the view)", low=0, high=3)
    fit: bool = setting(False, "a file of splats: recentre it and scale it into the ball of splats.radius")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class LearningRates:
    """Adam's settings. A rate of 0 freezes the parameter's value; ``means``, ``means_end`` are in units of the scene's extent."""

    means: float = setting(0.01, "learning rate of the centres at the start", low=0)
    means_end: float = setting(0.001, "learning rate of the centres at the end (log-linear)", low=0)
    scales: float = setting(0.02, "learning rate of the log-scales", low=0)
    quats: float = setting(0.01, "learning rate of the quaternions", low=0)
    opacities: float = setting(0.05, "learning rate of the logit-opacities", low=0)
    sh0: float = setting(0.03, "learning rate of the base colour", low=0)
    shN: float = setting(0.0015, "learning rate of the higher SH coefficients (1/20 of sh0, as in 3DGS)", low=0)
    beta1: float = setting(0.9, "Adam's β₁: memory of the gradient", low=0, below=1)
    beta2: float = setting(0.99, "Adam's β₂: memory of its square", low=0, below=1)
    eps: float = setting(1e-15, "Adam's ε; tiny, so that the scale of the loss does not matter", above=0)

    def __post_init__(self) -> None:
        check(self)
        if (self.means == 0) != (self.means_end == 0):
            raise ConfigError(f"means, means_end: expected both above 0 or both 0, got {self.means:g} and {self.means_end:g}")

    def at(self, progress: float, extent: float = 1.0) -> dict[str, float]:
        """Rate of every parameter group at ``progress`` ∈ [0, 1] of the run, for a scene of radius ``extent``."""
        if not 0 <= progress <= 1:
            raise InputError(f"progress: expected a number in [0, 1], got {progress:g}")
        means = self.means * (self.means_end / self.means) ** progress if self.means else 0.0
        return {
            "means": means * extent,
            "scales": self.scales,
            "quats": self.quats,
            "opacities": self.opacities,
            "sh0": self.sh0,
            "shN": self.shN,
        }


@dataclass(frozen=True)
class DensifySettings:
    """How splats are added and removed (``densify``)."""

    kind: str = setting(
        "percentile", "none, percentile (no dependence on the loss scale), default (gsplat) or mcmc (gsplat, CUDA only)", choices=KINDS
    )
    start: float = setting(0.15, "fraction of the run at which densification begins", low=0, high=1)
    stop: float = setting(0.92, "fraction of the run at which it ends", low=0, high=1)
    every: int = setting(25, "steps between two densifications", low=1, high=10_000_000)
    cap: int = setting(12000, "never more splats than this (a start that is above it stays as it is)", low=1, high=50_000_000)
    grow_percentile: float = setting(
        90.0, "percentile: splats above it in accumulated screen-space gradient grow (at least one)", low=0, high=100
    )
    grow_grad2d: float = setting(0.0002, "default: gsplat's gradient threshold (depends on the loss scale)", low=0)
    split_scale: float = setting(0.02, "a growing splat with a σ above this share of the extent is split in two, else doubled", low=0)
    prune_opacity: float = setting(0.02, "splats below this opacity are removed (mcmc moves them)", low=0, below=1)
    ghost_opacity: float = setting(
        0.2,
        "percentile: splats below this opacity go, too: where views disagree, a part stays half there (0: it may)",
        low=0,
        below=1,
    )
    prune_scale: float = setting(
        0.5, "splats with a standard deviation above this, in world units, are removed (inf: none; a low value tears holes)", low=0
    )
    max_prune_fraction: float = setting(0.5, "at most this share goes in one round, the faintest first", low=0, below=1)
    keep_opacity: bool = setting(True, "growing splats share their opacity; off: they keep it, as in 3DGS")
    mcmc_noise: float = setting(1.3e4, "mcmc: noise_lr, multiplied by the rate of the means (gsplat's 5e5 is made for 1.6e-4)", low=0)

    def __post_init__(self) -> None:
        check(self)
        if not self.start <= self.stop:
            raise ConfigError(f"start, stop: expected fractions of the run with 0 ≤ start ≤ stop ≤ 1, got {self.start:g} and {self.stop:g}")


@dataclass(frozen=True)
class SolidifySettings:
    """How what is half there is decided at the end (``train.solidify``)."""

    effort: float = setting(0.4, "steps of it, as a share of the run's; 0: what is half there stays so", low=0, high=100)
    level: float = setting(0.45, "alpha of a pixel from which on it is object", above=0, below=1)
    width: float = setting(0.1, "alpha between clearly nothing and clearly object", above=0, high=1)
    views: int = setting(32, "views that it is decided in", low=4, high=10_000)
    size: int = setting(96, "their side in pixels", low=8, high=4096)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class PullSettings:
    """What keeps an edit near the splats that it starts from (``pull``)."""

    shape: float = setting(
        0.0, "share of the way back to the original's places, sizes, turns and opacities that each step takes", low=0, high=1
    )
    colour: float = setting(0.0, "the same of the original's colours", low=0, high=1)
    keep: str | None = setting(None, "a .npy with a truth value for each splat: true stays as it is, to the bit", text=True)
    region: list[float] = setting([], "x, y, z, radius of a ball in world units: splats whose centres lie outside stay as they are")

    def __post_init__(self) -> None:
        check(self)
        if self.region and (len(self.region) != 4 or not self.region[3] > 0):
            raise ConfigError(f"region: expected x, y, z and a radius above 0, got {list(self.region)}")

    @property
    def active(self) -> bool:
        """Whether splats are compared with, or kept as, the original's."""
        return bool(self.given)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of those that are not as they are by default."""
        return tuple(name for name in ("shape", "colour", "keep", "region") if getattr(self, name))
