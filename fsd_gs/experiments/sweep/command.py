"""``fsd-gs sweep``: run a grid, or go on with it, and leave tables, plots and contact sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from fsd_gs.config import Config
from fsd_gs.core import commandline
from fsd_gs.core.naming import file_stem, slug
from fsd_gs.errors import ConfigError
from fsd_gs.experiments.sweep.cells import CellResult
from fsd_gs.experiments.sweep.pictures import save_plots, save_sheet
from fsd_gs.experiments.sweep.runner import cell_folder, finished, run_sweep
from fsd_gs.experiments.sweep.spec import Cell, expand, load_spec
from fsd_gs.experiments.sweep.table import cells_csv, markdown, prompt_rows, prompts_csv, setting_rows, settings_csv, view_loader
from fsd_gs.io import make_folder, write_text

DESCRIPTION = """Run a grid of methods, settings, prompts and seeds and lay the results side by side:
{program} ablations/beta --workers 2

Finished cells are never run again: after Ctrl-C or a crash, give the same command. Cells are shared by all sweeps of one --output."""


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs sweep``."""
    parser = commandline.make_parser(program, DESCRIPTION)
    parser.add_argument("spec", metavar="SWEEP", help="YAML file of the sweep, or its name below configs/, such as ablations/beta")
    commandline.add_settings(parser, Config, listed=False, files=False)
    parser.add_argument("--output", default="outputs/sweeps", metavar="FOLDER", help="where results go (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that run cells (default: %(default)s)")
    parser.add_argument("--retry", action="store_true", help="run cells again that ended in an error")
    parser.add_argument("--report", action="store_true", help="only write tables and pictures of what is finished")
    parser.add_argument("--no-plots", action="store_true", help="leave the plots out (they need matplotlib)")
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs sweep") -> int:
    """Run the command; the exit code is 0 when every cell has a result without an error, else 1."""
    options = commandline.parse(make_parser(program), arguments)
    if options.workers < 1:
        raise ConfigError(f"--workers: expected at least 1, got {options.workers}")
    console = Console()
    cells = expand(load_spec(options.spec), options.overrides)
    output = Path(options.output)
    make_folder(output)
    if options.report:
        results = finished(cells, output)
        console.print(f"{len(results)} of {len(cells)} cells are finished", highlight=False)
    else:
        results = run_sweep(cells, output, workers=options.workers, retry=options.retry, console=console)
    folder = output / file_stem(Path(options.spec).stem)
    for path in write_report(cells, results, output, folder, plots=not options.no_plots):
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    errors = [result for result in results.values() if result.error is not None]
    for result in errors[:3]:
        console.print(f"error: {result.error}", highlight=False, markup=False, soft_wrap=True)
    if errors:
        console.print(f"{len(errors)} of {len(cells)} cells ended in an error; --retry runs them again", highlight=False)
    return 1 if errors or len(results) < len({cell.key for cell in cells}) else 0


def write_report(cells: Sequence[Cell], results: Mapping[str, CellResult], output: Path, folder: Path, *, plots: bool = True) -> list[Path]:
    """Tables, plots and contact sheets of what is finished, in ``folder``; returns the files."""
    rows = prompt_rows(cells, results, view_loader(lambda key: output / "cells" / key, cells[0].measure.views))
    summary = setting_rows(rows)
    tables = {
        "cells.csv": cells_csv(cells, results),
        "prompts.csv": prompts_csv(rows),
        "settings.csv": settings_csv(summary),
        "settings.md": markdown(summary),
    }
    for name, text in tables.items():
        write_text(folder / name, text)
    paths = [folder / name for name in tables]
    if not summary:
        return paths
    for prompt in dict.fromkeys(cell.config.prompt for cell in cells):
        paths.append(save_sheet(cells, results, prompt, lambda cell: cell_folder(output, cell), folder / f"sheet-{slug(prompt)}.png"))
    return [*paths, *(save_plots(summary, folder) if plots else [])]
