"""The volume in which the network thinks: a grid of cells around the object, and what the views show at its points.

The object lies in the ball of radius R at the origin (the catalogue and user meshes are scaled to R = 0.9). The cube [−R, R]³ is cut into
T³ cells; those that the ball touches are the tokens of the transformer. A cell holds p³ points, the centres of its sub-voxels.

A point X is seen by a camera (R_c, t_c, K) at pixel u = K (R_c X + t_c) / z; :func:`sample_views` reads feature maps there, bilinearly
("unprojection", as in DMV3D, arXiv 2311.09217, and MVSNet before it), and :func:`sample_views_slowly` is its readable twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras

RADIUS = 0.9  # of the ball that every training object fills


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

    def __getitem__(self, index: slice | Tensor) -> Rays:
        return Rays(self.viewmats[index], self.focal[index], self.center[index])

    @property
    def positions(self) -> Tensor:
        """[..., V, 3] camera centres in the world."""
        rotation, translation = self.viewmats[..., :3, :3], self.viewmats[..., :3, 3:]
        return -(rotation.transpose(-1, -2) @ translation)[..., 0]


def stack_rays(rays: list[Rays]) -> Rays:
    """One more axis in front: [B, V, …]."""
    return Rays(*(torch.stack([getattr(r, name) for r in rays]) for name in ("viewmats", "focal", "center")))


def cell_centers(cells: int) -> Tensor:
    """[N, 3]: centres of the cells of the grid cells³ over [−R, R]³ that the ball touches; x slowest."""
    edge = 2 * RADIUS / cells
    axis = (torch.arange(cells) + 0.5) * edge - RADIUS
    centers = torch.cartesian_prod(axis, axis, axis)
    nearest = (centers.abs() - edge / 2).clamp_min(0).norm(dim=1)
    return centers[nearest < RADIUS]


def cell_points(cells: int, points: int) -> Tensor:
    """[points³, 3]: the centres of a cell's sub-voxels, relative to the cell's centre; x slowest."""
    edge = 2 * RADIUS / cells
    axis = ((torch.arange(points) + 0.5) / points - 0.5) * edge
    return torch.cartesian_prod(axis, axis, axis)


def block_places(cells: int, points: int) -> Tensor:
    """[N, points³] int64: where each sub-voxel of :func:`cell_points` lies in the grid of blocks of 2³ sub-voxels, 8 · block + corner, both
    with x slowest; cells · points must be even."""
    centers, offsets = cell_centers(cells), cell_points(cells, points)
    side = cells * points
    x, y, z = ((centers[:, None] + offsets + RADIUS) / (2 * RADIUS) * side).floor().long().unbind(-1)
    half = side // 2
    block = ((x // 2) * half + y // 2) * half + z // 2
    return 8 * block + 4 * (x % 2) + 2 * (y % 2) + z % 2


def project(points: Tensor, rays: Rays) -> tuple[Tensor, Tensor]:
    """points [B, N, 3] → (places [B, V, N, 2] in [0, 1] where inside the image, depths [B, V, N] along z)."""
    in_camera = points[:, None] @ rays.viewmats[..., :3, :3].transpose(-1, -2) + rays.viewmats[..., None, :3, 3]
    depths = in_camera[..., 2]
    places = in_camera[..., :2] / depths.clamp_min(1e-3)[..., None] * rays.focal[..., None, :] + rays.center[..., None, :]
    return places, depths


def sample_views(maps: Tensor, places: Tensor) -> Tensor:
    """maps [B, V, C, h, w] at places [B, V, N, 2] in [0, 1] → [B, V, C, N]; 0 outside the image."""
    B, V, C = maps.shape[:3]
    grid = (2 * places - 1).flatten(0, 1)[:, None]
    return torch.nn.functional.grid_sample(maps.flatten(0, 1), grid, align_corners=False).view(B, V, C, -1)


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
