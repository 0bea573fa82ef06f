"""Stable Diffusion XL and its Turbo variant (arXiv 2307.01952): the UNet of Stable Diffusion under two CLIPs, told the size of the image.

    tokens     penultimate states of two CLIPs side by side          [L, D1 + D2]
    pooled     projected output of the second                        [P]
    time ids   original height and width, crop top and left, target height and width: here the image's own size, no crop

The negative embedding of the empty prompt is zero, where model_index.json does not say otherwise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fsd_gs.priors import folders, single_file, supported
from fsd_gs.priors.adapters import Adapters
from fsd_gs.priors.backbones.sd import StableDiffusionPrior, check_unet, load_parts, read_unet
from fsd_gs.priors.control import load_control
from fsd_gs.priors.family import CLIP_G, CLIP_L, VAE, Family, Folder, Published, Request, Source
from fsd_gs.priors.lora import LoraStyle
from fsd_gs.priors.text import CLIP, CLIP_PROJECTED, Embedding, TextEncoders, TextLayout

TIME_IDS = 6


class StableDiffusionXLPrior(StableDiffusionPrior):
    """``network``: UNet2DConditionModel with ``addition_embed_type`` "text_time"."""

    def added_conditions(self, latents_t: Tensor, embedding: Embedding) -> dict[str, Any]:
        """The pooled text [B, P] and the six time ids [B, 6]."""
        assert embedding.pooled is not None
        height, width = (side * self.codec.factor for side in latents_t.shape[-2:])
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=latents_t.device, dtype=self.dtype)
        sizes = {"text_embeds": embedding.pooled, "time_ids": time_ids.expand(latents_t.shape[0], -1)}
        return {**super().added_conditions(latents_t, embedding), **sizes}


def embed(text: TextEncoders, prompts: list[str]) -> Embedding:
    """Two CLIPs side by side."""
    states = [text.penultimate(index, prompts) for index in range(len(text.encoders))]
    return Embedding(torch.cat([tokens for tokens, _ in states], dim=-1), states[-1][1])


def load(request: Request) -> StableDiffusionXLPrior:
    """A diffusers folder of the SDXL family, or one checkpoint of it."""
    if request.path.is_file():
        return single_file.load(request, StableDiffusionXLPrior, LAYOUT, "StableDiffusionXLPipeline", ADAPTERS, zero_empty_negative=True)
    folder = folders.open_folder(request.path)
    check_unet(folder, RULES)
    zero = bool(folder.index.get("force_zeros_for_empty_prompt", True))
    parts = load_parts(folder, request, LAYOUT, ADAPTERS, read_unet=read_unet, zero_empty_negative=zero)
    _require_projection(folder)
    prior = StableDiffusionXLPrior(*parts)
    prior.sampler = folder.configs["scheduler"]
    prior.control = load_control(prior.network, prior.codec.factor, request, ADAPTERS.control)
    return prior


def _require_projection(folder: Folder) -> None:
    """The UNet adds an embedding of the pooled text beside those of the time ids: six, as nothing but the sizes is given (no refiner)."""
    width = folder.unet.get("projection_class_embeddings_input_dim")
    pooled = folders.config_of(folder, "text_encoder_2").get("projection_dim", 512)
    ids = TIME_IDS * (folder.unet.get("addition_time_embed_dim") or 0)
    folders.require_equal(
        folder,
        ("projection_class_embeddings_input_dim of the unet", width),
        ("projection_dim of text_encoder_2 with six time ids (an SDXL refiner takes five)", pooled + ids),
    )


ADAPTERS = Adapters(
    LoraStyle("StableDiffusionXLLoraLoaderMixin", "unet", wants_config=True),
    image={2048: "h94/IP-Adapter/sdxl_models/ip-adapter_sdxl.safetensors"},
    control={(2048, "depth"): "diffusers/controlnet-depth-sdxl-1.0"},
)
RULES = supported.UNET.allow(addition_embed_type=("text_time",))
LAYOUT = TextLayout((CLIP, CLIP_PROJECTED), embed)
TEXT = CLIP_L + CLIP_G

FAMILY = Family(
    name="sdxl",
    load=load,
    recognises=lambda folder: folder.unet.get("addition_embed_type") == "text_time",
    reads=lambda checkpoint: single_file.is_stable_diffusion(checkpoint) and single_file.has_two_encoders(checkpoint),
    network="UNet2DConditionModel",
    takes=frozenset({"image", "control", "embeddings"}),
    published={
        "sdxl": Published((Source("stabilityai/stable-diffusion-xl-base-1.0"),), 2567.5 + VAE, TEXT, "CreativeML OpenRAIL++-M"),
        "sdxl-turbo": Published(
            (Source("stabilityai/sdxl-turbo"),), 2567.5 + VAE, TEXT, "sai-nc-community (Stability AI; its LICENSE.md decides)"
        ),
    },
)
