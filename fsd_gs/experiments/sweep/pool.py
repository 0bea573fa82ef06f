"""Many independent jobs, here or in several processes, with a progress bar; for sweeps and evaluations.

A result is written by the process that made it, so Ctrl-C, a crash or a power cut costs the jobs in flight and nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from rich.console import Console

from fsd_gs.core.terminal import duration, make_bar
from fsd_gs.errors import BackendError

R = TypeVar("R")
ETA_SECONDS = 3600.0  # jobs take minutes: rich's default of half a minute would forget the last one before the next is done


def results_of_pool(work: Callable[..., R], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[R]:
    """``work(*job)`` for every job in ``workers`` processes, as they are done. ``work`` must be a function of a module."""
    # spawn: a forked child would inherit locked thread pools and a CUDA context that it cannot use
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(workers,))
    try:
        futures = [pool.submit(work, *job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise BackendError(
            "a worker process died, perhaps for lack of memory; use fewer --workers. Finished cells are kept: run the same command again"
        ) from error
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start_worker(workers: int) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // workers)))


def _follow_parent() -> None:
    """End this worker when the parent is gone, however it went: an orphan would hold its memory for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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
