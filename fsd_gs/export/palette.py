"""Few levels for many numbers, few vectors for many vectors: the codebook and the palette of SOG."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
_LEVEL_STEPS = 30
_GROUP = 1024  # vectors that are clustered against one another
_LLOYD_STEPS = 4


def codebook(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """256 ascending levels for ``values`` (any shape) and the index of the nearest for each: k-means in one dimension.

    It starts from one cell that is split at its mean, and again whichever has the largest squared error, until there are 256. A few
    values far off thereby get levels of their own and cost the others nothing. Lloyd's algorithm follows, exact by sums over sorted values.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    levels = _split(ordered)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(_LEVEL_STEPS):
        ends = np.concatenate([[0], np.searchsorted(ordered, (levels[:-1] + levels[1:]) / 2), [len(ordered)]])
        counts = np.diff(ends)
        levels = np.sort(np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), levels))
    levels = np.concatenate([levels, np.repeat(levels[-1], LEVELS - len(levels))])
    return levels, nearest_level(levels, values)


def _split(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of at most 256 cells of ascending values."""

    def cell(start: int, end: int) -> tuple[float, int, int, float]:
        inside = ordered[start:end]
        return -float(inside.var() * len(inside)), start, end, float(inside.mean())

    cells = [cell(0, len(ordered))]
    while len(cells) < LEVELS and cells[0][0] < 0:
        _, start, end, mean = cells[0]
        middle = start + int(np.searchsorted(ordered[start:end], mean, side="right"))
        if middle in (start, end):  # equal but for rounding
            break
        heapq.heapreplace(cells, cell(start, middle))
        heapq.heappush(cells, cell(middle, end))
    return np.sort([mean for *_, mean in cells])


def nearest_level(levels: NDArray[np.float64], values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Index into the ascending ``levels`` of the one nearest to each of ``values``."""
    return np.searchsorted((levels[:-1] + levels[1:]) / 2, values).astype(np.uint8)


def palette(vectors: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """At most ``size`` vectors [P, D] that stand for ``vectors`` [N, D], and which one stands for each [N].

    Exact where no more than ``size`` are different. Otherwise k-means, but within groups of about a thousand neighbours that a k-d tree
    makes: that costs N · 1024 · P / N distances a step, not N · P. A group of n vectors with spread s gets entries in proportion to
    n^(D/(D+2)) s^(2D/(D+2)), which is optimal for many entries (Zador 1982).
    """
    different, first = np.unique(vectors, axis=0, return_inverse=True)
    first = first.reshape(-1)
    if len(different) <= size:
        return different, first.astype(np.int64)
    weights = np.bincount(first).astype(np.float32)
    groups = _kd_groups(different, _GROUP)
    shares = _allot(different, groups, size)
    generator = np.random.default_rng(0)
    entries, label_of, used = [], np.empty(len(different), dtype=np.int64), 0
    for group, share in zip(groups, shares, strict=True):
        centres, labels = _k_means(different[group], weights[group], int(share), generator)
        label_of[group] = labels + used
        entries.append(centres)
        used += len(centres)
    return np.concatenate(entries), label_of[first]


def _kd_groups(vectors: NDArray[np.float32], most: int) -> list[NDArray[np.int64]]:
    """Index arrays of at most ``most`` neighbours each: halved at the median of the widest axis, again and again."""
    waiting, groups = [np.arange(len(vectors))], []
    while waiting:
        group = waiting.pop()
        if len(group) <= most:
            groups.append(group)
            continue
        axis = int(vectors[group].var(axis=0).argmax())
        half = len(group) // 2
        order = np.argpartition(vectors[group, axis], half)
        waiting += [group[order[half:]], group[order[:half]]]
    return groups


def _allot(vectors: NDArray[np.float32], groups: list[NDArray[np.int64]], size: int) -> NDArray[np.int64]:
    """Entries of each group, 1 to its length, ``size`` in all."""
    dimensions = vectors.shape[1]
    lengths = np.array([len(group) for group in groups])
    spreads = np.array([float(vectors[group].std(axis=0).mean()) for group in groups]) + 1e-12
    wish = (lengths * spreads**2) ** (dimensions / (dimensions + 2))
    low, high = 0.0, float((lengths / wish).max())
    for _ in range(60):  # the common factor at which the entries add up to ``size``
        middle = (low + high) / 2
        low, high = (middle, high) if np.floor(wish * middle).clip(1, lengths).sum() <= size else (low, middle)
    return np.floor(wish * low).clip(1, lengths).astype(np.int64)


def _k_means(
    vectors: NDArray[np.float32], weights: NDArray[np.float32], count: int, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """``count`` centres of a few vectors and the nearest of each, by Lloyd's algorithm from a random choice of them."""
    if count >= len(vectors):
        return vectors, np.arange(len(vectors))
    centres = vectors[np.sort(generator.choice(len(vectors), count, replace=False))]
    labels = _nearest(vectors, centres)
    for _ in range(_LLOYD_STEPS):
        total = np.bincount(labels, weights, count)
        sums = np.stack([np.bincount(labels, weights * column, count) for column in vectors.T], axis=1)
        centres = np.where(total[:, None] > 0, sums / np.maximum(total, 1e-12)[:, None], centres).astype(np.float32)
        labels = _nearest(vectors, centres)
    return centres, labels


def _nearest(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """|v − c|² = |v|² − 2 v·c + |c|²; the first term is the same for all centres."""
    return (np.square(centres).sum(axis=1)[None, :] / 2 - vectors @ centres.T).argmin(axis=1)
