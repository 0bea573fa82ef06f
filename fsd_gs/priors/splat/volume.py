"""The volume in which the views meet: a grid around the object, what the views show at its points, and how far a ray gets through it.

The object lies in the ball of radius R at the origin (the catalogue and user meshes are scaled to R = 0.9). The cube [−R, R]³ is cut into
side³ voxels.

A point X is seen by a camera (R_c, t_c, K) at pixel u = K (R_c X + t_c) / z; :func:`sample_views` reads feature maps there, bilinearly
("unprojection", as in DMV3D, arXiv 2311.09217, and MVSNet before it).

A ray through voxels of opacity α stops at its sample i with w_i = α_i Π_{j<i} (1 − α_j) (emission and absorption, as in NeRF, arXiv
2003.08934); :func:`march` gives these weights. Both have a readable twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fsd_gs.core.types import Cameras

RADIUS = 0.9  # of the ball that every training object fills
MARGIN = 0.05  # around it that may hold something, too
EMPTY = -12.0  # logit of the opacity outside


@dataclass(frozen=True)
class Rays:
    """V pinhole cameras in units of the image, so that they hold for any number of pixels.

    Attributes:
        viewmats: [..., V, 4, 4] camera_from_world, OpenCV axes.
        focal: [..., V, 2] and center: [..., V, 2], x and y, as shares of the image's width and height.
    """

    viewmats: Tensor
    focal: Tensor
    center: Tensor

    @staticmethod
    def of(cameras: Cameras) -> Rays:
        size = cameras.Ks.new_tensor([cameras.width, cameras.height])
        focal = torch.stack([cameras.Ks[:, 0, 0], cameras.Ks[:, 1, 1]], dim=-1)
        return Rays(cameras.viewmats, focal / size, cameras.Ks[:, :2, 2] / size)

    def __getitem__(self, index: int | slice | Tensor) -> Rays:
        return Rays(self.viewmats[index], self.focal[index], self.center[index])

    @property
    def positions(self) -> Tensor:
        """[..., V, 3] camera centres in the world."""
        rotation, translation = self.viewmats[..., :3, :3], self.viewmats[..., :3, 3:]
        return -(rotation.transpose(-1, -2) @ translation)[..., 0]


def stack_rays(rays: list[Rays]) -> Rays:
    """One more axis in front: [B, V, …]."""
    return Rays(*(torch.stack([getattr(r, name) for r in rays]) for name in ("viewmats", "focal", "center")))


def voxel_centers(side: int) -> Tensor:
    """[side³, 3]: centres of the voxels of [−R, R]³; x slowest."""
    axis = (torch.arange(side) + 0.5) / side * 2 * RADIUS - RADIUS
    return torch.cartesian_prod(axis, axis, axis)


def block_places(voxels: Tensor, side: int) -> Tensor:
    """[n] int64: where voxels [n] of the grid side³ (even) lie in the grid of blocks of 2³, 8 · block + corner, both with x slowest."""
    x, y, z = voxels // side**2, voxels // side % side, voxels % side
    half = side // 2
    return 8 * (((x // 2) * half + y // 2) * half + z // 2) + 4 * (x % 2) + 2 * (y % 2) + z % 2


def from_blocks(blocks: Tensor) -> Tensor:
    """[B, h³, 8] values of blocks of 2³ voxels → [B, 2h, 2h, 2h], the grid by x, y, z."""
    half = round(blocks.shape[1] ** (1 / 3))
    return blocks.view(-1, half, half, half, 2, 2, 2).permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, *[2 * half] * 3)


def project(points: Tensor, rays: Rays) -> tuple[Tensor, Tensor]:
    """points [B, N, 3] → (places [B, V, N, 2] in [0, 1] where inside the image, depths [B, V, N] along z)."""
    # One product for all views: a batch of 3 × 3 matrices is ten times slower.
    in_camera = torch.einsum("bnk,bvjk->bvnj", points, rays.viewmats[..., :3, :3]) + rays.viewmats[..., None, :3, 3]
    depths = in_camera[..., 2]
    places = in_camera[..., :2] / depths.clamp_min(1e-3)[..., None] * rays.focal[..., None, :] + rays.center[..., None, :]
    return places, depths


def sample_views(maps: Tensor, places: Tensor) -> Tensor:
    """maps [B, V, C, h, w] at places [B, V, N, 2] in [0, 1] → [B, V, C, N]; 0 outside the image."""
    B, V, C = maps.shape[:3]
    grid = (2 * places - 1).flatten(0, 1)[:, None]
    return F.grid_sample(maps.flatten(0, 1), grid, align_corners=False).view(B, V, C, -1)


def sample_views_slowly(maps: Tensor, places: Tensor) -> Tensor:
    """:func:`sample_views` a point at a time: the four pixels around u weighted by the opposite areas."""
    B, V, C, height, width = maps.shape
    result = torch.zeros(B, V, C, places.shape[2], dtype=maps.dtype)
    for b in range(B):
        for v in range(V):
            for n in range(places.shape[2]):
                x, y = float(places[b, v, n, 0]) * width - 0.5, float(places[b, v, n, 1]) * height - 0.5
                left, top = int(x // 1), int(y // 1)
                for column in (left, left + 1):
                    for row in (top, top + 1):
                        if 0 <= column < width and 0 <= row < height:
                            weight = (1 - abs(x - column)) * (1 - abs(y - row))
                            result[b, v, :, n] += weight * maps[b, v, :, row, column]
    return result


def inside(places: Tensor, depths: Tensor) -> Tensor:
    """[B, V, N] 1 where the camera sees the point's place, else 0."""
    return ((places > 0) & (places < 1)).all(-1).logical_and(depths > 0.05).to(places.dtype)


