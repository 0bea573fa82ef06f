"""The standard 3D Gaussian splatting .ply (Kerbl et al. 2023): what every tool reads.

One vertex a splat: x y z, nx ny nz (zero), f_dc_0..2 (the SH coefficients of degree 0; colour = 0.5 + C0 f_dc), f_rest_* (the
higher ones, all of red first, then green, then blue), opacity = logit(α), scale_0..2 = log s, rot_0..3 = w x y z.

The header is read first, by us: it gives the count and the columns, so that a wrong, truncated or enormous file is refused before
anything is allocated. plyfile (GPL-3.0) is imported in this module only.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsd_gs.core.file_axes import stated_axes
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.export.axes import from_target
from fsd_gs.io import atomic_write

MAX_SPLATS = 10_000_000  # of SH degree 3 that is 2.5 GB of file and about twice that of memory; an asset has 1e4 to 1e6
MAX_SH_DEGREE = 3

_REQUIRED = ["x", "y", "z", *(f"f_dc_{i}" for i in range(3)), "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
_TYPE_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "int32", "uint32", "float", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
_MAX_HEADER_BYTES = 1 << 20
_LOGIT_LIMIT = 20.0  # sigmoid(±20) is 0 or 1 to float32; an infinite logit would poison other tools
_MIN_SCALE = 1e-20


@dataclass(frozen=True)
class PlyElementHeader:
    """``count`` rows with ``columns`` name → type; ``has_list`` where rows have no fixed size (mesh faces)."""

    name: str
    count: int
    columns: dict[str, str]
    has_list: bool = False

    @property
    def row_bytes(self) -> int:
        return sum(_TYPE_BYTES[kind] for kind in self.columns.values())


@dataclass(frozen=True)
class PlyHeader:
    """What a .ply declares: format, elements in order, and the bytes the header takes."""

    format: str
    elements: dict[str, PlyElementHeader]
    header_bytes: int
    comments: tuple[str, ...] = ()

    @property
    def is_compressed_splats(self) -> bool:
        """Whether this is PlayCanvas' compressed.ply: chunks of 256 splats, quantised."""
        return "chunk" in self.elements and "packed_position" in self.elements.get("vertex", PlyElementHeader("", 0, {})).columns


def save_ply(gaussians: Gaussians, path: str | os.PathLike[str], *, sh_pad: int | None = None, comments: Sequence[str] = ()) -> None:
    """Write ``gaussians`` as they are as a binary little-endian 3DGS .ply, atomically.

    sh_pad: pad the SH coefficients with zeros up to this degree (some viewers want the 62 floats of degree 3 and nothing else).
    comments: ASCII lines for the header, without line ends.
    """
    import plyfile

    stored = _stored_columns(pad_sh(gaussians, sh_pad))
    vertices = np.zeros(len(gaussians), dtype=[(name, "<f4") for name in stored])
    for name, values in stored.items():
        vertices[name] = values
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")], byte_order="<", comments=list(comments)).write(stream)


def load_ply(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS, as_stored: bool = False) -> Gaussians:
    """Read a 3DGS .ply written by any tool: ASCII or binary of either endianness, any column order, extra columns, SH degree 0 to 3.

    A file whose header names its axes (``core.file_axes``) is turned to our world, unless ``as_stored``.
    Returns float32 splats on the CPU. Rows with a value that is not finite are dropped with a warning that says how many.
    Raises FileFormatError for a file that is missing, truncated, not a splat .ply, or larger than ``max_splats``.
    """
    path = Path(path)
    header = read_header(path)
    if header.is_compressed_splats:
        raise FileFormatError(f"{path}: this is a compressed .ply; read it with load_splats")
    vertex = _check_columns(path, header)
    sh_degree = _sh_degree(path, vertex)
    check_size(path, header, max_splats)
    splats = _from_table(read_columns(path, "vertex", _columns(sh_degree), np.float32), str(path))
    frame = None if as_stored else stated_axes(header.comments)
    return splats if frame is None else from_target(splats, frame)


def gaussians_from_ply_bytes(content: bytes, *, source: str) -> Gaussians:
    """Splats of a 3DGS .ply in memory that a codec made; ``source`` is the file to name in messages."""
    import plyfile

    try:
        rows = plyfile.PlyData.read(BytesIO(content))["vertex"].data
        sh_degree = round((sum(name.startswith("f_rest_") for name in rows.dtype.names or ()) / 3 + 1) ** 0.5) - 1
        table = np.stack([rows[name].astype(np.float32) for name in _columns(sh_degree)], axis=1)
    except (plyfile.PlyParseError, ValueError, KeyError) as error:
        raise FileFormatError(f"{source}: truncated or damaged ({error})") from error
    return _from_table(table, source)


