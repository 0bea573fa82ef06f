"""``fsd-gs batch``: from a file of prompts to assets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fsd_gs.config import Config
from fsd_gs.core import commandline
from fsd_gs.core.terminal import duration
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.fleet.driver import Rules, Tally, Team
from fsd_gs.fleet.estimate import estimate, run_book
from fsd_gs.fleet.local import Inline, Processes
from fsd_gs.fleet.make import MakeAsset
from fsd_gs.fleet.plan import record_plan
from fsd_gs.fleet.prompts import TAKEN, Row, parse_seeds, read_prompts
from fsd_gs.fleet.protocol import marker_of
from fsd_gs.fleet.run import work
from fsd_gs.fleet.scan import PAGE, write_manifest
from fsd_gs.fleet.store import FolderStore, Store, open_store
from fsd_gs.fleet.task import Rehearse, Task
from fsd_gs.fleet.unit import Unit, shard, units_of
from fsd_gs.fleet.worker import Setup

if TYPE_CHECKING:
    from rich.console import Console

DESCRIPTION = """Make the assets of a file of prompts: {program} prompts.csv --seeds 0-3 --output outputs/night --workers 2

The same command goes on after a stop, a crash or a power cut, and may be started several times at once (docs/fleet.md)."""
#: What schedulers call the number of a process among its like, and how many there are.
RANKS = (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"), ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"))


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs batch``."""
    parser = commandline.make_parser(program, DESCRIPTION)
    parser.add_argument("prompts", type=Path, metavar="FILE", help=".txt (a prompt a line), .csv or .jsonl (with settings of their own)")
    commandline.add_settings(parser, Config, listed=False)
    parser.add_argument("--seeds", default="0", metavar="0-3,7", help="for every prompt without seeds of its own (default: %(default)s)")
    parser.add_argument("--output", default="outputs", metavar="PLACE", help="folder, or s3://…, gs://… (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, or actors with --ray (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be made and how long it would take, and end")
    parser.add_argument("--retries", type=int, default=2, metavar="N", help="how often a failed unit is tried again (default: %(default)s)")
    parser.add_argument("--retry-failed", action="store_true", help="try again what an earlier command gave up")
    parser.add_argument("--stale-minutes", type=float, default=10.0, metavar="M", help="silence after which a worker elsewhere is dead")
    parser.add_argument("--rank", type=int, metavar="I", help="make only every N-th unit: this process is number I of --world-size")
    parser.add_argument("--world-size", type=int, metavar="N", help="(both also from a Slurm array or an indexed Kubernetes job)")
    parser.add_argument("--scratch", metavar="FOLDER", help="where assets are made before they are uploaded")
    parser.add_argument("--book", action="append", type=Path, default=[], metavar="FOLDER", help="finished runs to estimate the time from")
    parser.add_argument("--no-scan", action="store_true", help="leave manifest and page to fsd-gs fleet scan")
    parser.add_argument("--rehearse", type=float, metavar="SECONDS", help="make nothing: units of that length that write a small file")
    parser.add_argument("--anyway", action="store_true", help="go on without words that the prior does not know (anyway=true)")
    group = parser.add_argument_group("on a Ray cluster (pip install 'fsd-gs[fleet]')")
    group.add_argument("--ray", nargs="?", const="auto", metavar="ADDRESS", help="auto: the cluster of this machine, or a new one; ray://…")
    group.add_argument("--gpus-per-worker", type=float, metavar="G", help="may be a fraction (default: 1 where the cluster has GPUs)")
    group.add_argument("--cpus-per-worker", type=float, default=1.0, metavar="C", help="(default: %(default)s)")
    group.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="only nodes with this label; may be repeated")
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs batch") -> int:
    """Run the command; 0 when every unit is done, 1 when some were given up, 128 + signal when it was stopped."""
    options = commandline.parse(make_parser(program), arguments)
    path = options.prompts
    from rich.console import Console

    console = Console()
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    _check(options)
    _check_overrides(options.overrides, path)
    overrides = [*options.overrides, *(["anyway=true"] if options.anyway else [])]
    rows, notes = read_prompts(path, overrides, options.config)
    units = _units(rows, parse_seeds(options.seeds), path, options.rehearse is not None)
    for note in notes:
        say(f"note: {note}")
    rank, world_size = rank_of(options)
    store = open_store(options.output, options.scratch)
    if options.dry_run:
        dry_run(store, rows, units, shard(units, rank, world_size), options, console)
        return 0
    task: Task = MakeAsset() if options.rehearse is None else Rehearse(options.rehearse)
    if options.rehearse is None:
        check_all_words(rows, path)
    for note in record_plan(store, units):
        say(note)
    setup = Setup(options.output, task, options.stale_minutes * 60.0, options.scratch)
    rules = Rules(options.retries, options.retry_failed, options.stale_minutes * 60.0)
    tally, signal = work(store, shard(units, rank, world_size), rules, console, lambda stop: _team(options, setup, stop))
    if not options.no_scan and rank == 0:
        write_manifest(store)
        say(f"overview: {store.address}/{PAGE}")
    return report(tally, signal, say)


