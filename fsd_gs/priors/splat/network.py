"""The splat-native denoiser: V noisy views, cameras and words → Gaussians, whose renders are the clean views x̂_0.

    features  every view through a small UNet at half and quarter resolution, told the noise level. It also says what it takes the clean
              view for: x̃ = W(t) x_t + r, W = α s²/(α² s² + σ²) the best gain for pixels of deviation s, r learned; x̃ is trained against
              the clean view. How far each of its pixels is from the background, where that is told, is the silhouette
    lift      the cells of a coarse grid (8³, those that touch the ball) read mean and deviation of the views' features at 4³ points each
    think     a transformer over cells and words, modulated by (log-SNR, words, background); after ``early`` blocks it says which cells
              hold a surface, and only the likeliest ``kept`` go on: half of the cells, and more than half of the work, are empty space
    emit      each kept cell draws 5³ Gaussians, one a sub-voxel: a small head looks at the cell's thought and at the views again,
              weighted by how well each sees the point, w_v = softmax_v(q·f_v + n·d_v): q and n are the cell's own, f_v is the feature,
              d_v the direction to the camera, and at the share of views in whose silhouette the point lies (1: the visual hull).
              Convolutions over the sub-voxels, two by two by two together, let neighbours agree on a surface before the head speaks.
              The colour is a gate between what the views show, Σ w_v x̃_v, and what the network thinks

The views of one set of Gaussians cannot disagree: that is the point (DMV3D, arXiv 2311.09217, with splats as in LGM, arXiv 2402.05054).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fsd_gs.core.setting import setting
from fsd_gs.priors.splat.volume import (
    RADIUS,
    Rays,
    block_places,
    cell_centers,
    cell_points,
    inside,
    mean_and_deviation,
    project,
    sample_views,
)
from fsd_gs.priors.splat.words import WordEncoder, Words

SIZE = 64  # pixels of the views that the network looks at
OUTPUTS = 15  # of the head: offset 3, log-scale 3, quaternion 4, opacity 1, colour 3, gate 1
OPACITY_BIAS = -3.0
PIXEL_VARIANCE = 0.4  # s² of pixels in [−1, 1]


@dataclass(frozen=True)
class NetworkSettings:
    """What a checkpoint is made of; written beside its weights."""

    cells: int = setting(8, "cells of the grid along an axis", low=2)
    lift_points: int = setting(4, "points of a cell along an axis at which the views are read", low=1)
    emit_points: int = setting(5, "Gaussians of a kept cell along an axis", low=1)
    kept: int = setting(192, "cells that go on after the first blocks", low=1)
    early: int = setting(2, "blocks in which all cells take part", low=1)
    width: int = setting(192, "channels of the transformer", low=8)
    depth: int = setting(8, "blocks of the transformer", low=2)
    heads: int = setting(3, "heads of its attention", low=1)
    view_features: int = setting(8, "features of a view's pixel", low=1)
    voxel_features: int = setting(12, "numbers that a cell hands to each of its Gaussians", low=1)
    head_width: int = setting(32, "hidden units of the head that draws a Gaussian", low=1)
    block_features: int = setting(16, "numbers that a Gaussian hands to its neighbours", low=1)
    block_width: int = setting(32, "channels of the convolutions over blocks of 2 x 2 x 2 Gaussians", low=1)
    block_depth: int = setting(2, "of those convolutions; 0: none", low=0)
    text_rows: int = setting(4096, "rows of the table of letter groups", low=2)
    text_width: int = setting(128, "channels of a word", low=4)


@dataclass(frozen=True)
class Condition:
    """What the network knows beside the views, for B objects.

    Attributes:
        log_snr: [B] log(α²/σ²) of the views at SIZE pixels.
        words: of the text.
        background: [B, 3] in [−1, 1].
        known: [B] 1 or 0.
    """

    log_snr: Tensor
    words: Words
    background: Tensor
    known: Tensor


@dataclass(frozen=True)
class SplatField:
    """What the network says of B objects: M = kept · emit_points³ Gaussians each, most of them transparent.

    means [B, M, 3]; quats [B, M, 4] wxyz, not normalised; scales [B, M, 3]; opacity_logits [B, M]; colors [B, M, 3] in [0, 1];
    cell_logits [B, N]: does the cell hold a surface?; kept [B, K]: the cells that emitted; background [B, 3] in [0, 1];
    views [B, V, 3, S, S] in [−1, 1]: what each view is taken for, by itself.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacity_logits: Tensor
    colors: Tensor
    cell_logits: Tensor
    kept: Tensor
    background: Tensor
    views: Tensor


