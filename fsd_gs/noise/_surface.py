"""One view of the surface noise in four passes over its depth samples: the kernel behind ``paint_view_numba``."""

from __future__ import annotations

import math

import numpy as np

from fsd_gs.core.kernels import njit


@njit(nogil=True)
def _order_by(keys: np.ndarray, items: np.ndarray, size: int) -> np.ndarray:
    """``items`` stably sorted by their ``keys`` in [0, size): a counting sort."""
    starts = np.zeros(size + 1, np.int32)
    for item in items:
        starts[keys[item] + 1] += 1
    for key in range(size):
        starts[key + 1] += starts[key]
    ordered = np.empty_like(items)
    for item in items:
        key = keys[item]
        ordered[starts[key]] = item
        starts[key] += 1
    return ordered


@njit(nogil=True)
def _locate(
    alpha: np.ndarray, depth: np.ndarray, threshold: np.float32, rays: np.ndarray, samples: tuple[int, int], cells: tuple[int, int],
    texels: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, int]:  # fmt: skip
    """Texel and cell [P] of every sample that shows the surface, in rows from the top; only the first ``found`` entries are set."""
    texel, cell = np.empty(samples[0] * samples[1], np.int32), np.empty(samples[0] * samples[1], np.int32)
    found = 0
    for i in range(samples[0]):
        v = (i + 0.5) / samples[0]
        row = int(v * alpha.shape[0])
        for j in range(samples[1]):
            u = (j + 0.5) / samples[1]
            column = int(u * alpha.shape[1])
            z = np.float64(depth[row, column])
            if not (alpha[row, column] > threshold and z > 0):
                continue
            px = rays[0, 0] + z * (rays[1, 0] + u * rays[2, 0] + v * rays[3, 0])
            py = rays[0, 1] + z * (rays[1, 1] + u * rays[2, 1] + v * rays[3, 1])
            pz = rays[0, 2] + z * (rays[1, 2] + u * rays[2, 2] + v * rays[3, 2])
            height = pz / max(math.sqrt(px * px + py * py + pz * pz), 1e-12)
            across = math.floor(math.atan2(py, px) / (2 * math.pi) * texels[1]) % texels[1]
            down = min(max(math.floor((1 - height) / 2 * texels[0]), 0), texels[0] - 1)
            texel[found] = down * texels[1] + across
            cell[found] = int(v * cells[0]) * cells[1] + int(u * cells[1])
            found += 1
    return texel, cell, found


@njit(nogil=True)
def paint_view(
    texture: np.ndarray, alpha: np.ndarray, depth: np.ndarray, threshold: np.float32, rays: np.ndarray, samples: tuple[int, int],
    cells: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """texture [C, R, S], alpha and depth [H, W], rays [4, 3] (origin, corner, right, down) → Σ texels [C, h w] and their number [h w]."""
    channels, texels, cell_count = texture.shape[0], (texture.shape[1], texture.shape[2]), cells[0] * cells[1]
    texel, cell, found = _locate(alpha, depth, threshold, rays, samples, cells, texels)
    # By cell, then stably by texel: the samples of a texel lie together, and those of one of its cells are a run.
    order = _order_by(texel, _order_by(cell, np.arange(found, dtype=np.int32), cell_count), texels[0] * texels[1])
    total, number = np.zeros((channels, cell_count), np.float32), np.zeros(cell_count, np.int64)
    at = 0
    while at < found:
        here, winner, votes = texel[order[at]], 0, 0
        while at < found and texel[order[at]] == here:
            candidate, first = cell[order[at]], at
            while at < found and texel[order[at]] == here and cell[order[at]] == candidate:
                at += 1
            if at - first > votes:  # of equals the lower cell, which comes first
                winner, votes = candidate, at - first
        for channel in range(channels):
            total[channel, winner] += texture[channel, here // texels[1], here % texels[1]]
        number[winner] += 1
    return total, number
