"""``report.html``: the whole evaluation on one page that works offline, from a double click.

Pictures are inside the file, a content security policy forbids every request, and all text (prompts, reasons, commands) is escaped.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from fsd_gs.config import to_yaml
from fsd_gs.experiments.evaluate.ablation import SHOWN, Axis
from fsd_gs.experiments.evaluate.evaluation import Evaluation, Row
from fsd_gs.experiments.evaluate.paper import PaperRow
from fsd_gs.experiments.evaluate.pictures import sheet
from fsd_gs.experiments.evaluate.scores import MEASURES
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
from fsd_gs.export.pictures import Frame
from fsd_gs.metrics.statistics import Comparison

JPEG_QUALITY = 82
OF_SHAPE = ("consistency", "janus", "holes", "tears", "haze", "floaters", "failure_rate", "seconds")


def report_page(evaluation: Evaluation, command: str, axes: Sequence[Axis] = (), plots: Sequence[Path] = ()) -> str:
    """The page as text."""
    suite = evaluation.made.suite
    parts = {
        "TITLE": html.escape(suite.title or "Evaluation"),
        "ABOUT": html.escape(suite.about),
        "NOTES": "".join(f"<p>{_inline(line)}</p>" for line in notes(evaluation)),
        "METHODS": _method_tables(evaluation.rows, comparable_figures(evaluation)),
        "COMPARISONS": _comparisons(evaluation),
        "AXES": "".join(_axis(axis) for axis in axes),
        "PLOTS": "".join(f'<img class="plot" alt="{html.escape(p.stem)}" src="{_data_url(p.read_bytes(), "png")}">' for p in plots),
        "SHEETS": "".join(_prompt_section(evaluation, prompt) for prompt in suite.prompts),
        "FAILURES": _failures(evaluation),
        "COMMAND": html.escape(command),
        "DETAILS": _details(evaluation),
        "STYLE": _resource("report.css"),
    }
    # One pass, so that a prompt cannot name another part.
    return re.sub("@@([A-Z]+)@@", lambda match: parts[match.group(1)], _resource("report.html.template"))


def _resource(name: str) -> str:
    return resources.files("fsd_gs.experiments.evaluate").joinpath(name).read_text("utf-8")


def _inline(markdown: str) -> str:
    """Escaped text; **bold** is all the Markdown that the notes use."""
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(markdown))


def _method_tables(rows: Sequence[Row], figures: Sequence[PaperRow]) -> str:
    """What the pictures show, then what the shapes are like: side by side they would be too wide for a page."""
    names = shown_measures(rows)
    of_shape = [name for name in names if name in OF_SHAPE]
    tables = _method_table(rows, figures, [name for name in names if name not in OF_SHAPE])
    made = [row for row in rows if row.setting != DDIM]  # images have no shape
    return tables + (f"<h3>Views, geometry, time</h3>{_method_table(made, [], of_shape)}" if made else "")


def _method_table(rows: Sequence[Row], figures: Sequence[PaperRow], names: Sequence[str]) -> str:
    """Our rows, and the paper's below theirs where they may be compared."""
    head = "".join(_heading(name) for name in names)
    body = ""
    for row in rows:
        cells = "".join(_cell(row, name) for name in names)
        body += f"<tr><th>{html.escape(row.label)}</th>{cells}<td>{row.failed} of {row.assets}</td></tr>"
        body += "".join(_paper_row(paper, names) for paper in figures if paper.method == row.label)
    return _scrolling(f"<th>method</th>{head}<th>failed</th>", body)


def _heading(name: str) -> str:
    measure = MEASURES[name]
    arrow = {True: " ↑", False: " ↓", None: ""}[measure.higher_is_better]
    return f'<th title="{html.escape(measure.explanation)}">{html.escape(measure.heading)}{arrow}</th>'


def _cell(row: Row, name: str) -> str:
    value, digits = row.estimates[name], MEASURES[name].digits
    limits = interval(value, digits)
    return f"<td>{mean_std(value, digits)}" + (f"<small>{limits}</small>" if limits else "") + "</td>"


def _paper_row(paper: PaperRow, names: Sequence[str]) -> str:
    cells = ""
    for name in names:
        value = getattr(paper, name, None)
        cells += "<td></td>" if value is None else f"<td>{value[0]:g} ± {value[1]:g}</td>"
    return f'<tr class="paper"><th>printed in the paper ({html.escape(paper.backbone)})</th>{cells}<td></td></tr>'


