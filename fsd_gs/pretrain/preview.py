"""A look at a prior in training: DDIM samples (arXiv 2010.02502) of a few captions, all views of each side by side.

    x_{t'} = α_{t'} x̂_0 + σ_{t'} ε̂   with   v̂ = v_∅ + s (v_y − v_∅),   all views of a caption in front of a white background

The training's captions come in their own words, so the picture needs no vocabulary and works for any data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsd_gs.core.backgrounds import in_front_of
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.sheets import contact_sheet
from fsd_gs.pretrain.diffusion import Denoiser, make_scheduler
from fsd_gs.pretrain.settings import DataSettings
from fsd_gs.priors.backbones.mvdream import camera_numbers
from fsd_gs.priors.schedule import combine_cfg

CFG_SCALE, STEPS, COUNT = 3.0, 30, 12


def preview_cameras(data: DataSettings) -> Tensor:
    """[V, 16] of a rig that starts 20° beside the front, at the middle elevation."""
    azimuths = 20.0 + 360.0 / data.views * torch.arange(data.views, dtype=torch.float64)
    cameras = orbit_cameras(azimuths, sum(data.elevation_deg) / 2, distance=data.distance, fov_y_deg=data.fov_y_deg, width=data.image_size)
    return camera_numbers(cameras).float()


def preview_captions(captions: Sequence[tuple[str, ...]], count: int = COUNT) -> list[str]:
    """``count`` captions of different objects, the shortest of each, spread over the training set."""
    shortest = list(dict.fromkeys(min(texts, key=len) for texts in captions))
    return shortest[:: max(1, len(shortest) // count)][:count]


@torch.no_grad()
def sample(
    denoiser: Denoiser, captions: Sequence[str], cameras: Tensor, *, seed: int, steps: int = STEPS, cfg_scale: float = CFG_SCALE
) -> Tensor:
    """Latents [P·V, C, h, w] on the CPU for P captions and the cameras [V, 16] of a rig."""
    unet, device = denoiser.unet, next(denoiser.parameters()).device
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    texts = [in_front_of(caption, "white") for caption in captions] + [in_front_of("", "white")] * len(captions)
    numbers = cameras.repeat(2 * len(captions), 1).to(device)
    shape = (len(captions) * len(cameras), unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    for n in scheduler.timesteps:
        with torch.autocast(device.type, torch.bfloat16):
            v = denoiser(torch.cat([x, x]), n.to(device).expand(2 * len(x)), texts, numbers).float()
        v_y, v_none = v.chunk(2)
        x = scheduler.step(combine_cfg(v_none, v_y, cfg_scale), n, x).prev_sample
    return x.cpu()


@torch.no_grad()
def preview_picture(
    latents: Tensor, captions: Sequence[str], decode: Callable[[Tensor], Tensor], columns: int = 3, scale: int = 2
) -> NDArray[np.uint8]:
    """uint8 [rows · (scale·H + caption), columns · V · scale·W, 3]. decode: latents → pictures [B, 3, H, W] in [−1, 1]."""
    from PIL import Image

    pictures = ((decode(latents).float().clamp(-1, 1) + 1) * 127.5).round().byte()
    views, size = len(latents) // len(captions), pictures.shape[-1]
    strips = pictures.unflatten(0, (len(captions), views)).permute(0, 3, 1, 4, 2).flatten(2, 3).numpy()
    shape = (scale * size * views, scale * size)
    frames = [np.asarray(Image.fromarray(strip).resize(shape, Image.Resampling.BICUBIC)) for strip in strips]
    return contact_sheet(frames, columns, captions=captions, gap=0)
