"""Pictures to learn from: each object seen by rigs of cameras, composited over a background that the caption can name.

A rig is ``views`` cameras 360°/views apart with one random turn and one random elevation (as MVDream was trained, arXiv 2308.16512);
all views of a rig share their background. Backgrounds are black, white and mid grey, as runs use them, or any colour; the caption names
the nearest of a small palette, so "…, on a white background" tells the prior what a renderer knows for certain. Everything follows from
(seed, index of the object).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.backgrounds import composite
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras
from fsd_gs.pretrain.mixture import beside_meshes
from fsd_gs.pretrain.settings import DataSettings
from fsd_gs.pretrain.sources import CatalogueSource, ObjectSource
from fsd_gs.priors.backbones.mvdream import camera_numbers


@dataclass(frozen=True)
class Example:
    """One object of the training set. images [R, V, 3, H, W] in [0, 1]; cameras [R, V, 16]; backgrounds [R, 3]; captions without
    background."""

    images: Tensor
    cameras: Tensor
    backgrounds: Tensor
    captions: tuple[str, ...]


def make_source(data: DataSettings) -> ObjectSource:
    """The catalogue, the user's own meshes, or a mixture of both."""
    catalogue = CatalogueSource(data.seed, categories=tuple(data.categories), often=tuple(data.often), supersample=data.supersample)
    return beside_meshes(catalogue, data)


def example_generator(seed: int, index: int) -> np.random.Generator:
    """The random stream of the object at ``index``: the same on every machine."""
    digest = hashlib.sha256(f"example\0{seed}\0{index}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def draw_background(rng: np.random.Generator) -> tuple[float, float, float]:
    """sRGB: black, white or grey half of the time, else uniform."""
    kind = rng.random()
    if kind < 0.55:
        level = 0.0 if kind < 0.22 else 1.0 if kind < 0.44 else 0.5
        return (level, level, level)
    red, green, blue = rng.random(3)
    return (float(red), float(green), float(blue))


def rig_cameras(data: DataSettings, rng: np.random.Generator) -> Cameras:
    """One rig: ``data.views`` cameras around the object."""
    low, high = data.elevation_deg
    turn, elevation = rng.uniform(0.0, 360.0), rng.uniform(low, high)
    azimuths = turn + 360.0 / data.views * torch.arange(data.views, dtype=torch.float64)
    return orbit_cameras(azimuths, elevation, distance=data.distance, fov_y_deg=data.fov_y_deg, width=data.image_size)


def make_example(source: ObjectSource, data: DataSettings, index: int) -> Example:
    """The object at ``index`` with its views and captions."""
    rng = example_generator(data.seed, index)
    thing = source.draw(index)
    images, numbers, backgrounds = [], [], []
    for _ in range(data.rigs):
        cameras, background = rig_cameras(data, rng), torch.tensor(draw_background(rng))
        rgba = thing.render(cameras)
        images.append(picture_over(rgba, background))
        numbers.append(camera_numbers(cameras))
        backgrounds.append(background)
    captions = tuple(thing.caption(rng) for _ in range(data.captions))
    return Example(torch.stack(images), torch.stack(numbers), torch.stack(backgrounds), captions)


def picture_over(rgba: Tensor, background: Tensor) -> Tensor:
    """Premultiplied [V, H, W, 4] over a colour [3] → [V, 3, H, W] in [0, 1]."""
    return composite(rgba.permute(0, 3, 1, 2), background[:, None, None]).clamp(0, 1).contiguous()
