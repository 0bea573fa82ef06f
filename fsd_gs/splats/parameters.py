"""What the optimiser stores, and the activations that turn it into ``Gaussians``.

    scale s = exp(log s)     opacity o = sigmoid(logit o)     rotation q/|q|     colour = 0.5 + C0·sh_0 + Σ_{k≥1} sh_k Y_k

after 3D Gaussian Splatting (Kerbl et al. 2023, §5.1), with gsplat's key names so that its strategies work unchanged:

    means [N, 3]   scales [N, 3] (log)   quats [N, 4] (wxyz, any length)   opacities [N] (logit)   sh0 [N, 1, 3]   shN [N, K−1, 3]

shN is left out at SH degree 0: an empty tensor would still cost an optimizer.
"""

from __future__ import annotations

import torch

from fsd_gs.core.activations import to_log_scales, to_logits
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError

SplatParameters = torch.nn.ParameterDict


def activate(params: SplatParameters, *, unit_quats: bool = True) -> Gaussians:
    """The splats that ``params`` stand for; differentiable in every parameter.

    unit_quats: False leaves quaternions at their stored length, for a rasterizer, which normalises them itself: with the gradient through
    that, twice is a thirtieth of a cheap step.
    """
    sh = torch.cat([params["sh0"], params["shN"]], dim=1) if "shN" in params else params["sh0"]
    return Gaussians(
        means=params["means"],
        quats=torch.nn.functional.normalize(params["quats"], dim=-1) if unit_quats else params["quats"],
        scales=params["scales"].exp(),
        opacities=params["opacities"].sigmoid(),
        sh=sh,
    )


def from_gaussians(gaussians: Gaussians) -> SplatParameters:
    """Stored float32 parameters of ``gaussians``, on the same device; the inverse of :func:`activate`.

    Only a scale of 0 and an opacity of 0 or 1 are moved, by the limits that files have too (``core.activations``). A quaternion of length 0
    becomes the identity. In float32, so that a seed gives the same bits as ever.

    Raises:
        InputError: a value is not finite.
    """
    values = {name: getattr(gaussians, name).detach().float() for name in ("means", "quats", "scales", "opacities", "sh")}
    for name, value in values.items():
        bad = int((~torch.isfinite(value)).flatten(1).any(dim=1).sum()) if value.ndim > 1 else int((~torch.isfinite(value)).sum())
        if bad:
            raise InputError(f"{name}: expected finite values, got {bad} of {len(value)} splats with NaN or infinity; remove them first")
    quats = values["quats"]
    identity = quats.new_tensor([1.0, 0.0, 0.0, 0.0])
    quats = torch.where(quats.norm(dim=1, keepdim=True) > 1e-8, quats, identity)
    stored = {
        "means": values["means"],
        "scales": to_log_scales(values["scales"]),
        "quats": torch.nn.functional.normalize(quats, dim=-1),
        "opacities": to_logits(values["opacities"]),
        "sh0": values["sh"][:, :1],
    }
    if values["sh"].shape[1] > 1:
        stored["shN"] = values["sh"][:, 1:]
    return SplatParameters({name: torch.nn.Parameter(value.clone().contiguous()) for name, value in stored.items()})
