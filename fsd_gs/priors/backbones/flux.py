"""FLUX.1 dev and schnell: a transformer trained by flow matching, as SD3 is (:mod:`~fsd_gs.priors.backbones.sd3` has the equations).

    tokens     T5's states [L', D]          pooled     of CLIP [P]

It packs 2×2 latent cells into one token, gets their positions as ``img_ids`` (0, row, column), and takes t itself. FLUX-dev is
guidance-distilled: the scale is an input of the network, one pass. FLUX-schnell has no guidance at all, so any scale but 1 (text) and 0
(negative prompt) is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras
from fsd_gs.errors import ConfigError, FileFormatError
from fsd_gs.priors import folders, supported
from fsd_gs.priors.backbones.sd3 import FlowMatchingPrior, load_transformer, sampler_of
from fsd_gs.priors.family import CLIP_L, T5_XXL, VAE, Family, Folder, Published, Request, Source
from fsd_gs.priors.lora import LoraStyle
from fsd_gs.priors.networks import NetworkCall
from fsd_gs.priors.text import CLIP, T5, Embedding, TextBank, TextEncoders, TextLayout

SAMPLE_SIZE = 128  # latent cells a side at 1024 px; FLUX's config does not say
T5_TOKENS = 512  # diffusers' own default
CELLS = 4  # latent cells that one token packs


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

    def network_output(
        self, call: NetworkCall, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float
    ) -> Tensor:
        batch, _, height, width = latents_t.shape
        guided = self.network.config.guidance_embeds
        tokens = call(
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


def embed(text: TextEncoders, prompts: list[str]) -> Embedding:
    """T5's states, and CLIP's pooled output."""
    pooled = text.encoders[0](text.ids(0, prompts)).pooler_output
    return Embedding(text.encoders[1](text.ids(1, prompts, T5_TOKENS))[0], pooled)


def load(request: Request) -> FluxPrior:
    """A diffusers folder of FLUX.1 dev or schnell."""
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    folder = folders.open_folder(request.path)
    _check(folder)
    text = folders.text_loader(folder, LAYOUT, request.dtype)
    channels = folder.transformer.get("in_channels", 64) // CELLS
    codec = folders.load_codec(folder, request, sample_size=SAMPLE_SIZE, channels=channels)
    network = load_transformer(FluxTransformer2DModel, folder, request, LORA)
    bank = TextBank(text, device=request.device, dtype=request.dtype, policy=request.options.text_encoder)
    prior = FluxPrior(network, codec, bank, request.options)
    cells = prior.latent_shape[-1] // 2
    prior.sampler = sampler_of(folder.configs["scheduler"], cells * cells, max_shift=1.15, own_ends=False)
    return prior


def _check(folder: Folder) -> None:
    """A plain text-to-image transformer (Fill, Depth and Canny take more channels) that fits VAE and text encoders."""
    config = folders.check_component(folder, "transformer", supported.FLUX_TRANSFORMER)
    folders.check_scheduler(folder, supported.FLOW_SCHEDULER)
    taken, given = config.get("in_channels", 64), config.get("out_channels")
    wanted = CELLS * folders.config_of(folder, "vae").get("latent_channels", 4)
    if taken != wanted or given not in (None, taken):
        raise FileFormatError(
            f"prior: {folder.path / 'transformer' / 'config.json'}: in_channels is {taken} and out_channels {given or taken}; expected "
            f"{wanted}, {CELLS} × latent_channels of the vae. Fill, Depth, Canny and Control are not supported, use FLUX.1 dev or schnell"
        )
    clip, t5 = (folders.config_of(folder, name) for name in ("text_encoder", "text_encoder_2"))
    pooled, width = config.get("pooled_projection_dim", 768), config.get("joint_attention_dim", 4096)
    folders.require_equal(
        folder, ("pooled_projection_dim of the transformer", pooled), ("hidden_size of text_encoder", clip.get("hidden_size", 512))
    )
    folders.require_equal(folder, ("joint_attention_dim of the transformer", width), ("d_model of text_encoder_2", t5.get("d_model", 512)))


LORA = LoraStyle("FluxLoraLoaderMixin", "transformer")
LAYOUT = TextLayout((CLIP, T5), embed)
TEXT = CLIP_L + T5_XXL

FAMILY = Family(
    name="flux",
    load=load,
    recognises=lambda folder: folder.transformer.get("_class_name") == "FluxTransformer2DModel",
    network="FluxTransformer2DModel",
    published={
        "flux": Published((Source("black-forest-labs/FLUX.1-dev"),), 11901.4 + VAE, TEXT, "FLUX.1 [dev] Non-Commercial License (gated)"),
        "flux-schnell": Published((Source("black-forest-labs/FLUX.1-schnell"),), 11891.2 + VAE, TEXT, "Apache-2.0"),
    },
)
