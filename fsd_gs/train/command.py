"""``train.py`` and ``fsd-gs train``: read the settings, make the assets, say where they are."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from fsd_gs.config import Config, describe_settings, load_config
from fsd_gs.device import resolve_device
from fsd_gs.priors.base import Prior
from fsd_gs.train import runs
from fsd_gs.train.api import prepare, run
from fsd_gs.train.backbones import load_prior
from fsd_gs.train.command2d import main_2d
from fsd_gs.train.loop import Observer
from fsd_gs.train.observers import Checkpoints, Interrupts, JsonLog, Previews, ProgressBar
from fsd_gs.train.result import Result, draw_preview
from fsd_gs.train.session import Session

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


def main(arguments: Sequence[str], program: str = "train.py") -> int:
    """Run the command; the exit code is 0 when all assets are complete, 130 or 143 after Ctrl-C or kill."""
    options = make_parser(program).parse_args(arguments)
    config = load_config(options.config, options.overrides)
    console = Console(stderr=False)
    device = resolve_device(config.device)
    prior = load_prior(config, device)
    if config.mode == "2d":
        return main_2d(config, prior, device, console)
    for offset in range(config.count):
        code = train_one(replace(config, seed=config.seed + offset, count=1), prior, console)
        if code:
            return code
    return 0


def train_one(config: Config, prior: Prior, console: Console) -> int:
    """One seed: nothing to do if ``resume`` finds it finished."""
    folder = runs.run_folder(config)
    if config.resume and runs.is_finished(folder):
        console.print(f"{folder}: already finished", highlight=False)
        return 0
    session = prepare(config, prior)
    runs.prepare_folder(config)
    checkpoint = folder / runs.CHECKPOINT
    interrupts = Interrupts()
    observers = [*file_observers(config, session, folder), ProgressBar(console, f"{runs.slug(config.prompt)} #{config.seed}"), interrupts]
    began = time.perf_counter()
    result = run(config, session, observers, checkpoint if config.resume and checkpoint.is_file() else None)
    if not result.complete:
        console.print(f"stopped at step {session.step} of {config.steps}; go on with resume=true  ({folder})", highlight=False)
        return 128 + interrupts.received if interrupts.received else 0
    finish(result, folder, console, time.perf_counter() - began)
    return 0


def file_observers(config: Config, session: Session, folder: Path) -> list[Observer]:
    """Everything that writes into the run's folder while it grows."""
    draw = partial(draw_preview, session.parts.rasterize, config=config)
    return [
        JsonLog(folder / runs.LOG),
        Previews(folder, config.outputs.preview_every, draw),
        Checkpoints(folder / runs.CHECKPOINT, config.outputs.checkpoint_every),
    ]


def finish(result: Result, folder: Path, console: Console, seconds: float) -> None:
    """Write the results and list them."""
    result.save(folder)
    console.print(f"{len(result.splats)} splats in {seconds:.0f} s", highlight=False)
    for name in (runs.SPLATS, runs.PREVIEW, runs.TURNTABLE):
        if (folder / name).is_file():
            console.print(f"  {folder / name}", highlight=False, soft_wrap=True)
