"""Surface noise: the noise is painted on the object and turns with it (Consistent Flow Distillation, arXiv 2501.05445).

    point      o + depth · K⁻¹(u, v, 1) of each pixel with opacity above 0.1, from the expected depth
    texel      of its direction from the origin, on an equal-area (Lambert cylindrical) texture of N(0, 1)
    ε(cell)    Σ texels / √count over the texels that fall into the latent cell; cells without any take background noise
    mixing and refresh as in ``base``: √β · det + √(1−β) · rand, texture ← √(1−γ) · texture + √γ · randn

Σ/√count makes a cell N(0, 1) however many texels it holds, and noise stays *white* as long as no texel counts in two cells: so each texel
goes to the one cell of a view that most of its samples fall into. Neighbouring views then share noise exactly as far as they share
texels. Looking up by direction, not by 3D position, keeps a texel on its patch of surface while the surface moves in and out
during optimisation. Two surfaces behind one another along a ray from the origin share texels; a view sees one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, check_shape
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.noise._surface import paint_view
from fsd_gs.noise.base import NoiseState, check_choice, check_fraction, mix


class SurfaceNoise(NoiseState):
    """Noise fixed to the surface; needs the rendered opacity and expected depth of every view.

    Args:
        texels_per_cell: the texture has (4 w · k) × (2 h · k) texels, k = √texels_per_cell/2; the default holds about a dozen texels for
            each cell of an object that fills the view, fine enough to follow rotations smaller than a cell.
        samples: depth is read on a grid of at least this many samples a latent cell and side.
        alpha_threshold: opacity above which a pixel shows the surface.
        beta, gamma, background: as in :class:`~fsd_gs.noise.world_map.WorldMapNoise`.
    """

    needs_depth = True

    def __init__(
        self,
        latent_shape: tuple[int, int, int],
        *,
        beta: float = 1.0,
        gamma: float = 0.0,
        background: Literal["fixed", "fresh"] = "fixed",
        seed: int = 0,
        texels_per_cell: float = 4.0,
        samples: int = 6,
        alpha_threshold: float = 0.1,
    ) -> None:
        super().__init__(latent_shape, seed)
        self.beta, self.gamma = check_fraction("beta", beta), check_fraction("gamma", gamma)
        self.background = check_choice("background", background, ("fixed", "fresh"))
        self.alpha_threshold = check_fraction("alpha_threshold", alpha_threshold)
        if texels_per_cell <= 0 or samples < 1:
            raise ConfigError(f"texels_per_cell, samples: expected numbers above 0, got {texels_per_cell} and {samples}")
        self.samples = samples
        channels, height, width = self.latent_shape
        scale = math.sqrt(texels_per_cell) / 2
        self._buffers["texture"] = self._randn("texture", channels, max(2, round(2 * height * scale)), max(4, round(4 * width * scale)))
        self._buffers["background"] = self._randn("background", *self.latent_shape)
        for stream in ("random", "refresh"):
            self._stream(stream)

    def to(self, device: torch.device | str) -> SurfaceNoise:
        super().to(device)
        return self

    def __call__(self, cameras: Cameras, alpha: Tensor | None = None, depth: Tensor | None = None) -> Tensor:
        views, shape = len(cameras), self.latent_shape
        if alpha is None or depth is None:
            raise InputError("depth: surface noise needs the rendered opacity and expected depth; ask the rasterizer for both")
        check_shape("alpha", alpha, (views, "H", "W", 1))
        check_shape("depth", depth, tuple(alpha.shape))
        behind = (
            self._randn("background", views, *shape) if self.background == "fresh" else self._buffers["background"].expand(views, *shape)
        )
        cameras, alpha, depth = cameras.to("cpu"), alpha.detach().cpu(), depth.detach().cpu()  # one transfer each, not one a view
        fixed = torch.stack([self._one_view(cameras[v], alpha[v], depth[v], behind[v]) for v in range(views)])
        if self.beta < 1:
            fixed = mix(fixed, self._randn("random", views, *shape), self.beta)
        return fixed.to(self.device)

    def step(self) -> None:
        self._refresh(self.gamma)

    def _one_view(self, camera: Cameras, alpha: Tensor, depth: Tensor, background: Tensor) -> Tensor:
        """[C, h, w]: Σ texels / √count in each cell, background where a cell holds none."""
        channels, height, width = self.latent_shape
        seen = SeenView.of(camera, alpha[..., 0], depth[..., 0], self.alpha_threshold, (height, width), self.samples)
        total, count = paint_view_numba(self._buffers["texture"], seen)
        noise = torch.where(count > 0, total / count.clamp_min(1).sqrt(), background.reshape(channels, -1))
        return noise.reshape(channels, height, width)


@dataclass(frozen=True)
class SeenView:
    """What one camera sees, and where it is sampled.

    Attributes:
        alpha, depth: [H, W], float32, on the CPU; a pixel shows the surface where alpha > threshold.
        cells: (h, w) of the latent.
        samples: (rows, columns) of samples, multiples of the cells, at u = (j + ½)/columns, v = (i + ½)/rows.
        rays: [4, 3] float64: the point at depth z is rays[0] + z (rays[1] + u rays[2] + v rays[3]), in the world.
    """

    alpha: Tensor
    depth: Tensor
    threshold: float
    cells: tuple[int, int]
    samples: tuple[int, int]
    rays: Tensor

    @classmethod
    def of(cls, camera: Cameras, alpha: Tensor, depth: Tensor, threshold: float, cells: tuple[int, int], samples: int) -> SeenView:
        """camera: one. alpha, depth: [H, W], on the CPU as it is. samples: at least this many a cell and side."""
        rows, columns = (n * max(samples, math.ceil(side / n)) for n, side in zip(cells, alpha.shape, strict=True))
        world_from_camera = torch.linalg.inv(camera.viewmats[0].double())
        turned = world_from_camera[:3, :3] @ torch.linalg.inv(camera.Ks[0].double())  # pixel directions in the world
        rays = torch.stack([world_from_camera[:3, 3], turned[:, 2], turned[:, 0] * camera.width, turned[:, 1] * camera.height])
        return cls(alpha.float(), depth.float(), threshold, cells, (rows, columns), rays)


def paint_view_numba(texture: Tensor, seen: SeenView) -> tuple[Tensor, Tensor]:
    """texture [C, R, S] → Σ texels [C, h·w] and their number [h·w] of each cell."""
    total, count = paint_view(
        texture.numpy(), seen.alpha.numpy(), seen.depth.numpy(), np.float32(seen.threshold), seen.rays.numpy(), seen.samples, seen.cells
    )
    return torch.from_numpy(total), torch.from_numpy(count)


def paint_view_torch(texture: Tensor, seen: SeenView) -> tuple[Tensor, Tensor]:
    """The readable twin of :func:`paint_view_numba`."""
    channels, cell_count = texture.shape[0], math.prod(seen.cells)
    points, cells = surface_points(seen)
    texels, cells = claim_texels(texel_of(points, *texture.shape[1:]), cells, cell_count)
    total = torch.zeros(channels, cell_count).index_add_(1, cells, texture.reshape(channels, -1)[:, texels])
    return total, torch.bincount(cells, minlength=cell_count)


def surface_points(seen: SeenView) -> tuple[Tensor, Tensor]:
    """World points [P, 3] (float64) of the samples that show the surface, and the latent cell [P] that each falls into."""
    v, u = torch.meshgrid(*((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in seen.samples), indexing="ij")
    # The nearest pixel, not an interpolated one: between two surfaces an interpolated depth lies on neither.
    at = ((v * seen.alpha.shape[0]).long(), (u * seen.alpha.shape[1]).long())
    opacity, z = seen.alpha[at], seen.depth[at].double()
    shown = (opacity > seen.threshold) & (z > 0)
    u, v, z = u[shown, None], v[shown, None], z[shown, None]
    origin, corner, right, down = seen.rays
    cells = (v * seen.cells[0]).long() * seen.cells[1] + (u * seen.cells[1]).long()
    return origin + z * (corner + u * right + v * down), cells[:, 0]


def texel_of(points: Tensor, rows: int, columns: int) -> Tensor:
    """Flat texel index [P] of the direction of points [P, 3]: azimuth × z/|p|, so that all texels cover equal areas of the sphere."""
    x, y, z = torch.nn.functional.normalize(points, dim=1).unbind(1)
    column = (torch.atan2(y, x) / (2 * math.pi) * columns).floor().long() % columns
    row = ((1 - z) / 2 * rows).floor().long().clamp(0, rows - 1)
    return row * columns + column


def claim_texels(texels: Tensor, cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
    """Each texel once, with the cell that most of its samples fall into (the lowest-numbered of equals).

    texels, cells: [P] one pair a sample. Returns (texels, cells), each [number of distinct texels].
    """
    pairs, votes = torch.unique(texels * cell_count + cells, return_counts=True)
    by_votes = torch.argsort(votes, descending=True, stable=True)  # pairs are sorted, so equal votes keep the lower cell first
    by_texel = torch.argsort(pairs[by_votes] // cell_count, stable=True)
    ranked = pairs[by_votes][by_texel]
    texel = ranked // cell_count
    first = torch.ones_like(texel, dtype=torch.bool)
    first[1:] = texel[1:] != texel[:-1]
    return texel[first], ranked[first] % cell_count
