"""SPZ (Niantic): 24-bit positions, 8 bits and fewer for the rest, read in its versions 1 to 4 and written in version 3.

    version 1 to 3    one gzip stream: header of 16 bytes, then each attribute of all splats in turn
    version 4         header of 32 bytes, extension records, a table of (packed, unpacked) sizes, one zstd stream an attribute

    header      "NGSP", version u32, count u32, SH degree u8, fractional bits b u8, flags u8 (1 antialiased, 2 extensions); in version 4
                then the number of streams u8 and the table's offset u32
    positions   3 × 24-bit integers, 2^−b each (version 1: 3 × float16)
    opacities   u8 / 255
    colours     f_dc = (u8 / 255 − 0.5) / 0.15
    scales      log s = u8 / 16 − 10
    rotations   version 1, 2: x y z as u8 / 127.5 − 1, w ≥ 0 follows. From 3: two bits name the largest of x y z w, the others have a sign
                and nine bits of magnitude in units of √½ / 511
    SH          (u8 − 128) / 128, colour channels side by side

after github.com/nianticlabs/spz, README "File Format" and src/cc/load-spz.cc. The axes are RUB (y up) unless the extension
SPZ_ADOBE_coordinate_system names others. Version 4 opens in few viewers as yet, version 2 has coarse rotations: hence 3 is written.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fsd_gs.core.sh import C0
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import BackendError, FileFormatError
from fsd_gs.export.axes import transform
from fsd_gs.export.gate import (
    MAX_DEFLATE_RATIO,
    MAX_SPLATS,
    Inflater,
    check_count,
    check_held,
    read_start,
    read_whole,
    require_magic,
)
from fsd_gs.export.quantise import (
    COLOUR_TOLERANCE,
    POSITION_TOLERANCE,
    beyond,
    finite_splats,
    from_smallest_three,
    object_radius,
    report,
    require_splats,
    smallest_three,
)
from fsd_gs.export.stored import MAX_SH_DEGREE, StoredSplats, assemble, deactivate
from fsd_gs.io import write_bytes

VERSION = 3  # that is written
_MAGIC = b"NGSP"
_COLOUR_SCALE = 0.15
_TOP = (1 << 23) - 1  # of a signed 24-bit integer
_MAX_SH_DEGREE = 4  # that the format has
_HAS_EXTENSIONS = 2
_MAX_EXTENSION_BYTES = 1 << 20
_COORDINATES, _SAFE_ORBIT = 0xADBE0003, 0xADBE0002
#: The axes of SPZ_ADOBE_coordinate_system by number: where x, y and z point (right, left, up, down, back towards the viewer, front).
_SYSTEMS = ["RUB", "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF", "LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU"]
_LETTERS = {"R": (1, 0, 0), "L": (-1, 0, 0), "U": (0, 1, 0), "D": (0, -1, 0), "B": (0, 0, 1), "F": (0, 0, -1)}
_SH_BUCKET = {1: 8, 2: 16, 3: 16}  # 5 bits for degree 1, 4 for the others, as the reference writes them: zero bits deflate well


@dataclass(frozen=True)
class _Header:
    version: int
    count: int
    sh_degree: int
    fractional_bits: int
    flags: int

    @property
    def sizes(self) -> list[int]:
        """Bytes of positions, opacities, colours, scales, rotations and SH."""
        a_splat = [6 if self.version == 1 else 9, 1, 3, 3, 3 if self.version < 3 else 4, 3 * ((self.sh_degree + 1) ** 2 - 1)]
        return [self.count * size for size in a_splat]


def load_spz(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read SPZ of version 1 to 4, in the axes of the file (y up): float32, CPU. SH of degree 4 are cut to degree 3 with a warning."""
    path = Path(path)
    require_magic(path, read_start(path), ".spz", b"\x1f\x8b", _MAGIC)
    content = read_whole(path)
    if content[:2] == b"\x1f\x8b":
        header, attributes, extensions = _unpack_gzip(path, content, max_splats)
    elif len(content) >= 8 and content[4:8] < b"\x04" and content[5:8] == bytes(3):
        header, attributes, extensions = _unpack_plain(path, content, max_splats)
    else:
        header, attributes, extensions = _unpack_zstd(path, content, max_splats)
    return _in_rub(path, _gaussians(path, header, attributes), extensions)


