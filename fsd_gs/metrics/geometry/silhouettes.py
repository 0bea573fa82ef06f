"""Silhouettes of rendered alphas: masks, their outlines and regions, and what they say by themselves.

a_v(p) ∈ [0, 1] is the alpha of view v at pixel p, S_v = {a_v > ½} its silhouette.

border      share of the pixels on the image border that are in S_v: an object that left its frame.
floaters    (of images) share of S_v outside its largest region. High is normal for an object of several parts.
"""

from __future__ import annotations

import numpy as np

LOW, HALF, HIGH = 0.05, 0.5, 0.95


def border_share(a: np.ndarray) -> float:
    """Share of the pixels on the image border with a > ½, over all views. a [V, H, W]."""
    border = np.concatenate([a[:, 0], a[:, -1], a[:, 1:-1, 0], a[:, 1:-1, -1]], axis=1)
    return float((border > HALF).mean())


def outline(mask: np.ndarray) -> np.ndarray:
    """[H, W] pixels of ``mask`` that touch its complement (the image border is no outline)."""
    from scipy.ndimage import binary_erosion

    return mask & np.logical_not(binary_erosion(mask, border_value=1))


def regions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels [H, W] 1…M of the 4-connected regions of ``mask`` (0 outside), and M."""
    from scipy.ndimage import label

    labels = np.zeros(mask.shape, dtype=np.int32)
    return labels, int(label(mask, output=labels))  # type: ignore[arg-type]


def pixels_of_regions(labels: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows, columns) of each of the regions 1…count, in one pass over ``labels``."""
    rows, columns = np.nonzero(labels)
    order = np.argsort(labels[rows, columns], kind="stable")
    cuts = np.searchsorted(labels[rows, columns][order], np.arange(2, count + 1))
    return list(zip(np.split(rows[order], cuts), np.split(columns[order], cuts), strict=True)) if count else []


def filled(silhouettes: np.ndarray) -> np.ndarray:
    """B_v: silhouettes [V, H, W] with the gaps that they enclose filled, view by view."""
    from scipy.ndimage import binary_fill_holes

    return np.stack([np.asarray(binary_fill_holes(silhouette)) for silhouette in silhouettes])


def image_floaters(a: np.ndarray) -> float:
    """Share of the silhouettes' area outside the largest region of each view. a [V, H, W]."""
    total = largest = 0
    for image in a:
        labels, count = regions(image > HALF)
        if count:
            sizes = np.bincount(labels.ravel())[1:]
            total, largest = total + int(sizes.sum()), largest + int(sizes.max())
    return 1 - largest / total if total else 0.0
