"""``train.py mode=2d``: one picture with methods as rows and seeds as columns, to see at a glance what fixed noise does.

ddim           the sampler: FSD with the exact rule (docs/method.md)
fsd            fixed noise, falling t, Adam
sds-annealed   fresh noise, falling t, Adam: the control
sds            fresh noise, random t, Adam
"""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from fsd_gs import image2d
from fsd_gs.config import Config, to_yaml
from fsd_gs.core.sheets import Frame, contact_sheet, to_uint8
from fsd_gs.errors import OutputError
from fsd_gs.export.pictures import save_png
from fsd_gs.guidance import ScoreGuidance, TimeSchedule
from fsd_gs.guidance.time_schedules import Linear, RandomUniform
from fsd_gs.image2d import AdamRule, Grid, Method2D
from fsd_gs.io import make_folder, write_text
from fsd_gs.priors.base import FlowPrior, Prior
from fsd_gs.train import runs

LEAST_SIDE = 192  # pixels of a picture on the sheet


def methods_of(config: Config, prior: Prior) -> dict[str, Method2D]:
    """The rows of the picture, in the order asked for."""
    return {name: _method(name, config, prior) for name in config.image2d.methods}


def _method(name: str, config: Config, prior: Prior) -> Method2D:
    settings, guidance = config.image2d, config.guidance
    if name == "ddim":
        # A flow prior's own grid; of the others the spacing that is set, from the last trained timestep, because Stable Diffusion's own
        # sampler starts one timestep late and an exact prior has no such habit.
        grid = Grid.of(prior) if isinstance(prior, FlowPrior) else Grid(settings.spacing)  # type: ignore[arg-type]
        return Method2D("exact", settings.exact_steps, config.guidance.cfg_scale, grid=grid)
    schedule: TimeSchedule = Linear(config.schedule.start, config.schedule.end, config.steps)
    if name == "sds":
        schedule = RandomUniform(config.schedule.end, config.schedule.start, config.seed)
    rule = AdamRule(
        schedule,
        ScoreGuidance(guidance.cfg_scale, "one" if guidance.weight == "auto" else guidance.weight, guidance.cfg_rescale),
        fresh_noise=name != "fsd",
        rate=settings.rate,
        space="image" if settings.space == "image" else "latent",
    )
    return Method2D("adam", config.steps, config.guidance.cfg_scale, rule)


def compare(config: Config, prior: Prior, device: torch.device) -> Frame:
    """The labelled picture: one row a method, one column a seed (a multi-view prior shows its first view)."""
    seeds = list(range(config.seed, config.seed + config.count))
    frames, labels = [], []
    methods = methods_of(config, prior)
    _, results = image2d.grid(prior, config.prompt, methods, seeds, device=device)
    for name, result in results.items():
        for seed, picture in zip(seeds, result.images[:: prior.views], strict=True):
            frames.append(_legible(to_uint8(picture.permute(1, 2, 0))))
            labels.append(f"{name} #{seed}")
    return contact_sheet(frames, columns=len(seeds), labels=labels)


def _legible(frame: Frame) -> Frame:
    """Small pictures in whole multiples of their pixels, so that there is room for a label."""
    times = max(1, LEAST_SIDE // frame.shape[0])
    return frame.repeat(times, axis=0).repeat(times, axis=1)


def main_2d(config: Config, prior: Prior, device: torch.device, console: Console) -> int:
    """Make the picture of methods × seeds in ``OUTPUT/<prompt>/2d/``; the exit code."""
    folder = Path(config.output) / runs.slug(config.prompt) / "2d"
    picture = folder / "grid.png"
    if picture.exists() and not config.overwrite:
        raise OutputError(f"{picture}: exists; use overwrite=true to replace it, or another output")
    make_folder(folder)
    write_text(folder / runs.CONFIG, to_yaml(config))
    with console.status(f"{len(config.image2d.methods)} methods × {config.count} seeds"):
        save_png(compare(config, prior, device), picture)
    console.print(f"  {picture}", highlight=False, soft_wrap=True)
    return 0
