"""Stable Diffusion 1.x, 2.x, SDXL, their Turbo and LCM variants: a UNet that predicts ε, v or x_0 of VAE latents.

    ε-prediction   x̂_0 = (x_t − σ ε)/α                          latent diffusion, arXiv 2112.10752
    v-prediction   x̂_0 = α x_t − σ v,   ε = α v + σ x_t         progressive distillation, arXiv 2202.00512; well defined at α = 0, too
    sample         ε = (x_t − α x̂_0)/σ

SDXL (arXiv 2307.01952) adds a pooled text embedding and six time ids (original height and width, crop top and left, target height and
width): here the image's own size, no crop. LCM (arXiv 2310.04378) takes the guidance as an embedding of w = s − 1, in one pass.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.priors import components
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.latent_prior import LatentPrior, place
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule, clean_from_v, noise_from_v
from fsd_gs.priors.text import Embedding, TextBank


def guidance_embedding(w: float, width: int) -> Tensor:
    """[1, width] sinusoidal embedding of LCM's guidance weight w = s − 1, as its networks were distilled with."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = 1000.0 * w * frequencies
    return torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()]), (0, width % 2))[None]


class StableDiffusionPrior(LatentPrior):
    """``network``: UNet2DConditionModel; ``prediction``: epsilon, v_prediction or sample."""

    def __init__(
        self, network: Any, codec: LatentCodec, bank: TextBank, schedule: DiscreteSchedule, options: LoadOptions, prediction: str
    ) -> None:
        super().__init__(network, codec, bank, schedule, options)
        self._schedule: DiscreteSchedule = schedule
        self.prediction = prediction
        self.guidance_width: int | None = network.config.time_cond_proj_dim
        self.needs_time_ids: bool = network.config.addition_embed_type == "text_time"

    @property
    def schedule(self) -> DiscreteSchedule:
        return self._schedule

    def split_guidance(self, cfg_scale: float) -> tuple[float, float]:
        """LCM networks take s themselves: one pass with the text for s > 0, one with the negative prompt for s = 0."""
        if self.guidance_width is None or cfg_scale in (0.0, 1.0):
            return self.options.guidance, cfg_scale
        return cfg_scale, 1.0

    def network_output(self, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float) -> Tensor:
        return self._forward(
            latents_t.to(self.dtype),
            self.timesteps(t),
            encoder_hidden_states=embedding.tokens,
            timestep_cond=self._timestep_condition(latents_t.shape[0], guidance),
            added_cond_kwargs=self._added_conditions(latents_t, embedding),
            return_dict=False,
        )[0]

    def timesteps(self, t: Tensor) -> Tensor:
        """The trained timesteps n of t; t = 0 is clean and takes the first."""
        return self._schedule.index(t).clamp_min(0)

    def _timestep_condition(self, batch: int, guidance: float) -> Tensor | None:
        if self.guidance_width is None:
            return None
        return guidance_embedding(guidance - 1.0, self.guidance_width).to(self.device, self.dtype).expand(batch, -1)

    def _added_conditions(self, latents_t: Tensor, embedding: Embedding) -> dict[str, Tensor] | None:
        if not self.needs_time_ids:
            return None
        assert embedding.pooled is not None
        height, width = (side * self.codec.factor for side in latents_t.shape[-2:])
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=latents_t.device, dtype=self.dtype)
        return {"text_embeds": embedding.pooled, "time_ids": time_ids.expand(latents_t.shape[0], -1)}

    def noise_from_output(self, output: Tensor, latents_t: Tensor, t: Tensor) -> Tensor:
        """ε from ε, v or x_0."""
        if self.prediction == "epsilon":
            return output
        alpha, sigma = self._alpha_sigma(latents_t, t)
        if self.prediction == "v_prediction":
            return noise_from_v(output, latents_t, alpha, sigma)
        return (latents_t - alpha * output) / sigma.clamp_min(1e-8)

    def clean_from_output(self, output: Tensor, latents_t: Tensor, t: Tensor) -> Tensor:
        """x̂_0 from ε, v or x_0; InputError for ε at α = 0, which says nothing about it."""
        if self.prediction == "sample":
            return output
        alpha, sigma = self._alpha_sigma(latents_t, t)
        if self.prediction == "v_prediction":
            return clean_from_v(output, latents_t, alpha, sigma)
        if not alpha.all():
            raise InputError("prior: an ε-prediction says nothing at α = 0; a schedule with zero terminal SNR needs v-prediction")
        return (latents_t - sigma * output) / alpha

    def _alpha_sigma(self, latents_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of t [] or [B], as [B, 1, 1, 1]. Half-precision t would round to another timestep: both are looked up in float64."""
        times = t.to(latents_t.device).double().expand(latents_t.shape[0]).view(-1, 1, 1, 1)
        return self._schedule.alpha(times).to(latents_t.dtype), self._schedule.sigma(times).to(latents_t.dtype)


def load_folder(
    folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions, *, two_encoders: bool
) -> StableDiffusionPrior:
    """A diffusers folder of the SD 1.x/2.x family, or of the SDXL family with ``two_encoders``."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    kind = "sdxl" if two_encoders else "clip"
    components.require_text_components(folder, kind)
    schedule, prediction = components.load_schedule(folder)
    unet = components.load_module(UNet2DConditionModel, folder, "unet", dtype)
    if options.lora is not None:
        from fsd_gs.priors.lora import fuse_lora

        fuse_lora(unet, options.lora, options.lora_scale, "sdxl" if two_encoders else "sd")
    codec = load_codec(folder, device, dtype, options, _sample_size(unet, folder))
    bank = TextBank(
        components.text_loader(folder, kind, dtype),
        device=device,
        dtype=dtype,
        policy=options.text_encoder,
        zero_empty_negative=two_encoders and components.read_json(folder / "model_index.json").get("force_zeros_for_empty_prompt", True),
    )
    return StableDiffusionPrior(place(unet, device, options), codec, bank, schedule, options, prediction)


def load_codec(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions, sample_size: int) -> LatentCodec:
    """The folder's VAE; ``sample_size``: side of the network's latents, which sets the image size unless the options do."""
    vae = place(components.load_vae(folder, dtype), device, options)
    tiny = components.load_tiny_vae(options, dtype)
    image_size = options.image_size or sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
    return LatentCodec(vae, image_size, options, None if tiny is None else place(tiny, device, options))


def _sample_size(unet: Any, folder: Path) -> int:
    size = unet.config.sample_size
    if not isinstance(size, int):
        raise FileFormatError(f"prior: {folder}: expected a square sample_size in unet/config.json, got {size}; set image_size")
    return size