def _check(options: argparse.Namespace) -> None:
    for name, least in (("workers", 1), ("retries", 0), ("stale_minutes", 0.01), ("cpus_per_worker", 0.0)):
        if not getattr(options, name) >= least:
            raise ConfigError(f"--{name.replace('_', '-')}: expected at least {least:g}, got {getattr(options, name):g}")
    if options.rehearse is not None and not 0 <= options.rehearse <= 86400:
        raise ConfigError(f"--rehearse: expected seconds from 0 to 86400, got {options.rehearse:g}")
    if options.gpus_per_worker is not None and not options.gpus_per_worker >= 0:
        raise ConfigError(f"--gpus-per-worker: expected at least 0, got {options.gpus_per_worker:g}")
    for label in options.label:
        if "=" not in label:
            raise ConfigError(f"--label: expected KEY=VALUE, got '{label}'")


def _check_overrides(overrides: Sequence[str], path: Path) -> None:
    """What is asked for and would be passed over in silence is refused."""
    for key in (override.partition("=")[0].strip() for override in overrides):
        if key == "prompt":
            raise ConfigError(f"prompt: a batch takes it from {path}; leave it out")
        if key in ("seed", "count"):
            raise ConfigError(f"{key}: a batch takes it from --seeds (such as 0-3) or a column 'seeds'; leave it out")
        if key in TAKEN and key != "mode":  # whose own message is better
            raise ConfigError(f"{key}: a batch sets it itself; {'use --output' if key == 'output' else 'leave it out'}")


def _units(rows: Sequence[Row], seeds: Sequence[int], path: Path, rehearsal: bool) -> list[Unit]:
    """All units; lines of equal settings and seeds (under two names) stay two units only if their folders differ."""
    units = list(units_of(rows, seeds, rehearsal))
    lines: dict[str, int] = {}
    for unit in units:
        first = lines.setdefault(unit.key, unit.columns["line"])
        if first != unit.columns["line"]:
            raise ConfigError(
                f"{path}, line {unit.columns['line']}: seed {unit.columns['seed']} is made by line {first} already; leave one out"
            )
    return units


def rank_of(options: argparse.Namespace) -> tuple[int, int]:
    """(number of this process among its like, how many there are); (0, 1) where nobody says.

    Raises:
        ConfigError: one without the other, or a number that is not below the count.
    """
    rank, size = options.rank, options.world_size
    if rank is None and size is None:
        for ranks, sizes in RANKS:
            if ranks in os.environ:
                if sizes not in os.environ:
                    raise ConfigError(f"{ranks}: is set, but {sizes} is not; give --world-size N (1 for everything)")
                return _checked(_index(ranks), _number(sizes))
        return 0, 1
    if rank is None and size == 1:
        return 0, 1
    if rank is None and size is not None:
        rank = next((_index(ranks) for ranks, _ in RANKS if ranks in os.environ), None)
    if rank is None or size is None:
        raise ConfigError("--rank: give --rank and --world-size together")
    return _checked(rank, size)


def _index(variable: str) -> int:
    """From 0, also for an array that begins elsewhere or leaves numbers out (--array=10-40:10)."""
    if not variable.startswith("SLURM"):
        return _number(variable)
    return (_number(variable) - _number("SLURM_ARRAY_TASK_MIN", 0)) // max(_number("SLURM_ARRAY_TASK_STEP", 1), 1)


def _number(variable: str, default: int | None = None) -> int:
    text = os.environ.get(variable)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise ConfigError(f"{variable}: expected a number, got '{text}'") from None


def _checked(rank: int, size: int) -> tuple[int, int]:
    if size < 1 or not 0 <= rank < size:
        raise ConfigError(f"--rank: expected a number from 0 to {size - 1} (--world-size {size}), got {rank}")
    return rank, size


