"""compressed.ply (PlayCanvas): about 16 bytes a splat, quantised within chunks of 256 neighbours.

Each chunk has the bounds of position, log-scale and colour; each splat has 11/10/11 bits of position and of log-scale inside them, the
three smallest quaternion components in 10 bits each (the largest follows from unit length), and 8 bits each of colour, opacity and SH.
Written here rather than through a library: of those tried, gaussforge 0.6 scrambles the SH and does not sort, and gsplat 1.5 divides by
zero in chunks of one colour and takes 2 s and more for 50 000 splats.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.export.antimatter import C0
from fsd_gs.export.ply import MAX_SPLATS, activate, check_size, deactivate, read_columns, read_header
from fsd_gs.io import write_bytes

CHUNK = 256
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_111011 = [(11, 21), (10, 11), (11, 0)]  # (bits, shift)
_101010 = [(10, 20), (10, 10), (10, 0)]
_8888 = [(8, 24), (8, 16), (8, 8), (8, 0)]


def save_compressed_ply(gaussians: Gaussians, path: str | os.PathLike[str], *, comments: Sequence[str] = ()) -> None:
    """Write ``gaussians`` as compressed.ply, sorted along a Morton curve so that chunks are compact. comments: lines for the header."""
    if not len(gaussians):
        raise InputError(f"cannot write {path}: there are no splats; loosen the filters")
    stored = deactivate(gaussians)
    order = morton_order(stored.means)
    means, mean_bounds = _quantise_in_chunks(stored.means[order])
    scales, scale_bounds = _quantise_in_chunks(stored.log_scales[order])
    colours, colour_bounds = _quantise_in_chunks(0.5 + C0 * stored.f_dc[order])
    alpha = gaussians.opacities.detach().cpu().numpy()[order]
    rgba = np.concatenate([colours, alpha[:, None]], axis=1)
    rows = np.stack([_pack(means, _111011), _pack_rotation(stored.quats[order]), _pack(scales, _111011), _pack(rgba, _8888)], axis=1)
    chunks = np.concatenate([mean_bounds, scale_bounds, colour_bounds], axis=1)
    sh = np.clip(np.floor((stored.f_rest[order] / 8 + 0.5) * 256), 0, 255).astype(np.uint8)
    header = _header(len(chunks), len(rows), sh.shape[1], comments)
    write_bytes(path, header + chunks.astype("<f4").tobytes() + rows.astype("<u4").tobytes() + sh.tobytes())


def _header(chunks: int, splats: int, sh_columns: int, comments: Sequence[str]) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments), f"element chunk {chunks}"]
    lines += [f"property float {name}" for kind in ("", "scale_", "rgb") for name in _bounds(kind)]
    lines += [f"element vertex {splats}", *(f"property uint {name}" for name in _PACKED)]
    if sh_columns:
        lines += [f"element sh {splats}", *(f"property uchar f_rest_{i}" for i in range(sh_columns))]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")


def morton_order(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """Indices that sort [N, 3] along a Z-order curve of 10 bits an axis: neighbours in the file are neighbours in space."""
    low, high = points.min(axis=0), points.max(axis=0)
    bits = ((points - low) / np.maximum(high - low, 1e-12) * 1023).astype(np.int64)
    code = np.zeros(len(points), dtype=np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= (bits[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


def _quantise_in_chunks(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[N, 3] → fractions [N, 3] between the bounds of each chunk, and the bounds [chunks, 6] (low, high)."""
    starts = np.arange(0, len(values), CHUNK)
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    each_low, each_high = (np.repeat(bound, CHUNK, axis=0)[: len(values)] for bound in (low, high))
    span = each_high - each_low
    fraction = np.divide(values - each_low, span, out=np.zeros_like(values), where=span > 0)  # a chunk of one colour has no span
    return fraction, np.concatenate([low, high], axis=1)


def _pack(fractions: NDArray[np.float32], fields: list[tuple[int, int]]) -> NDArray[np.uint32]:
    """[N, F] in [0, 1] → [N] words; ``fields`` are (bits, shift)."""
    word = np.zeros(len(fractions), dtype=np.uint32)
    for column, (bits, shift) in enumerate(fields):
        top = (1 << bits) - 1
        word |= np.clip(np.rint(fractions[:, column] * top), 0, top).astype(np.uint32) << np.uint32(shift)
    return word


def _pack_rotation(quats: NDArray[np.float32]) -> NDArray[np.uint32]:
    """[N, 4] wxyz → [N]: index of the largest component, and the other three."""
    small, largest = smallest_three(quats)
    return _pack((small / 2**0.5 + 0.5).astype(np.float32), _101010) | largest.astype(np.uint32) << np.uint32(30)


