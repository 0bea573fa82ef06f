"""Reading SOG (:mod:`fsd_gs.export.sog` describes the format): version 1 and 2, bundled (.sog) or as a folder with its meta.json.

Everything is looked at before a picture is decoded: meta.json field by field, the unpacked size of each file against what the count of
splats can need, and the size of each picture by its header.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export import webp
from fsd_gs.export.gate import MAX_SPLATS, check_count, read_start, readable, require_magic
from fsd_gs.export.quantise import from_smallest_three
from fsd_gs.export.sog import MAX_PALETTE, PALETTE_COLUMNS
from fsd_gs.export.stored import assemble

_MAX_META_BYTES = 4 << 20
_MAX_MEMBERS = 10_000
_SPARE_PIXELS = 1 << 16  # that a picture may have beyond four times its splats
_COEFFICIENTS = {1: 3, 2: 8, 3: 15}  # of a channel by bands

#: Name and most bytes → content of a file of the set.
_ReadFile = Callable[[str, int], bytes]


def load_sog(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read SOG of version 1 or 2: a .sog file, a folder that holds a meta.json, or that meta.json; float32, CPU."""
    path = Path(path)
    with ExitStack() as stack:
        if path.is_dir() or path.suffix.lower() == ".json":
            folder = path if path.is_dir() else path.parent
            meta_path = folder / "meta.json" if path.is_dir() else path
            read_start(meta_path)
            files: _ReadFile = lambda name, most: _from_folder(meta_path if name == "meta.json" else folder / name, most)  # noqa: E731
        else:
            require_magic(path, read_start(path), ".sog", b"PK\x03\x04")
            files = _from_bundle(path, stack.enter_context(_open_bundle(path)))
        return _Set(path, files, max_splats).gaussians()


def is_sog_folder(path: Path) -> bool:
    """Whether ``path`` is an unbundled SOG: a folder with a meta.json, or the meta.json itself."""
    return (path / "meta.json").is_file() if path.is_dir() else path.name.lower() == "meta.json"


def _from_folder(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise FileFormatError(f"{path.parent}: '{path.name}' is missing; a SOG folder holds meta.json and the pictures that it names")
    with readable(path), path.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise FileFormatError(f"{path}: larger than the {most:,} bytes that it can need")
    return content


def _open_bundle(path: Path) -> zipfile.ZipFile:
    try:
        with readable(path):
            return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OverflowError) as error:
        raise FileFormatError(f"{path}: truncated or not a .sog file (damaged zip archive: {error})") from error


def _from_bundle(path: Path, bundle: zipfile.ZipFile) -> _ReadFile:
    members = bundle.infolist()
    if len(members) > _MAX_MEMBERS:
        raise FileFormatError(f"{path}: not a .sog file (a zip archive of {len(members):,} files)")
    metas = [member.filename for member in members if member.filename.rsplit("/", 1)[-1] == "meta.json"]
    if not metas:
        raise FileFormatError(f"{path}: not a .sog file (a zip archive without 'meta.json')")
    prefix = min(metas, key=len).removesuffix("meta.json")

    def read(name: str, most: int) -> bytes:
        try:
            member = bundle.getinfo(prefix + name)
        except KeyError as error:
            raise FileFormatError(f"{path}: '{name}' is not in the archive; a part of the file is missing") from error
        if member.file_size > most:
            raise FileFormatError(f"{path}: '{name}' unpacks to {member.file_size:,} bytes, more than the {most:,} that it can need")
        try:
            with bundle.open(member) as stream:
                content = stream.read(most + 1)
        except Exception as error:  # zipfile raises BadZipFile, zlib.error, RuntimeError (encrypted), NotImplementedError, EOFError, …
            raise FileFormatError(f"{path}: '{name}' cannot be unpacked ({' '.join(str(error).split())[:120]})") from error
        if len(content) > most:
            raise FileFormatError(f"{path}: '{name}' unpacks to more than the {most:,} bytes that it can need")
        return content

    return read