def _columns(sh_degree: int) -> list[str]:
    return [*_REQUIRED, *(f"f_rest_{i}" for i in range(3 * ((sh_degree + 1) ** 2 - 1)))]


def _from_table(columns: NDArray[np.float32], source: str) -> Gaussians:
    """Gaussians from [N, 14 + F] stored values in the order of ``_columns``."""
    table = torch.from_numpy(columns)
    rest = table.shape[1] - len(_REQUIRED)
    means, f_dc, opacity, scale, rot, f_rest = table.split([3, 3, 1, 3, 4, rest], dim=1)
    sh_rest = f_rest.reshape(len(table), 3, rest // 3).transpose(1, 2)
    sh = torch.cat([f_dc[:, None, :], sh_rest], dim=1)
    return activate(means, rot, scale, opacity[:, 0], sh, source=source)


def activate(means: Tensor, quats: Tensor, log_scales: Tensor, logits: Tensor, sh: Tensor, *, source: str) -> Gaussians:
    """Gaussians from stored values; rows that are not finite go, with a warning naming ``source``; zero quaternions become identity.

    means [N, 3], quats [N, 4] wxyz of any length, log_scales [N, 3], logits [N], sh [N, K, 3].
    """
    # In float64 until the end: exp and sigmoid then round once, so that reading what was written gives back the same float32.
    scales = log_scales.double().exp().float()
    finite = torch.cat([means, quats, scales, sh.flatten(1)], dim=1).isfinite().all(dim=1)
    finite &= ~logits.isnan()  # an infinite logit is legitimate: a fully opaque or empty splat, as SPZ decoders give for 255 and 0
    dropped = int((~finite).sum())
    if dropped:
        warnings.warn(f"{source}: dropped {dropped} of {len(finite)} splats with values that are not finite", stacklevel=3)
    opacities = torch.sigmoid(logits.double()).float()
    gaussians = Gaussians(means.contiguous(), unit_quats(quats), scales, opacities, sh.contiguous())
    return gaussians.select(finite) if dropped else gaussians


def unit_quats(quats: Tensor) -> Tensor:
    """[N, 4] normalised; zero becomes identity, and what is already unit length to float32 stays as it is, bit for bit."""
    norms = quats.double().norm(dim=1, keepdim=True)
    normalised = torch.where(norms > 1e-12, quats.double() / norms.clamp_min(1e-12), quats.new_tensor([1.0, 0, 0, 0]).double())
    return torch.where((norms - 1).abs() < 1e-6, quats, normalised.to(quats.dtype))


def pad_sh(gaussians: Gaussians, degree: int | None) -> Gaussians:
    """``gaussians`` with zero SH coefficients appended up to ``degree``; unchanged if None or already of that degree."""
    if degree is None or degree == gaussians.sh_degree:
        return gaussians
    if not 0 <= degree <= MAX_SH_DEGREE:
        raise InputError(f"sh_pad: expected an SH degree of 0 to {MAX_SH_DEGREE}, got {degree}")
    if degree < gaussians.sh_degree:
        raise InputError(f"sh_pad: expected at least the splats' own SH degree {gaussians.sh_degree}, got {degree}; give 3 or leave it out")
    missing = (degree + 1) ** 2 - gaussians.sh.shape[1]
    zeros = gaussians.sh.new_zeros(len(gaussians), missing, 3)
    return Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, torch.cat([gaussians.sh, zeros], dim=1))


@dataclass(frozen=True)
class StoredSplats:
    """Splats as files store them, float32 numpy: log_scales [N, 3], logits [N], f_rest [N, 3(K−1)] channel-major."""

    means: NDArray[np.float32]
    quats: NDArray[np.float32]
    log_scales: NDArray[np.float32]
    logits: NDArray[np.float32]
    f_dc: NDArray[np.float32]
    f_rest: NDArray[np.float32]


def deactivate(gaussians: Gaussians) -> StoredSplats:
    """The stored form of activated splats; logits and log-scales are computed in float64 and kept finite."""
    opacities = gaussians.opacities.detach().cpu().double()
    sh = gaussians.sh.detach().cpu().float()
    log_scales = gaussians.scales.detach().cpu().double().clamp_min(_MIN_SCALE).log()
    f_rest = sh[:, 1:].transpose(1, 2).flatten(1)  # channel-major: all coefficients of red, then green, then blue
    return StoredSplats(
        means=gaussians.means.detach().cpu().float().numpy(),
        quats=gaussians.quats.detach().cpu().float().numpy(),
        log_scales=log_scales.float().numpy(),
        logits=torch.logit(opacities).clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).float().numpy(),
        f_dc=sh[:, 0].numpy(),
        f_rest=f_rest.numpy(),
    )


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


