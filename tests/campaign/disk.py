"""Disks that are full at 30 sizes: a tmpfs of so many bytes, and a limit on each file (``ulimit -f``).

a run       ends with one line; nothing says finished unless its splats can be read; with room again, resume=true ends it
an export   ends with one line and leaves the file that was there before as it was, or is all there
"""

from __future__ import annotations

import ctypes
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
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

MUCH = 2**28
_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_REMOUNT, _RECURSIVE, _PRIVATE, _DETACH = 0x20, 0x4000, 0x40000, 2


# -- small disks ---------------------------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """limit: bytes a file may have, where the disk itself is not small."""

    place: Path
    limit: int | None

    def resize(self, size: int) -> None:
        if self.limit is None:
            _mount(self.place, size, _REMOUNT)
        else:
            self.limit = size

    def grow(self) -> None:
        self.resize(MUCH)

    def used(self) -> int:
        return sum(path.stat().st_size for path in self.place.rglob("*") if path.is_file())

    def child(self, work: Callable[[], object]) -> str:
        return in_child(work, lambda: None if self.limit is None else limit(self.limit))


def limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@cache
def has_tmpfs() -> bool:
    """Whether this process may mount one; from here on in a mount namespace of its own, which ends with it. Linux only."""
    try:
        libc, user, group = _libc(), os.getuid(), os.getgid()
        if libc.unshare(_NEWNS if user == 0 else _NEWNS | _NEWUSER):
            return False
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        if libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None):
            return False
        with tempfile.TemporaryDirectory() as place:
            _mount(Path(place), MUCH)
            libc.umount2(os.fsencode(place), _DETACH)
        return True
    except (OSError, AttributeError):
        return False


@contextmanager
def small_disk(size: int, *, tmpfs: bool = True) -> Iterator[Disk]:
    """A folder that holds ``size`` bytes (whole pages), or, without tmpfs, in which no file may grow beyond that."""
    with tempfile.TemporaryDirectory() as place:
        if not (tmpfs and has_tmpfs()):
            yield Disk(Path(place), size)
            return
        _mount(Path(place), size)
        try:
            yield Disk(Path(place), None)
        finally:
            _libc().umount2(os.fsencode(place), _DETACH)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(place: Path, size: int, flags: int = 0) -> None:
    options = f"size={max(size, 4096)}".encode()  # 0 would be no limit
    if _libc().mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, options):
        raise OSError(ctypes.get_errno(), f"cannot mount {place}")


# -- a run ---------------------------------------------------------------------------------------------------------------------


def runs_on_a_full_disk(sizes: list[int], *, tmpfs: bool) -> Row:
    tmpfs = tmpfs and has_tmpfs()
    row = Row(f"a run, {'a disk of' if tmpfs else 'no file above'} {sizes[0]} … {sizes[-1]} bytes")
    for size in sizes:
        row.cases += 1
        with small_disk(size, tmpfs=tmpfs) as disk:
            config = tiny(disk.place / "outputs")
            folder = runs.run_folder(config)
            ending = disk.child(lambda config=config: make_asset(config, GreenPrior()))
            row.traceback += ending == "traceback"
            finished = runs.is_finished(folder)
            row.silent += (ending == "good" and not finished) or (finished and not readable(folder / runs.SPLATS))
            disk.grow()
            ending = in_child(lambda disk=disk: make_asset(tiny(disk.place / "outputs", "resume=true"), GreenPrior()))
            row.lost += ending != "good" or not readable(folder / runs.SPLATS)
    return row


def readable(file: Path) -> bool:
    try:
        return len(load_splats(file)) > 0
    except FsdGsError:
        return False


# -- an export -----------------------------------------------------------------------------------------------------------------


def exports_on_a_full_disk(name: str, shares: list[int], *, tmpfs: bool) -> Row:
    """With room for so many per cent of the new file beside the old one."""
    tmpfs = tmpfs and has_tmpfs()
    row = Row(f"export as {name}, {'a full disk' if tmpfs else 'a limit on files'}")
    options = ExportOptions(
        rasterizer=make_rasterizer("cpu"), turntable=TurntableSettings(frames=3, size=32), mesh=MeshSettings(resolution=16)
    )
    with small_disk(MUCH, tmpfs=tmpfs) as disk, tempfile.TemporaryDirectory() as elsewhere:
        path, whole = (Path(place) / f"a{EXPORTERS[name].suffix}" for place in (disk.place, elsewhere))
        # Files are made in forks only: one whose parent has used OpenMP (mesh extraction does) is ended by it.
        made = in_child(lambda: (export(ball(seed=1), path, name, options), export(ball(seed=2), whole, name, options)))
        assert made == "good", f"{name}: {made} with room"
        before, expected, size = file_sha256(path), file_sha256(whole), whole.stat().st_size
        for share in shares:
            row.cases += 1
            disk.resize(size * share // 100 + (_pages(disk) if tmpfs else 0))
            ending = disk.child(partial(export, ball(seed=2), path, name, options))
            row.traceback += ending == "traceback"
            after = file_sha256(path)
            row.lost += ending != "good" and after != before
            row.silent += ending == "good" and after != expected
            row.silent += bool(list(path.parent.glob(".*")))  # a temporary file
            if after != before:  # the last page had room for the rest
                disk.grow()
                in_child(partial(export, ball(seed=1), path, name, options))
    return row


def _pages(disk: Disk) -> int:
    """Bytes in use on a tmpfs, folders included."""
    found = os.statvfs(disk.place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def ball(seed: int, count: int = 2000) -> Gaussians:
    """Splats on a sphere: the same number for every seed, so that files of one format are of about one size."""
    draw = torch.Generator().manual_seed(seed)
    means = 0.5 * torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=1)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=draw), dim=1)
    return Gaussians(means, quats, torch.full((count, 3), 0.04), torch.full((count,), 0.9), torch.rand(count, 1, 3, generator=draw) - 0.5)


def rows(long: bool) -> Iterator[Row]:
    has_tmpfs()  # a process with threads could not begin a namespace: first of all
    with tempfile.TemporaryDirectory() as place:
        make_asset(tiny(place), GreenPrior())  # loads the kernels, once for all forks
    yield runs_on_a_full_disk([6144 * k for k in range(1, 31)] if long else [8192, 40_960], tmpfs=True)
    yield runs_on_a_full_disk([0, *(round(64 * 2**k) for k in range(9))] if long else [2_000], tmpfs=False)
    for name in EXPORTERS if long else ("mp4",):
        for tmpfs in (True, False):
            yield exports_on_a_full_disk(name, [0, 1, 5, 10, 25, 50, 75, 90] if long else [0, 75], tmpfs=tmpfs)
