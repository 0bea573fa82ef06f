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

import numpy as np
from numpy.typing import NDArray

from fsd_gs.core.sh import C0
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export.gate import MAX_SPLATS
from fsd_gs.export.ply_file import PlyHeader, check_size, read_columns, read_header
from fsd_gs.export.quantise import (
    COLOUR_TOLERANCE,
    beyond,
    finite_splats,
    from_smallest_three,
    morton_order,
    object_radius,
    report,
    require_splats,
    smallest_three,
)
from fsd_gs.export.stored import StoredSplats, assemble, deactivate
from fsd_gs.io import write_bytes

CHUNK = 256
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_111011 = [(11, 21), (10, 11), (11, 0)]  # (bits, shift)
_101010 = [(10, 20), (10, 10), (10, 0)]
_8888 = [(8, 24), (8, 16), (8, 8), (8, 0)]
_POSITION_TOLERANCE = 1 / 256  # of the object's radius; a chunk that spans all of it, as in a small file, rounds to 1/1023
_SCALE_TOLERANCE = 0.02  # of a scale; 4096 log steps between 1e-7 and 1e4 are 0.6 %
_SH_STEP = 8 / 256


def save_compressed_ply(gaussians: Gaussians, path: str | os.PathLike[str], *, comments: Sequence[str] = (), strict: bool = False) -> None:
    """Write ``gaussians`` as compressed.ply, sorted along a Morton curve so that chunks are compact.

    Args:
        gaussians: splats, as they shall stand in the file.
        path: the file.
        comments: lines of the header; what is not ASCII is escaped.
        strict: refuse what would otherwise be a warning: rows that are not finite, and values that move further than the format's
            rounding because one splat stretches the range of its chunk.
    """
    gaussians = finite_splats(gaussians, path, strict)
    require_splats(gaussians, path)
    stored = deactivate(gaussians)
    order = morton_order(stored.means)
    alpha = gaussians.opacities.detach().cpu().numpy()[order]
    stored = StoredSplats(*(values[order] for values in vars(stored).values()))
    means, mean_bounds = _quantise_in_chunks(stored.means)
    scales, scale_bounds = _quantise_in_chunks(stored.log_scales)
    colours, colour_bounds = _quantise_in_chunks(0.5 + C0 * stored.f_dc)
    report(path, strict, _losses(stored, mean_bounds, scale_bounds, colour_bounds))
    rgba = np.concatenate([colours, alpha[:, None]], axis=1)
    rows = np.stack([_pack(means, _111011), _pack_rotation(stored.quats), _pack(scales, _111011), _pack(rgba, _8888)], axis=1)
    chunks = np.concatenate([mean_bounds, scale_bounds, colour_bounds], axis=1)
    sh = np.clip(np.floor((stored.f_rest / 8 + 0.5) * 256), 0, 255).astype(np.uint8)
    header = _header(len(chunks), len(rows), sh.shape[1], comments)
    write_bytes(path, header + chunks.astype("<f4").tobytes() + rows.astype("<u4").tobytes() + sh.tobytes())


def _losses(
    stored: StoredSplats, mean_bounds: NDArray[np.float32], scale_bounds: NDArray[np.float32], colour_bounds: NDArray[np.float32]
) -> list[str | None]:
    """What rounding within the chunks costs where it costs more than it should: half a step is the largest error."""

    def half_step(bounds: NDArray[np.float32], steps: tuple[int, int, int]) -> NDArray[np.float64]:
        span = bounds[:, 3:].astype(np.float64) - bounds[:, :3]
        return np.repeat(span / np.array(steps) / 2, CHUNK, axis=0)[: len(stored.means)]

    radius = object_radius(stored)
    moved = half_step(mean_bounds, (2047, 1023, 2047))
    return [
        beyond(
            moved, _POSITION_TOLERANCE * radius, "positions", f" (the object's radius is {radius:.2g}): a splat of their chunk lies far off"
        ),
        beyond(np.expm1(half_step(scale_bounds, (2047, 1023, 2047))), _SCALE_TOLERANCE, "scales", " of themselves"),
        beyond(half_step(colour_bounds, (255, 255, 255)), COLOUR_TOLERANCE, "colours", " of [0, 1]"),
        beyond(stored.f_rest - stored.f_rest.clip(-4, 4), _SH_STEP, "SH coefficients outside [-4, 4]", " when clipped"),
    ]


