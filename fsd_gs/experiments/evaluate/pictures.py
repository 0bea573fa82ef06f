"""What an evaluation looks like: contact sheets of prompt × method, and plots of the measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fsd_gs.core.sheets import Frame, contact_sheet, framed, resized, to_uint8
from fsd_gs.experiments.evaluate.ablation import SHOWN, Axis
from fsd_gs.experiments.evaluate.assets import asset_folder
from fsd_gs.experiments.evaluate.evaluation import Evaluation, Row
from fsd_gs.experiments.evaluate.images import image_folder, load_images
from fsd_gs.experiments.evaluate.scores import MEASURES
from fsd_gs.experiments.evaluate.suite import DDIM, Setting
from fsd_gs.experiments.evaluate.tables import shown_measures
from fsd_gs.experiments.evaluate.views import asset_views
from fsd_gs.experiments.figures import is_number, pyplot, save_figure
from fsd_gs.metrics.statistics import Estimate

TILE, GAP, VIEWS_SHOWN = 112, 2, 4
GREY, RED = 235, (200, 30, 30)


def sheet(evaluation: Evaluation, setting: Setting, prompt: str) -> Frame:
    """One row a seed, four views a quarter turn apart (or DDIM images); a red frame marks what counts as failed, grey what left nothing."""
    rows = _image_tiles(evaluation, prompt) if setting == DDIM else _asset_tiles(evaluation, setting, prompt)
    columns = max((len(tiles) for tiles, _ in rows), default=1)
    white = np.full((TILE, TILE, 3), 255, dtype=np.uint8)
    frames = [framed(tile, RED) if failed else tile for tiles, failed in rows for tile in [*tiles, *[white] * (columns - len(tiles))]]
    return contact_sheet(frames, columns, gap=GAP)


def _asset_tiles(evaluation: Evaluation, setting: Setting, prompt: str) -> list[tuple[list[Frame], bool]]:
    made, rows = evaluation.made, []
    for asset in made.assets:
        if (asset.setting, asset.config.prompt) != (setting, prompt):
            continue
        scores = evaluation.asset_scores[asset.key]
        if scores.pictures is None:
            rows.append(([_blank()] * VIEWS_SHOWN, True))
            continue
        views = asset_views(asset_folder(made.output, asset), scores.record, asset.config, made.protocol)
        turns = [round(i * len(views) / VIEWS_SHOWN) for i in range(VIEWS_SHOWN)]
        rows.append(([_tile(views[i]) for i in turns], bool(scores.reasons)))
    return rows


def _image_tiles(evaluation: Evaluation, prompt: str) -> list[tuple[list[Frame], bool]]:
    made, rows = evaluation.made, []
    for job in made.images:
        if job.config.prompt != prompt:
            continue
        errored = made.image_records[job.key].error is not None
        images = [] if errored else list(load_images(image_folder(made.output, job)))[:VIEWS_SHOWN]
        rows.append(([_tile(image) for image in images] or [_blank()] * VIEWS_SHOWN, errored))
    return rows


def _tile(image: torch.Tensor) -> Frame:
    """[3, H, W] → uint8 [TILE, TILE, 3]."""
    return resized(to_uint8(image.permute(1, 2, 0)), TILE)


def _blank() -> Frame:
    return np.full((TILE, TILE, 3), GREY, dtype=np.uint8)


# -- plots -----------------------------------------------------------------------------------------------------------------


def save_plots(evaluation: Evaluation, axes: Sequence[Axis], folder: Path) -> list[Path]:
    """``plot-methods.png``: every measure of every row; ``plot-<method>-<key>.png``: an axis. Needs matplotlib (the extra ``plots``)."""
    plt = pyplot()
    plain = [row for row in evaluation.rows if len(row.setting) == 1]
    paths = [save_figure(plt, _methods_figure(plt, plain), folder / "plot-methods.png")]
    for axis in axes:
        paths.append(save_figure(plt, _axis_figure(plt, axis), folder / f"plot-{axis.method}-{axis.key}.png"))
    return paths


def _methods_figure(plt: Any, rows: Sequence[Row]) -> Any:
    """One panel a measure, one line a method: mean and interval."""
    names = [name for name in shown_measures(rows) if name != "seconds"]
    columns = min(4, len(names))
    figure, panels = plt.subplots(
        math.ceil(len(names) / columns),
        columns,
        figsize=(3.0 * columns, (0.9 + 0.3 * len(rows)) * math.ceil(len(names) / columns)),
        sharey=True,
        squeeze=False,
    )
    places = np.arange(len(rows))[::-1]
    for panel, name in zip(panels.flat, names, strict=False):
        draw(panel, places, [row.estimates[name] for row in rows], horizontal=True)
        panel.set_title(MEASURES[name].heading, fontsize=10)
        panel.grid(axis="x", alpha=0.3)
        panel.set_ylim(-0.6, len(rows) - 0.4)
    for panel in list(panels.flat)[len(names) :]:
        panel.set_visible(False)
    for panel in panels[:, 0]:
        panel.set_yticks(places, [row.label for row in rows], fontsize=8)
    figure.tight_layout()
    return figure


def _axis_figure(plt: Any, axis: Axis) -> Any:
    """Diversity, quality and geometry against the values of one setting; a dashed line marks the default, red the boundary."""
    values = list(axis.rows)
    places = [float(v) if axis.numeric else float(i) for i, v in enumerate(values)]
    names = [name for name in SHOWN if any(row.estimates[name].n for row in axis.rows.values())]
    figure, panels = plt.subplots(1, len(names), figsize=(2.7 * len(names), 2.7), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        draw(panel, places, [row.estimates[name] for row in axis.rows.values()], horizontal=False, line=axis.numeric)
        panel.axvline(places[values.index(axis.default)], color="0.5", linestyle="--", linewidth=1)
        for found in axis.boundary:
            panel.axvline(places[values.index(found.value)], color="tab:red", linewidth=1, alpha=0.6)
        panel.set_xticks(places, values, fontsize=7, rotation=0 if all(is_number(v) for v in values) else 30)
        panel.set_xlabel(axis.key, fontsize=9)
        panel.set_title(MEASURES[name].heading, fontsize=10)
        panel.grid(alpha=0.3)
    figure.tight_layout()
    return figure


def draw(panel: Any, places: Any, estimates: Sequence[Estimate], *, horizontal: bool, line: bool = False) -> None:
    """Means with their intervals on a panel; what has no value is left out."""
    present = [(place, e, e.mean) for place, e in zip(places, estimates, strict=True) if e.mean is not None]
    if not present:
        return
    at, means = [place for place, _, _ in present], [mean for _, _, mean in present]
    below = [max(0.0, mean - e.low) if e.low is not None else 0.0 for _, e, mean in present]
    above = [max(0.0, e.high - mean) if e.high is not None else 0.0 for _, e, mean in present]
    reach = np.array([below, above])
    style = "o-" if line else "o"
    if horizontal:
        panel.errorbar(means, at, xerr=reach, fmt=style, capsize=3, markersize=4)
    else:
        panel.errorbar(at, means, yerr=reach, fmt=style, capsize=3, markersize=4)
