"""One unit from claim to marker, in whatever process a worker is.

claim the attempt           somebody else has it: "busy"
look for the marker         it is done already: "found"
make it, heart beating      an error: the failure is recorded with its log, "failed"; asked to stop: "stopped"
hash, write the marker      into the work folder, last
still the highest claim?    else "overtaken", and the result is dropped
publish                     "made"
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fsd_gs.errors import BackendError, BusyError, FsdGsError, OutputError
from fsd_gs.fleet.protocol import STALE_SECONDS, Claims, Failure, Heartbeat, Marker, Owner, marker_of
from fsd_gs.fleet.store import MARKER, Store, open_store
from fsd_gs.fleet.task import Stopped, Task, Tools
from fsd_gs.fleet.unit import Unit
from fsd_gs.io import file_sha256, write_bytes

State = Literal["made", "found", "busy", "failed", "stopped", "overtaken"]
_LOG_LINES = 40
_NOT_RESULTS = {".lock", ".finish", MARKER}


@dataclass(frozen=True)
class Report:
    """What became of an attempt. It travels instead of the result, which is on the disk."""

    key: str
    attempt: int
    state: State
    failure: Failure | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Setup:
    """What a worker is started with.

    Attributes:
        address, scratch: of the store.
    """

    address: str
    task: Task
    stale_seconds: float = STALE_SECONDS
    scratch: str | None = None


@dataclass
class Worker:
    """Makes units one after another and keeps between them what is dear to load."""

    name: str
    setup: Setup
    stop: Callable[[], bool] = lambda: False
    store: Store = field(init=False)
    tools: Tools = field(init=False)

    def __post_init__(self) -> None:
        self.store = open_store(self.setup.address, self.setup.scratch)
        self.claims = Claims(self.store)
        self.owner = Owner.this_process(self.name)
        self.tools = Tools()

    def attempt(self, unit: Unit, attempt: int) -> Report:
        """Make ``unit``. Never raises for what is wrong with the unit or the machine: that is in the report."""
        began, claimed = time.monotonic(), False
        try:
            if self.claims.take(unit.key, attempt, self.owner, unit.label) is None:
                return Report(unit.key, attempt, "busy")
            claimed = True
            if self.store.read(marker_of(unit.folder)) is not None:
                return Report(unit.key, attempt, "found")
            with Heartbeat(self.claims, unit.key, attempt, self.setup.stale_seconds) as heart, _listening() as log:
                state, failure = self._make(unit, attempt, heart, log, began)
        except (FsdGsError, OSError) as error:  # the store itself: not even a claim, or not even a failure, could be written
            failure = Failure(attempt if claimed else attempt - 1, "machine", _one_line(error), self.owner.name)
            return Report(unit.key, attempt, "failed", failure, time.monotonic() - began)
        except BaseException:  # Ctrl-C in this very process: give the unit back on the way out
            if claimed:
                with contextlib.suppress(FsdGsError, OSError):
                    self.claims.fail(unit.key, Failure(attempt, "stopped", "interrupted", self.owner.name))
            raise
        if failure is not None:
            with contextlib.suppress(FsdGsError, OSError):  # where the disk is full it can only be reported
                self.claims.fail(unit.key, failure)
        else:
            self.claims.end(unit.key, attempt)
        return Report(unit.key, attempt, state, failure, time.monotonic() - began)

    def _make(self, unit: Unit, attempt: int, heart: Heartbeat, log: deque[str], began: float) -> tuple[State, Failure | None]:
        def failed(kind: Literal["error", "machine", "stopped"], error: BaseException, trace: bool = False) -> Failure:
            lines = [*log, *(traceback.format_exc().splitlines() if trace else ())]
            return Failure(attempt, kind, _one_line(error), self.owner.name, "\n".join(lines), round(time.monotonic() - began, 3))

        def progress(step: int, steps: int) -> None:
            heart.progress = (step, steps)

        self.tools.stop = lambda: heart.overtaken or self.stop()
        self.tools.progress = progress
        place = None
        try:
            place = self.store.workplace(unit.key, attempt)
            facts = self.setup.task.make(unit, place, self.tools)
            if heart.overtaken or self.claims.is_overtaken(unit.key, attempt):
                return "overtaken", None
            write_bytes(place / MARKER, self._marker(unit, attempt, place, facts, time.monotonic() - began))
            return ("made" if self.store.publish(place, unit.folder) else "found"), None
        except Stopped as error:
            return ("overtaken", None) if heart.overtaken else ("stopped", failed("stopped", error))
        except BusyError as error:  # its folder is held by a process that was thought dead
            return "failed", failed("machine", error)
        except (OutputError, BackendError, MemoryError, OSError) as error:
            if heart.overtaken or (place is not None and not place.exists()):
                return "overtaken", None
            return "failed", failed("machine", error, trace=not isinstance(error, FsdGsError))
        except FsdGsError as error:
            return "failed", failed("error", error)
        except Exception as error:  # a bug in one unit must neither stop the others nor vanish
            return "failed", failed("error", error, trace=True)

    def _marker(self, unit: Unit, attempt: int, place: Path, facts: dict[str, object], seconds: float) -> bytes:
        files = {
            path.relative_to(place).as_posix(): [path.stat().st_size, file_sha256(path)]
            for path in sorted(place.rglob("*"))
            if path.is_file() and path.name not in _NOT_RESULTS
        }
        for name in _NOT_RESULTS:
            (place / name).unlink(missing_ok=True)
        return Marker(unit.key, attempt, self.owner.name, round(seconds, 3), time.time(), files, facts, dict(unit.columns)).to_json()


@contextmanager
def _listening() -> Iterator[deque[str]]:
    """The last lines that this package logged in the block: the log of a unit that fails."""
    lines: deque[str] = deque(maxlen=_LOG_LINES)

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname.lower()}: {record.getMessage()}")

    listener, logger = Listener(), logging.getLogger("fsd_gs")
    logger.addHandler(listener)
    try:
        yield lines
    finally:
        logger.removeHandler(listener)


def _one_line(error: BaseException) -> str:
    message = " ".join(str(error).split())
    if isinstance(error, FsdGsError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
