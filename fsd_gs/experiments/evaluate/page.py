"""``report.html``: the whole evaluation on one page that works offline, from a double click.

Pictures are inside the file, a content security policy forbids every request, and all text (prompts, reasons, commands) is escaped.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsd_gs.config import to_yaml
from fsd_gs.core.pages import data_url, page_style, render_page
from fsd_gs.core.sheets import Frame
from fsd_gs.experiments.evaluate.ablation import SHOWN, Axis
from fsd_gs.experiments.evaluate.evaluation import Evaluation, Row
from fsd_gs.experiments.evaluate.paper import PaperRow
from fsd_gs.experiments.evaluate.pictures import sheet
from fsd_gs.experiments.evaluate.scores import MEASURES, Measure
from fsd_gs.experiments.evaluate.suite import DDIM
from fsd_gs.experiments.evaluate.tables import (
    DASH,
    comparable_figures,
    difference_text,
    interval,
    mean_std,
    notes,
    ratio_text,
    shown_measures,
    versions,
)
from fsd_gs.experiments.sweep.spec import setting_label
from fsd_gs.metrics.statistics import Comparison

JPEG_QUALITY = 82
_HERE = "fsd_gs.experiments.evaluate"
OF_SHAPE = ("consistency", "janus", "holes", "tears", "haze", "floaters", "failure_rate", "seconds")


@dataclass(frozen=True)
class Cell:
    """A figure and, small below it, its interval or ratio.

    Attributes:
        clear: the difference is one (then it is bold).
    """

    text: str
    small: str = ""
    clear: bool = False


@dataclass(frozen=True)
class TableRow:
    """A row of a table on the page.

    Attributes:
        style: its CSS class.
    """

    label: str
    cells: list[Cell]
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table on the page.

    Attributes:
        corner: heading of the first column.
        measures: of the columns after it, then ``plain`` headings.
    """

    corner: str
    measures: list[Measure]
    rows: list[TableRow]
    plain: list[str] = field(default_factory=list)


def report_page(evaluation: Evaluation, command: str, axes: Sequence[Axis] = (), plots: Sequence[Path] = ()) -> str:
    """The page as text."""
    made, suite = evaluation.made, evaluation.made.suite
    names = shown_measures(evaluation.rows)
    shaped = [row for row in evaluation.rows if row.setting != DDIM]  # images have no shape
    return render_page(
        f"{_HERE}/report.html.j2",
        title=suite.title or "Evaluation",
        about=suite.about,
        notes=[_bold_parts(line) for line in notes(evaluation)],
        pictures=_method_table(evaluation.rows, comparable_figures(evaluation), [name for name in names if name not in OF_SHAPE]),
        shapes=_method_table(shaped, [], [name for name in names if name in OF_SHAPE]) if shaped else None,
        comparisons=_comparisons(evaluation),
        axes=[_axis(axis) for axis in axes],
        plots=[(path.stem, data_url(path.read_bytes(), "image/png")) for path in plots],
        sheets=[_sheets(evaluation, prompt) for prompt in suite.prompts],
        failures=evaluation.failures,
        command=command,
        versions=[*versions().items(), *((f"network, {question}", name) for question, name in evaluation.scorers.names.items())],
        protocol=json.dumps(vars(made.protocol), indent=1),
        settings=_settings(evaluation),
        style=page_style(_HERE, "report.css"),
    )


def _bold_parts(markdown: str) -> list[tuple[bool, str]]:
    """(bold, text) in order; **bold** is all the Markdown that the notes use."""
    return [(index % 2 == 1, text) for index, text in enumerate(re.split(r"\*\*(.+?)\*\*", markdown)) if text]


def _method_table(rows: Sequence[Row], figures: Sequence[PaperRow], names: Sequence[str]) -> Table:
    """Our rows, and the paper's below theirs where they may be compared."""
    body = []
    for row in rows:
        body.append(TableRow(row.label, [*(_cell(row, name) for name in names), Cell(f"{row.failed} of {row.assets}")]))
        body += [_paper_row(paper, names) for paper in figures if paper.method == row.label]
    return Table("method", [MEASURES[name] for name in names], body, ["failed"])


def _cell(row: Row, name: str) -> Cell:
    value, digits = row.estimates[name], MEASURES[name].digits
    return Cell(mean_std(value, digits), interval(value, digits) or "")


def _paper_row(paper: PaperRow, names: Sequence[str]) -> TableRow:
    values = [getattr(paper, name, None) for name in names]
    cells = [Cell("" if value is None else f"{value[0]:g} ± {value[1]:g}") for value in values]
    return TableRow(f"printed in the paper ({paper.backbone})", [*cells, Cell("")], "paper")


def _comparisons(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One table a baseline: measures × methods, difference and ratio; what is clear is bold."""
    names = [name for name in shown_measures(evaluation.rows) if MEASURES[name].higher_is_better is not None]
    tables = []
    for baseline in dict.fromkeys(baseline for _, baseline in evaluation.comparisons):
        columns = {setting: found for (setting, other), found in evaluation.comparisons.items() if other == baseline}
        rows = [(MEASURES[name], [_comparison_cell(found[name], name) for found in columns.values()]) for name in names]
        tables.append({"baseline": setting_label(baseline), "methods": [setting_label(setting) for setting in columns], "rows": rows})
    return tables


def _comparison_cell(found: Comparison, name: str) -> Cell:
    ratio = ratio_text(name, found)
    return Cell(difference_text(name, found), "" if ratio == DASH else ratio, found.clear)


def _axis(axis: Axis) -> dict[str, Any]:
    names = [name for name in SHOWN if any(row.estimates[name].n for row in axis.rows.values())]
    broken = {b.value for b in axis.breaks}
    rows = [
        TableRow(
            value + (" (default)" if value == axis.default else ""),
            [_cell(row, name) for name in names],
            "broken" if value in broken else "",
        )
        for value, row in axis.rows.items()
    ]
    return {
        "title": f"{axis.method}: {axis.key}",
        "statement": axis.statement,
        "table": Table("value", [MEASURES[name] for name in names], rows),
    }


def _sheets(evaluation: Evaluation, prompt: str) -> dict[str, Any]:
    """Contact sheets of one prompt, a column a method."""
    settings = [s for s in dict.fromkeys(p.setting for p in evaluation.prompts if p.prompt == prompt) if len(s) == 1]
    pictures = [(setting_label(setting), data_url(_jpeg(sheet(evaluation, setting, prompt)), "image/jpeg")) for setting in settings]
    return {"prompt": prompt, "stand_in": prompt in evaluation.made.suite.stand_ins, "pictures": pictures}


def _settings(evaluation: Evaluation) -> list[tuple[str, str]]:
    """(label, YAML) of every setting, of its first prompt and seed."""
    first: dict[Any, Any] = {}
    for asset in evaluation.made.assets:
        first.setdefault(asset.setting, asset)
    return [(asset.label, to_yaml(asset.config)) for asset in first.values()]


def _jpeg(picture: Frame) -> bytes:
    from PIL import Image

    with io.BytesIO() as buffer:
        Image.fromarray(picture).save(buffer, format="JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()
