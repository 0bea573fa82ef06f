"""Text to many different 3D assets: Flow Score Distillation on Gaussian splats.

import fsd_gs
result = fsd_gs.generate("a red chair", seed=0)
result.save("my-chair")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import fsd_gs.core.openmp  # noqa: F401 — before torch
from fsd_gs.errors import FsdGsError

if TYPE_CHECKING:
    from fsd_gs.core.cameras import evaluation_orbit, orbit_cameras
    from fsd_gs.core.types import Cameras, Gaussians, Render
    from fsd_gs.export.formats import load_splats, save_splats
    from fsd_gs.train.api import generate
    from fsd_gs.train.result import Result

__version__ = "0.1.0"

# Loaded at first use, so that ``import fsd_gs`` (and with it every ``--help``) needs no torch: name → module.
_LAZY = {
    "Cameras": "fsd_gs.core.types",
    "Gaussians": "fsd_gs.core.types",
    "Render": "fsd_gs.core.types",
    "evaluation_orbit": "fsd_gs.core.cameras",
    "orbit_cameras": "fsd_gs.core.cameras",
    "Result": "fsd_gs.train.result",
    "generate": "fsd_gs.train.api",
    "load_splats": "fsd_gs.export.formats",
    "save_splats": "fsd_gs.export.formats",
}
_SUBPACKAGES = ("export", "guidance", "image2d", "metrics", "noise", "priors", "render", "splats", "train")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"fsd_gs.{name}")
    raise AttributeError(f"module 'fsd_gs' has no attribute '{name}'")


__all__ = [
    "Cameras",
    "FsdGsError",
    "Gaussians",
    "Render",
    "Result",
    "__version__",
    "evaluation_orbit",
    "generate",
    "load_splats",
    "orbit_cameras",
    "save_splats",
]
