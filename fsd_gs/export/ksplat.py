""".ksplat (mkkellogg's GaussianSplats3D), reading only.

    header        4096 bytes: version u8.u8, at 4 sections u32 (allotted, used), at 12 splats u32 (allotted, used), at 20 compression level
                  u16, at 36 least and largest SH coefficient f32 (0: ∓1.5)
    sections      1024 bytes each: splats u32 (used, allotted), bucket size u32, buckets u32, block size f32, at 20 bytes a bucket u16,
                  at 24 quantisation range u32, at 32 full buckets u32, partly filled ones u32, at 40 SH degree u16
    their data    in turn: lengths of the partly filled buckets u32, centres of the buckets 3 × f32, then the splats
    a splat       centre × 3, scale × 3, quaternion w x y z, RGBA u8, SH

    level 0       float32 throughout, no buckets
    level 1       float16; a centre is (u16 − range) · block / 2 / range + the centre of its bucket
    level 2       as 1, and SH as u8 between the least and the largest coefficient

SH stand band by band, in each band all coefficients of red, then green, then blue. After src/loaders/SplatBuffer.js.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fsd_gs.core.sh import C0
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export.gate import MAX_SPLATS, check_count, check_held, read_start, read_whole, refuse_foreign
from fsd_gs.export.stored import assemble

_HEADER_BYTES, _SECTION_BYTES, _BUCKET_BYTES = 4096, 1024, 12
_DEFAULT_SH_RANGE = 1.5
_DEFAULT_RANGE = 32767
_MAX_SH_DEGREE = 2
#: By level: kinds of centre, of scale and rotation, of SH.
_KINDS = (("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1"))


@dataclass(frozen=True)
class _Section:
    splats: int
    allotted: int
    bucket_size: int
    buckets: int
    block_size: float
    bucket_bytes: int
    range: int
    full_buckets: int
    partial_buckets: int
    sh_degree: int

    def row(self, level: int) -> np.dtype:
        """The layout of a splat."""
        centre, shape, sh = _KINDS[level]
        fields = [("centre", centre, 3), ("scale", shape, 3), ("quat", shape, 4), ("rgba", "u1", 4)]
        return np.dtype([*fields, ("sh", sh, 3 * ((self.sh_degree + 1) ** 2 - 1))])


def load_ksplat(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read a .ksplat of level 0, 1 or 2 and SH degree 0 to 2, of any number of sections and buckets: float32, CPU."""
    path = Path(path)
    start = read_start(path)
    refuse_foreign(path, start, ".ksplat")
    if start[0] != 0 or start[1:2] < b"\x01":
        raise FileFormatError(f"{path}: not a .ksplat file, or of a version that is not known (it begins with {start[:4].hex(' ')})")
    content = read_whole(path)
    check_held(path, "the header", _HEADER_BYTES, len(content))
    allotted_sections, _, _, splats = struct.unpack_from("<IIII", content, 4)
    level = struct.unpack_from("<H", content, 20)[0]
    if level >= len(_KINDS):
        raise FileFormatError(f"{path}: compression level {level}; 0, 1 and 2 can be read")
    check_count(path, splats, max_splats)
    at = _HEADER_BYTES + allotted_sections * _SECTION_BYTES
    check_held(path, f"the headers of {allotted_sections:,} sections", at, len(content))
    low, high = (value if np.isfinite(value) and value else default for value, default in _sh_range(content))
    parts, total = [], 0
    for index in range(allotted_sections):
        section = _parse_section(path, content, index, level)
        total += section.splats
        check_count(path, total, max_splats)
        part, at = _read_section(path, content, at, section, level, (low, high))
        parts += [part] if section.splats else []
    if total != splats:
        raise FileFormatError(f"{path}: damaged (the header declares {splats:,} splats, its sections {total:,})")
    return _join(path, parts)


def _sh_range(content: bytes) -> list[tuple[float, float]]:
    low, high = struct.unpack_from("<ff", content, 36)
    return [(low, -_DEFAULT_SH_RANGE), (high, _DEFAULT_SH_RANGE)]


