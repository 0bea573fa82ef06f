"""The network's Gaussians as a picture and as an asset."""

from __future__ import annotations

import torch
from torch import Tensor

from fsd_gs.core.sh import C0
from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.priors.splat.network import PixelGaussians

VISIBLE = 0.01  # opacity below which a Gaussian is not drawn
# Pixel² that blur every Gaussian. The usual 0.3 is for Gaussians much smaller than a pixel; here there is one for each pixel of a view.
EPS_2D = 0.1


def draw(splats: PixelGaussians, cameras: Cameras, background: Tensor, *, eps2d: float = EPS_2D) -> tuple[Tensor, Tensor]:
    """From V cameras over the colour [3] → (rgb [V, 3, H, W] about in [0, 1], alpha [V, 1, H, W]); differentiable."""
    from fsd_gs.render import cpu, cuda

    opacities = splats.opacity_logits.sigmoid()
    chosen = (opacities.detach() > VISIBLE).nonzero()[:, 0]
    rgb, alpha, _ = (cuda if opacities.is_cuda else cpu).rasterization(
        splats.means[chosen],
        splats.quats[chosen],
        splats.scales[chosen],
        opacities[chosen],
        splats.colors[chosen],
        cameras.viewmats,
        cameras.Ks,
        cameras.width,
        cameras.height,
        eps2d=eps2d,
        packed=False,
        backgrounds=background.expand(len(cameras), 3),
    )
    return rgb.permute(0, 3, 1, 2), alpha.permute(0, 3, 1, 2)


def asset(splats: PixelGaussians, *, visible: float = VISIBLE) -> Gaussians:
    """As an asset of SH degree 0, without what cannot be seen."""
    opacities = splats.opacity_logits.sigmoid()
    chosen = (opacities > visible).nonzero()[:, 0]
    return Gaussians(
        means=splats.means[chosen],
        quats=torch.nn.functional.normalize(splats.quats[chosen], dim=1),
        scales=splats.scales[chosen],
        opacities=opacities[chosen],
        sh=((splats.colors[chosen].clamp(0, 1) - 0.5) / C0)[:, None],
    ).detach()
