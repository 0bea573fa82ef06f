"""What the packed formats share: putting numbers into few bits, and saying what that changed.

No writer changes a value in silence: :func:`finite_splats` drops rows that are not numbers, :func:`beyond` counts the splats whose error
exceeds what the format is known for, and :func:`report` turns that into warnings, or with ``strict`` into a refusal before anything is
written.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.stored import StoredSplats

#: Positions may move by this share of the object's radius without a word.
POSITION_TOLERANCE = 1e-3
#: Colours by this much of [0, 1]: three steps of a screen.
COLOUR_TOLERANCE = 3 / 255
_REST = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # the components of a quaternion beside the one of that index


def finite_splats(gaussians: Gaussians, path: str | os.PathLike[str], strict: bool) -> Gaussians:
    """``gaussians`` with values that a file can hold: both changes are said in a warning with a count (refused if ``strict``).

    Rows in which a value is not finite, or a scale is negative, are dropped; opacities are clipped to [0, 1].
    """
    columns = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[:, None], gaussians.sh.flatten(1)]
    finite = torch.cat([column.detach() for column in columns], dim=1).isfinite().all(dim=1) & (gaussians.scales >= 0).all(dim=1)
    dropped = int((~finite).sum())
    if dropped:
        report(path, strict, [f"dropped {dropped} of {len(finite)} splats with values that are not finite"])
        gaussians = gaussians.select(finite)
    clipped = gaussians.opacities.clamp(0, 1)
    if torch.equal(clipped, gaussians.opacities):
        return gaussians
    errors = (gaussians.opacities - clipped).detach().cpu().numpy()
    report(path, strict, [beyond(errors, 1e-6, "opacities outside [0, 1]", " when clipped")])
    return replace(gaussians, opacities=clipped)


def require_splats(gaussians: Gaussians, path: str | os.PathLike[str]) -> None:
    """InputError if there are none."""
    if not len(gaussians):
        raise InputError(f"cannot write {path}: there are no splats; loosen the filters")


def beyond(errors: NDArray[np.floating], tolerance: float | NDArray[np.floating], what: str, unit: str = "") -> str | None:
    """One line that counts the rows of ``errors`` [N] or [N, C] above ``tolerance`` and names the largest; None if there are none."""
    rows = np.abs(errors).reshape(len(errors), math.prod(errors.shape[1:])).max(axis=1, initial=0.0)
    over = rows > tolerance
    count = int(over.sum())
    return f"{what} of {count:,} of {len(rows):,} splats change by up to {rows[over].max():.2g}{unit}" if count else None


def report(path: str | os.PathLike[str], strict: bool, lines: Iterable[str | None]) -> None:
    """Warn of each line; with ``strict`` raise InputError instead."""
    said = [line for line in lines if line]
    if said and strict:
        raise InputError(f"cannot write {path} strictly: {'; '.join(said)}; choose another format, or leave strict out")
    for line in said:
        warnings.warn(f"{path}: {line}", stacklevel=4)


def object_radius(stored: StoredSplats) -> float:
    """Half the longest side of the box that holds the middle 98 % of the centres, and a splat's size: one far splat does not count."""
    low, high = np.quantile(stored.means.astype(np.float64), [0.01, 0.99], axis=0)
    size = np.exp(np.median(stored.log_scales.max(axis=1).astype(np.float64)))
    return float((high - low).max() / 2 + size)


def morton_order(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """Indices that sort [N, 3] along a Z-order curve of 10 bits an axis: neighbours in the file are neighbours in space.

    The curve spans the middle 99.8 % of the points, widened by half; the few outside it come last, so that they do not crowd all others
    into a few cells, nor sit in the same chunks.
    """
    low, high = np.quantile(points.astype(np.float64), [0.001, 0.999], axis=0)
    margin = np.maximum(high - low, 1e-12) / 4
    low, high = np.maximum(low - margin, points.min(axis=0)), np.minimum(high + margin, points.max(axis=0))
    bits = ((points - low) / np.maximum(high - low, 1e-12) * 1023).clip(0, 1023).astype(np.int64)
    code = np.zeros(len(points), dtype=np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= (bits[:, axis] >> bit & 1) << (3 * bit + axis)
    outside = ((points < low) | (points > high)).any(axis=1)
    return np.argsort(code + (outside.astype(np.int64) << 30), kind="stable")


def smallest_three(quats: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """[N, 4] → the three components beside the largest [N, 3], which is made positive, and its index [N]."""
    largest = np.abs(quats).argmax(axis=1)
    signed = quats * np.where(quats[np.arange(len(quats)), largest] < 0, -1, 1)[:, None].astype(quats.dtype)
    return np.take_along_axis(signed, _REST[largest], axis=1), largest


def from_smallest_three(small: NDArray[np.floating], largest: NDArray[np.integer]) -> NDArray[np.float32]:
    """The inverse of :func:`smallest_three`: [N, 3], [N] → [N, 4] of unit length, in the order of the components that was used."""
    quats = np.empty((len(small), 4), dtype=np.float32)
    np.put_along_axis(quats, _REST[largest], small, axis=1)
    missing = np.sqrt(np.clip(1 - np.square(small).sum(axis=1), 0, None))
    np.put_along_axis(quats, largest[:, None].astype(np.int64), missing[:, None], axis=1)
    return quats


def to_bytes(fractions: NDArray[np.floating]) -> NDArray[np.uint8]:
    """[…] in [0, 1] → the nearest of 256 steps; values outside are clipped."""
    return np.rint(np.clip(fractions, 0, 1) * 255).astype(np.uint8)
