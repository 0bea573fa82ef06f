"""``python -m fsd_gs.metrics.verdict.fit``: fit the verdict to the labelled assets and print how well it tells others apart.

The labelled signs lie beside the weights (``labelled.json``: group, prompt, seed, kept, signs). It minimises

    Σ_n log(1 + exp(−y_n f(s_n))) + λ/2 ‖w‖²,   y = ±1, both classes weighing the same, w within its signs (``model``)

with scipy's L-BFGS-B. Reported are the area under the ROC curve (Mann–Whitney U / n₊n₋) of the assets fitted on, of the same assets each
left out in turn with all of its prompt (cross-validation), and of those marked ``held_out``, which no fit ever sees.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fsd_gs.io import write_text
from fsd_gs.metrics.verdict.model import SHIPPED, VerdictModel
from fsd_gs.metrics.verdict.signs import NAMES, Signs

LABELLED = SHIPPED.parent / "labelled.json"
RIDGE = 0.3
LEAST = 0.02  # deviation: a sign that hardly varies among the labelled assets must not decide alone
FAVOUR = {"margin": 1}  # +1: more of it may only help; every other sign may only hurt


@dataclass(frozen=True)
class Labelled:
    """One asset that somebody looked at: kept or not."""

    group: str
    prompt: str
    seed: int
    kept: bool
    held_out: bool
    signs: Signs


def load_labelled(path: Path = LABELLED) -> list[Labelled]:
    """The labelled assets of a file like the shipped one."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [
        Labelled(r["group"], r["prompt"], r["seed"], r["kept"], r["held_out"], Signs(*(_number(r["signs"].get(n)) for n in NAMES)))
        for r in rows
    ]


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def fit(assets: Sequence[Labelled], ridge: float = RIDGE) -> VerdictModel:
    """The regression of the module, with the threshold ½; assets of both labels are needed."""
    from scipy.optimize import minimize

    raw = np.array([a.signs.as_tuple() for a in assets])
    raw[:, np.isnan(raw).all(axis=0)] = 0.0  # a sign that none of them has says nothing
    kept = np.array([a.kept for a in assets])
    means, deviations = np.nanmean(raw, axis=0), np.maximum(np.nanstd(raw, axis=0), LEAST)
    x = np.nan_to_num((raw - means) / deviations)
    y = np.where(kept, 1.0, -1.0)
    share = np.where(kept, 0.5 / kept.sum(), 0.5 / (~kept).sum()) * len(assets)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        margins = y * (x @ theta[:-1] + theta[-1])
        slope = -y * share / (1 + np.exp(np.clip(margins, -60, 60)))
        value = float((share * np.logaddexp(0, -margins)).sum() + ridge / 2 * (theta[:-1] ** 2).sum())
        return value, np.append(x.T @ slope + ridge * theta[:-1], slope.sum())

    bounds = [(0, None) if FAVOUR.get(name) else (None, 0) for name in NAMES] + [(None, None)]
    theta = minimize(loss, np.zeros(len(NAMES) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    table = [dict(zip(NAMES, map(float, row), strict=True)) for row in (theta[:-1], means, deviations)]
    return VerdictModel(*table, bias=float(theta[-1]))


def area_under_roc(scores: Sequence[float], kept: Sequence[bool]) -> float:
    """P(a kept asset scores above one that is not), ties ½; NaN where one kind is missing."""
    good, bad = (np.array([s for s, k in zip(scores, kept, strict=True) if k == wanted]) for wanted in (True, False))
    if not len(good) or not len(bad):
        return float("nan")
    return float(((good[:, None] > bad) + 0.5 * (good[:, None] == bad)).mean())


def scores_left_out(assets: Sequence[Labelled], ridge: float = RIDGE) -> list[float]:
    """p(keep) of each asset by a model that saw none of its prompt."""
    models = {p: fit([a for a in assets if a.prompt != p], ridge) for p in {a.prompt for a in assets}}
    return [models[a.prompt](a.signs).score for a in assets]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print, and write where asked; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fsd_gs.metrics.verdict.fit", description="Fit the verdict to the labelled assets.")
    parser.add_argument("--labelled", type=Path, default=LABELLED, help="the labelled signs")
    parser.add_argument("--output", type=Path, help="write the fitted numbers there")
    options = parser.parse_args(arguments)
    assets = load_labelled(options.labelled)
    seen, held_out = [a for a in assets if not a.held_out], [a for a in assets if a.held_out]
    model = fit(seen)
    for name, chosen, scores in (
        ("fitted on", seen, [model(a.signs).score for a in seen]),
        ("each prompt left out", seen, scores_left_out(seen)),
        ("held out", held_out, [model(a.signs).score for a in held_out]),
    ):
        kept = [a.kept for a in chosen]
        right = sum((s >= model.threshold) == k for s, k in zip(scores, kept, strict=True))
        print(f"{name}: {sum(kept)} kept, {len(kept) - sum(kept)} not; area under ROC {area_under_roc(scores, kept):.3f}, {right} right")
    for name in NAMES:
        print(f"  {name:9} weight {model.weights[name]:+.2f}  mean {model.means[name]:.3f}  deviation {model.deviations[name]:.3f}")
    if options.output:
        stored = {"bias": model.bias, "threshold": model.threshold, "weights": dict(model.weights), "means": dict(model.means)}
        write_text(options.output, json.dumps(stored | {"deviations": dict(model.deviations)}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
