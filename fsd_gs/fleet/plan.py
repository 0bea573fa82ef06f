"""What a command set out to make, written beside the results: without it nobody could tell what is still waiting.

.fleet/plans/<time>-<hash of all keys>.jsonl    a line on the settings, then one a unit: key, folder, label, columns
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fsd_gs.config import Config
from fsd_gs.fleet.store import FLEET, Store
from fsd_gs.fleet.unit import Unit
from fsd_gs.train.identity import decisive_settings

PLANS = f"{FLEET}/plans"
_OF_A_UNIT = ("prompt", "negative_prompt", "seed")


@dataclass(frozen=True)
class Planned:
    """A line of a plan."""

    key: str
    folder: str
    label: str
    columns: Mapping[str, Any]


def record_plan(store: Store, units: Sequence[Unit]) -> list[str]:
    """Write the plan of ``units``, unless it is there. Lines for people about units that an earlier plan has with other settings."""
    name = f"{hashlib.sha256(''.join(unit.key for unit in units).encode()).hexdigest()[:16]}.jsonl"
    earlier = plan_files(store)
    if any(file.endswith(name) for file in earlier):
        return []
    settings = decisive_settings(units[0].payload) if units and isinstance(units[0].payload, Config) else {}
    settings = json.loads(json.dumps(settings))  # as they will be read again
    notes = _what_changed(store, earlier, units, settings)
    head = json.dumps({"settings": settings, "units": len(units)}, ensure_ascii=False)
    lines = (json.dumps(asdict(Planned(u.key, u.folder, u.label, dict(u.columns))), ensure_ascii=False) for u in units)
    store.create(f"{PLANS}/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{name}", "\n".join([head, *lines, ""]).encode())
    return notes


def plan_files(store: Store) -> list[str]:
    """The plans, the oldest first."""
    return sorted(name for name in store.files(PLANS) if name.endswith(".jsonl"))


def read_plan(store: Store, name: str) -> tuple[dict[str, Any], Iterator[Planned]]:
    """The head of a plan, and its units; lines that cannot be read are left out."""
    lines = _lines(store, name)
    head = _line(next(lines, b"{}"))
    return head or {}, (Planned(**values) for line in lines if (values := _line(line)) is not None)


def planned_units(store: Store) -> Iterator[Planned]:
    """The units of all plans, each once."""
    files = plan_files(store)
    seen: set[int] = set()
    for name in files:
        for unit in read_plan(store, name)[1]:
            if len(files) > 1:
                if int(unit.key, 16) in seen:
                    continue
                seen.add(int(unit.key, 16))
            yield unit


def _lines(store: Store, name: str) -> Iterator[bytes]:
    """One after the other: the plan of a million units is a quarter of a gigabyte."""
    with store.reading(name) as path:
        if path is not None:
            with path.open("rb") as file:
                yield from file


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(text)
        return values if isinstance(values, dict) else None
    except ValueError:
        return None


def _what_changed(store: Store, earlier: Sequence[str], units: Sequence[Unit], settings: Mapping[str, Any]) -> list[str]:
    if not earlier:
        return []
    now = {unit.label: unit.key for unit in units}
    head, before = read_plan(store, earlier[-1])
    others = sum(now.get(unit.label, unit.key) != unit.key for unit in before)
    if not others:
        return []
    old = head.get("settings", {})
    changed = [f"{key} ({old.get(key)} → {value})" for key, value in settings.items() if key not in _OF_A_UNIT and old.get(key) != value]
    what = ", ".join(changed) or "settings of the lines, or the version of this package"
    return [f"{others} of {len(units)} units are here with other settings and stay; these are new, in folders of their own: {what}"]
