"""Every setting, its default and its meaning: a tree of dataclasses, YAML files and ``key=value`` overrides.

    settings = load_config(files=["configs/methods/sds.yaml"], overrides=["prompt=a red chair", "steps=300"])

Later sources win: defaults < preset of the prior < files in order < overrides. Unknown keys are refused with the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fsd_gs.errors import ConfigError, unknown_name

Settings = TypeVar("Settings")


def setting(default: Any, meaning: str, *, free: bool = False) -> Any:
    """A field with its meaning for ``--help``; lists are copied for each instance.

    free: the value cannot change what the splats become, so it may differ when a run is resumed and is no part of its identity.
    """
    metadata = {"help": meaning, "free": free}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(cls: type, meaning: str) -> Any:
    """A field that holds a nested group of settings."""
    return field(default_factory=cls, metadata={"help": meaning})


@dataclass
class PriorConfig:
    name: str = setting(
        "nano",
        "backbone: nano (small, ships with the package), exact (looks objects up; --config exact), sd15, sd21, sdxl, lcm, turbo, sd3, "
        "flux, mvdream, a folder or a hub id",
    )
    dtype: str = setting("auto", "precision of the network: auto, float32, bfloat16 or float16; splats stay float32")
    objects: int = setting(24, "exact prior: objects that match the prompt in its finite set")
    distractors: int = setting(12, "exact prior: objects of other kinds in its unconditional set")
    catalogue_seed: int = setting(0, "exact prior: which objects are drawn from the procedural catalogue")
    lora: str | None = setting(None, "diffusers backbones: path of LoRA weights")
    lora_scale: float = setting(1.0, "diffusers backbones: strength of the LoRA weights")
    compile: bool = setting(False, "diffusers backbones: torch.compile the network and the encoder")
    tiny_vae: str | None = setting(None, "diffusers backbones: path or id of an AutoencoderTiny (TAESD) used as encoder")
    view_prompts: bool = setting(True, "single-view backbones: add 'front view', 'side view', … by azimuth")
    perp_neg: bool = setting(False, "single-view backbones: Perp-Neg against the opposite views (arXiv 2304.04968)")
    image_size: int | None = setting(None, "diffusers backbones: side of the images in pixels; null is the network's own")
    config: str | None = setting(None, "single-file checkpoints: folder or hub id with the configs and tokenizers they lack")
    offline: bool = setting(False, "never contact a hub, even for configuration files")


@dataclass
class CameraConfig:
    views: int = setting(4, "views rendered a step, their azimuths 360°/views apart")
    elevation_deg: list[float] = setting([0.0, 30.0], "lowest and highest elevation")
    fov_y_deg: list[float] = setting([49.1, 49.1], "smallest and largest vertical field of view")
    distance: list[float] = setting([2.2, 2.2], "smallest and largest distance from the origin")
    azimuth_grid: int = setting(32, "number of azimuths the batch snaps to, 0 = continuous (the exact prior caches its renders)")
    elevation_grid: int = setting(3, "number of elevations the batch snaps to, 0 = continuous")


@dataclass
class RenderConfig:
    backend: str = setting("auto", "rasterizer: auto, cpu, cuda or reference")
    sizes: list[int] = setting([64], "image sides in pixels over the run; the prior resizes to its own")
    size_at: list[float] = setting([0.0], "fraction of the run at which each of render.sizes begins")
    background: str = setting("random", "random (a colour each step), white, gray or black")
    antialiased: bool = setting(
        False, "compensate the opacity of small splats (Mip-Splatting); exported files then need a viewer that does the same"
    )
    eps2d: float = setting(0.3, "pixel² added to each projected covariance")


@dataclass
class SplatConfig:
    init: str = setting("ball", "ball, or a .ply of splats, or a mesh file (.glb, .obj, .stl, .ply)")
    count: int = setting(4000, "splats at the start")
    radius: float = setting(0.6, "radius of the starting ball in world units")
    opacity: float = setting(0.1, "starting opacity")
    sh_degree: int = setting(0, "degree of the spherical harmonics, 0 to 3 (0: colour does not depend on the view)")


@dataclass
class RateConfig:
    means: float = setting(0.01, "learning rate of the centres at the start")
    means_end: float = setting(0.001, "learning rate of the centres at the end (log-linear)")
    scales: float = setting(0.02, "learning rate of the log-scales")
    quats: float = setting(0.01, "learning rate of the quaternions")
    opacities: float = setting(0.05, "learning rate of the logit-opacities")
    sh0: float = setting(0.03, "learning rate of the base colour")
    shN: float = setting(0.0015, "learning rate of the higher SH coefficients")


@dataclass
class DensifyConfig:
    kind: str = setting("percentile", "none, percentile (no dependence on the loss scale), default (gsplat) or mcmc (gsplat, CUDA only)")
    start: float = setting(0.15, "fraction of the run at which densification begins")
    stop: float = setting(0.7, "fraction of the run at which it ends")
    every: int = setting(25, "steps between two densifications")
    cap: int = setting(12000, "never more splats than this")
    grow_percentile: float = setting(90.0, "percentile: splats above it in accumulated screen-space gradient grow")
    grow_grad2d: float = setting(0.0002, "default: gsplat's gradient threshold (depends on the loss scale)")
    prune_opacity: float = setting(0.02, "splats below this opacity are removed")
    prune_scale: float = setting(0.5, "splats with a standard deviation above this, in world units, are removed (inf: none)")


@dataclass
class NoiseConfig:
    kind: str = setting("world_map", "world_map (FSD), gaussian (SDS), constant or surface (CFD)")
    theta: int | float | str = setting(180.0, "world map: Θ, degrees of azimuth that one view covers, or auto from fov and distance")
    beta: float = setting(1.0, "share of fixed noise: ε = √β ε_fixed + √(1−β) ε_fresh; 0 is SDS, 1 is FSD")
    gamma: float = setting(0.0, "refresh of the fixed noise a step; 1 is annealed SDS")
    background: str = setting("fixed", "noise where the object is transparent: fixed (in screen space) or fresh")
    subcell: bool = setting(False, "world map: variance-preserving sub-cell shifts instead of whole cells")
    like: int | None = setting(None, "seed of an asset to stay close to ('more like this one')")
    like_mix: float = setting(0.5, "ρ: share of that seed's noise, mixed as √ρ and √(1−ρ)")


@dataclass
class ScheduleConfig:
    kind: str = setting("linear", "t over the run: linear, sqrt (HiFA), dreamtime, piecewise or random (SDS)")
    start: float = setting(0.98, "t at the first step")
    end: float = setting(0.4, "t at the last step: below this the embedded network spoils more than it adds (docs/results.md)")
    progress: list[float] = setting([0.0, 1.0], "piecewise: fractions of the run")
    values: list[float] = setting([0.98, 0.02], "piecewise: t at those fractions")


@dataclass
class GuidanceConfig:
    method: str = setting("score", "score (SDS, annealed SDS and FSD alike), ism, sdi, dsd, nfsd, vsd, rfds or ucm")
    cfg_scale: float = setting(5.0, "classifier-free guidance, ε_neg + s (ε_text − ε_neg); 1: none")
    cfg_rescale: float = setting(0.0, "CFG rescale, 0 to 1")
    weight: str = setting("lambda", "w(t): one, sigma, sigma2, fantasia3d, lambda, lambda_capped, or auto (as the method was published)")


@dataclass
class RegularizeConfig:
    opacity: float = setting(0.0, "weight of mean 4 o(1 − o): splats become clear or opaque (thins out young splats: use with care)")
    alpha: float = setting(0.05, "weight of the entropy of the rendered alpha: no haze, closed surfaces")
    scale: float = setting(0.0, "weight of the mean scale")
    anisotropy: float = setting(0.01, "weight of scale ratios above 8")


@dataclass
class OutputConfig:
    preview_every: int = setting(50, "steps between two live previews (0 = only at the end)", free=True)
    checkpoint_every: int = setting(100, "steps between two checkpoints (0 = only on Ctrl-C)", free=True)
    turntable_frames: int = setting(60, "frames of turntable.mp4 (0 = none)", free=True)
    timelapse: bool = setting(True, "make timelapse.mp4 from the live previews", free=True)
    turntable_size: int = setting(256, "side of the turntable in pixels", free=True)
    clean: bool = setting(True, "remove floaters and invisible splats at the end")


@dataclass
class GuardConfig:
    snapshot_every: int = setting(20, "steps between two rollback points")
    max_rollbacks: int = setting(5, "rollbacks before the run gives up")
    rate_factor: float = setting(0.5, "learning rates are multiplied by this at a rollback")


@dataclass
class Image2DConfig:
    methods: list[str] = setting(
        ["ddim", "fsd", "sds-annealed", "sds"], "rows of the picture: ddim (exact rule), fsd, sds-annealed, sds", free=True
    )
    exact_steps: int = setting(50, "steps of ddim; the other rows take `steps`", free=True)
    spacing: str = setting("leading", "timesteps of ddim: leading, trailing or linspace", free=True)
    space: str = setting("latent", "what Adam moves: latent or image (pixels, through the encoder)", free=True)
    rate: float = setting(0.02, "Adam's learning rate", free=True)


@dataclass
class Config:
    """All settings of one run."""

    mode: str = setting("3d", "3d (splats), or 2d (the same guidance on images: a grid of methods × seeds)", free=True)
    prompt: str = setting("", "what to make, in words")
    negative_prompt: str = setting("", "what to avoid (text backbones)")
    seed: int = setting(0, "one number decides everything; another seed gives another asset")
    count: int = setting(1, "how many assets: seeds seed, seed + 1, …", free=True)
    steps: int = setting(300, "optimisation steps")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", free=True)
    output: str = setting("outputs", "folder for results: OUTPUT/<prompt>/seed-0000/", free=True)
    reseed: int = setting(
        1, "with count > 1: how often a failed asset (empty, hazy, exploded, holes) is tried again with another seed", free=True
    )
    viewer: bool = setting(False, "watch the splats grow in the browser", free=True)
    viewer_host: str = setting("127.0.0.1", "address the viewer listens on; 0.0.0.0 opens it to the network", free=True)
    viewer_port: int = setting(8080, "port of the viewer", free=True)
    resume: bool = setting(False, "go on with an unfinished run in the same folder", free=True)
    overwrite: bool = setting(False, "replace an existing run", free=True)
    prior: PriorConfig = group(PriorConfig, "the diffusion backbone")
    cameras: CameraConfig = group(CameraConfig, "where the object is looked at from")
    render: RenderConfig = group(RenderConfig, "how splats become pictures")
    splats: SplatConfig = group(SplatConfig, "how the splats start")
    rates: RateConfig = group(RateConfig, "Adam's learning rates")
    densify: DensifyConfig = group(DensifyConfig, "how splats are added and removed")
    noise: NoiseConfig = group(NoiseConfig, "ε(c): what makes FSD different")
    schedule: ScheduleConfig = group(ScheduleConfig, "t(τ): the diffusion time over the run")
    guidance: GuidanceConfig = group(GuidanceConfig, "the residual and its weight")
    regularize: RegularizeConfig = group(RegularizeConfig, "gentle pressure towards clean splats")
    outputs: OutputConfig = group(OutputConfig, "what is written, and when")
    image2d: Image2DConfig = group(Image2DConfig, "mode=2d: what is compared")
    guard: GuardConfig = group(GuardConfig, "what happens when values stop being finite")

    def __post_init__(self) -> None:
        _check_ranges(self)


# key → (lowest, highest) allowed, both inclusive; what cannot be expressed by a type.
_RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, 10_000_000),
    "seed": (0, 2**63 - 1),
    "count": (1, 10_000),
    "reseed": (0, 100),
    "viewer_port": (0, 65535),
    "prior.objects": (1, 1000),
    "prior.distractors": (0, 1000),
    "cameras.views": (1, 1024),
    "splats.count": (1, 10_000_000),
    "splats.radius": (1e-6, 10.0),
    "splats.opacity": (1e-4, 0.999),
    "splats.sh_degree": (0, 3),
    "densify.every": (1, 10_000_000),
    "densify.cap": (1, 50_000_000),
    "densify.grow_percentile": (0, 100),
    "noise.beta": (0, 1),
    "noise.gamma": (0, 1),
    "noise.like_mix": (0, 1),
    "schedule.start": (0, 1),
    "schedule.end": (0, 1),
    "guidance.cfg_scale": (0, 1000),
    "guidance.cfg_rescale": (0, 1),
    "outputs.preview_every": (0, 10_000_000),
    "outputs.checkpoint_every": (0, 10_000_000),
    "outputs.turntable_frames": (0, 100_000),
    "outputs.turntable_size": (16, 8192),
    "image2d.exact_steps": (1, 1000),
    "guard.snapshot_every": (1, 10_000_000),
    "guard.max_rollbacks": (0, 1000),
    "guard.rate_factor": (0.01, 1.0),
}

_CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("3d", "2d"),
    "image2d.spacing": ("leading", "trailing", "linspace"),
    "image2d.space": ("latent", "image"),
    "prior.dtype": ("auto", "float32", "bfloat16", "float16"),
    "render.backend": ("auto", "cpu", "cuda", "reference"),
    "render.background": ("random", "white", "gray", "black"),
    "densify.kind": ("none", "percentile", "default", "mcmc"),
    "noise.kind": ("world_map", "gaussian", "constant", "surface"),
    "noise.background": ("fixed", "fresh"),
    "schedule.kind": ("linear", "sqrt", "dreamtime", "piecewise", "random"),
    "guidance.method": ("score", "ism", "sdi", "dsd", "nfsd", "vsd", "rfds", "ucm"),
    "guidance.weight": ("one", "sigma", "sigma2", "fantasia3d", "lambda", "lambda_capped", "auto"),
}


def _lookup(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _check_ranges(config: Config) -> None:
    for key, (low, high) in _RANGES.items():
        value = _lookup(config, key)
        if not low <= value <= high:
            raise ConfigError(f"{key}: expected a value from {low:g} to {high:g}, got {value}")
    for key, choices in _CHOICES.items():
        value = _lookup(config, key)
        if value not in choices:
            raise ConfigError(unknown_name(key, value, choices))
    theta = config.noise.theta
    if isinstance(theta, str) and theta != "auto":
        raise ConfigError(f"noise.theta: expected degrees above 0 or 'auto', got '{theta}'")
    if not isinstance(theta, str) and theta <= 0:
        raise ConfigError(f"noise.theta: expected degrees above 0 or 'auto', got {theta:g}")
    for key in ("cameras.elevation_deg", "cameras.fov_y_deg", "cameras.distance"):
        bounds = _lookup(config, key)
        if len(bounds) != 2 or bounds[0] > bounds[1]:
            raise ConfigError(f"{key}: expected [low, high] with low ≤ high, got {list(bounds)}")
    if config.schedule.kind != "random" and config.schedule.end > config.schedule.start:
        raise ConfigError(
            f"schedule: expected start ≥ end (t falls, so that the run follows the DDIM path), got {config.schedule.start:g} → "
            f"{config.schedule.end:g}; schedule.kind=random has no order"
        )
    sizes, size_at = config.render.sizes, config.render.size_at
    if not sizes or len(sizes) != len(size_at) or size_at[0] != 0 or list(size_at) != sorted(size_at) or min(sizes) < 8:
        raise ConfigError(
            f"render.sizes, render.size_at: expected as many sizes (≥ 8) as rising fractions that begin at 0, got {sizes} at {size_at}"
        )


def config_files(name: str) -> Path:
    """The YAML file that ``name`` means: a path, or a name below ``configs/`` of this folder or of the source tree."""
    roots = [Path(), Path("configs"), Path(__file__).resolve().parent.parent / "configs"]
    for root in roots:
        for candidate in (root / name, root / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = sorted({str(p.relative_to(r).with_suffix("")) for r in roots[1:] for p in r.rglob("*.yaml")})
    raise ConfigError(f"--config: no file '{name}' (known: {', '.join(known)})")


def load_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> Config:
    """Merge defaults, YAML files and ``key=value`` overrides, in this order, into a checked :class:`Config`.

    Raises :class:`ConfigError` with one clear line for an unknown key (with the nearest valid one), a wrong type or a bad value.
    """
    return load_settings(Config, files, overrides, text_keys=_TEXT_KEYS)


def load_settings(cls: type[Settings], files: Sequence[str | Path], overrides: Sequence[str], *, text_keys: Sequence[str] = ()) -> Settings:
    """Any tree of settings dataclasses, merged and checked as :func:`load_config` does. text_keys: values taken literally, without YAML."""
    known = [key for key, _, _ in describe_settings(cls)]
    merged = OmegaConf.structured(cls())
    for file in files:
        merged = _merge(merged, _read_yaml(config_files(str(file))), str(file), known)
    for override in overrides:
        merged = _merge(merged, _parse_override(override, known, text_keys), override, known)
    return _to_object(cls, merged)


def config_from_dict(values: dict[str, Any]) -> Config:
    """A checked :class:`Config` from a nested dictionary (as in ``config.yaml``)."""
    known = [key for key, _, _ in describe_settings()]
    return _to_object(Config, _merge(OmegaConf.structured(Config()), OmegaConf.create(values), "config", known))


def _to_object(cls: type[Settings], merged: DictConfig) -> Settings:
    try:
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {_one_line(error)}") from error
    assert isinstance(settings, cls)
    return settings


def to_yaml(config: object) -> str:
    """All settings as YAML, for ``config.yaml`` in the run's folder."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _read_yaml(path: Path) -> DictConfig:
    try:
        loaded = OmegaConf.load(path)
    except Exception as error:  # yaml raises its own family of errors; any of them means the same to the user
        raise ConfigError(f"{path}: not a readable YAML file ({_one_line(error)})") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path}: expected keys and values, got {type(loaded).__name__}")
    return loaded


