"""Stable Diffusion 3 and 3.5: a transformer trained by flow matching (arXiv 2403.03206). It predicts a velocity of 16-channel VAE latents.

    x_t = (1 − t) x_0 + t ε,   u = ε − x_0,   ε = x_t + (1 − t) u,   t = σ ∈ [0, 1]

    tokens     penultimate states of two CLIPs side by side, padded to T5's width, then T5's states below        [L + L', D]
    pooled     projected outputs of both CLIPs                                                                   [P1 + P2]

It is guided by CFG in one batch and takes the time as 1000 t. It is usable without T5 (text_encoder_3): its place in the sequence is zeros.
The resolution shift of its sampler is a choice of which t to visit, not of the network: here the time schedule of the run decides that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.priors import folders, supported
from fsd_gs.priors.family import CLIP_G, CLIP_L, T5_XXL, VAE, Family, Folder, Published, Request, Source
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.latent_prior import LatentPrior
from fsd_gs.priors.lora import LoraStyle, fuse_lora
from fsd_gs.priors.networks import NetworkCall, Transformer
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import FlowSchedule, clean_from_flow, noise_from_flow
from fsd_gs.priors.text import CLIP_PROJECTED, T5, Embedding, TextBank, TextEncoders, TextLayout

T5_TOKENS = 256  # diffusers' own default


class FlowMatchingPrior(LatentPrior):
    """What SD3 and FLUX share: the velocity, and ε from it. ``network``: a transformer of diffusers."""

    def __init__(self, network: Transformer, codec: LatentCodec, bank: TextBank, options: LoadOptions) -> None:
        super().__init__(network, codec, bank, FlowSchedule(), options)

    def predict_velocity(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor:
        """u = ε − x_0, [B, C, h, w], after guidance; t [] or [B] in [0, 1]."""
        return self.raw_prediction(latents_t, t, text, cameras, cfg_scale)

    def noise_from_output(self, output: Tensor, latents_t: Tensor, t: Tensor) -> Tensor:
        """ε = x_t + (1 − t) u."""
        return noise_from_flow(output, latents_t, _per_image(t, latents_t))

    def clean_from_output(self, output: Tensor, latents_t: Tensor, t: Tensor) -> Tensor:
        """x̂_0 = x_t − t u."""
        return clean_from_flow(output, latents_t, _per_image(t, latents_t))


def _per_image(t: Tensor, latents: Tensor) -> Tensor:
    """t [] or [B] as [B, 1, 1, 1], in the latents' type."""
    return t.to(latents).expand(latents.shape[0]).view(-1, 1, 1, 1)


class StableDiffusion3Prior(FlowMatchingPrior):
    """``network``: SD3Transformer2DModel."""

    def network_output(
        self, call: NetworkCall, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float
    ) -> Tensor:
        return call(
            hidden_states=latents_t.to(self.dtype),
            timestep=(1000 * t.float()),
            encoder_hidden_states=embedding.tokens,
            pooled_projections=embedding.pooled,
            return_dict=False,
        )[0]


def embed(text: TextEncoders, prompts: list[str], joint_width: int) -> Embedding:
    """Two CLIPs and T5; joint_width: D of the tokens when T5 is absent."""
    clip = [text.penultimate(index, prompts) for index in (0, 1)]
    tokens = torch.cat([state for state, _ in clip], dim=-1)
    if text.encoders[2] is None:
        t5 = tokens.new_zeros(len(prompts), T5_TOKENS, joint_width)
    else:
        t5 = text.encoders[2](text.ids(2, prompts, T5_TOKENS))[0]
    tokens = torch.nn.functional.pad(tokens, (0, t5.shape[-1] - tokens.shape[-1]))
    return Embedding(torch.cat([tokens, t5.to(tokens)], dim=1), torch.cat([pooled for _, pooled in clip], dim=-1))


def load_transformer(cls: Any, folder: Folder, request: Request, lora: LoraStyle) -> Transformer:
    """The folder's transformer, of the diffusers class ``cls``, with the LoRA of the options fused in."""
    network = folders.load_module(cls, folder.path, "transformer", request.dtype)
    if request.options.lora is not None:
        fuse_lora(network, request.options.lora, request.options.lora_scale, lora)
    return folders.place(network, request.device, request.options)


