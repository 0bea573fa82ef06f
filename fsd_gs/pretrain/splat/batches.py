"""A batch for the splat-native prior: which objects, which of their views, what is told, how noisy. One generator decides it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fsd_gs.core.backgrounds import composite
from fsd_gs.core.types import Cameras
from fsd_gs.pretrain.captions import draw_caption
from fsd_gs.pretrain.splat.objects import RIG, SplatExample
from fsd_gs.pretrain.splat.settings import SIZE, SplatDataSettings, SplatTrainSettings
from fsd_gs.pretrain.views import draw_background
from fsd_gs.priors.backbones.mvdream import camera_numbers
from fsd_gs.priors.splat.volume import Rays, stack_rays

OTHER_COUNTS = (1, 2, 3, 6)  # numbers of views besides 4 that the network learns
TIMESTEPS = 1000


@dataclass(frozen=True)
class SplatBatch:
    """B objects with V views each.

    Attributes:
        clean: [B, V, 4, S, S] the network's views, premultiplied and with coverage, in [0, 1].
        depths: [B, V, S, S], 0 where nothing is.
        rays: of the views; numbers: [B·V, 16] of their cameras, as the UNet takes them.
        n: [B] timesteps; noise: where that of the latents is drawn from, on the CPU.
        captions: B of them, with their backgrounds; backgrounds: [B, 3] in [0, 1].
        targets: for each object, [T, 4, R, R] premultiplied in [0, 1], first the views that the network saw; cameras: theirs.
    """

    clean: Tensor
    depths: Tensor
    rays: Rays
    numbers: Tensor
    n: Tensor
    noise: torch.Generator
    captions: list[str]
    backgrounds: Tensor
    targets: list[Tensor]
    cameras: list[Cameras]

    def to(self, device: torch.device) -> SplatBatch:
        """The batch where the network is; the noise is drawn on the CPU wherever it goes."""
        if device.type == "cpu":
            return self
        rays = Rays(*(x.to(device) for x in (self.rays.viewmats, self.rays.focal, self.rays.center)))
        return replace(
            self,
            clean=self.clean.to(device),
            depths=self.depths.to(device),
            rays=rays,
            numbers=self.numbers.to(device),
            n=self.n.to(device),
            backgrounds=self.backgrounds.to(device),
            targets=[target.to(device) for target in self.targets],
            cameras=[cameras.to(device) for cameras in self.cameras],
        )

    @property
    def views(self) -> Tensor:
        """[B, V, 3, S, S] over the backgrounds."""
        return composite(self.clean.flatten(0, 1), self.backgrounds.repeat_interleave(self.clean.shape[1], 0)[..., None, None]).unflatten(
            0, self.clean.shape[:2]
        )


def draw_batch(
    example: Callable[[int], SplatExample],
    bounds: tuple[int, int],
    data: SplatDataSettings,
    train: SplatTrainSettings,
    generator: torch.Generator,
) -> SplatBatch:
    """Objects of ``bounds``, all with the same number of views; times stratified over the batch."""
    B = train.objects
    numbers = torch.randint(bounds[0], bounds[1], (B,), generator=generator).tolist()
    chance, count = torch.rand(2, generator=generator).tolist()
    odd = OTHER_COUNTS[int(count * len(OTHER_COUNTS))] if chance < train.odd_views else None
    n = ((torch.randperm(B, generator=generator) + torch.rand(B, generator=generator)) / B * TIMESTEPS).long()
    seeds = torch.randint(2**31, (B + 1,), generator=generator).tolist()
    parts = [_draw_object(example(i), odd, data, train, seed) for i, seed in zip(numbers, seeds[:B], strict=True)]
    clean, depths, seen, captions, backgrounds, targets, cameras = (list(column) for column in zip(*parts, strict=True))
    return SplatBatch(
        clean=torch.stack(clean),
        depths=torch.stack(depths),
        rays=stack_rays([Rays.of(c) for c in seen]),
        numbers=torch.cat([camera_numbers(c) for c in seen]),
        n=n,
        noise=torch.Generator().manual_seed(seeds[B]),
        captions=captions,
        backgrounds=torch.stack(backgrounds),
        targets=targets,
        cameras=cameras,
    )


def _draw_object(
    thing: SplatExample, odd: int | None, data: SplatDataSettings, train: SplatTrainSettings, seed: int
) -> tuple[Tensor, Tensor, Cameras, str, Tensor, Tensor, Cameras]:
    """One object's share of a batch: a rig, or ``odd`` views anywhere."""
    rng, generator, total = np.random.default_rng(seed), torch.Generator().manual_seed(seed), len(thing.views)
    chosen = RIG * int(rng.integers(data.rigs)) + np.arange(RIG) if odd is None else rng.permutation(total)[:odd]
    others = np.setdiff1d(np.arange(total), chosen)
    own, new = train.targets
    wanted = np.concatenate([rng.permutation(chosen)[:own], rng.permutation(others)[:new]])
    size = data.image_size if rng.random() < train.fine else SIZE
    background = torch.tensor(draw_background(rng))
    return (
        shrink(thing.views[chosen], SIZE),
        thing.depths[chosen].float(),
        cameras_of(thing, chosen, SIZE),
        draw_caption(thing.captions, background, train.drop_text, generator),
        background,
        shrink(thing.views[wanted], size),
        cameras_of(thing, wanted, size),
    )


def shrink(views: Tensor, size: int) -> Tensor:
    """uint8 [V, S, S, 4] → [V, 4, size, size] in [0, 1], by means over whole blocks."""
    pixels = views.permute(0, 3, 1, 2).float() / 255
    return F.avg_pool2d(pixels, views.shape[1] // size)


def cameras_of(thing: SplatExample, chosen: np.ndarray, size: int) -> Cameras:
    """The chosen cameras at ``size`` pixels."""
    focal = thing.focal[chosen] * size
    Ks = torch.zeros(len(chosen), 3, 3)
    Ks[:, 0, 0], Ks[:, 1, 1], Ks[:, 2, 2] = focal, focal, 1.0
    Ks[:, 0, 2] = Ks[:, 1, 2] = size / 2
    return Cameras(thing.viewmats[chosen], Ks, size, size)
