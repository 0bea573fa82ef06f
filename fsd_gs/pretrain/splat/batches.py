"""A batch for the splat-native prior: which objects, which of their views, what is told, how noisy. One generator decides it all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fsd_gs.core.backgrounds import composite
from fsd_gs.core.types import Cameras
from fsd_gs.pretrain.splat.loss import SplatBatch
from fsd_gs.pretrain.splat.objects import RIG, SplatExample
from fsd_gs.pretrain.splat.settings import SplatDataSettings, SplatTrainSettings
from fsd_gs.pretrain.views import draw_background
from fsd_gs.priors.splat.network import SIZE, Condition
from fsd_gs.priors.splat.volume import Rays, stack_rays
from fsd_gs.priors.splat.words import encode_words

OTHER_COUNTS = (1, 2, 3, 6)  # numbers of views besides 4 that the network learns
T_RANGE = (0.01, 0.999)


def draw_batch(
    example: Callable[[int], SplatExample],
    bounds: tuple[int, int],
    data: SplatDataSettings,
    train: SplatTrainSettings,
    rows: int,
    generator: torch.Generator,
) -> SplatBatch:
    """Objects of ``bounds``, all with the same number of views; times stratified over the batch. rows: of the word table."""
    B = train.objects
    numbers = torch.randint(bounds[0], bounds[1], (B,), generator=generator).tolist()
    chance, count = torch.rand(2, generator=generator).tolist()
    odd = OTHER_COUNTS[int(count * len(OTHER_COUNTS))] if chance < train.odd_views else None
    t = (torch.arange(B) + torch.rand(B, generator=generator)) / B
    seeds = torch.randint(2**31, (B,), generator=generator).tolist()
    parts = [_draw_object(example(n), odd, data, train, np.random.default_rng(seed)) for n, seed in zip(numbers, seeds, strict=True)]
    clean, rays, captions, backgrounds, known, targets, cameras, voxels, colors = (list(column) for column in zip(*parts, strict=True))
    t = T_RANGE[0] + (T_RANGE[1] - T_RANGE[0]) * t
    background = torch.stack(backgrounds)
    clean = torch.stack(clean)
    return SplatBatch(
        clean=clean,
        rays=stack_rays(rays),
        noise=torch.randn(clean.shape, generator=generator),
        t=t,
        condition=Condition(log_snr(t), encode_words(captions, rows), 2 * background - 1, torch.tensor(known)),
        backgrounds=background,
        targets=targets,
        cameras=cameras,
        voxels=voxels,
        colors=colors,
    )


def log_snr(t: Tensor) -> Tensor:
    """log(α²/σ²) of the cosine schedule."""
    angle = t * (torch.pi / 2)
    return 2 * (angle.cos().log() - angle.sin().log())


def _draw_object(
    thing: SplatExample, odd: int | None, data: SplatDataSettings, train: SplatTrainSettings, rng: np.random.Generator
) -> tuple[Tensor, Rays, str, Tensor, float, Tensor, Cameras, Tensor, Tensor]:
    """One object's share of a batch: a rig, or ``odd`` views anywhere."""
    total = len(thing.views)
    chosen = RIG * int(rng.integers(data.rigs)) + np.arange(RIG) if odd is None else rng.permutation(total)[:odd]
    others = np.setdiff1d(np.arange(total), chosen)
    own, new = train.targets
    wanted = np.concatenate([rng.permutation(chosen)[:own], rng.permutation(others)[:new]])
    background = torch.tensor(draw_background(rng))
    caption = "" if rng.random() < train.drop_text else thing.captions[int(rng.integers(len(thing.captions)))]
    known = float(rng.random() >= train.hide_background)
    clean = composite(shrink(thing.views[chosen], SIZE), background[:, None, None]) * 2 - 1
    targets = shrink(thing.views[wanted], train.render_size)
    colors = thing.colors.float() / 255
    return (
        clean, cameras_of(thing, chosen, SIZE)[1], caption, background, known,
        targets, cameras_of(thing, wanted, train.render_size)[0], thing.voxels, colors,
    )  # fmt: skip


def shrink(views: Tensor, size: int) -> Tensor:
    """uint8 [V, S, S, 4] → [V, 4, size, size] in [0, 1], by means over whole blocks."""
    pixels = views.permute(0, 3, 1, 2).float() / 255
    return F.avg_pool2d(pixels, views.shape[1] // size)


def cameras_of(thing: SplatExample, chosen: np.ndarray, size: int) -> tuple[Cameras, Rays]:
    """The chosen cameras at ``size`` pixels."""
    focal = thing.focal[chosen] * size
    Ks = torch.zeros(len(chosen), 3, 3)
    Ks[:, 0, 0], Ks[:, 1, 1], Ks[:, 2, 2] = focal, focal, 1.0
    Ks[:, 0, 2] = Ks[:, 1, 2] = size / 2
    cameras = Cameras(thing.viewmats[chosen], Ks, size, size)
    return cameras, Rays.of(cameras)