class Film(torch.nn.Module):
    """x ← x (1 + a) + b, with a and b from a condition; the identity at first."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(condition, 2 * channels)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.linear(condition)[..., None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class ViewEncoder(torch.nn.Module):
    """Features of each view and a correction of it: [B·V, 3, S, S] → [B·V, features, S/2, S/2] and [B·V, 3, S, S], 0 at first, through a
    bottleneck at a quarter of S."""

    def __init__(self, features: int, condition: int, width: int = 32) -> None:
        super().__init__()
        self.enter = torch.nn.Conv2d(12, width, 3, padding=1)
        self.film = Film(condition, width)
        self.down = torch.nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.inner = torch.nn.ModuleList(torch.nn.Conv2d(2 * width, 2 * width, 3, padding=1) for _ in range(3))
        self.films = torch.nn.ModuleList(Film(condition, 2 * width) for _ in range(3))
        self.up = torch.nn.Conv2d(2 * width, width, 1)
        self.leave = torch.nn.Conv2d(2 * width, features, 3, padding=1)
        self.correct = torch.nn.Conv2d(2 * width, 12, 3, padding=1)
        for parameter in self.correct.parameters():
            torch.nn.init.zeros_(parameter)

    def forward(self, views: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        x = F.silu(self.film(self.enter(F.pixel_unshuffle(views, 2)), condition))
        y = F.silu(self.down(x))
        for convolution, film in zip(self.inner, self.films, strict=True):
            y = y + F.silu(film(convolution(y), condition))
        y = F.interpolate(self.up(y), scale_factor=2, mode="bilinear", align_corners=False)
        both = torch.cat([x, F.silu(y)], dim=1)
        return self.leave(both), F.pixel_shuffle(self.correct(both), 2)


class Block(torch.nn.Module):
    """A transformer block with modulated norms (DiT, arXiv 2212.09748); the modulation is shared and each block adds its own offset
    (PixArt-α, arXiv 2310.00426). Queries and keys are normalised, so that no attention saturates early."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.wide = torch.nn.Linear(width, 3 * width)
        self.narrow = torch.nn.Linear(3 * width, width)
        self.offset = torch.nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, modulation: Tensor, bias: Tensor) -> Tensor:
        """x [B, N, C]; modulation [B, 6, C]; bias [B, 1, 1, N] is added to the scores (−∞ hides a token)."""
        B, N, C = x.shape
        a, b, c, d, e, f = (modulation + self.offset)[:, :, None].unbind(1)
        q, k, v = self.qkv(F.layer_norm(x, (C,)) * (1 + a) + b).view(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        y = attend(F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:]), v, bias)
        x = x + 0.5 * (1 + c) * self.out(y.transpose(1, 2).reshape(B, N, C))
        y = F.gelu(self.wide(F.layer_norm(x, (C,)) * (1 + d) + e), approximate="tanh")
        return x + 0.5 * (1 + f) * self.narrow(y)


