"""``njit``: numba's, with a cache of compiled kernels that may be lost, cut off or forbidden without stopping anything.

numba keeps machine code beside the source, or in the user's cache folder, and raises where neither can be written or where a file there is
damaged. Here a missing place becomes a private folder below the temporary one, and every file ends with the SHA-256 of what stands before
it: whatever does not match is compiled again. Each of the two is one line of warning.

    file  =  what numba writes (a pickle, which ends where it ends)  ‖  SHA-256 of it
"""

from __future__ import annotations

import getpass
import hashlib
import io
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

log = logging.getLogger(__name__)

DIGEST_BYTES = hashlib.sha256().digest_size
_said: set[str] = set()


def njit(
    *,
    nogil: bool = False,
    error_model: Literal["python", "numpy"] = "python",
    fastmath: bool = False,
    inline: Literal["never", "always"] = "never",
    parallel: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``numba.njit`` with those of its options, compiled at the first call and kept on the disk."""

    def compile_lazily(function: Callable[..., Any]) -> Callable[..., Any]:
        kernel: Any = numba.njit(nogil=nogil, error_model=error_model, fastmath=fastmath, inline=inline, parallel=parallel)(function)
        cache = _cache_of(function)
        if cache is not None:
            kernel._cache = cache  # what numba's enable_caching() does with its own class
        return kernel

    return compile_lazily


class KernelCache(FunctionCache):
    """numba's cache of one function, which compiles where it cannot read and goes on where it cannot write."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        name, stamp = f"{self._impl.filename_base}.sealed", self._impl.locator.get_source_stamp()
        self._cache_file = SealedFiles(self._cache_path, name, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # unpickling can raise anything
            _say_once(log.warning, f"the cache of compiled kernels is damaged ({_reason(error)}): compiling again")
            found = None
        if found is None:
            _say_once(log.info, "compiling kernels, about half a minute; later starts load them")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk; or an index of others that is damaged
            _say_once(
                log.warning, f"compiled kernels cannot be kept in {self.cache_path} ({_reason(error)}): the next start compiles them again"
            )


class SealedFiles(IndexDataCacheFile):
    """numba's index and data files with a checksum at their end."""

    def save(self, key: Any, data: Any) -> None:
        try:
            self._load_index()
        except Exception:  # damaged: begin a new one
            Path(self._index_path).unlink(missing_ok=True)
        super().save(key, data)

    def _load_index(self) -> Any:
        if os.path.exists(self._index_path):
            check_seal(Path(self._index_path))
        return super()._load_index()

    def _load_data(self, name: str) -> Any:
        check_seal(Path(self._data_path(name)))
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:  # pyright: ignore[reportIncompatibleMethodOverride]
        content = io.BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


def check_seal(path: Path) -> None:
    """ValueError unless the file ends with the SHA-256 of the rest."""
    content = path.read_bytes()
    if hashlib.sha256(content[:-DIGEST_BYTES]).digest() != content[-DIGEST_BYTES:]:
        raise ValueError(f"{path.name} does not match its checksum")


def _cache_of(function: Callable[..., Any]) -> KernelCache | None:
    """The function's cache, if need be in a temporary folder; None where nothing at all can be written."""
    try:
        return KernelCache(function)
    except (RuntimeError, OSError):  # numba found no folder
        pass
    try:
        folder = _temporary_folder()
        os.environ["NUMBA_CACHE_DIR"] = str(folder)  # numba reads it again and again; worker processes inherit it
        numba.config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]
        cache = KernelCache(function)
    except (RuntimeError, OSError) as error:
        _say_once(log.warning, f"compiled kernels can be kept nowhere ({_reason(error)}): every start compiles them again")
        return None
    _say_once(log.warning, f"the folder of the package and the user's cache cannot be written: compiled kernels are kept in {folder}")
    return cache


def _temporary_folder() -> Path:
    """A folder of this user's own below the temporary one: what is loaded from it runs, so nobody else may write there."""
    folder = Path(tempfile.gettempdir()) / f"fsd-gs-kernels-{getpass.getuser() if os.name == 'nt' else os.getuid()}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        is_ours = os.name == "nt" or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
        if not (stat.S_ISDIR(found.st_mode) and is_ours):
            return Path(tempfile.mkdtemp(prefix="fsd-gs-kernels-"))
    return folder


def _say_once(say: Callable[[str], None], message: str) -> None:
    """One line of a kind, whatever the number of kernels."""
    if say.__name__ not in _said:
        _said.add(say.__name__)
        say(message)


def _reason(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
