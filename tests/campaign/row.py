"""A line of the campaign's table, and how a process of its own ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn

from fsd_gs.errors import FsdGsError

Ending = Literal["good", "refused", "traceback"]


@dataclass
class Row:
    """Counts of what must be 0, over ``cases`` tries.

    lost: work that was done and is gone, or a run that cannot go on. silent: something wrong that nobody was told. traceback: an error that
    is no line for people. let_in: somebody was served who should not have been.
    """

    name: str
    cases: int = 0
    lost: int = 0
    silent: int = 0
    traceback: int = 0
    let_in: int = 0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.silent or self.traceback or self.let_in)


def is_one_line(message: str) -> bool:
    return bool(message.strip()) and "\n" not in message.strip()


def leave(work: Callable[[], object]) -> NoReturn:
    """Do ``work`` and end this process, a fork: 0, 1 after an error for people in one line, 2 after any other. Nothing is printed."""
    status = 2
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        work()
        status = 0
    except FsdGsError as error:
        status = 1 if is_one_line(str(error)) else 2
    except BaseException:
        status = 2
    finally:
        os._exit(status)


def ending_of(status: int) -> Ending:
    return {0: "good", 1: "refused"}.get(status, "traceback")  # type: ignore[return-value]


def in_child(work: Callable[[], object], before: Callable[[], None] = lambda: None) -> Ending:
    """How ``work`` ended in a fork, after ``before`` (limits on files, say): by itself, by an error for people, or by any other."""
    pid = os.fork()
    if pid == 0:
        leave(lambda: (before(), work()))
    _, status = os.waitpid(pid, 0)
    return ending_of(os.waitstatus_to_exitcode(status))
