"""Having units made and watching it: what ``batch``, ``sweep`` and ``evaluate`` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsd_gs.fleet.driver import Driver, Rules, Tally, Team
from fsd_gs.fleet.local import Inline, Processes, new_team_name
from fsd_gs.fleet.plan import record_plan
from fsd_gs.fleet.progress import Reporter
from fsd_gs.fleet.store import FLEET, FolderStore, Store
from fsd_gs.fleet.task import Task
from fsd_gs.fleet.unit import Unit
from fsd_gs.fleet.worker import Setup
from fsd_gs.interrupts import SignalWatch

if TYPE_CHECKING:
    from rich.console import Console

CANCEL = f"{FLEET}/cancel"


def work(
    store: Store,
    units: Sequence[Unit],
    rules: Rules,
    console: Console,
    make_team: Callable[[Callable[[], bool]], Team],
    done: Callable[[Unit], str] | None = None,
) -> tuple[Tally, int | None]:
    """Have a team make the units, watched, until the end or a signal.

    Args:
        store: where everything lies.
        units: what is to be made.
        rules: of the driver.
        console: for the table, or the lines where there is no terminal.
        make_team: from a function that says whether to stop to the workers.
        done: a line for people about a unit that was made.

    Returns:
        The tally, and the number of the signal that ended it, if one did.
    """

    def told(unit: Unit) -> None:
        if done is not None:
            reporter.tell(done(unit))

    cancelled = store.read(CANCEL)
    signals = SignalWatch()
    reporter = Reporter(store, console, new_team_name())
    stop = _Stop(lambda: signals.received is not None, lambda: store.read(CANCEL) != cancelled)
    signals.watch()
    try:
        with reporter:
            driver = Driver(store, units, make_team(stop), rules, tell=reporter.tell, watch=reporter.watch, done=told, stop=stop)
            if driver.tally.found:
                reporter.tell(f"{driver.tally.found} of {len(units)} are done already")
            try:
                tally = driver.run()
            finally:
                reporter.write(driver.tally, ended=True)
    finally:
        signals.unwatch()
    return tally, signals.received or (15 if tally.stopped else None)


class _Stop:
    """Whether to end early: a signal, asked each time, or ``fsd-gs fleet cancel``, looked for every few seconds."""

    def __init__(self, signalled: Callable[[], bool], cancelled: Callable[[], bool], every: float = 3.0) -> None:
        self._signalled, self._cancelled, self._every, self._clock = signalled, cancelled, every, time.monotonic
        self._next, self._is_cancelled = self._clock() + every, False

    def __call__(self) -> bool:
        if not self._is_cancelled and self._clock() >= self._next:
            self._next = self._clock() + self._every
            self._is_cancelled = self._cancelled()
        return self._is_cancelled or self._signalled()


def run_here(
    units: Sequence[Unit],
    task: Task,
    output: Path,
    *,
    workers: int,
    console: Console,
    done: Callable[[Unit], str] | None = None,
    cache: dict[Any, Any] | None = None,
) -> Tally:
    """Have this machine's workers make the units in ``output``.

    Args:
        units: what is to be made.
        task: what is done with them; what is wrong with a unit is a result to it, so no unit is tried twice.
        output: a folder.
        workers: processes; 1 works in this one.
        console: for the table, or the lines where there is no terminal.
        done: a line for people about a unit that was made.
        cache: what this process has loaded already, for the one worker in it.

    Raises:
        OutputError: no worker can go on.
        KeyboardInterrupt: it was stopped; what is done is kept.
    """
    if not units:
        return Tally(0)
    store, setup = FolderStore(output), Setup(str(output), task)
    record_plan(store, units)

    def team(stop: Callable[[], bool]) -> Team:
        return Inline(setup, stop, cache) if workers == 1 or len(units) < 2 else Processes(setup, workers)

    tally, _ = work(store, units, Rules(retries=1), console, team, done)
    if tally.stopped:
        raise KeyboardInterrupt
    return tally
