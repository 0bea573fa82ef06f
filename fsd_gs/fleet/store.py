"""Where a batch lies: a folder that workers share, or an object store behind fsspec (``s3://``, ``gs://``, ``memory://``).

What the protocol needs of it, and nothing more:

    create     a whole file under a name that is free, or nothing: of any number of callers exactly one succeeds. On POSIX by a hard link to
               a finished temporary file (atomic on NFS too, where O_EXCL once was not), in object stores by a PUT with If-None-Match: *
    replace    a whole file over whatever is there
    publish    a finished folder under its final name, or nothing if that is taken. On POSIX one rename(2), which refuses a folder that is
               not empty: no half folder ever has the name. An object store has no rename: the files first, the marker last by ``create``

Assets are made on a local disk in both cases: in ``.fleet/work`` of the same folder, so that the rename stays on one file system, or in a
scratch folder of the machine.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from fsd_gs.errors import BackendError, OutputError
from fsd_gs.io import atomic_write, file_sha256, make_folder, output_error, write_bytes

FLEET = ".fleet"
MARKER = "done.json"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_PART = 1000


class Store(Protocol):
    """A place for results. Names are relative, with slashes."""

    address: str

    def create(self, name: str, content: bytes) -> bool: ...
    def replace(self, name: str, content: bytes) -> None: ...
    def read(self, name: str) -> bytes | None: ...
    def read_many(self, names: Sequence[str]) -> list[bytes | None]: ...
    def reading(self, name: str) -> AbstractContextManager[Path | None]: ...
    def writing(self, name: str) -> AbstractContextManager[Path]: ...
    def digest(self, name: str) -> str | None: ...
    def remove(self, name: str) -> None: ...
    def files(self, folder: str) -> Iterator[str]: ...
    def present(self, names: Iterable[str]) -> set[str]: ...
    def workplace(self, key: str, attempt: int) -> Path: ...
    def publish(self, place: Path, folder: str) -> bool: ...
    def withdraw(self, folder: str) -> None: ...


def open_store(address: str | os.PathLike[str], scratch: str | None = None) -> Store:
    """The store that ``address`` means: a path, ``file://…``, or any other URL of fsspec.

    Args:
        address: of the output.
        scratch: folder in which assets are made before they are uploaded; by default one in the system's temporary folder.

    Raises:
        BackendError: the library for this kind of URL is not installed.
        OutputError: the place cannot be reached.
    """
    address = os.fspath(address)
    scheme, separator, rest = address.partition("://")
    if not separator or scheme in ("file", "local"):
        return FolderStore(Path(rest if separator else address).expanduser())
    return ObjectStore(address, scratch)


class FolderStore:
    """A folder of this machine, or of a network file system that several machines mount."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = str(root)

    def create(self, name: str, content: bytes) -> bool:
        path = self.root / name
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            _write_new(temporary, content)
            try:
                os.link(temporary, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _write_new(path, content)  # a reader may meet it empty for a moment; nobody else can take the name
            return True
        except FileExistsError:
            return False
        except OSError as error:
            raise output_error(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def replace(self, name: str, content: bytes) -> None:
        write_bytes(self.root / name, content)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise OutputError(f"cannot read {self.root / name}: {error.strerror or error}") from error

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.read(name) for name in names]

    @contextmanager
    def reading(self, name: str) -> Iterator[Path | None]:
        """A local path with what ``name`` holds, for as long as the block; None where there is none."""
        path = self.root / name
        yield path if path.is_file() else None

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A local path to write to; when the block ends it becomes ``name``, whole."""
        return atomic_write(self.root / name)

    def digest(self, name: str) -> str | None:
        """SHA-256 of a file, None where there is none."""
        path = self.root / name
        return file_sha256(path) if path.is_file() else None

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def files(self, folder: str) -> Iterator[str]:
        """Names of the files below ``folder``, in no order; those half written are left out."""
        for parent, _, names in os.walk(self.root / folder):
            inside = Path(parent).relative_to(self.root).as_posix()
            yield from (f"{inside}/{name}" for name in names if not name.endswith(".tmp"))

    def present(self, names: Iterable[str]) -> set[str]:
        root = str(self.root)
        return {name for name in names if os.path.exists(f"{root}/{name}")}

    def workplace(self, key: str, attempt: int) -> Path:
        """The folder in which ``attempt`` works: what an earlier one left, taken away from it by a rename, or a new one."""
        return take_over(self.root / FLEET / "work", key, attempt)

    def publish(self, place: Path, folder: str) -> bool:
        target = self.root / folder
        make_folder(target.parent)
        try:
            if target.is_dir() and not (target / MARKER).exists():  # nothing of ours: an older version's, or somebody's
                os.rename(target, target.with_name(f"{target.name}.before-{secrets.token_hex(2)}"))
            os.rename(place, target)
        except OSError as error:
            if (target / MARKER).exists():
                return False
            if not place.exists():
                return False  # another attempt has taken it over
            raise output_error(target, error) from error
        _sync_folder(target.parent)
        return True

    def withdraw(self, folder: str) -> None:
        """Take a published folder away: first its name in one step, then what is in it."""
        away = make_folder(self.root / FLEET / "work") / f"withdrawn.{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            os.rename(self.root / folder, away)
            shutil.rmtree(away, ignore_errors=True)


def take_over(work: Path, key: str, attempt: int) -> Path:
    """``work/<key>.<attempt>``, made from the folder of the latest earlier attempt if there is one.

    An earlier owner that is only slow finds its folder gone: what it writes afterwards can end nowhere that counts.
    """
    place = work / f"{key}.{attempt:04d}"
    make_folder(work)
    try:
        earlier = sorted(work.glob(f"{key}.[0-9][0-9][0-9][0-9]"))
        for left in reversed(earlier):
            with suppress(OSError):
                if left != place:
                    os.rename(left, place)
                break
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(place, error) from error
    return place


class ObjectStore:
    """Whatever fsspec reaches. Listings are never cached: other workers write there."""

    def __init__(self, address: str, scratch: str | None = None) -> None:
        import fsspec

        self.address = address.rstrip("/")
        try:
            self.fs, root = fsspec.core.url_to_fs(self.address, use_listings_cache=False)
        except ImportError as error:
            scheme = self.address.partition("://")[0]
            raise BackendError(f"{self.address}: {scheme}:// needs another package ({error}); for s3: pip install 'fsd-gs[s3]'") from error
        except ValueError as error:
            raise OutputError(f"{self.address}: {error}") from error
        self.root = root.rstrip("/")
        digest = hashlib.sha256(self.address.encode()).hexdigest()[:8]
        self.scratch = Path(scratch or tempfile.gettempdir()) / f"fsd-gs-{_user()}-{digest}"

    def create(self, name: str, content: bytes) -> bool:
        try:
            self._written(name, self.fs.pipe_file, self._path(name), content, mode="create")
            return True
        except FileExistsError:
            return False

    def replace(self, name: str, content: bytes) -> None:
        self._written(name, self.fs.pipe_file, self._path(name), content)

    def read(self, name: str) -> bytes | None:
        try:
            return self._within(name, self.fs.cat_file, self._path(name))
        except FileNotFoundError:
            return None

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Many at once: fsspec asks for them side by side."""
        paths = [self._path(name) for name in names]
        if not paths:
            return []
        found: dict[str, Any] = self._within(names[0], self.fs.cat, paths, on_error="return")
        found = found if isinstance(found, dict) else {paths[0]: found}
        return [content if isinstance(content := found.get(path), bytes) else None for path in paths]

    @contextmanager
    def reading(self, name: str) -> Iterator[Path | None]:
        make_folder(self.scratch)
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            path: Path | None = Path(folder) / name.rpartition("/")[2]
            try:
                self._within(name, self.fs.get_file, self._path(name), str(path))
            except FileNotFoundError:
                path = None
            yield path

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        make_folder(self.scratch)
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            path = Path(folder) / name.rpartition("/")[2]
            yield path
            self._written(name, self.fs.put_file, str(path), self._path(name))

    def digest(self, name: str) -> str | None:
        found = hashlib.sha256()
        try:
            with self._within(name, self.fs.open, self._path(name), "rb") as file:
                while piece := file.read(1 << 22):
                    found.update(piece)
        except FileNotFoundError:
            return None
        return found.hexdigest()

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._within(name, self.fs.rm_file, self._path(name))

    def files(self, folder: str) -> Iterator[str]:
        cut, own = len(self.root) + 1, self._path(folder)
        with suppress(FileNotFoundError):  # a folder that gets its first file while it is listed is found as a file
            yield from (path[cut:] for path in self._within(folder, self.fs.find, own) if path != own)

    def present(self, names: Iterable[str]) -> set[str]:
        """By one listing of everything: a thousand names a request, where asking for each would be one request a name."""
        wanted = set(names)
        if len(wanted) < 20:
            return {name for name in wanted if self._within(name, self.fs.exists, self._path(name))}
        return wanted.intersection(self.files(""))

    def workplace(self, key: str, attempt: int) -> Path:
        return take_over(self.scratch, key, attempt)

    def publish(self, place: Path, folder: str) -> bool:
        marker = place / MARKER
        for path in sorted(p for p in place.rglob("*") if p.is_file() and p != marker):
            name = f"{folder}/{path.relative_to(place).as_posix()}"
            self._written(name, self.fs.put_file, str(path), self._path(name))
        published = self.create(f"{folder}/{MARKER}", marker.read_bytes())
        shutil.rmtree(place, ignore_errors=True)
        return published

    def withdraw(self, folder: str) -> None:
        self.remove(f"{folder}/{MARKER}")
        with suppress(FileNotFoundError):
            self._within(folder, self.fs.rm, self._path(folder), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _written(self, name: str, call: Any, *arguments: Any, **named: Any) -> None:
        """``_within`` for what writes: that "not there" can only be the bucket, or a file of this machine that has just gone."""
        try:
            self._within(name, call, *arguments, **named)
        except FileNotFoundError as error:
            raise OutputError(f"cannot use {self.address}/{name}: {' '.join(str(error).split())}") from error

    def _within(self, name: str, call: Any, *arguments: Any, **named: Any) -> Any:
        """``call``, with everything but "there" and "not there" as one clear line: credentials, networks, buckets."""
        try:
            return call(*arguments, **named)
        except (FileExistsError, FileNotFoundError):
            raise
        except Exception as error:
            if "ConditionalRequestConflict" in str(error):  # two creates at once: S3 refuses one of them, perhaps before the other is whole
                raise FileExistsError(name) from error
            message = " ".join(str(error).split()) or type(error).__name__
            raise OutputError(f"cannot use {self.address}/{name}: {message}") from error


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
