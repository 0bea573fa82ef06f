"""Seeded damage to splat files of every format: in the bytes as they lie in the file, and inside what is packed, behind the checksums."""

import gzip
import json
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import splat_files as made
from export_scenes import random_gaussians

from fsd_gs.export.formats import EXPORTERS, save_splats

SUFFIXES = [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".ksplat", ".splat.glb", ".usda", ".usdc", ".usdz"]
USD = (".usda", ".usdc", ".usdz")
NUMBERS = [0, 1, 2, 7, 8, 127, 128, 255, 256, 1000, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
WORDS = [b"-1", b"0", b"1e9", b"99999999999999999999", b"nan", b"list", b"uchar", b"double", b"end_header", b"element", b"\xff\xfe", b""]
USD_WORDS = [
    b"(1, 2)",
    b"[]",
    b"[(1, 2, 3)]",
    b"-nan",
    b"inf",
    b"1e400",
    b"def",
    b"over",
    b"class",
    b"@/dev/zero@",
    b"@./a.usda@",
    b"</Splats>",
    b"None",
]
USD_LINES = [
    b"    prepend references = @fuzzed.usda@",
    b"(subLayers = [@fuzzed.usda@])",
    b'def Xform "x" (instanceable = true references = </Splats>) {}',
    b"    matrix4d xformOp:transform = ( (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0) )",
    b'    uniform token[] xformOpOrder = ["xformOp:transform"]',
    b"    uniform int radiance:sphericalHarmonicsDegree = 2000000000",
    b"    point3f[] positions = [(1, 2, 3)]",
]
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    3,
    255,
    65536,
    1 << 40,
    1 << 70,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    [],
    [[]],
    {},
    [1] * 300,
]


class Mutator:
    """(seed, number) → a damaged file of the format of ``suffix``."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self.samples = _samples(suffix)

    def __call__(self, seed: int, number: int) -> bytes:
        rng = np.random.default_rng([seed, number, SUFFIXES.index(self.suffix)])
        sample = self.samples[int(rng.integers(len(self.samples)))]
        inside = _INSIDE.get(self.suffix)
        if inside is not None and rng.random() < 0.6:
            return inside(sample, rng)
        return damage(sample, rng)

    def read_samples(self, load: Callable[[Path], object], folder: Path) -> None:
        """Every good file must be readable, or the damage says nothing."""
        for i, sample in enumerate(self.samples):
            path = folder / f"sample-{i}{self.suffix}"
            path.write_bytes(sample)
            load(path)


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bytes, bits, numbers near the start, cuts, repetitions, holes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        span = len(data) if rng.random() < 0.5 else min(len(data), 128)  # headers are short, and decide
        at = int(rng.integers(span))
        kind = int(rng.integers(7))
        if kind == 0:
            data[at] = int(rng.integers(256))
        elif kind == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind in (2, 3):
            value = struct.pack("<I", NUMBERS[int(rng.integers(len(NUMBERS)))])[: int(rng.choice([1, 2, 4]))]
            at -= at % 4 if rng.random() < 0.7 else 0
            data[at : at + len(value)] = value
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            data[at:at] = data[at : at + int(rng.integers(1, 200))]
        else:
            del data[at : at + int(rng.integers(1, 200))]
    return bytes(data)


def _damage_ply(content: bytes, rng: np.random.Generator) -> bytes:
    """Words of the header changed, doubled, dropped or swapped."""
    head, mark, body = content.partition(b"end_header\n")
    lines = head.split(b"\n")
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        words = lines[at].split(b" ")
        kind = int(rng.integers(5))
        if kind <= 1:
            words[int(rng.integers(len(words)))] = WORDS[int(rng.integers(len(WORDS)))]
            lines[at] = b" ".join(words)
        elif kind == 2:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        elif kind == 3:
            del lines[at]
        else:
            lines.insert(at, b"property list uchar int more" if rng.random() < 0.5 else b"element more %d" % (1 << int(rng.integers(50))))
        lines = lines or [b"ply"]
    end = [b"\n", b"\r\n", b"\r"][int(rng.integers(3))] if rng.random() < 0.2 else b"\n"
    return end.join(lines) + mark + body


def _damage_spz(content: bytes, rng: np.random.Generator) -> bytes:
    """Inside the gzip of versions 1 to 3; the header, the table or a stream's frame of version 4."""
    return gzip.compress(damage(gzip.decompress(content), rng), 1) if content[:2] == b"\x1f\x8b" else damage(content, rng)


