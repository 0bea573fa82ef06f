"""The container of glTF 2.0 (.gltf, .glb): its JSON, its buffers and its accessors as arrays. Nothing is fetched or run.

    GLB         header "glTF", version, length; then chunks: length, type ("JSON", "BIN\\0"), data           (specification, 4.4)
    accessor    count × components of one type out of a bufferView, with a stride; sparse values replace some  (3.6.2)
    normalized  integers stand for floats: c / 255, c / 65535, max(c / 127, −1), max(c / 32767, −1)            (3.11)

``extensionsRequired`` is read first. Whatever is in it and not understood by the caller is refused with the remedy, because without it the
file means something else. Every count and offset is checked against the buffer before anything is allocated. The numbers of a broken file
raise LookupError or ValueError in here, and FileFormatError from :func:`open_gltf` and under :meth:`Gltf.guard`.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fsd_gs.errors import BackendError, FileFormatError, FsdGsError

Array = npt.NDArray[Any]

_DTYPES: dict[int, str] = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_MAX_DEPTH, _MAX_PLACES = 64, 10  # of nodes in nodes, and how often a node is placed on average

DRACO, MESHOPT = "KHR_draco_mesh_compression", "EXT_meshopt_compression"
_REMEDIES = {
    DRACO: "install DracoPy (pip install DracoPy), or save the file again without compression",
    MESHOPT: "save it again without compression (gltfpack without -c, or import and export it in Blender)",
    "KHR_meshopt_compression": "save it again without compression (gltfpack without -c, or import and export it in Blender)",
    "KHR_texture_basisu": "convert its textures to PNG or JPEG (gltf-transform ktxdecompress, or export it again without KTX2)",
}


@dataclass(frozen=True)
class Gltf:
    """An open file.

    Attributes:
        name: for messages.
        buffers: one a buffer of the JSON; None where it could not be had (and may not be needed).
    """

    name: str
    json: dict[str, Any]
    buffers: tuple[bytes | None, ...]
    resource: Callable[[str], bytes]

    def accessor(self, index: int, *, normalize: bool = True) -> Array:
        """[count, components] of an accessor. Normalized integers become float64 unless ``normalize`` is False."""
        entry = self.json["accessors"][index]
        dtype, columns, count = np.dtype(_DTYPES[entry["componentType"]]), _COMPONENTS[entry["type"]], _count(entry)
        if "bufferView" in entry:
            values = self._view(entry["bufferView"], entry.get("byteOffset", 0), dtype, columns, count)
        elif "sparse" in entry:
            values = self._zeros(entry, dtype, columns, count)
        else:
            raise ValueError(f"accessor {index} has neither bufferView nor sparse")
        if "sparse" in entry:
            sparse = entry["sparse"]
            where, what = sparse["indices"], sparse["values"]
            rows = self._view(where["bufferView"], where.get("byteOffset", 0), np.dtype(_DTYPES[where["componentType"]]), 1, _count(sparse))
            values = values.copy()
            values[rows[:, 0]] = self._view(what["bufferView"], what.get("byteOffset", 0), dtype, columns, _count(sparse))
        if entry.get("normalized") and normalize:
            return np.maximum(values / np.iinfo(dtype).max, -1.0)
        return values

    def _zeros(self, entry: dict[str, Any], dtype: np.dtype[Any], columns: int, count: int) -> Array:
        if count > sum(len(b or b"") for b in self.buffers):  # it belongs to as many vertices, whose positions take bytes
            raise ValueError(f"a sparse accessor of {count} rows in a file that small")
        return np.zeros((count, columns), dtype)

    def _view(self, index: int, offset: int, dtype: np.dtype[Any], columns: int, count: int) -> Array:
        view = self.json["bufferViews"][index]
        if MESHOPT in view.get("extensions", {}):
            raise refusal(self.name, MESHOPT)
        content = self.view_bytes(index)
        row = dtype.itemsize * columns
        stride = view.get("byteStride", row)
        if not isinstance(offset, int) or offset < 0 or stride < row or (count and offset + stride * (count - 1) + row > len(content)):
            raise ValueError(f"bufferView {index} holds {len(content)} bytes, fewer than its accessor asks for")
        return np.ndarray((count, columns), dtype, content, offset, (stride, dtype.itemsize))

    def view_bytes(self, index: int) -> bytes:
        """The bytes of a bufferView."""
        view = self.json["bufferViews"][index]
        content, start, length = self.buffers[view["buffer"]], view.get("byteOffset", 0), view["byteLength"]
        if content is None:
            raise ValueError(f"buffer {view['buffer']} is missing")
        if start < 0 or length < 0 or start + length > len(content):
            raise ValueError(f"bufferView {index} reaches beyond its buffer")
        return content[start : start + length]

    def placed_meshes(self) -> Iterator[tuple[dict[str, Any], Array]]:
        """(mesh, world matrix [4, 4]) of every node of the scene that has a mesh."""
        nodes = self.json.get("nodes", [])
        scenes = self.json.get("scenes", [])
        children = {c for node in nodes for c in node.get("children", [])}
        roots = scenes[self.json.get("scene", 0)].get("nodes", []) if scenes else [i for i in range(len(nodes)) if i not in children]
        waiting = [(root, np.eye(4), 0) for root in roots]
        visited = 0
        while waiting:
            index, parent, depth = waiting.pop()
            visited += 1
            if visited > 100 + _MAX_PLACES * len(nodes):  # a tree has each once (3.5.2); 60 with two ways on each make 2^60
                raise ValueError("nodes with many parents")
            node = nodes[index]
            matrix = parent @ node_matrix(node)
            if "mesh" in node:
                yield self.json["meshes"][node["mesh"]], matrix
            if depth > _MAX_DEPTH:
                raise ValueError("nodes within nodes without end")
            waiting += [(child, matrix, depth + 1) for child in node.get("children", [])]

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Whatever the broken numbers of a file lead to becomes a FileFormatError that names it."""
        with guarded(self.name):
            yield


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn whatever a damaged file raises into one FileFormatError that names it."""
    try:
        yield
    except FsdGsError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OSError, OverflowError, MemoryError, RecursionError, struct.error) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise FileFormatError(f"{name}: cannot be read as glTF ({type(error).__name__}: {reason}); export it again") from error


def open_gltf(path: Path, resource: Callable[[str], bytes], understood: Collection[str], *, name: str | None = None) -> Gltf:
    """Open .gltf or .glb and read its buffers.

    Args:
        path: the file.
        resource: content of a file that it refers to; raises OSError where it may not be read.
        understood: extensions that the caller can honour.
        name: for messages; the file's name if None.

    Raises:
        FileFormatError: not glTF 2.0, truncated, or a required extension is not in ``understood``.
    """
    name = path.name if name is None else name
    with guarded(name):
        content, binary = _chunks(path.read_bytes())
        version = str(content.get("asset", {}).get("version", ""))
        if not version.startswith("2"):
            raise FileFormatError(f"{name}: glTF of version {version or 'unknown'}; expected 2.0: export it again")
        for extension in content.get("extensionsRequired", []):
            if extension not in understood:
                raise refusal(name, extension)
        buffers = tuple(_buffer(entry, index, binary, resource) for index, entry in enumerate(content.get("buffers", [])))
        return Gltf(name, content, buffers, resource)


def refusal(name: str, extension: str) -> FileFormatError:
    """One line for a file that needs an extension which is not understood."""
    remedy = _REMEDIES.get(extension, "export it again without it")
    return FileFormatError(f"{name}: needs the glTF extension {extension}, which is not supported here; {remedy}")


def draco_decoder() -> Any:
    """The module DracoPy; BackendError where it is missing."""
    try:
        import DracoPy
    except ImportError as error:
        raise BackendError(f"needs the glTF extension {DRACO}; {_REMEDIES[DRACO]}") from error
    return DracoPy


def data_uri(uri: str) -> bytes | None:
    """The content of a ``data:`` URI; None for any other."""
    if not uri.startswith("data:"):
        return None
    return base64.b64decode(uri.split(",", 1)[1])


def node_matrix(node: dict[str, Any]) -> Array:
    """[4, 4] of a node: its matrix (stored by columns), or translation · rotation · scale."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=float).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), dtype=float)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), dtype=float)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _chunks(content: bytes) -> tuple[dict[str, Any], bytes | None]:
    """(JSON, binary chunk or None) of .glb or .gltf bytes."""
    if content[:4] != b"glTF":
        return json.loads(content.decode("utf-8-sig")), None
    version, length = struct.unpack_from("<II", content, 4)
    if version != 2 or length > len(content):
        raise ValueError(f"a .glb of version {version} and {length} bytes, of which {len(content)} are there")
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<I4s", content, at)
        if at + 8 + size > length:
            raise ValueError("a chunk reaches beyond the file")
        found.setdefault(kind, content[at + 8 : at + 8 + size])
        at += 8 + size
    return json.loads(found[b"JSON"].decode("utf-8")), found.get(b"BIN\0")


def _buffer(entry: dict[str, Any], index: int, binary: bytes | None, resource: Callable[[str], bytes]) -> bytes | None:
    if "uri" not in entry:
        return binary if index == 0 else None
    inside = data_uri(entry["uri"])
    return resource(entry["uri"]) if inside is None else inside


def _count(entry: dict[str, Any]) -> int:
    count = entry["count"]
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"a count of {count}")
    return count
