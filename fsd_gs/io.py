"""Atomic writes: a reader never meets half a file, and a failed write leaves the old file as it was.

The bytes go to a temporary file in the same folder (so that the rename stays on one file system), are flushed to the disk, and
are then renamed over the target, which POSIX makes atomic. A full disk or an unwritable folder becomes one clear
:class:`~fsd_gs.errors.OutputError`, and the temporary file is removed.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsd_gs.errors import OutputError

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
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)  # the rename itself must survive a power cut
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise output_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, atomically."""
    write_bytes(path, content.encode("utf-8"))


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
