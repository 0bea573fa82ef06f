"""The gate of every reader of splat files: what a file is, and what it may ask for, before anything of it is decoded.

    first bytes     the magic of the format, or a refusal that names what the file is instead (a page, an archive, a git-lfs pointer …)
    counts          against ``max_splats``
    sizes           what a header declares against what the file holds; a deflated stream yields at most 1032 bytes a byte
    unpacking       with a bound that follows from the count

Memory and time are thereby limited by the size of the file and by ``max_splats``, whatever the file says.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsd_gs.errors import FileFormatError

MAX_SPLATS = 10_000_000  # of SH degree 3 that is 2.5 GB of .ply and about twice that of memory; an asset has 1e4 to 1e6
MAX_DEFLATE_RATIO = 1032  # of deflate (zlib's technical notes): 258 bytes for two bits
START_BYTES = 512

_GIT_LFS = "a git-lfs pointer, not the file itself; run 'git lfs pull'"
_PAGE = "a web page; the download went wrong, get the file itself"

#: (offset, bytes, what it is). A longer or more telling one comes first.
_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"ply\n", "a .ply file; give it that suffix"),
    (0, b"ply\r", "a .ply file; give it that suffix"),
    (0, b"NGSP", "an .spz file; give it that suffix"),
    (0, b"glTF", "a binary glTF file (.glb)"),
    (0, b"PK\x03\x04", "a zip archive (a .sog is one too); unpack it or give it its own suffix"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x1f\x8b", "a gzip archive (an .spz is one too); unpack it or give it its own suffix"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
    (0, b"Rar!\x1a\x07", "a RAR archive; unpack it"),
    (0, b"\xfd7zXZ\x00", "an xz archive; unpack it"),
    (0, b"BZh", "a bzip2 archive; unpack it"),
    (257, b"ustar", "a tar archive; unpack it"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftyp", "an MP4 video"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PXR-USDC", "an OpenUSD file"),
    (0, b"BLENDER", "a Blender file; export it from Blender"),
    (0, b"Kaydara FBX", "an FBX mesh"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x80\x02}", "a Python pickle; those can run code and are not read"),
)
_TEXTS: tuple[tuple[str, str], ...] = (
    ("version https://git-lfs", _GIT_LFS),
    ("<!doctype html", _PAGE),
    ("<html", _PAGE),
    ("<?xml", "an XML file"),
    ("#usda", "an OpenUSD file"),
    ("solid", "an STL mesh"),
    ("{", "a JSON file"),
    ("[", "a JSON file"),
)


def read_start(path: Path, *, may_be_empty: bool = False) -> bytes:
    """The first bytes of a regular file that is not empty; FileFormatError says what is wrong with any other path."""
    if path.is_dir():
        raise FileFormatError(f"{path}: cannot be read: this is a folder, not a file; check the path")
    if not path.exists():
        raise FileFormatError(f"{path}: file not found; check the path")
    if not path.is_file():  # reading a pipe or a device could wait for ever
        raise FileFormatError(f"{path}: cannot be read: this is a device or a pipe, not a file; check the path")
    with readable(path), path.open("rb") as stream:
        start = stream.read(START_BYTES)
    if not start and not may_be_empty:
        raise FileFormatError(f"{path}: the file is empty")
    return start


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What the operating system or too little memory stops while ``path`` is read, as one FileFormatError."""
    try:
        yield
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions") from error
    except MemoryError as error:
        raise FileFormatError(f"{path}: too little memory to read it; thin it out first") from error


def read_whole(path: Path) -> bytes:
    """All bytes of a file that has passed :func:`read_start`."""
    with readable(path):
        return path.read_bytes()


def describe(start: bytes) -> str | None:
    """What a file that begins with ``start`` is, and what to do about it; None if that cannot be told."""
    for offset, magic, words in _MAGICS:
        if start[offset : offset + len(magic)] == magic:
            return words
    text = _text(start)
    if text is None:
        return None
    stripped = text.lstrip("\ufeff \t\r\n")
    for beginning, words in _TEXTS:
        if stripped.lower().startswith(beginning):
            return words
    return f"a text file (it begins with '{' '.join(stripped[:40].split())}')"


def require_magic(path: Path, start: bytes, suffix: str, *magics: bytes) -> None:
    """FileFormatError unless ``start`` begins with one of ``magics``: it names what the file is instead."""
    if not start.startswith(magics):
        kind = describe(start)
        raise FileFormatError(f"{path}: not a {suffix} file" + (f": this is {kind}" if kind else f" (it begins with {start[:4].hex(' ')})"))


def refuse_foreign(path: Path, start: bytes, suffix: str) -> None:
    """FileFormatError if ``start`` is known to be something else: for formats that have no magic of their own."""
    kind = describe(start)
    if kind:
        raise FileFormatError(f"{path}: not a {suffix} file: this is {kind}")


def check_count(path: Path, count: int, max_splats: int) -> None:
    """FileFormatError if a file declares more splats than are taken in."""
    if count > max_splats:
        raise FileFormatError(f"{path}: {count:,} splats, more than the limit of {max_splats:,}; thin it out first or raise max_splats")


def check_held(path: Path, what: str, declared: int, held: int) -> None:
    """FileFormatError if ``what`` needs ``declared`` bytes and only ``held`` are there."""
    if declared > held:
        raise FileFormatError(f"{path}: truncated or damaged ({what} takes {declared:,} bytes; the file holds {held:,})")


class Inflater:
    """A gzip or zlib stream in memory, unpacked piece by piece and never beyond what is asked for."""

    def __init__(self, path: Path, content: bytes, what: str = "the file") -> None:
        self._path, self._what, self._rest = path, what, content
        self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by the header

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes more; FileFormatError if the stream is damaged or ends before."""
        piece = self.read_up_to(size)
        if len(piece) < size:
            raise FileFormatError(f"{self._path}: truncated ({self._what} unpacks to {len(piece):,} bytes where {size:,} are declared)")
        return piece

    def read_up_to(self, size: int) -> bytes:
        """At most ``size`` bytes more."""
        if not size or self._stream.eof:
            return b""
        try:
            piece = self._stream.decompress(self._rest, size)
        except zlib.error as error:
            raise FileFormatError(f"{self._path}: truncated or damaged ({self._what} cannot be unpacked: {error})") from error
        self._rest = self._stream.unconsumed_tail
        return piece


def file_size(path: str | os.PathLike[str]) -> int:
    """Bytes of a file."""
    with readable(Path(path)):
        return Path(path).stat().st_size


def _text(start: bytes) -> str | None:
    """``start`` as text if it is text: printable but for white space, UTF-8 or (with its mark) UTF-16."""
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"", "utf-8")):
        if start.startswith(mark):
            try:
                text = start[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                if error.end < len(start) - 4:  # a character cut in two at the end is no sign of anything
                    continue
                text = start[len(mark) : len(mark) + error.start].decode(encoding)
            if len(text) >= 4 and all(c.isprintable() or c.isspace() or c == "\ufeff" for c in text):
                return text
    return None
