"""Running one cell of a sweep, and what is kept of it.

OUTPUT/cells/<key>/  config.yaml, views.png (evaluation views, above over white, below over black; lossless, for pairwise distances),
                     splats.ply, result.json, and the marker of ``fsd_gs.fleet``: a cell is a unit of work, and its folder appears whole.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsd_gs.config import Config
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.sheets import to_uint8
from fsd_gs.core.types import Cameras
from fsd_gs.errors import BackendError, FileFormatError, FsdGsError, OutputError
from fsd_gs.experiments.sweep.measures import MeasureSettings, nearest_object, on_white_and_black
from fsd_gs.experiments.sweep.spec import Cell
from fsd_gs.export.pictures import save_png
from fsd_gs.fleet.asset import Watched
from fsd_gs.fleet.priors import PriorCache as HeldPrior
from fsd_gs.fleet.task import Stopped, Tools
from fsd_gs.fleet.unit import Unit
from fsd_gs.io import make_folder, write_text
from fsd_gs.metrics.geometry import geometry_report
from fsd_gs.priors.backbones.exact import ExactPrior
from fsd_gs.train import runs
from fsd_gs.train.asset import TRACEBACK, make_asset
from fsd_gs.train.result import Result, orbit_of

RESULT, VIEWS, SPLATS, CONFIG = "result.json", "views.png", "splats.ply", "config.yaml"
GEOMETRY_VIEWS, GEOMETRY_SIZE = 24, 64  # what the thresholds of metrics.geometry were measured with


@dataclass(frozen=True)
class CellResult:
    """One finished cell.

    Attributes:
        error: the line it ended with, or None; then the measures are there.
        nearest, distance, caption: see ``measures``; None where the prior has no finite set of objects.
        objects: size of that set.
        failures: of ``geometry_report``.
        seconds: of the optimisation.
    """

    key: str
    setting: tuple[tuple[str, str], ...]
    prompt: str
    seed: int
    error: str | None = None
    nearest: int | None = None
    distance: float | None = None
    caption: str | None = None
    objects: int | None = None
    failures: tuple[str, ...] = ()
    holes: float | None = None
    haze: float | None = None
    splats: int | None = None
    seconds: float | None = None


class PriorCache(HeldPrior):
    """The prior of the last cell, and its reference views: cells come ordered so that neighbours can share them."""

    def __init__(self) -> None:
        super().__init__()
        self._references: dict[str, tuple[Tensor, list[str]]] = {}

    def references(self, config: Config, cameras: Cameras) -> tuple[Tensor, list[str]] | None:
        """Pictures [M, 2V, H, W, 3] (``on_white_and_black``) of the prompt's objects with their captions, from the last prior.

        Returns None where it has no finite set.
        """
        prior = self.last
        if not isinstance(prior, ExactPrior):
            return None
        key = json.dumps([self.key, config.prompt, cameras.viewmats.tolist(), cameras.Ks.tolist()])
        if key not in self._references:
            weights = prior.objects.weights(config.prompt, "")
            chosen = [index for index, log_p in zip(weights.objects, weights.positive.tolist(), strict=True) if log_p > -torch.inf]
            views = torch.stack([on_white_and_black(prior.objects.render(index, cameras)) for index in chosen])
            self._references = {key: (views, [caption_of(prior, index) for index in chosen])}
        return self._references[key]


def caption_of(prior: ExactPrior, index: int) -> str:
    """What object ``index`` is called, where its set has names."""
    objects: Any = prior.objects
    return objects[index].caption if hasattr(objects, "__getitem__") else f"object {index}"


def evaluation_cameras(config: Config, measure: MeasureSettings, size: int) -> Cameras:
    """The views an asset is judged from: evenly around, at an elevation that training did not use."""
    _, distance, fov_y = orbit_of(config)
    low, high = config.cameras.elevation_deg
    elevation = low + (high - low) / 3 if measure.elevation_deg is None else measure.elevation_deg
    return evaluation_orbit(measure.views, elevation_deg=elevation, distance=distance, fov_y_deg=fov_y, width=size)


@dataclass(frozen=True)
class RunCell:
    """The task of a sweep: its units carry a :class:`Cell`."""

    def make(self, unit: Unit, place: Path, tools: Tools) -> dict[str, Any]:
        result = run_cell(unit.payload, place, tools.kept(PriorCache), tools)
        return {
            "error": result.error,
            "splats": result.splats,
            "verdict": ", ".join(result.failures) or ("error" if result.error else "sound"),
        }


def run_cell(cell: Cell, folder: Path, cache: PriorCache, tools: Tools | None = None) -> CellResult:
    """Optimise and measure one cell and write it to ``folder``. Whatever is wrong with *it* becomes the result's ``error``.

    Raises:
        OutputError, BackendError: something is wrong with this machine, and no property of the cell.
        Stopped: it was asked to end early.
    """
    known: dict[str, Any] = {"key": cell.key, "setting": cell.setting, "prompt": cell.config.prompt, "seed": cell.config.seed}
    for untrusted in (runs.FINISHED, SPLATS):  # their cell has no result
        (folder / untrusted).unlink(missing_ok=True)
    try:
        config = replace(cell.config, resume=True)
        watch = [Watched(tools)] if tools is not None else []
        outcome = make_asset(config, cache.prior, folder, watch, only_splats=True, keep_errors=True)
        if outcome.state == "stopped":
            raise Stopped
        if outcome.result is None:
            result = CellResult(**known, error=outcome.error)
        else:
            result = CellResult(**known, seconds=outcome.seconds, **measure(outcome.result, cell.measure, folder, cache))
    except (OutputError, BackendError, Stopped):
        raise
    except FsdGsError as error:
        result = CellResult(**known, error=" ".join(str(error).split()))
    except Exception as error:  # a bug in measuring one cell must neither stop the others nor vanish from the table
        write_text(folder / TRACEBACK, traceback.format_exc())
        result = CellResult(**known, error=f"{type(error).__name__}: {' '.join(str(error).split())}")
    make_folder(folder)
    write_text(folder / RESULT, json.dumps(asdict(result), indent=1) + "\n")
    return result


def measure(asset: Result, settings: MeasureSettings, folder: Path, cache: PriorCache) -> dict[str, Any]:
    """The fields of :class:`CellResult` that describe a finished asset; writes its evaluation views to ``folder``."""
    config = asset.config
    cameras = evaluation_cameras(config, settings, max(config.render.sizes))
    render = asset.render(cameras, background=torch.zeros(3))
    pictures = on_white_and_black(torch.cat([render.rgb, render.alpha], dim=-1).cpu().clamp(0, 1))
    rows = [np.concatenate([to_uint8(picture) for picture in half], axis=1) for half in pictures.chunk(2)]
    save_png(np.concatenate(rows), folder / VIEWS)
    return {"splats": len(asset.splats), **_geometry(asset), **_nearest(config, pictures, cameras, cache)}


def _geometry(asset: Result) -> dict[str, Any]:
    elevation, distance, fov_y = orbit_of(asset.config)
    cameras = evaluation_orbit(GEOMETRY_VIEWS, elevation_deg=elevation, distance=distance, fov_y_deg=fov_y, width=GEOMETRY_SIZE)
    report = geometry_report(asset.splats, asset.render(cameras).alpha, cameras)
    return {"failures": report.failures, "holes": report.holes, "haze": report.haze}


def _nearest(config: Config, pictures: Tensor, cameras: Cameras, cache: PriorCache) -> dict[str, Any]:
    references = cache.references(config, cameras)
    if references is None:
        return {}
    objects, captions = references
    nearest = nearest_object(pictures, objects)
    return {"nearest": nearest.index, "distance": nearest.distance, "caption": captions[nearest.index], "objects": len(captions)}


def load_result(folder: Path) -> CellResult | None:
    """The result in ``folder``, or None where there is none yet."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["setting"] = tuple((str(key), str(value)) for key, value in values["setting"])
        values["failures"] = tuple(values["failures"])
        return CellResult(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"{path}: not a result of this version ({error}); remove its folder to run the cell again") from error


def load_views(folder: Path, views: int) -> Tensor:
    """The evaluation pictures [2V, H, W, 3] in [0, 1] of a finished cell, over white and then over black."""
    from PIL import Image

    path = folder / VIEWS
    try:
        pixels = np.asarray(Image.open(path).convert("RGB"))
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error}); remove its folder to run the cell again") from error
    tiles = [tile for row in np.split(pixels, 2) for tile in np.split(row, views, axis=1)]
    return torch.from_numpy(np.stack(tiles)).float() / 255
