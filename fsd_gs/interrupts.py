"""Ctrl-C, ``kill`` and a closed terminal as a request: the work ends at a place of its own choosing, where everything can be saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class SignalWatch:
    """Notes SIGINT, SIGTERM and SIGHUP in ``received`` while it watches; a second one raises KeyboardInterrupt at once.

    Args:
        patience: how many signals are only noted before that, counted in ``count``.
    """

    def __init__(self, patience: int = 1) -> None:
        self.received: int | None = None
        self.count = 0
        self.patience = patience
        self._previous: dict[int, Any] = {}

    def watch(self) -> None:
        """Begin. Python delivers signals to the main thread only: in any other this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
                continue  # under nohup the end of the terminal is meant to be survived
            self._previous[number] = signal.signal(number, self._receive)

    def unwatch(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.received is None:
            self.received = number
        if self.count > self.patience:
            raise KeyboardInterrupt
