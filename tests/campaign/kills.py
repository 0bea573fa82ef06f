"""kill −9 at every kind of moment: python tests/campaign/kills.py [POINTS] prints the table of docs/reliability.md.

A run in a forked child is killed before the k-th time that it opens, renames or removes something in its folder (an audit hook
counts), so that every state of the files that a kill can leave is reached, not only the likely ones. After each kill:

    fresh        what says that it is finished is the asset of an unbroken run, bit for bit; resume=true ends with that asset
    overwriting  of a finished run of other settings: what says that it is finished has the splats of the settings beside them
    sets         two assets with variants.json: resuming ends with both, and variants.json lists both
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from stub_prior import GreenPrior, tiny

from fsd_gs.config import Config
from fsd_gs.errors import OutputError
from fsd_gs.io import file_sha256
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset
from fsd_gs.train.variants import VARIANTS, load_variants, train_variants

_WATCHED = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}


def in_child(work: Callable[[], object], folder: Path, kill_at: int | None = None) -> tuple[int, int]:
    """Run ``work`` in a fork; (its exit status, the file events below ``folder``). Killed before event ``kill_at``."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        count, place = 0, str(folder)

        def hook(event: str, arguments: tuple) -> None:
            nonlocal count
            if event in _WATCHED and str(arguments[0]).startswith(place):
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1

        status = 1
        try:
            sys.addaudithook(hook)
            work()
            status = 0
        finally:
            os.write(write, str(count).encode())
            os._exit(status)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        counted = pipe.read()
    return os.waitstatus_to_exitcode(status), int(counted or -1)


def train(config: Config) -> Path:
    return make_asset(config, GreenPrior()).folder


QUICK = ("outputs.turntable_frames=0", "outputs.timelapse=false", "outputs.preview_every=0")


def splats_of(config: Config) -> str:
    """SHA-256 of the splats of an unbroken run."""
    with tempfile.TemporaryDirectory() as place:
        return file_sha256(train(replace(config, output=place, overwrite=False, resume=False)) / runs.SPLATS)


@dataclass
class Tally:
    points: int = 0
    lost: int = 0
    wrong: int = 0  # says finished and is not what its settings make
    left: int = 0  # temporary files after the resumed run

    def __str__(self) -> str:
        return f"{self.points} kills: {self.lost} lost, {self.wrong} wrongly finished, {self.left} temporary files left"


def leftovers(folder: Path) -> int:
    return len(list(folder.rglob(".*.tmp*")))


def fresh(points: int, seed: int = 0, more: tuple[str, ...] = ()) -> Tally:
    """Kills of a new run, each followed by resume=true."""
    tally, expected = Tally(), splats_of(tiny("x", *more))
    with tempfile.TemporaryDirectory() as scratch:
        config = tiny(Path(scratch) / "count", *more)
        _, events = in_child(lambda: train(config), Path(config.output))
        for kill_at in random.Random(seed).sample(range(events), min(points, events)):
            config = tiny(Path(scratch) / str(kill_at), *more, "resume=true")
            status, _ = in_child(lambda config=config: train(config), Path(config.output), kill_at)
            assert status == -signal.SIGKILL, (status, kill_at)
            folder = runs.run_folder(config)
            tally.points += 1
            tally.wrong += runs.is_finished(folder) and file_sha256(folder / runs.SPLATS) != expected
            status, _ = in_child(lambda config=config: train(config), Path(config.output))
            tally.lost += status != 0 or file_sha256(folder / runs.SPLATS) != expected
            tally.left += leftovers(folder)
            shutil.rmtree(config.output)
    return tally


def overwriting(points: int, seed: int = 0, more: tuple[str, ...] = ()) -> Tally:
    """Kills of a run that overwrites a finished one of other settings."""
    tally = Tally()
    expected = {steps: splats_of(tiny("x", *more, f"steps={steps}")) for steps in (8, 16)}
    with tempfile.TemporaryDirectory() as scratch:
        before = Path(scratch) / "before"
        train(tiny(before, *more, "steps=8"))
        config = tiny(Path(scratch) / "count", *more, "overwrite=true")
        shutil.copytree(before, config.output)
        _, events = in_child(lambda: train(config), Path(config.output))
        for kill_at in random.Random(seed).sample(range(events), min(points, events)):
            config = tiny(Path(scratch) / str(kill_at), *more, "overwrite=true")
            shutil.copytree(before, config.output)
            in_child(lambda config=config: train(config), Path(config.output), kill_at)
            folder = runs.run_folder(config)
            tally.points += 1
            if runs.is_finished(folder):
                tally.wrong += file_sha256(folder / runs.SPLATS) != expected[runs.load_run_config(folder).steps]
            status, _ = in_child(lambda config=config: go_on(config), Path(config.output))
            tally.lost += status != 0 or file_sha256(folder / runs.SPLATS) != expected[16]
            tally.left += leftovers(folder)
            shutil.rmtree(config.output)
    return tally


def go_on(config: Config) -> None:
    """resume=true, and overwrite=true again where the old settings are still there."""
    try:
        train(replace(config, overwrite=False, resume=True))
    except OutputError:
        train(config)


def sets(points: int, seed: int = 0, more: tuple[str, ...] = ()) -> Tally:
    """Kills of a set of two assets, each followed by resume=true."""
    tally, expected = Tally(), [splats_of(tiny("x", *more, f"seed={s}")) for s in (0, 1)]

    def train_set(config: Config) -> None:
        train_variants(config, lambda asset: make_asset(asset, GreenPrior()) and 0, say=lambda _: None)

    with tempfile.TemporaryDirectory() as scratch:
        settings = ("count=2", "reseed=0", "resume=true")
        config = tiny(Path(scratch) / "count", *more, *settings)
        _, events = in_child(lambda: train_set(config), Path(config.output))
        for kill_at in random.Random(seed).sample(range(events), min(points, events)):
            config = tiny(Path(scratch) / str(kill_at), *more, *settings)
            in_child(lambda config=config: train_set(config), Path(config.output), kill_at)
            folder = runs.run_folder(config).parent
            tally.points += 1
            for s in (0, 1):
                splats = folder / runs.seed_name(s) / runs.SPLATS
                tally.wrong += splats.is_file() and file_sha256(splats) != expected[s]
            status, _ = in_child(lambda config=config: train_set(config), Path(config.output))
            ends = [file_sha256(folder / runs.seed_name(s) / runs.SPLATS) for s in (0, 1)]
            known = load_variants(folder / VARIANTS)
            tally.lost += status != 0 or ends != expected or known is None or known.seeds != [0, 1]
            tally.left += leftovers(folder)
            shutil.rmtree(config.output)
    return tally


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 70
    for scenario in (fresh, overwriting, sets):
        print(f"{scenario.__name__:12} with videos  {scenario(points // 4, seed=1)}", flush=True)
        print(f"{scenario.__name__:12} without      {scenario(points - points // 4, more=QUICK)}", flush=True)


if __name__ == "__main__":
    main()
