""".splat (antimatter15): 32 bytes a splat, no header: position 3×f32, scale 3×f32, RGBA 4×u8, quaternion wxyz 4×u8 = 128 q + 128.

Colour is the base colour without view dependence. Splats are written in descending importance, because viewers draw while loading.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export.filters import importance
from fsd_gs.export.ply import MAX_SPLATS, activate
from fsd_gs.io import write_bytes

C0 = 0.28209479177387814  # Y_0: colour = 0.5 + C0 f_dc
ROW = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])


def pack_rows(gaussians: Gaussians) -> NDArray[np.void]:
    """[N] rows of the 32-byte layout, in the order of ``gaussians``."""
    g = gaussians.detach().to("cpu", torch.float32)
    rows = np.zeros(len(g), dtype=ROW)
    rows["position"], rows["scale"] = g.means.numpy(), g.scales.numpy()
    rgba = torch.cat([0.5 + C0 * g.sh[:, 0], g.opacities[:, None]], dim=1)
    rows["rgba"] = (rgba.clamp(0, 1) * 255).round().numpy()
    rows["rotation"] = (g.quats * 128 + 128).round().clamp(0, 255).numpy()
    return rows


def save_splat(gaussians: Gaussians, path: str | os.PathLike[str]) -> None:
    """Write ``gaussians`` as .splat, most important first; SH above degree 0 is left out."""
    order = importance(gaussians).argsort(descending=True, stable=True)
    write_bytes(path, pack_rows(gaussians.select(order)).tobytes())


def load_splat(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read a .splat: SH degree 0, float32, CPU."""
    path = Path(path)
    size = path.stat().st_size
    if size % ROW.itemsize:
        raise FileFormatError(f"{path}: truncated or not a .splat (expected a multiple of {ROW.itemsize} bytes, got {size})")
    if size // ROW.itemsize > max_splats:
        raise FileFormatError(f"{path}: {size // ROW.itemsize:,} splats, more than the limit of {max_splats:,}; thin it out first")
    rows = np.fromfile(path, dtype=ROW)
    rgba = torch.from_numpy(rows["rgba"].astype(np.float32)) / 255
    quats = (torch.from_numpy(rows["rotation"].astype(np.float32)) - 128) / 128
    # 0 and 255 stand for everything that rounds to them: half a step inside the open interval of opacities.
    logits = torch.logit(rgba[:, 3], eps=0.5 / 255)
    scales = torch.from_numpy(rows["scale"].astype(np.float32))
    sh = (rgba[:, None, :3] - 0.5) / C0
    return activate(torch.from_numpy(rows["position"].copy()), quats, scales.log(), logits, sh, source=str(path))