def check_all_words(rows: Sequence[Row], path: Path) -> None:
    """Words that the prior does not know stop the batch before it starts, with the number of their line. Text backbones take any words."""
    first = rows[0].config
    if first.prior.name not in ("nano", "exact"):  # loading gigabytes here to hear "any words" would be a waste
        return
    from fsd_gs.errors import FsdGsError
    from fsd_gs.fleet.priors import PriorCache
    from fsd_gs.train.words import check_words

    cache = PriorCache()
    for row in rows:
        if row.config.prior.name in ("nano", "exact"):
            try:
                check_words(cache.prior(row.config), row.config.prompt, anyway=row.config.anyway)
            except FsdGsError as error:
                raise InputError(f"{path}, line {row.line}: {error}") from error


# -- working ---------------------------------------------------------------------------------------------------------------


def _team(options: argparse.Namespace, setup: Setup, stop: Callable[[], bool]) -> Team:
    if options.ray is not None:
        from fsd_gs.fleet.cluster import Actors, Resources

        labels = dict(label.split("=", 1) for label in options.label)
        return Actors(setup, options.workers, options.ray, Resources(options.cpus_per_worker, options.gpus_per_worker, labels))
    return Inline(setup, stop) if options.workers == 1 else Processes(setup, options.workers)


def report(tally: Tally, signal: int | None, say: Callable[[str], None]) -> int:
    """Tell how it ended; the exit code."""
    say(f"{tally.done} of {tally.total} done, {tally.made} of them now" + (f"; {len(tally.failed)} given up" if tally.failed else ""))
    for unit, failure in list(tally.failed.values())[:3]:
        say(f"  {unit.label}: {failure.error}")
    if tally.failed:
        say("--retry-failed tries them again")
    if tally.stopped:
        say("stopped; the same command goes on")
        return 128 + (signal or 2)
    return 1 if tally.failed else 0


# -- --dry-run -------------------------------------------------------------------------------------------------------------


def dry_run(
    store: Store, rows: Sequence[Row], all_units: Sequence[Unit], units: Sequence[Unit], options: argparse.Namespace, console: Console
) -> None:
    """Print the table of the file, the number of assets and how long they would take; touches nothing."""
    from rich.table import Table

    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    done = store.present(marker_of(unit.folder) for unit in units)
    per_line: dict[int, list[Unit]] = {}
    for unit in units:
        per_line.setdefault(unit.columns["line"], []).append(unit)
    common = rows[0].config
    drawn = Table(box=None, pad_edge=False)
    for heading in ("line", "prompt", "name", "seeds", "done", "settings of its own"):
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        mine = per_line.get(row.line, [])
        own = [f"{key}={commandline.shown(value)}" for key, value in _differences(common, row.config)]
        seeds = _ranges([unit.columns["seed"] for unit in mine])
        ready = sum(marker_of(unit.folder) in done for unit in mine)
        drawn.add_row(str(row.line), row.config.prompt, row.name, seeds, f"{ready} of {len(mine)}", " ".join(own))
    console.print(drawn, highlight=False, markup=False)
    left = [unit for unit in units if marker_of(unit.folder) not in done]
    part = f" of {len(all_units)} (this rank's)" if len(units) != len(all_units) else ""
    say(f"{len(rows)} prompts, {len(units)} assets{part}, {len(done)} done, {len(left)} to make")
    folders = [*options.book, *([store.root] if isinstance(store, FolderStore) else []), Path("outputs")]
    seconds, unknown = estimate(left, run_book(folders))
    if left and unknown < len(left):
        workers = min(options.workers, len(left))
        more = f", and {unknown} of kinds that the run book does not know" if unknown else ""
        say(f"about {duration(seconds / workers)} with {workers} worker{'s' if workers > 1 else ''} ({duration(seconds)} of work){more}")
    elif left:
        say("time: unknown, nothing of this kind was made yet; make one asset, or give --book FOLDER with finished runs")


def _differences(common: Config, own: Config) -> list[tuple[str, object]]:
    from fsd_gs.core.configure import walk_values

    before = dict(walk_values(common))
    return [(key, value) for key, value in walk_values(own) if key not in ("prompt", "seed") and before[key] != value]


def _ranges(seeds: Sequence[int]) -> str:
    """[0, 1, 2, 5] → "0-2,5"."""
    parts: list[tuple[int, int]] = []
    for seed in sorted(seeds):
        if parts and parts[-1][1] == seed - 1:
            parts[-1] = (parts[-1][0], seed)
        else:
            parts.append((seed, seed))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
