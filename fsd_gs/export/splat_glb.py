"""glTF 2.0 with KHR_gaussian_splatting (Khronos): splats as a primitive of points, in one .glb.

The extension's README, by its sections (text of 15 April 2026, "Release Candidate", as Khronos' repository has it on 17 July 2026):

    Extending Mesh Primitives   an object with ``kernel`` and ``colorSpace``; mode POINTS; the name in ``extensionsUsed``
    Ellipse Kernel              POSITION the mean; ``KHR_gaussian_splatting:ROTATION`` a unit quaternion x y z w; ``:SCALE`` "Scale values
                                are linear and MUST NOT be negative" (earlier drafts stored logarithms); ``:OPACITY`` in [0, 1]
    Spherical Harmonics         ``:SH_DEGREE_l_COEF_n`` float VEC3, l = 0 … 3, n = 0 … 2 l: our coefficients in our order and signs;
                                colour = 0.5 + Σ f Y, a degree is there as a whole or not at all
    Color Space                 ``srgb_rec709_display``: colours are display-referred sRGB and are blended as they are, as 3DGS does;
                                ``lin_rec709_display`` is read, and converted
    Fallback                    COLOR_0: 0.5 + C0 f_dc, clamped, decoded from sRGB to linear; alpha the opacity. A viewer that does not know
                                the extension shows coloured points

Axes are glTF's: y up, the front along +z. Quantised ROTATION, SCALE and OPACITY of other writers are read; nodes may turn, move and scale
evenly.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fsd_gs.core.sh import C0
from fsd_gs.core.srgb import linear_from_srgb, srgb_from_linear
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export.axes import place
from fsd_gs.export.gate import MAX_SPLATS, check_count, describe, read_start, readable
from fsd_gs.export.provenance import Provenance
from fsd_gs.export.quantise import finite_splats, require_splats
from fsd_gs.export.stored import assemble, pad_sh
from fsd_gs.io import write_bytes
from fsd_gs.meshes.gltf import Gltf, open_gltf, refusal
from fsd_gs.meshes.gltf_surfaces import UNDERSTOOD
from fsd_gs.meshes.read import resource_reader

EXTENSION = "KHR_gaussian_splatting"
_SRGB, _LINEAR = "srgb_rec709_display", "lin_rec709_display"
_STEP = 1e-3  # of linear light, for a slope
_FLOAT, _USHORT, _ARRAY_BUFFER, _POINTS = 5126, 5123, 34962, 0
_KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def save_splat_glb(
    gaussians: Gaussians, path: str | os.PathLike[str], *, provenance: Provenance | None = None, strict: bool = False
) -> None:
    """Write ``gaussians``, in glTF's axes, as one .glb.

    Args:
        gaussians: splats, as they shall stand in the file.
        path: the file.
        provenance: for ``asset.extras``.
        strict: refuse splats that are not finite instead of dropping them with a warning.
    """
    require_splats(gaussians, path)
    attributes = _attributes(finite_splats(gaussians, path, strict))
    binary, views, accessors = b"", [], []
    for name, values in attributes.items():
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": values.nbytes, "target": _ARRAY_BUFFER})
        accessors.append(_accessor(name, values, len(views) - 1))
        binary += values.tobytes() + b"\0" * (-values.nbytes % 4)
    extension = {"kernel": "ellipse", "colorSpace": _SRGB, "sortingMethod": "cameraDistance", "projection": "perspective"}
    primitive = {"attributes": {name: i for i, name in enumerate(attributes)}, "mode": _POINTS, "extensions": {EXTENSION: extension}}
    content = {
        "asset": {"version": "2.0"} | (provenance or Provenance()).asset(),
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "splats"}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    write_bytes(path, glb_bytes(content, binary))


def glb_bytes(content: dict[str, Any], binary: bytes) -> bytes:
    """The container: header, JSON chunk padded with spaces, binary chunk padded with zeros (glTF 2.0, 4.4)."""
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _attributes(gaussians: Gaussians) -> dict[str, NDArray[Any]]:
    g = gaussians.detach().to("cpu", torch.float32)
    diffuse = linear_from_srgb(np.clip(0.5 + C0 * g.sh[:, 0].double().numpy(), 0, 1))
    color = np.concatenate([diffuse, g.opacities.double().numpy()[:, None].clip(0, 1)], axis=1)
    attributes: dict[str, NDArray[Any]] = {
        "POSITION": g.means.numpy().astype("<f4"),
        "COLOR_0": np.rint(color * 65535).astype("<u2"),
        f"{EXTENSION}:ROTATION": g.quats[:, [1, 2, 3, 0]].numpy().astype("<f4"),
        f"{EXTENSION}:SCALE": g.scales.numpy().astype("<f4"),
        f"{EXTENSION}:OPACITY": g.opacities[:, None].clamp(0, 1).numpy().astype("<f4"),
    }
    for name, index in _coefficients(g.sh_degree):
        attributes[name] = np.ascontiguousarray(g.sh[:, index].numpy().astype("<f4"))
    return attributes


def _coefficients(degree: int) -> list[tuple[str, int]]:
    """(attribute, index of the coefficient) up to ``degree``."""
    return [(f"{EXTENSION}:SH_DEGREE_{band}_COEF_{n}", band * band + n) for band in range(degree + 1) for n in range(2 * band + 1)]


def _accessor(name: str, values: NDArray[Any], view: int) -> dict[str, Any]:
    integer = values.dtype.kind == "u"
    entry = {"bufferView": view, "componentType": _USHORT if integer else _FLOAT, "count": len(values), "type": _KINDS[values.shape[1]]}
    if integer:
        entry["normalized"] = True
    if name == "POSITION":  # the only one whose bounds are required (3.7.2.1)
        entry |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
    return entry


def load_splat_glb(path: str | os.PathLike[str], *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read the splats of a .glb or .gltf, in glTF's axes: float32, CPU.

    Raises FileFormatError for a file that is damaged, holds no splats (a mesh), or more than ``max_splats``.
    """
    path = Path(path)
    start = read_start(path)
    if not start.startswith(b"glTF") and start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        raise FileFormatError(f"{path}: not a glTF file" + (f": this is {kind}" if (kind := describe(start)) else ""))
    with readable(path):
        gltf = open_gltf(path, resource_reader(path, path.parent), UNDERSTOOD | {EXTENSION}, name=str(path))
    with gltf.guard():
        found = [
            (primitive, matrix)
            for mesh, matrix in gltf.placed_meshes()
            for primitive in mesh.get("primitives", [])
            if EXTENSION in primitive.get("extensions", {})
        ]
        if not found:
            raise FileFormatError(f"{path}: holds no splats ({EXTENSION}); as a mesh it can start a run: splats.init={path.name}")
        check_count(path, sum(int(gltf.json["accessors"][p["attributes"]["POSITION"]]["count"]) for p, _ in found), max_splats)
        parts = [place(_read_primitive(gltf, primitive, path), matrix, str(path)) for primitive, matrix in found]
    degree = max(part.sh_degree for part in parts)
    parts = [pad_sh(part, degree) for part in parts]
    return Gaussians(*(torch.cat([getattr(p, name) for p in parts]) for name in ("means", "quats", "scales", "opacities", "sh")))


