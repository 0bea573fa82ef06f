"""SOG (PlayCanvas): lossless WebP pictures, one pixel a splat, and a meta.json with ranges and codebooks. Version 2 is written here.

    means_l, means_u   low and high byte of 16-bit positions, uniform in sign(x) log(1 + |x|) between the bounds of the file
    quats              the three smallest components in 8 bits each, 252 + index of the largest (w x y z) in alpha
    scales, sh0        indices into codebooks of 256 log-scales and of 256 SH coefficients of degree 0; opacity in sh0's alpha
    shN                a palette of SH vectors (a row of 64 of them, a pixel a coefficient) and a 16-bit label a splat

Version 1 has bounds where version 2 has codebooks: log-scales, coefficients and the logits of the opacities lie between them in 8 bits.
The files lie in a folder, or bundled in a zip archive (.sog). The palette takes 65 536 entries: up to that count every splat has its own,
and only beyond it vectors are clustered.
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

from fsd_gs.core.sh import C0
from fsd_gs.core.types import Gaussians
from fsd_gs.export import webp
from fsd_gs.export.palette import codebook, nearest_level, palette
from fsd_gs.export.quantise import (
    COLOUR_TOLERANCE,
    POSITION_TOLERANCE,
    beyond,
    finite_splats,
    morton_order,
    object_radius,
    report,
    require_splats,
    smallest_three,
    to_bytes,
)
from fsd_gs.export.stored import StoredSplats, deactivate
from fsd_gs.io import write_bytes

MAX_PALETTE = 65536
PALETTE_COLUMNS = 64
_SCALE_TOLERANCE = 0.1  # of a scale
_SH_TOLERANCE = 0.1


def save_sog(
    gaussians: Gaussians, path: str | os.PathLike[str], *, provenance: Mapping[str, Any] | None = None, strict: bool = False
) -> None:
    """Write a bundled .sog, sorted along a Morton curve so that neighbouring pixels are alike.

    Args:
        gaussians: splats, as they shall stand in the file.
        path: the file.
        provenance: goes into meta.json's "asset".
        strict: refuse what would otherwise be a warning: rows that are not finite, and values that the codebooks or the grid of positions
            hold badly because others lie far off.
    """
    gaussians = finite_splats(gaussians, path, strict)
    require_splats(gaussians, path)
    stored = deactivate(gaussians)
    order = morton_order(stored.means)
    stored = StoredSplats(*(values[order] for values in vars(stored).values()))
    opacities = gaussians.opacities.detach().cpu().float().numpy()[order]
    images, meta, losses = _images(stored, opacities, gaussians.sh[:, 1:].detach().cpu().float().numpy()[order])
    report(path, strict, losses)
    meta["asset"] = {"generator": "fsd_gs", **({"fsd_gs": dict(provenance)} if provenance else {})}
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        for name, pixels in images.items():
            bundle.writestr(zipfile.ZipInfo(f"{name}.webp"), webp.encode(pixels))  # ZipInfo: no date, the same splats give the same bytes
        bundle.writestr(zipfile.ZipInfo("meta.json"), json.dumps(meta))
    write_bytes(path, archive.getvalue())


def _images(
    stored: StoredSplats, opacities: NDArray[np.float32], sh_rest: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Any], list[str | None]]:
    """Image name → pixels [H, W, 4], meta.json, and what rounding costs where it costs too much."""
    low, high, positions = _quantise_positions(stored.means)
    small, largest = smallest_three(stored.quats)
    rotations = np.concatenate([to_bytes(small / 2**0.5 + 0.5), 252 + largest[:, None].astype(np.uint8)], axis=1)
    scale_codebook, scales = codebook(stored.log_scales)
    colour_codebook, colours = codebook(stored.f_dc)
    images = {
        "means_l": _picture(positions & 255),
        "means_u": _picture(positions >> 8),
        "quats": _picture(rotations),
        "scales": _picture(scales),
        "sh0": _picture(np.concatenate([colours, to_bytes(opacities)[:, None]], axis=1)),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "count": len(opacities),
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "quats": {"files": ["quats.webp"]},
        "scales": {"codebook": scale_codebook.tolist(), "files": ["scales.webp"]},
        "sh0": {"codebook": colour_codebook.tolist(), "files": ["sh0.webp"]},
    }
    radius = object_radius(stored)
    with np.errstate(over="ignore"):
        moved = _position(low, high, positions) - stored.means
    losses = [
        beyond(moved, POSITION_TOLERANCE * radius, "positions", f" (the object's radius is {radius:.2g})"),
        beyond(np.expm1(np.abs(scale_codebook[scales] - stored.log_scales)), _SCALE_TOLERANCE, "scales", " of themselves"),
        beyond((colour_codebook[colours] - stored.f_dc) * C0, COLOUR_TOLERANCE, "colours", " of [0, 1]"),
    ]
    if sh_rest.shape[1]:
        indices, levels, label = _add_palette(sh_rest, images, meta)
        losses.append(beyond(levels[indices][label] - sh_rest, _SH_TOLERANCE, "SH coefficients"))
    return images, meta, losses


def _add_palette(
    sh_rest: NDArray[np.float32], images: dict[str, NDArray[np.uint8]], meta: dict[str, Any]
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
    """shN in ``images`` and ``meta``; codebook indices [P, K − 1, 3] of the palette, the codebook, and the entry of each splat [N]."""
    count, coefficients, _ = sh_rest.shape
    levels, indices = codebook(sh_rest)
    label = np.arange(count)
    if count > MAX_PALETTE:
        # Vectors that the codebook makes equal count as one.
        entries, label = palette(levels[indices].astype(np.float32).reshape(count, -1), MAX_PALETTE)
        indices = nearest_level(levels, entries.reshape(-1, coefficients, 3))
    images["shN_centroids"] = _palette_picture(indices)
    images["shN_labels"] = _picture(np.stack([label & 255, label >> 8, np.zeros_like(label)], axis=1))
    bands = round((coefficients + 1) ** 0.5) - 1
    files = ["shN_centroids.webp", "shN_labels.webp"]
    meta["shN"] = {"count": len(indices), "bands": bands, "codebook": levels.tolist(), "files": files}
    return indices, levels, label


def _quantise_positions(means: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Bounds [3], [3] and 16-bit integers [N, 3] in the logarithmic scale of the format."""
    logarithmic = np.sign(means) * np.log1p(np.abs(means.astype(np.float64)))
    low, high = logarithmic.min(axis=0), logarithmic.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return low, high, np.rint((logarithmic - low) / span * 65535).astype(np.int64)


