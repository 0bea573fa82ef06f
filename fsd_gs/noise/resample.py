"""White noise on another grid over the same area: finer, coarser or in between, and still exactly white.

A cell of N(0, 1) stands for an integral of white noise over it: x_k = √n ∫_{k/n}^{(k+1)/n} dW on n cells of [0, 1], so that the integral
has the variance of its length and x_k that of 1. On m cells the same W gives

    y_j = √m ∫_{j/m}^{(j+1)/m} dW .

The edges of both grids cut [0, 1] into pieces of length ℓ. Their integrals I are independent N(0, ℓ), known only by their sums over the old
cells: given those, I is a Brownian bridge, and that is drawn exactly,

    I = b + n ℓ (x_k/√n − Σ_cell b),    b ~ N(0, ℓ),

and added up over the new cells. Rows and columns are done one after the other. What follows: y is white if x was; coarse from fine needs no
new randomness where the edges coincide (y = Σ x/√count); there and back again is the identity. It is the integral noise of "How I Warped
Your Noise" (Chang et al., ICLR 2024) for two grids; Consistent Flow Distillation (arXiv 2501.05445) sums its noise from texels likewise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def resampled(noise: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """The white noise [C, H, W] on ``height`` × ``width`` cells over the same area: float32, on the CPU.

    Args:
        noise: independent N(0, 1), on the CPU.
        height: rows of the result.
        width: columns of the result.
        generator: of what is finer than the old cells; not used where a side keeps its number of cells.
    """
    columns_done = _along_last(noise.double(), width, generator)
    return _along_last(columns_done.transpose(1, 2), height, generator).transpose(1, 2).float().contiguous()


def _along_last(noise: Tensor, cells: int, generator: torch.Generator) -> Tensor:
    """[…, n] → […, cells]."""
    n, shape = noise.shape[-1], noise.shape[:-1]
    if n == cells:
        return noise
    # edges of both grids in units of 1/(n · cells), where all of them are whole numbers
    edges = torch.unique(torch.cat([torch.arange(n + 1) * cells, torch.arange(cells + 1) * n]))
    lengths = edges.diff().double() / (n * cells)
    old, new = edges[:-1] // cells, edges[:-1] // n  # the cells that a piece lies in
    bridge = torch.randn(*shape, len(lengths), generator=generator, dtype=torch.float64) * lengths.sqrt()
    missing = noise / math.sqrt(n) - bridge.new_zeros(noise.shape).index_add_(-1, old, bridge)
    pieces = bridge + n * lengths * missing[..., old]
    return math.sqrt(cells) * pieces.new_zeros(*shape, cells).index_add_(-1, new, pieces)
