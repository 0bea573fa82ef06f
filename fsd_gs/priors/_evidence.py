"""The inner sums of the exact prior, one pass over 8-bit renders: the kernels behind ``measure_view_numba`` and ``blend_view_numba``."""

from __future__ import annotations

import numpy as np

from fsd_gs.core.kernels import njit

# Pixels summed in float32 before they join the float64 total: keeps both the speed and the digits. The loop over a block counts from 0
# to a constant because that is the form LLVM vectorises (40 times faster here than ``range(start, stop)``).
_BLOCK = 1024


@njit(fastmath=True, inline="always")
def _block_sums(z, render, first, count, red, green, blue):  # noqa: ANN001, ANN202 — numba infers the types
    """Σ d², Σ 2(1 − A) d for each channel, Σ 4(1 − A)² over ``count`` pixels from ``first``."""
    unit = np.float32(2.0 / 255.0)
    residual = r = g = b = clear_sum = np.float32(0.0)
    for k in range(count):
        p = first + k
        clear = np.float32(2.0) - unit * np.float32(render[3, p])
        dr = z[0, p] - unit * np.float32(render[0, p]) - red * clear
        dg = z[1, p] - unit * np.float32(render[1, p]) - green * clear
        db = z[2, p] - unit * np.float32(render[2, p]) - blue * clear
        residual += dr * dr + dg * dg + db * db
        r += dr * clear
        g += dg * clear
        b += db * clear
        clear_sum += clear * clear
    return residual, r, g, b, clear_sum


@njit(fastmath=True, nogil=True)
def measure_view(z: np.ndarray, renders: np.ndarray, background_mean: np.ndarray) -> np.ndarray:
    """z [3, P] float32, renders [m, 4, P] uint8, b̄ [3] float32 → [m, 5] float64: Σ d², Σ 2(1 − A) d for each channel, Σ 4(1 − A)²."""
    count, pixels = renders.shape[0], renders.shape[2]
    sums = np.zeros((count, 5), np.float64)
    red, green, blue = background_mean[0], background_mean[1], background_mean[2]
    blocks = pixels // _BLOCK
    for i in range(count):
        for block in range(blocks + 1):
            size = _BLOCK if block < blocks else pixels - blocks * _BLOCK
            residual, r, g, b, clear = _block_sums(z, renders[i], block * _BLOCK, size, red, green, blue)
            sums[i, 0] += residual
            sums[i, 1] += r
            sums[i, 2] += g
            sums[i, 3] += b
            sums[i, 4] += clear
    return sums


@njit(fastmath=True, inline="always")
def _add_object(total, render, weight, colour, channel, first, count):  # noqa: ANN001, ANN202 — numba infers the types
    """total[channel] += w (2 P + 2 (1 − A) b) over ``count`` pixels from ``first``."""
    unit = np.float32(2.0 / 255.0)
    scaled, constant = weight * unit, weight * np.float32(2.0) * colour
    for k in range(count):
        p = first + k
        total[channel, p] += scaled * (np.float32(render[channel, p]) - colour * np.float32(render[3, p])) + constant


@njit(fastmath=True, nogil=True)
def blend_view(renders: np.ndarray, chosen: np.ndarray, weights: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Σ_i w_i (2 P_i + 2 (1 − A_i) b_i) − 1 [3, P] over the ``chosen`` [c] of the renders [m, 4, P] uint8; weights [c], colours [c, 3]."""
    count, pixels = len(chosen), renders.shape[2]
    total = np.full((3, pixels), np.float32(-1.0), np.float32)
    blocks = pixels // _BLOCK
    for block in range(blocks + 1):
        size = _BLOCK if block < blocks else pixels - blocks * _BLOCK
        for i in range(count):
            for channel in range(3):
                _add_object(total, renders[chosen[i]], weights[i], colours[i, channel], channel, block * _BLOCK, size)
    return total
