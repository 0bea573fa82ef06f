"""Rasterizers behind one interface: gsplat on CUDA, numba kernels on the CPU, and a slow readable twin in torch.

    rasterizer = make_rasterizer("auto", device="cpu")
    view = rasterizer(gaussians, cameras, background=torch.ones(3), depth=True)

The backends themselves (``fsd_gs.render.cpu.rasterization`` and its siblings in ``cuda`` and ``reference``) share the contract of
``gsplat.rasterization``. They are imported when first used, so this package needs neither numba nor gsplat to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fsd_gs.core.lazy import exports
from fsd_gs.render.settings import RasterizerSettings, RenderSettings

if TYPE_CHECKING:
    from fsd_gs.render.base import Rasterizer, make_rasterizer, render_frames

__all__ = ["Rasterizer", "RasterizerSettings", "RenderSettings", "make_rasterizer", "render_frames"]

_find = exports(__name__, {"Rasterizer": "base", "make_rasterizer": "base", "render_frames": "base"})


def __getattr__(name: str) -> Any:
    """``fsd_gs.render.cpu`` works after ``import fsd_gs.render`` alone."""
    return importlib.import_module(f"{__name__}.{name}") if name in ("cpu", "cuda", "reference") else _find(name)
