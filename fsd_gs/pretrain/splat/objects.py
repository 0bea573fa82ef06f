"""What is learned from one object: its views, and how far away its surface is in every pixel of them.

Depths come with the renders, so no gradient has to find geometry through the rasterizer first. Everything follows from (seed, index of the
object).
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
from fsd_gs.pretrain.splat.settings import SIZE, SplatDataSettings
from fsd_gs.pretrain.views import example_generator
from fsd_gs.priors.splat.volume import RADIUS

RIG = 4  # views of a rig
RIG_ELEVATION = (-5.0, 35.0)
STANDARD = (2.2, 49.1)  # distance and field of view of default runs; half of the rigs have them


@dataclass(frozen=True)
class SplatExample:
    """One object seen by A = 4 · rigs + free_views cameras.

    Attributes:
        views: [A, S, S, 4] uint8, sRGB premultiplied by coverage, and coverage.
        viewmats: [A, 4, 4].
        focal: [A] in image widths.
        depths: [A, 64, 64] float16 along z of the nearest surface in each pixel of 64, 0 where there is none.
        captions: wordings.
    """

    views: Tensor
    depths: Tensor
    viewmats: Tensor
    focal: Tensor
    captions: tuple[str, ...]


def make_example(source: ObjectSource, data: SplatDataSettings, index: int) -> SplatExample:
    """The object at ``index``."""
    rng = example_generator(data.seed, index)
    thing = source.draw(index)
    cameras = draw_cameras(data, rng)
    views, depths = thing.render_with_depth(cameras)
    captions = tuple(thing.caption(rng) for _ in range(data.captions))
    focal = cameras.Ks[:, 1, 1] / cameras.height
    return SplatExample((views * 255).round().to(torch.uint8), nearest_depths(depths, SIZE).half(), cameras.viewmats, focal, captions)


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


def nearest_depths(depths: Tensor, size: int) -> Tensor:
    """[A, S, S], 0 where nothing is → the least of each block, [A, size, size]."""
    far = torch.where(depths > 0, depths, depths.new_tensor(torch.inf))
    nearest = -torch.nn.functional.max_pool2d(-far[:, None], depths.shape[1] // size)[:, 0]
    return torch.where(nearest.isfinite(), nearest, torch.zeros_like(nearest))
