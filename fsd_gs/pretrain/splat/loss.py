"""The loss of the splat-native denoiser: renders of its Gaussians against clean views, and how far away the surface is.

    L = 4 ‖rgb − x‖² + ‖α − A‖²          the renders, of views that the network saw and of others (as DMV3D, arXiv 2311.09217)
      + w_a BCE(coverage, A)             which pixels of its views the object covers
      + w_v ‖x̃ − z‖² / σ                 what each view is taken for by itself: σ ‖v_φ − v‖² of the UNet's own training
      − w_r log w(depth)                 rays of covered pixels end at the surface (w between the two samples around it), others nowhere
      + w_d |depth − d|                  and so do the Gaussians, in the end

z = E(x) the latents, x_t = α z + σ ε, one t for all views of an object. Squared errors are means over pixels in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fsd_gs.core.backgrounds import composite
from fsd_gs.pretrain.splat.batches import SplatBatch
from fsd_gs.pretrain.splat.model import SplatModel
from fsd_gs.pretrain.splat.settings import SIZE, SplatTrainSettings
from fsd_gs.priors.splat.draw import EPS_2D, draw
from fsd_gs.priors.splat.network import PixelGaussians

FINE_EPS_2D = 0.3  # pixel² of blur where renders are larger than the network's views
COVERED, BARE = 0.5, 0.1  # coverage from which a pixel's depth counts; up to which its ray should meet nothing
FAR = 0.3  # depth errors count no more than this: what is half a body away will not be found by going on
LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class LossTerms:
    """The loss and its parts.

    Attributes:
        total: differentiable mean over the objects.
        seen, new: 4 · mean squared errors of the renders, of views that the network saw and of others.
        rays, depth: the terms of these names, without weights.
    """

    total: Tensor
    seen: float
    new: float
    rays: float
    depth: float


def noised(model: SplatModel, batch: SplatBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(z, x_t, both [B·V, C, h, w]; α, σ [B·V, 1, 1, 1])."""
    V = batch.clean.shape[1]
    squared = model.alphas_cumprod.to(batch.n.device)[batch.n].repeat_interleave(V).view(-1, 1, 1, 1)
    alpha, sigma = squared.sqrt(), (1 - squared).sqrt()
    z = model.head.code.encode(2 * batch.views.flatten(0, 1) - 1)
    noise = torch.randn(z.shape, generator=batch.noise).to(z)
    return z, alpha * z + sigma * noise, alpha, sigma


def splat_loss(model: SplatModel, batch: SplatBatch, train: SplatTrainSettings, dtype: torch.dtype) -> LossTerms:
    """L of a batch. dtype: of the convolutions."""
    z, x_t, alpha, sigma = noised(model, batch)
    maps = model(x_t, batch, alpha, sigma, dtype, head_only=not (train.unet_lr or train.unet_other_lr))
    coverage = F.binary_cross_entropy_with_logits(maps.coverage, batch.clean[:, :, 3])
    views = ((maps.clean.flatten(0, 1) - z).square() / sigma.clamp_min(0.1)).mean()
    total, sums = train.coverage * coverage + train.views * views, torch.zeros(4)
    for b in range(len(batch.captions)):
        splats = model.head.gaussians(maps, b, batch.rays)
        pixels, alphas = render_errors(splats, batch, b)
        rays, depth = _surface_errors(splats, batch, b)
        total = total + (pixels.mean() + alphas + train.rays * rays + train.depth * depth) / len(batch.captions)
        own = min(train.targets[0], batch.clean.shape[1])
        seen, new = pixels.detach()[:own], pixels.detach()[own:]
        parts = [seen.mean() if own else seen.sum(), new.mean() if len(new) else new.sum(), rays.detach(), depth.detach()]
        sums += torch.stack(parts).cpu()
    return LossTerms(total, *(sums / len(batch.captions)).tolist())


def render_errors(splats: PixelGaussians, batch: SplatBatch, index: int) -> tuple[Tensor, Tensor]:
    """([T] 4 · mean squared errors of rgb, the mean one of alpha) of the views that object ``index`` is compared in."""
    background, target = batch.backgrounds[index], batch.targets[index]
    cameras = batch.cameras[index]
    rgb, alpha = draw(splats, cameras, background, eps2d=EPS_2D if cameras.width == SIZE else FINE_EPS_2D)
    wanted = composite(target, background[:, None, None])
    return 4 * (rgb - wanted).square().mean((1, 2, 3)), (alpha - target[:, 3:]).square().mean()


def _surface_errors(splats: PixelGaussians, batch: SplatBatch, index: int) -> tuple[Tensor, Tensor]:
    """(− log share of the rays that end where they should, mean over pixels; mean error of the Gaussians' depths)."""
    at = (index, splats.view, splats.row, splats.column)
    truth, coverage, stops = batch.depths[at], batch.clean[:, :, 3][at], splats.stops
    on, bare = (truth > 0) & (coverage > COVERED), coverage < BARE
    step = stops.depths[:, 1] - stops.depths[:, 0]
    place = ((truth - stops.depths[:, 0]) / step).clamp(0, stops.depths.shape[1] - 1.001)
    low = place.floor().long()
    share = torch.lerp(stops.weights.gather(1, low[:, None]), stops.weights.gather(1, low[:, None] + 1), (place - low)[:, None])[:, 0]
    missed = -(share[on] + LEAST_SHARE).log().sum() - (stops.through[bare] + LEAST_SHARE).log().sum()
    depth = (splats.depths - truth)[on].abs().clamp(max=FAR).sum()
    return missed / max(1, len(truth)), depth / max(1, int(on.sum()))
