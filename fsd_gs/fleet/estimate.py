"""How long a batch will take, from the run book: the times of what was made before, by prior.

    seconds of an asset ≈ median over the finished runs of (seconds / step) · steps

A run book is any folder of finished runs: the output of an earlier batch (its markers) or of ``train.py`` (the steps in ``log.jsonl``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

from fsd_gs.config import Config
from fsd_gs.core.configure import read_yaml
from fsd_gs.errors import FsdGsError
from fsd_gs.fleet.protocol import Marker
from fsd_gs.fleet.store import MARKER
from fsd_gs.fleet.unit import Unit

MOST_RUNS = 500


def run_book(folders: Iterable[Path]) -> dict[str, list[float]]:
    """Seconds a step of finished runs, by prior and image size ("nano 64"); of at most 500 runs a folder."""
    book: dict[str, list[float]] = {}
    for folder in folders:
        for count, run in enumerate(folder.glob("*/seed-*")):
            if count >= MOST_RUNS:
                break
            for kind, seconds in _time_of(run):
                book.setdefault(kind, []).append(seconds)
    return book


def estimate(units: Sequence[Unit], book: dict[str, list[float]]) -> tuple[float, int]:
    """(seconds of work of one worker for the units whose kind the book knows, number of units whose kind it does not know)."""
    total, unknown = 0.0, 0
    for unit in units:
        times = book.get(_kind(unit.payload))
        if times:
            total += median(times) * max(unit.payload.steps, 1)
        else:
            unknown += 1
    return total, unknown


def _kind(config: Config) -> str:
    return f"{config.prior.name} {max(config.render.sizes)}"


def _time_of(run: Path) -> Iterator[tuple[str, float]]:
    with suppress(FsdGsError, OSError, ValueError, KeyError, TypeError, IndexError):
        values, _ = read_yaml(run / "config.yaml")
        kind, steps = f"{values['prior']['name']} {max(values['render']['sizes'])}", max(int(values["steps"]), 1)
        if (run / MARKER).is_file():
            marker = Marker.from_json((run / MARKER).read_bytes())
            if marker.facts.get("optimisation_seconds") is not None:  # known: it was made in one go
                yield kind, (marker.seconds or 0.0) / steps
        elif (run / "splats.ply").is_file():
            lines = (json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
            yield kind, sum(line.get("seconds", 0.0) for line in lines) / steps