class _Set:
    """A meta.json and its pictures."""

    def __init__(self, path: Path, files: _ReadFile, max_splats: int) -> None:
        self.path, self._files = path, files
        self.meta = self._read_meta()
        self.version = self.meta.get("version", 1)
        if self.version not in (1, 2):
            raise self.wrong("version", f"expected 1 or 2, got {self.version!r}")
        self.count = self._read_count()
        check_count(path, self.count, max_splats)

    def gaussians(self) -> Gaussians:
        means = self._means()
        quats = self._quats()
        scales = np.exp(self._decode("scales", self._picture("scales", 0)[:, :3])).astype(np.float32)
        f_dc, opacities = self._sh0()
        sh = np.concatenate([f_dc[:, None, :], self._sh_rest()], axis=1).astype(np.float32)
        return assemble(means.astype(np.float32), quats, scales, opacities.astype(np.float32), sh, source=str(self.path))

    def _means(self) -> NDArray[np.float64]:
        low, high = self._numbers("means", "mins", 3), self._numbers("means", "maxs", 3)
        integers = self._picture("means", 0, of=2)[:, :3].astype(np.int64) | self._picture("means", 1, of=2)[:, :3].astype(np.int64) << 8
        logarithmic = low + integers / 65535 * (high - low)
        with np.errstate(over="ignore"):  # what becomes infinite is dropped as such
            return np.sign(logarithmic) * np.expm1(np.abs(logarithmic))

    def _quats(self) -> NDArray[np.float32]:
        """[N, 4] wxyz; the identity, with a warning, where alpha is no index."""
        pixels = self._picture("quats", 0)
        bad = pixels[:, 3] < 252
        if bad.any():
            warnings.warn(
                f"{self.path}: {bad.sum():,} of {self.count:,} splats have no valid rotation and were left unturned", stacklevel=4
            )
        small = (pixels[:, :3].astype(np.float32) / 255 * 2 - 1) * np.float32(0.5**0.5)
        quats = from_smallest_three(small, np.where(bad, 252, pixels[:, 3]).astype(np.int64) - 252)
        quats[bad] = (1, 0, 0, 0)
        return quats

    def _sh0(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients of degree 0 [N, 3] and opacities [N]."""
        pixels = self._picture("sh0", 0)
        if self.version == 2:
            return self._decode("sh0", pixels[:, :3]), pixels[:, 3] / 255
        values = self._decode("sh0", pixels)
        return values[:, :3], 1 / (1 + np.exp(-values[:, 3]))

    def _sh_rest(self) -> NDArray[np.float64]:
        """[N, K − 1, 3] through the palette; nothing at SH degree 0."""
        if not self.meta.get("shN"):
            return np.zeros((self.count, 0, 3))
        labels_picture = self._picture("shN", 1, of=2).astype(np.int64)
        labels = labels_picture[:, 0] | labels_picture[:, 1] << 8
        entries, coefficients, pixels = self._palette()
        if len(labels) and labels.max() >= entries:
            raise self.wrong("shN", f"a splat uses entry {labels.max():,} of {entries:,} in the palette")
        pixels = pixels[:, : PALETTE_COLUMNS * coefficients, :3].reshape(-1, coefficients, 3)[:entries]
        values = self._decode("shN", pixels) if self.version == 2 else self._between(pixels, *self._sh_bounds())
        return values[labels]

    def _palette(self) -> tuple[int, int, NDArray[np.uint8]]:
        """Entries, coefficients a channel, and the picture of the palette."""
        if self.version == 2:
            bands = self._integer("shN", "bands", 1, 3)
            entries, coefficients = self._integer("shN", "count", 1, MAX_PALETTE), _COEFFICIENTS[bands]
            rows = -(-entries // PALETTE_COLUMNS)
            return entries, coefficients, self._read_picture(self._file("shN", 0, 2), (PALETTE_COLUMNS * coefficients, rows))
        name = self._file("shN", 0, 2)  # version 1 says it by the picture's width alone
        for coefficients in _COEFFICIENTS.values():
            if self._size(name)[0] == PALETTE_COLUMNS * coefficients:
                height = min(self._size(name)[1], MAX_PALETTE // PALETTE_COLUMNS)
                return height * PALETTE_COLUMNS, coefficients, self._read_picture(name, (PALETTE_COLUMNS * coefficients, height))
        raise self.wrong("shN.files", f"'{name}' is {self._size(name)[0]:,} pixels wide; expected 192, 512 or 960")

    def _sh_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._numbers("shN", "mins", None), self._numbers("shN", "maxs", None)

    # From bytes to values

    def _decode(self, part: str, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Codebook entries (version 2) or values between bounds a channel (version 1)."""
        if self.version == 1:
            channels = pixels.shape[-1]
            return self._between(pixels, self._numbers(part, "mins", channels), self._numbers(part, "maxs", channels))
        levels = self._codebook(part)
        if pixels.size and pixels.max() >= len(levels):
            raise self.wrong(f"{part}.codebook", f"a splat uses entry {pixels.max()} of {len(levels)}")
        return levels[pixels]

    @staticmethod
    def _between(pixels: NDArray[np.uint8], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        return low + pixels / 255 * (high - low)

    def _codebook(self, part: str) -> NDArray[np.float64]:
        values = self._get(part, "codebook", list)
        if len(values) > 1 and values[0] is None:  # an old writer's flaw: its first entry came out as NaN
            values = [values[1], *values[1:]]
        return self._array(f"{part}.codebook", values, range(1, 257))

    # Fields of meta.json

    def wrong(self, field: str, words: str) -> FileFormatError:
        return FileFormatError(f"{self.path}: damaged SOG (meta.json, {field}: {words})")

    def _read_meta(self) -> dict[str, Any]:
        try:
            meta = json.loads(self._files("meta.json", _MAX_META_BYTES))
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"{self.path}: damaged SOG (meta.json is not valid JSON)") from error
        if not isinstance(meta, dict):
            raise FileFormatError(f"{self.path}: damaged SOG (meta.json: expected an object, got {type(meta).__name__})")
        if "means" not in meta:
            raise FileFormatError(f"{self.path}: not SOG (its meta.json has no 'means')")
        return meta

    def _read_count(self) -> int:
        if self.version == 2:
            return self._whole("count", self.meta.get("count"), 0, 1 << 32)
        shape = self._get("means", "shape", list)
        if not shape:
            raise self.wrong("means.shape", "expected [splats, 3], got []")
        return self._whole("means.shape", shape[0], 0, 1 << 32)

    def _get(self, part: str, key: str, kind: type) -> Any:
        section = self.meta.get(part)
        if not isinstance(section, dict):
            raise self.wrong(part, f"expected an object, got {_short(section)}")
        if not isinstance(section.get(key), kind):
            raise self.wrong(f"{part}.{key}", f"expected a {kind.__name__}, got {_short(section.get(key))}")
        return section.get(key)

    def _integer(self, part: str, key: str, low: int, high: int) -> int:
        section = self.meta.get(part)
        return self._whole(f"{part}.{key}", section.get(key) if isinstance(section, dict) else None, low, high)

    def _whole(self, field: str, value: Any, low: int, high: int) -> int:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(whole, bool) or not isinstance(whole, int) or not low <= whole <= high:
            raise self.wrong(field, f"expected a whole number from {low} to {high}, got {_short(value)}")
        return whole

    def _numbers(self, part: str, key: str, count: int | None) -> NDArray[np.float64]:
        """[count] finite numbers, or one number where ``count`` is None."""
        if count is None:
            return self._array(f"{part}.{key}", [self._get(part, key, object)], range(1, 2))[0]
        return self._array(f"{part}.{key}", self._get(part, key, list), range(count, count + 1))

    def _array(self, field: str, values: list[Any], lengths: range) -> NDArray[np.float64]:
        if len(values) not in lengths:
            wanted = str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
            raise self.wrong(field, f"expected {wanted} numbers, got {len(values)}")
        try:
            numbers = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else np.nan for v in values]
        except OverflowError:
            numbers = [np.nan]
        array = np.array(numbers)
        if not np.isfinite(array).all():
            raise self.wrong(field, "expected finite numbers")
        return array

    # Pictures

    def _file(self, part: str, index: int, of: int) -> str:
        files = self._get(part, "files", list)
        if len(files) != of or not all(isinstance(name, str) for name in files):
            raise self.wrong(f"{part}.files", f"expected {of} file name{'s' * (of > 1)}, got {_short(files)}")
        name = files[index]
        if not name or name in (".", "..") or not name.isprintable() or any(c in name for c in "/\\:"):
            raise self.wrong(f"{part}.files", f"expected a plain file name, got {_short(name)}")
        return name

    def _picture(self, part: str, index: int, *, of: int = 1) -> NDArray[np.uint8]:
        """[N, 4] RGBA, a row a splat."""
        return self._read_picture(self._file(part, index, of), None)

    def _most_pixels(self) -> int:
        return 4 * self.count + _SPARE_PIXELS

    def _size(self, name: str) -> tuple[int, int]:
        try:
            return webp.size_of(self._content(name))
        except ValueError as error:
            raise FileFormatError(f"{self.path}: '{name}' is {error}") from error

    def _content(self, name: str) -> bytes:
        most = max(self._most_pixels(), PALETTE_COLUMNS * 15 * (MAX_PALETTE // PALETTE_COLUMNS))
        return self._files(name, 5 * most + 4096)  # lossless pictures of noise are a little larger than their pixels

    def _read_picture(self, name: str, expected: tuple[int, int] | None) -> NDArray[np.uint8]:
        """The pixels of the first ``count`` splats [N, 4], or of a picture whose (width, least height) is ``expected`` [H, W, 4]."""
        width, height = self._size(name)
        if expected is None:
            fits = self.count <= width * height <= self._most_pixels()
            wanted = f"{self.count:,} splats, 'count' in meta.json"
        else:
            # A palette that is not full may come in a picture of full height.
            fits = width == expected[0] and expected[1] <= height <= max(MAX_PALETTE // PALETTE_COLUMNS, expected[1])
            wanted = f"a palette of {expected[0]:,} × {expected[1]:,}"
        if not fits:
            raise FileFormatError(f"{self.path}: '{name}' has {width:,} × {height:,} pixels for {wanted}")
        try:
            pixels = webp.decode(self._content(name))
        except ValueError as error:
            raise FileFormatError(f"{self.path}: '{name}' is {error}") from error
        return pixels if expected is not None else pixels.reshape(-1, 4)[: self.count]


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return "nothing" if value is None else text if len(text) <= 40 else f"{text[:37]}…"
