"""From cells to the tables: one row a setting and prompt, then one row a setting with intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from torch import Tensor

from fsd_gs.experiments.sweep.cells import CellResult, load_views
from fsd_gs.experiments.sweep.measures import Interval, Nearest, bootstrap_interval, distinct_objects, mean_pairwise
from fsd_gs.experiments.sweep.spec import Cell, setting_label
from fsd_gs.experiments.text import csv_text, markdown_table

Setting = tuple[tuple[str, str], ...]
Views = Callable[[CellResult], Tensor]
NAN = float("nan")

#: Column → (heading, digits). The first three need a prior with a finite set of objects.
MEASURES: dict[str, tuple[str, int]] = {
    "distinct": ("distinct objects", 2),
    "distance": ("distance to nearest", 4),
    "pairwise": ("pairwise distance", 4),
    "failures": ("failures", 2),
}


@dataclass(frozen=True)
class PromptRow:
    """All assets of one setting and prompt.

    Attributes:
        distinct, distance, pairwise: see ``measures``.
        failures, errors: counts.
        seconds: mean.
    """

    setting: Setting
    prompt: str
    assets: int
    distinct: float
    distance: float
    pairwise: float
    failures: int
    errors: int
    seconds: float


@dataclass(frozen=True)
class SettingRow:
    """One setting over all prompts; an :class:`Interval` for each of ``MEASURES``."""

    setting: Setting
    assets: int
    errors: int
    intervals: Mapping[str, Interval]
    seconds: float


def is_failed(result: CellResult, max_distance: float) -> bool:
    """By the rule of ``measures``: an error, unsound geometry, or none of the objects."""
    astray = result.distance is not None and not result.distance <= max_distance
    return result.error is not None or bool(result.failures) or astray


def prompt_row(setting: Setting, prompt: str, results: Sequence[CellResult], views: Views, max_distance: float) -> PromptRow:
    """The measures of the assets (one a seed) that ``setting`` made for ``prompt``."""
    sound = [r for r in results if not is_failed(r, max_distance)]
    ranked = [r for r in results if r.distance is not None and r.nearest is not None]
    reached = [Nearest(r.nearest, r.distance) for r in sound if r.nearest is not None and r.distance is not None]
    return PromptRow(
        setting=setting,
        prompt=prompt,
        assets=len(results),
        distinct=distinct_objects(reached, max_distance) if ranked else NAN,
        distance=_mean([r.distance for r in ranked]),
        pairwise=mean_pairwise([views(r) for r in sound]),
        failures=len(results) - len(sound),
        errors=sum(r.error is not None for r in results),
        seconds=_mean([r.seconds for r in results]),
    )


def prompt_rows(cells: Sequence[Cell], results: Mapping[str, CellResult], views: Views) -> list[PromptRow]:
    """Rows in the order of the cells; cells without a result yet are left out."""
    groups: dict[tuple[Setting, str], list[CellResult]] = {}
    for cell in cells:
        if cell.key in results:
            groups.setdefault((cell.setting, cell.config.prompt), []).append(results[cell.key])
    max_distance = cells[0].measure.max_distance if cells else NAN
    return [prompt_row(setting, prompt, group, views, max_distance) for (setting, prompt), group in groups.items()]


def setting_rows(rows: Sequence[PromptRow]) -> list[SettingRow]:
    """One row a setting, in the order of first appearance."""
    groups: dict[Setting, list[PromptRow]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    return [
        SettingRow(
            setting=setting,
            assets=sum(row.assets for row in group),
            errors=sum(row.errors for row in group),
            intervals={name: bootstrap_interval([float(getattr(row, name)) for row in group]) for name in MEASURES},
            seconds=_mean([row.seconds for row in group]),
        )
        for setting, group in groups.items()
    ]


def cells_csv(cells: Sequence[Cell], results: Mapping[str, CellResult]) -> str:
    """One line a finished cell: everything that was measured."""
    columns = (
        "prompt",
        "seed",
        "setting",
        "nearest",
        "caption",
        "distance",
        "failures",
        "holes",
        "haze",
        "splats",
        "seconds",
        "error",
        "key",
    )
    lines = []
    for cell in cells:
        if cell.key in results:
            result = results[cell.key]
            values = {name: getattr(result, name) for name in columns} | {
                "setting": cell.label,
                "failures": " ".join(result.failures),
            }
            lines.append([_csv_value(values[name]) for name in columns])
    return csv_text(columns, lines)


def prompts_csv(rows: Sequence[PromptRow]) -> str:
    """One line a setting and prompt."""
    columns = ("prompt", "assets", "distinct", "distance", "pairwise", "failures", "errors", "seconds")
    return csv_text(("setting", *columns), [[setting_label(r.setting), *(_csv_value(getattr(r, name)) for name in columns)] for r in rows])


def settings_csv(rows: Sequence[SettingRow]) -> str:
    """One line a setting: mean, low and high of each measure."""
    header = ["setting", "assets", "errors", "prompts", "seconds"]
    lines = []
    for row in rows:
        prompts = max(interval.n for interval in row.intervals.values())
        ends = [(interval.mean, interval.low, interval.high) for interval in row.intervals.values()]
        numbers = [_csv_value(value) for triple in ends for value in triple]
        lines.append([setting_label(row.setting), row.assets, row.errors, prompts, _csv_value(row.seconds), *numbers])
    return csv_text([*header, *(f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high"))], lines)


def markdown(rows: Sequence[SettingRow]) -> str:
    """The table for people: mean [low, high] of each measure."""
    headings = ["setting", *(heading for heading, _ in MEASURES.values()), "prompts", "assets", "errors", "s/asset"]
    lines = []
    for row in rows:
        cells = [_interval_text(row.intervals[name], digits) for name, (_, digits) in MEASURES.items()]
        prompts = max(interval.n for interval in row.intervals.values())
        ends = [str(prompts), str(row.assets), str(row.errors), "–" if math.isnan(row.seconds) else f"{row.seconds:.1f}"]
        lines.append([setting_label(row.setting), *cells, *ends])
    return markdown_table(headings, lines) + "\n"


def _interval_text(interval: Interval, digits: int) -> str:
    if interval.n == 0:
        return "–"
    return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _csv_value(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def _mean(values: Sequence[float | None]) -> float:
    kept = [v for v in values if v is not None]
    return fmean(kept) if kept else NAN


def view_loader(folder_of: Callable[[str], Path], views: int) -> Views:
    """Reads the views of a result from the folder of its key."""
    return lambda result: load_views(folder_of(result.key), views)