def _damage_sog(content: bytes, rng: np.random.Generator) -> bytes:
    """A member damaged, missing or swapped; a value of meta.json replaced; packed again, so that the archive itself is good."""
    files = made.unbundle(content)
    names = sorted(files)
    for _ in range(int(rng.integers(1, 3))):
        name, other = (names[int(rng.integers(len(names)))] for _ in range(2))
        kind = int(rng.integers(8))
        if kind <= 3:
            files["meta.json"] = damage_json(files.get("meta.json", b"{}"), rng)
        elif kind <= 5:
            files[name] = damage(files.get(name, b""), rng)
        elif kind == 6:
            files[name] = files.get(other, b"")
        else:
            files.pop(name, None)
    return made.bundle(files, zipfile.ZIP_DEFLATED if rng.random() < 0.3 else zipfile.ZIP_STORED)


def damage_json(content: bytes, rng: np.random.Generator) -> bytes:
    try:
        root = {"root": json.loads(content)}
    except ValueError:
        return content
    node, key = root, "root"
    while isinstance(node[key], dict | list) and node[key] and rng.random() < 0.85:
        node = node[key]
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = keys[int(rng.integers(len(keys)))]
    if isinstance(node, dict) and rng.random() < 0.2:
        del node[key]
    else:
        node[key] = VALUES[int(rng.integers(len(VALUES)))]
    return json.dumps(root.get("root")).encode()


def damage_glb(content: bytes, rng: np.random.Generator) -> bytes:
    """A value of the JSON replaced, or the binary chunk damaged, with lengths that are right again."""
    length = int.from_bytes(content[12:16], "little")
    text, binary = content[20 : 20 + length], content[28 + length :]
    for _ in range(int(rng.integers(1, 3))):
        if rng.random() < 0.8:
            text = damage_json(text, rng)
        else:
            binary = damage(binary, rng)
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def _damage_usda(content: bytes, rng: np.random.Generator) -> bytes:
    """Words of a line changed; lines doubled, dropped, or of another kind."""
    lines = content.split(b"\n")
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        kind = int(rng.integers(5))
        if kind <= 1:
            words, choice = lines[at].split(b" "), WORDS + USD_WORDS
            words[int(rng.integers(len(words)))] = choice[int(rng.integers(len(choice)))]
            lines[at] = b" ".join(words)
        elif kind == 2:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        elif kind == 3 and len(lines) > 1:
            del lines[at]
        else:
            lines.insert(at, USD_LINES[int(rng.integers(len(USD_LINES)))])
    return b"\n".join(lines)


def _damage_usdc(content: bytes, rng: np.random.Generator) -> bytes:
    """Numbers of 8 bytes, as its table of contents and its values are, anywhere or in the table at the end."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(data) - 8))
        if rng.random() < 0.5:
            at = max(0, len(data) - 8 - int(rng.integers(1200)))
        at -= at % (8 if rng.random() < 0.5 else 1)
        value = NUMBERS[int(rng.integers(len(NUMBERS)))] if rng.random() < 0.7 else 1 << int(rng.integers(64))
        data[at : at + 8] = struct.pack("<Q", value)
    return bytes(data)


def _damage_usdz(content: bytes, rng: np.random.Generator) -> bytes:
    """The layer inside, at the place and of the length that it has in the package (no reader looks at the checksum)."""
    at = content.index(b"PXR-USDC")
    end = content.rindex(b"PK\x01\x02")
    return content[:at] + _damage_usdc(content[at:end], rng) + content[end:]


_INSIDE = {".ply": _damage_ply, ".compressed.ply": _damage_ply, ".spz": _damage_spz, ".sog": _damage_sog, ".splat.glb": damage_glb} | {
    ".usda": _damage_usda,
    ".usdc": _damage_usdc,
    ".usdz": _damage_usdz,
}


def _samples(suffix: str) -> list[bytes]:
    """Good files: of several SH degrees, and of every version or level."""
    small, large = random_gaussians(20, 2), random_gaussians(300, 0)
    if suffix == ".ksplat":
        return [made.ksplat([small, random_gaussians(9, 1), large], level) for level in (0, 1, 2)]
    found = [_saved(g, suffix) for g in (small, large)]
    if suffix == ".ply":
        found += [(Path(__file__).parent / "data" / "splats" / f"ply-{name}.ply").read_bytes() for name in ("ascii-plain", "cr-only")]
    if suffix == ".spz":
        found += [made.spz(small, version) for version in (1, 2, 4)] + [made.spz(small, 3, packed=False), made.spz(large, 4)]
    if suffix == ".sog":
        found.append(made.bundle(made.sog_v1(small)))
    return found


def _saved(gaussians, suffix: str) -> bytes:
    assert any(entry.suffix == suffix for entry in EXPORTERS.values())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_splats(gaussians, Path(folder) / f"a{suffix}")
        return (Path(folder) / f"a{suffix}").read_bytes()