def read_header(path: str | os.PathLike[str]) -> PlyHeader:
    """Parse a .ply header without touching the data; FileFormatError if there is none."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(_MAX_HEADER_BYTES)
    except FileNotFoundError as error:
        raise FileFormatError(f"{path}: file not found; check the path") from error
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if not start:
        raise FileFormatError(f"{path}: the file is empty")
    if not start.startswith(b"ply"):
        raise FileFormatError(f"{path}: not a .ply file (it does not begin with 'ply')")
    end = start.find(b"end_header")
    line_end = start.find(b"\n", end)
    if end < 0 or line_end < 0:
        raise FileFormatError(f"{path}: truncated or damaged .ply (its header has no end)")
    try:
        return _parse_header(start[:end].decode("latin-1"), line_end + 1)
    except (ValueError, KeyError, IndexError) as error:
        raise FileFormatError(f"{path}: damaged .ply header ({error})") from error


def _parse_header(text: str, header_bytes: int) -> PlyHeader:
    format_name, elements, comments, current = "", {}, [], None
    for line in text.splitlines()[1:]:
        words = line.split()
        if words and words[0] == "comment":
            comments.append(line.strip().removeprefix("comment").strip())
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format":
            format_name = words[1]
        elif words[0] == "element":
            current = PlyElementHeader(words[1], int(words[2]), {})
            if current.count < 0:
                raise ValueError(f"element {words[1]} has a negative count")
            elements[words[1]] = current
        elif words[0] == "property" and current is not None:
            if words[1] == "list":
                current = PlyElementHeader(current.name, current.count, current.columns, has_list=True)
                elements[current.name] = current
            elif words[1] not in _TYPE_BYTES:
                raise ValueError(f"unknown type '{words[1]}'")
            else:
                current.columns[words[2]] = words[1]
        else:
            raise ValueError(f"unexpected line '{line[:60]}'")
    if format_name not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise ValueError(f"unknown format '{format_name}'")
    return PlyHeader(format_name, elements, header_bytes, tuple(comments))


def check_size(path: Path, header: PlyHeader, max_splats: int) -> None:
    """Refuse a file that declares more than it holds, or more splats than we take in, before anything is allocated."""
    count = header.elements["vertex"].count
    if count > max_splats:
        raise FileFormatError(f"{path}: {count:,} splats, more than the limit of {max_splats:,}; thin it out first or raise max_splats")
    fixed = [e for e in header.elements.values() if not e.has_list]
    ascii_row = 2  # bytes a column: a digit and a separator at the least
    needed = sum(e.count * (ascii_row * len(e.columns) if header.format == "ascii" else e.row_bytes) for e in fixed)
    available = path.stat().st_size - header.header_bytes + (1 if header.format == "ascii" else 0)  # the last separator may be missing
    if needed > available:
        raise FileFormatError(f"{path}: truncated (it declares {count:,} splats, {needed:,} bytes; {available:,} follow the header)")


def _check_columns(path: Path, header: PlyHeader) -> PlyElementHeader:
    vertex = header.elements.get("vertex")
    if vertex is None:
        raise FileFormatError(f"{path}: no 'vertex' element; a splat .ply has one vertex a splat")
    missing = [name for name in _REQUIRED if name not in vertex.columns]
    if not missing:
        return vertex
    if set(missing) >= set(_REQUIRED[3:]):
        kind = "a mesh: it has faces and no splat columns" if "face" in header.elements else "a point cloud: it has no splat columns"
        raise FileFormatError(f"{path}: this is {kind} (missing {', '.join(missing)}); give a 3D Gaussian splatting .ply")
    raise FileFormatError(f"{path}: missing the columns {', '.join(missing)} of a 3D Gaussian splatting .ply")


def _sh_degree(path: Path, vertex: PlyElementHeader) -> int:
    rest = [name for name in vertex.columns if name.startswith("f_rest_")]
    degrees = {3 * ((degree + 1) ** 2 - 1): degree for degree in range(MAX_SH_DEGREE + 1)}
    if len(rest) not in degrees or any(f"f_rest_{i}" not in vertex.columns for i in range(len(rest))):
        raise FileFormatError(
            f"{path}: expected 0, 9, 24 or 45 columns f_rest_0 … (SH degree 0 to 3), got {len(rest)} ({', '.join(rest[:3])} …)"
        )
    return degrees[len(rest)]


def read_columns(path: Path, element: str, names: list[str], dtype: type[np.generic]) -> NDArray[Any]:
    """The named columns of one element as [N, len(names)]. Binary files are memory-mapped: the file itself is never copied whole."""
    import plyfile

    try:
        with path.open("rb") as stream:
            rows = plyfile.PlyData.read(stream, mmap="c")[element].data
            with np.errstate(over="ignore"):  # doubles beyond float32 become infinite and are dropped as such
                return np.stack([np.asarray(rows[name]).astype(dtype) for name in names], axis=1)
    except (plyfile.PlyParseError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(f"{path}: truncated or damaged .ply ({reason})") from error
