"""How a diffusers backbone is loaded: precision, memory, speed and prompts. One dataclass, no hidden switches."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch

from fsd_gs.errors import ConfigError, unknown_name
from fsd_gs.priors.prompts import PerpNeg, ViewPrompts
from fsd_gs.priors.settings import LoadSettings, PriorSettings

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
class LoadOptions(LoadSettings):
    """Settings of a real backbone; the defaults are the ones that fit most.

    Attributes:
        view_prompts: Words added by azimuth, None for the plain prompt. Multi-view priors ignore it: they see the cameras.
        perp_neg: Perp-Neg between neighbouring views (implies interpolation); None is off.
        text_encoder: After the prompts are embedded, "free" it (a new prompt loads it again), park it on the "cpu", or "keep" it.
        vae_checkpointing: Recompute the encoder's activations in the backward pass: less memory, about a third more time in it.
        vae_slicing: Decode image by image.
        vae_tiling: Decode tile by tile.
        channels_last: Memory format of the convolutions (CUDA only; measured slower on CPUs in float32).
        guidance: Guidance value at s = 1 and s = 0 for guidance-distilled networks (LCM, FLUX-dev).
    """

    view_prompts: ViewPrompts | None = field(default_factory=ViewPrompts)
    perp_neg: PerpNeg | None = None
    text_encoder: TextPolicy = "free"
    vae_checkpointing: bool = True
    vae_slicing: bool = True
    vae_tiling: bool = False
    channels_last: bool = True
    guidance: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text_encoder not in ("free", "cpu", "keep"):
            raise ConfigError(unknown_name("text_encoder", self.text_encoder, ("free", "cpu", "keep")))
        if self.perp_neg is not None and self.view_prompts is None:
            raise ConfigError("perp_neg: needs view prompts to repel; set view_prompts as well, or perp_neg=None")
        if self.perp_neg is not None and self.view_prompts is not None and not self.view_prompts.interpolate:
            object.__setattr__(self, "view_prompts", replace(self.view_prompts, interpolate=True))

    @classmethod
    def of(cls, settings: PriorSettings) -> LoadOptions:
        """The options that a run's settings mean; the defaults for what only Python can say."""
        shared = {f.name: getattr(settings, f.name) for f in fields(LoadSettings)}
        return cls(
            **shared,
            view_prompts=ViewPrompts() if settings.view_prompts else None,
            perp_neg=PerpNeg() if settings.perp_neg else None,
        )


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
