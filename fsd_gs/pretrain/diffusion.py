"""The denoiser of the embedded prior: a small MVDream (arXiv 2308.16512) trained on latents of catalogue views.

    x_t = α_t x_0 + σ_t ε,   v = α_t ε − σ_t x_0   (arXiv 2202.00512),   one t for all views of a rig
    L = E [ σ_t ‖v_φ(x_t, t, y, c) − v‖² ]

y a caption (dropped now and then for classifier-free guidance), c the cameras (dropped now and then, together with cross-view attention,
so that the network also works on single pictures). The weight σ_t favours noisy times a little, where v-prediction settles what the object
is and distillation begins; Min-SNR (arXiv 2303.09556) hardly trains them. The weights that ship are their exponential moving average.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.pretrain.captions import draw_caption
from fsd_gs.pretrain.settings import UNET_GROUPS, DiffusionSettings
from fsd_gs.pretrain.shards import load_shard
from fsd_gs.pretrain.tokenizer import MAX_TOKENS
from fsd_gs.priors.backbones.mvdream import see_all_views

SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    # The last step is pure noise (arXiv 2305.08891). With SD's own schedule 7 % of the picture's mean shows through it, the network learns
    # to read the background from there instead of from the text, and samples that start from pure noise come out on grey.
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}


def make_scheduler() -> Any:
    """The DDIMScheduler of :data:`SCHEDULER`."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(**{key: value for key, value in SCHEDULER.items() if key != "_class_name"})


def make_unet(settings: DiffusionSettings, latent_channels: int, sample_size: int) -> Any:
    """An untrained UNet: attention everywhere but at full resolution, where most of the cost and none of the layout is."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    levels, heads = len(settings.channels), tuple(width // settings.head_width for width in settings.channels)
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=tuple(settings.channels),
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
        layers_per_block=settings.layers,
        cross_attention_dim=settings.text_width,
        attention_head_dim=heads,  # pyright: ignore[reportArgumentType]  (diffusers' name for the number of heads)
        use_linear_projection=True,
        norm_num_groups=UNET_GROUPS,
        addition_embed_type="text",  # the caption as a whole joins the time embedding: text is learned sooner than by cross-attention alone
        addition_embed_type_num_heads=settings.text_width // settings.head_width,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=16,
    )


def make_text_encoder(settings: DiffusionSettings, tokenizer: Any) -> Any:
    """An untrained CLIPTextModel for the tokenizer's vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.text_width,
            intermediate_size=4 * settings.text_width,
            projection_dim=settings.text_width,
            num_hidden_layers=settings.text_layers,
            num_attention_heads=settings.text_width // settings.head_width,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Denoiser(torch.nn.Module):
    """UNet and text encoder, trained as one."""

    def __init__(self, unet: Any, text_encoder: Any, tokenizer: Any) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.tokenizer = unet, text_encoder, tokenizer
        if next(unet.parameters()).device.type == "cpu":
            use_plain_attention(unet)
        see_all_views(unet)

    def forward(self, latents: Tensor, timesteps: Tensor, captions: list[str], cameras: Tensor | None) -> Tensor:
        """v [O·V, C, h, w] for latents [O·V, C, h, w], timesteps [O·V], O captions and cameras [O·V, 16]; None: single pictures."""
        views = latents.shape[0] // len(captions)
        tokens = self.tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt").input_ids
        text = self.text_encoder(tokens.to(latents.device))[0].repeat_interleave(views, dim=0)
        joined = {"views": 1 if cameras is None else views}
        return self.unet(latents, timesteps, text, class_labels=cameras, cross_attention_kwargs=joined, return_dict=False)[0]


def use_plain_attention(unet: Any) -> None:
    """Attention as plain matrix products: on a CPU the fused kernel's backward pass took 31 % of a training step, these 6 %."""
    from diffusers.models.attention_processor import AttnProcessor

    unet.set_attn_processor(AttnProcessor())


