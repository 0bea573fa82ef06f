"""The network's Gaussians as a picture, as the renderer's arguments and as an asset."""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.sh import C0
from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.priors.splat.network import SplatField

VISIBLE = 0.01  # opacity below which a Gaussian is not drawn


def draw(field: SplatField, index: int, cameras: Cameras, background: Tensor, *, visible: float = VISIBLE) -> tuple[Tensor, Tensor]:
    """Object ``index`` from V cameras over the colour [3] → (rgb [V, 3, H, W] in [0, 1], alpha [V, 1, H, W]); differentiable."""
    from fsd_gs.render import cpu

    opacities = field.opacity_logits[index].sigmoid()
    chosen = (opacities.detach() > visible).nonzero()[:, 0]
    rgb, alpha, _ = cpu.rasterization(
        field.means[index][chosen],
        field.quats[index][chosen],
        field.scales[index][chosen],
        opacities[chosen],
        field.colors[index][chosen],
        cameras.viewmats,
        cameras.Ks,
        cameras.width,
        cameras.height,
        packed=False,
        backgrounds=background.expand(len(cameras), 3),
    )
    return rgb.permute(0, 3, 1, 2), alpha.permute(0, 3, 1, 2)


def gaussians(field: SplatField, index: int, *, visible: float = VISIBLE) -> Gaussians:
    """Object ``index`` of the field as an asset of SH degree 0, without what cannot be seen."""
    opacities = field.opacity_logits[index].sigmoid()
    chosen = (opacities > visible).nonzero()[:, 0]
    return Gaussians(
        means=field.means[index][chosen],
        quats=torch.nn.functional.normalize(field.quats[index][chosen], dim=1),
        scales=field.scales[index][chosen],
        opacities=opacities[chosen],
        sh=((field.colors[index][chosen] - 0.5) / C0)[:, None],
    ).detach()


def draw_gaussians(splats: Gaussians, cameras: Cameras, background: Tensor) -> Tensor:
    """An asset of SH degree 0 from V cameras over the colour [3] → rgb [V, 3, H, W] in [0, 1]."""
    from fsd_gs.render import cpu

    rgb, _, _ = cpu.rasterization(
        splats.means,
        splats.quats,
        splats.scales,
        splats.opacities,
        splats.sh,
        cameras.viewmats,
        cameras.Ks,
        cameras.width,
        cameras.height,
        sh_degree=0,
        backgrounds=background.expand(len(cameras), 3),
    )
    return rgb.permute(0, 3, 1, 2)
