"""What was measured as Markdown, CSV and JSON."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from fsd_gs import __version__
from fsd_gs.experiments.evaluate.ablation import SHOWN, Axis
from fsd_gs.experiments.evaluate.evaluation import Evaluation, Row
from fsd_gs.experiments.evaluate.paper import PaperRow, paper_rows, why_not
from fsd_gs.experiments.evaluate.scores import MEASURES
from fsd_gs.experiments.evaluate.suite import DDIM, Asset
from fsd_gs.experiments.sweep.spec import setting_label
from fsd_gs.experiments.text import csv_text, markdown_table
from fsd_gs.metrics.statistics import Comparison, Estimate

PACKAGES = (
    "torch",
    "numpy",
    "numba",
    "gsplat",
    "diffusers",
    "transformers",
    "safetensors",
    "kornia",
    "scipy",
    "torch-fidelity",
    "lpips",
)
DASH = "–"
RATIOS = ("alignment", "inception_score", "cross_fid", "diversity", "lpips", "modes")  # of the others 0 is no natural zero, or too common


def shown_measures(rows: Sequence[Row]) -> list[str]:
    """The columns that have a value anywhere."""
    return [name for name in MEASURES if any(row.estimates[name].n for row in rows)]


def comparable_figures(evaluation: Evaluation) -> list[PaperRow]:
    """The published figures that the suite and the scorers allow to be set beside ours."""
    return paper_rows(evaluation.made.suite, evaluation.scorers.comparable)


# -- cells of tables -------------------------------------------------------------------------------------------------------


def decimals(value: Estimate, digits: int) -> int:
    """``digits``, or as many as show two figures of a small mean, at most four: features of small networks have small distances."""
    if not value.mean:
        return digits
    return max(digits, min(4, 1 - math.floor(math.log10(abs(value.mean)))))


def mean_std(value: Estimate, digits: int) -> str:
    """'0.12 ± 0.03'; the mean alone of one prompt; a dash where there is nothing."""
    if value.mean is None:
        return DASH
    places = decimals(value, digits)
    return f"{value.mean:.{places}f}" + ("" if value.std is None else f" ± {value.std:.{places}f}")


def interval(value: Estimate, digits: int) -> str:
    """'[0.05, 0.19]'; empty where one prompt gives none."""
    places = decimals(value, digits)
    return "" if value.low is None or value.high is None else f"[{value.low:.{places}f}, {value.high:.{places}f}]"


def ratio_text(name: str, comparison: Comparison) -> str:
    """'2.1× [1.6, 2.9]'; a dash for measures without a natural zero."""
    value = comparison.ratio
    return DASH if value.mean is None or name not in RATIOS else " ".join(filter(None, [f"{value.mean:.2f}×", interval(value, 2)]))


def difference_text(name: str, comparison: Comparison) -> str:
    """'+0.12 [0.05, 0.19]'."""
    value, digits = comparison.difference, MEASURES[name].digits
    if value.mean is None:
        return DASH
    return " ".join(filter(None, [f"{value.mean:+.{decimals(value, digits)}f}", interval(value, digits)]))


# -- Markdown --------------------------------------------------------------------------------------------------------------


def markdown(evaluation: Evaluation, axes: Sequence[Axis] = ()) -> str:
    """The whole report as text: table, paper, comparisons, axes, failures, notes."""
    parts = [f"# {evaluation.made.suite.title or 'Evaluation'}", *notes(evaluation), method_table(evaluation.rows)]
    if figures := comparable_figures(evaluation):
        parts += ["## The paper's figures", paper_table(figures)]
    if evaluation.comparisons:
        parts += ["## Compared, prompt by prompt", comparison_table(evaluation)]
    for axis in axes:
        parts += [f"## {axis.method}: {axis.key}", axis_table(axis), axis.statement]
    if evaluation.failures:
        lines = [f"- {f.label}, {f.prompt} #{f.seed}: {', '.join(f.reasons)}" for f in evaluation.failures]
        parts += ["## Failures", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def notes(evaluation: Evaluation) -> list[str]:
    """What must be known to read the figures, one paragraph each."""
    made, suite = evaluation.made, evaluation.made.suite
    rows = [row for row in evaluation.rows if row.setting != DDIM]
    failed, total = sum(row.failed for row in rows), sum(row.assets for row in rows)
    lines = [
        f"{len(suite.prompts)} prompts × {len(suite.seeds)} seeds, {suite.views} views of {made.protocol.size} px at elevation "
        f"{made.protocol.elevation_deg:g}°; prior {suite.prior}. Mean ± standard deviation over prompts, [95 % bootstrap interval over "
        f"prompts]. {failed} of {total} assets failed; all of them are counted.",
        f"Networks: {networks(evaluation)}.",
    ]
    if evaluation.scorers.note:
        lines.append(f"**{evaluation.scorers.note[0].upper()}{evaluation.scorers.note[1:]}.**")
    if reason := why_not(suite, evaluation.scorers.comparable):
        lines.append(f"The paper's figures are not shown beside these: {reason}.")
    if suite.stand_ins:
        lines.append(f"{len(suite.stand_ins)} of the prompts are stand-ins: the paper is not known to have used them.")
    if len(suite.prompts) == 1:
        lines.append("One prompt only: there is no interval and no standard deviation over prompts.")
    return lines


def networks(evaluation: Evaluation) -> str:
    """'judge 1 (alignment, CROSS-FID)', every network once."""
    questions: dict[str, list[str]] = {}
    for question, name in evaluation.scorers.names.items():
        questions.setdefault(name, []).append(question)
    return "; ".join(f"{name} ({', '.join(asked)})" for name, asked in questions.items())


def method_table(rows: Sequence[Row]) -> str:
    """The methods' measures in Markdown, one row a method."""
    names = shown_measures(rows)
    body = [[row.label, *(cell(row, name) for name in names), f"{row.failed} of {row.assets}"] for row in rows]
    return markdown_table(["method", *(MEASURES[name].heading for name in names), "failed"], body)


