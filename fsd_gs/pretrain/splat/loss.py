"""The loss of the splat-native denoiser: renders of its Gaussians against clean views, and the surface they should lie on.

    L = 4 ‖rgb − x‖² + ‖α − A‖²                     the renders, of views that the network saw and of others (as DMV3D, arXiv 2311.09217)
      + w_o BCE(opacity, voxel holds surface)       so that geometry need not be found through the rasterizer
      + w_c ‖colour − mean colour of the voxel‖²    on the voxels that do
      + w_o/2 BCE(cell, any of its voxels does)     which cells the network keeps
      + w_v ‖x̃ − x‖²                                what each view is taken for by itself, 4 in [0, 1] as well
      + ‖background − b‖²                           where it was not told

x_t = α_t x_0 + σ_t ε with α = cos(π t/2), σ = sin(π t/2) (arXiv 2102.09672), one t for all views of an object. Squared errors are means
over pixels in [0, 1]; posterior means minimise every term, at every t, so one weight serves all times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fsd_gs.core.types import Cameras
from fsd_gs.pretrain.splat.settings import SplatTrainSettings
from fsd_gs.priors.splat.draw import draw
from fsd_gs.priors.splat.network import Condition, SplatDenoiser, SplatField
from fsd_gs.priors.splat.volume import RADIUS, Rays


@dataclass(frozen=True)
class SplatBatch:
    """B objects.

    Attributes:
        clean: [B, V, 3, S, S] the network's views in [−1, 1]; rays of them; noise like clean.
        t: [B]; condition; backgrounds: [B, 3] in [0, 1]. For each object: target rgba [T, 4, R, R] premultiplied in [0, 1], its cameras,
            the voxels that hold surface and their colours [n, 3] in [0, 1].
    """

    clean: Tensor
    rays: Rays
    noise: Tensor
    t: Tensor
    condition: Condition
    backgrounds: Tensor
    targets: list[Tensor]
    cameras: list[Cameras]
    voxels: list[Tensor]
    colors: list[Tensor]


@dataclass(frozen=True)
class LossTerms:
    """The loss and its parts.

    Attributes:
        total: differentiable mean over the objects.
        pixels: [B] 4 · mean squared error of the renders.
        voxels, cells: cross-entropies.
    """

    total: Tensor
    pixels: Tensor
    voxels: float
    cells: float


class VoxelMap:
    """Which voxel of the fine grid each Gaussian of the network stands for, and which cell a voxel lies in."""

    def __init__(self, network: SplatDenoiser) -> None:
        points = network.centers[:, None] + network.emit_offsets
        side = network.settings.cells * network.settings.emit_points
        place = ((points + RADIUS) / (2 * RADIUS) * side).floor().long()
        self.size = side**3
        self.of_cell = (place[..., 0] * side + place[..., 1]) * side + place[..., 2]  # [N, p³]

    def truth(self, voxels: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
        """voxels [n], colours [n, 3] → (holds surface [N, p³] bool, colour [N, p³, 3])."""
        holds, colour = torch.zeros(self.size, dtype=torch.bool), torch.zeros(self.size, 3)
        holds[voxels.long()], colour[voxels.long()] = True, colors
        return holds[self.of_cell], colour[self.of_cell]


def noised(batch: SplatBatch) -> Tensor:
    """x_t [B, V, 3, S, S]."""
    angle = (batch.t * (torch.pi / 2)).view(-1, 1, 1, 1, 1)
    return angle.cos() * batch.clean + angle.sin() * batch.noise


def splat_loss(
    network: SplatDenoiser, batch: SplatBatch, voxel_map: VoxelMap, show: Tensor, train: SplatTrainSettings, dtype: torch.dtype | None
) -> LossTerms:
    """L of a batch. show: [B] bool, whose true cells are kept in any case; dtype: of autocast, None for none."""
    truths = [voxel_map.truth(v, c) for v, c in zip(batch.voxels, batch.colors, strict=True)]
    holds = torch.stack([holds for holds, _ in truths])
    cells = holds.any(-1)
    first = (cells & show[:, None]) * 1e3
    with torch.autocast(batch.clean.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        field = network(noised(batch), batch.rays, batch.condition, keep_first=first)
    pixels, alphas = _render_errors(field, batch)
    voxel_term, color_term = _surface_errors(field, holds, torch.stack([colour for _, colour in truths]))
    cell_term = F.binary_cross_entropy_with_logits(field.cell_logits, cells.float())
    backdrop = (field.background - batch.backgrounds).square().mean()
    view_term = (field.views - batch.clean).square().mean()
    total = (pixels + alphas).mean() + train.occupancy * (voxel_term + 0.5 * cell_term) + train.color * color_term + backdrop
    total = total + train.views * view_term
    return LossTerms(total, pixels.detach(), voxel_term.item(), cell_term.item())


def _render_errors(field: SplatField, batch: SplatBatch) -> tuple[Tensor, Tensor]:
    """([B] 4 · mean squared error of rgb, [B] of alpha)."""
    pixels, alphas = [], []
    for b, (target, cameras) in enumerate(zip(batch.targets, batch.cameras, strict=True)):
        background = batch.backgrounds[b]
        rgb, alpha = draw(field, b, cameras, background)
        wanted = target[:, :3] + (1 - target[:, 3:]) * background[:, None, None]
        pixels.append(4 * (rgb - wanted).square().mean())
        alphas.append((alpha - target[:, 3:]).square().mean())
    return torch.stack(pixels), torch.stack(alphas)


def _surface_errors(field: SplatField, holds: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy of the kept cells' opacities, mean squared error of the colours on the surface); holds [B, N, p³]."""
    kept = field.kept[..., None].expand(-1, -1, holds.shape[-1])
    wanted = holds.gather(1, kept).flatten(1)
    entropy = F.binary_cross_entropy_with_logits(field.opacity_logits, wanted.float())
    truth = colors.gather(1, kept[..., None].expand(-1, -1, -1, 3)).flatten(1, 2)
    return entropy, (field.colors - truth)[wanted].square().mean() if wanted.any() else field.colors.sum() * 0
