"""Which splats should grow: how strongly each view wants to move splat i on the screen, relative to that view's mean.

    g_i^v = ‖(∂L/∂u_i W/2, ∂L/∂v_i H/2)‖,     ⟨g⟩ its mean over all pairs of a view and a splat that it sees
    grad2d_i ← grad2d_i + Σ_v g_i^v / ⟨g⟩,    count_i ← count_i + number of views that see i

gsplat's statistic (``DefaultStrategy``) divided by the step's mean, because w(t) changes the loss by orders of magnitude over a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.kernels import njit
from fsd_gs.errors import InputError

Info = Mapping[str, Any]  # what the rasterizer returns beside the images; gsplat's keys


@torch.no_grad()
def accumulate_scores(running: dict[str, Tensor], info: Info) -> None:
    """Adds the step's g_i^v / ⟨g⟩ to running["grad2d"] and the number of views that see i to running["count"], both [N].

    info: means2d [C, N, 2] with its gradient, radii [C, N, 2] (0 where unseen), width, height.
    Pairs with a non-finite gradient are left out: one bad pixel must not decide where splats grow.
    """
    screen = info["means2d"]
    gradient = screen.grad if screen.is_leaf or screen.retains_grad else None
    if gradient is None:
        raise InputError("info['means2d']: expected a gradient, got none; call step_pre_backward before loss.backward()")
    half = (info["width"] / 2, info["height"] / 2)
    scores_of = scores_of_numbers if gradient.device.type == "cpu" else scores_of_tensors
    relative, seen = scores_of(gradient, info["radii"], half)
    if "grad2d" not in running:
        running["grad2d"], running["count"] = torch.zeros_like(relative), torch.zeros_like(relative)
    running["grad2d"] = running["grad2d"].to(relative.device) + relative
    running["count"] = running["count"].to(relative.device) + seen


def scores_of_tensors(gradient: Tensor, radii: Tensor, half: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """(Σ_v g_i^v / ⟨g⟩ [N] float32, views that see i [N]) of gradients and radii [C, N, 2]; half: W/2, H/2. On any device."""
    # double: squares of tiny gradients vanish in float32. Columns one by one: reductions over an axis of 2 are slow on the CPU
    gx, gy = gradient[..., 0].double() * half[0], gradient[..., 1].double() * half[1]
    strength = (gx * gx + gy * gy).sqrt_()  # [C, N]
    visible = (radii[..., 0] > 0) & (radii[..., 1] > 0) & torch.isfinite(strength)
    strength = torch.where(visible, strength, 0)
    mean = strength.sum() / visible.sum().clamp_min(1)
    relative = (strength / torch.where(mean > 0, mean, 1)).float()
    return relative.sum(dim=0), visible.sum(dim=0)


def scores_of_numbers(gradient: Tensor, radii: Tensor, half: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The same in one pass on the CPU."""
    relative, seen = _scores(gradient.contiguous().numpy(), radii.contiguous().numpy(), *half)
    return torch.from_numpy(relative), torch.from_numpy(seen)


@njit(nogil=True)
def _scores(gradient: np.ndarray, radii: np.ndarray, half_width: float, half_height: float) -> tuple[np.ndarray, np.ndarray]:
    views, splats = gradient.shape[:2]
    relative, seen = np.zeros(splats, np.float64), np.zeros(splats, np.int64)
    for v in range(views):
        for i in range(splats):
            if radii[v, i, 0] > 0 and radii[v, i, 1] > 0:
                gx, gy = np.float64(gradient[v, i, 0]) * half_width, np.float64(gradient[v, i, 1]) * half_height
                strength = math.sqrt(gx * gx + gy * gy)
                if math.isfinite(strength):
                    relative[i] += strength
                    seen[i] += 1
    mean = relative.sum() / max(seen.sum(), 1)
    return (relative / (mean if mean > 0 else 1.0)).astype(np.float32), seen
