"""Atomic writes: all or nothing, one clear line, no debris."""

import errno
import os
from pathlib import Path

import pytest

from fsd_gs import io
from fsd_gs.errors import OutputError
from fsd_gs.io import append_line, atomic_write, make_folder, new_folder, write_bytes, write_text


def test_writes_bytes_and_text_and_creates_folders(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "file.bin", b"\x00\x01")
    write_text(tmp_path / "a" / "text.txt", "ε = √β")
    assert (tmp_path / "a" / "b" / "file.bin").read_bytes() == b"\x00\x01"
    assert (tmp_path / "a" / "text.txt").read_text("utf-8") == "ε = √β"


def test_temporary_file_is_beside_the_target_and_keeps_the_suffix(tmp_path):
    with atomic_write(tmp_path / "video.mp4") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".mp4"
        assert not (tmp_path / "video.mp4").exists()
        temporary.write_bytes(b"x")
    assert os.listdir(tmp_path) == ["video.mp4"]


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        write_bytes(tmp_path / "f", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o644


def test_failure_inside_keeps_the_old_file_and_leaves_no_debris(tmp_path):
    target = tmp_path / "f.txt"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["f.txt"]


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "not writable"), (errno.EDQUOT, "quota")],
)
def test_disk_errors_become_one_line(tmp_path, monkeypatch, code, words):
    target = tmp_path / "f.bin"
    target.write_bytes(b"old")

    def full(self, content):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=words) as caught:
        write_bytes(target, b"new")
    assert "\n" not in str(caught.value)
    assert str(target) in str(caught.value)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f.bin"]


def test_disk_full_at_fsync_leaves_no_debris(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(io.os, "fsync", full)
    with pytest.raises(OutputError, match="no space left"):
        write_bytes(tmp_path / "f", b"x")
    assert os.listdir(tmp_path) == []


def test_other_errors_inside_the_block_pass_unchanged(tmp_path):
    def reads_a_missing_file() -> None:
        with atomic_write(tmp_path / "f"):
            (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError):
        reads_a_missing_file()
    assert os.listdir(tmp_path) == []


def test_path_under_a_file_and_path_that_is_a_folder(tmp_path):
    (tmp_path / "plain").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="a file, not a folder"):
        write_bytes(tmp_path / "plain" / "sub" / "f", b"")
    with pytest.raises(OutputError, match=r"a file of that name exists"):
        write_bytes(tmp_path / "plain" / "f", b"")
    with pytest.raises(OutputError, match="is a folder"):
        write_bytes(tmp_path / "folder", b"")
    with pytest.raises(OutputError, match="too long"):
        write_bytes(tmp_path / ("n" * 300), b"")
    assert sorted(os.listdir(tmp_path)) == ["folder", "plain"]


def test_make_folder_is_idempotent(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == make_folder(tmp_path / "a" / "b")


def test_a_file_limit_is_one_line_whatever_library_writes(tmp_path):
    import resource

    import torch
    from safetensors.torch import save_file

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_text(tmp_path / "a.safetensors", "old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, usual[1]))
    try:
        with (
            pytest.raises(OutputError, match=r"^cannot write .*a\.safetensors: a file may not grow that large"),
            atomic_write(tmp_path / "a.safetensors") as temporary,
        ):
            save_file({"x": torch.zeros(5000)}, temporary)
        with pytest.raises(OutputError, match=r"^cannot write .*log\.jsonl: a file may not grow that large"):
            append_line(tmp_path / "log.jsonl", "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert (tmp_path / "a.safetensors").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "log.jsonl"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "prior"
    with new_folder(target) as place:
        write_text(place / "a.txt", "old")
        assert not target.exists()

    def fails(error: BaseException) -> None:
        with new_folder(target) as place:
            write_text(place / "b.txt", "half of the n")
            raise error

    for error, seen, words in (
        (OSError(errno.ENOSPC, "full"), OutputError, f"cannot write {target}: no space left"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), OutputError, "no space left"),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ):
        with pytest.raises(seen, match=words):
            fails(error)
        assert os.listdir(tmp_path) == ["prior"]
        assert os.listdir(target) == ["a.txt"]
    (tmp_path / ".prior.tmp").mkdir()  # of a killed process
    (tmp_path / ".prior.tmp" / "c.txt").write_text("half")
    with new_folder(target) as place:
        write_text(place / "b.txt", "new")
    assert os.listdir(tmp_path) == ["prior"]
    assert os.listdir(target) == ["b.txt"]