class Neighbours(torch.nn.Module):
    """What the sub-voxels around each Gaussian say: [B, M, hidden] → [B, M, hidden], 0 at first.

    The grid of sub-voxels is cut into blocks of 2³; a block's eight Gaussians are one voxel of the convolutions (space to depth), so that
    3³ of them reach over 6³ Gaussians at an eighth of the places. Where no cell is kept there is nothing, 0.
    """

    places: Tensor  # [N, q³] of each cell's Gaussians: 8 · block + corner

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        s = settings
        self.side = s.cells * s.emit_points // 2
        self.register_buffer("places", block_places(s.cells, s.emit_points), persistent=False)
        self.speak = torch.nn.Linear(s.head_width, s.block_features)
        self.enter = torch.nn.Linear(8 * s.block_features, s.block_width)
        self.convolutions = torch.nn.ModuleList(torch.nn.Conv3d(s.block_width, s.block_width, 3, padding=1) for _ in range(s.block_depth))
        self.leave = torch.nn.Linear(s.block_width, 8 * s.head_width)
        torch.nn.init.zeros_(self.leave.weight)
        torch.nn.init.zeros_(self.leave.bias)

    def forward(self, hidden: Tensor, kept: Tensor) -> Tensor:
        """hidden [B, K · q³, C] of the kept cells [B, K]."""
        B, _, C = hidden.shape
        places = self.places[kept].flatten(1)[..., None]
        said = self.speak(hidden)
        grid = said.new_zeros(B, 8 * self.side**3, said.shape[2]).scatter(1, places.expand(-1, -1, said.shape[2]), said)
        x = self.enter(grid.view(B, self.side**3, -1)).transpose(1, 2).unflatten(2, (self.side,) * 3)
        for convolution in self.convolutions:
            x = x + convolution(F.silu(x))
        heard = self.leave(F.silu(x).flatten(2).transpose(1, 2)).view(B, -1, C)
        return heard.gather(1, places.expand(-1, -1, C))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q kᵀ/√c + bias) v for [B, h, N, c]. On a CPU plain products: the fused kernel's backward pass costs several times as much."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5) + bias
    return scores.softmax(-1) @ v


