"""One factor at a time: diversity, quality and holes along each axis, and the value at which geometry starts to break.

Let v_0 be the method's own value of a setting, v_1, v_2, … the values of its axis, and for every value v

    h(v)   mean over prompts of the holes,  r(v)  of the tears,  f(v)  of the failure rate     (``scores``)

Geometry *breaks* at v where one of them exceeds its value at v_0 by more than its margin:

    h(v) − h(v_0) > 0.005     half a percent of the silhouette leaks; the most that ``metrics.geometry`` lets a sound asset have
    r(v) − r(v_0) > 0.01      likewise
    f(v) − f(v_0) > 0.10      one asset in ten more

The **boundary** of an axis of numbers is, on either side of v_0, the first v at which geometry breaks, going away from v_0. Where values
are names (a noise function, a schedule), order means nothing, and every v at which geometry breaks is listed. A break is called *clear*
where the 95 % interval of the difference, paired by prompt, excludes 0 (``statistics``); otherwise more prompts may undo it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fsd_gs.config import Config
from fsd_gs.experiments.evaluate.evaluation import Evaluation, Row, comparisons_of
from fsd_gs.experiments.evaluate.suite import Setting
from fsd_gs.experiments.figures import is_number
from fsd_gs.experiments.sweep.spec import setting_label, value_text
from fsd_gs.metrics.statistics import Comparison

MARGINS = {"holes": 0.005, "tears": 0.01, "failure_rate": 0.10}
#: What an axis is read by: diversity, quality, geometry.
SHOWN = ("cross_fid", "diversity", "modes", "alignment", "category", "holes", "tears", "failure_rate")


@dataclass(frozen=True)
class Break:
    """Geometry breaks at ``value``: ``measure`` exceeds the default's by ``excess`` (in its own unit).

    Attributes:
        clear: its interval excludes 0.
    """

    value: str
    measure: str
    excess: float
    clear: bool


@dataclass(frozen=True)
class Axis:
    """One setting of one method varied alone.

    Attributes:
        default: v_0.
        rows: value → row, in the order of the axis, with the default among them.
    """

    method: str
    key: str
    default: str
    rows: Mapping[str, Row]
    breaks: Sequence[Break]

    @property
    def numeric(self) -> bool:
        return all(is_number(value) for value in self.rows)

    @property
    def boundary(self) -> list[Break]:
        """Of numbers: at most one break on either side of the default. Of names: all of them."""
        if not self.numeric:
            return list(self.breaks)
        start = float(self.default)
        below = [b for b in self.breaks if float(b.value) < start]
        above = [b for b in self.breaks if float(b.value) > start]
        first_below = [max(below, key=lambda b: float(b.value))] if below else []
        return first_below + ([min(above, key=lambda b: float(b.value))] if above else [])

    @property
    def statement(self) -> str:
        """The boundary in words."""
        tried = ", ".join(self.rows)
        head = f"{self.method}, {self.key} (default {self.default}; tried {tried}): "
        if not self.boundary:
            return head + "geometry does not break."
        return head + "; ".join(_in_words(b) for b in self.boundary) + "."


def _in_words(b: Break) -> str:
    certainty = "clear" if b.clear else "within its interval, so more prompts may undo it"
    return f"geometry breaks at {b.value} ({b.measure.replace('_', ' ')} +{b.excess:.3g}; {certainty})"


def axes_of(evaluation: Evaluation, seed: int = 0) -> list[Axis]:
    """Every axis of the suite, for every method. Grids (``pairs``) have no axis: they are rows of the table."""
    rows = {row.setting: row for row in evaluation.rows}
    configs = {asset.setting: asset.config for asset in evaluation.made.assets}
    found = []
    for setting, row in rows.items():
        if len(setting) != 1 or setting not in configs:
            continue
        comparisons = comparisons_of(evaluation.prompts, [setting_label(setting)], seed)
        for key, choices in evaluation.made.suite.axes.items():
            values = {value_text(choice): rows[(*setting, (key, value_text(choice)))] for choice in choices}
            found.append(_axis(setting, key, row, values, configs[setting], comparisons))
    return found


def _axis(
    setting: Setting,
    key: str,
    row: Row,
    values: dict[str, Row],
    config: Config,
    comparisons: Mapping[tuple[Setting, Setting], Mapping[str, Comparison]],
) -> Axis:
    default = default_value(config, key)
    same = next((value for value in values if _equal(value, default)), None)
    breaks = [
        found
        for value, other in values.items()
        if value != same and (found := break_at(value, row, other, comparisons[other.setting, setting])) is not None
    ]
    ordered = values if same is not None else {default: row, **values}
    if all(is_number(value) for value in ordered):
        ordered = dict(sorted(ordered.items(), key=lambda item: float(item[0])))
    return Axis(setting[0][1], key, same or default, ordered, breaks)


def break_at(value: str, default: Row, other: Row, comparisons: Mapping[str, Comparison]) -> Break | None:
    """The measure that exceeds its margin by the largest factor, or None where none does; all three by the rule of the module."""
    worst: Break | None = None
    factor = 1.0
    for measure, margin in MARGINS.items():
        before, after = default.estimates[measure].mean, other.estimates[measure].mean
        if before is None or after is None or (after - before) / margin <= factor:
            continue
        factor = (after - before) / margin
        worst = Break(value, measure, after - before, comparisons[measure].clear)
    return worst


def default_value(config: Config, key: str) -> str:
    """What the method itself has for ``key``, as it is written on the command line."""
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value_text(value)


def _equal(first: str, second: str) -> bool:
    if is_number(first) and is_number(second):
        return math.isclose(float(first), float(second))
    return first == second