@dataclass(frozen=True)
class LatentSet:
    """Every rig in memory. latents float16 [O, R, V, C, h, w]; cameras [O, R, V, 16]; backgrounds [O, R, 3]; captions of each object."""

    latents: Tensor
    cameras: Tensor
    backgrounds: Tensor
    captions: tuple[tuple[str, ...], ...]

    @staticmethod
    def load(folder: Path) -> LatentSet:
        shards = [load_shard(path) for path in sorted(folder.glob("shard-*.safetensors"))]
        return LatentSet(
            torch.cat([s.pixels for s in shards]),
            torch.cat([s.cameras for s in shards]),
            torch.cat([s.backgrounds for s in shards]),
            tuple(c for s in shards for c in s.captions),
        )

    def to(self, device: torch.device) -> LatentSet:
        return LatentSet(self.latents.to(device), self.cameras.to(device), self.backgrounds, self.captions)


@dataclass(frozen=True)
class Batch:
    """latents [O·V, C, h, w]; cameras [O·V, 16]; O captions."""

    latents: Tensor
    cameras: Tensor
    captions: list[str]


def draw_batch(data: LatentSet, objects: int, drop_text: float, generator: torch.Generator) -> Batch:
    """Random objects, one rig of each."""
    chosen = torch.randint(len(data.captions), (objects,), generator=generator)
    rigs = torch.randint(data.latents.shape[1], (objects,), generator=generator)
    texts = [
        draw_caption(data.captions[o], data.backgrounds[o, r], drop_text, generator)
        for o, r in zip(chosen.tolist(), rigs.tolist(), strict=True)
    ]
    at = (chosen.to(data.latents.device), rigs.to(data.latents.device))
    return Batch(data.latents[at].flatten(0, 1).float(), data.cameras[at].flatten(0, 1).float(), texts)


def v_loss(denoiser: Denoiser, batch: Batch, alphas_cumprod: Tensor, *, cameras: bool, generator: torch.Generator) -> Tensor:
    """L of one batch; one timestep for all views of an object."""
    x_0, objects = batch.latents, len(batch.captions)
    device = alphas_cumprod.device
    n = torch.randint(len(alphas_cumprod), (objects,), generator=generator).repeat_interleave(len(x_0) // objects).to(device)
    noise = torch.randn(x_0.shape, generator=generator).to(device)
    x_0 = x_0.to(device)
    alpha, sigma = (value.sqrt().view(-1, 1, 1, 1) for value in (alphas_cumprod[n], 1 - alphas_cumprod[n]))
    x_t, v = alpha * x_0 + sigma * noise, alpha * noise - sigma * x_0
    numbers = batch.cameras.to(device) if cameras else None
    with torch.autocast(device.type, torch.bfloat16):
        predicted = denoiser(x_t.to(memory_format=torch.channels_last), n, batch.captions, numbers).float()
    return (sigma * (predicted - v).pow(2)).mean()


class WeightAverage:
    """Exponential moving average of a module's parameters, in float32: decay min(1 − 1/horizon, (1 + n)/(10 + n)) after n updates.

    diffusers' EMAModel counts one update less, begins with a copy of the first step, and moves one tensor at a time: the average would not
    be the one that the shipped weights and every saved state hold."""

    def __init__(self, module: torch.nn.Module, horizon: float) -> None:
        self.horizon, self.updates = horizon, 0
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        self.updates += 1
        decay = min(1 - 1 / self.horizon, (1 + self.updates) / (10 + self.updates))
        current = dict(module.named_parameters())
        averages, values = list(self.values.values()), [current[name].detach() for name in self.values]
        torch._foreach_lerp_(averages, values, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]  (one call for all)

    def copy_of(self, module: torch.nn.Module) -> Any:
        """``module`` with the averaged parameters."""
        twin = copy.deepcopy(module)
        with torch.no_grad():
            for name, value in twin.named_parameters():
                value.copy_(self.values[name])
        return twin.eval().requires_grad_(False)