class SplatDenoiser(torch.nn.Module):
    """The network of this module's head."""

    centers: Tensor  # [N, 3] of the cells
    lift_offsets: Tensor  # [p³, 3] of a cell's points
    emit_offsets: Tensor  # [q³, 3] of a cell's Gaussians

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = s = settings
        width = s.width
        self.register_buffer("centers", cell_centers(s.cells), persistent=False)
        self.register_buffer("lift_offsets", cell_points(s.cells, s.lift_points), persistent=False)
        self.register_buffer("emit_offsets", cell_points(s.cells, s.emit_points), persistent=False)
        self.words = WordEncoder(s.text_rows, s.text_width)
        self.condition = torch.nn.Sequential(
            torch.nn.Linear(64 + s.text_width + 4, width), torch.nn.SiLU(), torch.nn.Linear(width, width), torch.nn.SiLU()
        )
        self.encoder = ViewEncoder(s.view_features, width)
        seen = s.view_features + 4
        self.lift = torch.nn.Linear(s.lift_points**3 * (2 * seen + 1), width)
        self.cell_places = torch.nn.Parameter(torch.randn(len(self.centers), width) * 0.2)
        self.word_tokens = torch.nn.Linear(s.text_width, width)
        self.modulation = torch.nn.Linear(width, 6 * width)
        self.blocks = torch.nn.ModuleList(Block(width, s.heads) for _ in range(s.depth))
        self.occupancy = torch.nn.Linear(width, 1)
        self.backdrop = torch.nn.Linear(width, 3)
        self.emit = torch.nn.Linear(width, s.emit_points**3 * s.voxel_features)
        self.look = torch.nn.Linear(s.voxel_features, seen + 3)
        self.head_in = torch.nn.Linear(s.voxel_features + seen + 4, s.head_width)
        self.neighbours = Neighbours(s) if s.block_depth else None
        self.head_out = torch.nn.Linear(s.head_width, OUTPUTS)
        for layer in (self.modulation, self.head_out, self.look):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)

    @property
    def voxel(self) -> float:
        """Edge of a sub-voxel in world units."""
        return 2 * RADIUS / (self.settings.cells * self.settings.emit_points)

    def forward(self, views_t: Tensor, rays: Rays, condition: Condition, keep_first: Tensor | None = None) -> SplatField:
        """views_t [B, V, 3, S, S], x_t of each view with α² + σ² = 1; rays of the B·V cameras.

        keep_first: [B, N] a bonus on the cells' logits when the kept ones are chosen (training shows the true ones now and then).
        """
        maps, clean, e, words = self._features(views_t, condition)
        cells, bias = self._lift(maps, clean, views_t, rays), self._word_bias(condition.words)
        modulation = self.modulation(e).view(len(e), 6, -1)
        tokens = torch.cat([cells, words], dim=1)
        early = self.settings.early
        for block in self.blocks[:early]:
            tokens = block(tokens, modulation, bias)
        count = len(self.centers)
        logits = self.occupancy(F.layer_norm(tokens[:, :count], tokens.shape[-1:]))[..., 0].float()
        backdrop = torch.where(
            condition.known[:, None] > 0, condition.background, torch.tanh(self.backdrop(tokens[:, :count].mean(1)).float())
        )
        kept = (logits.detach() if keep_first is None else logits.detach() + keep_first).topk(min(self.settings.kept, count), dim=1).indices
        chosen = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
        tokens, bias = torch.cat([chosen, tokens[:, count:]], dim=1), bias[..., count - kept.shape[1] :]
        for block in self.blocks[early:]:
            tokens = block(tokens, modulation, bias)
        return self._emit(tokens[:, : kept.shape[1]], kept, logits, maps, clean, rays, backdrop)

    def _features(self, views_t: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Maps [B, V, F, S/2, S/2]; x̃ held in [−1, 1] and the silhouette in [0, 1], [B, V, 4, S, S]; the condition [B, width]; word
        tokens [B, W, width]."""
        B, V = views_t.shape[:2]
        word_vectors, text = self.words(condition.words)
        known = condition.known[:, None]
        told = torch.cat([frequencies(condition.log_snr), text, condition.background * known, known], dim=1)
        e = self.condition(told)
        maps, correction = (x.unflatten(0, (B, V)).float() for x in self.encoder(views_t.flatten(0, 1), e.repeat_interleave(V, dim=0)))
        clean = (best_gain(condition.log_snr).view(B, 1, 1, 1, 1) * views_t + correction).clamp(-1, 1)
        silhouette = 1 - torch.exp(-8 * (clean - condition.background[:, None, :, None, None]).square().sum(2, keepdim=True))
        clean = torch.cat([clean, silhouette * known[..., None, None, None]], dim=2)
        return maps, clean, e, self.word_tokens(word_vectors)

    def _word_bias(self, words: Words) -> Tensor:
        """[B, 1, 1, N + W]: −∞ on the words that are not there."""
        hidden = torch.zeros(words.present.shape, device=words.groups.device).masked_fill(~words.present, float("-inf"))
        return F.pad(hidden, (len(self.centers), 0))[:, None, None]

    def _lift(self, maps: Tensor, clean: Tensor, views_t: Tensor, rays: Rays) -> Tensor:
        """[B, N, width]: each cell's first thought."""
        B, V = maps.shape[:2]
        shown = torch.cat([views_t, clean[:, :, 3:]], dim=2)
        maps = torch.cat([F.avg_pool2d(shown.flatten(0, 1), 2).unflatten(0, (B, V)), maps], dim=2)
        points = (self.centers[:, None] + self.lift_offsets).flatten(0, 1).expand(B, -1, -1)
        places, depths = project(points, rays)
        weights = inside(places, depths)
        mean, deviation = mean_and_deviation(sample_views(maps, places), weights, spread=maps.shape[2])
        seen = torch.cat([mean, deviation, weights.mean(1)[:, None]], dim=1)  # [B, 2C + 1, N p³]
        seen = seen.view(B, -1, len(self.centers), len(self.lift_offsets)).transpose(1, 2).flatten(2)
        return self.lift(seen) + self.cell_places

    def _emit(self, cells: Tensor, kept: Tensor, logits: Tensor, maps: Tensor, clean: Tensor, rays: Rays, backdrop: Tensor) -> SplatField:
        s, B = self.settings, cells.shape[0]
        points = (self.centers[kept][:, :, None] + self.emit_offsets).flatten(1, 2)
        u = self.emit(F.layer_norm(cells, cells.shape[-1:])).view(B, -1, s.voxel_features)
        places, depths = project(points, rays)
        colors, features = sample_views(clean, places), sample_views(maps, places)
        seen, visible = torch.cat([colors, features], dim=2), inside(places, depths)  # [B, V, 4 + F, M]
        weights = self._view_weights(u, seen, points, rays, visible)
        mean, deviation = (x.transpose(1, 2) for x in mean_and_deviation(seen, weights, spread=3))
        hull = ((colors[:, :, 3] * visible).sum(1) / visible.sum(1).clamp_min(1))[..., None]
        hidden = self.head_in(torch.cat([x.to(u.dtype) for x in (u, mean, deviation, hull)], dim=-1))
        if self.neighbours is not None:
            hidden = hidden + self.neighbours(F.silu(hidden), kept)
        out = self.head_out(F.silu(hidden)).float()
        offset, log_scale, quat, opacity, color, gate = out.split([3, 3, 4, 1, 3, 1], dim=-1)
        share = torch.sigmoid(gate)
        return SplatField(
            means=points + torch.tanh(offset) * self.voxel,
            quats=quat + quat.new_tensor([1.0, 0.0, 0.0, 0.0]),
            scales=torch.exp(log_scale.clamp(-3.0, 1.2)) * (0.5 * self.voxel),
            opacity_logits=3 * opacity[..., 0] + OPACITY_BIAS,
            colors=(share * mean[..., :3].float() + (1 - share) * torch.tanh(color) + 1) / 2,
            cell_logits=logits,
            kept=kept,
            background=(backdrop + 1) / 2,
            views=clean[:, :, :3],
        )

    def _view_weights(self, u: Tensor, seen: Tensor, points: Tensor, rays: Rays, visible: Tensor) -> Tensor:
        """[B, V, M]: how far each view is believed at each point; sums to 1 over the views."""
        query, normal = self.look(u).float().transpose(1, 2)[:, None].split([seen.shape[2], 3], dim=2)  # [B, 1, …, M]
        to_camera = F.normalize(rays.positions[..., None] - points.transpose(1, 2)[:, None], dim=2)
        scores = (seen * query).sum(2) + 4 * (to_camera * normal).sum(2)
        return (scores + 1e4 * (visible - 1)).softmax(1)


def best_gain(log_snr: Tensor) -> Tensor:
    """W(t) = α s²/(α² s² + σ²) for α² + σ² = 1: the linear estimate of x_0 from x_t with the least error; 1/α without noise."""
    alpha_squared = torch.sigmoid(log_snr)
    return alpha_squared.sqrt() * PIXEL_VARIANCE / (alpha_squared * PIXEL_VARIANCE + 1 - alpha_squared)


def frequencies(log_snr: Tensor) -> Tensor:
    """[B] → [B, 64] sines and cosines of log-SNR, held in [−15, 15], over wavelengths from 60 down to about 1."""
    rates = torch.exp(torch.linspace(math.log(2 * math.pi / 60), math.log(2 * math.pi), 32, device=log_snr.device))
    phase = log_snr.clamp(-15, 15)[:, None] * rates
    return torch.cat([phase.sin(), phase.cos()], dim=1)
