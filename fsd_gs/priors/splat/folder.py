"""The splat-native prior on disk.

model_index.json      {"_class_name": "SplatPrior", "version": 1, "vocabulary": "catalogue" or "", "categories": […]}
denoiser/config.json  the network's settings
denoiser/model.safetensors   its weights in float16
card.json             how it was made, how good it is, the command that continues it
checksums.json        SHA-256 of every other file
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from fsd_gs.errors import FileFormatError
from fsd_gs.io import atomic_write, make_folder, new_folder, write_text
from fsd_gs.priors.digests import CHECKSUMS, checksums
from fsd_gs.priors.splat.network import NetworkSettings, SplatDenoiser

PIPELINE, NETWORK, VERSION = "SplatPrior", "SplatDenoiser", 3
INDEX, CARD = "model_index.json", "card.json"
CONFIG, WEIGHTS = "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"


def save_folder(folder: Path, network: SplatDenoiser, *, vocabulary: str, categories: Sequence[str], card: Mapping[str, Any]) -> None:
    """Write ``folder`` anew, in half precision.

    Args:
        folder: of the prior.
        network: its averaged weights.
        vocabulary: "catalogue" if prompts are read in its words, "" for free captions.
        categories: those of the catalogue that were trained, none for all (or for free captions).
        card: plain values.
    """
    from safetensors.torch import save_file

    index = {"_class_name": PIPELINE, "version": VERSION, "vocabulary": vocabulary, "categories": list(categories)}
    tensors = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in network.state_dict().items()}
    with new_folder(folder) as place:
        make_folder(place / "transformer")
        write_text(place / INDEX, json.dumps(index, indent=2))
        write_text(place / CONFIG, json.dumps({"_class_name": NETWORK} | asdict(network.settings), indent=2))
        with atomic_write(place / WEIGHTS) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
        write_text(place / CARD, json.dumps(dict(card), indent=2))
        write_text(place / CHECKSUMS, json.dumps(checksums(place), indent=2))


def load_network(folder: Path, device: torch.device) -> SplatDenoiser:
    """The frozen network of a folder, in float32.

    Raises:
        FileFormatError: another version, settings that this code does not know, or weights that do not fit them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        version = json.loads((folder / INDEX).read_text(encoding="utf-8")).get("version")
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if version != VERSION:
            raise FileFormatError(f"prior: {folder} is a splat prior of version {version}, this is version {VERSION}; train it again")
        values.pop("_class_name", None)
        known = {f.name for f in fields(NetworkSettings)}
        if set(values) != known:
            odd = ", ".join(sorted(set(values) ^ known))
            raise FileFormatError(f"prior: {folder / CONFIG}: expected exactly the settings of this version; missing or unknown: {odd}")
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise FileFormatError(f"prior: {folder} cannot be read as a splat prior ({' '.join(str(error).split())[:150]})") from error
    with torch.random.fork_rng(devices=[]):
        network = SplatDenoiser(NetworkSettings(**values))
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        odd = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise FileFormatError(f"prior: {folder / WEIGHTS} does not fit its config.json: {odd[0]} and {len(odd) - 1} other tensors differ")
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    return network.to(device).eval().requires_grad_(False)
