"""The transfer function of sRGB (IEC 61966-2-1), both ways. Pictures and splat colours are sRGB here; glTF keeps vertex colours linear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def srgb_from_linear(values: Array) -> Array:
    """sRGB in [0, 1] of linear light, clipped to [0, 1]."""
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def linear_from_srgb(values: Array) -> Array:
    """Linear light in [0, 1] of sRGB, clipped to [0, 1]."""
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
