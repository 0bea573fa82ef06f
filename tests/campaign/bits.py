"""One bit of a checkpoint is another: resume=true refuses it in one line and leaves the file as it is, whatever bit it was."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from row import Row, is_one_line
from stub_prior import GreenPrior, tiny

from fsd_gs.errors import FsdGsError
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset
from fsd_gs.train.loop import Observer, StopRun

QUICK = ("outputs.turntable_frames=0", "outputs.timelapse=false", "outputs.preview_every=0")


class StopAt(Observer):
    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, session: object, report: object) -> None:
        if report.step == self.step:  # type: ignore[attr-defined]
            raise StopRun


def flips(row: Row, checkpoint: Path, places: list[int], draw: random.Random, output: str) -> Row:
    good = checkpoint.read_bytes()
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= 1 << draw.randrange(8)
        checkpoint.write_bytes(damaged)
        row.cases += 1
        try:
            make_asset(tiny(output, *QUICK, "resume=true"), GreenPrior())
            row.silent += 1
        except FsdGsError as error:
            row.traceback += not is_one_line(str(error))
            row.silent += str(checkpoint) not in str(error)
        except Exception:
            row.traceback += 1
        row.lost += not checkpoint.is_file() or checkpoint.read_bytes() != bytes(damaged)
        row.silent += runs.is_finished(checkpoint.parents[1])
    return row


def rows(long: bool) -> Iterator[Row]:
    """As many in the header (a few per cent of the file) as anywhere."""
    count, draw = 60 if long else 6, random.Random(1)
    with tempfile.TemporaryDirectory() as output:
        folder = make_asset(tiny(output, *QUICK), GreenPrior(), observers=[StopAt(7)]).folder
        checkpoint = folder / runs.CHECKPOINT
        size, header = checkpoint.stat().st_size, 8 + int.from_bytes(checkpoint.read_bytes()[:8], "little")
        good = checkpoint.read_bytes()
        anywhere = flips(Row("a flipped bit of a checkpoint"), checkpoint, [draw.randrange(size) for _ in range(count)], draw, output)
        checkpoint.write_bytes(good)
        in_header = flips(Row("… of its header"), checkpoint, [draw.randrange(header) for _ in range(count)], draw, output)
        checkpoint.write_bytes(good)
        in_header.lost += make_asset(tiny(output, *QUICK, "resume=true"), GreenPrior()).state != "finished"  # the good one still is
    yield anywhere
    yield in_header
