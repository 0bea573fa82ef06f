"""Runs cells that are not finished yet, here or in several processes, and survives whatever happens to one of them.

Every worker keeps its prior between cells. A result is written by the process that made it, so Ctrl-C, a crash or a power cut costs the
cells in flight and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from fsd_gs.experiments.sweep.cells import CellResult, PriorCache, load_result, run_cell
from fsd_gs.experiments.sweep.pool import results_of_pool, watched
from fsd_gs.experiments.sweep.spec import Cell, setting_label

_cache = PriorCache()  # one a process; a worker lives as long as its pool


def cell_folder(output: Path, cell: Cell) -> Path:
    """Where the result of a cell lies."""
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
    made = _results(waiting, output, workers)
    for result in watched(made, len(waiting), console, title="sweep", describe=describe, failed=lambda r: r.error is not None):
        results[result.key] = result
    return results


def _results(waiting: Sequence[Cell], output: Path, workers: int) -> Iterator[CellResult]:
    if workers == 1 or len(waiting) < 2:
        for cell in waiting:
            yield run_cell(cell, cell_folder(output, cell), _cache)
    else:
        yield from results_of_pool(_work, [(cell, cell_folder(output, cell)) for cell in waiting], workers)


def _work(cell: Cell, folder: Path) -> CellResult:
    return run_cell(cell, folder, _cache)


def describe(result: CellResult) -> str:
    """One line about a finished cell."""
    head = f"{result.prompt} #{result.seed}  {setting_label(result.setting)}"
    if result.error is not None:
        return f"{head}  error: {result.error}"
    nearest = "" if result.distance is None else f"  {result.distance:.4f} from '{result.caption}'"
    trouble = f"  {', '.join(result.failures)}" if result.failures else ""
    return f"{head}{nearest}{trouble}  {result.seconds:.1f} s"
