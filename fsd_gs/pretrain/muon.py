"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal before the step.

    M ← μ M + (1 − μ) G,   U = NS₅((1 − μ) G + μ M), whose singular values are about 1,   W ← (1 − η λ) W − 0.2 η √max(m, n) · U

NS₅ is five Newton–Schulz steps X ← a X + (b XXᵀ + c (XXᵀ)²) X. Convolutions count as matrices [out, in·k·k]. The factor 0.2 √max(m, n)
gives updates the size of Adam's (arXiv 2502.16982), so that learning rates carry over.

torch.optim.Muon takes two-dimensional parameters only, one by one. Here matrices of one shape go through NS₅ together: a small UNet has a
hundred of them, and one at a time the products are mostly overhead.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fsd_gs.core.device import multiplies_bfloat16

_A, _B, _C = 3.4445, -4.7750, 2.0315  # steep at 0, so that small singular values rise in five steps; the others end in about [0.7, 1.2]


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """[B, m, n] → the same with singular values near 1; in bfloat16 inside where the machine multiplies it, else (slower there) float32."""
    x = matrices.bfloat16() if matrices.is_cuda or multiplies_bfloat16(matrices.device) else matrices.float()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; biases, norms, embeddings, first and last layers belong to AdamW."""

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  (no closures)
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault((parameter.shape[0], parameter.numel() // parameter.shape[0]), []).append(parameter)
            for shape, parameters in by_shape.items():
                self._update(parameters, shape, group)

    def _update(self, parameters: list[torch.nn.Parameter], shape: tuple[int, int], group: dict[str, float]) -> None:
        momentum = group["momentum"]
        ahead = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            average = state["momentum"]
            average.lerp_(parameter.grad, 1 - momentum)
            ahead.append(parameter.grad.lerp(average, momentum).reshape(shape))  # Nesterov
        updates = orthogonalize(torch.stack(ahead))
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-0.2 * group["lr"] * max(shape) ** 0.5)