# Keys whose value is free text: taken literally, so that "prompt=a chair: red, 50% off" needs no YAML quoting.
_TEXT_KEYS = ("prompt", "negative_prompt", "output", "splats.init", "prior.name")


def _parse_override(override: str, known: Sequence[str], text_keys: Sequence[str]) -> DictConfig:
    key, separator, value = override.partition("=")
    key = key.strip()
    if not separator or not key:
        hint = ' (quote a prompt of several words: prompt="a red chair")' if not separator else ""
        raise ConfigError(f"'{override}': expected key=value{hint}")
    groups = {k.rpartition(".")[0] for k in known if "." in k}
    if key not in known and key not in groups:
        raise ConfigError(_unknown_key(key, known))
    if key in text_keys:
        parsed = OmegaConf.create({})
        OmegaConf.update(parsed, key, value.replace("${", "$ {"), force_add=True)
        return parsed
    try:
        return OmegaConf.from_dotlist([f"{key}={value}"])
    except Exception as error:
        raise ConfigError(f"{key}: cannot read the value '{value}' ({_one_line(error)})") from error


def _merge(base: DictConfig, extra: DictConfig, origin: str, known: Sequence[str]) -> DictConfig:
    for key in _flat_keys(extra):
        if key not in known:
            raise ConfigError(f"{origin}: {_unknown_key(key, known)}")
    try:
        merged = OmegaConf.merge(base, extra)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{origin}: {_one_line(error)}") from error
    assert isinstance(merged, DictConfig)
    return merged


