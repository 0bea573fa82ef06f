"""The .ply container: its header, and named columns of an element as an array.

    ply
    format ascii 1.0 | binary_little_endian 1.0 | binary_big_endian 1.0
    comment …                                            in any encoding
    element NAME COUNT
    property TYPE NAME | property list COUNT_TYPE TYPE NAME
    end_header

after Turk (1994). Lines end in LF, CR LF or CR alone, as the first one does. The header is parsed here, and here only: it says how many
bytes the rows take at the least, so that a wrong, truncated or enormous file is refused before anything is allocated. plyfile, which
writes our files, reads a list element of 10¹² rows in good faith and stops at blank lines.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fsd_gs.errors import FileFormatError
from fsd_gs.export.gate import check_count, check_held, file_size, read_start, readable, require_magic

_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_BYTE_ORDER = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER_BYTES = 1 << 20
_MAX_LIST_ROWS = 1_000_000  # of an element in front of the one that is wanted: they are stepped over one by one
_CHUNK_ROWS = 1 << 16
_ASCII_VALUE_BYTES = 2  # a digit and a separator at the least
#: Not-a-number and infinity as other runtimes print them.
_FOREIGN_NAN = re.compile(r"[-+]?(?:nan\([^)\s]*\)|1\.#(?:ind|qnan|snan)\w*)", re.IGNORECASE)
_FOREIGN_INF = re.compile(r"([-+]?)1\.#inf\w*", re.IGNORECASE)


@dataclass(frozen=True)
class PlyElement:
    """``count`` rows of ``properties``: name → type, or (type of the length, type) for a list."""

    name: str
    count: int
    properties: dict[str, str | tuple[str, str]] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, str]:
        """Name → type of the properties that are no lists."""
        return {name: kind for name, kind in self.properties.items() if isinstance(kind, str)}

    @property
    def has_list(self) -> bool:
        """Whether rows have no fixed size (mesh faces)."""
        return len(self.columns) < len(self.properties)

    @property
    def row_bytes(self) -> int:
        """Bytes of a binary row; at the least, if it has lists."""
        return sum(_size(kind if isinstance(kind, str) else kind[0]) for kind in self.properties.values())


@dataclass(frozen=True)
class PlyHeader:
    """What a .ply declares: format, elements in order, comments, and the bytes that the header takes."""

    format: str
    elements: dict[str, PlyElement]
    header_bytes: int
    comments: tuple[str, ...] = ()

    @property
    def is_compressed_splats(self) -> bool:
        """Whether this is PlayCanvas' compressed.ply: chunks of 256 splats, quantised."""
        vertex = self.elements.get("vertex")
        return "chunk" in self.elements and vertex is not None and "packed_position" in vertex.columns


def read_header(path: Path) -> PlyHeader:
    """Parse a .ply header without touching the data; FileFormatError if there is none."""
    require_magic(path, read_start(path), ".ply", b"ply\n", b"ply\r", b"ply ", b"ply\t")
    with readable(path), path.open("rb") as stream:
        start = stream.read(_MAX_HEADER_BYTES)
    try:
        return _parse(path, start)
    except (ValueError, IndexError) as error:
        raise FileFormatError(f"{path}: damaged .ply header ({error})") from error


def _parse(path: Path, start: bytes) -> PlyHeader:
    format_name, comments = "", []
    elements: dict[str, PlyElement] = {}
    last: PlyElement | None = None
    for line, end in _lines(path, start):
        words = line.split()
        keyword = words[0] if words else "comment"
        if keyword == "end_header":
            if format_name not in _BYTE_ORDER:
                raise ValueError(f"unknown format '{format_name}'")
            return PlyHeader(format_name, elements, end, tuple(comments))
        if keyword in ("comment", "obj_info"):
            comments += [line.split(None, 1)[1]] if len(words) > 1 else []
        elif keyword == "format":
            format_name = words[1]
        elif keyword == "element":
            if words[1] in elements:
                raise ValueError(f"two elements are called {words[1]}")
            last = elements[words[1]] = PlyElement(words[1], _count(words))
        elif keyword == "property" and last is not None:
            _add_property(last, words)
        else:
            raise ValueError(f"unexpected line '{''.join(c if c.isprintable() else '?' for c in line[:60])}'")
    raise FileFormatError(f"{path}: truncated or damaged .ply (its header has no end)")


def _lines(path: Path, start: bytes) -> Iterator[tuple[str, int]]:
    """(text, offset behind its end) of each line after the first."""
    # Where lines end in CR alone, an LF behind the last one is the first byte of the data.
    end = re.compile(rb"\r" if re.match(rb"ply[ \t]*\r(?!\n)", start) else rb"\r?\n")
    first = end.search(start)
    at = first.end() if first else len(start)
    while match := end.search(start, at):
        raw = start[at : match.start()]
        try:
            yield raw.decode("utf-8"), match.end()
        except UnicodeDecodeError:
            yield raw.decode("latin-1"), match.end()
        at = match.end()


def _count(words: list[str]) -> int:
    if re.fullmatch(r"-[0-9]+", words[2]):
        raise ValueError(f"element {words[1]} has a negative count")
    if not re.fullmatch(r"[0-9]{1,20}", words[2]):
        raise ValueError(f"element {words[1]} has the count '{words[2][:30]}'")
    return int(words[2])