def _parse_header(path: Path, start: bytes, max_splats: int) -> _Header:
    if start[:4] != _MAGIC:
        raise FileFormatError(f"{path}: not an .spz file (the gzip archive holds something else)")
    header = _Header(*struct.unpack("<IIBBB", start[4:15]))
    if not 1 <= header.version <= 4:
        raise FileFormatError(f"{path}: SPZ version {header.version}; versions 1 to 4 can be read")
    if header.sh_degree > _MAX_SH_DEGREE:
        raise FileFormatError(f"{path}: damaged (SH degree {header.sh_degree}; SPZ has 0 to {_MAX_SH_DEGREE})")
    if header.fractional_bits > 31:
        raise FileFormatError(f"{path}: damaged ({header.fractional_bits} fractional bits of 24)")
    check_count(path, header.count, max_splats)
    return header


def _unpack_gzip(path: Path, content: bytes, max_splats: int) -> tuple[_Header, list[bytes], bytes]:
    stream = Inflater(path, content)
    header = _parse_header(path, stream.read(16), max_splats)
    if header.version > 3:
        raise FileFormatError(f"{path}: damaged (SPZ version {header.version} in a gzip archive)")
    check_held(path, f"{header.count:,} splats: unpacking to {sum(header.sizes):,}", sum(header.sizes) // MAX_DEFLATE_RATIO, len(content))
    attributes = [stream.read(size) for size in header.sizes]
    return header, attributes, stream.read_up_to(_MAX_EXTENSION_BYTES) if header.flags & _HAS_EXTENSIONS else b""


def _unpack_plain(path: Path, content: bytes, max_splats: int) -> tuple[_Header, list[bytes], bytes]:
    """Versions 1 to 3 without gzip, as some tools hand them around."""
    check_held(path, "the header", 16, len(content))
    header = _parse_header(path, content, max_splats)
    ends = np.cumsum([16, *header.sizes])
    check_held(path, f"{header.count:,} splats", int(ends[-1]), len(content))
    attributes = [content[start:end] for start, end in pairwise(ends)]
    return header, attributes, content[ends[-1] :] if header.flags & _HAS_EXTENSIONS else b""


def _unpack_zstd(path: Path, content: bytes, max_splats: int) -> tuple[_Header, list[bytes], bytes]:
    check_held(path, "the header", 32, len(content))
    header = _parse_header(path, content, max_splats)
    streams, table = content[15], int.from_bytes(content[16:20], "little")
    sizes = [size for size in header.sizes if size]
    if streams != len(sizes) or table < 32:
        raise FileFormatError(f"{path}: damaged (expected {len(sizes)} streams and their table behind byte 32, got {streams} and {table})")
    at = table + 16 * streams
    check_held(path, "the table of streams", at, len(content))
    declared = np.frombuffer(content, "<u8", 2 * streams, table).reshape(streams, 2).tolist()
    unpacked = []
    for (packed_size, size), expected in zip(declared, sizes, strict=True):
        if size != expected:
            raise FileFormatError(f"{path}: damaged (a stream of {size:,} bytes where {header.count:,} splats have {expected:,})")
        check_held(path, "a stream", at + packed_size, len(content))
        unpacked.append(_unzstd(path, content[at : at + packed_size], size))
        at += packed_size
    filled = iter(unpacked)
    attributes = [next(filled) if size else b"" for size in header.sizes]
    return header, attributes, content[32:table] if header.flags & _HAS_EXTENSIONS else b""


def _unzstd(path: Path, packed: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes of one zstd frame, in pieces: what the frame itself declares is not believed."""
    try:
        import zstandard
    except ImportError as error:
        raise BackendError(f"{path}: SPZ version 4 needs the package zstandard; pip install zstandard") from error
    pieces, held = [], 0
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed) as reader:
            while held <= size and (piece := reader.read(min(1 << 20, size + 1 - held))):
                pieces.append(piece)
                held += len(piece)
    except zstandard.ZstdError as error:
        raise FileFormatError(f"{path}: truncated or damaged (a stream cannot be unpacked: {error})") from error
    if held != size:
        raise FileFormatError(
            f"{path}: truncated or damaged (a stream unpacks to {'more' if held > size else 'fewer'} than {size:,} bytes)"
        )
    return b"".join(pieces)


def _gaussians(path: Path, header: _Header, attributes: list[bytes]) -> Gaussians:
    """Gaussians in the axes of the file."""
    positions, opacities, colours, scales, rotations, sh = (np.frombuffer(values, np.uint8) for values in attributes)
    count, bands = header.count, (header.sh_degree + 1) ** 2 - 1
    scale_of = np.exp(np.arange(256) / 16 - 10).astype(np.float32)
    f_dc = ((colours.astype(np.float32) / 255 - 0.5) / _COLOUR_SCALE).reshape(count, 1, 3)
    rest = ((sh.astype(np.float32) - 128) / 128).reshape(count, bands, 3)
    if header.sh_degree > MAX_SH_DEGREE:
        warnings.warn(f"{path}: SH of degree {header.sh_degree} are cut to degree {MAX_SH_DEGREE}", stacklevel=3)
        rest = rest[:, : (MAX_SH_DEGREE + 1) ** 2 - 1]
    return assemble(
        _positions(header, positions),
        _first_three(rotations) if header.version < 3 else _smallest_three(rotations),
        scale_of[scales].reshape(count, 3),
        opacities.astype(np.float32) / 255,
        np.concatenate([f_dc, rest], axis=1),
        source=str(path),
    )


def _positions(header: _Header, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    if header.version == 1:
        return raw.view("<f2").astype(np.float32).reshape(-1, 3)
    words = np.zeros((3 * header.count, 4), dtype=np.uint8)
    words[:, 1:] = raw.reshape(-1, 3)
    integers = words.view("<i4")[:, 0] >> 8  # arithmetic: the sign follows
    return (integers * 2.0**-header.fractional_bits).astype(np.float32).reshape(-1, 3)


def _first_three(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[N, 4] wxyz of versions 1 and 2."""
    xyz = raw.reshape(-1, 3).astype(np.float32) / 127.5 - 1
    return np.concatenate([np.sqrt(np.clip(1 - np.square(xyz).sum(axis=1, keepdims=True), 0, None)), xyz], axis=1)


def _smallest_three(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[N, 4] wxyz from version 3 on."""
    word = raw.view("<u4")
    fields = np.stack([word >> shift & 1023 for shift in (20, 10, 0)], axis=1)
    magnitude = (fields & 511).astype(np.float32) * np.float32(0.5**0.5 / 511)
    return np.roll(from_smallest_three(np.where(fields & 512, -magnitude, magnitude), word >> 30), 1, axis=1)


def _in_rub(path: Path, gaussians: Gaussians, extensions: bytes) -> Gaussians:
    """``gaussians`` in RUB, whatever axes the extension records say that they are in."""
    at = 0
    while at + 8 <= len(extensions):
        kind, size = struct.unpack_from("<II", extensions, at)
        payload = extensions[at + 8 : at + 8 + size]
        at += 8 + size
        if kind == _COORDINATES:
            number = int.from_bytes(payload[:4], "little")
            if len(payload) < 4 or number >= len(_SYSTEMS):
                raise FileFormatError(f"{path}: damaged (SPZ_ADOBE_coordinate_system has no system {number})")
            file_from_rub = torch.tensor([_LETTERS[letter] for letter in _SYSTEMS[number]], dtype=torch.float64)
            if _SYSTEMS[number] != "RUB":
                gaussians = transform(gaussians, file_from_rub.T)
        elif kind != _SAFE_ORBIT:
            warnings.warn(f"{path}: the extension {kind:#010x} is not known here and was left out", stacklevel=3)
    return gaussians


def save_spz(gaussians: Gaussians, path: str | os.PathLike[str], *, strict: bool = False) -> None:
    """Write SPZ version 3 from splats in its axes (y up).

    The fractional bits follow from the size of the object (12, the reference's, for one of radius 1) and from its furthest splat.

    Args:
        gaussians: splats, as they shall stand in the file.
        path: the file.
        strict: refuse what would otherwise be a warning: rows that are not finite and values outside the format's ranges.
    """
    gaussians = finite_splats(gaussians, path, strict)
    require_splats(gaussians, path)
    stored = deactivate(gaussians)
    bits = _fractional_bits(stored)
    integers = np.rint(np.ldexp(stored.means.astype(np.float64), bits)).clip(-_TOP, _TOP)
    report(path, strict, _losses(stored, np.ldexp(integers, -bits)))
    rest = gaussians.sh[:, 1:].detach().cpu().numpy()
    header = _MAGIC + struct.pack("<IIBBBB", VERSION, len(gaussians), gaussians.sh_degree, bits, 0, 0)
    attributes = [
        np.ascontiguousarray(integers.astype("<i4")).view(np.uint8).reshape(-1, 4)[:, :3],
        _rounded(gaussians.opacities.detach().cpu().numpy() * 255),
        _rounded(stored.f_dc * (_COLOUR_SCALE * 255) + 127.5),
        _rounded((stored.log_scales + 10) * 16),
        _pack_rotations(stored.quats),
        _pack_sh(rest),
    ]
    stream = zlib.compressobj(6, wbits=zlib.MAX_WBITS | 16)
    parts = [header, *(np.ascontiguousarray(values).tobytes() for values in attributes)]
    write_bytes(path, b"".join([*(stream.compress(part) for part in parts), stream.flush()]))


def _fractional_bits(stored: StoredSplats) -> int:
    """As many as keep the step at 1/4096 of the object's radius or below, 12 at the least, but none that the furthest splat cannot have."""
    wanted = max(12, int(np.ceil(12 - np.log2(object_radius(stored)))))
    furthest = float(np.abs(stored.means).max())
    possible = int(np.floor(np.log2(_TOP / furthest))) if furthest > 0 else 24
    return max(0, min(wanted, possible, 24))


def _losses(stored: StoredSplats, means: NDArray[np.float64]) -> list[str | None]:
    radius = object_radius(stored)
    log_scales, sh = stored.log_scales.clip(-10, 255 / 16 - 10), stored.f_rest.clip(-1, 127 / 128)
    colour_limit = 0.5 / _COLOUR_SCALE
    return [
        beyond(means - stored.means, POSITION_TOLERANCE * radius, "positions", f" (the object's radius is {radius:.2g})"),
        beyond(_growth(log_scales - stored.log_scales), 1 / 16, "scales outside [4.5e-5, 378]", " times when clipped"),
        beyond((stored.f_dc - stored.f_dc.clip(-colour_limit, colour_limit)) * C0, COLOUR_TOLERANCE, "colours", " of [0, 1] when clipped"),
        beyond(stored.f_rest - sh, 1 / 64, "SH coefficients outside [-1, 1)", " when clipped"),
    ]


def _growth(log_ratio: NDArray[np.float32]) -> NDArray[np.float64]:
    """By how many times a scale grows or shrinks."""
    return np.expm1(np.abs(log_ratio.astype(np.float64)))


def _rounded(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _pack_rotations(quats: NDArray[np.float32]) -> NDArray[np.uint32]:
    """[N, 4] wxyz → [N] words."""
    small, largest = smallest_three(np.roll(quats / np.linalg.norm(quats, axis=1, keepdims=True).clip(1e-12), -1, axis=1))
    magnitude = np.rint(np.abs(small) * np.float32(511 * 2**0.5)).clip(0, 511).astype(np.uint32)
    fields = magnitude | (small < 0).astype(np.uint32) << 9
    return (largest.astype(np.uint32) << 30 | fields[:, 0] << 20 | fields[:, 1] << 10 | fields[:, 2]).astype("<u4")


def _pack_sh(rest: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[N, K − 1, 3] → bytes, rounded to the buckets of each degree."""
    degree_of = np.repeat([1, 2, 3], [3, 5, 7])[: rest.shape[1]]
    bucket = np.array([_SH_BUCKET[degree] for degree in degree_of], dtype=np.int64)[None, :, None]
    integers = np.rint(rest.clip(-4, 4) * 128).astype(np.int64) + 128
    return ((integers + bucket // 2) // bucket * bucket).clip(0, 255).astype(np.uint8)
