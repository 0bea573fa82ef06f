"""A progress bar over results that come one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from rich.console import Console

from fsd_gs.core.terminal import duration, make_bar

R = TypeVar("R")
ETA_SECONDS = 3600.0  # results may take minutes: rich's default of half a minute would forget the last one before the next is done


def watched(
    results: Iterator[R], total: int, console: Console, *, title: str, describe: Callable[[R], str], failed: Callable[[R], bool]
) -> Iterator[R]:
    """``results`` with a progress bar and the time left; one plain line a result where there is no terminal, and for every failed one."""
    failures, began = 0, time.monotonic()
    with make_bar(console, memory=ETA_SECONDS) as progress:
        task = progress.add_task(title, total=total)
        for done, result in enumerate(results, start=1):
            failures += failed(result)
            progress.update(task, advance=1, details=(f"{failures} errors",) if failures else ())
            if failed(result) or not console.is_terminal:
                left = (time.monotonic() - began) * (total - done) / done
                ahead = f"  {duration(left)} left" if done < total else ""
                console.print(f"{done}/{total}{ahead}  {describe(result)}", highlight=False, markup=False, soft_wrap=True)
            yield result
