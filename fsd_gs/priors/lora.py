"""LoRA weights by path: read as safetensors, converted from the common layouts by diffusers, fused into the network.

Fused means W ← W + scale · B A: no cost at run time. Text-encoder parts are left out, with a warning: the encoders here come and go.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

from fsd_gs.errors import BackendError, FileFormatError

LoraFamily = Literal["sd", "sdxl", "sd3", "flux"]


def fuse_lora(network: Any, path: str, scale: float, family: LoraFamily) -> None:
    """Fuse the LoRA at ``path`` (a .safetensors file, or a folder with one) into ``network`` with strength ``scale``."""
    from safetensors.torch import load_file

    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise BackendError("lora: needs the package peft; install fsd-gs[lora]") from error
    file = lora_file(path)
    try:
        state = load_file(file)
    except Exception as error:
        raise FileFormatError(f"lora: {file} is not a readable safetensors file; download it again") from error
    mixin, part = _mixin(family)
    converted = mixin.lora_state_dict(state, **({"unet_config": network.config} if family == "sdxl" else {}))
    weights, alphas = converted if isinstance(converted, tuple) else (converted, None)
    if not any(key.startswith(f"{part}.") for key in weights):
        raise FileFormatError(f"lora: {file} has no weights for this backbone's {part}; was it trained for another family?")
    if any(key.startswith("text_encoder") for key in weights):
        warnings.warn(f"lora: {file}: the text-encoder part is left out; only the {part} is adapted", UserWarning, stacklevel=3)
    before = {name for name, _ in network.named_parameters()}
    if family == "sd3":
        mixin.load_lora_into_transformer(weights, transformer=network, adapter_name="fsd_gs")
    elif part == "unet":
        mixin.load_lora_into_unet(weights, network_alphas=alphas, unet=network, adapter_name="fsd_gs")
    else:
        mixin.load_lora_into_transformer(weights, network_alphas=alphas, transformer=network, adapter_name="fsd_gs")
    if {name for name, _ in network.named_parameters()} == before:
        raise FileFormatError(f"lora: {file}: none of its layers fit this backbone; was it trained for another family?")
    network.fuse_lora(lora_scale=scale)
    network.unload_lora()
    network.requires_grad_(False)


def lora_file(path: str) -> Path:
    """The one .safetensors file that ``path`` means; pickles are refused."""
    file = Path(path).expanduser()
    if file.is_dir():
        files = sorted(file.glob("*.safetensors"))
        if len(files) != 1:
            raise FileFormatError(f"lora: expected one .safetensors file in {file}, found {len(files)}; give the file itself")
        return files[0]
    if not file.is_file():
        raise FileFormatError(f"lora: no file '{path}'")
    if file.suffix != ".safetensors":
        raise FileFormatError(f"lora: {file.name}: expected a .safetensors file (pickles are refused); convert it first")
    return file


def _mixin(family: LoraFamily) -> tuple[Any, str]:
    from diffusers import loaders

    table = {
        "sd": ("StableDiffusionLoraLoaderMixin", "unet"),
        "sdxl": ("StableDiffusionXLLoraLoaderMixin", "unet"),
        "sd3": ("SD3LoraLoaderMixin", "transformer"),
        "flux": ("FluxLoraLoaderMixin", "transformer"),
    }
    name, part = table[family]
    return getattr(loaders, name), part
