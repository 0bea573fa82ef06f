"""How good the network is on objects it has never seen: the error of x̂_0 at fixed noise levels, and a picture of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.sheets import Frame, contact_sheet, to_uint8
from fsd_gs.core.types import Cameras
from fsd_gs.pretrain.splat.batches import draw_batch, log_snr
from fsd_gs.pretrain.splat.loss import noised
from fsd_gs.pretrain.splat.objects import SplatExample, make_example
from fsd_gs.pretrain.splat.settings import SplatPretrainConfig
from fsd_gs.pretrain.splat.stream import make_splat_source
from fsd_gs.priors.splat.draw import draw, draw_gaussians
from fsd_gs.priors.splat.network import SIZE, SplatDenoiser
from fsd_gs.priors.splat.prior import SplatPrior
from fsd_gs.priors.splat.sampling import sample_splats

LEVELS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
HELD_OUT = 16
PREVIEW = ("a red chair", "a blue car", "a house", "a red mushroom", "a purple lamp", "a robot", "a guitar", "a green teapot")


def held_out_examples(config: SplatPretrainConfig, count: int = HELD_OUT) -> list[SplatExample]:
    """Objects and combinations that training never draws (of user meshes: the first ones)."""
    source = make_splat_source(config.data, held_out=True)
    return [make_example(source, config.data, config.network, 10**6 + k) for k in range(count)]


@torch.no_grad()
def errors(network: SplatDenoiser, examples: list[SplatExample], config: SplatPretrainConfig) -> dict[float, tuple[float, float]]:
    """t → (4 · mean squared error of the renders of the views seen, of other views); captions and backgrounds told, the same draw each
    time."""
    fixed = replace(
        config.train, objects=len(examples), drop_text=0.0, hide_background=0.0, odd_views=0.0, render_size=SIZE, targets=[4, 2]
    )
    generator = torch.Generator().manual_seed(1)
    batch = draw_batch(lambda n: examples[n], (0, len(examples)), config.data, fixed, config.network.text_rows, generator)
    result = {}
    for t in LEVELS:
        at = torch.full((len(examples),), t)
        batch = replace(batch, t=at, condition=replace(batch.condition, log_snr=log_snr(at)))
        seen, new = [], []
        for b in range(len(examples)):
            one = slice(b, b + 1)
            condition = replace(
                batch.condition,
                log_snr=batch.condition.log_snr[one],
                words=batch.condition.words[one],
                background=batch.condition.background[one],
                known=batch.condition.known[one],
            )
            field = network(noised(batch)[one], batch.rays[one], condition)
            rgb, _ = draw(field, 0, batch.cameras[b], batch.backgrounds[b])
            wanted = batch.targets[b][:, :3] + (1 - batch.targets[b][:, 3:]) * batch.backgrounds[b][:, None, None]
            error = 4 * (rgb - wanted).square().mean((1, 2, 3))
            seen.append(error[:4].mean().item())
            new.append(error[4:].mean().item())
        result[t] = (float(np.mean(seen)), float(np.mean(new)))
    return result


def preview_cameras(size: int, views: int = 4) -> Cameras:
    """``views`` cameras around the object from 20° beside its front, pictures of ``size`` pixels."""
    return orbit_cameras([20.0 + 360.0 / views * k for k in range(views)], 15.0, distance=2.2, fov_y_deg=49.1, width=size)


@torch.no_grad()
def preview(
    network: SplatDenoiser, captions: tuple[str, ...] = PREVIEW, *, seed: int = 0, steps: int = 16, cfg_scale: float = 3.0
) -> Frame:
    """uint8 [rows · 128, 6 · 128, 3]: each caption's sample from six sides on white."""
    prior, white, frames = SplatPrior(network), torch.ones(3), []
    seen, around = preview_cameras(SIZE), preview_cameras(128, 6)
    for caption in captions:
        noise = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        text = prior.encode_text(caption, "", seen, white)
        splats = sample_splats(prior, text, seen, noise, steps=steps, cfg_scale=cfg_scale)
        frames += [to_uint8(view.permute(1, 2, 0)) for view in draw_gaussians(splats, around, white)]
    return contact_sheet(frames, len(around), gap=0)
