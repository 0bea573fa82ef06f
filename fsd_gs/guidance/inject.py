"""Gradient injection: a loss whose gradient with respect to the latents is exactly a given residual.

    L = Σ sg[g] · x        ∂L/∂x = g, and autograd carries it on through the encoder and the rasterizer.

The value of L means nothing and is not worth logging; the norm of g is.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import ConfigError


def inject(latents: Tensor, grad: Tensor, reduction: Literal["sum", "mean", "views"] = "sum") -> Tensor:
    """A scalar loss with ∂loss/∂latents = grad ("sum"), grad / V ("views", independent of the batch size) or grad / numel ("mean").

    latents: [V, C, h, w], part of a graph. grad: same shape; treated as constant.
    """
    check_shape("grad", grad, tuple(latents.shape))
    divisor = {"sum": 1, "views": latents.shape[0], "mean": latents.numel()}.get(reduction)
    if divisor is None:
        raise ConfigError(f"reduction: expected 'sum', 'views' or 'mean', got '{reduction}'")
    return (latents * grad.detach().to(latents)).sum() / divisor
