"""Who makes what, on files alone: claims, heartbeats, failures, markers. Any number of drivers may share an output; none is in charge.

    .fleet/claims/<2 digits>/<key>.0001.claim    attempt 1 is taken: owner, machine, process. Created exclusively, never changed or removed
                            <key>.0001.beat      a counter that the owner raises every h seconds while it works
                            <key>.0001.failed    attempt 1 ended without a result: the error, the log, and what kind of end it was
                            <key>.0002.claim     … so attempt 2 was free to be taken
    <folder of the unit>/done.json               the marker, written last: SHA-256 of every file it stands for, attempt, owner, measures

The number of an attempt is a fencing token. Attempt k + 1 may be taken when attempt k has failed or its owner is dead; whoever creates
claim k + 1 first has it, and only the owner of the highest claim may publish. An owner that was thought dead and was only slow finds a
higher claim and drops what it made; its work folder has been renamed away under it (``store.take_over``), and the final name can be taken
only once.

Dead or slow. No clock is ever compared with another one. A watcher reads the counter and looks at its *own* monotonic clock: the owner is
dead when the counter has not changed for S seconds of that clock. Let h be the time between two beats (as late as a busy machine makes
it) and D the delay with which a write becomes visible to others (network file systems cache). A living owner's counter is seen to change
at least every h + D seconds, whatever its wall clock says, so no living owner is declared dead if

    S (1 − ρ) ≥ h + D        ρ: how much faster the watcher's clock runs, 1e-4 for a bad crystal

with h = min(60, S/10): at S = 10 minutes file systems may lag by nine minutes. If it happens all the same (a laptop that slept), work is
lost, never truth: see fencing. A dead owner is noticed S after the first look; at once if it was a process of the watcher's own machine
(same boot, same process namespace) that is there no more.

Delayed visibility cannot lead to two results either: creating a claim asks the server, not the cache, so a claim that is not seen yet is
met as "taken"; a marker that is not seen yet costs at most an attempt whose publishing is refused.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fsd_gs.errors import FsdGsError
from fsd_gs.fleet.store import FLEET, MARKER, Store

CLAIMS = f"{FLEET}/claims"
STALE_SECONDS = 600.0
LONGEST_BEAT = 60.0
_CLAIM = re.compile(r"/([0-9a-f]+)\.(\d{4,})\.claim$")

Ending = Literal["error", "died", "machine", "stopped", "withdrawn"]
#: Endings that are the unit's own fault, or may be: so many of them and it is given up.
COUNTED: tuple[Ending, ...] = ("error", "died")


@dataclass(frozen=True)
class Owner:
    """A process that makes units.

    Attributes:
        machine: boot and process namespace, "" where they cannot be known.
        born: when the process started.
    """

    name: str
    host: str
    pid: int
    machine: str = ""
    born: str = ""

    @classmethod
    def this_process(cls, name: str) -> Owner:
        """name: unique among the owners of this process; the rest is added."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(f"{name}@{host}-{pid}-{secrets.token_hex(3)}", host, pid, _machine(), _born(pid))

    def is_gone(self) -> bool:
        """Whether it was a process of this machine and has ended; False where that cannot be known from here."""
        if not self.machine or self.machine != _machine():
            return False
        return _born(self.pid) != self.born


@dataclass(frozen=True)
class Claim:
    """Attempt ``attempt`` at a unit, taken by ``owner``.

    Attributes:
        taken: wall clock of the owner, for people.
        label: of the unit, for people.
    """

    attempt: int
    owner: Owner
    taken: float = 0.0
    label: str = ""


@dataclass(frozen=True)
class Failure:
    """How an attempt ended without a result.

    Attributes:
        log: what there was to read, the last of it.
        worker: a name of the owner's.
    """

    attempt: int
    kind: Ending
    error: str
    worker: str = ""
    log: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Beat:
    """A heartbeat: a counter, and how far the owner is, for people."""

    count: int
    step: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Standing:
    """What the files say of a unit that has no marker.

    Attributes:
        attempt: the highest that is claimed, 0 for none. claim, beat, failure: of that attempt, None where they are not there (or not
            visible yet).
        failures: of all attempts.
    """

    attempt: int = 0
    claim: Claim | None = None
    beat: Beat | None = None
    failures: tuple[Failure, ...] = ()

    @property
    def failure(self) -> Failure | None:
        return next((failure for failure in self.failures if failure.attempt == self.attempt), None)

    @property
    def is_open(self) -> bool:
        """Whether somebody holds it, alive or not."""
        return self.attempt > 0 and self.failure is None

    def counted(self) -> int:
        return sum(failure.kind in COUNTED for failure in self.failures)


