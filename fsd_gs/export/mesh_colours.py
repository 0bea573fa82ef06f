"""Colours of points on a surface, gathered from rendered views that see them."""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, Render


def visible_pixels(points: Tensor, cameras: Cameras, view: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flat pixel index [P], depth z [P] and whether it lies in the picture [P] of world ``points`` [P, 3]."""
    viewmat, K = cameras.viewmats[view], cameras.Ks[view]
    local = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    z = local[:, 2].clamp_min(1e-6)
    column = (K[0, 0] * local[:, 0] / z + K[0, 2]).floor().long()
    row = (K[1, 1] * local[:, 1] / z + K[1, 2]).floor().long()
    inside = (local[:, 2] > 1e-6) & (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
    return row.clamp(0, cameras.height - 1) * cameras.width + column.clamp(0, cameras.width - 1), z, inside


def vertex_colours(vertices: Tensor, renders: list[Render], cameras: Cameras, tolerance: float) -> Tensor:
    """[P, 3] sRGB: the mean over the views that see the vertex (its depth agrees to ``tolerance``), weighted by α to the fourth so that
    silhouettes, where colour is mixed with what lies behind, count little."""
    total, weight = torch.zeros(len(vertices), 3, device=vertices.device), torch.zeros(len(vertices), device=vertices.device)
    for view, render in enumerate(renders):
        assert render.depth is not None
        pixel, z, visible = visible_pixels(vertices, cameras, view)
        alpha, depth = render.alpha.reshape(-1)[pixel], render.depth.reshape(-1)[pixel]
        seen = torch.where(visible & (alpha > 0.1), alpha**4 * torch.exp(-(((depth - z) / tolerance) ** 2)), 0.0)
        total += seen[:, None] * (render.rgb.reshape(-1, 3)[pixel] / alpha.clamp_min(0.1)[:, None])  # rendered on black
        weight += seen
    return total / weight.clamp_min(1e-8)[:, None]
