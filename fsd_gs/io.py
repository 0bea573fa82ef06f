"""Atomic writes and locks: a reader never meets half a file, a failed write leaves the old file, and two writers never meet.

The bytes go to a temporary file in the same folder (so that the rename stays on one file system), are flushed to the disk, and
are then renamed over the target, which POSIX makes atomic. A full disk or an unwritable folder becomes one clear
:class:`~fsd_gs.errors.OutputError`, and the temporary file is removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsd_gs.errors import BusyError, OutputError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\..*)?")

# Errors that mean "this place cannot take the file". Anything else raised inside the block (a missing input, say) is not ours to rename.
_CANNOT_WRITE: dict[int | None, str] = {
    errno.ENOSPC: "no space left on the disk; free some or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "the folder is not writable; choose another or change its permissions",
    errno.EPERM: "the operation is not permitted there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EISDIR: "the path is a folder; give a file name",
    errno.ENAMETOOLONG: "the file name is too long; choose a shorter one",
    errno.EFBIG: "a file may not grow that large there (ulimit -f, or the file system's own limit)",
    errno.EIO: "the disk reports an input/output error",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """One clear line for an OSError met while writing ``path``."""
    return OutputError(f"cannot write {path}: {_CANNOT_WRITE.get(error.errno, error.strerror or str(error))}")


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Create ``folder`` with its parents if need be; OutputError if that cannot be done."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"cannot create the folder {folder}: a file of that name exists; choose another folder") from error
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it becomes ``path``, on any exception it disappears.

    The temporary path lies in the same folder (created if missing) and keeps the suffix, because codecs choose by it.
    Raises OutputError where the folder cannot take the file (full, read-only, not a folder).
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        # Not mkstemp: that makes a private file (0600), and the result should have the permissions of any other file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = stat.S_IMODE(temporary.stat().st_mode)  # what the umask leaves
    except OSError as error:
        raise output_error(path, error) from error
    try:
        with writing(path):
            yield temporary
            temporary.chmod(mode)  # a library may have put a private file of its own in its place
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)  # the rename itself must survive a power cut
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What a full disk or an unwritable folder raises inside, also through libraries, becomes an OutputError about ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise output_error(path, error) from error
    except Exception as error:  # safetensors and tokenizers wrap the operating system's error, with its number in words
        number = re.search(r"os error (\d+)", str(error))
        if number is None or int(number[1]) not in _CANNOT_WRITE:
            raise
        raise output_error(path, OSError(int(number[1]), os.strerror(int(number[1])))) from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` to fill; on success it takes its place, the old one goes, on any exception it disappears.

    Raises:
        OutputError: the disk cannot take it; what was at ``path`` stays.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process
    make_folder(temporary)
    try:
        with writing(path):
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Add one line to a log; OutputError if the disk cannot take it."""
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise output_error(Path(path), error) from error


def write_bytes(path: str | os.PathLike[str], content: bytes | bytearray) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, atomically."""
    write_bytes(path, content.encode("utf-8"))


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed :func:`atomic_write` left in ``folder``. Only where nobody else can be writing: hold its lock."""
    for path in folder.glob(".*.tmp*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


@contextmanager
def locked(path: Path, busy: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path`` (its folder must exist), among processes and within this one. The system frees a killed holder's lock.

    busy: the message of the :class:`BusyError` raised where another holds it for longer than ``wait_seconds``. A file system without
    locks (some network drives) gives none: then there is nothing to hold.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=wait_seconds)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(busy) from None
    except NotImplementedError:
        yield
        return
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk; file systems that cannot sync a folder are left alone."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
