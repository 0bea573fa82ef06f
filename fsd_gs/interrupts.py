"""Ctrl-C and ``kill`` as a request: the work ends at a place of its own choosing, where everything can be saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class SignalWatch:
    """Notes SIGINT and SIGTERM in ``received`` while it watches; a second one raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def watch(self) -> None:
        """Begin. Python delivers signals to the main thread only: in any other this does nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)

    def unwatch(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
