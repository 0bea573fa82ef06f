"""Orbit cameras: look-at matrices, samplers for training, evaluation orbits, and the OpenGL conversion for the edges.

A camera at azimuth a, elevation e, distance d sits at d (cos e cos a, cos e sin a, sin e) and looks at the origin with z up.
No jitter anywhere: a fixed noise ε(c) is aligned with the camera's angles, and jitter would break the alignment (FSD, §4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.orbit import OrbitSettings
from fsd_gs.core.types import Cameras
from fsd_gs.errors import InputError

Angles = Sequence[float] | Tensor | float


def orbit_positions(azimuths_deg: Tensor, elevations_deg: Tensor, distances: Tensor) -> Tensor:
    """[V, 3] positions on the orbit."""
    azimuth, elevation = torch.deg2rad(azimuths_deg), torch.deg2rad(elevations_deg)
    directions = torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], dim=1)
    return distances[:, None] * directions


def look_at(positions: Tensor, azimuths_deg: Tensor) -> Tensor:
    """viewmats [V, 4, 4] camera_from_world of OpenCV cameras at ``positions`` [V, 3] that look at the origin, z up.

    The azimuth fixes the right vector (−sin a, cos a, 0), so straight up and straight down are well defined too.
    """
    forward = torch.nn.functional.normalize(-positions, dim=1)
    azimuth = torch.deg2rad(azimuths_deg)
    right = torch.stack([-azimuth.sin(), azimuth.cos(), torch.zeros_like(azimuth)], dim=1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=1)  # rows: camera axes in the world
    viewmats = torch.eye(4, dtype=positions.dtype, device=positions.device).repeat(len(positions), 1, 1)
    viewmats[:, :3, :3] = rotation
    viewmats[:, :3, 3] = -(rotation @ positions[:, :, None])[:, :, 0]
    return viewmats


def intrinsics(fov_y_deg: Tensor, width: int, height: int) -> Tensor:
    """Ks [V, 3, 3] in pixels for square pixels and a centred principal point."""
    focal = height / (2 * torch.tan(torch.deg2rad(fov_y_deg) / 2))
    Ks = torch.zeros(len(fov_y_deg), 3, 3, dtype=fov_y_deg.dtype, device=fov_y_deg.device)
    Ks[:, 0, 0], Ks[:, 1, 1], Ks[:, 2, 2] = focal, focal, 1.0
    Ks[:, 0, 2], Ks[:, 1, 2] = width / 2, height / 2
    return Ks


def pixel_rays(cameras: Cameras, like: Tensor) -> Tensor:
    """K⁻¹ (u, v, 1) [V, H, W, 3] for the centres of all pixels, in the cameras' own axes (x right, y down, depth 1 along z); of the dtype
    and on the device of ``like``."""
    v, u = torch.meshgrid(
        *(torch.arange(n, dtype=like.dtype, device=like.device) + 0.5 for n in (cameras.height, cameras.width)), indexing="ij"
    )
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1)
    return torch.einsum("vij,hwj->vhwi", torch.linalg.inv(cameras.Ks.to(like)), pixels)


def back_project(depth: Tensor, cameras: Cameras) -> Tensor:
    """World points [V, H, W, 3] of depth maps [V, H, W, 1] (along z)."""
    world_from_camera = cameras.world_from_camera.to(depth)
    points = torch.einsum("vij,vhwj->vhwi", world_from_camera[:, :3, :3], pixel_rays(cameras, depth) * depth)
    return points + world_from_camera[:, None, None, :3, 3]


def orbit_cameras(
    azimuths_deg: Angles,
    elevations_deg: Angles = 15.0,
    *,
    distance: Angles = 2.5,
    fov_y_deg: Angles = 49.1,
    width: int = 128,
    height: int | None = None,
    device: torch.device | str = "cpu",
) -> Cameras:
    """Cameras on an orbit around the origin; every angle may be one number or one per view.

    azimuths_deg: 0 = from +x, 90 = from +y. elevations_deg: in [−90, 90]. distance: > 0. fov_y_deg: in (0, 180).
    width, height: pixels; ``height`` defaults to ``width``.
    """
    values = [torch.atleast_1d(torch.as_tensor(v, dtype=torch.float64)) for v in (azimuths_deg, elevations_deg, distance, fov_y_deg)]
    views = max(len(v) for v in values)
    if any(len(v) not in (1, views) for v in values):
        raise InputError(f"orbit_cameras: expected one value or {views} for each angle, got lengths {[len(v) for v in values]}")
    azimuths, elevations, distances, fovs = (v.expand(views) for v in values)
    if (distances <= 0).any():
        raise InputError(f"distance: expected values above 0, got {distances.min().item():g}")
    if ((fovs <= 0) | (fovs >= 180)).any():
        raise InputError(f"fov_y_deg: expected values in (0, 180), got {fovs.min().item():g} to {fovs.max().item():g}")
    if (elevations.abs() > 90).any():
        raise InputError(f"elevations_deg: expected values in [-90, 90], got {elevations.min().item():g} to {elevations.max().item():g}")
    height = width if height is None else height
    viewmats = look_at(orbit_positions(azimuths, elevations, distances), azimuths)
    return Cameras(viewmats, intrinsics(fovs, width, height), width, height).to(device, torch.float32)


def evaluation_orbit(
    views: int = 24,
    *,
    elevation_deg: float = 15.0,
    distance: float = 2.5,
    fov_y_deg: float = 49.1,
    width: int = 128,
    height: int | None = None,
    device: torch.device | str = "cpu",
) -> Cameras:
    """``views`` evenly spaced azimuths from 0°, one elevation: turntables, previews and metrics."""
    if views < 1:
        raise InputError(f"views: expected at least 1, got {views}")
    azimuths = [360.0 * i / views for i in range(views)]
    return orbit_cameras(azimuths, elevation_deg, distance=distance, fov_y_deg=fov_y_deg, width=width, height=height, device=device)


def distance_for_radius(radius: float, fov_y_deg: float, margin: float = 1.05) -> float:
    """Distance at which a ball of ``radius`` fills the image height, times ``margin``: r / sin(fov/2)."""
    return margin * radius / math.sin(math.radians(fov_y_deg) / 2)


@dataclass(frozen=True)
class OrbitSampler(OrbitSettings):
    """Draws a batch of training cameras of ``width`` × ``height`` pixels; the same generator state gives the same batch.

    azimuth_grid: 0 draws continuous azimuths; a number snaps the rotation to that many azimuths (a multiple of ``views``) and the
    elevation to ``elevation_grid`` values, so that a prior with a finite set of renders can cache them.
    """

    width: int = 128
    height: int = 128

    def __call__(self, generator: torch.Generator) -> Cameras:
        def uniform(bounds: tuple[float, float], count: int = 1) -> Tensor:
            return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, generator=generator, dtype=torch.float64)

        spacing = 360.0 / self.views
        rotation = uniform((0.0, spacing))
        if self.azimuth_grid:
            per_view = self.azimuth_grid // self.views
            rotation = (rotation / spacing * per_view).floor() * (360.0 / self.azimuth_grid)
        azimuths = rotation + spacing * torch.arange(self.views, dtype=torch.float64)
        elevations = self._snap_elevation(uniform(self.elevation_deg, 1 if self.same_elevation else self.views)).expand(self.views)
        return orbit_cameras(
            azimuths, elevations, distance=uniform(self.distance), fov_y_deg=uniform(self.fov_y_deg), width=self.width, height=self.height
        )

    def _snap_elevation(self, elevations: Tensor) -> Tensor:
        low, high = self.elevation_deg
        if self.elevation_grid < 2 or high == low:
            return elevations if not self.elevation_grid else torch.full_like(elevations, (low + high) / 2)
        step = (high - low) / (self.elevation_grid - 1)
        return low + ((elevations - low) / step).round() * step


def opengl_from_opencv(world_from_camera: Tensor) -> Tensor:
    """Camera-to-world [..., 4, 4] with OpenGL axes (x right, y up, z backward) from OpenCV ones; its own inverse."""
    return world_from_camera * world_from_camera.new_tensor([1.0, -1.0, -1.0, 1.0])
