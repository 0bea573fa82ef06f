"""The card of a splat-native prior: what it learned from, how long, with which versions, how well, and how to go on."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from fsd_gs import __version__
from fsd_gs.pretrain.card import count_parameters, device_name
from fsd_gs.pretrain.splat.settings import SplatPretrainConfig
from fsd_gs.pretrain.splat.trainer import SplatTrainer


def make_splat_card(config: SplatPretrainConfig, trainer: SplatTrainer, held_out: dict[str, list[float]], error: float) -> dict[str, Any]:
    """Plain values for card.json. Paths of the machine that trained are left out.

    Args:
        config: of the training.
        trainer: as it stands.
        held_out: timestep → [error of the views seen, of other views] of x̂_0 on held-out objects; empty if not measured in this session.
        error: running mean of the training error of the renders; NaN if there was no step in this session.
    """
    settings = asdict(config)
    del settings["output"]
    settings["init"], settings["data"]["meshes"] = Path(config.init).name, Path(config.data.meshes).name
    progress, parameters = trainer.progress, count_parameters(trainer.model)
    return {
        "network": "multi-view UNet that draws splats",
        "data": {"source": Path(config.data.meshes).name or "catalogue", "categories": list(config.data.categories)},
        "training": {
            "parameters": parameters,
            "steps": progress.step,
            "objects": progress.objects,
            "minutes": round(progress.seconds / 60, 2),
            "error": round(error, 5) if isfinite(error) else None,
            "held_out": held_out,
        },
        "megabytes": round(2 * parameters / 1e6, 2),
        "licence": "Apache-2.0" if not config.data.meshes else "that of the meshes",
        "continue": "fsd-gs train-prior --network splat --config OUTPUT/config.yaml",
        "device": device_name(trainer.device),
        "versions": {"fsd_gs": __version__, "python": platform.python_version()} | {p: version(p) for p in ("torch", "numpy")},
        "settings": settings,
    }
