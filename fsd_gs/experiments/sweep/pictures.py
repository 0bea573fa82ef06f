"""What a sweep looks like: plots of diversity and quality against what varies, and contact sheets of settings × seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsd_gs.core.sheets import Frame, contact_sheet, framed, resized, to_uint8
from fsd_gs.experiments.figures import is_number, pyplot, save_figure
from fsd_gs.experiments.sweep.cells import CellResult, load_views
from fsd_gs.experiments.sweep.measures import Interval
from fsd_gs.experiments.sweep.spec import Cell, setting_label
from fsd_gs.experiments.sweep.table import MEASURES, SettingRow, is_failed
from fsd_gs.export.pictures import save_png

TILE, GAP, LABEL_WIDTH, HEADER = 96, 3, 190, 18


def save_plots(rows: Sequence[SettingRow], folder: Path) -> list[Path]:
    """``plot.png``: each measure against the settings; and ``plot-<key>.png`` against every setting that takes several values."""
    plt = pyplot()
    written = [save_figure(plt, _settings_figure(plt, rows), folder / "plot.png")]
    for key in _varying(rows):
        written.append(save_figure(plt, _curve_figure(plt, rows, key), folder / f"plot-{key}.png"))
    return written


def _varying(rows: Sequence[SettingRow]) -> list[str]:
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.setting:
            values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if key != "method" and len(found) > 1]


def _settings_figure(plt: Any, rows: Sequence[SettingRow]) -> Any:
    """One panel a measure, one line a setting: mean and interval."""
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(3.1 * len(MEASURES), 0.9 + 0.28 * len(rows)), sharey=True)
    places = np.arange(len(rows))[::-1]
    for axis, (name, (heading, _)) in zip(axes, MEASURES.items(), strict=True):
        means, errors = _bars([row.intervals[name] for row in rows])
        axis.errorbar(means, places, xerr=errors, fmt="o", capsize=3, markersize=4)
        axis.set_title(heading, fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(places, [setting_label(row.setting) for row in rows], fontsize=8)
    figure.tight_layout()
    return figure


def _curve_figure(plt: Any, rows: Sequence[SettingRow], key: str) -> Any:
    """Each measure against the values of ``key``, one curve for every combination of the other settings."""
    curves: dict[str, list[tuple[str, SettingRow]]] = {}
    for row in rows:
        choices = dict(row.setting)
        if key in choices:
            rest = tuple((k, v) for k, v in row.setting if k != key)
            curves.setdefault(setting_label(rest), []).append((choices[key], row))
    ticks = list(dict.fromkeys(value for points in curves.values() for value, _ in points))
    numeric = all(is_number(tick) for tick in ticks)
    places = {tick: float(tick) if numeric else float(i) for i, tick in enumerate(ticks)}  # "auto" has no place on a scale
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(3.1 * len(MEASURES), 2.8))
    for axis, (name, (heading, _)) in zip(axes, MEASURES.items(), strict=True):
        for label, points in curves.items():
            means, errors = _bars([row.intervals[name] for _, row in points])
            x = [places[value] for value, _ in points]
            axis.errorbar(x, means, yerr=errors, fmt="o-" if numeric else "o", capsize=3, markersize=4, label=label)
        axis.set_xticks(list(places.values()), list(places))
        axis.set_xlabel(key)
        axis.set_title(heading, fontsize=10)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    if len(curves) > 1:
        axes[0].legend(fontsize=7)
    figure.tight_layout()
    return figure


def _bars(intervals: Sequence[Interval]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means [n], and distances to both ends [2, n] as matplotlib wants them."""
    means = np.array([i.mean for i in intervals])
    return means, np.abs(np.array([[i.mean - i.low for i in intervals], [i.high - i.mean for i in intervals]]))


# -- contact sheets --------------------------------------------------------------------------------------------------------


def save_sheet(
    cells: Sequence[Cell], results: Mapping[str, CellResult], prompt: str, folder_of: Callable[[Cell], Path], path: Path, view: int = 1
) -> Path:
    """Rows = settings, columns = seeds, of one prompt; evaluation view number ``view``. Failed assets get a red frame."""
    chosen = [cell for cell in cells if cell.config.prompt == prompt]
    settings = list(dict.fromkeys(cell.setting for cell in chosen))
    seeds = sorted({cell.config.seed for cell in chosen})
    tiles = {
        (cell.setting, cell.config.seed): _tile(cell, results[cell.key], folder_of(cell), view) for cell in chosen if cell.key in results
    }
    save_png(_lay_out(prompt, settings, seeds, tiles), path)
    return path


def _tile(cell: Cell, result: CellResult, folder: Path, view: int) -> Frame:
    tile = np.full((TILE, TILE, 3), 235, dtype=np.uint8)
    if result.error is None:
        tile = resized(to_uint8(load_views(folder, cell.measure.views)[view % cell.measure.views]), TILE)
    return framed(tile, (200, 30, 30), 2) if is_failed(result, cell.measure.max_distance) else tile


def _lay_out(prompt: str, settings: Sequence[Any], seeds: Sequence[int], tiles: Mapping[Any, Frame]) -> Frame:
    """The sheet of tiles with the prompt and the seeds above and the settings to the left of it."""
    from PIL import Image, ImageDraw, ImageFont

    white, step = np.full((TILE, TILE, 3), 255, dtype=np.uint8), TILE + GAP
    body = contact_sheet([tiles.get((setting, seed), white) for setting in settings for seed in seeds], len(seeds), gap=GAP)
    sheet = Image.new("RGB", (LABEL_WIDTH + body.shape[1], HEADER + body.shape[0]), "white")
    sheet.paste(Image.fromarray(body), (LABEL_WIDTH, HEADER))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.text((4, 2), prompt, fill="black", font=font)
    for column, seed in enumerate(seeds):
        draw.text((LABEL_WIDTH + column * step + 4, 2), f"seed {seed}", fill="black", font=font)
    for row, setting in enumerate(settings):
        draw.text((4, HEADER + row * step + TILE // 2 - 8), setting_label(setting).replace(", ", "\n"), fill="black", font=font)
    return np.array(sheet)
