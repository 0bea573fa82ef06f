"""Runs cells that are not finished yet, here or in several processes, and survives whatever happens to one of them.

Every worker keeps its prior between cells. A result is written by the process that made it, so Ctrl-C, a crash or a power cut costs the
cells in flight and nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fsd_gs.errors import BackendError
from fsd_gs.sweep.cells import CellResult, PriorCache, load_result, run_cell
from fsd_gs.sweep.spec import Cell, setting_label

_cache = PriorCache()  # one a process; a worker lives as long as its pool


def cell_folder(output: Path, cell: Cell) -> Path:
    return output / "cells" / cell.key


def finished(cells: Sequence[Cell], output: Path) -> dict[str, CellResult]:
    """Results that are there already, by the key of their cell."""
    found = {cell.key: load_result(cell_folder(output, cell)) for cell in cells}
    return {key: result for key, result in found.items() if result is not None}


def run_sweep(cells: Sequence[Cell], output: Path, *, workers: int = 1, retry: bool = False, console: Console) -> dict[str, CellResult]:
    """Results of all cells by key; those found in ``output`` are not run again, except, with ``retry``, those that ended in an error."""
    results = finished(cells, output)
    if retry:
        results = {key: result for key, result in results.items() if result.error is None}
    waiting = list({cell.key: cell for cell in cells if cell.key not in results}.values())
    if results:
        console.print(f"{len(results)} of {len({cell.key for cell in cells})} cells are finished already", highlight=False)
    for result in _watched(_results(waiting, output, workers), len(waiting), console):
        results[result.key] = result
    return results


def _results(waiting: Sequence[Cell], output: Path, workers: int) -> Iterator[CellResult]:
    if workers == 1 or len(waiting) < 2:
        for cell in waiting:
            yield run_cell(cell, cell_folder(output, cell), _cache)
    else:
        yield from _results_of_pool(waiting, output, workers)


def _results_of_pool(waiting: Sequence[Cell], output: Path, workers: int) -> Iterator[CellResult]:
    # spawn: a forked child would inherit locked thread pools and a CUDA context that it cannot use
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(workers,))
    try:
        jobs = [pool.submit(_work, cell, cell_folder(output, cell)) for cell in waiting]
        for job in as_completed(jobs):
            yield job.result()
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


def _work(cell: Cell, folder: Path) -> CellResult:
    return run_cell(cell, folder, _cache)


def _watched(results: Iterator[CellResult], total: int, console: Console) -> Iterator[CellResult]:
    """``results`` with a progress bar; one plain line a cell where there is no terminal."""
    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    failed = 0
    with Progress(*columns, TextColumn("{task.description}"), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        for done, result in enumerate(results, start=1):
            failed += result.error is not None
            progress.update(task, advance=1, description=f"{failed} errors" if failed else "")
            if result.error is not None or not console.is_terminal:
                console.print(f"{done}/{total}  {describe(result)}", highlight=False, markup=False, soft_wrap=True)
            yield result


def describe(result: CellResult) -> str:
    """One line about a finished cell."""
    head = f"{result.prompt} #{result.seed}  {setting_label(result.setting)}"
    if result.error is not None:
        return f"{head}  error: {result.error}"
    nearest = "" if result.distance is None else f"  {result.distance:.4f} from '{result.caption}'"
    trouble = f"  {', '.join(result.failures)}" if result.failures else ""
    return f"{head}{nearest}{trouble}  {result.seconds:.1f} s"
