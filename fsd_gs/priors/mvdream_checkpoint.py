"""MVDream's own checkpoints: latent diffusion's names and configs, turned into diffusers' UNet2DConditionModel, AutoencoderKL and CLIP.

    sd-v2.1-base-4view.pt (or .safetensors)     everything in one file, without configs: model.diffusion_model.*, first_stage_model.*,
                                                cond_stage_model.model.*
    ashawkey/mvdream-sd2.1-diffusers            a diffusers folder whose UNet alone has the official names (without prefix) and config

The camera projection camera_embed.* becomes the class embedding; every other tensor is renamed by diffusers' own converters, and every
tensor of either side must find its partner.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import FileFormatError
from fsd_gs.priors import single_file
from fsd_gs.priors.family import Checkpoint
from fsd_gs.priors.hub import read_json
from fsd_gs.priors.networks import Autoencoder, UNet
from fsd_gs.priors.text import TextEncoders, last_hidden_state

IMAGEDREAM_REFUSED = "this is an ImageDream checkpoint, which needs a reference image; use a text-to-multi-view one (MVDream)"
UNET_PREFIX, VAE_PREFIX, TEXT_PREFIX = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."
CAMERA_KEYS = tuple(f"camera_embed.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias"))

# The network of sd-v2.1-base-4view.pt, in the words of its own configuration file.
OFFICIAL_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "context_dim": 1024,
    "camera_dim": 16,
}


def unet_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """The UNet2DConditionModel settings of a network described in the official configuration's words."""
    channels = [official["model_channels"] * m for m in official["channel_mult"]]
    with_attention = [2**level in official["attention_resolutions"] for level in range(len(channels))]
    return {
        "sample_size": official["image_size"],
        "in_channels": official["in_channels"],
        "out_channels": official["out_channels"],
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in with_attention],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(with_attention)],
        "layers_per_block": official["num_res_blocks"],
        "cross_attention_dim": official["context_dim"],
        "attention_head_dim": _heads(official, channels),  # diffusers' name for the number of heads
        "use_linear_projection": True,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": official["camera_dim"],
    }


