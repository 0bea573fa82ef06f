"""Tiny random pipelines of every family in the diffusers layout, built without a network: what the loaders are tested on."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
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
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from fsd_gs.priors.backbones.nano import WEIGHTS
from fsd_gs.priors.digests import CHECKSUMS
from fsd_gs.priors.splat.folder import COMPONENT

SD_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def clip_tokenizer(length: int = 32, pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """Letters as tokens: any ASCII prompt is representable, different prompts differ."""
    letters = [chr(c) for c in range(33, 127)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length, pad_token=pad_token)


def t5_tokenizer() -> T5TokenizerFast:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0), ("▁", -2.0), *((chr(c), -3.0) for c in range(33, 127))]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def clip_config(width: int = 32, projection: int = 32) -> CLIPTextConfig:
    tokenizer = clip_tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=37,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def vae(latent_channels: int = 4, **extra) -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent_channels,
        layers_per_block=1,
        sample_size=16,
        **extra,
    ).eval()


def tiny_vae(latent_channels: int = 4) -> AutoencoderTiny:
    torch.manual_seed(2)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=latent_channels,
    ).eval()


def unet(cross_attention_dim: int = 32, **extra) -> UNet2DConditionModel:
    torch.manual_seed(0)
    settings = {
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "sample_size": 8,
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": cross_attention_dim,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**{**settings, **extra}).eval()


def text_encoder() -> CLIPTextModel:
    torch.manual_seed(3)
    return CLIPTextModel(clip_config()).eval()


def projected_encoder(seed: int, width: int = 32) -> CLIPTextModelWithProjection:
    torch.manual_seed(seed)
    return CLIPTextModelWithProjection(clip_config(width)).eval()


def t5_encoder() -> T5EncoderModel:
    torch.manual_seed(5)
    config = T5Config(vocab_size=len(t5_tokenizer()), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return T5EncoderModel(config).eval()


def stable_diffusion(prediction: str = "epsilon", scheduler_extra: dict | None = None, **unet_extra) -> StableDiffusionPipeline:
    scheduler = DDIMScheduler(**SD_BETAS, prediction_type=prediction, clip_sample=False, steps_offset=1, **(scheduler_extra or {}))
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=unet(**unet_extra),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def latent_consistency() -> StableDiffusionPipeline:
    pipeline = stable_diffusion(time_cond_proj_dim=32)
    pipeline.register_modules(scheduler=LCMScheduler.from_config(pipeline.scheduler.config))
    return pipeline


def stable_diffusion_xl(second: int = 32) -> StableDiffusionXLPipeline:
    """``second``: width of the second text encoder; in a single file the two are told apart by it."""
    network = unet(
        cross_attention_dim=32 + second,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
        transformer_layers_per_block=(1, 1),
        use_linear_projection=True,
    )
    scheduler = DDIMScheduler(**SD_BETAS, clip_sample=False, timestep_spacing="leading", steps_offset=1)
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=projected_encoder(4, second),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad_token="!"),
        unet=network,
        scheduler=scheduler,
        add_watermarker=False,
    )


def stable_diffusion_3(t5: bool) -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=16,
    ).eval()
    torch.manual_seed(5)
    config = T5Config(vocab_size=len(t5_tokenizer()), d_model=64, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=projected_encoder(3),
        tokenizer=clip_tokenizer(),
        text_encoder_2=projected_encoder(4),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=T5EncoderModel(config).eval() if t5 else None,
        tokenizer_3=t5_tokenizer() if t5 else None,
    )


def flux(guidance_embeds: bool = True) -> FluxPipeline:
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
    ).eval()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
    )


def save(pipeline, folder: Path) -> Path:
    pipeline.save_pretrained(folder)
    return folder


def save_embedded_unet(folder: Path) -> Path:
    """What ships with the package without the part that draws: a multi-view UNet of the family nano."""
    return shutil.copytree(WEIGHTS, folder, ignore=shutil.ignore_patterns(COMPONENT, CHECKSUMS))


def recorded(pipeline) -> list[tuple[Tensor, float, Tensor]]:
    """(x_t, n, guided output) of every step that ``pipeline``'s own loop makes from now on; without its progress bar."""
    seen, step = [], pipeline.scheduler.step

    def recording(output, n, sample, **rest):
        seen.append((sample.clone(), torch.as_tensor(n).item(), output.clone()))
        return step(output, n, sample, **rest)

    pipeline.scheduler.step = recording
    pipeline.set_progress_bar_config(disable=True)
    return seen