def _parse_section(path: Path, content: bytes, index: int, level: int) -> _Section:
    at = _HEADER_BYTES + index * _SECTION_BYTES
    splats, allotted, bucket_size, buckets, block_size, bucket_bytes = struct.unpack_from("<IIIIfH", content, at)
    quantisation, _, full, partial, sh_degree = struct.unpack_from("<IIIIH", content, at + 24)
    section = _Section(splats, allotted, bucket_size, buckets, block_size, bucket_bytes, quantisation, full, partial, sh_degree)
    wrong = None
    if splats > allotted:
        wrong = f"{splats:,} splats in room for {allotted:,}"
    elif sh_degree > _MAX_SH_DEGREE:
        wrong = f"SH degree {sh_degree}; the format has 0 to {_MAX_SH_DEGREE}"
    elif level and splats and bucket_bytes != _BUCKET_BYTES:
        wrong = f"{bucket_bytes} bytes a bucket; the format has {_BUCKET_BYTES}"
    elif level and full + partial > buckets:
        wrong = f"{full + partial:,} full and partly filled buckets of {buckets:,}"
    if wrong:
        raise FileFormatError(f"{path}: damaged (section {index}: {wrong})")
    return section


def _read_section(
    path: Path, content: bytes, at: int, section: _Section, level: int, sh_range: tuple[float, float]
) -> tuple[tuple[NDArray, ...], int]:
    """(means, quats, scales, opacities, f_dc, SH [N, K − 1, 3]) of the section whose data begin at ``at``, and where they end."""
    row = section.row(level)
    buckets_at = at + 4 * section.partial_buckets
    rows_at = buckets_at + section.bucket_bytes * section.buckets
    end = rows_at + row.itemsize * section.allotted
    check_held(path, f"a section of {section.allotted:,} splats", end, len(content))
    rows = np.frombuffer(content, row, section.splats, rows_at)
    means = rows["centre"].astype(np.float32)
    if level and section.splats:
        lengths = np.frombuffer(content, "<u4", section.partial_buckets, at)
        centres = np.frombuffer(content, "<f4", 3 * section.buckets, buckets_at).reshape(-1, 3)
        steps = section.range or _DEFAULT_RANGE
        means = (means - steps) * np.float32(section.block_size / 2 / steps) + centres[_bucket_of(path, section, lengths)]
    sh = rows["sh"].astype(np.float32)
    if level == 2:
        low, high = sh_range
        sh = (low + sh / 255 * (high - low)).astype(np.float32, copy=False)
    rgba = rows["rgba"].astype(np.float32) / 255
    scales, quats = rows["scale"].astype(np.float32), rows["quat"].astype(np.float32)
    return (means, quats, scales, rgba[:, 3], (rgba[:, :3] - 0.5) / C0, _coefficients(sh)), end


def _bucket_of(path: Path, section: _Section, lengths: NDArray[np.uint32]) -> NDArray[np.int64]:
    """[N] index of each splat's bucket: full ones first, then those whose lengths are listed."""
    in_full = section.full_buckets * section.bucket_size
    full = np.arange(min(in_full, section.splats)) // max(section.bucket_size, 1)
    left = section.splats - len(full)
    ends = np.cumsum(lengths.astype(np.int64))
    if left and (not len(ends) or ends[-1] < left):
        held = in_full + (int(ends[-1]) if len(ends) else 0)
        raise FileFormatError(f"{path}: damaged (the buckets of a section hold {held:,} of its {section.splats:,} splats)")
    partial = section.full_buckets + np.searchsorted(ends, np.arange(left), side="right")
    return np.concatenate([full, partial])


def _coefficients(stored: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, 3 (K − 1)] as stored → [N, K − 1, 3]."""
    bands, at = [np.zeros((len(stored), 0, 3), dtype=np.float32)], 0
    for size in (3, 5):
        if at < stored.shape[1]:
            bands.append(stored[:, at : at + 3 * size].reshape(-1, 3, size).transpose(0, 2, 1))
            at += 3 * size
    return np.concatenate(bands, axis=1)


def _join(path: Path, parts: list[tuple[NDArray, ...]]) -> Gaussians:
    """One set of splats from all sections; those of a lower SH degree are padded with zeros."""
    if not parts:
        raise FileFormatError(f"{path}: there are no splats in it")
    most = max(part[-1].shape[1] for part in parts)
    padded = [(*part[:-1], np.pad(part[-1], ((0, 0), (0, most - part[-1].shape[1]), (0, 0)))) for part in parts]
    means, quats, scales, opacities, f_dc, rest = (np.concatenate(columns) for columns in zip(*padded, strict=True))
    return assemble(means, quats, scales, opacities, np.concatenate([f_dc[:, None], rest], axis=1), source=str(path))
