"""The card of a trained prior: what it learned from, how long, where, with which versions, and how well it went."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fsd_gs import __version__
from fsd_gs.pretrain.settings import PretrainConfig


@dataclass(frozen=True)
class StageResult:
    """A stage on the card.

    Attributes:
        parameters: of the networks.
        steps, minutes: of training, over all sessions.
        score: the decoder's PSNR in dB, or the last loss.
    """

    parameters: int
    steps: int
    minutes: float
    score: float


def make_card(
    config: PretrainConfig, categories: Sequence[str], autoencoder: StageResult, denoiser: StageResult, device: torch.device
) -> dict[str, Any]:
    """Plain values for card.json. Paths of the machine that trained are left out."""
    settings = asdict(config)
    del settings["output"]
    settings["init"], settings["data"]["meshes"] = Path(config.init).name, Path(config.data.meshes).name
    data = config.data
    return {
        "data": {
            "source": Path(data.meshes).name or "catalogue",
            "categories": list(categories),
            "objects": data.objects,
            "pictures": data.objects * data.rigs * data.views,
        },
        "autoencoder": {**_facts(autoencoder), "psnr_db": round(autoencoder.score, 2)},
        "denoiser": {**_facts(denoiser), "loss": round(denoiser.score, 5)},
        "megabytes": round(2 * (autoencoder.parameters + denoiser.parameters) / 1e6, 2),
        "device": device_name(device),
        "versions": {"fsd_gs": __version__, "python": platform.python_version()}
        | {package: version(package) for package in ("torch", "diffusers", "transformers", "numpy")},
        "settings": settings,
    }


def _facts(result: StageResult) -> dict[str, Any]:
    return {"parameters": result.parameters, "steps": result.steps, "minutes": round(result.minutes, 2)}


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's kind and threads, for the card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"


def count_parameters(*modules: Any) -> int:
    """Numbers in all parameters of the modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
