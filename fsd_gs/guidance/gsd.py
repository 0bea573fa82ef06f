"""GSD, geometry-aware score distillation (Kwak et al., arXiv 2406.16695): SDS whose gradients agree between the views of a step.

    G_i     = w(t) [ ε_φ(α x_i + σ ε(c_i), t, y) − ε(c_i) ]           the gradient of view i: that of ``score``, and injected as it is
    X_i(p)  = the point that cell p of view i shows, by its rendered depth;   p_ij = the cell of view j that X_i(p) falls into
    L_GC    = mean of 1 − cos( G_i(p), G_j(p_ij) ) over i ≠ j and the cells p whose point view j sees too

1. 3D-consistent noising is the noise function's: ``noise.kind=surface`` sums texels over a cell as the paper sums the noise of points, and
   ``noise.gamma=1`` draws it anew for every step, as SDS does.
2. Gradient warping reads G_j at p_ij, bilinearly. A point counts if both cells are opaque and view j's depth agrees with it up to
   ``tolerance``.
3. Gradient consistency: the G are constants, L_GC reaches the splats through p_ij, that is through the depth: geometry moves to where the
   gradients of two views tell the same. It is added to the loss of the step with the weight ``consistency``.

From the paper's abstract: these three parts and what each is for. Its formulas could not be read and its code was never published, so
the cosine over the channels of a latent cell, the test of visibility, all pairs of a step instead of chosen neighbours, and the weight are
ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fsd_gs.core.cameras import back_project
from fsd_gs.core.setting import setting
from fsd_gs.core.types import Cameras, Render
from fsd_gs.errors import ConfigError
from fsd_gs.guidance.base import Guidance, Noised

_OPAQUE = 0.5  # opacity above which a cell shows a surface


@dataclass
class GeometryAwareScoreDistillation(Guidance):
    """GSD: the residual of ``score`` and a loss on the rendered depth; the formula is the module's."""

    needs_depth: ClassVar[bool] = True

    consistency: float = setting(0.1, "weight of L_GC, the disagreement of the views' gradients; 0 leaves SDS", low=0)
    tolerance: float = setting(0.05, "difference in depth, in world units, up to which two views see the same point", above=0)

    def residual(self, b: Noised) -> Tensor:
        if b.cameras is None:
            raise ConfigError("guidance.method: 'gsd' compares the views of one object, and a picture has none; use 'score' in 2D")
        return b.noise(self.scale(b.t), self.cfg_rescale) - b.epsilon

    def geometry_loss(self, grad: Tensor, cameras: Cameras, view: Render) -> Tensor:
        if self.consistency == 0:
            return super().geometry_loss(grad, cameras, view)
        assert view.depth is not None
        return self.consistency * gradient_dissimilarity(grad, cameras, view.alpha.detach(), view.depth, self.tolerance)


def gradient_dissimilarity(grad: Tensor, cameras: Cameras, alpha: Tensor, depth: Tensor, tolerance: float) -> Tensor:
    """L_GC [], differentiable in the depth; 0 where no point is seen twice.

    Args:
        grad: G [V, C, h, w], constants.
        cameras: of the V views.
        alpha: rendered opacity [V, H, W, 1], constant.
        depth: rendered expected depth [V, H, W, 1].
        tolerance: in the units of depth.
    """
    views, _, height, width = grad.shape
    grad, cameras = grad.to(depth), cameras.to(depth.device, depth.dtype).resized(width, height)
    opacity, z = on_cells(alpha, depth, height, width)
    points, flat = back_project(z[..., None], cameras).flatten(1, 2), grad.flatten(2)
    seen, cosines = seen_twice(points, cameras, opacity, z, tolerance), []
    for j in range(views):
        i, p = seen[j].nonzero(as_tuple=True)
        if len(i):
            place, _ = seen_from(points[i, p][None], cameras[j])
            cosines.append(functional.cosine_similarity(flat[i, :, p].T, read(grad[j : j + 1], place)[0, :, 0], dim=0))
    return 1 - torch.cat(cosines).mean() if cosines else 0 * z.sum()


@torch.no_grad()
def seen_twice(points: Tensor, cameras: Cameras, opacity: Tensor, z: Tensor, tolerance: float) -> Tensor:
    """[j, i, h·w], whether view j sees what the cells of view i ≠ j show: points [V, h·w, 3], opacity and depth [V, h, w]."""
    places, z_there = seen_from(points, cameras)
    opacity_there, surface_there = read(torch.stack([opacity, z], 1), places).unbind(1)
    inside = (places.abs() <= 1).all(-1) & (z_there > 0)
    opaque = (opacity.flatten(1)[None] > _OPAQUE) & (opacity_there > _OPAQUE)
    another = ~torch.eye(len(cameras), dtype=torch.bool, device=z.device)[:, :, None]
    return inside & opaque & another & ((z_there - surface_there).abs() < tolerance)


def read(maps: Tensor, places: Tensor) -> Tensor:
    """Maps [V, C, h, w] at places [V, n, m, 2] of :func:`seen_from`, bilinearly: [V, C, n, m]."""
    return functional.grid_sample(maps, places, padding_mode="border", align_corners=False)


def on_cells(alpha: Tensor, depth: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Opacity and depth [V, h, w] of each latent cell, depth weighted by opacity; differentiable in depth [V, H, W, 1]."""
    alpha, depth = alpha.permute(0, 3, 1, 2), depth.permute(0, 3, 1, 2)
    opacity = functional.adaptive_avg_pool2d(alpha, (height, width))
    z = functional.adaptive_avg_pool2d(alpha * depth, (height, width)) / opacity.clamp_min(1e-6)
    return opacity[:, 0], z[:, 0]


def seen_from(points: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Points [V, P, 3] in every camera j: places [j, V, P, 2] from −1 to 1 across the picture (``grid_sample``'s), depth [j, V, P]."""
    rotation, translation = cameras.viewmats[:, None, :3, :3], cameras.viewmats[:, None, None, :3, 3]
    in_camera = points[None] @ rotation.transpose(2, 3) + translation
    z = in_camera[..., 2]
    pixels = (in_camera @ cameras.Ks[:, None].transpose(2, 3))[..., :2] / torch.where(z > 0, z, 1.0)[..., None]
    size = torch.tensor([cameras.width, cameras.height], dtype=points.dtype, device=points.device)
    return 2 * pixels / size - 1, z
