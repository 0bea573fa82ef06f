"""Where an asset comes from, in every file that has a place for words.

What is kept: the prompt, the seed, a hash of the whole configuration, the version of fsd_gs, the prior and its licence, and the axes of the
file. Where it is kept:

    .ply, .compressed.ply   comment lines of the header, ``comment fsd_gs.prompt = "a red chair"`` (values are JSON)
    .sog                    meta.json, ``asset.fsd_gs``
    .glb, .splat.glb        ``asset.extras.fsd_gs`` (glTF 2.0, 5.9 Asset), and ``asset.copyright`` for the licence
    .usda, .usdc, .usdz     the root layer's customLayerData, ``fsd_gs``
    .png                    a text chunk ``fsd_gs``;  .gif: its comment;  .mp4: the ``comment`` tag
    .obj                    comment lines, as in .ply
    .html                   ``<meta name="fsd_gs">``

.spz, .splat and .ksplat have no such place. Everything is read again by :func:`read_provenance`; a file that says nothing, or nonsense,
gives None: this is information, and never decides whether a file opens. (The axes do count on reading: ``core.file_axes``.)
"""

from __future__ import annotations

import html
import json
import re
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from fsd_gs.core.file_axes import FRAMES, axes_comment, stated_axes
from fsd_gs.export._usd_reading import run_reader

KEY = "fsd_gs"
MAX_WORDS = 2000  # characters of a value; a header is no place for a book
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class Provenance:
    """What is known of an asset's origin; None: not known.

    Args:
        prompt: the words it was made from.
        seed: the run's seed.
        config: 16 hexadecimal digits that tell apart the settings that decide the result (``train.identity.config_key``).
        prior: name or path of the frozen network.
        licence: of that network's weights.
        version: of fsd_gs.
        axes: the frame of the file (``core.file_axes.FRAMES``).
    """

    prompt: str | None = None
    seed: int | None = None
    config: str | None = None
    prior: str | None = None
    licence: str | None = None
    version: str | None = None
    axes: str | None = None

    def known(self) -> dict[str, Any]:
        """The fields that are known, in order; words are cut to ``MAX_WORDS``."""
        return {k: v[:MAX_WORDS] if isinstance(v, str) else v for k, v in asdict(self).items() if v is not None}

    def comments(self) -> list[str]:
        """ASCII lines for the header of a .ply or .obj; the axes first."""
        lines = [] if self.axes not in FRAMES or self.axes is None else [axes_comment(self.axes)]
        words = [f"{KEY}.{name} = {json.dumps(value)}" for name, value in self.known().items() if name != "axes"]
        return lines + [line.replace("end_header", "end\\u005fheader") for line in words]  # many readers look for these letters anywhere

    def text(self) -> str:
        """One line of ASCII JSON, for places that take one string."""
        return json.dumps({KEY: self.known()})

    def asset(self) -> dict[str, Any]:
        """Members for the ``asset`` of a glTF."""
        words = {"generator": f"fsd_gs {self.version}" if self.version else "fsd_gs", "extras": {KEY: self.known()}}
        return words | ({"copyright": f"made with weights under {self.licence}"} if self.licence else {})

    def chunks(self) -> dict[str, str]:
        """The same for the text chunks of a picture."""
        return {KEY: self.text()}


def from_mapping(values: object) -> Provenance | None:
    """The fields of ``values`` that we know and that are of the right kind; None if there are none."""
    if not isinstance(values, dict):
        return None
    kinds = {field.name: int if field.name == "seed" else str for field in fields(Provenance)}
    kept = {name: values[name] for name, kind in kinds.items() if isinstance(values.get(name), kind) and values.get(name) is not True}
    return Provenance(**kept) if kept else None


