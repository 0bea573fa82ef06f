"""kill −9 at every kind of moment.

A run in a forked child is killed before the k-th time that it opens, renames or removes something in its folder (an audit hook
counts), so that every state of the files that a kill can leave is reached, not only the likely ones. After each kill:

    a new run      what says that it is finished is the asset of an unbroken run, bit for bit; resume=true ends with that asset
    by the clock   the same, killed at a random time from outside: also in the middle of a file
    overwriting    of a finished run of other settings: what says that it is finished has the splats of the settings beside them
    a set of two   with variants.json: resuming ends with both, and variants.json lists both

lost: resuming does not end with that asset. silent: what says finished and is not, or half-written files that stay.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from row import Row, ending_of, leave
from stub_prior import GreenPrior, tiny

from fsd_gs.config import Config
from fsd_gs.errors import OutputError
from fsd_gs.io import file_sha256
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset
from fsd_gs.train.variants import VARIANTS, load_variants, train_variants

_WATCHED = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}
QUICK = ("outputs.turntable_frames=0", "outputs.timelapse=false", "outputs.preview_every=0")


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

        def counted() -> None:
            sys.addaudithook(hook)
            try:
                work()
            finally:
                os.write(write, str(count).encode())

        leave(counted)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        counted = pipe.read()
    return os.waitstatus_to_exitcode(status), int(counted or -1)


def killed_after(work: Callable[[], object], seconds: float) -> int:
    """Run ``work`` in a fork and kill it ``seconds`` later, if it is still there; its exit status."""
    pid = os.fork()
    if pid == 0:
        leave(work)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)  # one that has ended is a zombie until it is waited for: nobody else has its number
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def train(config: Config) -> Path:
    return make_asset(config, GreenPrior()).folder


def train_set(config: Config) -> None:
    train_variants(config, lambda asset: make_asset(asset, GreenPrior()) and 0, say=lambda _: None)


def splats_of(config: Config) -> str:
    """SHA-256 of the splats of an unbroken run."""
    with tempfile.TemporaryDirectory() as place:
        return file_sha256(train(replace(config, output=place, overwrite=False, resume=False)) / runs.SPLATS)


def digest_of(file: Path) -> str | None:
    return file_sha256(file) if file.is_file() else None


def leftovers(folder: Path) -> int:
    return len(list(folder.rglob(".*.tmp*")))


def go_on(row: Row, work: Callable[[], object], output: str, is_good: Callable[[], bool], folder: Path) -> None:
    """After a kill: ``work`` again, to its end."""
    status, _ = in_child(work, Path(output))
    row.traceback += ending_of(status) == "traceback"
    row.lost += status != 0 or not is_good()
    row.silent += leftovers(folder) > 0
    shutil.rmtree(output)


def new_run(points: int, seed: int = 0, more: tuple[str, ...] = QUICK) -> Row:
    row, expected = Row("kill −9, a new run"), splats_of(tiny("x", *more))
    with tempfile.TemporaryDirectory() as scratch:
        config = tiny(Path(scratch) / "count", *more)
        _, events = in_child(lambda: train(config), Path(config.output))
        for kill_at in random.Random(seed).sample(range(events), min(points, events)):
            config = tiny(Path(scratch) / str(kill_at), *more, "resume=true")
            status, _ = in_child(lambda config=config: train(config), Path(config.output), kill_at)
            assert status == -signal.SIGKILL, (status, kill_at)
            check_new(row, config, expected)
    return row


def check_new(row: Row, config: Config, expected: str) -> None:
    folder = runs.run_folder(config)
    row.cases += 1
    row.silent += runs.is_finished(folder) and digest_of(folder / runs.SPLATS) != expected
    go_on(row, lambda: train(config), config.output, lambda: digest_of(folder / runs.SPLATS) == expected, folder)


def by_the_clock(points: int, seed: int = 0, more: tuple[str, ...] = QUICK) -> Row:
    row, expected = Row("kill −9 by the clock"), splats_of(tiny("x", *more))
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        config = tiny(Path(scratch) / "clock", *more, "resume=true")
        began = time.monotonic()
        in_child(lambda: train(config), Path(config.output))
        took = time.monotonic() - began
        shutil.rmtree(config.output)
        while row.cases < points:
            if killed_after(lambda: train(config), draw.uniform(0.0, took)) != -signal.SIGKILL:
                shutil.rmtree(config.output, ignore_errors=True)  # it was faster this time
                continue
            Path(config.output).mkdir(exist_ok=True)
            check_new(row, config, expected)
    return row


def overwriting(points: int, seed: int = 0, more: tuple[str, ...] = QUICK) -> Row:
    row = Row("kill −9, overwriting another run")
    expected = {steps: splats_of(tiny("x", *more, f"steps={steps}")) for steps in (8, 16)}

    def again(config: Config) -> None:
        """resume=true, and overwrite=true again where the old settings are still there."""
        try:
            train(replace(config, overwrite=False, resume=True))
        except OutputError:
            train(config)

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
            row.cases += 1
            if runs.is_finished(folder):
                row.silent += digest_of(folder / runs.SPLATS) != expected[runs.load_run_config(folder).steps]
            good = lambda folder=folder: digest_of(folder / runs.SPLATS) == expected[16]  # noqa: E731
            go_on(row, lambda config=config: again(config), config.output, good, folder)
    return row


def set_of_two(points: int, seed: int = 0, more: tuple[str, ...] = QUICK) -> Row:
    row, expected = Row("kill −9, a set of two"), [splats_of(tiny("x", *more, f"seed={s}")) for s in (0, 1)]
    with tempfile.TemporaryDirectory() as scratch:
        settings = ("count=2", "reseed=0", "resume=true")
        config = tiny(Path(scratch) / "count", *more, *settings)
        _, events = in_child(lambda: train_set(config), Path(config.output))
        for kill_at in random.Random(seed).sample(range(events), min(points, events)):
            config = tiny(Path(scratch) / str(kill_at), *more, *settings)
            in_child(lambda config=config: train_set(config), Path(config.output), kill_at)
            folder = runs.run_folder(config).parent
            files = [folder / runs.seed_name(s) / runs.SPLATS for s in (0, 1)]
            row.cases += 1
            row.silent += any(found not in (None, right) for found, right in zip(map(digest_of, files), expected, strict=True))

            def good(folder: Path = folder, files: list[Path] = files) -> bool:
                known = load_variants(folder / VARIANTS)
                return list(map(digest_of, files)) == expected and known is not None and known.seeds == [0, 1]

            go_on(row, lambda config=config: train_set(config), config.output, good, folder)
    return row


def rows(long: bool) -> Iterator[Row]:
    for scenario in (new_run, by_the_clock, overwriting, set_of_two):
        yield scenario(60 if long else 3)
