"""SOG version 2 (PlayCanvas): a zip of lossless WebP images, one pixel a splat, and a meta.json with ranges and codebooks.

    means_l, means_u   low and high byte of 16-bit positions, uniform in sign(x) log(1 + |x|) between the bounds of the file
    quats              the three smallest components in 8 bits each, 252 + index of the largest (w x y z) in alpha
    scales, sh0        indices into codebooks of 256 log-scales and of 256 SH coefficients of degree 0; opacity in sh0's alpha
    shN                a palette of SH vectors (a row of 64 of them, a pixel a coefficient) and a 16-bit label a splat

The palette takes 65 536 entries. Up to that count every splat has its own, so that nothing has to be clustered; gaussforge, which writes
the larger files, clusters always and takes 10 s where this takes 1.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.compressed_ply import morton_order, smallest_three
from fsd_gs.export.packed import encode
from fsd_gs.export.ply import StoredSplats, deactivate
from fsd_gs.io import write_bytes

MAX_PALETTE = 65536
_PALETTE_COLUMNS = 64
_HISTOGRAM_BINS = 8192
_SMOOTHING = 32


def save_sog(gaussians: Gaussians, path: str | os.PathLike[str], *, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a bundled .sog, sorted along a Morton curve so that neighbouring pixels are alike. provenance: goes into meta.json."""
    if not len(gaussians):
        raise InputError(f"cannot write {path}: there are no splats; loosen the filters")
    if gaussians.sh_degree and len(gaussians) > MAX_PALETTE:
        write_bytes(path, _with_provenance(encode(gaussians, "sog", path), provenance))
        return
    stored = deactivate(gaussians)
    opacities = gaussians.opacities.detach().cpu().float().numpy()
    sh_rest = gaussians.sh[:, 1:].detach().cpu().float().numpy()
    order = morton_order(stored.means)
    images, meta = _images(stored, opacities, sh_rest, order)
    if provenance:
        meta["asset"]["fsd_gs"] = dict(provenance)
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        for name, pixels in images.items():
            bundle.writestr(zipfile.ZipInfo(f"{name}.webp"), _webp(pixels))  # ZipInfo: no date, the same splats give the same bytes
        bundle.writestr(zipfile.ZipInfo("meta.json"), json.dumps(meta))
    write_bytes(path, archive.getvalue())


def _with_provenance(content: bytes, provenance: Mapping[str, Any] | None) -> bytes:
    """A bundle of another writer with ``provenance`` in its meta.json."""
    archive = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        for name in old.namelist():
            member = old.read(name)
            if name == "meta.json" and provenance:
                meta = json.loads(member)
                member = json.dumps({**meta, "asset": {**meta.get("asset", {}), "fsd_gs": dict(provenance)}}).encode()
            bundle.writestr(zipfile.ZipInfo(name), member)
    return archive.getvalue()


def _images(
    stored: StoredSplats, opacities: NDArray[np.float32], sh_rest: NDArray[np.float32], order: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Any]]:
    """Image name → pixels [H, W, 4], and meta.json."""
    low, high, positions = _quantise_positions(stored.means[order])
    small, largest = smallest_three(stored.quats[order])
    rotations = np.concatenate([_to_bytes(small / 2**0.5 + 0.5), 252 + largest[:, None].astype(np.uint8)], axis=1)
    scale_codebook, scales = _codebook(stored.log_scales[order])
    colour_codebook, colours = _codebook(stored.f_dc[order])
    images = {
        "means_l": _picture(positions & 255),
        "means_u": _picture(positions >> 8),
        "quats": _picture(rotations),
        "scales": _picture(scales),
        "sh0": _picture(np.concatenate([colours, _to_bytes(opacities[order])[:, None]], axis=1)),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "fsd_gs"},
        "count": len(order),
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "quats": {"files": ["quats.webp"]},
        "scales": {"codebook": scale_codebook.tolist(), "files": ["scales.webp"]},
        "sh0": {"codebook": colour_codebook.tolist(), "files": ["sh0.webp"]},
    }
    if sh_rest.shape[1]:
        codebook, indices = _codebook(sh_rest[order])
        images["shN_centroids"] = _palette_picture(indices)
        label = np.arange(len(order))
        images["shN_labels"] = _picture(np.stack([label & 255, label >> 8, np.zeros_like(label)], axis=1))
        bands = round((sh_rest.shape[1] + 1) ** 0.5) - 1
        files = ["shN_centroids.webp", "shN_labels.webp"]
        meta["shN"] = {"count": len(order), "bands": bands, "codebook": codebook.tolist(), "files": files}
    return images, meta


def _quantise_positions(means: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Bounds [3], [3] and 16-bit integers [N, 3] in the logarithmic scale of the format."""
    logarithmic = np.sign(means) * np.log1p(np.abs(means.astype(np.float64)))
    low, high = logarithmic.min(axis=0), logarithmic.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return low, high, np.rint((logarithmic - low) / span * 65535).astype(np.int64)


def _codebook(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """256 levels for ``values`` (any shape) and the index of the nearest for each: Lloyd's algorithm on a histogram.

    It starts from levels as dense as the cube root of the values' density, which is optimal for many levels (Panter & Dite 1951).
    """
    counts, edges = np.histogram(values, bins=_HISTOGRAM_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    density = counts.reshape(-1, _SMOOTHING).mean(axis=1).repeat(_SMOOTHING)  # single counts say little about a density
    cumulative = np.cumsum(np.cbrt(density))
    levels = np.interp((np.arange(256) + 0.5) / 256, cumulative / cumulative[-1], centres)
    for _ in range(20):
        nearest = np.searchsorted((levels[:-1] + levels[1:]) / 2, centres)
        weight = np.bincount(nearest, counts, 256)
        total = np.bincount(nearest, counts * centres, 256)
        levels = np.sort(np.where(weight > 0, total / np.maximum(weight, 1), levels))
    return levels, np.searchsorted((levels[:-1] + levels[1:]) / 2, values).astype(np.uint8)


def _to_bytes(fractions: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.rint(np.clip(fractions, 0, 1) * 255).astype(np.uint8)


def _picture(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """[N, 3 or 4] → [H, W, 4], nearly square with sides that are multiples of 4; alpha 255 if there is none."""
    width = -(-int(np.ceil(len(pixels) ** 0.5)) // 4) * 4
    height = -(-len(pixels) // width // 4) * 4
    picture = np.zeros((height * width, 4), dtype=np.uint8)
    picture[:, 3] = 255
    picture[: len(pixels), : pixels.shape[1]] = pixels
    return picture.reshape(height, width, 4)


def _palette_picture(indices: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[N, K − 1, 3] → [rows, 64 (K − 1), 3]: entry i in row i // 64, its coefficients side by side."""
    count, coefficients, _ = indices.shape
    rows = -(-count // _PALETTE_COLUMNS)
    picture = np.zeros((rows * _PALETTE_COLUMNS, coefficients, 3), dtype=np.uint8)
    picture[:count] = indices
    return picture.reshape(rows, _PALETTE_COLUMNS * coefficients, 3)


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    content = BytesIO()
    # exact: keep the colour of pixels whose alpha is 0, for it is data here. method 0: the slower ones gain a few per cent.
    Image.fromarray(pixels).save(content, format="WEBP", lossless=True, exact=True, method=0, quality=0)
    return content.getvalue()
