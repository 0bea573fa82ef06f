"""The settings of training a prior: one dataclass a stage, merged from a YAML file and the command line with strict keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from fsd_gs.errors import InputError


@dataclass
class DataSettings:
    """What the prior learns from. Cameras should be those of the runs that will use it: the network is told directions, not distances.

    meshes: a folder of the user's own meshes; empty for the catalogue. categories: only these of the catalogue; empty for all.
    image_size: pixels of the square views. elevation_deg, distance, fov_y_deg: as in the training run's ``cameras``.
    views: seen jointly, 360°/views apart. rigs: sets of such views an object, each with its own turn, elevation and background.
    pictures: objects rendered for the autoencoder. objects: objects whose latents the denoiser learns from. shard: objects a file.
    """

    seed: int = 0
    meshes: str = ""
    categories: list[str] = field(default_factory=list)
    image_size: int = 64
    elevation_deg: list[float] = field(default_factory=lambda: [-5.0, 35.0])
    distance: float = 2.2
    fov_y_deg: float = 49.1
    views: int = 4
    rigs: int = 4
    supersample: int = 3
    pictures: int = 1200
    objects: int = 16000
    shard: int = 250
    captions: int = 8


@dataclass
class AutoencoderSettings:
    """AutoencoderKL. channels: a level each; f = 2^(levels − 1). latent_channels: components of the patch code. edges: weight of the
    gradient term. jitter: noise on the latents that the decoder learns from.

    minutes: 0 = no limit of time; training stops at ``steps`` or ``minutes``, whichever comes first, and the rate falls to 0 by then.
    """

    channels: list[int] = field(default_factory=lambda: [16, 48, 104])
    latent_channels: int = 12
    batch: int = 16
    lr: float = 1e-3
    steps: int = 20000
    minutes: float = 0.0
    edges: float = 0.5
    jitter: float = 0.05


@dataclass
class DiffusionSettings:
    """UNet2DConditionModel with camera projection, a small CLIPTextModel, v-prediction.

    lr: of Muon, for the matrices; other_lr: of AdamW, for the rest (the two must differ).
    objects: objects a batch (each with data.views views). drop_text: classifier-free guidance. drop_cameras: share of steps without
    cameras and cross-view attention (2D). ema: horizon of the weight average in steps, at most.
    """

    channels: list[int] = field(default_factory=lambda: [64, 96, 128])
    layers: int = 1
    head_width: int = 32
    text_width: int = 128
    text_layers: int = 2
    objects: int = 8
    lr: float = 2e-3
    other_lr: float = 8e-4
    warmup: int = 100
    cooldown: float = 0.3
    weight_decay: float = 0.01
    steps: int = 200000
    minutes: float = 0.0
    drop_text: float = 0.1
    drop_cameras: float = 0.15
    ema: float = 600.0
    log_every: int = 20
    save_every_minutes: float = 5.0
    preview_every_minutes: float = 20.0


@dataclass
class PretrainConfig:
    """One file of ``configs/nano``. output: the folder of the run; its ``prior`` folder is what ``prior.name=`` takes."""

    output: str = "outputs/prior"
    device: str = "auto"
    threads: int = 0
    data: DataSettings = field(default_factory=DataSettings)
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    diffusion: DiffusionSettings = field(default_factory=DiffusionSettings)


def check(config: PretrainConfig) -> PretrainConfig:
    """``config`` itself; InputError names the first setting that cannot work."""
    data, net = config.data, config.diffusion
    factor = 2 ** (len(config.autoencoder.channels) - 1)
    positive = {
        "data.views": data.views,
        "data.rigs": data.rigs,
        "data.objects": data.objects,
        "data.pictures": data.pictures,
        "data.shard": data.shard,
        "diffusion.objects": net.objects,
        "autoencoder.batch": config.autoencoder.batch,
        "autoencoder.latent_channels": config.autoencoder.latent_channels,
    }
    for name, value in positive.items():
        if value < 1:
            raise InputError(f"{name}: expected at least 1, got {value}")
    if data.image_size % factor or data.image_size < 2 * factor:
        raise InputError(f"data.image_size: expected a multiple of the autoencoder's factor {factor}, got {data.image_size}")
    if len(data.elevation_deg) != 2 or data.elevation_deg[0] > data.elevation_deg[1]:
        raise InputError(f"data.elevation_deg: expected [low, high], got {data.elevation_deg}")
    for name, width in (("diffusion.text_width", net.text_width), *((f"diffusion.channels ({c})", c) for c in net.channels)):
        if width % net.head_width:
            raise InputError(f"{name}: expected a multiple of diffusion.head_width {net.head_width}, got {width}")
    for name, share in (("diffusion.drop_text", net.drop_text), ("diffusion.drop_cameras", net.drop_cameras)):
        if not 0 <= share < 1:
            raise InputError(f"{name}: expected a share in [0, 1), got {share:g}")
    return config
