"""How good the network is on objects it has never seen: the error of x̂_0 at fixed noise levels, and a picture of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.sheets import Frame, contact_sheet, to_uint8
from fsd_gs.core.types import Cameras
from fsd_gs.pretrain.splat.batches import draw_batch
from fsd_gs.pretrain.splat.loss import noised, render_errors
from fsd_gs.pretrain.splat.model import SplatModel
from fsd_gs.pretrain.splat.objects import SplatExample, make_example
from fsd_gs.pretrain.splat.settings import SplatPretrainConfig
from fsd_gs.pretrain.splat.stream import make_splat_source
from fsd_gs.priors.base import SplatNativePrior
from fsd_gs.priors.splat.sampling import sample_splats
from fsd_gs.render.base import make_rasterizer

LEVELS = (100, 200, 400, 600, 800, 950)  # timesteps of 1000
HELD_OUT = 16
PREVIEW = ("a red chair", "a blue car", "a house", "a red mushroom", "a purple lamp", "a robot", "a guitar", "a green teapot")


def held_out_examples(config: SplatPretrainConfig, count: int = HELD_OUT) -> list[SplatExample]:
    """Objects and combinations that training never draws (of user meshes: the first ones)."""
    source = make_splat_source(config.data, held_out=True)
    return [make_example(source, config.data, 10**6 + k) for k in range(count)]


@torch.no_grad()
def errors(
    model: SplatModel, examples: list[SplatExample], config: SplatPretrainConfig, dtype: torch.dtype
) -> dict[int, tuple[float, float]]:
    """Timestep → (4 · mean squared error of the renders of the views seen, of other views); captions told, the same draw each time.
    Where an example has no other views, their error is 0."""
    fixed = replace(config.train, objects=len(examples), drop_text=0.0, odd_views=0.0, fine=0.0, targets=[4, 2])
    generator = torch.Generator().manual_seed(1)
    batch = draw_batch(lambda n: examples[n], (0, len(examples)), config.data, fixed, generator)
    result = {}
    for level in LEVELS:
        at = replace(batch, n=torch.full((len(examples),), level), noise=torch.Generator().manual_seed(level)).to(model.head.mean.device)
        _, x_t, alpha, sigma = noised(model, at)
        maps = model(x_t, at, alpha, sigma, dtype)
        seen, new = [], []
        for b in range(len(examples)):
            error, _ = render_errors(model.head.gaussians(maps, b, at.rays), at, b)
            seen.append(error[:4].mean().item())
            new.append(error[4:].mean().item() if len(error) > 4 else 0.0)
        result[level] = (round(float(np.mean(seen)), 5), round(float(np.mean(new)), 5))
    return result


def preview_cameras(size: int, views: int = 4) -> Cameras:
    """``views`` cameras around the object from 20° beside its front, pictures of ``size`` pixels."""
    return orbit_cameras([20.0 + 360.0 / views * k for k in range(views)], 15.0, distance=2.2, fov_y_deg=49.1, width=size)


@torch.no_grad()
def preview(
    prior: SplatNativePrior, captions: tuple[str, ...] = PREVIEW, *, seed: int = 0, steps: int = 16, cfg_scale: float = 3.0
) -> Frame:
    """uint8 [rows · 128, 6 · 128, 3]: each caption's sample from six sides on white."""
    white, frames, seen, around = torch.ones(3), [], preview_cameras(prior.image_size), preview_cameras(128, 6)
    renderer = make_rasterizer()
    for caption in captions:
        noise = torch.randn(4, *prior.latent_shape, generator=torch.Generator().manual_seed(seed))
        text = prior.encode_text(caption, "", seen, white)
        splats = sample_splats(prior, text, seen, noise, steps=steps, cfg_scale=cfg_scale)
        frames += [to_uint8(view) for view in renderer(splats, around, background=white).rgb]
    return contact_sheet(frames, len(around), gap=0)