def _read_primitive(gltf: Gltf, primitive: dict[str, Any], path: Path) -> Gaussians:
    extension, indices = primitive["extensions"][EXTENSION], primitive["attributes"]
    if extension.get("extensions"):
        raise refusal(str(path), next(iter(extension["extensions"])))
    if extension.get("kernel", "ellipse") != "ellipse":
        raise FileFormatError(f"{path}: kernel '{extension['kernel']}' is not known; expected 'ellipse': export it again")
    degree = 0
    while degree < 3 and f"{EXTENSION}:SH_DEGREE_{degree + 1}_COEF_0" in indices:
        degree += 1
    wanted = ["POSITION", *(f"{EXTENSION}:{name}" for name in ("ROTATION", "SCALE", "OPACITY")), *(n for n, _ in _coefficients(degree))]
    missing = [name for name in wanted if name not in indices]
    if missing:
        raise FileFormatError(f"{path}: the primitive lacks {', '.join(missing)}; export it again")
    columns = [gltf.accessor(indices[name]).astype(np.float32) for name in wanted]
    sizes = [(len(c), c.shape[1]) for c in columns]
    expected = [(len(columns[0]), width) for width in (3, 4, 3, 1, *[3] * (len(columns) - 4))]
    if sizes != expected:
        name, got = next((n, s) for n, s, e in zip(wanted, sizes, expected, strict=True) if s != e)
        raise FileFormatError(f"{path}: {name} has {got[0]} rows of {got[1]} numbers, which does not fit POSITION; export it again")
    means, quats, scales, opacities, *coefficients = columns
    sh = _to_srgb(np.stack(coefficients, axis=1), extension.get("colorSpace", _SRGB), path)
    return assemble(means, quats[:, [3, 0, 1, 2]], scales, opacities[:, 0].clip(0, 1), sh, source=str(path))


def _to_srgb(sh: NDArray[np.float32], space: str, path: Path) -> NDArray[np.float32]:
    """SH [N, K, 3] of ``space`` as SH of sRGB colours: exact without view dependence, which is taken along to first order."""
    if space == _SRGB:
        return sh
    if space != _LINEAR:
        raise FileFormatError(f"{path}: colorSpace '{space}' is not known; expected '{_SRGB}' or '{_LINEAR}': export it again")
    warnings.warn(f"{path}: its splats blend in linear light, ours in sRGB; where they overlap colours may differ", stacklevel=2)
    base = 0.5 + C0 * sh[:, :1].astype(float)
    slope = (srgb_from_linear(base + _STEP) - srgb_from_linear(base - _STEP)) / (2 * _STEP)
    return np.concatenate([(srgb_from_linear(base) - 0.5) / C0, slope * sh[:, 1:]], axis=1).astype(np.float32)
