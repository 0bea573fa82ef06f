"""The terminal: one line of progress that fits, one line a message, nothing of other libraries, and a standard output that may be gone."""

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fsd_gs.core.terminal import duration, make_bar, progress_line
from fsd_gs.errors import OutputError
from fsd_gs.train.observers import JsonLog

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
DETAILS = ("95 views/s", "1400 splats", "loss 0.0123", "t 0.61")
TINY = ["prompt=a red chair", "steps=2", "splats.count=50", "densify.kind=none", "cameras.views=4", "render.sizes=[16]"]
TINY += ["render.size_at=[0.0]", "outputs.turntable_frames=0", "outputs.preview_every=0", "prior.name=exact", "prior.objects=2"]


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40, 30, 20])
@pytest.mark.parametrize("title", ["chair #0", "a-treasure-chest-full-of-gold-coins-and-jewels-high-resolution-sharp #12"])
def test_the_step_and_the_time_left_survive(width, title):
    line = progress_line(width, title, 0.4, "1200/3000", 3723.0, DETAILS)
    assert len(line) <= width
    assert "1200/3000  1:02:03 left"[:width] in line
    if width >= 40:
        assert "━" in line
    shown = [detail for detail in DETAILS if detail in line]
    assert shown == list(DETAILS[: len(shown)])  # the last ones go first
    if width >= 120:
        assert len(shown) == (4 if title.startswith("chair") or width == 200 else len(shown))
    assert progress_line(width, title, 0.4, "1/3", None, ascii_only=True).isascii()


def test_durations():
    assert [duration(s) for s in (None, 0, 59.6, 3599, 3600)] == ["-:--", "0:00", "1:00", "59:59", "1:00:00"]


@pytest.mark.parametrize("width", [120, 80, 40])
def test_a_bar_draws_lines_that_fit(width):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system=None)
    with make_bar(console) as bar:
        task = bar.add_task("a-red-chair #0", total=300)
        bar.update(task, completed=120, details=DETAILS)
        bar.refresh()
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", file.getvalue())]
    assert max(map(len, lines)) < width
    assert any("120/300" in line and "left" in line for line in lines)


def start(code, *words, stdout=subprocess.PIPE, **environment):
    done = subprocess.run(
        [sys.executable, *(["-c", code] if code else []), *words],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=300,
        env={**os.environ, **environment},
    )
    return done.returncode, (done.stdout or b"").decode().splitlines(), done.stderr.decode().splitlines()


NOISY = """
import logging, sys, warnings
from fsd_gs.cli import guarded
from fsd_gs.errors import InputError

def command(arguments, program):
    logging.getLogger("diffusers.models").warning("chatter")
    logging.getLogger("viser").error("chatter")
    logging.getLogger("fsd_gs.export").warning("a long message about %s", "/".join(["folder"] * 30))
    warnings.warn_explicit("chatter", UserWarning, "/usr/lib/python/other.py", 1)
    import fsd_gs
    warnings.warn_explicit("ours\\nin two lines", UserWarning, fsd_gs.__file__, 1)
    raise InputError("size: expected\\ntwo")

sys.exit(guarded(command, sys.argv[1:], "x"))
"""


def test_messages_are_ours_and_one_line_each():
    code, out, err = start(NOISY)
    folders = "/".join(["folder"] * 30)
    assert (code, out) == (2, [])
    assert err == [f"warning: a long message about {folders}", "warning: ours in two lines", "error: size: expected two"]


def test_main_commands_print_nothing_of_other_libraries(tmp_path):
    folder = tmp_path / ("a-long-name-" * 12)
    code, out, err = start("", "train.py", *TINY, "count=2", "reseed=0", f"output={folder}")
    assert code == 0, err
    assert [line for line in err if not re.match(r"(note|warning): ", line)] == []
    ours = re.compile(r"a-red-chair #\d  |\d+ splats in|  /.*(ply|png)$|gallery: /|seed \d+ ")
    assert [line for line in out if not ours.match(line)] == []
    splats = next(line.strip() for line in out if line.endswith("splats.ply"))
    assert Path(splats).is_file()  # the path is whole
    for words in (["export.py", str(Path(splats).parent), "--format", "ply,spz,sog,mp4", "--size", "16", "--frames", "2"],):
        code, out, err = start("", *words)
        assert (code, err) == (0, [])
        assert all(line.startswith((str(folder), "wrote ")) for line in out), out


FULL = "import sys; from fsd_gs.cli import guarded\ndef c(a, p):\n    print('x' * {size})\n    return 0\nsys.exit(guarded(c, [], 'x'))"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("size", [1, 100_000])
def test_standard_output_on_a_full_disk_is_one_line(size):
    with open("/dev/full", "wb") as full:
        code, _, err = start(FULL.format(size=size), stdout=full)
    assert (code, err) == (2, ["error: cannot use standard output, or a file: No space left on device"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_training_onto_a_full_disk_is_one_line_and_keeps_its_work(tmp_path):
    with open("/dev/full", "wb") as full:
        code, _, err = start("", "train.py", *TINY, f"output={tmp_path}", stdout=full)
    assert code == 2
    assert [line for line in err if not line.startswith("note:")] == [
        "error: cannot use standard output, or a file: No space left on device"
    ]
    assert list(tmp_path.glob("*/*/checkpoint/*"))


def test_a_closed_pipe_is_silent():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, _, err = start(FULL.format(size=100_000), stdout=writer)
    finally:
        os.close(writer)
    assert (code, err) == (141, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_log_on_a_full_disk_says_so_once():
    log = JsonLog(Path("/dev/full"))
    log._file = open("/dev/full", "a", encoding="utf-8", buffering=1)  # noqa: SIM115
    with pytest.raises(OutputError, match="cannot write /dev/full: no space left on the disk"):
        log.said("a note")
    log.closed()  # nothing left that could hide the first error


def test_a_library_user_keeps_their_own_logging():
    assert not any(type(handler).__name__ == "_Lines" for handler in logging.getLogger().handlers)
    assert torch.is_tensor(torch.zeros(1))
