"""The cache of compiled kernels: kept, and lost without harm."""

import importlib.util
import logging
import os
import resource
import tempfile

import numba
import pytest

from fsd_gs.core import kernels

MODULE = """
from fsd_gs.core.kernels import njit


@njit(error_model="numpy")
def add_and_double(x, y):
    return 2 * (x + y)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, caplog):
    """A module with a kernel, in a process that has said nothing yet and where only this folder can be written."""
    (tmp_path / "own_kernel.py").write_text(MODULE)
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/nobody")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    caplog.set_level(logging.INFO, "fsd_gs.core.kernels")
    yield tmp_path
    os.environ.pop("NUMBA_CACHE_DIR", None)


def start(folder, monkeypatch, caplog):
    """As a new process would: how many of the kernel's two signatures came from the disk, and what was said."""
    monkeypatch.setattr(kernels, "_said", set())
    caplog.clear()
    spec = importlib.util.spec_from_file_location("own_kernel", folder / "own_kernel.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.add_and_double(1.5, 2.0), module.add_and_double(3, 4)) == (7.0, 14)
    return sum(module.add_and_double.stats.cache_hits.values()), [f"{r.levelname} {r.message}" for r in caplog.records]


def test_compiled_once_and_said_once(folder, monkeypatch, caplog):
    hits, said = start(folder, monkeypatch, caplog)
    assert (hits, len(said)) == (0, 1)
    assert said[0].startswith("INFO compiling kernels")
    assert start(folder, monkeypatch, caplog) == (2, [])


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["cut off", "empty", "one bit", "text"])
def test_damaged_files_are_compiled_again_with_one_warning(folder, monkeypatch, caplog, suffix, damage):
    start(folder, monkeypatch, caplog)
    files = list((folder / "__pycache__").glob(f"*.{suffix}"))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 16
        file.write_bytes({"cut off": content[:40], "empty": b"", "one bit": bytes(content), "text": b"hello"}[damage])
    hits, said = start(folder, monkeypatch, caplog)
    warnings = [line for line in said if line.startswith("WARNING")]
    assert hits == 0
    assert len(warnings) == 1, said
    assert "damaged" in warnings[0]
    assert "compiling again" in warnings[0]
    assert start(folder, monkeypatch, caplog) == (2, [])  # mended


def test_where_no_folder_can_be_written_a_private_temporary_one_is(folder, monkeypatch, caplog):
    (folder / "__pycache__").write_text("a file where numba wants a folder")
    hits, said = start(folder, monkeypatch, caplog)
    assert hits == 0
    assert [line.split()[0] for line in said] == ["WARNING", "INFO"]
    kept = next((folder / "temporary").glob("fsd-gs-kernels-*"))
    assert said[0].endswith(f"kept in {kept}")
    assert kept.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    hits, said = start(folder, monkeypatch, caplog)
    assert (hits, len(said)) == (2, 1)


def test_a_temporary_folder_that_others_can_write_is_not_trusted(folder, monkeypatch, caplog):
    (folder / "__pycache__").write_text("")
    planted = folder / "temporary" / f"fsd-gs-kernels-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    _, said = start(folder, monkeypatch, caplog)
    assert not said[0].endswith(f"kept in {planted}")
    assert list(planted.iterdir()) == []


def test_a_full_disk_costs_the_next_start_only(folder, monkeypatch, caplog):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, usual[1]))
    try:
        hits, said = start(folder, monkeypatch, caplog)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    warnings = [line for line in said if line.startswith("WARNING")]
    assert hits == 0
    assert len(warnings) == 1, said
    assert "next start compiles them again" in warnings[0]
    assert not list(folder.rglob("*.tmp.*"))
