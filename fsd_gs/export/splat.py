""".splat (antimatter15): 32 bytes a splat, no header: position 3×f32, scale 3×f32, RGBA 4×u8, quaternion wxyz 4×u8 = 128 q + 128.

Colour is the base colour without view dependence. Splats are written in descending importance, because viewers draw while loading.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fsd_gs.core.sh import C0
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export.filters import importance
from fsd_gs.export.gate import MAX_SPLATS, check_count, file_size, read_start, readable, refuse_foreign
from fsd_gs.export.quantise import COLOUR_TOLERANCE, beyond, finite_splats, report
from fsd_gs.export.stored import assemble, unit_quats
from fsd_gs.io import write_bytes

ROW = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])
_SAMPLE = 4096


def pack_rows(gaussians: Gaussians) -> NDArray[np.void]:
    """[N] rows of the 32-byte layout, in the order of ``gaussians``."""
    g = gaussians.detach().to("cpu", torch.float32)
    rows = np.zeros(len(g), dtype=ROW)
    rows["position"], rows["scale"] = g.means.numpy(), g.scales.numpy()
    rgba = torch.cat([0.5 + C0 * g.sh[:, 0], g.opacities[:, None]], dim=1)
    rows["rgba"] = (rgba.clamp(0, 1) * 255).round().numpy()
    rows["rotation"] = (unit_quats(g.quats) * 128 + 128).round().clamp(0, 255).numpy()
    return rows


def save_splat(gaussians: Gaussians, path: str | os.PathLike[str], *, strict: bool = False) -> None:
    """Write ``gaussians`` as .splat, most important first; SH above degree 0 is left out."""
    gaussians = finite_splats(gaussians, path, strict)
    colours = (0.5 + C0 * gaussians.sh[:, 0]).detach().cpu().numpy()
    report(path, strict, [beyond(colours - colours.clip(0, 1), COLOUR_TOLERANCE, "colours outside [0, 1]", " when clipped")])
    order = importance(gaussians).argsort(descending=True, stable=True)
    write_bytes(path, pack_rows(gaussians.select(order)).tobytes())


def load_splat(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read a .splat: SH degree 0, float32, CPU."""
    path = Path(path)
    refuse_foreign(path, read_start(path, may_be_empty=True), ".splat")
    size = file_size(path)
    if size % ROW.itemsize:
        raise FileFormatError(f"{path}: truncated or not a .splat (expected a multiple of {ROW.itemsize} bytes, got {size})")
    check_count(path, size // ROW.itemsize, max_splats)
    with readable(path):
        rows = np.fromfile(path, dtype=ROW)
    _check_plausible(path, rows)
    rgba = rows["rgba"].astype(np.float32) / 255
    quats = (rows["rotation"].astype(np.float32) - 128) / 128
    return assemble(rows["position"].copy(), quats, rows["scale"].copy(), rgba[:, 3], (rgba[:, None, :3] - 0.5) / C0, source=str(path))


def _check_plausible(path: Path, rows: NDArray[np.void]) -> None:
    """The format has no magic: of other data read as numbers, few rows have three scales that can be."""
    sample = rows[:: max(len(rows) // _SAMPLE, 1)]
    with np.errstate(invalid="ignore"):
        good = (np.isfinite(sample["position"]) & (sample["scale"] >= 0) & (sample["scale"] < 1e9)).all(axis=1)
    if len(sample) and good.mean() < 0.5:
        raise FileFormatError(
            f"{path}: not a .splat file ({1 - good.mean():.0%} of its rows have no position and size that a splat can have)"
        )