def _heads(official: Mapping[str, Any], channels: list[int]) -> list[int]:
    """Heads of each level: as many as fit heads of ``num_head_channels``, or ``num_heads`` at every level where that width is not given."""
    width, count = official.get("num_head_channels"), official.get("num_heads")
    if width not in (None, -1):
        heads = [channel // width for channel in channels] if isinstance(width, int) and width > 0 else []
        odd = [channel for channel in channels if not heads or channel % width]
        if odd:
            raise FileFormatError(f"mvdream: num_head_channels is {width}; expected a whole number that divides the widths {channels}")
        return heads
    if not isinstance(count, int) or count < 1 or any(channel % count for channel in channels):
        raise FileFormatError(
            f"mvdream: num_heads is {count} and num_head_channels {width}; expected one of them, dividing the widths {channels}"
        )
    return [count] * len(channels)


def convert_unet(state: Mapping[str, Tensor], official: Mapping[str, Any]) -> dict[str, Tensor]:
    """The official weights ([model.diffusion_model.]*) under UNet2DConditionModel's names.

    Raises FileFormatError for ImageDream, and where the camera weights are missing.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    prefix = UNET_PREFIX if any(key.startswith(UNET_PREFIX) for key in state) else ""
    bare = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    refuse_imagedream(bare)
    missing = [key for key in CAMERA_KEYS if key not in bare]
    if missing:
        raise FileFormatError(
            f"mvdream: the checkpoint has no camera weights ({', '.join(missing)}); it is a single-view model, load it as one"
        )
    # diffusers' converter knows these four as the class embedding of a label; under their own name it would silently drop them.
    renamed = {UNET_PREFIX + key.replace("camera_embed.", "label_emb.0."): value for key, value in bare.items()}
    return convert_ldm_unet_checkpoint(renamed, unet_config(official))


def refuse_imagedream(bare: Mapping[str, Any]) -> None:
    """FileFormatError for an ImageDream checkpoint, which needs a picture as well."""
    if any(key.startswith("image_embed.") or ".to_k_ip." in key or ".to_v_ip." in key for key in bare):
        raise FileFormatError(f"mvdream: {IMAGEDREAM_REFUSED}")


def require_official_width(checkpoint: Checkpoint, official: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another MVDream (sd-v1.5-4view) before its tensors are held against the official network."""
    width, wanted = single_file.text_width(checkpoint), official["context_dim"]
    if width not in (None, wanted):
        raise FileFormatError(
            f"mvdream: {checkpoint.file.name}: its cross-attention takes texts of width {width}, as MVDream on Stable Diffusion 1.5 does "
            f"(sd-v1.5-4view); supported: width {wanted}, sd-v2.1-base-4view"
        )


def build_unet(state: Mapping[str, Tensor], official: Mapping[str, Any], dtype: torch.dtype) -> UNet:
    """A frozen UNet2DConditionModel with the official weights; every tensor of either side must find its partner."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    weights = convert_unet(state, official)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(official))
    try:
        unet.load_state_dict({key: value.to(dtype) for key, value in weights.items()}, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise FileFormatError(f"mvdream: the UNet's weights do not fit ({' '.join(lines[1:3])[:300]}); is the file complete?") from error
    return unet.eval().requires_grad_(False)


def is_official(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is MVDream's or ImageDream's in the official layout."""
    return any("camera_embed." in key for key in checkpoint.shapes)


def build_vae(state: Mapping[str, Tensor], configs: Path, dtype: torch.dtype) -> Autoencoder:
    """The VAE of the official file; its config comes from ``configs``, a Stable Diffusion 2.1 folder."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae: Any = AutoencoderKL.from_config(read_json(configs / "vae" / "config.json"))
    weights = convert_ldm_vae_checkpoint({k: v for k, v in state.items() if k.startswith(VAE_PREFIX)}, dict(vae.config))
    _load_strictly(vae, weights, "VAE")
    return vae.to(dtype).eval().requires_grad_(False)


def build_text(file: Path, configs: Path, dtype: torch.dtype) -> TextEncoders:
    """The open_clip text encoder of the official file as transformers' CLIP; config and tokenizer come from ``configs``."""
    import transformers
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    state = {k: v for k, v in single_file.read_tensors(file).items() if k.startswith(TEXT_PREFIX)}
    config = transformers.CLIPTextConfig.from_pretrained(configs / "text_encoder", local_files_only=True)
    encoder: Any = transformers.CLIPTextModel(config)
    converted = convert_open_clip_checkpoint(encoder, state, prefix=TEXT_PREFIX)
    # transformers 5 dropped the "text_model." level inside CLIPTextModel; the converter still writes it.
    known = set(encoder.state_dict())
    weights = {(key if key in known else key.removeprefix("text_model.")): value for key, value in converted.items()}
    _load_strictly(encoder, {k: v for k, v in weights.items() if k in known}, "text encoder", optional=("position_ids",))
    tokenizer = transformers.CLIPTokenizer.from_pretrained(configs / "tokenizer", local_files_only=True)
    return TextEncoders(last_hidden_state, [tokenizer], [encoder.to(dtype).eval().requires_grad_(False)])


def _load_strictly(module: Any, weights: Mapping[str, Tensor], what: str, optional: tuple[str, ...] = ()) -> None:
    report = module.load_state_dict(weights, strict=False)
    missing = [key for key in report.missing_keys if not key.endswith(optional or ("\0",))]
    if missing or report.unexpected_keys:
        odd = (missing or report.unexpected_keys)[:3]
        raise FileFormatError(f"mvdream: the {what}'s weights do not fit ({', '.join(odd)}); is the file complete?")
