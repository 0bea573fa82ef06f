"""``load``: from a name, a path or a hub id to a prior. The family comes from the folder's own configs.

load("nano")                                   the embedded prior, which ships with the package
load("exact", run=RunShape(4, 128))            the ideal denoiser over the procedural catalogue, made to measure
load("sd15", device="cuda", dtype="auto")      weights by short name, with fallbacks (``published`` of the family)
load("./my-finetune")                          a folder in the diffusers layout: SD 1.x/2.x, SDXL, SD3, FLUX, MVDream
load("./model.safetensors")                    one file of the SD 1.x/2.x/SDXL family; MVDream's official layout, also as .pt
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fsd_gs.core.device import resolve_device
from fsd_gs.errors import ConfigError, FileFormatError
from fsd_gs.priors import backbones, folders, single_file
from fsd_gs.priors.base import Prior
from fsd_gs.priors.family import Family, Request
from fsd_gs.priors.hub import PICKLES, Announce, log_announcement, resolve
from fsd_gs.priors.options import LoadOptions, RunShape, resolve_dtype

BESIDE = {
    "image": "image prompt",
    "control": "ControlNet",
    "embeddings": "textual inversion",
}  # what some families take beside the prompt: setting → words for it
EMBEDDED = "nano"  # the prior that ships with the package
_OTHER_FORMATS = {
    ".gguf": "quantised weights (GGUF)",
    ".onnx": "an ONNX graph",
    ".msgpack": "Flax weights",
    ".h5": "TensorFlow weights",
    ".zip": "an archive",
    ".gz": "an archive",
    ".tar": "an archive",
}


def load(
    name_or_path: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = "auto",
    options: LoadOptions | None = None,
    run: RunShape | None = None,
    announce: Announce = log_announcement,
) -> Prior:
    """A frozen diffusion prior.

    Args:
        name_or_path: A short name, a folder, a file or a hub id.
        device: Of the networks.
        dtype: Precision of the networks ("auto", "float32", "bfloat16", "float16" or a torch dtype); latents and residual keep the
            caller's. On a CPU "auto" is float32, but bfloat16 for the embedded prior and others of its making (``fsd-gs train-prior``)
            where the CPU has matrix units for it.
        options: How a network is loaded and asked.
        run: Views and image size of the run, for priors that have none of their own.
        announce: Called with one line before anything is downloaded.

    Raises:
        InputError: Unknown name.
        ConfigError: An option that this family has no way to take.
        FileFormatError: Not a usable model; the line says which component and entry, what was expected and what came.
        BackendError: No network, gated, no such device.
    """
    options = LoadOptions() if options is None else options
    device = resolve_device(device)
    precision = resolve_dtype(dtype, device)
    request = Request(None, device, precision, dtype == "auto", options, RunShape() if run is None else run)
    family = backbones.built_in(str(name_or_path))
    if family is None:
        half = precision in (torch.float16, torch.bfloat16)
        place = resolve(name_or_path, offline=options.offline, half=half, announce=announce)
        family, request = family_of(place), replace(request, place=place)
    _require_taken(family, options)
    return family.load(request)


def _require_taken(family: Family, options: LoadOptions) -> None:
    """Refuse what is asked for beside the prompt where the family has no way to take it."""
    for what, meaning in BESIDE.items():
        if getattr(options, what) and what not in family.takes:
            able = [other for other in backbones.families() if what in other.takes]
            names = ", ".join(name for other in able for name in other.published)
            raise ConfigError(
                f"prior.{what}: a prior of the family '{family.name}' takes no {meaning}; those of {' and '.join(f.name for f in able)} do "
                f"({names}, and folders like them)"
            )


def family_of(place: Path) -> Family:
    """The family of a folder or file. FileFormatError if it is of none."""
    return _family_of_file(place) if place.is_file() else backbones.of_folder(folders.open_folder(place))


def _family_of_file(file: Path) -> Family:
    suffix = file.suffix.lower()
    if suffix not in (".safetensors", *PICKLES):
        kind = _OTHER_FORMATS.get(suffix, f"a '{suffix}' file" if suffix else "a file without a suffix")
        raise FileFormatError(
            f"prior: {file.name} is {kind}, which is not supported; expected a .safetensors checkpoint or a diffusers folder"
        )
    refusal = f"prior: {file.name}: pickle checkpoints are refused because they can run code; convert it to .safetensors"
    if suffix not in (".safetensors", ".pt"):
        raise FileFormatError(refusal)
    try:
        checkpoint = single_file.open_checkpoint(file)
    except FileFormatError as error:
        if suffix == ".pt":
            raise FileFormatError(refusal) from error
        raise
    family = backbones.of_checkpoint(checkpoint)
    if family is not None:
        return family
    if suffix == ".pt":
        raise FileFormatError(f"prior: {file.name}: a .pt is read in MVDream's official layout only; convert it to .safetensors")
    single_file.architecture(checkpoint)  # says what is missing
    raise FileFormatError(f"prior: {file.name} is a checkpoint that no backbone here reads; give a diffusers folder")
