"""Parts of a run one after the other: a list of settings, each of which stands over the run's own for its share of the steps.

    steps: 300
    stages:
      - {name: shape, steps: 2, schedule: {end: 0.5}}
      - {name: detail, steps: 1, prior: {name: exact}, schedule: {start: 0.5, end: 0.1}}

Stages divide the run's steps in proportion to their own (plain counts, where those add up to the run's): stage k of n ends at

    border_k = round( steps · Σ_{j≤k} steps_j / Σ_{j≤n} steps_j ).

The settings of a stage are those of a run of its own: fractions of a run (``render.size_at``, ``densify.start``) and times are the stage's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Generic, TypeVar

from fsd_gs.core.configure import settings_over
from fsd_gs.errors import ConfigError

Settings = TypeVar("Settings")

OWN = ("name", "steps")  # of a stage, besides the settings that it changes
_NAME = re.compile(r"[\w][\w .+-]{0,39}")


@dataclass(frozen=True)
class Part(Generic[Settings]):
    """A part of a run.

    Attributes:
        number: from 0.
        name: for people.
        first: the run's step (from 0) that it begins with.
        settings: of a run that is only this part; its steps are the part's.
    """

    number: int
    name: str
    first: int
    settings: Settings


def split(settings: Settings, may_change: Callable[[str], bool]) -> tuple[Part[Settings], ...]:
    """The parts of a run, in order; a run without stages is one.

    Args:
        settings: with ``steps`` and ``stages``.
        may_change: whether a stage may have a setting of that dotted name for itself.

    Raises:
        ConfigError: one line that begins with the stage and names the key.
    """
    entries, steps = list(settings.stages), settings.steps  # type: ignore[attr-defined]
    whole = replace(settings, stages=[])  # type: ignore[type-var]
    if not entries:
        return (Part(0, "", 0, whole),)
    origins = [_origin(k, entry) for k, entry in enumerate(entries)]
    shares = [_share(entry, origin) for entry, origin in zip(entries, origins, strict=True)]
    borders = [0, *(round(steps * done / sum(shares)) for done in accumulate(shares))]
    parts = []
    for k, (entry, origin, (first, end)) in enumerate(zip(entries, origins, pairwise(borders), strict=True)):
        if end <= first:
            raise ConfigError(f"{origin}steps: no step of the run's {steps} falls to it; raise steps, or leave the stage out")
        changed = {key: value for key, value in entry.items() if key not in OWN}
        own = settings_over(whole, changed, may_change, origin)
        parts.append(Part(k, str(entry.get("name", f"stage {k}")), first, replace(own, steps=end - first)))  # type: ignore[type-var]
    return tuple(parts)


def _origin(number: int, entry: Any) -> str:
    """How messages call a stage: "stages[1] (detail): "."""
    place = f"stages[{number}]"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{place}: expected keys and values, got {'nothing' if entry is None else type(entry).__name__}")
    name = entry.get("name", "")
    if name != "" and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ConfigError(f"{place}.name: expected a word of at most 40 letters, digits, blanks, '.', '+' and '-', got {name!r}")
    return f"{place} ({name}): " if name else f"{place}: "


def _share(entry: Mapping[str, Any], origin: str) -> float:
    share = entry.get("steps", 1)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 10_000_000:
        raise ConfigError(f"{origin}steps: expected a number above 0, its share of the run's steps, got {share!r}")
    return share
