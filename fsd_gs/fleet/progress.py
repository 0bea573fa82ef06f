"""How a batch stands: one status a driver, shown as a table in the terminal and on the overview page, and read by ``fsd-gs fleet status``.

.fleet/drivers/<name>.json    written by the driver every few seconds; what it says is for people, nothing is decided by it
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fsd_gs.core.terminal import duration
from fsd_gs.errors import FsdGsError
from fsd_gs.fleet.driver import Tally
from fsd_gs.fleet.protocol import Claims
from fsd_gs.fleet.store import FLEET, Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DRIVERS = f"{FLEET}/drivers"
SILENT_SECONDS = 120.0


@dataclass(frozen=True)
class WorkerState:
    """name; what it makes, "" for nothing; since when, in seconds; step of steps, 0 of 0 where that is not known."""

    name: str
    unit: str = ""
    seconds: float = 0.0
    step: int = 0
    steps: int = 0

    @property
    def words(self) -> str:
        how_far = f", step {self.step} of {self.steps}" if self.steps else ""
        return f"{self.unit} ({duration(self.seconds)}{how_far})" if self.unit else "idle"


@dataclass(frozen=True)
class Status:
    """What a driver says of itself.

    Attributes:
        updated: wall clock.
        elsewhere: units that others hold.
    """

    name: str
    host: str
    pid: int
    updated: float
    ended: bool
    total: int
    done: int
    made: int
    running: int
    failed: int
    waiting: int
    elsewhere: int
    per_hour: float | None
    left_seconds: float | None
    elapsed: float
    workers: list[WorkerState] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        """As far as its file tells: it has not said that it ended, and has said something of late."""
        return not self.ended and time.time() - self.updated < SILENT_SECONDS

    @property
    def state(self) -> str:
        return "ended" if self.ended else "running" if self.is_running else "silent"

    def figures(self) -> list[tuple[str, str]]:
        """The progress table: heading and value."""
        rate = "–" if self.per_hour is None else f"{self.per_hour:,.0f}" if self.per_hour >= 10 else f"{self.per_hour:.1f}"
        return [
            ("done", f"{self.done} of {self.total}"),
            ("running", str(self.running)),
            ("failed", str(self.failed)),
            ("waiting", str(self.waiting)),
            ("elsewhere", str(self.elsewhere)),
            ("assets an hour", rate),
            ("time left", duration(self.left_seconds)),
        ]


class Reporter:
    """Turns tallies into status files, a table that is drawn again and again, or a line now and then."""

    def __init__(self, store: Store, console: Console, name: str, *, every: float = 5.0) -> None:
        self.store, self.console, self.name, self._every = store, console, name, every
        self._claims = Claims(store)
        self._last_file = self._last_line = 0.0
        self._live: Any = None
        self._said = ""

    def __enter__(self) -> Reporter:
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self.console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def watch(self, tally: Tally) -> None:
        """Show a tally; the file is written every ``every`` seconds, a line of a log every minute."""
        now = time.monotonic()
        if now - self._last_file >= self._every:
            self._last_file = now
            self.write(tally)
        if self._live is not None:
            self._live.update(table([self.status(tally, steps=False)]))
        elif now - self._last_line >= 60.0:
            self._last_line = now
            line = "  ".join(f"{heading}: {value}" for heading, value in self.status(tally, steps=False).figures())
            if line != self._said:
                self._said = line
                self.tell(line)

    def write(self, tally: Tally, ended: bool = False) -> None:
        with suppress(FsdGsError, OSError):  # a table for people must not stop the work
            self.store.replace(f"{DRIVERS}/{self.name}.json", json.dumps(asdict(self.status(tally, ended))).encode())

    def status(self, tally: Tally, ended: bool = False, steps: bool = True) -> Status:
        now = time.monotonic()
        workers = []
        for worker, (key, label, since) in sorted(tally.running.items()):
            beat = self._claims.standing(key).beat if steps else None
            workers.append(WorkerState(worker, label, round(now - since, 1), beat.step if beat else 0, beat.steps if beat else 0))
        workers += [WorkerState(f"{tally.workers - len(workers)} more")] if tally.workers > len(workers) else []
        return Status(
            self.name, socket.gethostname(), os.getpid(), time.time(), ended, tally.total, tally.done, tally.made, len(tally.running),
            len(tally.failed), tally.waiting, tally.elsewhere, tally.per_hour(now), tally.left_seconds(now), now - tally.began, workers,
        )  # fmt: skip


def read_status(store: Store) -> list[Status]:
    """What the drivers of a store last said, those that are at work first; older ones that ended are left out beyond the last three."""
    found = []
    for name in store.files(DRIVERS):
        with suppress(ValueError, TypeError, KeyError):
            values = json.loads(store.read(name) or b"")
            values["workers"] = [WorkerState(**worker) for worker in values["workers"]]
            found.append(Status(**values))
    found.sort(key=lambda status: (not status.is_running, -status.updated))
    running = [status for status in found if status.is_running]
    return running or found[:3]


def table(statuses: Sequence[Status]) -> Table:
    """The progress table of some drivers, with the state of every worker below."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False)
    for heading, _ in statuses[0].figures() if statuses else ():
        drawn.add_column(heading)
    for status in statuses:
        drawn.add_row(*(value for _, value in status.figures()))
        for worker in status.workers:
            drawn.add_row(f"  {worker.name}", worker.words)
    return drawn
