"""``train.py`` and ``fsd-gs train``: read the settings, make the assets, say where they are."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console

from fsd_gs.config import Config, describe_settings, load_config
from fsd_gs.core.device import resolve_device
from fsd_gs.errors import VideoError
from fsd_gs.image2d.command import main_2d
from fsd_gs.priors.base import Prior
from fsd_gs.train import runs
from fsd_gs.train.api import prepare, run
from fsd_gs.train.backbones import load_prior
from fsd_gs.train.loop import Observer
from fsd_gs.train.observers import Checkpoints, Interrupts, JsonLog, Previews, ProgressBar
from fsd_gs.train.result import Result, draw_preview
from fsd_gs.train.session import Session
from fsd_gs.train.variants import train_variants

DESCRIPTION = """Make 3D assets from words: python train.py prompt="a red chair" [key=value ...]

Each seed gives another asset: python train.py prompt="a red chair" count=4"""


def make_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description=DESCRIPTION, epilog=_settings_help(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, listed below; the last one wins")
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="YAML file, or its name below configs/; may be repeated"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _settings_help() -> str:
    lines, last_group = ["settings (key=default  meaning):"], ""
    for key, default, meaning in describe_settings():
        group = key.rpartition(".")[0]
        if group != last_group:
            lines.append("")
            last_group = group
        shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else default
        lines.append(f"  {key}={shown}\n      {meaning}")
    return "\n".join(lines).replace("%", "%%")


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
    """Run the command; the exit code is 0 when all assets are complete, 130 or 143 after Ctrl-C or kill.

    write_gallery: called with the prompt's folder after each asset. open_page: for ``viewer=true``.
    """
    options = make_parser(program).parse_args(arguments)
    config = load_config(options.config, options.overrides)
    console = Console(stderr=False)
    device = resolve_device(config.device)
    prior = load_prior(config, device)
    if config.mode == "2d":
        return main_2d(config, prior, device, console)
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    page = open_page(config, say) if config.viewer and open_page is not None else None
    try:
        code = train_set(config, prior, console, write_gallery, page)
        if page is not None and not code:
            page.stay(runs.run_folder(config).parent, config.render.backend)
    finally:
        if page is not None:
            page.close()
    return code


def train_set(
    config: Config, prior: Prior, console: Console, write_gallery: Callable[[Path], Path] | None = None, page: Page | None = None
) -> int:
    """``config.count`` assets and their gallery; the exit code."""
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    galleries: list[Path] = []
    variants, code = train_variants(
        config,
        lambda asset: train_one(asset, prior, console, page),
        write_gallery=None if write_gallery is None else lambda folder: galleries.append(write_gallery(folder)),
        say=say,
    )
    if galleries:
        score = "" if variants.diversity is None else f"  (diversity {variants.diversity:.2f})"
        say(f"gallery: {galleries[-1]}{score}")
    return code


def train_one(config: Config, prior: Prior, console: Console, page: Page | None = None) -> int:
    """One seed: nothing to do if ``resume`` finds it finished."""
    folder = runs.run_folder(config)
    if config.resume and runs.is_finished(folder):
        console.print(f"{folder}: already finished", highlight=False)
        return 0
    session = prepare(config, prior)
    runs.prepare_folder(config)
    checkpoint = folder / runs.CHECKPOINT
    interrupts = Interrupts()
    observers = [*file_observers(config, session, folder), ProgressBar(console, f"{runs.slug(config.prompt)} #{config.seed}")]
    if page is not None:
        observers.append(page.watch(config, lambda: interrupts.received is not None))
    observers.append(interrupts)
    began = time.perf_counter()
    result = run(config, session, observers, checkpoint if config.resume and checkpoint.is_file() else None)
    if not result.complete:
        console.print(f"stopped at step {session.step} of {config.steps}; go on with resume=true  ({folder})", highlight=False)
        return 128 + interrupts.received if interrupts.received else 0
    return finish(result, folder, console, time.perf_counter() - began)


def file_observers(config: Config, session: Session, folder: Path) -> list[Observer]:
    """Everything that writes into the run's folder while it grows."""
    draw = partial(draw_preview, session.parts.rasterize, config=config)
    return [
        JsonLog(folder / runs.LOG),
        Previews(folder, config.outputs.preview_every, draw),
        Checkpoints(folder / runs.CHECKPOINT, config.outputs.checkpoint_every),
    ]


def finish(result: Result, folder: Path, console: Console, seconds: float) -> int:
    """Write the results and list them; 2 where all but the videos could be written."""
    code = 0
    try:
        result.save(folder)
    except VideoError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    console.print(f"{len(result.splats)} splats in {seconds:.0f} s", highlight=False)
    for name in (runs.SPLATS, runs.PREVIEW, runs.TURNTABLE, runs.TIMELAPSE):
        if (folder / name).is_file():
            console.print(f"  {folder / name}", highlight=False, soft_wrap=True)
    return code