def _add_property(element: PlyElement, words: list[str]) -> None:
    is_list = words[1] == "list"
    kinds, name = (words[2:4], words[4]) if is_list else (words[1:2], words[2])
    for kind in kinds:
        if kind not in _TYPES:
            raise ValueError(f"unknown type '{kind[:30]}'")
    if name in element.properties:
        raise ValueError(f"two properties of {element.name} are called {name}")
    element.properties[name] = (kinds[0], kinds[1]) if is_list else kinds[0]


def _size(kind: str) -> int:
    return int(_TYPES[kind][1])


def check_size(path: Path, header: PlyHeader, max_splats: int) -> None:
    """FileFormatError for more vertices than ``max_splats``, or more rows of any element than the file has bytes for."""
    check_count(path, header.elements["vertex"].count, max_splats)
    held = file_size(path) - header.header_bytes
    ascii_text = header.format == "ascii"
    for element in header.elements.values():
        row = _ASCII_VALUE_BYTES * len(element.properties) if ascii_text else element.row_bytes
        at_least = "at least " if ascii_text or element.has_list else ""
        needed = element.count * row
        # The last separator of a text may be missing.
        check_held(path, f"element '{element.name}': {element.count:,} rows, {at_least}{row} bytes each,", needed, held + ascii_text)
        held -= needed


def read_columns(path: Path, header: PlyHeader, name: str, columns: list[str], dtype: type[np.generic]) -> NDArray:
    """The ``columns`` of the element ``name`` as [N, len(columns)]; doubles beyond float32 become infinite."""
    element = header.elements[name]
    before = list(header.elements.values())[: list(header.elements).index(name)]
    table = np.empty((element.count, len(columns)), dtype=dtype)
    with readable(path), np.errstate(over="ignore", invalid="ignore"):
        blocks = _text_blocks if header.format == "ascii" else _binary_blocks
        done = 0
        for block in blocks(path, header, before, element, columns):
            table[done : done + len(block)] = block
            done += len(block)
    if done < element.count:
        raise FileFormatError(f"{path}: truncated or damaged .ply (element '{name}' ends after {done:,} of {element.count:,} rows)")
    return table


def _binary_blocks(path: Path, header: PlyHeader, before: list[PlyElement], element: PlyElement, columns: list[str]) -> Iterator[NDArray]:
    order = _BYTE_ORDER[header.format]
    with path.open("rb") as stream:
        stream.seek(header.header_bytes)
        for other in before:
            _skip(path, stream, other, order)
        if element.has_list:
            raise FileFormatError(f"{path}: element '{element.name}' has lists among its properties; a splat has none")
        rows = np.dtype([(name, order + _TYPES[kind]) for name, kind in element.columns.items()])
        for first in range(0, element.count, _CHUNK_ROWS):
            block = np.fromfile(stream, rows, min(_CHUNK_ROWS, element.count - first))
            yield np.stack([block[name] for name in columns], axis=1)


def _skip(path: Path, stream: BinaryIO, element: PlyElement, order: str) -> None:
    if not element.has_list:
        stream.seek(element.count * element.row_bytes, 1)
        return
    if element.count > _MAX_LIST_ROWS:
        raise FileFormatError(
            f"{path}: {element.count:,} rows of '{element.name}' with lists before the splats (limit {_MAX_LIST_ROWS:,}); put them behind"
        )
    kinds = [kind if isinstance(kind, tuple) else (kind, None) for kind in element.properties.values()]
    sizes = [(_size(length), np.dtype(order + _TYPES[length]), None if item is None else _size(item)) for length, item in kinds]
    for _ in range(element.count):
        for size, kind, item in sizes:
            value = stream.read(size)
            if len(value) < size:
                raise FileFormatError(f"{path}: truncated or damaged .ply (element '{element.name}' ends early)")
            if item is not None:
                stream.seek(max(int(np.frombuffer(value, kind)[0]), 0) * item, 1)


def _text_blocks(path: Path, header: PlyHeader, before: list[PlyElement], element: PlyElement, columns: list[str]) -> Iterator[NDArray]:
    use = [list(element.properties).index(name) for name in columns]
    with path.open("rb") as raw:
        raw.seek(header.header_bytes)
        lines = _text_lines(raw)
        for other in before:
            for _ in range(other.count if other.properties else 0):
                next(lines, None)
        for first in range(0, element.count, _CHUNK_ROWS):
            rows = min(_CHUNK_ROWS, element.count - first)
            wanted = [line for line, _ in zip(lines, range(rows), strict=False)]
            if not wanted:
                return
            try:
                block = np.loadtxt(wanted, dtype=np.float64, comments=None, usecols=use, ndmin=2)
            except ValueError as error:
                raise FileFormatError(f"{path}: truncated or damaged .ply ({str(error).splitlines()[0][:120]})") from error
            yield block


def _text_lines(raw: BinaryIO) -> Iterator[str]:
    """The lines that are not blank, whatever they end in, with foreign words for not-a-number put into ours."""
    text = io.TextIOWrapper(raw, encoding="latin-1", newline=None)
    for line in text:
        if line.isspace():
            continue
        if "#" in line or "(" in line:
            line = _FOREIGN_INF.sub(r"\1inf", _FOREIGN_NAN.sub("nan", line))
        yield line
    text.detach()
