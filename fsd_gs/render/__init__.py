"""Rasterizers behind one interface: gsplat on CUDA, numba kernels on the CPU, and a slow readable twin in torch.

    rasterizer = make_rasterizer("auto", device="cpu")
    view = rasterizer(gaussians, cameras, background=torch.ones(3), depth=True)

The backends themselves (``fsd_gs.render.cpu.rasterization`` and its siblings in ``cuda`` and ``reference``) share the contract of
``gsplat.rasterization``. They are imported when first used, so this package needs neither numba nor gsplat to import.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from fsd_gs.render.base import Rasterizer, RasterizerSettings, make_rasterizer, render_frames

__all__ = ["Rasterizer", "RasterizerSettings", "make_rasterizer", "render_frames"]


def __getattr__(name: str) -> ModuleType:
    """``fsd_gs.render.cpu`` works after ``import fsd_gs.render`` alone."""
    if name in ("cpu", "cuda", "reference"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
