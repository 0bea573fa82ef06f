"""The standard 3D Gaussian splatting .ply (Kerbl et al. 2023): what every tool reads.

One vertex a splat: x y z, nx ny nz (zero), f_dc_0..2 (the SH coefficients of degree 0; colour = 0.5 + C0 f_dc), f_rest_* (the
higher ones, all of red first, then green, then blue), opacity = logit(α), scale_0..2 = log s, rot_0..3 = w x y z.

plyfile (GPL-3.0) writes the files and is imported in this module only; reading is ours (:mod:`fsd_gs.export.ply_file`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fsd_gs.core.file_axes import stated_axes
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export.axes import from_target
from fsd_gs.export.gate import MAX_SPLATS
from fsd_gs.export.ply_file import PlyElement, PlyHeader, check_size, read_columns, read_header
from fsd_gs.export.quantise import finite_splats
from fsd_gs.export.stored import MAX_SH_DEGREE, activate, deactivate, pad_sh
from fsd_gs.io import atomic_write

_REQUIRED = ["x", "y", "z", *(f"f_dc_{i}" for i in range(3)), "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]


def save_ply(
    gaussians: Gaussians,
    path: str | os.PathLike[str],
    *,
    sh_pad: int | None = None,
    comments: Sequence[str] = (),
    strict: bool = False,
) -> None:
    """Write ``gaussians`` as a binary little-endian 3DGS .ply, atomically.

    Args:
        gaussians: splats, as they shall stand in the file.
        path: the file.
        sh_pad: pad the SH coefficients with zeros up to this degree (some viewers want the 62 floats of degree 3 and nothing else).
        comments: lines of the header; what is not ASCII is escaped.
        strict: refuse splats that are not finite instead of dropping them with a warning.
    """
    import plyfile

    stored = _stored_columns(pad_sh(finite_splats(gaussians, path, strict), sh_pad))
    vertices = np.zeros(len(stored["x"]), dtype=[(name, "<f4") for name in stored])
    for name, values in stored.items():
        vertices[name] = values
    lines = [" ".join(line.split()).encode("ascii", "backslashreplace").decode() for line in comments]
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")], byte_order="<", comments=lines).write(stream)


def load_ply(
    path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS, as_stored: bool = False, header: PlyHeader | None = None
) -> Gaussians:
    """Read a 3DGS .ply written by any tool: ASCII or binary of either endianness, any column order, extra columns, SH degree 0 to 3.

    A file whose header names its axes (``core.file_axes``) is turned to our world, unless ``as_stored``. header: where it was read already.
    Returns float32 splats on the CPU. Rows with a value that is not finite are dropped with a warning that says how many.
    Raises FileFormatError for a file that is missing, truncated, not a splat .ply, or larger than ``max_splats``.
    """
    path = Path(path)
    header = header or read_header(path)
    if header.is_compressed_splats:
        raise FileFormatError(f"{path}: this is a compressed .ply; read it with load_splats")
    vertex = _check_columns(path, header.elements)
    sh_degree = _sh_degree(path, vertex)
    check_size(path, header, max_splats)
    rest = 3 * ((sh_degree + 1) ** 2 - 1)
    columns = [*_REQUIRED, *(f"f_rest_{i}" for i in range(rest))]
    table = torch.from_numpy(read_columns(path, header, "vertex", columns, np.float32))
    means, f_dc, opacity, scale, rot, f_rest = table.split([3, 3, 1, 3, 4, rest], dim=1)
    sh = torch.cat([f_dc[:, None, :], f_rest.reshape(len(table), 3, rest // 3).transpose(1, 2)], dim=1)
    splats = activate(means, rot, scale, opacity[:, 0], sh, source=str(path))
    frame = None if as_stored else stated_axes(header.comments)
    return splats if frame is None else from_target(splats, frame)


def _stored_columns(gaussians: Gaussians) -> dict[str, Any]:
    """Column name → values, in the order in which the reference implementation writes them."""
    stored = deactivate(gaussians)
    columns: dict[str, Any] = {axis: stored.means[:, i] for i, axis in enumerate("xyz")}
    columns |= dict.fromkeys(("nx", "ny", "nz"), 0.0)
    columns |= {f"f_dc_{i}": stored.f_dc[:, i] for i in range(3)}
    columns |= {f"f_rest_{i}": stored.f_rest[:, i] for i in range(stored.f_rest.shape[1])}
    columns["opacity"] = stored.logits
    columns |= {f"scale_{i}": stored.log_scales[:, i] for i in range(3)}
    columns |= {f"rot_{i}": stored.quats[:, i] for i in range(4)}
    return columns


def _check_columns(path: Path, elements: dict[str, PlyElement]) -> PlyElement:
    vertex = elements.get("vertex")
    if vertex is None:
        raise FileFormatError(f"{path}: no 'vertex' element; a splat .ply has one vertex a splat")
    missing = [name for name in _REQUIRED if name not in vertex.columns]
    if not missing:
        return vertex
    if set(missing) >= set(_REQUIRED[3:]):
        kind = "a mesh: it has faces and no splat columns" if "face" in elements else "a point cloud: it has no splat columns"
        raise FileFormatError(f"{path}: this is {kind} (missing {', '.join(missing)}); give a 3D Gaussian splatting .ply")
    raise FileFormatError(f"{path}: missing the columns {', '.join(missing)} of a 3D Gaussian splatting .ply")


def _sh_degree(path: Path, vertex: PlyElement) -> int:
    rest = [name for name in vertex.columns if name.startswith("f_rest_")]
    degrees = {3 * ((degree + 1) ** 2 - 1): degree for degree in range(MAX_SH_DEGREE + 1)}
    if len(rest) not in degrees or any(f"f_rest_{i}" not in vertex.columns for i in range(len(rest))):
        raise FileFormatError(
            f"{path}: expected 0, 9, 24 or 45 columns f_rest_0 … (SH degree 0 to 3), got {len(rest)} ({', '.join(rest[:3])} …)"
        )
    return degrees[len(rest)]
