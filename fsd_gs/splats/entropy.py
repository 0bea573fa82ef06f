"""The entropy of a coin, in bits, with its slope by hand.

    H(a) = −a log₂ a − (1 − a) log₂(1 − a),     H'(a) = log₂(1 − a) − log₂ a

Of a picture their sum is wanted. The slope is made of the logarithms that the value needed: on every pixel of every step that is half of
what autograd does for the formula. Of a finished object most pixels are there or not, so on a CPU a loop that takes logarithms only in
between is faster than torch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.kernels import njit
from fsd_gs.splats.sloped import has_kernel, sloped

EDGE = 1e-5  # values are held in [EDGE, 1 − EDGE], where the slope is finite; outside it is 0
EDGE_ENTROPY = -EDGE * math.log2(EDGE) - (1 - EDGE) * math.log2(1 - EDGE)


def total_entropy(a: Tensor) -> Tensor:
    """Σ H of the elements of a in [0, 1], a scalar; differentiable once."""
    return sloped(a, _in_one_loop if has_kernel(a) else total_and_slope)


def total_and_slope(a: Tensor) -> tuple[Tensor, Tensor]:
    """(Σ H, H' of each element), on any device: the readable twin of the loop below."""
    held = a.clamp(EDGE, 1 - EDGE)
    yes, no = held.log2(), (1 - held).log2()
    return torch.lerp(no, yes, held).sum().neg_(), (no - yes).mul_(held == a)


def _in_one_loop(a: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.empty_like(a)
    return a.new_tensor(_total_and_slope(a.view(-1).numpy(), slope.view(-1).numpy())), slope


@njit(nogil=True)
def _total_and_slope(a: np.ndarray, slope: np.ndarray) -> float:
    total = 0.0
    for k in range(len(a)):
        if a[k] < EDGE or a[k] > 1 - EDGE:
            total += EDGE_ENTROPY
            slope[k] = 0
        else:  # also what is not a number
            yes, no = math.log2(a[k]), math.log2(1 - a[k])
            total -= a[k] * yes + (1 - a[k]) * no
            slope[k] = no - yes
    return total