def _comparisons(evaluation: Evaluation) -> str:
    """One table a baseline: measures × methods, difference and ratio; what is clear is bold."""
    names = [name for name in shown_measures(evaluation.rows) if MEASURES[name].higher_is_better is not None]
    tables = ""
    for baseline in dict.fromkeys(baseline for _, baseline in evaluation.comparisons):
        columns = {setting: found for (setting, other), found in evaluation.comparisons.items() if other == baseline}
        head = "<th>measure</th>" + "".join(f"<th>{html.escape(setting_label(setting))}</th>" for setting in columns)
        body = "".join(
            f"<tr>{_heading(name)}{''.join(_comparison_cell(found[name], name) for found in columns.values())}</tr>" for name in names
        )
        tables += f"<div><h3>Against {html.escape(setting_label(baseline))}</h3>{_scrolling(head, body)}</div>"
    return f'<div class="beside">{tables}</div>' if tables else ""


def _comparison_cell(found: Comparison, name: str) -> str:
    difference, ratio = difference_text(name, found), ratio_text(name, found)
    style = ' class="clear"' if found.clear else ""
    return f"<td{style}>{difference}" + (f"<small>{ratio}</small>" if ratio != DASH else "") + "</td>"


def _scrolling(head: str, body: str, style: str = "") -> str:
    """A table that scrolls sideways by itself where it is wider than the page."""
    opening = f'<table class="{style}">' if style else "<table>"
    return f'<div class="scroll">{opening}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _axis(axis: Axis) -> str:
    names = [name for name in SHOWN if any(row.estimates[name].n for row in axis.rows.values())]
    broken = {b.value for b in axis.breaks}
    body = ""
    for value, row in axis.rows.items():
        label = html.escape(value) + (" (default)" if value == axis.default else "")
        style = ' class="broken"' if value in broken else ""
        body += f"<tr{style}><th>{label}</th>{''.join(_cell(row, name) for name in names)}</tr>"
    table = _scrolling("<th>value</th>" + "".join(_heading(name) for name in names), body)
    return f"<h3>{html.escape(axis.method)}: {html.escape(axis.key)}</h3><p>{html.escape(axis.statement)}</p>{table}"


def _prompt_section(evaluation: Evaluation, prompt: str) -> str:
    """Contact sheets of one prompt, a column a method."""
    figures = ""
    settings = [s for s in dict.fromkeys(p.setting for p in evaluation.prompts if p.prompt == prompt) if len(s) == 1]
    for setting in settings:
        picture = _jpeg(sheet(evaluation, setting, prompt))
        label = html.escape(setting_label(setting))
        figures += f'<figure><img alt="{label}" src="{_data_url(picture, "jpeg")}"><figcaption>{label}</figcaption></figure>'
    mark = " <small>(stand-in)</small>" if prompt in evaluation.made.suite.stand_ins else ""
    return f'<section class="prompt"><h3>{html.escape(prompt)}{mark}</h3><div class="sheets">{figures}</div></section>'


def _failures(evaluation: Evaluation) -> str:
    if not evaluation.failures:
        return "<p>None.</p>"
    body = ""
    for f in evaluation.failures:
        reasons = html.escape(", ".join(f.reasons))
        body += f"<tr><th>{html.escape(f.label)}</th><td>{html.escape(f.prompt)}</td><td>{f.seed}</td><td>{reasons}</td></tr>"
    return _scrolling("<th>method</th><th>prompt</th><th>seed</th><th>reason</th>", body, "text")


def _details(evaluation: Evaluation) -> str:
    """Versions, networks, and the configuration of every setting (of the first prompt and seed)."""
    made = evaluation.made
    facts = {**versions(), **{f"network, {question}": name for question, name in evaluation.scorers.names.items()}}
    rows = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in facts.items())
    blocks = f"<details><summary>Versions</summary><table class='text'>{rows}</table></details>"
    blocks += f"<details><summary>Protocol</summary><pre>{html.escape(json.dumps(vars(made.protocol), indent=1))}</pre></details>"
    for setting in dict.fromkeys(asset.setting for asset in made.assets):
        asset = next(a for a in made.assets if a.setting == setting)
        blocks += (
            f"<details><summary>Settings of {html.escape(asset.label)}</summary><pre>{html.escape(to_yaml(asset.config))}</pre></details>"
        )
    return blocks


def _jpeg(picture: Frame) -> bytes:
    from PIL import Image

    with io.BytesIO() as buffer:
        Image.fromarray(picture).save(buffer, format="JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
