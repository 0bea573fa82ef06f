"""How much longer than wide splats are, with its slope by hand.

    A(s) = mean_i clamp( max(s_i)/min(s_i) − r, 0, FLAT ),     ∂A/∂max(s_i) = 1/(n min(s_i)),     ∂A/∂min(s_i) = −max(s_i)/(n min(s_i)²)

On a CPU one loop over the splats; as a chain of tensor operations it and its backward pass were a fifteenth of a cheap step.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.kernels import njit
from fsd_gs.splats.sloped import has_kernel, sloped

FLAT = 1e6  # excess of a ratio from which on a splat is flat on purpose, as 2DGS writes them: its gradient would drown all others


def mean_excess(scales: Tensor, max_ratio: float) -> Tensor:
    """A of scales [N, 3], a scalar; differentiable once."""
    if has_kernel(scales):
        return sloped(scales, partial(_in_one_loop, max_ratio))
    return mean_excess_of_tensors(scales, max_ratio)


def mean_excess_of_tensors(scales: Tensor, max_ratio: float) -> Tensor:
    """The readable twin, on any device. Where axes are equally long they share the slope."""
    ratio = scales.amax(dim=1) / scales.amin(dim=1).clamp_min(torch.finfo(scales.dtype).tiny)
    return (ratio - max_ratio).clamp(0, FLAT).mean()


def _in_one_loop(max_ratio: float, scales: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.empty_like(scales)
    mean = _excess_and_slope(scales.numpy(), float(max_ratio), torch.finfo(scales.dtype).tiny, slope.numpy())
    return scales.new_tensor(mean), slope


@njit(nogil=True)
def _excess_and_slope(scales: np.ndarray, max_ratio: float, tiny: float, slope: np.ndarray) -> float:
    count, total = len(scales), 0.0
    for i in range(count):
        high = max(scales[i, 0], scales[i, 1], scales[i, 2])
        low = min(scales[i, 0], scales[i, 1], scales[i, 2])
        shown = max(low, tiny)
        excess = high / shown - max_ratio
        slope[i, 0] = slope[i, 1] = slope[i, 2] = 0
        if excess < 0 or excess > FLAT:
            total += 0.0 if excess < 0 else FLAT
            continue
        total += excess  # not a number, where a scale is none
        highest = lowest = 0
        for k in range(3):
            highest += scales[i, k] == high
            lowest += scales[i, k] == low
        for k in range(3):
            if scales[i, k] == high:
                slope[i, k] += 1 / (shown * count * highest)
            if scales[i, k] == low and low >= tiny:
                slope[i, k] -= high / (shown * shown * count * lowest)
    return total / max(count, 1)
