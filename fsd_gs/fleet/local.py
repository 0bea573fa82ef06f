"""Workers on this machine: in this process, or in processes of their own that may die without harm to the others."""

from __future__ import annotations

import multiprocessing
import os
import queue
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fsd_gs.fleet.driver import Event
from fsd_gs.fleet.unit import Unit
from fsd_gs.fleet.worker import Report, Setup, Worker

MOST_DEATHS = 3  # of one worker in a row, without a unit made in between
_STOP = "stop"


def new_team_name() -> str:
    """Begins the names of a team's workers, so that no two drivers' workers are called the same."""
    return secrets.token_hex(3)


class Inline:
    """One worker, in this process: nothing to start, nothing to lose.

    Args:
        setup: what it is started with.
        stop: whether to end at the next good moment.
        cache: what the caller has loaded already.
    """

    def __init__(self, setup: Setup, stop: Callable[[], bool] = lambda: False, cache: dict[Any, Any] | None = None) -> None:
        self._stopping = False
        self.name = f"{new_team_name()}.1"
        self.worker: Worker | None = Worker(self.name, setup, lambda: self._stopping or stop())
        if cache is not None:
            self.worker.tools.cache = cache
        self._events: list[Event] = []

    def idle(self) -> list[str]:
        return [] if self.worker is None or self._events else [self.name]

    def present(self) -> list[str]:
        return [] if self.worker is None else [self.name]

    def size(self) -> int:
        return len(self.present())

    def give(self, worker: str, unit: Unit, attempt: int) -> None:
        assert self.worker is not None
        self._events.append(Event(worker, self.worker.attempt(unit, attempt)))

    def events(self, timeout: float) -> list[Event]:
        if not self._events:
            time.sleep(timeout)
        events, self._events = self._events, []
        return events

    def retire(self, worker: str) -> None:
        self.worker = None

    def ask_to_stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        self._events.clear()


@dataclass
class _Process:
    """A worker's process and the way to it. busy: over a unit. deaths: in a row. dismissed: to be given nothing more."""

    process: Any
    pipe: Connection
    busy: bool = False
    deaths: int = 0
    dismissed: bool = False


class Processes:
    """``count`` processes. One that dies is replaced, three times in a row at most.

    Args:
        setup: what each is started with.
        count: how many.
        begin: called in each new process before anything else.
    """

    def __init__(self, setup: Setup, count: int, begin: Callable[[int], None] | None = None) -> None:
        self._setup, self._begin = setup, begin
        self._context = multiprocessing.get_context("spawn")  # a forked child would inherit locked threads and a CUDA context it cannot use
        self._team, self._count = new_team_name(), count
        self._gpus = visible_gpus()
        self._processes: dict[str, _Process] = {}
        for index in range(count):
            self._start(f"{self._team}.{index + 1}", index)

    def _start(self, name: str, index: int, deaths: int = 0) -> None:
        ours, theirs = self._context.Pipe()
        environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self._count))}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[index % len(self._gpus)]
        process = self._context.Process(
            target=_work, args=(name, index, self._setup, theirs, environment, self._begin), name=name, daemon=True
        )
        process.start()
        theirs.close()
        self._processes[name] = _Process(process, ours, deaths=deaths)

    def idle(self) -> list[str]:
        return [name for name, worker in self._processes.items() if not (worker.busy or worker.dismissed)]

    def present(self) -> list[str]:
        return [name for name, worker in self._processes.items() if not worker.dismissed]

    def size(self) -> int:
        return len(self.present())

    def give(self, worker: str, unit: Unit, attempt: int) -> None:
        self._processes[worker].busy = True
        with suppress(OSError):  # it has just died: its end will be an event
            self._processes[worker].pipe.send((unit, attempt))

    def events(self, timeout: float) -> list[Event]:
        pipes: Mapping[Any, str] = {worker.pipe: name for name, worker in self._processes.items()}
        if not pipes:
            time.sleep(timeout)
        return [event for pipe in wait(list(pipes), timeout) for event in self._read(pipes[pipe])]

    def _read(self, name: str) -> list[Event]:
        worker = self._processes[name]
        try:
            report: Report = worker.pipe.recv()
        except (EOFError, OSError):
            return self._ended(name, worker)
        worker.busy = False
        worker.deaths = 0 if report.state == "made" else worker.deaths
        return [Event(name, report)]

    def _ended(self, name: str, worker: _Process) -> list[Event]:
        worker.process.join(10)
        reason = _reason(worker.process.exitcode)
        worker.pipe.close()
        del self._processes[name]
        if not worker.dismissed and worker.deaths + 1 < MOST_DEATHS:
            self._start(name, int(name.rpartition(".")[2]) - 1, worker.deaths + 1)
        return [Event(name, None, reason)] if worker.busy else []

    def retire(self, worker: str) -> None:
        self._processes[worker].dismissed = True
        with suppress(OSError):
            self._processes[worker].pipe.send(None)

    def ask_to_stop(self) -> None:
        for worker in self._processes.values():
            worker.dismissed = True
            with suppress(OSError):
                worker.pipe.send(_STOP)

    def close(self) -> None:
        for worker in self._processes.values():
            with suppress(OSError):
                worker.pipe.send(None)
        end = time.monotonic() + 5.0
        for worker in self._processes.values():
            worker.process.join(0.0 if worker.busy else max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join(5.0)
            worker.pipe.close()
        self._processes.clear()

    def pids(self) -> dict[str, int]:
        """Of the processes that are there now."""
        return {name: worker.process.pid for name, worker in self._processes.items()}


def _work(name: str, index: int, setup: Setup, pipe: Connection, environment: dict[str, str], begin: Callable[[int], None] | None) -> None:
    """The life of a worker's process: until its driver says so, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C and kill reach the whole group; the driver decides
    for variable, value in environment.items():
        os.environ.setdefault(variable, value)
    if "CUDA_VISIBLE_DEVICES" in environment:
        os.environ["CUDA_VISIBLE_DEVICES"] = environment["CUDA_VISIBLE_DEVICES"]
    if begin is not None:
        begin(index)
    from fsd_gs.core.terminal import speak_for_ourselves

    speak_for_ourselves()
    jobs: queue.SimpleQueue[tuple[Unit, int] | None] = queue.SimpleQueue()
    stopping = threading.Event()
    threading.Thread(target=_listen, args=(pipe, jobs, stopping), daemon=True).start()
    worker = Worker(name, setup, stopping.is_set)
    while (job := jobs.get()) is not None:
        pipe.send(worker.attempt(*job))


def _listen(pipe: Connection, jobs: queue.SimpleQueue[Any], stopping: threading.Event) -> None:
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)  # the driver is gone, however it went: an orphan would hold its memory, and its claim, for ever
        if message == _STOP:
            stopping.set()
            message = None
        jobs.put(message)


def visible_gpus() -> list[str]:
    """The GPUs that workers share out, as CUDA_VISIBLE_DEVICES names them; asked without torch, which would take one."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip() not in ("", "-1")]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index in range(len(list(found.iterdir())))] if found.is_dir() else []


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
        return f"signal {-code}"
    return f"exit code {code}"
