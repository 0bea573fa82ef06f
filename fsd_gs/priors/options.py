"""How a diffusers backbone is loaded: precision, memory, speed and prompts. One dataclass, no hidden switches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from fsd_gs.errors import ConfigError, unknown_name
from fsd_gs.priors.prompts import PerpNeg, ViewPrompts

TextPolicy = Literal["free", "cpu", "keep"]
_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float64": torch.float64,
}


@dataclass(frozen=True)
class LoadOptions:
    """Settings of a real backbone; the defaults are the ones that fit most.

    view_prompts: words added by azimuth, None for the plain prompt. Multi-view priors ignore it: they see the cameras.
    perp_neg: Perp-Neg between neighbouring views (implies interpolation); None is off.
    cfg_rescale: CFG rescale (arXiv 2305.08891) in [0, 1].
    lora, lora_scale: path of LoRA weights (.safetensors) and their strength; fused into the weights at loading.
    text_encoder: after the prompts are embedded, "free" it (a new prompt loads it again), park it on the "cpu", or "keep" it.
    tiny_vae: folder or hub id of an AutoencoderTiny (TAESD) that replaces the VAE's encoder: faster gradients, rougher latents.
    vae_checkpointing: recompute the encoder's activations in the backward pass: less memory, about a third more time in it.
    vae_slicing, vae_tiling: decode image by image, tile by tile.
    channels_last: memory format of the convolutions (CUDA only; measured slower on CPUs in float32).
    compile: torch.compile the network and the encoder; falls back to eager with a warning where that fails.
    image_size: side in pixels, None for the network's own.
    config: folder or hub id that supplies the configs and tokenizers which a single-file checkpoint lacks.
    guidance: guidance value at s = 1 and s = 0 for guidance-distilled networks (LCM, FLUX-dev).
    offline: never contact a hub.
    objects, distractors, catalogue_seed: of the exact prior: objects that fit the prompt, others, and which ones.
    """

    view_prompts: ViewPrompts | None = field(default_factory=ViewPrompts)
    perp_neg: PerpNeg | None = None
    cfg_rescale: float = 0.0
    lora: str | None = None
    lora_scale: float = 1.0
    text_encoder: TextPolicy = "free"
    tiny_vae: str | None = None
    vae_checkpointing: bool = True
    vae_slicing: bool = True
    vae_tiling: bool = False
    channels_last: bool = True
    compile: bool = False
    image_size: int | None = None
    config: str | None = None
    guidance: float = 1.0
    offline: bool = False
    objects: int = 24
    distractors: int = 12
    catalogue_seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.cfg_rescale <= 1.0:
            raise ConfigError(f"cfg_rescale: expected a value in [0, 1], got {self.cfg_rescale:g}")
        if self.text_encoder not in ("free", "cpu", "keep"):
            raise ConfigError(unknown_name("text_encoder", self.text_encoder, ("free", "cpu", "keep")))
        if self.image_size is not None and (self.image_size < 16 or self.image_size % 8):
            raise ConfigError(f"image_size: expected a multiple of 8 from 16 upwards, got {self.image_size}")
        if self.perp_neg is not None and self.view_prompts is None:
            raise ConfigError("perp_neg: needs view prompts to repel; set view_prompts as well, or perp_neg=None")
        if self.perp_neg is not None and self.view_prompts is not None and not self.view_prompts.interpolate:
            object.__setattr__(self, "view_prompts", replace(self.view_prompts, interpolate=True))


@dataclass(frozen=True)
class RunShape:
    """What a run will ask a prior for: priors that come without a size of their own are made to measure.

    Attributes:
        views: Images denoised jointly.
        image_size: Side in pixels of the largest render.
    """

    views: int = 4
    image_size: int = 128


def resolve_dtype(dtype: torch.dtype | str, device: torch.device) -> torch.dtype:
    """The precision of the networks: "auto" is float32 on a CPU and, on a GPU, bfloat16 where it has it, else float16."""
    if isinstance(dtype, str):
        if dtype == "auto":
            if device.type != "cuda":
                return torch.float32
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        if dtype not in _DTYPES:
            raise ConfigError(unknown_name("dtype", dtype, ["auto", *_DTYPES]))
        return _DTYPES[dtype]
    if dtype not in _DTYPES.values():
        raise ConfigError(f"dtype: expected float32, bfloat16, float16 or float64, got {dtype}")
    return dtype


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a CPU has matrix units for bfloat16 (AMX). Without them bfloat16 is slower than float32."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)  # older torch versions cannot tell
    return device.type == "cpu" and bool(capabilities().get("amx_bf16"))
