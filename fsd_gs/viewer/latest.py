"""A thread that does one job whenever it is poked; pokes that come meanwhile are one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class LatestWins:
    """Runs ``job`` after each ``poke``. The job may return seconds after which it wants to run again unpoked, or None.

    A job that raises is reported to the log, and the thread goes on: one bad picture must not end the page.
    """

    def __init__(self, job: Callable[[], float | None], name: str) -> None:
        self._job = job
        self._poked = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def poke(self) -> None:
        self._poked.set()

    def close(self) -> None:
        """Let the job that runs finish, and no other begin."""
        self._closed = True
        self._poked.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        again: float | None = None
        while True:
            self._poked.wait(timeout=again)
            self._poked.clear()
            if self._closed:
                return
            try:
                again = self._job()
            except Exception:
                log.exception("%s failed", self._thread.name)
                again = None
