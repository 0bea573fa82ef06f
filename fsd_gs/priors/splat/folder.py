"""The ``splats`` component of a prior's folder: what stands beside the UNet.

splats/config.json         {"_class_name": "SplatHead", "version": 4} and its settings
splats/model.safetensors   its weights in float16
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

import torch

from fsd_gs.errors import FileFormatError
from fsd_gs.io import atomic_write, make_folder, write_text
from fsd_gs.priors.nano.patch_code import PatchCode
from fsd_gs.priors.splat.network import SplatHead, SplatSettings

COMPONENT, HEAD, VERSION = "splats", "SplatHead", 4
CONFIG, WEIGHTS = f"{COMPONENT}/config.json", f"{COMPONENT}/model.safetensors"


def save_head(folder: Path, head: SplatHead) -> None:
    """Write ``folder``/splats, in half precision."""
    from safetensors.torch import save_file

    make_folder(folder / COMPONENT)
    tensors = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in head.state_dict().items()}
    write_text(folder / CONFIG, json.dumps({"_class_name": HEAD, "version": VERSION} | asdict(head.settings), indent=2))
    with atomic_write(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def load_head(folder: Path, code: PatchCode, features: int, device: torch.device) -> SplatHead:
    """The frozen head of a prior's folder, in float32.

    Args:
        folder: of the prior.
        code: of its latents.
        features: channels in front of the UNet's last convolution.
        device: where it goes.

    Raises:
        FileFormatError: another version, settings that this code does not know, or weights that do not fit them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        version = values.pop("version", None)
        if version != VERSION:
            raise FileFormatError(f"prior: {folder} is a splat prior of version {version}, this is version {VERSION}; train it again")
        values.pop("_class_name", None)
        known = {f.name for f in fields(SplatSettings)}
        if set(values) != known:
            odd = ", ".join(sorted(set(values) ^ known))
            raise FileFormatError(f"prior: {folder / CONFIG}: expected exactly the settings of this version; missing or unknown: {odd}")
        weights = load_file(folder / WEIGHTS)
        with torch.random.fork_rng(devices=[]):
            head = SplatHead(SplatSettings(**values), code, features)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise FileFormatError(f"prior: {folder} cannot be read as a splat prior ({' '.join(str(error).split())[:150]})") from error
    expected = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        odd = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise FileFormatError(f"prior: {folder / WEIGHTS} does not fit its config.json: {odd[0]} and {len(odd) - 1} other tensors differ")
    head.load_state_dict({name: value.float() for name, value in weights.items()})
    return head.to(device).eval().requires_grad_(False)
