"""Splat files as other tools write them, built here field by field: every version and level that our own writers do not make."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
import torch
from PIL import Image

from fsd_gs.core.types import Gaussians

C0 = 0.28209479177387814


def arrays(g: Gaussians):
    """(means, quats wxyz, scales, opacities, f_dc [N, 3], rest [N, K − 1, 3]) as float64."""
    values = [getattr(g, name).double().numpy() for name in ("means", "quats", "scales", "opacities", "sh")]
    return (*values[:4], values[4][:, 0], values[4][:, 1:])


# .ksplat


def ksplat(parts: list[Gaussians], level: int, *, bucket_size: int = 8, sh_range: float = 1.5) -> bytes:
    """One section a part. Splats of a bucket share its centre: full buckets first, then two partly filled ones where splats are left."""
    total = sum(len(part) for part in parts)
    header = bytearray(4096)
    header[0:2] = b"\x00\x01"
    struct.pack_into("<IIII", header, 4, len(parts), len(parts), total, total)
    struct.pack_into("<H", header, 20, level)
    struct.pack_into("<ff", header, 36, -sh_range, sh_range)
    sections = [_ksplat_section(part, level, bucket_size, sh_range) for part in parts]
    return bytes(header) + b"".join(head for head, _ in sections) + b"".join(data for _, data in sections)


def _ksplat_section(g: Gaussians, level: int, bucket_size: int, sh_range: float) -> tuple[bytes, bytes]:
    means, quats, scales, opacities, f_dc, rest = arrays(g)
    count, degree, block = len(g), g.sh_degree, 2.5
    full = count // bucket_size if level else 0
    left = count - full * bucket_size if level else 0
    lengths = [n for n in (left - left // 2, left // 2) if n]
    bucket_of = np.repeat(np.arange(full + len(lengths)), [bucket_size] * full + lengths).astype(int)  # [] at level 0
    centres = np.array([means[bucket_of == b].mean(axis=0) for b in range(full + len(lengths))]).reshape(-1, 3).astype("<f4")
    head = bytearray(1024)
    struct.pack_into("<IIIIfH", head, 0, count, count, bucket_size if level else 0, len(centres), block if level else 0, 12 if level else 0)
    struct.pack_into("<IIIIH", head, 24, 32767 if level else 0, 0, full, len(lengths), degree)
    shape = "<f2" if level else "<f4"
    steps = np.rint((means - centres[bucket_of]) / (block / 2) * 32767 + 32767) if level else means
    places = steps.astype("<u2" if level else "<f4")
    rgba = np.rint(np.concatenate([0.5 + C0 * f_dc, opacities[:, None]], axis=1).clip(0, 1) * 255).astype("u1")
    bands = [rest[:, a:b].transpose(0, 2, 1).reshape(count, -1) for a, b in ((0, 3), (3, 8)) if b <= rest.shape[1]]
    sh = np.concatenate([np.zeros((count, 0)), *bands], axis=1)
    sh = np.rint((sh + sh_range) / (2 * sh_range) * 255).clip(0, 255).astype("u1") if level == 2 else sh.astype(shape)
    columns = [places, scales.astype(shape), quats.astype(shape), rgba, sh]
    rows = np.concatenate([np.ascontiguousarray(c).view("u1").reshape(count, -1) for c in columns], axis=1)
    return bytes(head), np.array(lengths, "<u4").tobytes() + centres.tobytes() + rows.tobytes()


# .spz


def spz(g, version: int, *, bits: int = 12, extensions: bytes = b"", packed: bool = True) -> bytes:
    """SPZ of version 1 to 4; ``packed`` False leaves the gzip of versions 1 to 3 away."""
    means, quats, scales, opacities, f_dc, rest = arrays(g)
    flags = 2 if extensions else 0
    if version == 1:
        positions = means.astype("<f2").tobytes()
    else:
        positions = np.rint(means * 2**bits).astype("<i4").view("u1").reshape(-1, 4)[:, :3].tobytes()
    xyzw = np.roll(quats, -1, axis=1)
    streams = [
        positions,
        np.rint(opacities * 255).astype("u1").tobytes(),
        np.rint((f_dc * 0.15 + 0.5) * 255).clip(0, 255).astype("u1").tobytes(),
        np.rint((np.log(scales) + 10) * 16).clip(0, 255).astype("u1").tobytes(),
        b"".join(_spz_three(q) if version < 3 else _spz_smallest(q) for q in xyzw),
        np.rint(rest * 128 + 128).clip(0, 255).astype("u1").tobytes(),
    ]
    degree = round((1 + rest.shape[1]) ** 0.5) - 1
    header = b"NGSP" + struct.pack("<IIBBB", version, len(means), degree, bits, flags)
    if version < 4:
        content = header + b"\0" + b"".join(streams) + extensions
        return gzip.compress(content, mtime=0) if packed else content
    import zstandard

    streams = [s for s in streams if s]
    frames = [zstandard.ZstdCompressor().compress(s) for s in streams]
    table = b"".join(struct.pack("<QQ", len(frame), len(s)) for frame, s in zip(frames, streams, strict=True))
    return header + bytes([len(frames)]) + struct.pack("<I", 32 + len(extensions)) + bytes(12) + extensions + table + b"".join(frames)


def _spz_three(xyzw) -> bytes:
    xyz = xyzw[:3] * (-1 if xyzw[3] < 0 else 1)
    return np.rint(xyz * 127.5 + 127.5).clip(0, 255).astype("u1").tobytes()


def _spz_smallest(xyzw) -> bytes:
    largest = int(np.abs(xyzw).argmax())
    word = largest
    for i in range(4):
        if i != largest:
            value = xyzw[i] * np.sign(xyzw[largest])
            word = word << 10 | (512 if value < 0 else 0) | int(511 * abs(value) * 2**0.5 + 0.5)
    return struct.pack("<I", word)


def spz_extension(kind: int, payload: bytes) -> bytes:
    return struct.pack("<II", kind, len(payload)) + payload


# .sog


def webp(pixels) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(content, format="WEBP", lossless=True, exact=True)
    return content.getvalue()


def bundle(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, member in files.items():
            archive.writestr(zipfile.ZipInfo(name), member, compress_type=method)
    return content.getvalue()


def unbundle(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sog_v1(g: Gaussians) -> dict[str, bytes]:
    """Version 1: bounds in place of codebooks; one palette entry a splat."""
    means, quats, scales, opacities, f_dc, rest = arrays(g)
    count, side = len(g), 4 * int(np.ceil(len(g) ** 0.5 / 4))

    def picture(values):
        pixels = np.zeros((side * side, 4), np.uint8)
        pixels[:, 3] = 255
        pixels[:count, : values.shape[1]] = values
        return webp(pixels.reshape(side, side, 4))

    def bounded(values, low, high):
        return np.rint((values - low) / (high - low) * 255)

    logs = np.sign(means) * np.log1p(np.abs(means))
    low, high = logs.min(axis=0), logs.max(axis=0)
    places = np.rint((logs - low) / (high - low) * 65535).astype(int)
    largest = np.abs(quats).argmax(axis=1)
    signed = quats * np.sign(quats[np.arange(count), largest])[:, None]
    small = np.array([np.delete(q, i) for q, i in zip(signed, largest, strict=True)])
    turned = np.concatenate([np.rint((small * 2**0.5 * 0.5 + 0.5) * 255), 252 + largest[:, None]], axis=1)
    sizes, colours = np.log(scales), np.concatenate([f_dc, np.log(opacities / (1 - opacities))[:, None]], axis=1)
    files = {
        "means_l.webp": picture(places & 255),
        "means_u.webp": picture(places >> 8),
        "quats.webp": picture(turned),
        "scales.webp": picture(bounded(sizes, sizes.min(axis=0), sizes.max(axis=0))),
        "sh0.webp": picture(bounded(colours, colours.min(axis=0), colours.max(axis=0))),
    }
    meta = {
        "means": {"shape": [count, 3], "mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "quats": {"shape": [count, 4], "encoding": "quaternion_packed", "files": ["quats.webp"]},
        "scales": {"mins": sizes.min(axis=0).tolist(), "maxs": sizes.max(axis=0).tolist(), "files": ["scales.webp"]},
        "sh0": {"mins": colours.min(axis=0).tolist(), "maxs": colours.max(axis=0).tolist(), "files": ["sh0.webp"]},
    }
    if rest.shape[1]:
        coefficients, rows = rest.shape[1], -(-count // 64)
        entries = np.zeros((rows * 64, coefficients, 3))
        entries[:count] = bounded(rest, rest.min(), rest.max())
        files["shN_centroids.webp"] = webp(entries.reshape(rows, 64 * coefficients, 3))
        label = np.arange(count)
        files["shN_labels.webp"] = picture(np.stack([label & 255, label >> 8], axis=1))
        meta["shN"] = {"mins": float(rest.min()), "maxs": float(rest.max()), "files": ["shN_centroids.webp", "shN_labels.webp"]}
    return {**files, "meta.json": json.dumps(meta).encode()}


def joined(parts: list[Gaussians]) -> Gaussians:
    most = max(part.sh.shape[1] for part in parts)
    sh = [torch.cat([p.sh, torch.zeros(len(p), most - p.sh.shape[1], 3)], dim=1) for p in parts]
    fields = (torch.cat([getattr(p, name) for p in parts]) for name in ("means", "quats", "scales", "opacities"))
    return Gaussians(*fields, torch.cat(sh))
