"""Runs cells that are not finished yet, as units of work (``fsd_gs.fleet``): here or in several processes, beside other sweeps of the same
output if there are any, and gone on with by the same command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fsd_gs.experiments.sweep.cells import CellResult, RunCell, load_result
from fsd_gs.experiments.sweep.spec import Cell, setting_label
from fsd_gs.fleet.protocol import Claims
from fsd_gs.fleet.run import run_here
from fsd_gs.fleet.store import FolderStore
from fsd_gs.fleet.unit import Unit


def unit_of(cell: Cell) -> Unit:
    """A cell as a unit of work."""
    columns = {"prompt": cell.config.prompt, "seed": cell.config.seed, "name": cell.label}
    return Unit(cell.key, f"cells/{cell.key}", f"{cell.config.prompt} #{cell.config.seed}  {cell.label}", cell, columns)


def cell_folder(output: Path, cell: Cell) -> Path:
    """Where a cell's result lies."""
    return output / unit_of(cell).folder


def finished(cells: Sequence[Cell], output: Path) -> dict[str, CellResult]:
    """Results that are there already, by the key of their cell."""
    found = {cell.key: load_result(cell_folder(output, cell)) for cell in cells}
    return {key: result for key, result in found.items() if result is not None}


def run_sweep(cells: Sequence[Cell], output: Path, *, workers: int = 1, retry: bool = False, console: Console) -> dict[str, CellResult]:
    """Results of all cells by key; those found in ``output`` are not run again, except, with ``retry``, those that ended in an error.

    Raises:
        OutputError: a full disk, a backend that is missing: no property of a cell.
        KeyboardInterrupt: it was stopped; what is done is kept.
    """
    every = {cell.key: cell for cell in cells}
    results = finished(cells, output)
    if retry:
        for key in [key for key, result in results.items() if result.error is not None]:
            Claims(FolderStore(output)).withdraw(key, unit_of(every[key]).folder)
            del results[key]
    waiting = [cell for key, cell in every.items() if key not in results]
    if results:
        console.print(f"{len(results)} of {len(every)} cells are finished already", highlight=False)

    def told(unit: Unit) -> str:
        result = load_result(output / unit.folder)
        return f"{unit.label}  no result" if result is None else describe(result)

    run_here([unit_of(cell) for cell in waiting], RunCell(), output, workers=workers, console=console, done=told)
    return results | finished(waiting, output)


def describe(result: CellResult) -> str:
    """One line about a finished cell."""
    head = f"{result.prompt} #{result.seed}  {setting_label(result.setting)}"
    if result.error is not None:
        return f"{head}  error: {result.error}"
    nearest = "" if result.distance is None else f"  {result.distance:.4f} from '{result.caption}'"
    trouble = f"  {', '.join(result.failures)}" if result.failures else ""
    seconds = "" if result.seconds is None else f"  {result.seconds:.1f} s"
    return f"{head}{nearest}{trouble}{seconds}"
