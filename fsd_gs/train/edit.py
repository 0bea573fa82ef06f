"""Runs that begin with splats: ``edit`` changes any asset by other words, ``refine`` finishes one of ours. Both are settings of a run.

An edit is SDEdit (Meng et al., arXiv 2108.01073) in 3D: the run enters the falling path of times strength of the way before its end, with
the given splats in place of what came before, so that what is coarser than the noise at that time stays. The pull (``splats.pull``) holds
the shape, masks hold splats. A refinement has no pull: it enters the same path, at twice the resolution, and splats are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fsd_gs.config import Config, load_config
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.export.formats import EXPORTERS, holds_splats, load_splats, save_splats
from fsd_gs.export.versions import newest_version
from fsd_gs.guidance.settings import ScheduleSettings
from fsd_gs.metrics.similarity import silhouette_iou
from fsd_gs.render import make_rasterizer, render_frames
from fsd_gs.splats.initialize import fit_of
from fsd_gs.train import runs
from fsd_gs.train.build import initial_splats
from fsd_gs.train.variants import orbit

STRENGTH, PULL = 0.5, 0.05
SMALLEST, LARGEST = 0.15, 1.1  # radii of an object that the cameras see well as it stands; others are fitted, and put back
GEOMETRY, COLOUR = 0.1, 2.0  # of the usual learning rates: a finished shape is not shaken, and a colour has far to go


def edit_settings(
    file: str | Path,
    prompt: str,
    *,
    strength: float = STRENGTH,
    pull: float = PULL,
    keep: str | Path | None = None,
    region: Sequence[float] = (),
    config_files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
) -> Config:
    """Settings of a run that makes ``prompt`` of the splats in ``file``; ``train.asset`` makes it.

    Args:
        file: any file of splats; it is never written to.
        prompt: what it shall be.
        strength: the share of the path of times, from its end, that is gone; more changes more.
        pull: share of the way back to the original's shape that each step takes, [0, 1].
        keep: a .npy with a truth value for each splat: true stays as it is.
        region: x, y, z, radius of the ball in the file's world that may change; empty for everything.
        config_files: settings files such as presets, below what an edit sets.
        overrides: key=value, above it.

    Raises:
        InputError: a strength that is no time; it would overwrite ``file``.
        FileFormatError: no splats in ``file``.
    """
    file = Path(file)
    splats = _splats_of(file)
    # A pull compares each splat with the original's; what is translucent there is so on purpose; and other words need all of the guidance.
    whole = [f"splats.init={file}", "densify.kind=none", "regularize.alpha=0.05", "solidify.effort=0", "guidance.cfg_late=1"]
    base = load_config(config_files, [*whole, *overrides, f"prompt={prompt}"])
    means = splats.means
    fitted = not SMALLEST <= float(means.norm(dim=1).quantile(0.99) if len(means) < 2**24 else means.norm(dim=1).amax()) <= LARGEST
    if region and fitted:
        center, factor = fit_of(means, base.splats.radius)
        region = [*((means.new_tensor(list(region)[:3]) - center) * factor).tolist(), float(region[3] * factor)]
    edit = [
        *whole,
        f"splats.fit={fitted}",
        f"splats.sh_degree={_degree(splats)}",
        *_path(entered(base.schedule, strength)),
        f"pull.shape={pull}",
        *([] if keep is None else [f"pull.keep={keep}"]),
        f"pull.region={list(region)}",
        *_rates(base, ("means", "means_end", "scales", "quats", "opacities")),
        f"rates.sh0={COLOUR * base.rates.sh0}",
        "outputs.clean=false",
    ]
    config = load_config(config_files, [*edit, *overrides, f"prompt={prompt}"])
    if config.overwrite and file.resolve().is_relative_to((folder := runs.run_folder(config)).resolve()):
        raise InputError(f"{file}: the edit would take the place of its original, {folder}; choose another prompt, seed or output")
    return config


def refine_settings(
    folder: str | Path,
    *,
    strength: float = STRENGTH,
    config_files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
) -> tuple[Config, Path]:
    """Settings of a run that goes on with the newest version of the asset in ``folder``, and the folder for it, beside the original's.

    Args:
        folder: of a finished run; nothing in it is changed.
        strength: the share of the path of times, from its end, that is gone.
        config_files: settings files, above the run's own.
        overrides: key=value, above both.

    Raises:
        FileFormatError: no finished run in ``folder``.
    """
    folder = Path(folder)
    before = runs.load_run_config(folder)
    if not runs.is_finished(folder):
        raise FileFormatError(f"{folder}: is not finished; go on with it by resume={folder}, or keep it as it is by fsd-gs finish {folder}")
    base = load_config([folder / runs.CONFIG, *config_files], [*overrides, f"prompt={before.prompt}"])
    splats = newest_version(folder / runs.SPLATS)
    finer = [
        "stages=[]",
        "count=1",
        f"splats.init={splats}",
        f"splats.sh_degree={max(base.splats.sh_degree, _degree(_splats_of(splats)))}",
        f"render.sizes=[{max(2 * max(before.render.sizes), *base.render.sizes)}]",
        "render.size_at=[0.0]",
        *_path(entered(base.schedule, strength)),
        f"densify.cap={2 * base.densify.cap}",
        "densify.start=0.05",
        "densify.stop=0.6",
        *_rates(base, ("means", "means_end")),
        f"output={folder.parent.parent}",
    ]
    own = [f"prompt={before.prompt}", f"seed={before.seed}"]
    return load_config([folder / runs.CONFIG, *config_files], [*finer, *overrides, *own]), beside(folder)


def beside(folder: Path) -> Path:
    """The first of ``seed-0000-refined``, ``seed-0000-refined-2``, … that is not finished; the gallery shows them all."""
    stem = folder.resolve().name.partition("-refined")[0]
    number = 1
    while runs.is_finished(place := folder.parent / f"{stem}-refined{f'-{number}' if number > 1 else ''}"):
        number += 1
    return place


def entered(schedule: ScheduleSettings, strength: float) -> ScheduleSettings:
    """The last ``strength`` ∈ (0, 1] of a path of times, measured in t between its first and its last.

    Raises:
        InputError: strength is not in (0, 1].
    """
    if not 0 < strength <= 1:
        raise InputError(f"strength: expected a number above 0 and of at most 1, got {strength:g}")
    if schedule.kind != "piecewise":
        return replace(schedule, start=schedule.end + strength * (schedule.start - schedule.end))
    points = list(zip(schedule.progress, schedule.values, strict=True))
    t = points[-1][1] + strength * (points[0][1] - points[-1][1])
    at = next(a[0] + (b[0] - a[0]) * (a[1] - t) / max(a[1] - b[1], 1e-9) for a, b in pairwise(points) if a[1] >= t >= b[1])
    left = [(0.0, t), *(((p - at) / (1 - at), value) for p, value in points if p > at)]
    return replace(schedule, progress=[p for p, _ in left], values=[value for _, value in left])


def put_back(edited: Gaussians, config: Config) -> Gaussians:
    """Splats of an edit at the place and in the size of the file that it began with."""
    if not config.splats.fit:
        return edited
    center, factor = fit_of(load_splats(config.splats.init).means.to(edited.means), config.splats.radius)
    return replace(edited, means=edited.means / factor + center, scales=edited.scales / factor)


def write_back(config: Config, folder: Path) -> Path | None:
    """The edit in ``folder`` at the place and in the size of its original, in a file of its own; None where it never left them.

    Its format is the original's, where that can be written without drawing pictures.
    """
    if not config.splats.fit:
        return None
    suffix = Path(config.splats.init).suffix
    suffix = suffix if any(entry.suffix == suffix and not entry.needs_rasterizer for entry in EXPORTERS.values()) else ".ply"
    path = folder / f"edited{suffix}"
    save_splats(put_back(load_splats(folder / runs.SPLATS), config), path, provenance=runs.origin(config))
    return path


def held_silhouette(config: Config, folder: Path) -> float:
    """Intersection over union of the silhouettes of the edit in ``folder`` and of its original, from 8 sides."""
    edited, original = load_splats(folder / runs.SPLATS), initial_splats(config)
    cameras, rasterizer = orbit(config, 8, 128, edited.means.device), make_rasterizer("cpu")
    return silhouette_iou(*(render_frames(rasterizer, splats, cameras).alpha for splats in (original, edited)))


def _path(schedule: ScheduleSettings) -> list[str]:
    names = ("progress", "values") if schedule.kind == "piecewise" else ("start", "end")
    return [f"schedule.{name}={getattr(schedule, name)}" for name in names]


def _rates(config: Config, names: Sequence[str]) -> list[str]:
    return [f"rates.{name}={GEOMETRY * getattr(config.rates, name)}" for name in names]


def _splats_of(file: Path) -> Gaussians:
    if file.is_file() and not holds_splats(file):
        raise FileFormatError(f"{file}: holds no splats; a mesh can be a start by splats.init={file}")
    return load_splats(file)


def _degree(splats: Gaussians) -> int:
    return round(splats.sh.shape[1] ** 0.5) - 1
