"""Tiny networks written under the names of the original latent-diffusion checkpoints: the inverse of diffusers' converters."""

from __future__ import annotations

import re

import torch
from torch import Tensor


def vae_names(state: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """AutoencoderKL's state dict as first_stage_model.*"""
    renamed = {}
    for key, value in state.items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", key)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{blocks - 1 - int(m[1])}.block.{m[2]}", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = (
            name.replace("mid_block.attentions.0.", "mid.attn_1.")
            .replace("conv_shortcut", "nin_shortcut")
            .replace("conv_norm_out", "norm_out")
        )
        for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
        if "attn_1" in name and name.endswith("weight") and "norm" not in name:
            value = value[..., None, None]
        renamed[f"first_stage_model.{name}"] = value
    return renamed


def clip_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIPTextModel's state dict as SD 1.x has it."""
    prefix = "cond_stage_model.transformer."
    return {prefix + (k if k.startswith("text_model.") else f"text_model.{k}"): v for k, v in state.items()}


def open_clip_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIPTextModel's state dict as SD 2.x and MVDream have it (open_clip)."""
    state = {k.removeprefix("text_model."): v for k, v in state.items()}
    prefix, renamed = "cond_stage_model.model.", {}
    simple = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    parts = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for key, value in state.items():
        if key in simple:
            renamed[prefix + simple[key]] = value
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
        if match and match[2] in parts:
            renamed[f"{prefix}transformer.resblocks.{match[1]}.{parts[match[2]]}.{match[3]}"] = value
        if match and match[2] == "self_attn.q_proj":
            three = [state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            renamed[f"{prefix}transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"] = torch.cat(three)
    return renamed
