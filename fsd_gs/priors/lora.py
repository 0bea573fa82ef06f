"""LoRA weights by path: read as safetensors, converted from the common layouts by diffusers, fused into the network.

Fused means W ← W + scale · B A: no cost at run time. Text-encoder parts are left out, with a warning: the encoders here come and go.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsd_gs.errors import BackendError, FileFormatError
from fsd_gs.priors import folders

PEFT_PREFIX = "base_model.model."
_ADAPTER_KEY = re.compile(r"\.(?:lora|lokr|alpha|dora)(?=[_.]|$)")  # what follows the name of the layer


@dataclass(frozen=True)
class LoraStyle:
    """How a family's LoRA files are read.

    Attributes:
        mixin: Class of ``diffusers.loaders`` that knows the layouts of this family's files.
        part: Name of the denoiser in them.
        wants_config: Whether the mixin's reader asks for the network's config.
    """

    mixin: str
    part: str
    wants_config: bool = False


def fuse_lora(network: Any, path: str, scale: float, style: LoraStyle) -> None:
    """Fuse the LoRA at ``path`` (a .safetensors file, or a folder with one) into ``network`` with strength ``scale``."""
    from diffusers import loaders
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise BackendError("lora: needs the package peft; install fsd-gs[lora]") from error
    file = lora_file(path)
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"lora: {file} is not a readable safetensors file; download it again") from error
    mixin, part = getattr(loaders, style.mixin), style.part
    state = with_prefix(state, {name for name, _ in network.named_children()}, part)
    try:
        converted = mixin.lora_state_dict(state, **({"unet_config": network.config} if style.wants_config else {}))
    except Exception as error:  # the converters raise what they like for keys of another family
        raise FileFormatError(f"lora: {file}: its layout is not known for this backbone; was it trained for another family?") from error
    weights, alphas = converted if isinstance(converted, tuple) else (converted, None)
    if not any(key.startswith(f"{part}.") for key in weights):
        raise FileFormatError(f"lora: {file} has no weights for this backbone's {part}; was it trained for another family?")
    if any(key.startswith("text_encoder") for key in weights):
        warnings.warn(f"lora: {file}: the text-encoder part is left out; only the {part} is adapted", UserWarning, stacklevel=3)
    before = {name for name, _ in network.named_parameters()}
    target = {part: network, "adapter_name": "fsd_gs"}
    load_into = getattr(mixin, f"load_lora_into_{part}")
    if "network_alphas" in inspect.signature(load_into).parameters:
        target["network_alphas"] = alphas
    try:
        with folders.quietly():
            load_into(weights, **target)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FileFormatError(f"lora: {file} does not fit this backbone ({reason}); was it trained for another family?") from error
    if {name for name, _ in network.named_parameters()} == before:
        raise FileFormatError(f"lora: {file}: none of its layers fit this backbone; was it trained for another family?")
    _warn_of_layers_left_out(network, file, weights, part)
    network.fuse_lora(lora_scale=scale)
    network.unload_lora()
    network.requires_grad_(False)


def _warn_of_layers_left_out(network: Any, file: Path, weights: Mapping[str, Any], part: str) -> None:
    """One line about layers of the file that the network does not have: the reader passes over them."""
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
    from peft.tuners.tuners_utils import BaseTunerLayer

    own = {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}
    named = own if any(".lora_A" in key for key in own) else convert_unet_state_dict_to_peft(own)  # as the reader itself does
    layers = {_ADAPTER_KEY.split(key)[0] for key in named}
    layers |= {_ADAPTER_KEY.split(key)[0] for key in weights if not key.startswith((f"{part}.", "text_encoder"))}
    adapted = {name for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)}
    lost = sorted(layers - adapted)
    if lost:
        examples = ", ".join(lost[:3]) + (", …" if len(lost) > 3 else "")
        message = f"lora: {file}: {len(lost)} of its {len(layers)} layers are none of this backbone's and are left out ({examples})"
        warnings.warn(f"{message}; was it trained for another version of it?", UserWarning, stacklevel=4)


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


def with_prefix(state: Mapping[str, Any], children: set[str], part: str) -> dict[str, Any]:
    """The weights under the names that diffusers' readers know: keys that begin with a module of the network get its name before them.

    Args:
        state: Tensors by key.
        children: Names of the network's own modules.
        part: "unet" or "transformer".
    """
    bare = {key.removeprefix(PEFT_PREFIX): value for key, value in state.items()}
    return {(f"{part}.{key}" if key.split(".")[0] in children else key): value for key, value in bare.items()}
