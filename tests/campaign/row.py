"""A line of the campaign's table, and how a process of its own ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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


def in_child(work: Callable[[], object], before: Callable[[], None] = lambda: None) -> Ending:
    """How ``work`` ended in a fork, after ``before`` (limits on files, say): by itself, by an error for people, or by any other."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
            before()
            work()
            status = 0
        except FsdGsError:
            status = 1
        except BaseException:
            status = 2
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return {0: "good", 1: "refused"}.get(os.waitstatus_to_exitcode(status), "traceback")  # type: ignore[return-value]
