"""The settings of a training of the splat-native prior; those marked free may change when it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fsd_gs.config import load_settings
from fsd_gs.core.configure import check_tree
from fsd_gs.core.setting import group, setting
from fsd_gs.errors import ConfigError
from fsd_gs.priors.splat.network import SplatSettings

SIZE = 64  # pixels of the views that the network looks at


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

    objects: int = setting(8, "objects a step; more of them are for the last part", low=1, free=True)
    fine: float = setting(0.5, "share of objects whose renders are compared at data.image_size instead", low=0, high=1, free=True)
    targets: list[int] = setting([2, 2], "renders compared, of the views that the network saw and of others", low=0)
    lr: float = setting(4e-3, "learning rate of Muon for the matrices of the part that draws", above=0, free=True)
    other_lr: float = setting(1e-3, "learning rate of AdamW for the rest of it", above=0, free=True)
    unet_lr: float = setting(1e-3, "learning rate of Muon for the matrices of the UNet; 0 leaves them as they are", low=0, free=True)
    unet_other_lr: float = setting(2.5e-4, "learning rate of AdamW for the rest of the UNet and the text encoder; or 0", low=0, free=True)
    warmup: int = setting(50, "steps in which the rates rise", low=0)
    rate: float = setting(1.0, "factor on all rates: lower it by hand for the last part", low=0, free=True)
    weight_decay: float = setting(0.01, "of the matrices", low=0, free=True)
    drop_text: float = setting(0.1, "share of examples without caption (classifier-free guidance)", low=0, high=1)
    odd_views: float = setting(0.1, "share of steps with another number of views than 4, anywhere", low=0, high=1)
    ema: float = setting(300.0, "horizon of the average of the weights, in steps; raise it for the last part", low=1, free=True)
    coverage: float = setting(0.1, "weight of which pixels the object covers", low=0)
    views: float = setting(0.2, "weight of the latents that the UNet by itself makes of each view", low=0)
    rays: float = setting(0.02, "weight of where rays end in the volume", low=0)
    depth: float = setting(0.3, "weight of the Gaussians' depths", low=0)
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
    init: str = setting("nano", "the prior to start from: nano, the one that ships, or a folder that train-prior made", text=True)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", free=True)
    threads: int = setting(0, "CPU threads; 0: torch's own choice", low=0, free=True)
    data: SplatDataSettings = group(SplatDataSettings, "what the prior learns from")
    network: SplatSettings = group(SplatSettings, "the part that draws, beside the UNet of the prior to start from")
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
    if len(train.targets) != 2 or sum(train.targets) < 1:
        raise ConfigError(f"train.targets: expected two counts, not both 0, got {train.targets}")
    for name in ("elevation_deg", "fov_y_deg"):
        pair = getattr(data, name)
        if len(pair) != 2 or pair[0] > pair[1]:
            raise ConfigError(f"data.{name}: expected [low, high], got {pair}")
    if network.voxels % 2:
        raise ConfigError(f"network.voxels: expected an even number, got {network.voxels}")
    return config
