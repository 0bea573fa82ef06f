"""The row of DDIM images: what the prior draws by itself, the ceiling that 3D is measured against.

For every prompt and seed, ``per_seed`` images by the prior's own deterministic sampler (``image2d.generate`` with the exact rule, which is
DDIM, or Euler for flow models) at the prior's resolution. A multi-view prior makes whole sets of views, so their number is rounded up.
A prior that can be told the background is told white, which the assets' views have. Set j of seed s is drawn from the seed
1 000 000 + 1000 s + j, so that no two images share their noise and none shares it with an asset.

OUTPUT/images/<key>/   images.png (one row), and last record.json, as for assets.
"""

from __future__ import annotations

import json
import math
import traceback
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsd_gs import __version__
from fsd_gs.config import Config
from fsd_gs.core.device import resolve_device
from fsd_gs.errors import BackendError, FileFormatError, FsdGsError, OutputError
from fsd_gs.experiments.evaluate.assets import RECORD, Record, file_digest
from fsd_gs.experiments.evaluate.suite import Asset, ImageSettings, Suite
from fsd_gs.experiments.evaluate.views import load_row, save_row
from fsd_gs.experiments.sweep.cells import PriorCache
from fsd_gs.fleet.task import Tools
from fsd_gs.fleet.unit import Unit
from fsd_gs.image2d import generate
from fsd_gs.image2d.command import methods_of
from fsd_gs.io import make_folder, write_text
from fsd_gs.priors.base import Prior
from fsd_gs.train.asset import TRACEBACK
from fsd_gs.train.identity import digest

IMAGES = "images.png"
MOST_AT_ONCE = 8


@dataclass(frozen=True)
class ImageJob:
    """The images of one prompt and seed."""

    config: Config
    settings: ImageSettings
    weights: str = ""

    @cached_property
    def key(self) -> str:
        """16 hex digits from what decides the images: the prior and its sampler, not how a method would make splats."""
        config = self.config
        words = [config.prompt, config.negative_prompt, config.seed, config.device, config.image2d.spacing, _cfg_scale(self)]
        size = [config.cameras.views, max(config.render.sizes)]  # the exact prior takes these from the run
        return digest([__version__, "on white", asdict(config.prior), words, size, asdict(self.settings), self.weights])

    def __str__(self) -> str:
        return f"{self.config.prompt} #{self.config.seed}  DDIM images"


def image_jobs(assets: list[Asset], suite: Suite) -> list[ImageJob]:
    """One job a prompt and seed, with the settings of the first method; none where ``per_seed`` is 0."""
    if suite.images.per_seed == 0:
        return []
    first: dict[tuple[str, int], Asset] = {}
    for asset in assets:
        first.setdefault((asset.config.prompt, asset.config.seed), asset)
    return [ImageJob(asset.config, suite.images, asset.weights) for asset in first.values()]


def unit_of(job: ImageJob) -> Unit:
    """The images of a prompt and seed as a unit of work."""
    columns = {"prompt": job.config.prompt, "seed": job.config.seed, "name": "DDIM images"}
    return Unit(job.key, f"images/{job.key}", str(job), job, columns)


def image_folder(output: Path, job: ImageJob) -> Path:
    """Where a set of DDIM images lies."""
    return output / unit_of(job).folder


@dataclass(frozen=True)
class MakeImages:
    """The task of the row of images: its units carry an :class:`ImageJob`."""

    def make(self, unit: Unit, place: Path, tools: Tools) -> dict[str, Any]:
        return {"error": make_images(unit.payload, place, tools.kept(PriorCache)).error}


def make_images(job: ImageJob, folder: Path, cache: PriorCache) -> Record:
    """Draw and keep the images of one job; what goes wrong becomes the record's ``error``, as for assets."""
    make_folder(folder)
    known = {"key": job.key, "prompt": job.config.prompt, "seed": job.config.seed}
    try:
        images = draw(job, cache.prior(job.config))
        save_row(images, folder / IMAGES)
        record = Record(**known, digest=file_digest(folder / IMAGES))
    except (OutputError, BackendError):
        raise
    except FsdGsError as error:
        record = Record(**known, error=" ".join(str(error).split()))
    except Exception as error:
        write_text(folder / TRACEBACK, traceback.format_exc())
        record = Record(**known, error=f"{type(error).__name__}: {' '.join(str(error).split())}")
    write_text(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")
    return record


def draw(job: ImageJob, prior: Prior) -> Tensor:
    """[N, 3, S, S] in [0, 1] on the CPU, S the prior's image size, N ``per_seed`` rounded up to whole sets of views."""
    sets = math.ceil(job.settings.per_seed / prior.views)
    seeds = [1_000_000 + 1000 * job.config.seed + j for j in range(sets)]
    method = methods_of(_sampler_config(job), prior)["ddim"]
    at_once = max(1, MOST_AT_ONCE // prior.views)
    device = resolve_device(job.config.device)
    pictures = [
        generate(
            prior,
            job.config.prompt,
            steps=method.steps,
            cfg_scale=method.cfg_scale,
            seed=seeds[i : i + at_once],
            negative_prompt=job.config.negative_prompt,
            grid=method.grid,
            device=device,
            background=torch.ones(3),
        ).images.cpu()
        for i in range(0, sets, at_once)
    ]
    images = torch.cat(pictures).float().clamp(0, 1)
    if not np.isfinite(images.numpy()).all():
        raise FsdGsError("the sampler made values that are not finite")
    return images


def _sampler_config(job: ImageJob) -> Config:
    """The configuration from which ``mode=2d`` would take its sampler."""
    config, settings = job.config, job.settings
    return replace(
        config,
        image2d=replace(config.image2d, methods=["ddim"], exact_steps=settings.steps),
        guidance=replace(config.guidance, cfg_scale=_cfg_scale(job)),
    )


def _cfg_scale(job: ImageJob) -> float:
    return job.config.guidance.cfg_scale if job.settings.cfg_scale is None else job.settings.cfg_scale


def load_image_record(folder: Path) -> Record | None:
    """The record in ``folder``, or None where the images have to be drawn (again)."""
    try:
        record = Record(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        damaged = record.error is None and file_digest(folder / IMAGES) != record.digest
    except (OSError, ValueError, TypeError):
        return None
    return None if damaged else record


def load_images(folder: Path) -> Tensor:
    """The images [N, 3, S, S] of a finished job; FileFormatError where they cannot be read."""
    try:
        return load_row(folder / IMAGES)
    except OSError as error:
        raise FileFormatError(f"{folder / IMAGES}: cannot be read ({error}); remove its folder to draw them again") from error
