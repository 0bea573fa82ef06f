"""Who gets which unit next. A driver has a list of units and a team of workers; the truth is on the disk, so it may be killed at any time.

    waiting     to be given to a worker, in the order of the list
    running     with a worker of ours
    elsewhere   claimed by somebody that is not ours: looked at every few seconds until it is done, has failed, or its owner is dead
    done, failed

A unit that failed goes to another worker if there is one, ``retries`` times; what was wrong with a machine (a full disk) does not count
against the unit but against the worker, which is given nothing more after the second time in a row. The team replaces workers that die.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fsd_gs.errors import OutputError
from fsd_gs.fleet.protocol import COUNTED, STALE_SECONDS, Claims, Failure, Standing, Watch, marker_of
from fsd_gs.fleet.store import Store
from fsd_gs.fleet.unit import Unit
from fsd_gs.fleet.worker import Report

MOST_MACHINE_FAILURES = 3  # of one unit: then it may be the unit after all
STRIKES = 2


@dataclass(frozen=True)
class Event:
    """Something a worker did. report None: it died over its unit, for ``reason``."""

    worker: str
    report: Report | None = None
    reason: str = ""


class Team(Protocol):
    """Workers, wherever they are. Those that die come back by themselves, with the same name, as long as that makes sense."""

    def idle(self) -> list[str]:
        """Workers that can take a unit now."""
        ...

    def present(self) -> list[str]:
        """Workers that are there now, idle or over a unit."""
        ...

    def size(self) -> int:
        """Workers that live or will live again."""
        ...

    def give(self, worker: str, unit: Unit, attempt: int) -> None: ...
    def events(self, timeout: float) -> list[Event]: ...
    def retire(self, worker: str) -> None: ...
    def ask_to_stop(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Rules:
    """When a driver tries again, waits and gives up.

    Attributes:
        retries: how often a failed unit is tried again, by another worker.
        retry_failed: also those that an earlier command gave up.
        stale_seconds: see ``protocol``.
        poll_seconds: between two looks at what is claimed elsewhere.
        grace_seconds: for workers to stop.
        absent_seconds: for which a unit that failed waits for workers that are not there: just starting, or on a node that has left.
    """

    retries: int = 2
    retry_failed: bool = False
    stale_seconds: float = STALE_SECONDS
    poll_seconds: float = 5.0
    grace_seconds: float = 60.0
    absent_seconds: float = 60.0


@dataclass
class Job:
    """A unit on its way.

    Attributes:
        attempt: the first that is not known to be claimed, or the one that runs.
        failures: that count.
        forgiven: that did once.
        machine: failures that were not the unit's.
        avoid: workers that failed at it.
        failed_at: when the last of them did.
    """

    unit: Unit
    attempt: int = 1
    failures: int = 0
    forgiven: int = 0
    machine: int = 0
    avoid: set[str] = field(default_factory=set)
    since: float = 0.0
    failed_at: float = 0.0


@dataclass
class Tally:
    """Where everything is. done: found before, plus made, plus made by others while this driver ran."""

    total: int
    found: int = 0
    made: int = 0
    seconds: float = 0.0
    failed: dict[str, tuple[Unit, Failure]] = field(default_factory=dict)
    waiting: int = 0
    running: dict[str, tuple[str, str, float]] = field(default_factory=dict)  # worker → (key, label, since)
    elsewhere: int = 0
    workers: int = 0
    stopped: bool = False
    began: float = 0.0

    @property
    def done(self) -> int:
        return self.found + self.made

    def per_hour(self, now: float) -> float | None:
        """Units made by this driver an hour; None before the first."""
        return self.made / (now - self.began) * 3600 if self.made and now > self.began else None

    def left_seconds(self, now: float) -> float | None:
        """Until the end at this pace; None where nobody knows."""
        rate = self.per_hour(now)
        left = self.total - self.done - len(self.failed)
        return 0.0 if left <= 0 else None if rate is None else left / rate * 3600


class Driver:
    """Has ``team`` make ``units``.

    Args:
        tell: called with one line for people.
        watch: called with the tally about once a second.
        done: called with every unit that was made while the driver ran, by whomever.
        stop: asked whether to end early.
    """

    def __init__(
        self,
        store: Store,
        units: Sequence[Unit],
        team: Team,
        rules: Rules | None = None,
        *,
        tell: Callable[[str], None] = lambda line: None,
        watch: Callable[[Tally], None] = lambda tally: None,
        done: Callable[[Unit], None] = lambda unit: None,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.team, self.rules = store, team, rules or Rules()
        self.claims = Claims(store)
        self._tell, self._show, self._done, self._stop, self._clock = tell, watch, done, stop, clock
        self._watch = Watch(self.rules.stale_seconds, clock)
        self._waiting: deque[Job] = deque()
        self._running: dict[str, Job] = {}
        self._elsewhere: dict[str, Job] = {}
        self._strikes: dict[str, int] = {}
        self._last_machine_error = ""
        self._next_poll = 0.0
        self._next_show = 0.0
        self.tally = Tally(len(units), began=clock())
        self._sort(units)

    def run(self) -> Tally:
        """Until every unit is done or given up, or somebody wants an end. Everything that matters is on the disk at any moment.

        Raises:
            OutputError: no worker can go on (full disks, missing backends); the last of their errors.
        """
        try:
            while self._waiting or self._running or self._elsewhere:
                if self._stop():
                    self._wind_up()
                    break
                self._hand_out()
                self._handle(self.team.events(self._patience()))
                self._look_elsewhere()
                self._refresh()
        finally:
            self.team.close()
        self._refresh(now=True)
        return self.tally

    # -- what is there already ---------------------------------------------------------------------------------------------

    def _sort(self, units: Sequence[Unit]) -> None:
        done = self.store.present(marker_of(unit.folder) for unit in units)
        left = [unit for unit in units if marker_of(unit.folder) not in done]
        self.tally.found = len(units) - len(left)
        claimed = self.claims.claimed() if left else {}
        for unit in left:
            job = Job(unit)
            if unit.key not in claimed:
                self._waiting.append(job)
                continue
            standing = self.claims.standing(unit.key, claimed[unit.key])
            job.forgiven = standing.counted() if self.rules.retry_failed else 0
            self._place(job, standing)

    def _place(self, job: Job, standing: Standing) -> None:
        """Put a unit that somebody has claimed where it belongs."""
        job.attempt = standing.attempt + 1
        job.failures = standing.counted() - job.forgiven
        if standing.is_open:
            self._elsewhere[job.unit.key] = job
        elif job.failures > self.rules.retries:
            self._give_up(job, [f for f in standing.failures if f.kind in COUNTED][-1])
        else:
            self._waiting.append(job)

    def _give_up(self, job: Job, failure: Failure) -> None:
        self.tally.failed[job.unit.key] = (job.unit, failure)

    # -- handing out -------------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        for worker in self.team.idle():
            job = self._next_for(worker)
            if job is None:
                continue
            job.since = self._clock()
            self._running[worker] = job
            self.team.give(worker, job.unit, job.attempt)
        if not self.team.size() and not self._running:
            raise OutputError(
                f"no worker is left: {self._last_machine_error or 'all of them died'}; nothing is lost, the same command goes on from here"
            )

    def _next_for(self, worker: str) -> Job | None:
        """The first unit that suits this worker."""
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if self._suits(job, worker):
                return job
            self._waiting.append(job)
        return None

    def _suits(self, job: Job, worker: str) -> bool:
        """A worker that has not failed at the unit. One that has only where all others have, too, or do not come (back)."""
        if worker not in job.avoid:
            return True
        present = self.team.present()
        if not job.avoid.issuperset(present):
            return False
        return len(present) >= self.team.size() or self._clock() - job.failed_at >= self.rules.absent_seconds

    def _patience(self) -> float:
        return min(1.0, max(0.02, self._next_poll - self._clock())) if self._elsewhere else 1.0

    # -- what workers say --------------------------------------------------------------------------------------------------

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            job = self._running.pop(event.worker, None)
            if job is None:
                continue
            if event.report is None:
                self._died(job, event)
                continue
            report = event.report
            if report.state == "made":
                self._strikes[event.worker] = 0
                self.tally.made += 1
                self.tally.seconds += report.seconds
                self._done(job.unit)
            elif report.state == "found":
                self.tally.found += 1
                self._done(job.unit)
            elif report.state in ("busy", "overtaken"):
                job.attempt = report.attempt + (1 if report.state == "busy" else 2)
                self._elsewhere[job.unit.key] = job
                self._next_poll = min(self._next_poll, self._clock() + 0.05)
            elif report.failure is not None:
                self._failed(job, event.worker, report.failure)

    def _failed(self, job: Job, worker: str, failure: Failure) -> None:
        job.attempt = failure.attempt + 1
        if failure.kind == "stopped":
            self._waiting.appendleft(job)
            return
        job.avoid.add(worker)
        job.failed_at = self._clock()
        if failure.kind == "machine":
            self._last_machine_error = failure.error
            job.machine += 1
            self._strikes[worker] = self._strikes.get(worker, 0) + 1
            if self._strikes[worker] >= STRIKES or self.team.size() == 1:
                self._tell(f"{worker} is given nothing more: {failure.error}")
                self.team.retire(worker)
            if job.machine < MOST_MACHINE_FAILURES or not self.team.size():
                self._waiting.appendleft(job)
                return
        job.failures += 1
        self._count(job, failure)

    def _count(self, job: Job, failure: Failure) -> None:
        if job.failures > self.rules.retries:
            self._give_up(job, failure)
            self._tell(f"{job.unit.label}: given up after {job.failures} attempt{'s' if job.failures > 1 else ''}: {failure.error}")
        else:
            self._tell(f"{job.unit.label}: {failure.error}; tried again")
            self._waiting.appendleft(job)

    def _died(self, job: Job, event: Event) -> None:
        """A worker of ours is gone. If it had claimed its attempt, that is over and counts: a unit may be what killed it."""
        standing = self.claims.standing(job.unit.key)
        job.avoid.add(event.worker)
        job.failed_at = self._clock()
        if standing.attempt < job.attempt:  # it never came so far
            self._waiting.appendleft(job)
            return
        if not standing.is_open or (standing.claim is not None and not standing.claim.owner.name.startswith(f"{event.worker}@")):
            self._elsewhere[job.unit.key] = job  # done, failed, or somebody else's: the files will tell
            return
        failure = Failure(
            standing.attempt, "died", f"the worker died ({event.reason})", standing.claim.owner.name if standing.claim else ""
        )
        self.claims.fail(job.unit.key, failure)
        job.attempt = standing.attempt + 1
        job.failures += 1
        self._count(job, failure)

    # -- what others do ----------------------------------------------------------------------------------------------------

    def _look_elsewhere(self) -> None:
        now = self._clock()
        if not self._elsewhere or now < self._next_poll:
            return
        keys = list(self._elsewhere)
        done = self.store.present(marker_of(self._elsewhere[key].unit.folder) for key in keys)
        for key in keys:
            job = self._elsewhere[key]
            if marker_of(job.unit.folder) in done:
                self._leave_elsewhere(key)
                self.tally.found += 1
                self._done(job.unit)
                continue
            standing = self.claims.standing(key, known=max(job.attempt - 1, 0))
            if not standing.is_open:
                self._leave_elsewhere(key)
                self._place(job, standing)
            elif self._watch.is_dead(key, standing):
                self._leave_elsewhere(key)
                job.attempt = standing.attempt + 1
                owner = standing.claim.owner.name if standing.claim else "its owner"
                self._tell(f"{job.unit.label}: {owner} is dead; taken over")
                self._waiting.appendleft(job)
        self._next_poll = now + self.rules.poll_seconds

    def _leave_elsewhere(self, key: str) -> None:
        del self._elsewhere[key]
        self._watch.forget(key)

    # -- the end -----------------------------------------------------------------------------------------------------------

    def _wind_up(self) -> None:
        """Ask the workers to end at their next good moment, and wait for that as long as they were promised."""
        self.tally.stopped = True
        self.team.ask_to_stop()
        end = self._clock() + self.rules.grace_seconds
        while self._running and self._clock() < end:
            self._handle(self.team.events(0.2))
            self._refresh()

    def _refresh(self, now: bool = False) -> None:
        if not now and self._clock() < self._next_show:
            return
        tally = self.tally
        tally.waiting, tally.elsewhere, tally.workers = len(self._waiting), len(self._elsewhere), self.team.size()
        tally.running = {worker: (job.unit.key, job.unit.label, job.since) for worker, job in self._running.items()}
        self._show(tally)
        self._next_show = self._clock() + 1.0
