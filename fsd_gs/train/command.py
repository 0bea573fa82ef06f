"""``train.py`` and ``fsd-gs train``: read the settings, make the assets, say where they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fsd_gs.config import Config, load_config
from fsd_gs.core import commandline
from fsd_gs.errors import BusyError, ConfigError, FileFormatError

if TYPE_CHECKING:  # torch and all that stands on it come when there is something to make: --help must not wait for them
    from rich.console import Console

    from fsd_gs.train.asset import Outcome
    from fsd_gs.train.backbones import PriorSource
    from fsd_gs.train.loop import Observer
    from fsd_gs.train.session import Session

DESCRIPTION = """Make 3D assets from words:

  {program} prompt="a red chair"              one asset
  {program} prompt="a red chair" count=4      four, each another one
  {program} resume=outputs/a-red-chair/seed-0000"""


def make_parser(program: str) -> commandline.Parser:
    """The options of ``train.py``."""
    parser = commandline.make_parser(program, DESCRIPTION)
    commandline.add_settings(parser, Config)
    parser.add_argument("--anyway", action="store_true", help="go on without words that the prior does not know (anyway=true)")
    return parser


class Page(Protocol):
    """What the live viewer is to this command; it comes from above, since training knows no viewer."""

    def watch(self, config: Config, interrupted: Callable[[], bool]) -> Observer: ...
    def stay(self, folder: Path, backend: str) -> None: ...
    def close(self) -> None: ...


def main(
    arguments: Sequence[str],
    program: str = "train.py",
    *,
    write_gallery: Callable[[Path], Path] | None = None,
    open_page: Callable[[Config, Callable[[str], None]], Page] | None = None,
) -> int:
    """Run the command; the exit code is 0 when all assets are complete, 128 + signal after Ctrl-C, kill or a closed terminal.

    write_gallery: called with the prompt's folder after each asset. open_page: for ``viewer=true``.
    """
    options = commandline.parse(make_parser(program), arguments)
    config, folder = read_settings(options.config, [*options.overrides, *(["anyway=true"] if options.anyway else [])])

    from rich.console import Console

    from fsd_gs.core.device import resolve_device
    from fsd_gs.train.backbones import PriorCache
    from fsd_gs.train.words import check_words, require_words

    if config.mode == "3d":
        require_words(config.prompt)  # before a prior is loaded and the machine measured
    console = Console(stderr=False)
    device = resolve_device(config.device)
    cache = PriorCache()
    cache.expect(config)
    priors = cache.prior
    first = config.split()[0].settings
    if config.prompt.strip():
        check_words(priors(first), config.prompt, anyway=config.anyway)
    if config.mode == "2d":
        from fsd_gs.image2d.command import main_2d

        return main_2d(config, priors(first), device, console)
    from fsd_gs.train import runs

    prompt_folder = folder.parent if folder is not None else runs.run_folder(config).parent
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    page = open_page(config, say) if config.viewer and open_page is not None else None
    try:
        code = train_set(config, priors, console, write_gallery, page, prompt_folder)
        if page is not None and not code:
            page.stay(prompt_folder, config.render.backend)
    finally:
        if page is not None:
            page.close()
    return code


def read_settings(files: Sequence[str], overrides: Sequence[str]) -> tuple[Config, Path | None]:
    """The settings, and the run's folder where ``resume=FOLDER`` names one: then its ``config.yaml`` comes before everything else."""
    words = {key.strip(): value.strip() for key, _, value in (override.partition("=") for override in overrides)}
    named = words.get("resume", "")
    if named.lower() in ("", "true", "false", "yes", "no", "on", "off", "1", "0", "y", "n"):
        return load_config(files, overrides), None
    from fsd_gs.train import runs

    folder = Path(named).expanduser()
    if not (folder / runs.CONFIG).is_file():
        state = "no such folder" if not folder.is_dir() else f"no run here (expected {runs.CONFIG})"
        raise FileFormatError(f"resume: {folder}: {state}; give true, or the folder of a run such as outputs/a-house/seed-0000")
    before = runs.load_run_config(folder)  # says in one line what is wrong with the file
    name = runs.seed_name(before.seed)
    if folder.resolve().name != name:
        raise ConfigError(f"resume: {folder}: expected a folder called {name}, by the seed in its {runs.CONFIG}")
    given = [override for override in overrides if override.partition("=")[0].strip() != "resume"]
    place = ["count=1", "viewer=false", f"output={folder.resolve().parent.parent}"]
    config = load_config([folder / runs.CONFIG, *files], [*place, *given, "resume=true", "overwrite=false"])
    if config.count != 1 or config.seed != before.seed:
        raise ConfigError(f"resume: {folder} is one asset, seed {before.seed}; leave seed and count out, or give resume=true instead")
    return config, folder


def train_set(
    config: Config,
    priors: PriorSource,
    console: Console,
    write_gallery: Callable[[Path], Path] | None,
    page: Page | None,
    prompt_folder: Path,
) -> int:
    """``config.count`` assets and their gallery; the exit code."""
    from fsd_gs.train import runs
    from fsd_gs.train.estimate import estimate_line
    from fsd_gs.train.ranking import rank
    from fsd_gs.train.variants import train_variants

    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    galleries: list[Path] = []
    missing = [s for s in range(config.seed, config.seed + config.count) if not runs.is_finished(prompt_folder / runs.seed_name(s))]
    if len(missing) == config.count and (line := estimate_line(config, priors, len(missing), say)):
        say(line)
    variants, code = train_variants(
        config,
        partial(train_one, priors=priors, console=console, prompt_folder=prompt_folder, page=page),
        write_gallery=None if write_gallery is None else lambda folder: galleries.append(write_gallery(folder)),
        say=say,
        prompt_folder=prompt_folder,
    )
    if config.keep and variants.variants:
        ranking = rank(config, prompt_folder, variants.seeds)
        for entry in ranking.ranked[: config.keep]:
            say(f"seed {entry.seed} is {ranking.note(entry.seed)}")
        if write_gallery is not None:
            galleries.append(write_gallery(prompt_folder))
    if galleries:
        score = "" if variants.diversity is None else f"  (diversity {variants.diversity:.2f})"
        say(f"gallery: {galleries[-1]}{score}")
    return code