def _header(chunks: int, splats: int, sh_columns: int, comments: Sequence[str]) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {' '.join(c.split())}" for c in comments), f"element chunk {chunks}"]
    lines += [f"property float {name}" for kind in ("", "scale_", "rgb") for name in _bounds(kind)]
    lines += [f"element vertex {splats}", *(f"property uint {name}" for name in _PACKED)]
    if sh_columns:
        lines += [f"element sh {splats}", *(f"property uchar f_rest_{i}" for i in range(sh_columns))]
    return "\n".join([*lines, "end_header", ""]).encode("ascii", "backslashreplace")


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


def load_compressed_ply(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS, header: PlyHeader | None = None) -> Gaussians:
    """Read a compressed.ply of SH degree 0 to 3, with or without chunk bounds for colour."""
    path = Path(path)
    header = header or read_header(path)
    if not header.is_compressed_splats:
        raise FileFormatError(f"{path}: not a compressed .ply (no packed columns); read it with load_splats")
    chunks, vertex = header.elements["chunk"], header.elements["vertex"]
    check_size(path, header, max_splats)
    missing = [n for n in _PACKED if n not in vertex.columns]
    missing += [n for n in _bounds("") + _bounds("scale_") if n not in chunks.columns]
    if missing:
        raise FileFormatError(f"{path}: missing the columns {', '.join(missing)} of a compressed .ply")
    if chunks.count * CHUNK < vertex.count:
        raise FileFormatError(f"{path}: damaged compressed .ply ({chunks.count} chunks of {CHUNK} for {vertex.count} splats)")
    has_colour_bounds = all(name in chunks.columns for name in _bounds("rgb"))
    names = _bounds("") + _bounds("scale_") + (_bounds("rgb") if has_colour_bounds else [])
    bounds = read_columns(path, header, "chunk", names, np.float32)[: -(-vertex.count // CHUNK)]
    position, rotation, scale, colour = read_columns(path, header, "vertex", list(_PACKED), np.uint32).T
    means = _within(bounds[:, :6], _unpack(position, _111011))
    scales = np.exp(_within(bounds[:, 6:12], _unpack(scale, _111011)).astype(np.float64)).astype(np.float32)
    rgba = _unpack(colour, _8888)
    colours = _within(bounds[:, 12:], rgba[:, :3]) if has_colour_bounds else rgba[:, :3]
    sh = np.concatenate([((colours - 0.5) / C0)[:, None], _read_sh(path, header, vertex.count)], axis=1)
    return assemble(means, _unpack_rotation(rotation), scales, rgba[:, 3], sh, source=str(path))


def _bounds(kind: str) -> list[str]:
    axes = "rgb" if kind == "rgb" else "xyz"
    prefix = "" if kind == "rgb" else kind
    return [f"{side}_{prefix}{axis}" for side in ("min", "max") for axis in axes]


def _within(bounds: NDArray[np.float32], fraction: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, 3] in [0, 1] → values between the ``bounds`` [chunks, 6] of each splat's chunk."""
    each = np.repeat(bounds, CHUNK, axis=0)[: len(fraction)]
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is dropped as such
        return (each[:, :3] + fraction * (each[:, 3:] - each[:, :3])).astype(np.float32, copy=False)


def _unpack(packed: NDArray[np.uint32], fields: list[tuple[int, int]]) -> NDArray[np.float32]:
    """The inverse of :func:`_pack`: [N] words → [N, F] in [0, 1]."""
    columns = [(packed >> np.uint32(shift) & np.uint32((1 << bits) - 1)) / ((1 << bits) - 1) for bits, shift in fields]
    return np.stack(columns, axis=1).astype(np.float32)


def _unpack_rotation(packed: NDArray[np.uint32]) -> NDArray[np.float32]:
    """[N, 4] wxyz: the three small components in order, the largest (index in the top two bits) put back in its place."""
    return from_smallest_three((_unpack(packed, _101010) - 0.5) * np.float32(2**0.5), packed >> 30)


def _read_sh(path: Path, header: PlyHeader, count: int) -> NDArray[np.float32]:
    """[N, K − 1, 3] from the optional 'sh' element of one byte a coefficient, channel-major, in [−4, 4]."""
    element = header.elements.get("sh")
    if element is None or not element.columns:
        return np.zeros((count, 0, 3), dtype=np.float32)
    names = [f"f_rest_{i}" for i in range(len(element.columns))]
    if len(names) not in (9, 24, 45) or set(names) != set(element.columns) or element.count != count:
        raise FileFormatError(f"{path}: expected 9, 24 or 45 columns f_rest_0 … in 'sh' for {count} splats, got {len(names)}")
    quantised = read_columns(path, header, "sh", names, np.float32)
    values = ((quantised + 0.5) / 256 - 0.5) * 8  # the writer truncates: the middle of each step
    return values.astype(np.float32, copy=False).reshape(count, 3, len(names) // 3).transpose(0, 2, 1)
