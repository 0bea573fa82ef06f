"""Warnings of the package on the page as well: who typed a word that nobody knows looks at the browser, not at a terminal."""

from __future__ import annotations

import logging
from collections.abc import Callable

MOST = 6


class Notes(logging.Handler):
    """Collects what ``fsd_gs`` warns of while it is open.

    Args:
        show: called with the lines since :meth:`clear`, at most ``MOST``.
    """

    def __init__(self, show: Callable[[list[str]], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show
        self._lines: list[str] = []
        logging.getLogger("fsd_gs").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.add(record.getMessage())

    def add(self, line: str) -> None:
        if line not in self._lines:
            self._lines = [*self._lines, line][-MOST:]
            self._show(self._lines)

    def clear(self) -> None:
        self._lines = []
        self._show([])

    def close(self) -> None:
        logging.getLogger("fsd_gs").removeHandler(self)
        super().close()
