"""How splats are stored, in the optimiser and in every file after 3D Gaussian Splatting (Kerbl et al. 2023, §5.1), and its limits.

    scale s = exp(log s)      opacity o = sigmoid(logit o)

A scale of 0 or an opacity of 0 or 1 has no finite stored form: they become the nearest value that float32 cannot tell from them
(opacity) or nobody can see (scale). Whatever lies within the limits is stored as it is: a run that starts from a file starts from it.
"""

from __future__ import annotations

from torch import Tensor

MIN_SCALE = 1e-20
LOGIT_LIMIT = 20.0  # sigmoid(±20) is 0 or 1 to float32 within 2e-9; an infinite logit would poison other tools


def to_log_scales(scales: Tensor) -> Tensor:
    """Stored form of ``scales`` ≥ 0, in their own precision."""
    return scales.clamp_min(MIN_SCALE).log()


def to_logits(opacities: Tensor) -> Tensor:
    """Stored form of ``opacities`` in [0, 1], in their own precision."""
    return opacities.logit().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
