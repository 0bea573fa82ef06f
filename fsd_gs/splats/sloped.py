"""Scalars whose slope is found beside them: one autograd node in place of a chain of tensor operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def sloped(x: Tensor, measure: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """The value of x; differentiable once.

    Args:
        x: any shape.
        measure: x, contiguous and without a graph → (value, a scalar; slope, of x's shape).
    """
    return _Sloped.apply(x, measure)  # type: ignore[no-any-return]


def has_kernel(x: Tensor) -> bool:
    """Whether the loops compiled for the CPU take it."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


class _Sloped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, measure: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        value, slope = measure(x.detach().contiguous())
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None