def _position(low: NDArray[np.float64], high: NDArray[np.float64], integers: NDArray[np.integer]) -> NDArray[np.float64]:
    """The inverse of :func:`_quantise_positions`."""
    logarithmic = low + integers / 65535 * (high - low)
    return np.sign(logarithmic) * np.expm1(np.abs(logarithmic))


def _picture(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """[N, 3 or 4] → [H, W, 4], nearly square with sides that are multiples of 4; alpha 255 if there is none."""
    width = -(-int(np.ceil(len(pixels) ** 0.5)) // 4) * 4
    height = -(-len(pixels) // width // 4) * 4
    picture = np.zeros((height * width, 4), dtype=np.uint8)
    picture[:, 3] = 255
    picture[: len(pixels), : pixels.shape[1]] = pixels
    return picture.reshape(height, width, 4)


def _palette_picture(indices: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[P, K − 1, 3] → [rows, 64 (K − 1), 3]: entry i in row i // 64, its coefficients side by side."""
    count, coefficients, _ = indices.shape
    rows = -(-count // PALETTE_COLUMNS)
    picture = np.zeros((rows * PALETTE_COLUMNS, coefficients, 3), dtype=np.uint8)
    picture[:count] = indices
    return picture.reshape(rows, PALETTE_COLUMNS * coefficients, 3)