def train_one(
    config: Config, priors: PriorSource, console: Console, prompt_folder: Path, page: Page | None = None, folder: Path | None = None
) -> int:
    """One seed, watched; 0, 2 where all but the videos could be written, or 128 + signal (130 for the viewer's buttons).

    folder: of the run, by default that of its seed.
    """
    import time

    from fsd_gs.train import runs
    from fsd_gs.train.asset import make_asset
    from fsd_gs.train.estimate import WORTH_IT, TimeBook
    from fsd_gs.train.observers import Interrupts, ProgressBar

    folder = prompt_folder / runs.seed_name(config.seed) if folder is None else folder
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    watched = console.is_terminal and sys.stdin is not None and sys.stdin.isatty()
    interrupts = Interrupts(folder / runs.FINISH, grace=2.0 if watched else 0.0, say=say)
    observers: list[Observer] = [interrupts, ProgressBar(console, f"{runs.slug(config.prompt)} #{config.seed}")]
    if page is not None:
        observers.insert(0, page.watch(config, lambda: interrupts.received is not None))
    began = time.perf_counter()
    outcome = make_asset(config, priors, folder, observers)
    if outcome.state == "finished" and outcome.seconds is not None and config.steps >= WORTH_IT:
        TimeBook().add(config, outcome.seconds, max(time.perf_counter() - began - outcome.seconds, 0.0))
    with suppress(OSError):  # the terminal may be what is gone
        report(outcome, config, say)
    if outcome.state in ("stopped", "kept"):
        return 128 + (interrupts.received or 2)
    return 2 if outcome.error else 0


def report(outcome: Outcome, config: Config, say: Callable[[str], None]) -> None:
    """Tell what became of an asset."""
    from fsd_gs.train import runs

    folder = outcome.folder
    if outcome.state == "found":
        early = f" (kept as of step {outcome.step} of {config.steps})" if outcome.step < config.steps else ""
        changed = f"; {', '.join(names)} changed since" if (names := runs.changed_files(folder)) else ""
        say(f"{folder}: already finished{early}{changed}")
    elif outcome.state == "stopped":
        say(f"stopped at step {outcome.step} of {config.steps}; go on with resume=true, or fsd-gs finish {folder} keeps it as it is")
    else:
        if outcome.error:
            print(f"error: {outcome.error}", file=sys.stderr)
        count = len(outcome.result.splats) if outcome.result else 0
        took = "" if outcome.seconds is None else f" in {outcome.seconds:.0f} s"
        early = f", kept as of step {outcome.step} of {config.steps}" if outcome.state == "kept" else ""
        say(f"{count} splats{took}{early}")
        for name in (runs.SPLATS, runs.PREVIEW, runs.TURNTABLE, runs.TIMELAPSE):
            if (folder / name).is_file():
                say(f"  {folder / name}")


def file_observers(config: Config, session: Session, folder: Path) -> list[Observer]:
    """Everything that writes into the run's folder while it grows."""
    from fsd_gs.train import asset

    return asset.file_observers(config, session, folder)


# -- fsd-gs finish ---------------------------------------------------------------------------------------------------------


def make_finish_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs finish``."""
    parser = commandline.make_parser(program, f"{finish.__doc__}", epilog="{program} outputs/a-red-chair/seed-0000")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a run, or of a prompt for all its unfinished runs")
    return parser


def finish(arguments: Sequence[str], program: str = "fsd-gs finish", *, write_gallery: Callable[[Path], Path] | None = None) -> int:
    """Keep unfinished assets as they are: splats, preview, videos and gallery. One that is being made now stops after its step."""
    options = commandline.parse(make_finish_parser(program), arguments)
    from rich.console import Console

    from fsd_gs.train import runs
    from fsd_gs.train.asset import keep_asset
    from fsd_gs.train.variants import record_asset

    say = partial(Console().print, highlight=False, markup=False, soft_wrap=True)
    code = 0
    for folder in [run for given in options.folders for run in unfinished_runs(given)]:
        config = runs.load_run_config(folder)
        try:
            outcome = keep_asset(folder)
        except BusyError:
            say(f"{folder}: being made now; asked to stop and keep it")
            runs.ask_to_keep(folder)
            continue
        report(outcome, config, say)
        code = max(code, 2 if outcome.error else 0)
        record_asset(folder, config, write_gallery=write_gallery)
    return code


def unfinished_runs(folder: Path) -> list[Path]:
    """``folder`` if it is a run, or the unfinished runs in it; FileFormatError where there is neither."""
    from fsd_gs.train import runs

    if (folder / runs.CONFIG).is_file():
        return [folder]
    found = [run for run in sorted(folder.glob("seed-*")) if (run / runs.CONFIG).is_file() and not runs.is_finished(run)]
    if not found:
        raise FileFormatError(f"{folder}: no unfinished run here; give the folder of a run, such as outputs/a-house/seed-0000")
    return found
