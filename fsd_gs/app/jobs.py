"""The queue: assets that several people asked for, made one at a time by the one runner of ``train.asset``.

    waiting → making → finished | kept | stopped | failed
          └→ cancelled

One thread makes them, in the order in which they were asked for. A job is an immutable record that is replaced as a whole; every change
takes the next version number, so that whoever watches asks for what is newer than he has seen. The queue lives in memory, results on the
disk: an app that is started again lists what its folder holds, and an asset that was being made goes on when it is asked for again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fsd_gs.config import Config
from fsd_gs.errors import FsdGsError
from fsd_gs.train import runs
from fsd_gs.train.asset import Outcome
from fsd_gs.train.loop import Observer, StopRun
from fsd_gs.train.session import Session
from fsd_gs.train.step import StepReport

State = Literal["waiting", "making", "finished", "kept", "stopped", "failed", "cancelled"]
Make = Callable[[Config, Observer], Outcome]

FINAL: frozenset[State] = frozenset({"finished", "kept", "stopped", "failed", "cancelled"})
DONE: frozenset[State] = frozenset({"finished", "kept"})
_log = logging.getLogger(__name__)


class NotFoundError(FsdGsError):
    """There is no such asset or file."""


class ConflictError(FsdGsError):
    """The asset is not in a state in which this can be done."""


class QueueFullError(FsdGsError):
    """No more assets are taken now."""


@dataclass(frozen=True)
class Job:
    """One asset, from being asked for to its end.

    Attributes:
        id: "a-red-chair-seed-0000", the same for the same prompt and seed.
        by: Who asked for it, as typed.
        step: Steps done.
        seconds_left: Estimated, while it is made.
        error: One line; with ``finished`` and ``kept`` it is about a video.
        notes: Lines for people, from the guard for example.
        asked: Seconds since 1970.
        version: Of the last change.
        found: Its folder, where it was there before and may have another name (a refinement's, a batch's).
    """

    id: str
    config: Config
    by: str = ""
    state: State = "waiting"
    step: int = 0
    seconds_left: float | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    asked: float = 0.0
    version: int = 0
    found: Path | None = None

    @property
    def folder(self) -> Path:
        return self.found or runs.run_folder(self.config)


def job_id(folder: Path) -> str:
    """Of the run in ``folder``."""
    return f"{folder.parent.name}-{folder.name}"


class Queue:
    """Takes jobs and has them made.

    Args:
        make: Makes one asset and reports to an observer; raises FsdGsError for what is wrong with it.
        waiting: How many may wait.
        known: Assets that were there before.
    """

    def __init__(self, make: Make, waiting: int, known: Iterable[Job] = ()) -> None:
        self._make, self._most = make, waiting
        self._lock = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._version = 0
        self._order: list[str] = []  # ids that wait
        self._asked_to_stop: dict[str, bool] = {}  # id that is made → whether it is to be kept
        self._closing = False
        for job in known:
            self._put(job)
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self._thread.start()

    # -- for everybody --------------------------------------------------------------------------------------------------

    def submit(self, config: Config, by: str = "") -> Job:
        """The job for ``config``; the one there is, if the same is waiting, being made or finished.

        Raises:
            QueueFullError: too many wait.
            ConflictError: the same prompt and seed are there with other settings.
        """
        key = job_id(runs.run_folder(config))
        with self._lock:
            before = self._jobs.get(key)
            if before is not None and before.state not in ("stopped", "failed", "cancelled"):
                different = runs.differing_settings(before.config, config)
                if different:
                    raise ConflictError(f"{key}: is there with other settings: {', '.join(different)}; choose another seed")
                return before
            if len(self._order) >= self._most:
                raise QueueFullError(f"the queue is full: {self._most} assets wait; try again when one is done")
            self._order.append(key)
            job = self._put(Job(key, config, by, asked=time.time()))
            self._lock.notify_all()
            return job

    def cancel(self, key: str, *, keep: bool = False) -> Job:
        """Take a waiting job out; end one that is being made after its step, to be gone on with or, with ``keep``, as it is."""
        with self._lock:
            job = self.get(key)
            if job.state == "waiting":
                self._order.remove(key)
                return self._put(replace(job, state="cancelled"))
            if job.state != "making":
                raise ConflictError(f"{key}: is {job.state}; only what waits or is being made can be cancelled")
            self._asked_to_stop[key] = keep
            return job

    def get(self, key: str) -> Job:
        with self._lock:
            if key not in self._jobs:
                raise NotFoundError(f"there is no asset '{key[:200]}'")
            return self._jobs[key]

    def jobs(self, after: int = 0) -> list[Job]:
        """All that changed after version ``after``, in the order of their changes."""
        with self._lock:
            return sorted((job for job in self._jobs.values() if job.version > after), key=lambda job: job.version)

    def position(self, key: str) -> int | None:
        """1 for the next one to be made; None for what does not wait."""
        with self._lock:
            return self._order.index(key) + 1 if key in self._order else None

    def free_seed(self, config: Config) -> int:
        """The lowest seed of the prompt of ``config`` that nobody has asked for."""
        folder = runs.run_folder(config).parent
        with self._lock:
            seed = 0
            while f"{folder.name}-{runs.seed_name(seed)}" in self._jobs or (folder / runs.seed_name(seed)).exists():
                seed += 1
            return seed

    def close(self) -> None:
        """Stop what is being made after its step, with everything saved, and take nothing more."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        self._thread.join()

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _put(self, job: Job) -> Job:
        with self._lock:
            self._version += 1
            job = self._jobs[job.id] = replace(job, version=self._version)
            return job

    def _change(self, key: str, **fields: object) -> None:
        with self._lock:
            self._put(replace(self._jobs[key], **fields))  # type: ignore[arg-type]

    def _work(self) -> None:
        while (key := self._next()) is not None:
            self._change(key, state="making")
            state, step, error = self._made(key)
            with self._lock:
                self._asked_to_stop.pop(key, None)
                self._change(key, state=state, step=step, error=error, seconds_left=None)

    def _next(self) -> str | None:
        with self._lock:
            while not self._order and not self._closing:
                self._lock.wait()
            return None if self._closing else self._order.pop(0)

    def _made(self, key: str) -> tuple[State, int, str | None]:
        """The end of one job. Whatever goes wrong with it, the next one is made."""
        config = self._jobs[key].config
        try:
            outcome = self._make(config, _Watch(self, key))
        except (FsdGsError, OSError) as error:
            return "failed", self._jobs[key].step, one_line(error)
        except Exception as error:
            _log.exception("%s", key)
            return "failed", self._jobs[key].step, f"{type(error).__name__}: {one_line(error)}"
        state: State = "finished" if outcome.state == "found" else outcome.state
        return state, outcome.step, outcome.error

    def stop_asked(self, key: str) -> bool | None:
        """Whether the asset is to be kept as it is; None if nobody asked for an end."""
        return self._asked_to_stop.get(key, False if self._closing else None)


class _Watch(Observer):
    """Tells the queue how far an asset is, and the asset when it is to end."""

    def __init__(self, queue: Queue, key: str) -> None:
        self._queue, self._key = queue, key
        self._began: tuple[float, int] | None = None

    def started(self, session: Session) -> None:
        self._began = (time.monotonic(), session.step)

    def stepped(self, session: Session, report: StepReport) -> None:
        began, first = self._began or (time.monotonic(), report.step)
        each = (time.monotonic() - began) / max(report.step - first, 1)
        self._queue._change(self._key, step=report.step, seconds_left=round(each * (report.steps - report.step), 1))
        keep = self._queue.stop_asked(self._key)
        if keep is not None:
            raise StopRun(keep=keep)

    def said(self, message: str) -> None:
        notes = self._queue.get(self._key).notes
        self._queue._change(self._key, notes=(*notes, message)[-20:])


def one_line(error: BaseException) -> str:
    """What the terminal would say."""
    if isinstance(error, OSError):
        return f"cannot use {error.filename or 'a file'}: {error.strerror or error}"
    return " ".join(str(error).split())
