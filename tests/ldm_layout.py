"""Tiny networks written under the names of the original latent-diffusion checkpoints: the inverse of diffusers' converters."""

from __future__ import annotations

import re

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
SIMPLE = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def unet_names(unet, prefix: str = "model.diffusion_model.") -> dict[str, Tensor]:
    """UNet2DConditionModel's state dict as model.diffusion_model.*: blocks are numbered through, samplers are blocks of their own."""
    layers = unet.config.layers_per_block
    renamed = {}
    for key, value in unet.state_dict().items():
        stem, leaf = key.rsplit(".", 1)
        name = SIMPLE.get(stem) or _block_name(stem, layers, unet)
        renamed[f"{prefix}{name}.{leaf}"] = value
    return renamed


def _block_name(stem: str, layers: int, unet) -> str:
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", stem)
    if match is None:  # mid_block.resnets.0, attentions.0, resnets.1
        kind, number, rest = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", stem).groups()
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}.{RESNET.get(rest, rest)}"
    way, block, kind, number, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op"
    if way == "down":
        place = f"input_blocks.{1 + block * (layers + 1) + number}"
        return f"{place}.0.{RESNET[rest]}" if kind == "resnets" else f"{place}.1.{rest}"
    place = f"output_blocks.{block * (layers + 1) + (layers if kind == 'upsamplers' else number)}"
    if kind == "upsamplers":  # behind the attention, if there is one
        return f"{place}.{2 if hasattr(unet.up_blocks[block], 'attentions') else 1}.conv"
    return f"{place}.0.{RESNET[rest]}" if kind == "resnets" else f"{place}.1.{rest}"


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


def clip_names(state: dict[str, Tensor], prefix: str = "cond_stage_model.transformer.") -> dict[str, Tensor]:
    """CLIPTextModel's state dict as SD 1.x has it; SDXL's first encoder has the prefix conditioner.embedders.0.transformer."""
    return {prefix + (k if k.startswith("text_model.") else f"text_model.{k}"): v for k, v in state.items()}


def open_clip_names(state: dict[str, Tensor], prefix: str = "cond_stage_model.model.") -> dict[str, Tensor]:
    """CLIPTextModel's state dict as SD 2.x and MVDream have it (open_clip); SDXL's second encoder has the prefix
    conditioner.embedders.1.model. and a projection."""
    state = {k.removeprefix("text_model."): v for k, v in state.items()}
    renamed = {}
    if "text_projection.weight" in state:
        renamed[f"{prefix}text_projection"] = state["text_projection.weight"].T
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