def load(request: Request) -> StableDiffusion3Prior:
    """A diffusers folder of SD3 or SD3.5."""
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

    folder = folders.open_folder(request.path)
    config = folders.check_component(folder, "transformer", supported.SD3_TRANSFORMER)
    channels, width = config.get("in_channels", 16), config.get("joint_attention_dim", 4096)
    folders.require_equal(folder, ("in_channels of the transformer", channels), ("its out_channels", config.get("out_channels", 16)))
    _check_text(folder, config.get("pooled_projection_dim", 2048), width)
    folders.check_scheduler(folder, supported.FLOW_SCHEDULER)
    layout = replace(LAYOUT, embed=partial(embed, joint_width=width))
    text = folders.text_loader(folder, layout, request.dtype)
    codec = folders.load_codec(folder, request, sample_size=config.get("sample_size", 128), channels=channels)
    network = load_transformer(SD3Transformer2DModel, folder, request, LORA)
    bank = TextBank(text, device=request.device, dtype=request.dtype, policy=request.options.text_encoder)
    prior = StableDiffusion3Prior(network, codec, bank, request.options)
    side = prior.latent_shape[-1] // config.get("patch_size", 2)
    prior.sampler = sampler_of(folder.configs["scheduler"], side * side, max_shift=1.16, own_ends=True)
    return prior


def sampler_of(config: Mapping[str, Any], tokens: int, *, max_shift: float, own_ends: bool) -> dict[str, Any]:
    """The scheduler's config with the shift that its pipeline takes for this size of image: σ ← s σ/(1 + (s − 1) σ).

    Dynamic shifting makes s of the number of tokens: s = exp μ ("exponential") or μ ("linear"), μ affine in it.

    Args:
        config: scheduler_config.json.
        tokens: Of one image in the transformer.
        max_shift: Of the pipeline, where the config says none.
        own_ends: Whether the pipeline leaves the ends of the grid of σ to the scheduler (SD3), or goes from 1 to 1/steps (FLUX).

    Returns:
        The config with ``shift`` as it is, and ``ends``: see :func:`fsd_gs.image2d.flow_grid`.
    """
    given = {key: value for key, value in config.items() if value is not None}
    shift, ends = float(given.get("shift", 1.0)), "shifted"
    if given.get("use_dynamic_shifting"):
        few, many = given.get("base_image_seq_len", 256), given.get("max_image_seq_len", 4096)
        low, high = given.get("base_shift", 0.5), given.get("max_shift", max_shift)
        mu = low + (high - low) * (tokens - few) / (many - few)
        shift, ends = math.exp(mu) if given.get("time_shift_type", "exponential") == "exponential" else mu, "trained"
    return {**config, "shift": shift, "ends": ends if own_ends else "steps"}


def _check_text(folder: Folder, pooled: int, width: int) -> None:
    """The text encoders give what the transformer takes."""
    found = sum(folders.config_of(folder, name).get("projection_dim", 512) for name in ("text_encoder", "text_encoder_2"))
    folders.require_equal(
        folder, ("pooled_projection_dim of the transformer", pooled), ("projection_dim of text_encoder and text_encoder_2", found)
    )
    if "text_encoder_3" in folder.configs:
        d_model = folder.configs["text_encoder_3"].get("d_model", 512)
        folders.require_equal(folder, ("joint_attention_dim of the transformer", width), ("d_model of text_encoder_3", d_model))


LORA = LoraStyle("SD3LoraLoaderMixin", "transformer")
LAYOUT = TextLayout((CLIP_PROJECTED, CLIP_PROJECTED, replace(T5, optional=True)), partial(embed, joint_width=4096))

FAMILY = Family(
    name="sd3",
    load=load,
    recognises=lambda folder: folder.transformer.get("_class_name") == "SD3Transformer2DModel",
    network="SD3Transformer2DModel",
    published={
        "sd3": Published(
            (Source("stabilityai/stable-diffusion-3-medium-diffusers"),),
            2028.3 + VAE,
            CLIP_L + CLIP_G + T5_XXL,
            "Stability AI Community License (gated)",
        )
    },
)
