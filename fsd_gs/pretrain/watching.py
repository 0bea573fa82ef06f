"""What a person sees of a long training, and how they stop it: a bar for each stage, Ctrl-C, a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import TaskID

from fsd_gs.core.terminal import duration, make_bar
from fsd_gs.interrupts import SignalWatch

PLAIN_SECONDS = 30.0  # between two lines where there is no terminal


class Stopped(Exception):
    """The person asked for an end; everything is saved.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts(SignalWatch):
    """Ctrl-C and ``kill`` end the work at the next :meth:`check`, so that everything is saved; a second Ctrl-C ends it at once."""

    def __enter__(self) -> Interrupts:
        self.watch()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.unwatch()

    def check(self) -> None:
        """Stopped if a signal has come."""
        if self.received is not None:
            raise Stopped(self.received)


class Bar:
    """The progress of one stage, with the time left; a line now and then where there is no terminal."""

    def __init__(self, console: Console, title: str) -> None:
        self.console, self.title = console, title
        self._task: TaskID | None = None
        self._share, self._status = 0.0, ""
        self._began, self._began_at, self._spoke = time.monotonic(), 0.0, time.monotonic()
        self._progress = make_bar(console, count=lambda done, total: f"{100 * done:.0f}%")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        if not self.console.is_terminal:
            self._say()

    def update(self, share: float, status: str) -> None:
        """share: of the stage, in [0, 1]."""
        if self._task is None:
            self._task, self._began_at = self._progress.add_task(self.title, total=1.0), share
        self._share, self._status = share, status
        self._progress.update(self._task, completed=share, details=tuple(filter(None, status.split("  "))))
        if not self.console.is_terminal and time.monotonic() - self._spoke > PLAIN_SECONDS:
            self._say()

    def _say(self) -> None:
        self._spoke = time.monotonic()
        left = (self._spoke - self._began) * (1 - self._share) / max(self._share - self._began_at, 1e-9)
        remaining = f"{duration(left)} left  " if self._began_at < self._share < 1 else ""
        self.console.print(
            f"{self.title}  {100 * self._share:.0f}%  {remaining}{self._status}", highlight=False, markup=False, soft_wrap=True
        )
