"""What is learned from one object: its views, and where its visible surface lies in the grid of sub-voxels.

The surface comes from the views themselves: every pixel that is at least half covered is put back into space by its depth, and the
sub-voxels so hit, with the mean colour of their pixels, are the truth for the network's cells. So no gradient has to find geometry through
the rasterizer first, and hidden insides, which no view can tell, are not asked for. Everything follows from (seed, index of the object).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras
from fsd_gs.pretrain.sources import ObjectSource
from fsd_gs.pretrain.splat.settings import SplatDataSettings
from fsd_gs.pretrain.views import example_generator
from fsd_gs.priors.splat.network import NetworkSettings
from fsd_gs.priors.splat.volume import RADIUS

RIG = 4  # views of a rig
RIG_ELEVATION = (-5.0, 35.0)
STANDARD = (2.2, 49.1)  # distance and field of view of default runs; half of the rigs have them
MIN_COVERAGE = 0.5


@dataclass(frozen=True)
class SplatExample:
    """One object seen by A = 4 · rigs + free_views cameras.

    Attributes:
        views: [A, S, S, 4] uint8, sRGB premultiplied by coverage, and coverage.
        viewmats: [A, 4, 4].
        focal: [A] in image widths.
        voxels: [n] int32, sub-voxels (x slowest) that hold visible surface, ascending.
        colors: [n, 3] uint8, their sRGB.
        captions: wordings.
    """

    views: Tensor
    viewmats: Tensor
    focal: Tensor
    voxels: Tensor
    colors: Tensor
    captions: tuple[str, ...]


def make_example(source: ObjectSource, data: SplatDataSettings, network: NetworkSettings, index: int) -> SplatExample:
    """The object at ``index``."""
    rng = example_generator(data.seed, index)
    thing = source.draw(index)
    cameras = draw_cameras(data, rng)
    views, depths = thing.render_with_depth(cameras)
    voxels, colors = surface_voxels(views, depths, cameras, network.cells * network.emit_points)
    captions = tuple(thing.caption(rng) for _ in range(data.captions))
    focal = cameras.Ks[:, 1, 1] / cameras.height
    return SplatExample(
        (views * 255).round().to(torch.uint8), cameras.viewmats, focal, voxels, (colors * 255).round().to(torch.uint8), captions
    )


def draw_cameras(data: SplatDataSettings, rng: np.random.Generator) -> Cameras:
    """The rigs, then the free views."""
    azimuths: list[float] = []
    elevations: list[float] = []
    distances: list[float] = []
    fovs: list[float] = []
    for rig in range(data.rigs):
        distance, fov = STANDARD if rig % 2 == 0 else framed(data, rng)
        turn, elevation = rng.uniform(0.0, 360.0), rng.uniform(RIG_ELEVATION[0], RIG_ELEVATION[1])
        azimuths += [turn + 360.0 / RIG * k for k in range(RIG)]
        elevations += [elevation] * RIG
        distances += [distance] * RIG
        fovs += [fov] * RIG
    for _ in range(data.free_views):
        distance, fov = framed(data, rng)
        azimuths.append(rng.uniform(0.0, 360.0))
        elevations.append(rng.uniform(data.elevation_deg[0], data.elevation_deg[1]))
        distances.append(distance)
        fovs.append(fov)
    return orbit_cameras(azimuths, elevations, distance=distances, fov_y_deg=fovs, width=data.image_size)


def framed(data: SplatDataSettings, rng: np.random.Generator) -> tuple[float, float]:
    """A field of view and a distance at which the ball fills between 0.8 and 1.1 of the view's half height."""
    fov = rng.uniform(data.fov_y_deg[0], data.fov_y_deg[1])
    return RADIUS / (rng.uniform(0.8, 1.1) * math.sin(math.radians(fov / 2))), fov


def surface_voxels(views: Tensor, depths: Tensor, cameras: Cameras, side: int) -> tuple[Tensor, Tensor]:
    """views [A, S, S, 4] premultiplied, depths [A, S, S] → (sub-voxels [n] int32 of the grid side³ over [−R, R]³, colours [n, 3])."""
    covered = views[..., 3] >= MIN_COVERAGE
    which, rows, columns = covered.nonzero(as_tuple=True)
    z = depths[covered].double()
    Ks = cameras.Ks.double()[which]
    x = (columns + 0.5 - Ks[:, 0, 2]) / Ks[:, 0, 0] * z
    y = (rows + 0.5 - Ks[:, 1, 2]) / Ks[:, 1, 1] * z
    poses = cameras.viewmats.double()[which]
    points = ((torch.stack([x, y, z], dim=1) - poses[:, :3, 3])[:, None] @ poses[:, :3, :3])[:, 0]
    cells = ((points + RADIUS) / (2 * RADIUS) * side).floor().long()
    within = ((cells >= 0) & (cells < side)).all(1)
    flat = ((cells[:, 0] * side + cells[:, 1]) * side + cells[:, 2])[within]
    colors = (views[covered][:, :3] / views[covered][:, 3:])[within]
    voxels, place, count = flat.unique(return_inverse=True, return_counts=True)
    total = torch.zeros(len(voxels), 3, dtype=colors.dtype).index_add_(0, place, colors)
    return voxels.to(torch.int32), (total / count[:, None]).clamp(0, 1)
