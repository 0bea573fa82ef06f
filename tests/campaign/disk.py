"""A disk that is full at 30 sizes: no file may grow beyond so many bytes (RLIMIT_FSIZE), in a run and in every export.

a run       ends with one line; nothing says finished unless its splats can be read; with room again, resume=true ends it
an export   ends with one line and leaves the file that was there before as it was
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from row import Row, in_child
from stub_prior import GreenPrior, tiny

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FsdGsError
from fsd_gs.export.formats import EXPORTERS, ExportOptions, export, load_splats
from fsd_gs.export.mesh import MeshSettings
from fsd_gs.export.pictures import TurntableSettings
from fsd_gs.io import file_sha256
from fsd_gs.render import make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset


def limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def runs_on_a_full_disk(sizes: list[int]) -> Row:
    row = Row(f"a run, no file above {sizes[0]} … {sizes[-1]} bytes")
    for size in sizes:
        row.cases += 1
        with tempfile.TemporaryDirectory() as place:
            config = tiny(place)
            folder = runs.run_folder(config)
            ending = in_child(lambda config=config: make_asset(config, GreenPrior()), partial(limit, size))
            row.traceback += ending == "traceback"
            finished = runs.is_finished(folder)
            row.silent += finished != (ending == "good") or (finished and not readable(folder / runs.SPLATS))
            ending = in_child(lambda place=place: make_asset(tiny(place, "resume=true"), GreenPrior()))
            row.lost += ending != "good" or not readable(folder / runs.SPLATS)
    return row


def readable(file: Path) -> bool:
    try:
        return len(load_splats(file)) > 0
    except FsdGsError:
        return False


def exports_on_a_full_disk(name: str, sizes: list[int]) -> Row:
    """Every size below that of the file itself must be refused."""
    row = Row(f"export as {name} at {len(sizes)} sizes")
    options = ExportOptions(
        rasterizer=make_rasterizer("cpu"), turntable=TurntableSettings(frames=3, size=32), mesh=MeshSettings(resolution=16)
    )
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"a{EXPORTERS[name].suffix}"
        export(ball(seed=1), path, name, options)
        before, whole = file_sha256(path), path.stat().st_size
        for share in sizes:
            row.cases += 1
            ending = in_child(lambda: export(ball(seed=2), path, name, options), partial(limit, whole * share // 100))
            row.traceback += ending == "traceback"
            row.lost += ending != "good" and file_sha256(path) != before
            row.silent += ending == "good"
            row.silent += len(list(path.parent.iterdir())) > 1  # a temporary file
    return row


def ball(seed: int, count: int = 2000) -> Gaussians:
    """Splats on a sphere: the same number for every seed, so that files of one format are of about one size."""
    draw = torch.Generator().manual_seed(seed)
    means = 0.5 * torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=1)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=draw), dim=1)
    return Gaussians(means, quats, torch.full((count, 3), 0.04), torch.full((count,), 0.9), torch.rand(count, 1, 3, generator=draw) - 0.5)


def rows(long: bool) -> Iterator[Row]:
    sizes = [0, *(round(64 * 1.35**k) for k in range(29))] if long else [0, 2_000, 8_000]
    yield runs_on_a_full_disk(sizes)
    for name in EXPORTERS if long else ("mp4",):
        yield exports_on_a_full_disk(name, [0, 1, 5, 10, 25, 50, 75, 90] if long else [0, 90])
