"""How different the assets of one prompt are, from renders alone; no network, no weights.

Letters: r_av(p) ∈ [0, 1]³ view v of asset a at pixel p, b the background. The features of a view are non-negative; three blocks of G × G:

    ink        area means of max(b − r, 0) and max(r − b, 0), channel by channel: what the asset paints over the background
    edges      area means of |∂r| in four orientation bins (soft), ∂ the central differences of the luminance
    presence   area means of alpha, where it is given

The distance of two views is the mean over blocks of the weighted Jaccard (Ruzicka) distance

    d_J(f, g) = 1 − Σ_i min(f_i, g_i) / Σ_i max(f_i, g_i)          (0 where both are empty)

a metric on non-negative vectors with values in [0, 1]: 0 for equal pictures, 1 for pictures that share no ink, edge or pixel. The distance
of two assets is the mean over their V views, minimised over the V turns of one of them: the same chair turned by 360°/V is not another
chair. As a minimum over a group of isometries it is still a metric. **Diversity** is the mean distance over all pairs of assets.

What it is for: comparing sets of the same prompt made by different settings, and showing an artist whether the seeds differ. It compares
pictures, not meanings, so values of different prompts are not comparable.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import InputError

_LUMINANCE = (0.299, 0.587, 0.114)
_ORIENTATIONS = 4


@dataclass(frozen=True)
class DiversitySettings:
    """How assets are compared.

    Attributes:
        grid: G, cells a side (at most the image side).
        up_to_turns: compare under the best of the V turns.
        background: sRGB b.
    """

    grid: int = 12
    up_to_turns: bool = True
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.grid < 1:
            raise InputError(f"grid: expected at least 1 cell, got {self.grid}")


def diversity(renders: Tensor, alphas: Tensor | None = None, settings: DiversitySettings | None = None) -> float:
    """Mean pairwise distance of A assets, in [0, 1]; 0 for fewer than two.

    renders: [A, V, H, W, 3] in [0, 1], the same V evenly spaced cameras for all. alphas: [A, V, H, W, 1] or None.
    """
    distances = pairwise_distances(renders, alphas, settings)
    assets = len(distances)
    if assets < 2:
        return 0.0
    return float(distances.sum() / (assets * (assets - 1)))


def pairwise_distances(renders: Tensor, alphas: Tensor | None = None, settings: DiversitySettings | None = None) -> Tensor:
    """[A, A] symmetric distances in [0, 1], zeros on the diagonal; arguments as for :func:`diversity`."""
    settings = DiversitySettings() if settings is None else settings
    blocks = view_features(renders, alphas, settings)
    assets, views = renders.shape[:2]
    distances = renders.new_zeros(assets, assets)
    for a in range(assets):
        for b in range(a + 1, assets):
            distances[a, b] = distances[b, a] = _asset_distance(
                [f[a] for f in blocks], [f[b] for f in blocks], settings.up_to_turns and views > 1
            )
    return distances


def view_features(renders: Tensor, alphas: Tensor | None, settings: DiversitySettings) -> list[Tensor]:
    """Blocks of non-negative features, each [A, V, D]: ink (6 G²), edges (4 G²), and presence (G²) where alphas are given."""
    check_shape("renders", renders, ("A", "V", "H", "W", 3))
    assets, views, height, width, _ = renders.shape
    if views == 0 or min(height, width) < settings.grid:
        raise InputError(
            f"renders: expected at least one view of at least {settings.grid}×{settings.grid}, got {views} of {width}×{height}"
        )
    if alphas is not None:
        check_shape("alphas", alphas, (assets, views, height, width, 1))
    if not torch.isfinite(renders).all():
        raise InputError("renders: expected finite values, got NaN or infinity; is one of the assets broken?")
    pictures = renders.detach().flatten(0, 1).permute(0, 3, 1, 2).clamp(0, 1)  # [A·V, 3, H, W]
    background = pictures.new_tensor(settings.background)[:, None, None]
    channels = [torch.cat([(background - pictures).clamp_min(0), (pictures - background).clamp_min(0)], dim=1), oriented_edges(pictures)]
    if alphas is not None:
        channels.append(alphas.detach().flatten(0, 1).permute(0, 3, 1, 2).clamp(0, 1).to(pictures))
    pooled = [torch.nn.functional.adaptive_avg_pool2d(block, settings.grid) for block in channels]
    return [block.reshape(assets, views, block[0].numel() if len(block) else 0) for block in pooled]


def oriented_edges(pictures: Tensor) -> Tensor:
    """[B, 3, H, W] → [B, 4, H, W]: luminance gradient magnitude, shared linearly between the two nearest of four orientations.

    Bins are centred at 0°, 45°, 90° and 135° of the gradient, modulo 180°: an edge is the same from dark to light and back.
    """
    luminance = (pictures * pictures.new_tensor(_LUMINANCE)[:, None, None]).sum(1)  # [B, H, W]
    padded = torch.nn.functional.pad(luminance[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    position = torch.atan2(down, across).remainder(torch.pi) * (_ORIENTATIONS / torch.pi)  # [0, 4)
    bins = torch.arange(_ORIENTATIONS, dtype=pictures.dtype, device=pictures.device)[:, None, None]
    offset = (position[:, None] - bins).abs()
    share = (1 - torch.minimum(offset, _ORIENTATIONS - offset)).clamp_min(0)
    return share * torch.hypot(across, down)[:, None]


def jaccard_distance(f: Tensor, g: Tensor) -> Tensor:
    """Weighted Jaccard distance over the last axis of non-negative f, g [..., D]: [...] in [0, 1], 0 where both are empty."""
    largest = torch.maximum(f, g).sum(-1)
    shared = torch.minimum(f, g).sum(-1)
    return torch.where(largest > 0, 1 - shared / largest.clamp_min(torch.finfo(largest.dtype).tiny), torch.zeros_like(largest))


def _asset_distance(first: list[Tensor], second: list[Tensor], up_to_turns: bool) -> Tensor:
    """Distance of two assets from their blocks, each [V, D]."""
    views = len(first[0])
    turns = torch.arange(views if up_to_turns else 1, device=first[0].device)
    order = (torch.arange(views, device=turns.device) + turns[:, None]) % views  # [turns, V]
    by_block = [jaccard_distance(f, g[order]).mean(1) for f, g in zip(first, second, strict=True)]  # each [turns]
    return torch.stack(by_block).mean(0).min()
