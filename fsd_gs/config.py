"""The settings of a run: a section for each family, which is that family's own dataclass; YAML files and ``key=value`` overrides on top.

    settings = load_config(files=["configs/methods/sds.yaml"], overrides=["prompt=a red chair", "steps=300"])

Later sources win: defaults < files in order < overrides. Unknown keys are refused with the nearest valid one (``core.configure``).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fsd_gs.core.configure import Row, rows_of, settings_from, to_yaml, value_of
from fsd_gs.core.configure import load_settings as load_tree
from fsd_gs.core.orbit import OrbitSettings
from fsd_gs.core.quality import GOOD, QUALITIES, quality_settings
from fsd_gs.core.setting import check, group, setting
from fsd_gs.core.stages import Part, split
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.settings import GuidanceSettings, ScheduleSettings
from fsd_gs.noise.settings import NoiseSettings
from fsd_gs.priors.settings import PriorSettings
from fsd_gs.render.settings import RenderSettings
from fsd_gs.splats.regularizers import Regularizers
from fsd_gs.splats.settings import DensifySettings, LearningRates, PullSettings, SolidifySettings, StartSettings

__all__ = [
    "Config",
    "Row",
    "config_files",
    "config_from_dict",
    "config_names",
    "config_roots",
    "describe_settings",
    "free_settings",
    "group",
    "load_config",
    "load_settings",
    "rows_of",
    "setting",
    "to_yaml",
    "value_of",
]

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class OutputSettings:
    """What is written, and when."""

    preview_every: int = setting(50, "steps between two live previews (0 = only at the end)", low=0, high=10_000_000, free=True)
    checkpoint_every: int = setting(100, "steps between two checkpoints (0 = only on Ctrl-C)", low=0, high=10_000_000, free=True)
    turntable_frames: int = setting(60, "frames of turntable.mp4 (0 = none)", low=0, high=100_000, free=True)
    timelapse: bool = setting(True, "make timelapse.mp4 from the live previews", free=True)
    turntable_size: int = setting(256, "side of the turntable in pixels", low=16, high=8192, free=True)
    clean: bool = setting(True, "remove floaters and invisible splats at the end")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class GuardSettings:
    """What happens when values stop being finite (``train.guard``)."""

    snapshot_every: int = setting(20, "steps between two rollback points", low=1, high=10_000_000)
    max_rollbacks: int = setting(5, "rollbacks before the run gives up", low=0, high=1000)
    rate_factor: float = setting(0.5, "learning rates are multiplied by this at a rollback", low=0.01, high=1)

    def __post_init__(self) -> None:
        check(self)


#: What a stage may have for itself; everything else belongs to the whole run.
STAGED = (
    *("negative_prompt", "render.sizes", "render.size_at", "render.background"),
    *("prior.", "cameras.", "rates.", "densify.", "noise.", "schedule.", "guidance.", "regularize."),
)

METHODS_2D = ("ddim", "fsd", "sds-annealed", "sds")


@dataclass(frozen=True)
class Image2DSettings:
    """mode=2d: what is compared."""

    methods: list[str] = setting(
        list(METHODS_2D), "rows of the picture: ddim (exact rule), fsd, sds-annealed, sds", choices=METHODS_2D, free=True
    )
    exact_steps: int = setting(50, "steps of ddim; the other rows take `steps`", low=1, high=1000, free=True)
    spacing: str = setting("leading", "timesteps of ddim", choices=("leading", "trailing", "linspace"), free=True)
    space: str = setting(
        "latent", "what Adam moves: latents, or the image's pixels through the encoder", choices=("latent", "image"), free=True
    )
    rate: float = setting(0.02, "Adam's learning rate", above=0, free=True)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Config:
    """All settings of one run."""

    mode: str = setting(
        "3d", "3d (splats), or 2d (the same guidance on images: a grid of methods × seeds)", choices=("3d", "2d"), free=True
    )
    prompt: str = setting("", "what to make, in words", text=True)
    negative_prompt: str = setting("", "what to avoid (text backbones)", text=True)
    seed: int = setting(0, "one number decides everything; another seed gives another asset", low=0, high=2**63 - 1)
    count: int = setting(1, "how many assets: seeds seed, seed + 1, …", low=1, high=10_000, free=True)
    keep: int = setting(0, "with count > 1: how many come first, the best by their score; 0: in the order of seeds", low=0, free=True)
    quality: str = setting(
        GOOD,
        "draft, good or best: steps, views, sizes, splats and turntable together, as multiples of the preset's; settings beside it win",
        choices=QUALITIES,
        free=True,
    )
    steps: int = setting(300, "optimisation steps; 0: the splats as they start (splats.init)", low=0, high=10_000_000)
    stages: list[dict[str, Any]] = setting(
        [], "parts of the run one after the other, each with a prior, times, sizes, … of its own and a share of the steps (docs/stages.md)"
    )
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", free=True)
    output: str = setting("outputs", "folder for results: OUTPUT/<prompt>/seed-0000/", text=True, free=True)
    reseed: int = setting(
        1,
        "with count > 1: how often a failed asset (empty, hazy, exploded, holes, unclear) is tried again with another seed",
        low=0,
        high=100,
        free=True,
    )
    viewer: bool = setting(False, "watch the splats grow in the browser", free=True)
    viewer_host: str = setting("127.0.0.1", "address the viewer listens on; 0.0.0.0 opens it to the network", free=True)
    viewer_port: int = setting(8080, "port of the viewer", low=0, high=65535, free=True)
    resume: bool = setting(False, "go on with an unfinished run in the same folder", free=True)
    overwrite: bool = setting(False, "replace an existing run", free=True)
    anyway: bool = setting(False, "go on without the words of the prompt that the prior does not know", free=True)
    prior: PriorSettings = group(PriorSettings, "the diffusion backbone")
    cameras: OrbitSettings = group(OrbitSettings, "where the object is looked at from")
    render: RenderSettings = group(RenderSettings, "how splats become pictures")
    splats: StartSettings = group(StartSettings, "how the splats start")
    rates: LearningRates = group(LearningRates, "Adam's learning rates")
    densify: DensifySettings = group(DensifySettings, "how splats are added and removed")
    noise: NoiseSettings = group(NoiseSettings, "ε(c): what makes FSD different")
    schedule: ScheduleSettings = group(ScheduleSettings, "t(τ): the diffusion time over the run")
    guidance: GuidanceSettings = group(GuidanceSettings, "the residual and its weight")
    regularize: Regularizers = group(Regularizers, "gentle pressure towards clean splats")
    pull: PullSettings = group(PullSettings, "what keeps an edit near its original")
    solidify: SolidifySettings = group(SolidifySettings, "how what is half there is decided at the end")
    outputs: OutputSettings = group(OutputSettings, "what is written, and when")
    image2d: Image2DSettings = group(Image2DSettings, "mode=2d: what is compared")
    guard: GuardSettings = group(GuardSettings, "what happens when values stop being finite")

    def __post_init__(self) -> None:
        check(self)
        if self.steps == 0 and (self.splats.init == "ball" or self.mode == "2d"):
            raise ConfigError("steps: expected at least 1, got 0; no steps at all need splats.init=direct or a file to start from")
        if self.guidance.cfg_rescale > 0 and self.prior.cfg_rescale > 0:
            raise ConfigError(
                f"guidance.cfg_rescale: prior.cfg_rescale={self.prior.cfg_rescale:g} rescales already, got {self.guidance.cfg_rescale:g}; "
                "set one of the two to 0"
            )
        if self.pull.active and (self.splats.init in ("ball", "direct") or self.densify.kind != "none"):
            raise ConfigError(
                f"{', '.join(f'pull.{name}' for name in self.pull.given)}: a pull compares each splat with one of a file: it needs "
                f"splats.init=FILE and densify.kind=none, got {self.splats.init} and {self.densify.kind}"
            )
        if self.stages:
            if self.mode == "2d":
                raise ConfigError("stages: mode=2d has none; leave them out")
            self.split()

    def split(self) -> tuple[Part[Config], ...]:
        """The run's parts, each with its settings as if it were a run; a run without ``stages`` is one part."""
        return split(self, lambda key: key.startswith(STAGED))


