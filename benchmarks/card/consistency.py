"""Do the views of one sample belong to one object? Splats fitted to four of them predict the views in between.

The fit knows the cameras and the background; it starts from the visual hull of the silhouettes and minimises the squared error of four
renders. The prediction of the other views is compared with

    own        the same sample's views there
    other      another sample's views there (the same caption, the same cameras): chance
    neighbour  and, without any fit, the sample's own next view, 45° away: what a turning object changes

by PSNR = −10 log₁₀ mean (a − b)², over the whole image, which flatters (the background is known), and over the pixels that are not
background in either. The same procedure on true renders of the catalogue is the ceiling of the procedure itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from card.captions import Caption
from torch import Tensor

from fsd_gs.catalogue.render import render_mesh
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.metrics import statistics
from fsd_gs.pretrain.views import picture_over
from fsd_gs.priors.backbones.sd import StableDiffusionPrior
from fsd_gs.priors.sampling import sample_views, views_together
from fsd_gs.render.base import make_rasterizer
from fsd_gs.splats.initialize import ball, from_points
from fsd_gs.splats.optimizers import LearningRates, build_optimizers, set_learning_rates, step_all
from fsd_gs.splats.parameters import activate, from_gaussians

RING = 8
FITTED, PREDICTED = [0, 2, 4, 6], [1, 3, 5, 7]
BACKGROUND_TOLERANCE = 0.1  # a channel further than this from the background's is object


@dataclass(frozen=True)
class FitSettings:
    """splats: at most; steps: of Adam on all fitted views; grid: of the hull, points a side.

    On true renders of ten captions 500 to 3000 splats and 100 to 250 steps predict equally well (17.0 to 17.3 dB over the object).
    """

    splats: int = 1000
    steps: int = 150
    grid: int = 48


def ring(turn: float, size: int, views: int = RING) -> Cameras:
    """Cameras all around, as the training run's, from azimuth ``turn`` degrees."""
    return orbit_cameras([turn + 360.0 * v / views for v in range(views)], 15.0, distance=2.2, fov_y_deg=49.1, width=size)


def foreground(images: Tensor, background: Tensor) -> Tensor:
    """[V, H, W] pixels of images [V, 3, H, W] that are not the background [3]."""
    return (images - background[:, None, None]).abs().amax(dim=1) > BACKGROUND_TOLERANCE