@dataclass(frozen=True)
class Marker:
    """``done.json``.

    Attributes:
        files: name → [bytes, SHA-256].
        facts: what the task measured.
        columns: of the unit.
    """

    key: str
    attempt: int
    owner: str
    seconds: float | None
    finished: float
    files: dict[str, list[Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Marker:
        """Raises ValueError for anything that is no marker."""
        try:
            values = json.loads(content)
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a marker ({error})") from error


def marker_of(folder: str) -> str:
    """The marker's file in an asset's folder."""
    return f"{folder}/{MARKER}"


class Claims:
    """The protocol on one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def take(self, key: str, attempt: int, owner: Owner, label: str = "") -> Claim | None:
        """Attempt ``attempt`` for ``owner``, or None: somebody else was first."""
        claim = Claim(attempt, owner, time.time(), label)
        return claim if self.store.create(_name(key, attempt, "claim"), _json(claim)) else None

    def beat(self, key: str, attempt: int, beat: Beat) -> None:
        self.store.replace(_name(key, attempt, "beat"), _json(beat))

    def fail(self, key: str, failure: Failure) -> bool:
        """Record the end of an attempt; False where somebody has done so."""
        created = self.store.create(_name(key, failure.attempt, "failed"), _json(failure))
        self.store.remove(_name(key, failure.attempt, "beat"))
        return created

    def end(self, key: str, attempt: int) -> None:
        """The attempt is over; its claim stays, so that its number is never given again."""
        with suppress(FsdGsError):
            self.store.remove(_name(key, attempt, "beat"))

    def withdraw(self, key: str, folder: str) -> None:
        """Take a result back, so that the unit can be made again: its folder goes, and the attempt that made it counts as ended."""
        self.store.withdraw(folder)
        standing = self.standing(key)
        if standing.is_open:
            self.fail(key, Failure(standing.attempt, "withdrawn", "withdrawn, to be made again"))

    def is_overtaken(self, key: str, attempt: int) -> bool:
        return self.store.read(_name(key, attempt + 1, "claim")) is not None

    def standing(self, key: str, known: int = 0) -> Standing:
        """What the files say now. known: an attempt that is claimed for certain, even where its claim is not visible yet."""
        attempt, claim = 0, None
        failures: list[Failure] = []
        while True:
            content = self.store.read(_name(key, attempt + 1, "claim"))
            if content is None and attempt + 1 > known:
                break
            attempt += 1
            claim = _parse(content, _claim)
            failure = _parse(self.store.read(_name(key, attempt, "failed")), lambda values: Failure(**values))
            if failure is not None:
                failures.append(failure)
        if attempt == 0:
            return Standing()
        beat = _parse(self.store.read(_name(key, attempt, "beat")), lambda values: Beat(**values))
        return Standing(attempt, claim, beat, tuple(failures))

    def claimed(self) -> dict[str, int]:
        """Key → highest attempt of every unit that was ever claimed, by listing names alone."""
        found: dict[str, int] = {}
        for name in self.store.files(CLAIMS):
            match = _CLAIM.search(name)
            if match is not None:  # other things lie there, too: heartbeats, and what file systems leave (.nfs…, ._…)
                found[match[1]] = max(found.get(match[1], 0), int(match[2]))
        return found


class Watch:
    """Decides that owners are dead, from what changes while it looks. One a driver; ``clock`` is that of the watcher and nobody else's."""

    def __init__(self, stale_seconds: float = STALE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.stale_seconds, self._clock = stale_seconds, clock
        self._seen: dict[str, tuple[object, float]] = {}

    def is_dead(self, key: str, standing: Standing) -> bool:
        """Whether the owner of the open attempt can be taken for dead now."""
        if standing.claim is not None and standing.claim.owner.is_gone():
            return True
        evidence, now = (standing.attempt, None if standing.beat is None else standing.beat.count), self._clock()
        before = self._seen.get(key)
        if before is None or before[0] != evidence:
            self._seen[key] = (evidence, now)
            return False
        return now - before[1] >= self.stale_seconds

    def forget(self, key: str) -> None:
        self._seen.pop(key, None)


class Heartbeat:
    """Raises the counter of a claim in a thread of its own while its block runs, and notices when the claim was overtaken.

    progress: (step, steps) as the work sets it. overtaken: somebody took the next attempt; the work had better stop.
    """

    def __init__(self, claims: Claims, key: str, attempt: int, stale_seconds: float = STALE_SECONDS) -> None:
        self._claims, self._key, self._attempt = claims, key, attempt
        self._every = min(LONGEST_BEAT, stale_seconds / 10)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"beat-{key}", daemon=True)
        self.progress: tuple[int, int] = (0, 0)
        self.overtaken = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        beat = Beat(0)
        while not self._end.wait(self._every):
            beat = replace(beat, count=beat.count + 1, step=self.progress[0], steps=self.progress[1])
            with suppress(FsdGsError, OSError):  # a disk that is full for a while, a network that is away: the next beat may get through
                self._claims.beat(self._key, self._attempt, beat)
            with suppress(FsdGsError, OSError):
                self.overtaken = self.overtaken or self._claims.is_overtaken(self._key, self._attempt)


def _name(key: str, attempt: int, kind: str) -> str:
    return f"{CLAIMS}/{key[:2]}/{key}.{attempt:04d}.{kind}"


def _json(value: Any) -> bytes:
    return (json.dumps(asdict(value), ensure_ascii=False) + "\n").encode()


def _claim(values: dict[str, Any]) -> Claim:
    return Claim(**{**values, "owner": Owner(**values["owner"])})


def _parse(content: bytes | None, make: Callable[[dict[str, Any]], Any]) -> Any:
    """None for what is not there, or not whole (a file system without atomic creation)."""
    try:
        return None if content is None else make(json.loads(content))
    except (ValueError, TypeError, KeyError):
        return None


def _machine() -> str:
    """This boot of this machine, and the namespace of its process numbers: containers on one machine share the first, not the second."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process started, in clock ticks since boot; "" if there is none (a zombie has ended)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
