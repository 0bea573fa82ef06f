"""Orbit cameras: look-at matrices, samplers for training, evaluation orbits, and the OpenGL conversion for the edges.

A camera at azimuth a, elevation e, distance d sits at d (cos e cos a, cos e sin a, sin e) and looks at the origin with z up.
No jitter anywhere: a fixed noise ε(c) is aligned with the camera's angles, and jitter would break the alignment (FSD, §4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsd_gs.core.orbit import OrbitSettings
from fsd_gs.core.types import Cameras
from fsd_gs.errors import InputError

Angles = Sequence[float] | Tensor | float


def orbit_viewmats(azimuths_deg: NDArray, elevations_deg: NDArray, distances: NDArray) -> NDArray:
    """viewmats [V, 4, 4] camera_from_world of OpenCV cameras on the orbit, that look at the origin, z up.

    The azimuth fixes the right vector (−sin a, cos a, 0), so straight up and straight down are well defined too.
    """
    azimuths, elevations = np.deg2rad(azimuths_deg), np.deg2rad(elevations_deg)
    cos_a, sin_a, cos_e, sin_e = np.cos(azimuths), np.sin(azimuths), np.cos(elevations), np.sin(elevations)
    viewmats = np.zeros((len(distances), 4, 4))
    viewmats[:, 0, 0], viewmats[:, 0, 1] = -sin_a, cos_a  # right
    viewmats[:, 1, 0], viewmats[:, 1, 1], viewmats[:, 1, 2] = sin_e * cos_a, sin_e * sin_a, -cos_e  # down = forward × right
    viewmats[:, 2, 0], viewmats[:, 2, 1], viewmats[:, 2, 2] = -cos_e * cos_a, -cos_e * sin_a, -sin_e  # forward
    viewmats[:, 2, 3] = distances  # the origin lies in the middle of the image
    viewmats[:, 3, 3] = 1
    return viewmats


def intrinsics(fov_y_deg: NDArray, width: int, height: int) -> NDArray:
    """Ks [V, 3, 3] in pixels for square pixels and a centred principal point."""
    focal = height / (2 * np.tan(np.deg2rad(fov_y_deg) / 2))
    Ks = np.zeros((len(fov_y_deg), 3, 3))
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
    values = [_numbers(v) for v in (azimuths_deg, elevations_deg, distance, fov_y_deg)]
    views = max(len(v) for v in values)
    if any(len(v) not in (1, views) for v in values):
        raise InputError(f"orbit_cameras: expected one value or {views} for each angle, got lengths {[len(v) for v in values]}")
    azimuths, elevations, distances, fovs = (v if len(v) == views else v.repeat(views) for v in values)
    if (distances <= 0).any():
        raise InputError(f"distance: expected values above 0, got {distances.min():g}")
    if ((fovs <= 0) | (fovs >= 180)).any():
        raise InputError(f"fov_y_deg: expected values in (0, 180), got {fovs.min():g} to {fovs.max():g}")
    if (abs(elevations) > 90).any():
        raise InputError(f"elevations_deg: expected values in [-90, 90], got {elevations.min():g} to {elevations.max():g}")
    height = width if height is None else height
    return cameras_from(orbit_viewmats(azimuths, elevations, distances), intrinsics(fovs, width, height), width, height, device)


def cameras_from(viewmats: NDArray, Ks: NDArray, width: int, height: int, device: torch.device | str = "cpu") -> Cameras:
    """Float32 cameras of viewmats [V, 4, 4] and Ks [V, 3, 3], which are made with numpy: they are a few numbers a step, on which most of
    torch's time is overhead."""
    as_tensor = [torch.from_numpy(values.astype(np.float32)).to(device) for values in (viewmats, Ks)]
    return Cameras(as_tensor[0], as_tensor[1], width, height)


def _numbers(values: Angles) -> NDArray:
    """[n] in float64."""
    return np.atleast_1d(np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64))


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
        def uniform(bounds: tuple[float, float], count: int = 1) -> list[float]:
            drawn = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
            return [bounds[0] + (bounds[1] - bounds[0]) * u for u in drawn]

        spacing = 360.0 / self.views
        (rotation,) = uniform((0.0, spacing))
        if self.azimuth_grid:
            per_view = self.azimuth_grid // self.views
            rotation = math.floor(rotation / spacing * per_view) * (360.0 / self.azimuth_grid)
        azimuths = [rotation + spacing * view for view in range(self.views)]
        elevations = [self._snap_elevation(e) for e in uniform(self.elevation_deg, 1 if self.same_elevation else self.views)]
        return orbit_cameras(
            azimuths, elevations, distance=uniform(self.distance), fov_y_deg=uniform(self.fov_y_deg), width=self.width, height=self.height
        )

    def _snap_elevation(self, elevation: float) -> float:
        low, high = self.elevation_deg
        if self.elevation_grid < 2 or high == low:
            return elevation if not self.elevation_grid else (low + high) / 2
        step = (high - low) / (self.elevation_grid - 1)
        return low + round((elevation - low) / step) * step


def opengl_from_opencv(world_from_camera: Tensor) -> Tensor:
    """Camera-to-world [..., 4, 4] with OpenGL axes (x right, y up, z backward) from OpenCV ones; its own inverse."""
    return world_from_camera * world_from_camera.new_tensor([1.0, -1.0, -1.0, 1.0])
