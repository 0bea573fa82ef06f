# ruff: noqa: RUF009  (setting() and group() return dataclass fields)
"""The settings of a training of the splat-native prior; those marked free may change when it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fsd_gs.config import describe_settings, group, load_settings, setting
from fsd_gs.errors import ConfigError
from fsd_gs.priors.splat.network import SIZE, NetworkSettings


@dataclass
class SplatDataSettings:
    """The stream of objects. Each is rendered once by ``rigs`` sets of 4 cameras and ``free_views`` single ones, and used ``reuse`` times."""

    seed: int = setting(0, "of everything random: objects, cameras, captions, starting weights, noise")
    meshes: str = setting("", "a folder of your own meshes; empty: the catalogue")
    mesh_up: str = setting("auto", "axis of your meshes that points up: y, z or auto (by file type)")
    mesh_lit: bool = setting(False, "the colours of your meshes already hold light and shadow, add none")
    categories: list[str] = setting([], "only these categories of the catalogue; empty: all")
    image_size: int = setting(128, "pixels of the stored views; the network looks at them at half of it or less")
    supersample: int = setting(2, "samples a pixel side of the stored views")
    rigs: int = setting(2, "sets of 4 cameras a quarter turn apart, as runs use them")
    free_views: int = setting(4, "cameras anywhere in the stated range")
    elevation_deg: list[float] = setting([-20.0, 60.0], "lowest and highest elevation; the rigs keep to [-5, 35]")
    fov_y_deg: list[float] = setting([25.0, 65.0], "narrowest and widest field of view; distances follow, so that the object fills the view")
    captions: int = setting(8, "captions drawn for each object")
    shard: int = setting(32, "objects a file")
    window: int = setting(1024, "newest objects that batches are drawn from")
    reuse: float = setting(4.0, "times that an object is used, on average", free=True)
    workers: int = setting(1, "processes that render ahead; 0: render when needed", free=True)


@dataclass
class SplatTrainSettings:
    """Loss and optimizer."""

    objects: int = setting(8, "objects a step")
    render_size: int = setting(64, "pixels of the renders that the loss compares, at most data.image_size", free=True)
    targets: list[int] = setting([2, 2], "renders compared, of the views that the network saw and of others")
    lr: float = setting(8e-3, "learning rate of Muon (the matrices)", free=True)
    other_lr: float = setting(2e-3, "learning rate of AdamW (everything else)", free=True)
    warmup: int = setting(50, "steps in which the rates rise")
    rate: float = setting(1.0, "factor on both rates: lower it by hand for the last part", free=True)
    weight_decay: float = setting(0.01, "of the matrices", free=True)
    drop_text: float = setting(0.1, "share of examples without caption (classifier-free guidance)")
    hide_background: float = setting(0.1, "share of examples in which the background is not told")
    odd_views: float = setting(0.2, "share of steps with another number of views than 4, anywhere")
    ema: float = setting(300.0, "horizon of the average of the weights, in steps")
    occupancy: float = setting(0.1, "weight of the surface's cells: which sub-voxels hold it")
    color: float = setting(0.2, "weight of the colours of those sub-voxels")
    show_cells: float = setting(0.3, "share of objects whose true cells are kept, whatever the network says of them", free=True)
    steps: int = setting(1000000, "steps at most", free=True)
    minutes: float = setting(0.0, "minutes at most in this session; 0: no limit", free=True)
    log_every: int = setting(10, "steps between two lines of log.jsonl", free=True)
    save_every_minutes: float = setting(3.0, "minutes between two saves of the state", free=True)
    evaluate_every: int = setting(250, "steps between two measurements on held-out objects; 0: none", free=True)
    preview_every_minutes: float = setting(30.0, "minutes between two pictures; 0: none", free=True)


@dataclass
class SplatPretrainConfig:
    output: str = setting("outputs/splat-prior", "folder of everything; the same command goes on there", free=True)
    init: str = setting("", "a finished splat prior to start from; 'nano': the one that ships")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", free=True)
    threads: int = setting(0, "CPU threads; 0: torch's own choice", free=True)
    data: SplatDataSettings = group(SplatDataSettings, "what the prior learns from")
    network: NetworkSettings = group(NetworkSettings, "its network")
    train: SplatTrainSettings = group(SplatTrainSettings, "how it learns")


def load_splat_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> SplatPretrainConfig:
    """Defaults, YAML files and ``key=value`` overrides; ConfigError in one line for anything that cannot work."""
    return check(load_settings(SplatPretrainConfig, files, overrides, text_keys=("output", "init", "data.meshes")))


def check(config: SplatPretrainConfig) -> SplatPretrainConfig:
    """``config`` itself; ConfigError names the first setting that cannot work."""
    data, train, network = config.data, config.train, config.network
    for name, value in (
        ("data.rigs", data.rigs),
        ("data.shard", data.shard),
        ("data.captions", data.captions),
        ("data.supersample", data.supersample),
        ("train.objects", train.objects),
        ("train.log_every", train.log_every),
        ("train.steps", train.steps),
        ("data.reuse", data.reuse),
    ):
        if value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}")
    if data.image_size % SIZE:
        raise ConfigError(f"data.image_size: expected a multiple of {SIZE}, got {data.image_size}")
    if data.window < data.shard:
        raise ConfigError(f"data.window: expected at least data.shard ({data.shard}), got {data.window}")
    if train.render_size < 8 or data.image_size % train.render_size:
        raise ConfigError(f"train.render_size: expected a divisor of data.image_size ({data.image_size}) from 8 up, got {train.render_size}")
    if len(train.targets) != 2 or min(train.targets) < 0 or sum(train.targets) < 1:
        raise ConfigError(f"train.targets: expected two counts, not both 0, got {train.targets}")
    for name, pair, low, high in (("data.elevation_deg", data.elevation_deg, -90, 90), ("data.fov_y_deg", data.fov_y_deg, 10, 100)):
        if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
            raise ConfigError(f"{name}: expected [low, high] in [{low}, {high}], got {pair}")
    for name in ("drop_text", "hide_background", "odd_views", "show_cells"):
        if not 0 <= getattr(train, name) <= 1:
            raise ConfigError(f"train.{name}: expected a share in [0, 1], got {getattr(train, name):g}")
    if network.width % network.heads or network.text_width % 4:
        raise ConfigError(f"network.width: expected a multiple of network.heads ({network.heads}), got {network.width}")
    if not 0 < network.early < network.depth:
        raise ConfigError(f"network.early: expected a block between 1 and network.depth - 1 ({network.depth - 1}), got {network.early}")
    return config


def decisive(config: SplatPretrainConfig) -> dict[str, object]:
    """Every setting that decides the result, by its dotted name."""
    rows = describe_settings(SplatPretrainConfig)
    return {key: _value(config, key) for key, _, _ in rows if not _is_free(key)}


def _value(config: object, key: str) -> object:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def _is_free(key: str) -> bool:
    *groups, name = key.split(".")
    cls: type = SplatPretrainConfig
    for part in groups:
        cls = {"data": SplatDataSettings, "network": NetworkSettings, "train": SplatTrainSettings}[part]
    return bool(cls.__dataclass_fields__[name].metadata.get("free"))