def mean_and_deviation(values: Tensor, weights: Tensor, spread: int) -> tuple[Tensor, Tensor]:
    """Over the views: values [B, V, C, N], weights [B, V, N] ≥ 0 → mean [B, C, N] and, of the first ``spread`` channels, the standard
    deviation [B, spread, N]; about 0 where no view counts."""
    shares = (weights / weights.sum(1, keepdim=True).clamp_min(1e-6))[:, :, None]
    weighted = values * shares
    mean = weighted.sum(1)
    square = (weighted[:, :, :spread] * values[:, :, :spread]).sum(1)
    return mean, ((square - mean[:, :spread] ** 2).clamp_min(0) + 1e-4).sqrt()  # √ has no slope at 0


@dataclass(frozen=True)
class Stops:
    """Where P rays end in the volume, by samples along them.

    Attributes:
        depths: [P, n] along the camera's z axis, rising.
        weights: [P, n] the share of the ray that ends at each.
        through: [P] the share that ends nowhere.
    """

    depths: Tensor
    weights: Tensor
    through: Tensor


def march(logits: Tensor, origins: Tensor, directions: Tensor, distances: Tensor, samples: int) -> Stops:
    """Follow rays through the volume.

    Args:
        logits: [s, s, s] of the voxels' opacities, by x, y, z; read trilinearly, nothing outside the ball.
        origins: [P, 3] camera centres.
        directions: [P, 3] of length 1 along the camera's z axis.
        distances: [P] of the cameras from the origin of the world; the rays are followed from R before it to R behind.
        samples: steps along each.
    """
    steps = (torch.arange(samples, device=logits.device, dtype=logits.dtype) + 0.5) / samples * (2 * RADIUS) - RADIUS
    depths = distances[:, None] + steps
    start, along = (origins / RADIUS).flip(-1), (directions / RADIUS).flip(-1)  # grid_sample counts x along the last axis
    places = torch.addcmul(start[:, None], along[:, None], depths[..., None])
    read = F.grid_sample(logits[None, None], places[None, None], align_corners=False, padding_mode="border")[0, 0, 0]
    oo, od, dd = ((p * q).sum(1, keepdim=True) for p, q in ((origins, origins), (origins, directions), (directions, directions)))
    outside = (dd * depths + 2 * od) * depths + oo > (RADIUS + MARGIN) ** 2  # |o + z d|²
    alphas = read.masked_fill(outside, EMPTY).sigmoid()
    passed = torch.cumprod(torch.cat([torch.ones_like(alphas[:, :1]), 1 - alphas + 1e-6], dim=1), dim=1)
    return Stops(depths, alphas * passed[:, :-1], passed[:, -1])


def march_slowly(logits: Tensor, origins: Tensor, directions: Tensor, distances: Tensor, samples: int) -> Stops:
    """:func:`march` a sample at a time."""
    side, depths, weights, through = logits.shape[0], [], [], []
    for origin, direction, distance in zip(origins, directions, distances, strict=True):
        left = torch.ones((), dtype=logits.dtype)
        for k in range(samples):
            depth = distance - RADIUS + (k + 0.5) / samples * 2 * RADIUS
            point = origin + direction * depth
            if point.norm() > RADIUS + MARGIN:
                alpha = torch.tensor(EMPTY, dtype=logits.dtype).sigmoid()
            else:
                alpha = _trilinear(logits, ((point + RADIUS) / (2 * RADIUS) * side - 0.5).clamp(0, side - 1)).sigmoid()
            depths.append(depth)
            weights.append(alpha * left)
            left = left * (1 - alpha + 1e-6)
        through.append(left)
    count = len(origins)
    return Stops(torch.stack(depths).view(count, -1), torch.stack(weights).view(count, -1), torch.stack(through))


def _trilinear(values: Tensor, place: Tensor) -> Tensor:
    low = place.floor().long().clamp(0, values.shape[0] - 1)
    total = values.new_zeros(())
    for corner in range(8):
        at = [min(int(low[a]) + (corner >> a & 1), values.shape[0] - 1) for a in range(3)]
        share = [place[a] - low[a] if corner >> a & 1 else 1 - (place[a] - low[a]) for a in range(3)]
        total = total + values[at[0], at[1], at[2]] * share[0] * share[1] * share[2]
    return total