def smallest_three(quats: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """[N, 4] wxyz → the three components beside the largest [N, 3], which is made positive, and its index [N]."""
    largest = np.abs(quats).argmax(axis=1)
    signed = quats * np.where(quats[np.arange(len(quats)), largest] < 0, -1, 1)[:, None]
    return signed[np.arange(4)[None, :] != largest[:, None]].reshape(-1, 3), largest


def load_compressed_ply(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read a compressed.ply of SH degree 0 to 3, with or without chunk bounds for colour."""
    path = Path(path)
    header = read_header(path)
    if not header.is_compressed_splats:
        raise FileFormatError(f"{path}: not a compressed .ply (no packed columns); read it with load_splats")
    check_size(path, header, max_splats)
    chunks, vertex = header.elements["chunk"], header.elements["vertex"]
    missing = [n for n in _PACKED if n not in vertex.columns]
    missing += [n for n in _bounds("") + _bounds("scale_") if n not in chunks.columns]
    if missing:
        raise FileFormatError(f"{path}: missing the columns {', '.join(missing)} of a compressed .ply")
    if chunks.count * CHUNK < vertex.count:
        raise FileFormatError(f"{path}: damaged compressed .ply ({chunks.count} chunks of {CHUNK} for {vertex.count} splats)")
    packed = {n: read_columns(path, "vertex", [n], np.uint32)[:, 0] for n in _PACKED}
    means = _within(path, "", _unpack(packed["packed_position"], _111011))
    log_scales = _within(path, "scale_", _unpack(packed["packed_scale"], _111011))
    rgba = _unpack(packed["packed_color"], _8888)
    colours = _within(path, "rgb", rgba[:, :3]) if "min_r" in chunks.columns else rgba[:, :3]
    f_dc = torch.from_numpy((colours - 0.5) / C0)[:, None]
    sh = torch.cat([f_dc, _read_sh(path, header.elements.get("sh"), vertex.count)], dim=1)
    logits = torch.logit(torch.from_numpy(rgba[:, 3]), eps=0.5 / 255)
    quats = torch.from_numpy(_unpack_rotation(packed["packed_rotation"]))
    return activate(torch.from_numpy(means), quats, torch.from_numpy(log_scales), logits, sh, source=str(path))


def _bounds(kind: str) -> list[str]:
    axes = "rgb" if kind == "rgb" else "xyz"
    prefix = "" if kind == "rgb" else kind
    return [f"{side}_{prefix}{axis}" for side in ("min", "max") for axis in axes]


def _within(path: Path, kind: str, fraction: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, 3] in [0, 1] → values between the bounds of each splat's chunk."""
    bounds = np.repeat(read_columns(path, "chunk", _bounds(kind), np.float32), CHUNK, axis=0)[: len(fraction)]
    return bounds[:, :3] + fraction * (bounds[:, 3:] - bounds[:, :3])


def _unpack(packed: NDArray[np.uint32], fields: list[tuple[int, int]]) -> NDArray[np.float32]:
    """The inverse of :func:`_pack`: [N] words → [N, F] in [0, 1]."""
    columns = [(packed >> np.uint32(shift) & np.uint32((1 << bits) - 1)) / ((1 << bits) - 1) for bits, shift in fields]
    return np.stack(columns, axis=1).astype(np.float32)


def _unpack_rotation(packed: NDArray[np.uint32]) -> NDArray[np.float32]:
    """[N, 4] wxyz: the three small components in order, the largest (index in the top two bits) put back in its place."""
    small = (_unpack(packed, _101010) - 0.5) * 2**0.5
    largest = np.sqrt(np.clip(1 - (small**2).sum(axis=1), 0, None))
    quats = np.empty((len(packed), 4), dtype=np.float32)
    for index in range(4):
        rows = packed >> 30 == index
        quats[rows] = np.insert(small[rows], index, largest[rows], axis=1)
    return quats


def _read_sh(path: Path, element: Any, count: int) -> torch.Tensor:
    """[N, K − 1, 3] from the optional 'sh' element of one byte a coefficient, channel-major, in [−4, 4]."""
    if element is None or not element.columns:
        return torch.zeros(count, 0, 3)
    names = [f"f_rest_{i}" for i in range(len(element.columns))]
    if len(names) not in (9, 24, 45) or set(names) != set(element.columns) or element.count != count:
        raise FileFormatError(f"{path}: expected 9, 24 or 45 columns f_rest_0 … in 'sh' for {count} splats, got {len(names)}")
    quantised = torch.from_numpy(read_columns(path, "sh", names, np.float32))
    values = ((quantised + 0.5) / 256 - 0.5) * 8  # the writer truncates: the middle of each step
    return values.reshape(count, 3, len(names) // 3).transpose(1, 2)