def _flat_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, DictConfig):
            yield from _flat_keys(value, f"{name}.")
        else:
            yield name


def _unknown_key(key: str, known: Iterable[str]) -> str:
    known = list(known)
    by_leaf = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
    near = by_leaf or difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    near = near or [k for k in known if difflib.get_close_matches(key, [k.rpartition(".")[2]], cutoff=0.6)]
    hint = f"did you mean '{near[0]}'?" if near else "see --help for all keys"
    return f"unknown key '{key}'; {hint}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n")[0].split())


def free_settings(cls: type = Config, prefix: str = "") -> frozenset[str]:
    """Dotted names of the settings that cannot change what the splats become (``setting(..., free=True)``)."""
    names: set[str] = set()
    for f in dataclasses.fields(cls):
        default = f.default if f.default is not dataclasses.MISSING else f.default_factory()  # type: ignore[misc]
        if dataclasses.is_dataclass(default):
            names |= free_settings(type(default), f"{prefix}{f.name}.")
        elif f.metadata.get("free"):
            names.add(f"{prefix}{f.name}")
    return frozenset(names)


def describe_settings(cls: type = Config, prefix: str = "") -> list[tuple[str, Any, str]]:
    """(key, default, meaning) of every setting, in order."""
    rows: list[tuple[str, Any, str]] = []
    for f in dataclasses.fields(cls):
        default = f.default if f.default is not dataclasses.MISSING else f.default_factory()  # type: ignore[misc]
        if dataclasses.is_dataclass(default):
            rows += describe_settings(type(default), f"{prefix}{f.name}.")
        else:
            rows.append((f"{prefix}{f.name}", default, f.metadata["help"]))
    return rows
