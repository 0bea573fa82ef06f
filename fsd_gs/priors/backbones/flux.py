"""SD3, SD3.5 and FLUX: transformers trained by flow matching (arXiv 2403.03206). They predict a velocity of 16-channel VAE latents.

    x_t = (1 − t) x_0 + t ε,   u = ε − x_0,   ε = x_t + (1 − t) u,   t = σ ∈ [0, 1]

SD3 is guided by CFG in one batch and takes the time as 1000 t. FLUX packs 2×2 latent cells into one token, gets their positions as
``img_ids`` (0, row, column), and takes t itself. FLUX-dev is guidance-distilled: the scale is an input of the network, one pass.
FLUX-schnell has no guidance at all, so any scale but 1 (text) and 0 (negative prompt) is refused.

The resolution shift of the samplers (SD3: 3, FLUX: by image size) is a choice of which t to visit, not of the network: here the time
schedule of the run decides that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import ConfigError
from fsd_gs.priors import components
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.latent_prior import LatentPrior, place
from fsd_gs.priors.lora import LoraFamily, fuse_lora
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import FlowSchedule, clean_from_flow, noise_from_flow
from fsd_gs.priors.stable_diffusion import load_codec
from fsd_gs.priors.text import Embedding, TextBank, TextKind

FLUX_SAMPLE_SIZE = 128  # latent cells a side at 1024 px; FLUX's config does not say


class FlowMatchingPrior(LatentPrior):
    """What SD3 and FLUX share: the velocity, and ε from it."""

    def __init__(self, network: Any, codec: LatentCodec, bank: TextBank, options: LoadOptions) -> None:
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

    def network_output(self, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float) -> Tensor:
        return self._forward(
            hidden_states=latents_t.to(self.dtype),
            timestep=(1000 * t.float()),
            encoder_hidden_states=embedding.tokens,
            pooled_projections=embedding.pooled,
            return_dict=False,
        )[0]


class FluxPrior(FlowMatchingPrior):
    """``network``: FluxTransformer2DModel, dev (guidance as an input) or schnell (none)."""

    def split_guidance(self, cfg_scale: float) -> tuple[float, float]:
        """No CFG outside: s > 0 is the text with guidance s, s = 0 the negative prompt."""
        if cfg_scale in (0.0, 1.0):
            return self.options.guidance, cfg_scale
        if not self.network.config.guidance_embeds:
            raise ConfigError(
                f"guidance.cfg_scale: this FLUX (schnell) is distilled without guidance; expected 1, got {cfg_scale:g}; use FLUX-dev"
            )
        return cfg_scale, 1.0

    def network_output(self, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float) -> Tensor:
        batch, _, height, width = latents_t.shape
        guided = self.network.config.guidance_embeds
        tokens = self._forward(
            hidden_states=pack(latents_t).to(self.dtype),
            timestep=t.to(self.dtype),
            guidance=torch.full((batch,), guidance, device=latents_t.device, dtype=torch.float32) if guided else None,
            pooled_projections=embedding.pooled,
            encoder_hidden_states=embedding.tokens,
            txt_ids=torch.zeros(embedding.tokens.shape[1], 3, device=latents_t.device, dtype=self.dtype),
            img_ids=image_ids(height // 2, width // 2).to(latents_t.device, self.dtype),
            return_dict=False,
        )[0]
        return unpack(tokens, height, width)


def pack(latents: Tensor) -> Tensor:
    """[B, C, h, w] → [B, (h/2)(w/2), 4C]: each 2×2 block of cells becomes one token, channels outermost."""
    batch, channels, height, width = latents.shape
    if height % 2 or width % 2:
        raise ConfigError(f"image_size: FLUX needs an even number of latent cells a side, got {height}×{width}")
    blocks = latents.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(batch, (height // 2) * (width // 2), 4 * channels)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`pack` for latents of ``height`` × ``width`` cells."""
    batch, _, packed = tokens.shape
    blocks = tokens.reshape(batch, height // 2, width // 2, packed // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return blocks.reshape(batch, packed // 4, height, width)


def image_ids(rows: int, columns: int) -> Tensor:
    """[rows · columns, 3] positions (0, row, column) of the tokens."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).reshape(-1, 3)


def load_sd3(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> StableDiffusion3Prior:
    """A diffusers folder of SD3 or SD3.5; T5 (text_encoder_3) may be absent."""
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

    network = _load_transformer(SD3Transformer2DModel, folder, dtype, options, "sd3")
    codec = load_codec(folder, device, dtype, options, network.config.sample_size)
    bank = _bank(folder, "sd3", device, dtype, options, network.config.joint_attention_dim)
    return StableDiffusion3Prior(place(network, device, options), codec, bank, options)


def load_flux(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> FluxPrior:
    """A diffusers folder of FLUX.1 dev or schnell."""
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    network = _load_transformer(FluxTransformer2DModel, folder, dtype, options, "flux")
    codec = load_codec(folder, device, dtype, options, FLUX_SAMPLE_SIZE)
    return FluxPrior(place(network, device, options), codec, _bank(folder, "flux", device, dtype, options), options)


def _load_transformer(cls: Any, folder: Path, dtype: torch.dtype, options: LoadOptions, family: LoraFamily) -> Any:
    network = components.load_module(cls, folder, "transformer", dtype)
    if options.lora is not None:
        fuse_lora(network, options.lora, options.lora_scale, family)
    return network


def _bank(folder: Path, kind: TextKind, device: torch.device, dtype: torch.dtype, options: LoadOptions, joint_width: int = 0) -> TextBank:
    components.require_text_components(folder, kind)
    loader = components.text_loader(folder, kind, dtype, joint_width)
    return TextBank(loader, device=device, dtype=dtype, policy=options.text_encoder)
