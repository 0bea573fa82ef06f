"""Pipeline folders with random weights, as the hub lays them out: full size (what a network costs does not depend on its weights) or tiny.

Architectures are those of the published configs. Two things are smaller than published, both because text is embedded once, before the
first step, and its encoders are freed then: tokens are letters, and T5 has two of its 24 layers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from fsd_gs.priors.mvdream_checkpoint import OFFICIAL_UNET, unet_config

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "projection_dim": 768}
CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "projection_dim": 512}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "projection_dim": 1280}
TINY_CLIP = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 32}
T5_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64, "num_layers": 2, "feed_forward_proj": "gated-gelu"}
TINY_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_heads": 4, "num_layers": 2}
TINY_UNET: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "sample_size": 8,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
}
SD15_UNET: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD21_UNET: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
}
TINY_SDXL: dict[str, Any] = TINY_UNET | {"cross_attention_dim": 64, "transformer_layers_per_block": (1, 1)}


def write(family: str, folder: Path, *, tiny: bool, device: str, dtype: torch.dtype) -> Path:
    """A pipeline folder of ``family`` (a key of :data:`FAMILIES`), random weights from a fixed seed; networks are made on ``device``."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            pipeline = FAMILIES[family](tiny)
    finally:
        torch.set_default_dtype(before)
    pipeline.save_pretrained(folder)
    return folder


def _clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77, pad_token=pad)


def _t5_tokenizer() -> T5TokenizerFast:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0), ("▁", -2.0), *((chr(code), -3.0) for code in range(33, 127))]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def _clip(size: dict[str, int], kind: type = CLIPTextModel) -> Any:
    tokenizer = _clip_tokenizer()
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return kind(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=77, **ends, **size)).eval()


def _t5(tiny: bool, width: int | None = None) -> T5EncoderModel:
    size = (TINY_T5 | ({"d_model": width} if width else {})) if tiny else T5_XXL
    return T5EncoderModel(T5Config(vocab_size=len(_t5_tokenizer()), **size)).eval()


def _vae(tiny: bool, channels: int = 4, **extra: Any) -> AutoencoderKL:
    widths = (8, 16) if tiny else (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths,
        norm_num_groups=4 if tiny else 32,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=channels,
        layers_per_block=1 if tiny else 2,
        sample_size=16 if tiny else 512,
        **extra,
    ).eval()


def _single(unet: dict[str, Any], clip: dict[str, int], tiny: bool, scheduler: Any = None) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_vae(tiny),
        text_encoder=_clip(clip),
        tokenizer=_clip_tokenizer(),
        unet=UNet2DConditionModel(**unet).eval(),
        scheduler=scheduler or DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd15(tiny: bool) -> StableDiffusionPipeline:
    return _single(TINY_UNET if tiny else SD15_UNET, TINY_CLIP if tiny else CLIP_L, tiny)


def sd21(tiny: bool) -> StableDiffusionPipeline:
    return _single(TINY_UNET if tiny else SD21_UNET, TINY_CLIP if tiny else CLIP_H, tiny)


def lcm(tiny: bool) -> StableDiffusionPipeline:
    unet = TINY_UNET | {"time_cond_proj_dim": 32} if tiny else SD15_UNET | {"time_cond_proj_dim": 256}
    return _single(
        unet, TINY_CLIP if tiny else CLIP_L, tiny, LCMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=True, steps_offset=1)
    )


def mvdream(tiny: bool) -> StableDiffusionPipeline:
    small = {"model_channels": 32, "num_head_channels": 16, "context_dim": 32, "image_size": 8, "channel_mult": [1, 2]}
    official = OFFICIAL_UNET | ({**small, "attention_resolutions": [2, 1]} if tiny else {})
    return _single(unet_config(official), TINY_CLIP if tiny else CLIP_H, tiny)


def sdxl(tiny: bool) -> StableDiffusionXLPipeline:
    pooled, ids = (32, 8) if tiny else (1280, 256)
    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": ids, "projection_class_embeddings_input_dim": pooled + 6 * ids}
    return StableDiffusionXLPipeline(
        vae=_vae(tiny, scaling_factor=0.13025),
        text_encoder=_clip(TINY_CLIP if tiny else CLIP_L),
        text_encoder_2=_clip(TINY_CLIP if tiny else CLIP_G, CLIPTextModelWithProjection),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(pad="!"),
        unet=UNet2DConditionModel(**(TINY_SDXL if tiny else SDXL_UNET), use_linear_projection=True, **told).eval(),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )


def sd3(tiny: bool) -> StableDiffusion3Pipeline:
    full = {"sample_size": 128, "num_layers": 24, "num_attention_heads": 24, "joint_attention_dim": 4096, "caption_projection_dim": 1536}
    size = full | {"attention_head_dim": 64, "pooled_projection_dim": 2048, "patch_size": 2, "pos_embed_max_size": 192}
    if tiny:
        size = {"sample_size": 8, "num_layers": 2, "num_attention_heads": 4, "joint_attention_dim": 64, "caption_projection_dim": 32}
        size |= {"attention_head_dim": 8, "pooled_projection_dim": 64, "patch_size": 1}
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(in_channels=16, out_channels=16, **size).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(tiny, 16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(TINY_CLIP if tiny else CLIP_L, CLIPTextModelWithProjection),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_clip(TINY_CLIP if tiny else CLIP_G, CLIPTextModelWithProjection),
        tokenizer_2=_clip_tokenizer(pad="!"),
        text_encoder_3=_t5(tiny, 64),
        tokenizer_3=_t5_tokenizer(),
    )


def flux(tiny: bool) -> FluxPipeline:
    small = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32}
    size = small | {"pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8)} if tiny else {}
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(tiny, 16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(TINY_CLIP if tiny else CLIP_L),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_t5(tiny),
        tokenizer_2=_t5_tokenizer(),
        transformer=FluxTransformer2DModel(in_channels=64, guidance_embeds=True, **size).eval(),
    )


FAMILIES: dict[str, Callable[[bool], Any]] = {
    "sd15": sd15,
    "sd21": sd21,
    "turbo": sd21,  # the same network; its preset differs
    "lcm": lcm,
    "sdxl": sdxl,
    "mvdream": mvdream,
    "sd3": sd3,
    "flux": flux,
}
