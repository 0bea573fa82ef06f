"""w(t), the factor in front of the residual ε_φ − ε.

    one            1          MVDream configurations; FSD as printed
    sigma2         σ²         DreamFusion (arXiv 2209.14988); "sds" in threestudio
    fantasia3d     α σ²       Fantasia3D (arXiv 2303.13873)
    sigma          σ          SDI (arXiv 2405.15891); also bounded in flow form
    lambda         σ/α        makes w (ε_φ − ε) = x − x̂_0, a plain distance to the denoised image; 0.03 … 15 over Stable Diffusion's t
    lambda_capped  min(σ/α, 5)

Adam divides each parameter's gradient by its running root mean square, so a constant factor does nothing, and a w(t) that changes
slowly against 1/(1 − β₂) steps does little (on the toy of docs/method.md none of these, with β₂ .99 or .999, changes the result).
What w(t) does change with Adam is the balance against losses that it does not scale: the regularisers. Without Adam the weight is not free:
plain gradient descent on w = 1 with rate λ_t − λ_s *is* DDIM.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fsd_gs.priors.schedule import NoiseSchedule

LAMBDA_CAP = 5.0

Weight = Callable[[NoiseSchedule, Tensor], Tensor]
"""(schedule, t of any shape) → w(t), same shape and dtype."""


def one(schedule: NoiseSchedule, t: Tensor) -> Tensor:
    """w = 1."""
    return torch.ones_like(t)


def sigma2(schedule: NoiseSchedule, t: Tensor) -> Tensor:
    """w = σ²."""
    return schedule.sigma(t) ** 2


def fantasia3d(schedule: NoiseSchedule, t: Tensor) -> Tensor:
    """w = α σ²."""
    return schedule.alpha(t) * schedule.sigma(t) ** 2


def sigma(schedule: NoiseSchedule, t: Tensor) -> Tensor:
    """w = σ."""
    return schedule.sigma(t)


def lambda_(schedule: NoiseSchedule, t: Tensor) -> Tensor:
    """w = σ/α."""
    return schedule.lambda_(t)


def lambda_capped(schedule: NoiseSchedule, t: Tensor) -> Tensor:
    """w = min(σ/α, ``LAMBDA_CAP``)."""
    return schedule.lambda_(t).clamp_max(LAMBDA_CAP)
