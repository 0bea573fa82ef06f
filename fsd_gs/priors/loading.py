"""``load``: from a name, a path or a hub id to a prior. The family comes from the folder's own configs.

load("nano")                                   the embedded prior, which ships with the package
load("sd15", device="cuda", dtype="auto")      a registry name with fallbacks (:mod:`fsd_gs.priors.registry`)
load("./my-finetune")                          a folder in the diffusers layout: SD 1.x/2.x, SDXL, SD3, FLUX, MVDream
load("./model.safetensors")                    one file of the SD 1.x/2.x/SDXL family; MVDream's official layout, also as .pt
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fsd_gs.core.device import resolve_device
from fsd_gs.errors import FileFormatError
from fsd_gs.priors.base import Prior
from fsd_gs.priors.components import Family, names_background, recognise
from fsd_gs.priors.hub import Announce, log_announcement, read_json, resolve
from fsd_gs.priors.options import LoadOptions, multiplies_bfloat16, resolve_dtype

EMBEDDED = "nano"  # the prior that ships with the package
Builder = Callable[[Path, torch.device, torch.dtype, LoadOptions], Prior]


def load(
    name_or_path: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = "auto",
    options: LoadOptions | None = None,
    announce: Announce = log_announcement,
) -> Prior:
    """A frozen diffusion prior.

    name_or_path: a registry name, a folder, a file or a hub id. dtype: precision of the networks ("auto", "float32", "bfloat16",
    "float16" or a torch dtype); latents and residual keep the caller's; on a CPU "auto" is float32, but bfloat16 for the embedded prior
    and others of its making (``fsd-gs train-prior``) where the CPU has matrix units for it. announce: called with one line before
    anything is downloaded.
    Raises InputError (unknown name), FileFormatError (not a usable model), BackendError (no network, gated, no such device).
    """
    options = LoadOptions() if options is None else options
    device = resolve_device(device)
    if name_or_path == EMBEDDED:
        from fsd_gs.priors.nano.prior import WEIGHTS, verify

        name_or_path = verify(WEIGHTS)
    precision = resolve_dtype(dtype, device)
    place = resolve(name_or_path, offline=options.offline, half=precision in (torch.float16, torch.bfloat16), announce=announce)
    if place.is_file():
        return _load_file(place, device, precision, options)
    family = recognise(place)
    if dtype == "auto" and multiplies_bfloat16(device) and names_background(read_json(place / "model_index.json")):
        precision = torch.bfloat16
    return _BUILDERS[family](place, device, precision, options)


def _load_file(file: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> Prior:
    from fsd_gs.priors import mvdream, single_file

    if mvdream.is_official_checkpoint(file):
        return mvdream.load_official(file, device, dtype, options)
    if file.suffix != ".safetensors":
        raise FileFormatError(f"prior: {file.name}: pickle checkpoints are refused because they can run code; convert it to .safetensors")
    return single_file.load_file(file, device, dtype, options)


def _sd(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> Prior:
    from fsd_gs.priors.stable_diffusion import load_folder

    return load_folder(folder, device, dtype, options, two_encoders=False)


def _sdxl(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> Prior:
    from fsd_gs.priors.stable_diffusion import load_folder

    return load_folder(folder, device, dtype, options, two_encoders=True)


def _sd3(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> Prior:
    from fsd_gs.priors.flow import load_sd3

    return load_sd3(folder, device, dtype, options)


def _flux(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> Prior:
    from fsd_gs.priors.flow import load_flux

    return load_flux(folder, device, dtype, options)


def _mvdream(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> Prior:
    from fsd_gs.priors.mvdream import load_folder

    return load_folder(folder, device, dtype, options)


def _mvdream_ldm(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> Prior:
    from fsd_gs.priors.mvdream import load_ldm_folder

    return load_ldm_folder(folder, device, dtype, options)


def _imagedream(folder: Path, device: torch.device, dtype: torch.dtype, options: LoadOptions) -> Prior:
    from fsd_gs.priors.mvdream import IMAGEDREAM_REFUSED

    raise FileFormatError(f"prior: {folder}: {IMAGEDREAM_REFUSED}")


_BUILDERS: dict[Family, Builder] = {
    "sd": _sd,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux": _flux,
    "mvdream": _mvdream,
    "mvdream-ldm": _mvdream_ldm,
    "imagedream": _imagedream,
}
