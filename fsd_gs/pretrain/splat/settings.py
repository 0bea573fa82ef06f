"""The settings of a training of the splat-native prior; those marked free may change when it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fsd_gs.config import load_settings
from fsd_gs.core.configure import check_tree
from fsd_gs.core.setting import group, setting
from fsd_gs.errors import ConfigError
from fsd_gs.priors.splat.network import SIZE, NetworkSettings


@dataclass
class SplatDataSettings:
    """The stream of objects. Each is rendered once, by ``rigs`` sets of 4 cameras and ``free_views`` others, and used ``reuse`` times."""

    seed: int = setting(0, "of everything random: objects, cameras, captions, starting weights, noise")
    meshes: str = setting("", "a folder of your own meshes; empty: the catalogue", text=True)
    catalogue_share: float = setting(0.0, "with data.meshes: share of objects that come from the catalogue all the same", low=0, high=0.95)
    mesh_up: str = setting("auto", "axis of your meshes that points up: y, z or auto (by file type)")
    mesh_lit: bool = setting(False, "the colours of your meshes already hold light and shadow, add none")
    categories: list[str] = setting([], "only these categories of the catalogue; empty: all")
    image_size: int = setting(128, "pixels of the stored views; the network looks at them at half of it or less")
    supersample: int = setting(2, "samples a pixel side of the stored views", low=1)
    rigs: int = setting(2, "sets of 4 cameras a quarter turn apart, as runs use them", low=1)
    free_views: int = setting(4, "cameras anywhere in the stated range", low=0)
    elevation_deg: list[float] = setting([-20.0, 60.0], "lowest and highest elevation; the rigs keep to [-5, 35]", low=-90, high=90)
    fov_y_deg: list[float] = setting(
        [25.0, 65.0], "narrowest and widest field of view; distances follow, so that the object fills the view", low=10, high=100
    )
    captions: int = setting(8, "captions drawn for each object", low=1)
    shard: int = setting(32, "objects a file", low=1)
    window: int = setting(1024, "newest objects that batches are drawn from")
    reuse: float = setting(4.0, "times that an object is used, on average", low=1, free=True)
    workers: int = setting(1, "processes that render ahead; 0: render when needed", low=0, free=True)


@dataclass
class SplatTrainSettings:
    """Loss and optimizer."""

    objects: int = setting(8, "objects a step", low=1)
    render_size: int = setting(64, "pixels of the renders that the loss compares, at most data.image_size", free=True)
    targets: list[int] = setting([2, 2], "renders compared, of the views that the network saw and of others", low=0)
    lr: float = setting(8e-3, "learning rate of Muon (the matrices)", above=0, free=True)
    other_lr: float = setting(2e-3, "learning rate of AdamW (everything else)", above=0, free=True)
    warmup: int = setting(50, "steps in which the rates rise", low=0)
    rate: float = setting(1.0, "factor on both rates: lower it by hand for the last part", low=0, free=True)
    weight_decay: float = setting(0.01, "of the matrices", low=0, free=True)
    drop_text: float = setting(0.1, "share of examples without caption (classifier-free guidance)", low=0, high=1)
    hide_background: float = setting(0.1, "share of examples in which the background is not told", low=0, high=1)
    odd_views: float = setting(0.2, "share of steps with another number of views than 4, anywhere", low=0, high=1)
    ema: float = setting(300.0, "horizon of the average of the weights, in steps", low=1)
    occupancy: float = setting(0.1, "weight of the surface's cells: which sub-voxels hold it", low=0)
    color: float = setting(0.2, "weight of the colours of those sub-voxels", low=0)
    views: float = setting(0.5, "weight of what each view is taken for by itself", low=0)
    show_cells: float = setting(
        0.3, "share of objects whose true cells are kept, whatever the network says of them", low=0, high=1, free=True
    )
    steps: int = setting(1000000, "steps at most", low=1, free=True)
    minutes: float = setting(0.0, "minutes at most in this session; 0: no limit", low=0, free=True)
    log_every: int = setting(10, "steps between two lines of log.jsonl", low=1, free=True)
    save_every_minutes: float = setting(3.0, "minutes between two saves of the state", low=0, free=True)
    evaluate_every: int = setting(250, "steps between two measurements on held-out objects; 0: none", low=0, free=True)
    preview_every_minutes: float = setting(30.0, "minutes between two pictures; 0: none", low=0, free=True)


@dataclass
class SplatPretrainConfig:
    """The settings of training a splat-native prior."""

    output: str = setting("outputs/splat-prior", "folder of everything; the same command goes on there", free=True, text=True)
    init: str = setting("", "the folder of a finished splat prior whose weights the training starts from", text=True)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", free=True)
    threads: int = setting(0, "CPU threads; 0: torch's own choice", low=0, free=True)
    data: SplatDataSettings = group(SplatDataSettings, "what the prior learns from")
    network: NetworkSettings = group(NetworkSettings, "its network")
    train: SplatTrainSettings = group(SplatTrainSettings, "how it learns")


def load_splat_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> SplatPretrainConfig:
    """Defaults, YAML files and ``key=value`` overrides; ConfigError in one line for anything that cannot work."""
    return check(load_settings(SplatPretrainConfig, files, overrides))


def check(config: SplatPretrainConfig) -> SplatPretrainConfig:
    """``config`` itself; ConfigError names the first setting that cannot work."""
    data, train, network = config.data, config.train, config.network
    check_tree(config)
    if data.image_size % SIZE:
        raise ConfigError(f"data.image_size: expected a multiple of {SIZE}, got {data.image_size}")
    if data.window < data.shard:
        raise ConfigError(f"data.window: expected at least data.shard ({data.shard}), got {data.window}")
    if train.render_size < 8 or data.image_size % train.render_size:
        raise ConfigError(
            f"train.render_size: expected a divisor of data.image_size ({data.image_size}) from 8 up, got {train.render_size}"
        )
    if len(train.targets) != 2 or sum(train.targets) < 1:
        raise ConfigError(f"train.targets: expected two counts, not both 0, got {train.targets}")
    for name in ("elevation_deg", "fov_y_deg"):
        pair = getattr(data, name)
        if len(pair) != 2 or pair[0] > pair[1]:
            raise ConfigError(f"data.{name}: expected [low, high], got {pair}")
    if network.text_width % 4:
        raise ConfigError(f"network.text_width: expected a multiple of 4, got {network.text_width}")
    if network.width % network.heads:
        raise ConfigError(f"network.width: expected a multiple of network.heads ({network.heads}), got {network.width}")
    if network.block_depth and network.cells * network.emit_points % 2:
        along = network.cells * network.emit_points
        raise ConfigError(f"network.cells, network.emit_points: expected an even number of Gaussians along the grid, got {along}")
    if not 0 < network.early < network.depth:
        raise ConfigError(f"network.early: expected a block between 1 and network.depth - 1 ({network.depth - 1}), got {network.early}")
    return config
