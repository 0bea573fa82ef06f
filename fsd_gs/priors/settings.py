"""Settings of a prior: which one, and how it is loaded. ``options.LoadOptions`` adds what only Python can say. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.core.setting import check, setting
from fsd_gs.errors import ConfigError


@dataclass(frozen=True)
class LoadSettings:
    """How a prior is loaded and asked."""

    objects: int = setting(24, "exact prior: objects that match the prompt in its finite set", low=1, high=1000)
    distractors: int = setting(12, "exact prior: objects of other kinds in its unconditional set", low=0, high=1000)
    catalogue_seed: int = setting(0, "exact prior: which objects are drawn from the procedural catalogue", low=0, high=2**63 - 1)
    cfg_rescale: float = setting(
        0.0, "diffusers backbones: CFG rescale inside the network's own combination (arXiv 2305.08891), which costs nothing", low=0, high=1
    )
    lora: str | None = setting(None, "diffusers backbones: path of LoRA weights", text=True)
    lora_scale: float = setting(1.0, "diffusers backbones: strength of the LoRA weights", low=-100, high=100)
    embeddings: list[str] = setting([], "SD, SDXL, MVDream: files of textual inversion (.safetensors), whose words prompts may then use")
    image: str | None = setting(None, "SD 1.5, SDXL: path of a picture to follow beside the prompt (IP-Adapter)", text=True)
    image_scale: float = setting(1.0, "strength of prior.image; 0 is none", low=0, high=10)
    ip_adapter: str | None = setting(
        None,
        "how prior.image is read: an IP-Adapter's .safetensors file, or owner/name/path of a hub; null is the backbone's published one",
        text=True,
    )
    image_encoder: str | None = setting(
        None, "the IP-Adapter's CLIP vision model: a folder, or owner/name/path of a hub; null is image_encoder beside its file", text=True
    )
    control: str | None = setting(
        None, "SD 1.5, SDXL: show a ControlNet what is rendered, its depth or its normals; null for none", choices=("depth", "normal")
    )
    control_scale: float = setting(1.0, "strength of prior.control; 0 is none", low=0, high=10)
    controlnet: str | None = setting(
        None, "the ControlNet: a folder, or owner/name of a hub; null is the one published for the backbone", text=True
    )
    compile: bool = setting(False, "diffusers backbones: torch.compile the network and the encoder")
    tiny_vae: str | None = setting(None, "diffusers backbones: path or id of an AutoencoderTiny (TAESD) used as encoder", text=True)
    image_size: int | None = setting(
        None, "diffusers backbones: side of the images in pixels, a multiple of 8; null is the network's own", low=16, high=16384
    )
    drawn_from: float = setting(
        0.65,
        "splat-native priors: timestep from which on views are denoised as renders of one set of Gaussians; 0: at all times",
        low=0,
        high=1,
    )
    config: str | None = setting(None, "single-file checkpoints: folder or hub id with the configs and tokenizers they lack", text=True)
    offline: bool = setting(False, "never contact a hub, even for configuration files")

    def __post_init__(self) -> None:
        check(self)
        if self.controlnet is not None and self.control is None:
            raise ConfigError("controlnet: say what it is shown as well: control=depth or control=normal")
        if self.image_size is not None and self.image_size % 8:
            raise ConfigError(f"image_size: expected a multiple of 8 from 16 upwards, got {self.image_size}")


@dataclass(frozen=True)
class _Which:
    name: str = setting(
        "nano",
        "backbone: nano (small, ships with the package), exact (looks objects up; --config exact), sd15, sd21, sdxl, lcm, turbo, sd3, "
        "flux, mvdream, a folder or a hub id",
        text=True,
    )
    dtype: str = setting("auto", "precision of the network; splats stay float32", choices=("auto", "float32", "bfloat16", "float16"))


@dataclass(frozen=True)
class PriorSettings(LoadSettings, _Which):  # fields of the last base come first
    """Which diffusion model, and how it is loaded."""

    view_prompts: bool = setting(True, "single-view backbones: add 'front view', 'side view', … by azimuth")
    control_mesh: str | None = setting(
        None, "mesh file whose depth or normals prior.control shows; null shows those of the splats themselves", text=True
    )
    perp_neg: bool = setting(False, "single-view backbones: Perp-Neg against the opposite views (arXiv 2304.04968)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name.strip():
            raise ConfigError("name: expected a backbone, got nothing; nano ships with the package")
        if self.control_mesh is not None and self.control is None:
            raise ConfigError("control_mesh: say what is shown of it as well: control=depth or control=normal")
        if self.perp_neg and not self.view_prompts:
            raise ConfigError("perp_neg: needs view prompts to repel; set view_prompts as well, or perp_neg=false")
