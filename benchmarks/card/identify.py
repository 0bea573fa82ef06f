"""Do the views of one sample show the same object? The catalogue object nearest to three of them has to predict the fourth.

For a sample x_1 … x_4 of "a <kind>", which leaves colour and design open, and objects o of that kind with renders r_v(o) from its cameras:

    o*     = argmin_o Σ_{v ≠ k} ‖x_v − r_v(o)‖²          found without view k
    own    = PSNR(x_k, r_k(o*))                          what the other views know about view k
    chance = mean_o PSNR(x_k, r_k(o))                    what the kind and the cameras alone know
    best   = max_o PSNR(x_k, r_k(o))                     what any of these objects could reach
    beaten = share of the other objects that r_k(o*) is nearer to x_k than; chance is ½

means over k. Views of one object give own ≈ best and beaten ≈ 1; views that agree in nothing but their kind give own ≈ chance and ½. True
renders of a further object of the kind are the ceiling of the procedure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from card.captions import Caption
from card.consistency import FITTED, Sampling, decibels, object_error, ring, sample
from rich.progress import track
from torch import Tensor

from fsd_gs.catalogue.objects import article, make_object
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.core.types import Cameras
from fsd_gs.metrics import statistics
from fsd_gs.pretrain.sources import HELD_OUT_SEEDS
from fsd_gs.pretrain.views import picture_over
from fsd_gs.priors.backbones.sd import StableDiffusionPrior

MEASURES = ("own", "chance", "best", "beaten")


@dataclass(frozen=True)
class Lineup:
    """Views [4, 3, H, W] of a sample and of M objects, [M, 4, 3, H, W], from the same cameras over the same background [3]."""

    sample: Tensor
    objects: Tensor
    background: Tensor


def identify(lineup: Lineup) -> dict[str, float]:
    """:data:`MEASURES` of one sample, PSNR in dB over the pixels that are not background in either picture."""
    errors = (lineup.objects - lineup.sample).pow(2).mean((2, 3, 4))  # [M, 4]
    psnr = torch.stack([decibels(object_error(views, lineup.sample, lineup.background)) for views in lineup.objects])  # [M, 4]
    rows = []
    for k in range(errors.shape[1]):
        nearest = int((errors.sum(1) - errors[:, k]).argmin())
        others = torch.arange(len(errors)) != nearest
        beaten = (psnr[others, k] < psnr[nearest, k]).float() + 0.5 * (psnr[others, k] == psnr[nearest, k]).float()
        rows.append([psnr[nearest, k], psnr[:, k].mean(), psnr[:, k].max(), beaten.mean()])
    return dict(zip(MEASURES, torch.tensor(rows).mean(0).tolist(), strict=True))


def objects_of(kind: str, cameras: Cameras, background: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """[count, V, 3, H, W]: random objects of a kind, any design and colour, with proportions that training never draws."""
    seeds = HELD_OUT_SEEDS + rng.integers(HELD_OUT_SEEDS, size=count)
    return torch.stack([picture_over(render_mesh(make_object(kind, int(seed)).mesh, cameras), background) for seed in seeds])


def lineups(
    prior: StableDiffusionPrior,
    captions: Sequence[Caption],
    turns: Sequence[float],
    sampling: Sampling,
    generator: torch.Generator,
    candidates: int,
    rng: np.random.Generator,
) -> tuple[list[Lineup], list[Lineup]]:
    """(of samples, of true objects): one for each caption's kind and background, each against ``candidates`` objects."""
    even = torch.tensor(FITTED)
    rigs = [ring(turn, prior.image_size)[even] for turn in turns]
    kinds = [article(c.triple[0]) for c in captions]
    samples = sample(prior, kinds, torch.stack([c.color for c in captions]), rigs, sampling, generator)
    drawn, true = [], []
    for caption, rig, views in zip(track(captions, description="identify", transient=True), rigs, samples, strict=True):
        renders = objects_of(caption.triple[0], rig, caption.color, candidates + 1, rng)
        drawn.append(Lineup(views, renders[1:], caption.color))
        true.append(Lineup(renders[0], renders[1:], caption.color))
    return drawn, true


def summarize(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Means with 95 % intervals over captions, and of the paired difference own − chance."""
    rng = np.random.default_rng(0)
    values = {name: {str(n): row[name] for n, row in enumerate(rows)} for name in MEASURES}
    result: dict[str, Any] = {name: asdict(statistics.estimate(per_caption, rng)) for name, per_caption in values.items()}
    result["own − chance"] = asdict(statistics.compare(values["own"], values["chance"], rng).difference)
    return result
