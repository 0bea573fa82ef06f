"""The settings of training a prior: one dataclass a stage, merged from a YAML file and the command line with strict keys.

A stage's own settings decide its result together with ``data.seed``; free ones decide nothing that is already on disk, so that they may
change when a training goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fsd_gs.config import group, load_settings, setting
from fsd_gs.core.configure import check_tree
from fsd_gs.errors import ConfigError
from fsd_gs.pretrain.patch_code import check_channels

UNET_GROUPS = 8  # of the UNet's group norms


@dataclass
class DataSettings:
    """What the prior learns from. Cameras should be those of the runs that will use it: the network is told directions, not distances."""

    seed: int = setting(0, "of everything random: objects, cameras, captions, starting weights, noise", low=0)
    meshes: str = setting("", "a folder of your own meshes; empty: the catalogue", text=True)
    catalogue_share: float = setting(0.0, "with data.meshes: share of objects that come from the catalogue all the same", low=0, high=0.95)
    mesh_up: str = setting("auto", "axis of your meshes that points up: y, z or auto (by file type)", choices=("auto", "y", "z"))
    mesh_lit: bool = setting(False, "the colours of your meshes already hold light and shadow, add none")
    categories: list[str] = setting([], "only these categories of the catalogue; empty: all")
    often: list[str] = setting([], "categories that are drawn twice as often as the others")
    image_size: int = setting(64, "pixels of the square views")
    elevation_deg: list[float] = setting([-5.0, 35.0], "lowest and highest elevation of the cameras")
    distance: float = setting(2.2, "distance of the cameras, as in the training run's cameras.distance", above=0)
    fov_y_deg: float = setting(49.1, "field of view, as in the training run's cameras.fov_y_deg", above=0)
    views: int = setting(4, "views denoised jointly, their azimuths 360°/views apart", low=1)
    rigs: int = setting(4, "sets of such views of an object, each with its own turn, elevation and background", low=1)
    supersample: int = setting(3, "samples a pixel side of the renders", low=1)
    pictures: int = setting(1200, "objects whose views the autoencoder learns from (of data.objects)", low=1)
    objects: int = setting(16000, "objects whose latents the denoiser learns from", low=1)
    shard: int = setting(250, "objects a file", low=1)
    captions: int = setting(8, "captions drawn for each object", low=1)
    workers: int = setting(1, "processes that render; 0: one for each CPU core", low=0, free=True)


@dataclass
class AutoencoderSettings:
    """AutoencoderKL; f = 2^(levels − 1). Training ends at ``steps`` or ``minutes``, whichever comes first; the rate falls to 0 by then."""

    channels: list[int] = setting([16, 48, 104], "channels of each level; the latents are 2^(levels − 1) times smaller than the pictures")
    latent_channels: int = setting(12, "components of the patch code", low=1)
    batch: int = setting(16, "pictures a step", low=1)
    lr: float = setting(1e-3, "learning rate of the decoder at the start", above=0)
    steps: int = setting(20000, "steps of the decoder at most; 0: with init, the decoder stays as it is", low=0, free=True)
    minutes: float = setting(0.0, "minutes of the decoder at most; 0: no limit", low=0, free=True)
    edges: float = setting(0.5, "weight of the gradient term", low=0)
    jitter: float = setting(0.05, "noise on the latents that the decoder learns from", low=0)


@dataclass
class DiffusionSettings:
    """UNet2DConditionModel with camera projection, a small CLIPTextModel, v-prediction."""

    channels: list[int] = setting([64, 96, 128], "channels of each level of the UNet")
    layers: int = setting(1, "residual blocks a level", low=1)
    head_width: int = setting(32, "channels of an attention head", low=1)
    text_width: int = setting(128, "channels of the text encoder", low=1)
    text_layers: int = setting(2, "layers of the text encoder", low=1)
    objects: int = setting(8, "objects a batch, each with data.views views", low=1)
    lr: float = setting(2e-3, "learning rate of Muon (the matrices)", above=0)
    other_lr: float = setting(8e-4, "learning rate of AdamW (everything else)", above=0)
    warmup: int = setting(100, "steps in which the rates rise", low=0)
    cooldown: float = setting(0.3, "last share of the training in which the rates fall", low=0, below=1, free=True)
    weight_decay: float = setting(0.01, "of the matrices", low=0)
    steps: int = setting(200000, "steps at most", low=1, free=True)
    minutes: float = setting(0.0, "minutes at most, over all sessions; 0: no limit", low=0, free=True)
    drop_text: float = setting(0.1, "share of examples without their caption (classifier-free guidance)", low=0, below=1)
    drop_cameras: float = setting(0.15, "share of steps without cameras and cross-view attention (single pictures)", low=0, below=1)
    ema: float = setting(600.0, "horizon of the average of the weights, in steps")
    compile: bool = setting(False, "torch.compile the UNet (needs a C++ compiler): some minutes first, then faster steps", free=True)
    log_every: int = setting(20, "steps between two lines of log.jsonl", low=1, free=True)
    save_every_minutes: float = setting(5.0, "minutes between two saved states", above=0, free=True)
    preview_every_minutes: float = setting(20.0, "minutes between two previews; 0: none but the last", low=0, free=True)


@dataclass
class PretrainConfig:
    """One file of ``configs/nano``."""

    output: str = setting("outputs/prior", "folder of the training; its folder 'prior' is what prior.name= takes", text=True, free=True)
    init: str = setting(
        "", "a finished prior (a folder, or nano) whose weights, autoencoder, tokenizer the training starts from", text=True
    )
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", free=True)
    threads: int = setting(0, "CPU threads; 0: torch's own choice", low=0, free=True)
    data: DataSettings = group(DataSettings, "what the prior learns from")
    autoencoder: AutoencoderSettings = group(AutoencoderSettings, "pictures to latents and back")
    diffusion: DiffusionSettings = group(DiffusionSettings, "the denoiser")


def load_pretrain_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> PretrainConfig:
    """Defaults, YAML files and ``key=value`` overrides, in this order; ConfigError in one line for anything that cannot work."""
    return check(load_settings(PretrainConfig, files, overrides))


def check(config: PretrainConfig) -> PretrainConfig:
    """``config`` itself; ConfigError names the first setting that cannot work."""
    check_tree(config)
    if not config.autoencoder.steps and not config.init:
        raise ConfigError("autoencoder.steps: expected at least 1 without init (there is no decoder to keep), got 0")
    _check_data(config)
    _check_networks(config)
    return config


def _check_data(config: PretrainConfig) -> None:
    data, factor = config.data, 2 ** (len(config.autoencoder.channels) - 1)
    if data.image_size % factor or data.image_size < 2 * factor:
        wanted = f"a multiple of the autoencoder's factor {factor}, at least {2 * factor}"
        raise ConfigError(f"data.image_size: expected {wanted}, got {data.image_size}")
    if len(data.elevation_deg) != 2 or data.elevation_deg[0] > data.elevation_deg[1]:
        raise ConfigError(f"data.elevation_deg: expected [low, high], got {data.elevation_deg}")
    if data.pictures > data.objects:
        raise ConfigError(f"data.pictures: expected at most data.objects ({data.objects}), got {data.pictures}")
    for name in ("categories", "often"):
        if data.meshes and not data.catalogue_share and getattr(data, name):
            raise ConfigError(f"data.{name}: expected none with data.meshes='{data.meshes}' (they are the catalogue's)")


def _check_networks(config: PretrainConfig) -> None:
    data, net = config.data, config.diffusion
    if not net.channels:
        raise ConfigError("diffusion.channels: expected at least one level, got none")
    for name, width in (("diffusion.text_width", net.text_width), *((f"diffusion.channels ({c})", c) for c in net.channels)):
        if width < net.head_width or width % net.head_width:
            raise ConfigError(f"{name}: expected a multiple of diffusion.head_width {net.head_width}, got {width}")
    if any(width % UNET_GROUPS for width in net.channels):
        raise ConfigError(f"diffusion.channels: expected multiples of {UNET_GROUPS}, got {net.channels}")
    check_channels(config.autoencoder.channels)
    if config.autoencoder.latent_channels > 3 * 4 ** (len(config.autoencoder.channels) - 1):
        raise ConfigError(
            f"autoencoder.latent_channels: expected at most the {3 * 4 ** (len(config.autoencoder.channels) - 1)} numbers of a patch, "
            f"got {config.autoencoder.latent_channels}"
        )
    cells, halvings = data.image_size // 2 ** (len(config.autoencoder.channels) - 1), 2 ** (len(net.channels) - 1)
    if cells % halvings:
        raise ConfigError(f"diffusion.channels: {len(net.channels)} levels need latents of a multiple of {halvings} cells, got {cells}")
