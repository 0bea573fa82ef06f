"""One .safetensors checkpoint of the SD 1.x/2.x/SDXL family in the original (LDM) layout.

The weights are renamed by diffusers' own converters. The file has no configs and no tokenizer: they come from ``options.config`` (a
diffusers folder or hub id of the same family), by default from the registry's entry for the architecture that the weights show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fsd_gs.errors import FileFormatError
from fsd_gs.priors import components
from fsd_gs.priors.hub import resolve
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.latent_prior import place
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.stable_diffusion import StableDiffusionPrior
from fsd_gs.priors.text import TextBank, TextEncoders

# Widths of the text that the first cross-attention takes, by architecture.
_BY_CONTEXT_WIDTH = {768: "sd15", 1024: "sd21", 2048: "sdxl"}


def load_file(file: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> StableDiffusionPrior:
    """The checkpoint as a prior. Raises FileFormatError if it holds no UNet of this family, or lacks VAE or text encoder."""
    name = architecture(file)
    configs = resolve(options.config or name, offline=options.offline)
    if components.recognise(configs) not in ("sd", "sdxl"):
        raise FileFormatError(f"prior: config: {configs} is no Stable Diffusion folder; give one of the family of {file.name}")
    two_encoders = components.recognise(configs) == "sdxl"
    pipeline = _pipeline(file, configs, dtype, two_encoders)
    if options.lora is not None:
        from fsd_gs.priors.lora import fuse_lora

        fuse_lora(pipeline.unet, options.lora, options.lora_scale, "sdxl" if two_encoders else "sd")
    vae = pipeline.vae.float() if dtype == torch.float16 else pipeline.vae
    tiny = components.load_tiny_vae(options, dtype)
    image_size = options.image_size or pipeline.unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
    codec = LatentCodec(place(_freeze(vae), device, options), image_size, options, None if tiny is None else place(tiny, device, options))
    text = _text_encoders(pipeline, two_encoders)
    # The encoders came with the file, so freeing them for good would lose them: "free" parks them on the CPU instead.
    bank = TextBank(
        lambda: text,
        device=device,
        dtype=dtype,
        policy="cpu" if options.text_encoder == "free" else options.text_encoder,
        zero_empty_negative=two_encoders,
    )
    schedule, prediction = components.load_schedule(configs)
    return StableDiffusionPrior(place(_freeze(pipeline.unet), device, options), codec, bank, schedule, options, prediction)


def architecture(file: Path) -> str:
    """The registry name whose architecture a checkpoint has, from the shapes in its header."""
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            widths = {k: opened.get_slice(k).get_shape() for k in opened.keys() if k.endswith("attn2.to_k.weight")}  # noqa: SIM118
            channels = {k: opened.get_slice(k).get_shape() for k in opened.keys() if k.endswith("input_blocks.0.0.weight")}  # noqa: SIM118
    except Exception as error:
        raise FileFormatError(f"prior: {file} is not a readable safetensors file; download it again") from error
    unet = [shape for key, shape in widths.items() if key.startswith("model.diffusion_model.")]
    if not unet or not channels:
        raise FileFormatError(
            f"prior: {file.name} holds no Stable Diffusion UNet in the original layout; expected keys model.diffusion_model.* (a LoRA goes "
            "to prior.lora; SD3 and FLUX are loaded from a diffusers folder)"
        )
    if next(iter(channels.values()))[1] != 4:
        raise FileFormatError(f"prior: {file.name} is an inpainting or depth variant; use the plain text-to-image model")
    return _BY_CONTEXT_WIDTH.get(unet[0][-1], "sd15")


def _pipeline(file: Path, configs: Path, dtype: torch.dtype, two_encoders: bool) -> Any:
    import diffusers

    cls = getattr(diffusers, "StableDiffusionXLPipeline" if two_encoders else "StableDiffusionPipeline")
    extra = {} if two_encoders else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    try:
        return cls.from_single_file(file, config=str(configs), torch_dtype=dtype, local_files_only=True, use_safetensors=True, **extra)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise FileFormatError(f"prior: {file.name} cannot be loaded with the configs of {configs} ({reason})") from error


def _text_encoders(pipeline: Any, two_encoders: bool) -> TextEncoders:
    if not two_encoders:
        return TextEncoders("clip", [pipeline.tokenizer], [_freeze(pipeline.text_encoder)])
    encoders = [_freeze(pipeline.text_encoder), _freeze(pipeline.text_encoder_2)]
    return TextEncoders("sdxl", [pipeline.tokenizer, pipeline.tokenizer_2], encoders)


def _freeze(module: Any) -> Any:
    return module.eval().requires_grad_(False)
