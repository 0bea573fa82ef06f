"""Splats that the export tests share."""

import torch

from fsd_gs.core.types import Gaussians

SH_C0 = 0.28209479177387814


def random_gaussians(count: int, sh_degree: int = 0, seed: int = 0, sh_spread: float = 0.2) -> Gaussians:
    """Splats in the unit ball with every field arbitrary and every SH coefficient non-zero."""
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(count, 3, generator=g) * 0.3,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1),
        scales=torch.rand(count, 3, generator=g) * 0.05 + 1e-3,
        opacities=torch.rand(count, generator=g) * 0.9 + 0.05,
        sh=torch.randn(count, (sh_degree + 1) ** 2, 3, generator=g) * sh_spread,
    )


def egg(count: int = 3000, sh_degree: int = 0, seed: int = 0) -> Gaussians:
    """A closed surface of flat splats, half axes 0.5, 0.35, 0.6: red in front (+x), green at the viewer's right (+y), blue on top (+z)."""
    g = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    half_axes = torch.tensor([0.5, 0.35, 0.6])
    outward = torch.nn.functional.normalize(normals / half_axes, dim=1)
    quats = torch.cat([1 + outward[:, 2:], -outward[:, 1:2], outward[:, :1], torch.zeros(count, 1)], dim=1)  # z to the normal
    sh = torch.zeros(count, (sh_degree + 1) ** 2, 3)
    sh[:, 0] = (normals.clamp(0, 1) * 0.9 + 0.05 - 0.5) / SH_C0
    sh[:, 1:] = torch.randn(sh[:, 1:].shape, generator=g) * 0.05
    size = 0.03 * (6000 / count) ** 0.5
    return Gaussians(
        means=normals * half_axes,
        quats=torch.nn.functional.normalize(quats, dim=1),
        scales=torch.tensor([size, size, size / 8]).expand(count, 3).contiguous(),
        opacities=torch.full((count,), 0.97),
        sh=sh,
    )
