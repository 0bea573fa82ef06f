"""Workers on a Ray cluster: one actor for each GPU, or for a share of one, or for some CPUs. Ray places, restarts and scales; what is done
is decided by the files, as everywhere (``protocol``).

    max_restarts       without limit: an actor whose node has left comes back on another one, with its name and a new identity
    max_task_retries   without limit for ``ready``, which only waits for the process; none for ``attempt``: doing a unit again is another
                       attempt with its own number, by whoever is free, and no silent repetition on an actor that may never get a node
    errors             of a unit or a machine are caught and written where they happen; only deaths arrive as Ray's exceptions
    window             one unit an actor: ``ray.wait`` never sees more references than there are actors
    results            are on the disk; a ``Report`` of a few hundred bytes travels
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fsd_gs.errors import BackendError
from fsd_gs.fleet.driver import Event
from fsd_gs.fleet.local import MOST_DEATHS, new_team_name
from fsd_gs.fleet.unit import Unit
from fsd_gs.fleet.worker import Report, Setup, Worker

_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Resources:
    """Of one actor.

    Attributes:
        cpus: may be a fraction.
        gpus: may be a fraction; None is 1 where the cluster has any.
        labels: of the nodes that may hold it.
    """

    cpus: float = 1.0
    gpus: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class WorkerActor:
    """What runs on the cluster. Ray makes an actor of it; two calls at once, so that it can be told to stop while it works."""

    def __init__(self, name: str, setup: Setup) -> None:
        self._stopping = False
        self._worker = Worker(name, setup, lambda: self._stopping)

    def ready(self) -> str:
        """The node's address, when the actor is there."""
        return socket.gethostname()

    def attempt(self, unit: Unit, attempt: int) -> Report:
        return self._worker.attempt(unit, attempt)

    def stop(self) -> None:
        self._stopping = True


@dataclass
class _Actor:
    """handle: of Ray. waiting: the reference whose result comes next. working: whether that is a unit's. deaths: in a row."""

    handle: Any
    waiting: Any = None
    working: bool = False
    deaths: int = 0
    dismissed: bool = False


class Actors:
    """``count`` actors. Those that the cluster has no room for yet wait for it to grow, and hold no unit meanwhile."""

    def __init__(self, setup: Setup, count: int, address: str = "auto", resources: Resources | None = None) -> None:
        self._ray = ray = connect(address)
        resources = resources or Resources()
        gpus = resources.gpus if resources.gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)
        options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": gpus, "max_restarts": -1, "max_concurrency": 2}
        if resources.labels:
            options["label_selector"] = dict(resources.labels)
        actor = ray.remote(WorkerActor).options(scheduling_strategy="SPREAD", **options)
        team = new_team_name()
        self._actors = {f"{team}.{i + 1}": _Actor(actor.remote(f"{team}.{i + 1}", setup)) for i in range(count)}
        for worker in self._actors.values():
            self._await(worker)

    def _await(self, worker: _Actor) -> None:
        worker.working = False
        worker.waiting = worker.handle.ready.options(max_task_retries=-1).remote()

    def idle(self) -> list[str]:
        return [name for name, worker in self._actors.items() if worker.waiting is None and not worker.dismissed]

    def present(self) -> list[str]:
        return [name for name, worker in self._actors.items() if not worker.dismissed and (worker.waiting is None or worker.working)]

    def size(self) -> int:
        return sum(not worker.dismissed for worker in self._actors.values())

    def give(self, worker: str, unit: Unit, attempt: int) -> None:
        actor = self._actors[worker]
        actor.waiting, actor.working = actor.handle.attempt.remote(unit, attempt), True

    def events(self, timeout: float) -> list[Event]:
        waiting = {worker.waiting: name for name, worker in self._actors.items() if worker.waiting is not None}
        if not waiting:
            time.sleep(timeout)
            return []
        first, rest = self._ray.wait(list(waiting), num_returns=1, timeout=timeout)
        more = self._ray.wait(rest, num_returns=len(rest), timeout=0)[0] if first and rest else []
        return [event for reference in (*first, *more) for event in self._read(waiting[reference])]

    def _read(self, name: str) -> list[Event]:
        worker = self._actors[name]
        reference, working = worker.waiting, worker.working
        worker.waiting, worker.working = None, False
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._ended(name, worker, working, error)
        if not working:
            return []  # it is ready
        worker.deaths = 0 if answer.state == "made" else worker.deaths
        return [Event(name, answer)]

    def _ended(self, name: str, worker: _Actor, working: bool, error: Exception) -> list[Event]:
        worker.deaths += 1
        if worker.deaths >= MOST_DEATHS:
            worker.dismissed = True
        if not worker.dismissed:
            self._await(worker)
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return [Event(name, None, reason)] if working else []

    def retire(self, worker: str) -> None:
        self._actors[worker].dismissed = True
        self._ray.kill(self._actors[worker].handle)

    def ask_to_stop(self) -> None:
        for worker in self._actors.values():
            worker.dismissed = True
            if worker.working:
                worker.handle.stop.remote()
            else:
                worker.waiting = None

    def close(self) -> None:
        for worker in self._actors.values():
            with suppress(Exception):
                self._ray.kill(worker.handle)
        self._actors.clear()
        self._ray.shutdown()


def connect(address: str) -> Any:
    """Ray, connected: to the cluster at ``address``, or by "auto" to this machine's, or to a new one of this machine alone.

    Raises:
        BackendError: Ray is not installed, or no cluster answers.
    """
    ray = import_ray()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": True}
    try:
        if address != "auto":
            check_reachable(address, "--ray")
            ray.init(address=address, **quiet)
            return ray
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            ray.init(include_dashboard=False, **quiet)
        return ray
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise BackendError(f"--ray: cannot use {address}: {' '.join(str(error).split())}; nothing was started, nothing is lost") from error


def import_ray() -> Any:
    """The module; BackendError, one line with the extra, where it is not installed."""
    try:
        import ray  # pyright: ignore[reportMissingImports] — an extra
    except ImportError as error:
        raise BackendError(
            "--ray: Ray is not installed; pip install 'fsd-gs[fleet]', or leave --ray out: --workers N needs nothing"
        ) from error
    return ray


def check_reachable(address: str, argument: str) -> None:
    """BackendError, one line, if nothing listens at ``address`` ("host:port", "ray://host:port", "http://…"); Ray itself would wait."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise BackendError(f"{argument}: expected HOST:PORT, ray://HOST:PORT or auto, got '{address}'")
    try:
        socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise BackendError(f"{argument}: no cluster answers at {address} ({why}); nothing was started, nothing is lost") from error