def hull_points(masks: Tensor, cameras: Cameras, resolution: int) -> Tensor:
    """[N, 3] grid points of the unit ball that every silhouette [V, H, W] contains."""
    axis = torch.linspace(-1, 1, resolution)
    points = torch.cartesian_prod(axis, axis, axis)
    points = points[points.norm(dim=1) <= 1]
    inside = torch.ones(len(points), dtype=torch.bool)
    for mask, viewmat, K in zip(masks, cameras.viewmats, cameras.Ks, strict=True):
        image = (points @ viewmat[:3, :3].T + viewmat[:3, 3]) @ K.T
        column, row = (image[:, :2] / image[:, 2:]).floor().long().unbind(1)
        seen = (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
        inside &= seen & mask[row.clamp(0, cameras.height - 1), column.clamp(0, cameras.width - 1)]
    return points[inside]


def fit_splats(images: Tensor, cameras: Cameras, background: Tensor, settings: FitSettings, generator: torch.Generator) -> Gaussians:
    """Splats that look like images [V, 3, H, W] from ``cameras`` in front of ``background`` [3]."""
    points = hull_points(foreground(images, background), cameras, settings.grid)
    points = points[torch.randperm(len(points), generator=generator)[: settings.splats]]
    # Silhouettes that share next to nothing: the fit has to find the object by itself.
    start = from_points(points, opacity=0.3) if len(points) >= 64 else ball(settings.splats, 0.7, generator)
    params, rates, rasterize = from_gaussians(start), LearningRates(), make_rasterizer("cpu")
    optimizers = build_optimizers(params, rates)
    target = images.permute(0, 2, 3, 1)
    for step in range(settings.steps):
        set_learning_rates(optimizers, rates, step / settings.steps)
        rgb = rasterize(activate(params), cameras, background=background).rgb
        (rgb - target).pow(2).mean().backward()
        step_all(optimizers)
    return activate(params).detach()


@torch.no_grad()
def render(splats: Gaussians, cameras: Cameras, background: Tensor) -> Tensor:
    """[V, 3, H, W] in [0, 1]."""
    return make_rasterizer("cpu")(splats, cameras, background=background).rgb.permute(0, 3, 1, 2).clamp(0, 1)


def psnr(a: Tensor, b: Tensor, background: Tensor) -> dict[str, float]:
    """Decibels between [V, 3, H, W] and the same, mean over the views: of the whole "image", and of the "object" where either shows one."""
    errors = {"image": (a - b).pow(2).mean((1, 2, 3)), "object": object_error(a, b, background)}
    return {name: float(decibels(error).mean()) for name, error in errors.items()}


def object_error(a: Tensor, b: Tensor, background: Tensor) -> Tensor:
    """[V]: mean squared difference over the pixels that are not background in either of two views [V, 3, H, W]."""
    shown = (foreground(a, background) | foreground(b, background)).float()
    return ((a - b).pow(2).mean(dim=1) * shown).sum((1, 2)) / shown.sum((1, 2)).clamp_min(1)


def decibels(error: Tensor) -> Tensor:
    return -10 * error.clamp_min(1e-10).log10()


@dataclass(frozen=True)
class Case:
    """Two sets of eight views [8, 3, H, W] of different samples (or objects) of one caption, from the same cameras."""

    cameras: Cameras
    background: Tensor
    own: Tensor
    other: Tensor


def predict_between(case: Case, settings: FitSettings, generator: torch.Generator) -> tuple[Tensor, dict[str, dict[str, float]]]:
    """(eight renders of the splats fitted to the even views, comparison → PSNRs of the odd ones)."""
    splats = fit_splats(case.own[FITTED], case.cameras[torch.tensor(FITTED)], case.background, settings, generator)
    seen = render(splats, case.cameras, case.background)
    predicted, bg = seen[PREDICTED], case.background
    return seen, {
        "fitted views": psnr(seen[FITTED], case.own[FITTED], bg),
        "own": psnr(predicted, case.own[PREDICTED], bg),
        "other": psnr(predicted, case.other[PREDICTED], bg),
        "neighbour": psnr(case.own[FITTED], case.own[PREDICTED], bg),
    }


def summarize(rows: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Means with 95 % intervals over captions, and the paired difference own − other; rows: one a caption."""
    rng, result = np.random.default_rng(0), {}
    for region in ("object", "image"):
        values = {name: {str(n): row[name][region] for n, row in enumerate(rows)} for name in rows[0]}
        result[region] = {name: asdict(statistics.estimate(per_caption, rng)) for name, per_caption in values.items()}
        result[region]["own − other"] = asdict(statistics.compare(values["own"], values["other"], rng).difference)
        gaps = np.array([values["own"][k] - values["other"][k] for k in values["own"]])
        result[region]["own above other"] = float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    return result


@dataclass(frozen=True)
class Sampling:
    """How the prior is sampled. batch: captions at once."""

    steps: int
    cfg_scale: float
    batch: int


def joint_cases(
    prior: StableDiffusionPrior, captions: Sequence[Caption], turns: Sequence[float], sampling: Sampling, generator: torch.Generator
) -> list[Case]:
    """Eight views a sample, all denoised jointly, which is twice as many as in training."""
    rigs = [ring(turn, prior.image_size) for turn in turns]
    with views_together(prior, RING):
        prompts, backgrounds = [c.prompt for c in captions], torch.stack([c.color for c in captions])
        own, other = (sample(prior, prompts, backgrounds, rigs, sampling, generator) for _ in range(2))
    return [Case(rig, c.color, a, b) for rig, c, a, b in zip(rigs, captions, own, other, strict=True)]


def true_cases(captions: Sequence[Caption], turns: Sequence[float], size: int, rng: np.random.Generator) -> list[Case]:
    """Renders of two catalogue objects of each caption's combination."""
    cases = []
    for caption, turn in zip(captions, turns, strict=True):
        cameras = ring(turn, size)
        own, other = (picture_over(render_mesh(caption.object(rng).mesh, cameras), caption.color) for _ in range(2))
        cases.append(Case(cameras, caption.color, own, other))
    return cases


def sample(
    prior: StableDiffusionPrior,
    prompts: Sequence[str],
    backgrounds: Tensor,
    rigs: Sequence[Cameras],
    sampling: Sampling,
    generator: torch.Generator,
) -> Tensor:
    """[P, V, 3, H, W] on the CPU: a sample of each prompt from its own rig over its own background [P, 3]."""
    steps, scale = sampling.steps, sampling.cfg_scale
    views = sample_views(
        prior, prompts, rigs, generator=generator, steps=steps, cfg_scale=scale, background=backgrounds, batch=sampling.batch
    )
    return views.cpu()
