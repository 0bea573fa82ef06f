"""The commands as people start them, where the disk takes nothing or little: standard output on a full disk, ``ulimit -f``, a small tmpfs.

/dev/full   every command, its --help and --version with standard output on a full disk: one line and exit status 2, never 0
ulimit -f   every command that writes, no file above so many bytes, standard output a file as well: done and readable, or one line and 2
a full disk ``train-prior`` (both networks) into a tmpfs of so many kB: one line and 2; with room again the same command ends
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from disk import ball, has_tmpfs, readable, small_disk
from row import Row

from fsd_gs.cli import COMMANDS
from fsd_gs.export.ply import save_ply

ROOT = Path(__file__).resolve().parents[2]
RUN = """steps=4 splats.count=60 densify.kind=none cameras.views=4 render.sizes=[16] render.size_at=[0.0] prior.name=exact prior.objects=2
prior.distractors=1 guidance.cfg_scale=1 outputs.turntable_frames=2 outputs.turntable_size=16 outputs.preview_every=2
outputs.checkpoint_every=2 outputs.clean=false device=cpu"""
TRAIN = ["train", "prompt=a red chair", *RUN.split()]
SPLAT = """train-prior --network splat data.categories=[mug,apple] data.image_size=64 data.supersample=1 data.free_views=2 data.rigs=1
data.captions=2 data.shard=2 data.window=4 data.workers=0 data.reuse=2 network.voxels=8 network.volume_width=8 network.volume_depth=1
network.view_features=4 network.patch_width=8 network.samples=8 network.point_width=8 train.objects=2 train.log_every=1
train.evaluate_every=0 train.preview_every_minutes=0 train.warmup=1 train.targets=[1,1] train.steps=2"""
UNET = ["train-prior", "--config", str(ROOT / "configs/nano/tiny.yaml")]


def start(words: Sequence[str], stdout: int, limit: int | None = None, seconds: float = 900.0) -> tuple[int, list[str]]:
    """(exit status, lines on stderr that are no notes and no warnings) of ``fsd-gs WORDS``."""

    def before() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "fsd_gs", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=seconds,
        preexec_fn=before,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith(("note:", "warning:"))]


def note(row: Row, status: int, errors: list[str], *, may_succeed: bool) -> None:
    """An honest end: 2 and one line; or 0 and none, where that is possible."""
    if status == 0:
        row.silent += not may_succeed
        row.traceback += bool(errors)
    else:
        row.traceback += status not in (1, 2) or len(errors) != 1 or not errors[0].startswith(("error:", "fsd-gs"))


# -- standard output on a full disk --------------------------------------------------------------------------------------------


def commands(place: Path) -> dict[str, list[str]]:
    """Every command with something to say, in a folder that has a finished and an unfinished run."""
    return {
        "train": [*TRAIN, f"output={place}/new"],
        "finish": ["finish", f"{place}/outputs/a-red-chair/seed-0001"],
        "view": ["view", f"{place}/a.ply", "--port", "0", "--backend", "cpu"],
        "export": ["export", f"{place}/a.ply", "--format", "splat", "--output", f"{place}/b.splat", "--overwrite"],
        "info": ["info", f"{place}/a.ply"],
        "words": ["words", "chair", "prior.name=exact"],
        "doctor": ["doctor"],
        "batch": ["batch", f"{place}/prompts.txt", "--dry-run", "--output", f"{place}/night"],
        "app": ["app", "--port", "0", "--output", f"{place}/app"],
        "sweep": ["sweep", "sweep/small", "--report", "--no-plots", "--output", f"{place}/sweep"],
        "completion": ["completion", "bash"],
    }


def onto_dev_full(long: bool) -> Iterator[Row]:
    said = [[], ["--help"], ["--version"], *([name, option] for name in COMMANDS for option in ("--help", "--version"))]
    said.append(["train-prior", "--network", "splat", "--help"])
    row = Row("--help and --version > /dev/full")
    for words in said if long else said[1:5]:
        row.cases += 1
        with open("/dev/full", "wb") as full:
            status, errors = start(words, full.fileno())
        row.silent += status == 0
        row.traceback += len(errors) != 1 or not errors[0].startswith("error:")
    yield row
    if not long:
        return
    row = Row("commands > /dev/full")
    with tempfile.TemporaryDirectory() as folder:
        place = prepared(Path(folder))
        for words in commands(place).values():
            row.cases += 1
            with open("/dev/full", "wb") as full:
                note(row, *start(words, full.fileno()), may_succeed=False)
    yield row


def prepared(place: Path, *, run: bool = True) -> Path:
    """A splat file in ``place``, and an unfinished run with a checkpoint."""
    save_ply(ball(seed=1, count=200), place / "a.ply")
    (place / "prompts.txt").write_text("a red chair\n")
    if run:
        start([*TRAIN, f"output={place}/outputs", "seed=1"], subprocess.DEVNULL)
        for name in ("splats.ply", "finished.json"):
            (place / "outputs" / "a-red-chair" / "seed-0001" / name).unlink()
    return place


# -- no file above so many bytes -----------------------------------------------------------------------------------------------


def under_a_file_limit(long: bool) -> Iterator[Row]:
    """What says that it is written can be read; standard output is a file, and under the same limit."""
    for limit in (0, 1000, 4000, 20_000) if long else (1000,):
        row = Row(f"commands under ulimit -f, {limit} bytes")
        with tempfile.TemporaryDirectory() as folder:
            place = prepared(Path(folder), run=long)
            tried = commands(place)
            tried["words"] = [*tried["words"], "--picture", f"{place}/words.png"]
            for name in ("train", "finish", "export", "words") if long else ("export",):
                row.cases += 1
                with open(place / "stdout", "wb") as out:
                    status, errors = start(tried[name], out.fileno(), limit)
                note(row, status, errors, may_succeed=True)
                for made in (*place.glob("new/*/*/splats.ply"), *place.glob("b.splat"), *place.glob("outputs/*/*/splats.ply")):
                    row.silent += not readable(made)
                row.silent += bool(list(place.rglob(".*.tmp*")))
        yield row


# -- train-prior on a full disk ------------------------------------------------------------------------------------------------


def training_a_prior(name: str, words: list[str], sizes: Sequence[int]) -> Row:
    """On a tmpfs of so many kB, then with room. Without tmpfs the same by a limit on each file."""
    row = Row(f"train-prior, {name}, on a full {'disk' if has_tmpfs() else 'file'}, {sizes[0]} … {sizes[-1]} kB")
    for size in sizes:
        row.cases += 1
        with small_disk(size * 1024) as disk:
            again = [*words, f"output={disk.place}/prior"]
            note(row, *start(again, subprocess.DEVNULL, disk.limit), may_succeed=True)
            disk.grow()
            status, errors = start(again, subprocess.DEVNULL)
            row.lost += status != 0 or not list(disk.place.glob("prior/prior/*.json"))
            row.traceback += bool(errors)
    return row


def rows(long: bool) -> Iterator[Row]:
    yield from onto_dev_full(long)
    yield from under_a_file_limit(long)
    yield training_a_prior("splat", SPLAT.split(), (8, 40, 100, 160, 220, 300, 400) if long else (60,))
    if long:
        yield training_a_prior("unet", UNET, (8, 60, 150, 400, 800, 1500, 2500, 4000))