def from_comments(lines: Iterable[str]) -> Provenance | None:
    """What :meth:`Provenance.comments` wrote, out of all comment lines of a header."""
    values: dict[str, Any] = {}
    for line in (lines := [line.strip() for line in lines]):
        match = re.fullmatch(rf"{KEY}\.(\w+) = (.*)", line)
        if match:
            values[match[1]] = _json(match[2])
    found = from_mapping({k: v for k, v in values.items() if k != "axes"})
    axes = stated_axes(lines)
    return found if axes is None else replace(found or Provenance(), axes=axes)


def from_text(text: str) -> Provenance | None:
    """What :meth:`Provenance.text` wrote."""
    found = _json(text)
    return from_mapping(found.get(KEY)) if isinstance(found, dict) else None


def read_provenance(path: Path) -> Provenance | None:
    """What the file says of its origin; None if it says nothing or cannot be read."""
    name = path.name.lower()
    for suffixes, read in _READERS:
        if name.endswith(suffixes):
            try:
                return read(path)
            except Exception:  # damaged in any of the ways of a dozen libraries; whoever needs the splats meets a proper message
                return None
    return None


def _of_ply(path: Path) -> Provenance | None:
    head = _head(path).split(b"end_header")[0].decode("latin-1")
    return from_comments(line.strip().removeprefix("comment ") for line in head.splitlines() if line.strip().startswith("comment "))


def _of_obj(path: Path) -> Provenance | None:
    return from_comments(line[1:] for line in _head(path).decode("latin-1").splitlines() if line.startswith("#"))


def _of_sog(path: Path) -> Provenance | None:
    if path.name == "meta.json":
        return from_mapping(json.loads(path.read_text("utf-8")).get("asset", {}).get(KEY))
    with zipfile.ZipFile(path) as bundle:
        info = bundle.getinfo("meta.json")
        if info.file_size > _HEAD_BYTES:
            return None
        return from_mapping(json.loads(bundle.read(info)).get("asset", {}).get(KEY))


def _of_glb(path: Path) -> Provenance | None:
    with path.open("rb") as stream:
        magic, _, _, length, kind = struct.unpack("<4sIIII", stream.read(20))
        if magic != b"glTF" or kind != 0x4E4F534A or length > path.stat().st_size:
            return None
        return from_mapping(json.loads(stream.read(length)).get("asset", {}).get("extras", {}).get(KEY))


def _of_usd(path: Path) -> Provenance | None:
    status, words = run_reader("provenance", str(path))
    return None if status else from_mapping(json.loads(words))


def _of_picture(path: Path) -> Provenance | None:
    from PIL import Image

    with Image.open(path) as image:
        text = image.info.get(KEY) or image.info.get("comment") or ""
    return from_text(text.decode("latin-1") if isinstance(text, bytes) else str(text))


def _of_mp4(path: Path) -> Provenance | None:
    """The text of moov/udta/meta/ilst/©cmt/data (ISO 14496-12 boxes; QuickTime's item list)."""
    with path.open("rb") as stream:
        while len(start := stream.read(8)) == 8:
            size, kind = struct.unpack(">I4s", start)
            if kind == b"moov" and size < 64 << 20:
                content = stream.read(size - 8)
                at = content.find(b"\xa9cmt")
                length = struct.unpack_from(">I", content, at + 4)[0]
                return from_text(content[at + 20 : at + 4 + length].decode("utf-8")) if at >= 0 else None
            if size < 8:
                return None
            stream.seek(size - 8, 1)
    return None


def _of_html(path: Path) -> Provenance | None:
    match = re.search(rf'<meta name="{KEY}" content="([^"]*)">', _head(path).decode("utf-8", "replace"))
    return from_text(html.unescape(match[1])) if match else None


_READERS = (
    ((".ply",), _of_ply),
    ((".sog", "meta.json"), _of_sog),
    ((".glb",), _of_glb),
    ((".usda", ".usdc", ".usdz"), _of_usd),
    ((".png", ".gif"), _of_picture),
    ((".mp4",), _of_mp4),
    ((".obj",), _of_obj),
    ((".html",), _of_html),
)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