def cell(row: Row, name: str) -> str:
    """A measure of a row with its interval, in Markdown."""
    value, digits = row.estimates[name], MEASURES[name].digits
    return " ".join(filter(None, [mean_std(value, digits), interval(value, digits)]))


def paper_table(figures: Sequence[PaperRow]) -> str:
    """The published figures in Markdown."""

    def pair(value: tuple[float, float] | None) -> str:
        return DASH if value is None else f"{value[0]:g} ± {value[1]:g}"

    body = [[f"{r.backbone}, {r.method}", pair(r.alignment), pair(r.inception_score), pair(r.cross_fid)] for r in figures]
    return markdown_table(["paper", "CLIP", "IS", "CROSS-FID"], body)


def comparison_table(evaluation: Evaluation) -> str:
    """The differences to the baselines with their intervals, in Markdown."""
    names = [name for name in shown_measures(evaluation.rows) if MEASURES[name].higher_is_better is not None]
    body = [
        [
            f"{setting_label(setting)} against {setting_label(baseline)}",
            MEASURES[name].heading,
            difference_text(name, found[name]),
            ratio_text(name, found[name]),
            str(found[name].difference.n),
        ]
        for (setting, baseline), found in evaluation.comparisons.items()
        for name in names
        if found[name].difference.n
    ]
    return markdown_table(["methods", "measure", "difference", "ratio", "prompts"], body)


def axis_table(axis: Axis) -> str:
    """The measures against the values of one setting, in Markdown."""
    rows = list(axis.rows.items())
    names = [name for name in SHOWN if any(row.estimates[name].n for _, row in rows)]
    body = [[f"{value} (default)" if value == axis.default else value, *(cell(row, name) for name in names)] for value, row in rows]
    return markdown_table([axis.key, *(MEASURES[name].heading for name in names)], body)


# -- CSV -------------------------------------------------------------------------------------------------------------------


def methods_csv(rows: Sequence[Row]) -> str:
    """One line a setting: mean, std, low, high and number of prompts of every measure."""
    ends = ("mean", "std", "low", "high", "n")
    header = ["method", "assets", "errors", "failed", *(f"{name}_{end}" for name in MEASURES for end in ends)]
    body = [
        [row.label, row.assets, row.errors, row.failed, *(getattr(row.estimates[name], end) for name in MEASURES for end in ends)]
        for row in rows
    ]
    return csv_text(header, body)


def prompts_csv(evaluation: Evaluation) -> str:
    """One line a setting and prompt."""
    body = []
    for s in evaluation.prompts:
        body.append([setting_label(s.setting), s.prompt, s.assets, s.errors, s.failed, *(s.values[name] for name in MEASURES)])
    return csv_text(["method", "prompt", "assets", "errors", "failed", *MEASURES], body)


# -- JSON ------------------------------------------------------------------------------------------------------------------


def results_json(evaluation: Evaluation, command: str, axes: Sequence[Axis] = ()) -> str:
    """Everything: versions, suite, resolved configurations with their hashes, values of every asset, prompt and method, comparisons."""
    made = evaluation.made
    content = {
        "command": command,
        "versions": versions(),
        "suite": asdict(made.suite),
        "protocol": asdict(made.protocol),
        "networks": evaluation.scorers.names,
        "note": evaluation.scorers.note,
        "methods": [
            {"method": r.label, "assets": r.assets, "errors": r.errors, "failed": r.failed}
            | {name: asdict(value) for name, value in r.estimates.items()}
            for r in evaluation.rows
        ],
        "comparisons": [
            {"method": setting_label(setting), "baseline": setting_label(baseline)} | {name: asdict(value) for name, value in found.items()}
            for (setting, baseline), found in evaluation.comparisons.items()
        ],
        "axes": [
            {"method": a.method, "key": a.key, "default": a.default, "values": list(a.rows), "boundary": [asdict(b) for b in a.boundary]}
            for a in axes
        ],
        "prompts": [
            {"method": setting_label(s.setting), "prompt": s.prompt, "assets": s.assets, "errors": s.errors, "failed": s.failed}
            | {"values": s.values}
            for s in evaluation.prompts
        ],
        "assets": [_asset_json(evaluation, asset) for asset in made.assets],
        "failures": [asdict(failure) for failure in evaluation.failures],
        "configs": {asset.key: asdict(asset.config) for asset in made.assets},
    }
    return json.dumps(_plain(content), indent=1, ensure_ascii=False) + "\n"


def _asset_json(evaluation: Evaluation, asset: Asset) -> dict[str, Any]:
    scores = evaluation.asset_scores[asset.key]
    return {
        "method": asset.label,
        "prompt": asset.config.prompt,
        "seed": asset.config.seed,
        "key": asset.key,
        "weights": asset.weights,
        "record": asdict(scores.record),
        "failed": scores.reasons,
        "values": scores.values,
        "geometry": scores.geometry,
    }


def versions() -> dict[str, str]:
    """Everything that may make the same command give other figures."""
    found = {"fsd_gs": __version__, "python": platform.python_version(), "platform": platform.platform(), "cores": str(os.cpu_count())}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _plain(value: Any) -> Any:
    """What JSON can hold: NaN becomes null, since JSON knows none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