_PACKAGE = Path(__file__).resolve().parent


def config_roots() -> list[Path]:
    """Where names of configurations are looked up: ``configs/`` of this folder, then the package's own.

    An installed package holds them as ``fsd_gs/configs``; in a source tree that is the top-level folder.
    """
    shipped = _PACKAGE / "configs"
    return [Path("configs"), shipped if shipped.is_dir() else _PACKAGE.parent / "configs"]


def config_files(name: str) -> Path:
    """The YAML file that ``name`` means: a path, else a name in one of :func:`config_roots`, with or without ``configs/`` and ``.yaml``."""
    inside = name.removeprefix("configs/")
    for candidate in (Path(name), Path(f"{name}.yaml"), *(root / f"{inside}{end}" for root in config_roots() for end in ("", ".yaml"))):
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):  # a name that no file can have
            break
    raise ConfigError(f"--config: no file '{name}' (known: {', '.join(config_names())})")


def config_names(*patterns: str) -> list[str]:
    """The names of the files in :func:`config_roots`; patterns: only those that match one of them (default: all)."""
    found = ((root, path) for root in config_roots() for pattern in patterns or ("**/*.yaml",) for path in root.glob(pattern))
    return sorted({path.relative_to(root).with_suffix("").as_posix() for root, path in found})


def load_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> Config:
    """Merge defaults, YAML files and ``key=value`` overrides, in this order, into a checked :class:`Config`.

    Raises:
        ConfigError: one clear line for an unknown key (with the nearest valid one), a wrong type or a bad value.
    """
    return load_tree(Config, _named(files), overrides, ("quality", quality_settings))


def load_settings(cls: type[Settings], files: Sequence[str | Path], overrides: Sequence[str]) -> Settings:
    """Any tree of settings dataclasses, merged and checked as :func:`load_config` does."""
    return load_tree(cls, _named(files), overrides)


def _named(files: Sequence[str | Path]) -> list[tuple[str, Path]]:
    return [(str(file), config_files(str(file))) for file in files]


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """A checked :class:`Config` from a nested dictionary (as in ``config.yaml``)."""
    return settings_from(Config, values)


@functools.cache
def free_settings(cls: type = Config) -> frozenset[str]:
    """Dotted names of the settings that cannot change what the splats become (``setting(..., free=True)``)."""
    return frozenset(row.key for row in rows_of(cls) if row.field.metadata.get("free"))


def describe_settings(cls: type = Config) -> list[tuple[str, Any, str]]:
    """(key, default, meaning) of every setting, in order."""
    return [(row.key, row.default, row.meaning) for row in rows_of(cls)]
