"""The surfaces of a glTF file: material × texture × COLOR_0, texture transforms, placed nodes, Draco.

    baseColor   baseColorFactor × COLOR_0 × baseColorTexture, all but the texture linear             (specification, 3.9.2)
    uv          KHR_texture_transform: uv' = T(offset) · R(rotation) · S(scale) · uv, its texCoord counts before the texture's
    modes       4 triangles, 5 strip, 6 fan; points and lines hold no surface                         (3.7.2.1)

A primitive that compresses itself with an extension is read if the extension's decoder is there, whatever ``extensionsRequired`` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from fsd_gs.core.srgb import linear_from_srgb
from fsd_gs.errors import BackendError, FileFormatError
from fsd_gs.meshes.gltf import DRACO, Array, Gltf, data_uri, draco_decoder, open_gltf, refusal
from fsd_gs.meshes.surface import GREY, Surface, Texture, Wrap, unit

#: Extensions that are honoured, or that change nothing of what is read here (light, shine, metadata).
UNDERSTOOD = frozenset(
    {
        DRACO,
        "KHR_mesh_quantization",
        "KHR_texture_transform",
        "KHR_materials_unlit",
        "KHR_materials_pbrSpecularGlossiness",
        "EXT_texture_webp",
        *(f"KHR_materials_{name}" for name in ("anisotropy", "clearcoat", "dispersion", "emissive_strength", "ior", "iridescence")),
        *(f"KHR_materials_{name}" for name in ("sheen", "specular", "transmission", "volume", "variants", "diffuse_transmission")),
        *("KHR_lights_punctual", "KHR_xmp", "KHR_xmp_json_ld", "KHR_animation_pointer", "KHR_node_visibility", "EXT_lights_image_based"),
    }
)
_WRAPS: dict[int, Wrap] = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_COLORS_OF_NOTHING = float(linear_from_srgb(np.array(GREY)))


def read_gltf(path: Path, resource: Callable[[str], bytes]) -> Iterator[Surface]:
    """Every placed primitive with triangles of a .gltf or .glb, in glTF's axes."""
    gltf = open_gltf(path, resource, UNDERSTOOD)
    textures: dict[int, Texture] = {}
    with gltf.guard():
        for mesh, matrix in gltf.placed_meshes():
            for primitive in mesh.get("primitives", []):
                if primitive.get("mode", _TRIANGLES) in (_TRIANGLES, _STRIP, _FAN):
                    surface = _surface(gltf, primitive, matrix, textures)
                    if len(surface.corners):
                        yield surface


def _surface(gltf: Gltf, primitive: dict[str, Any], matrix: Array, textures: dict[int, Texture]) -> Surface:
    attribute, faces = _draco(gltf, primitive) if DRACO in primitive.get("extensions", {}) else _plain(gltf, primitive)
    positions = attribute("POSITION")
    if positions is None or not len(positions):
        return Surface(np.zeros((0, 3, 3)), np.zeros((0, 3, 4)))
    if faces.size and faces.max() >= len(positions):
        raise ValueError(f"a face asks for vertex {faces.max()} of {len(positions)}")
    world = positions.astype(float) @ matrix[:3, :3].T + matrix[:3, 3]
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]  # a mirror turns the faces inside out (3.7.4)
    painted = attribute("COLOR_0")
    material = gltf.json["materials"][primitive["material"]] if "material" in primitive else None
    tint = np.ones((len(positions), 4))
    if painted is not None and len(painted) == len(positions):
        tint[:, : painted.shape[1]] = unit(painted)
    elif material is None:
        tint[:, :3] = _COLORS_OF_NOTHING
    factor, info, cutoff = _base(material or {})
    tint = tint * factor
    texture, uv = _texture(gltf, info, attribute, textures) if info else (None, None)
    if uv is not None and len(uv) != len(positions):
        texture = uv = None
    return Surface(world[faces], tint[faces], None if uv is None else uv[faces], texture, linear=True, cutoff=cutoff)


def _plain(gltf: Gltf, primitive: dict[str, Any]) -> tuple[Callable[[str], Array | None], Array]:
    """(attribute by name, faces [F, 3]) of a primitive that is not compressed."""
    indices = primitive["attributes"]

    def attribute(name: str) -> Array | None:
        return gltf.accessor(indices[name]) if name in indices else None

    positions = attribute("POSITION")
    count = 0 if positions is None else len(positions)
    order = gltf.accessor(primitive["indices"], normalize=False)[:, 0].astype(np.int64) if "indices" in primitive else np.arange(count)
    mode = primitive.get("mode", _TRIANGLES)
    if mode == _STRIP:
        faces = np.stack([order[:-2], order[1:-1], order[2:]], axis=1)
        faces[1::2] = faces[1::2][:, [1, 0, 2]]
    elif mode == _FAN:
        faces = np.stack([np.full(max(len(order) - 2, 0), order[0] if len(order) else 0), order[1:-1], order[2:]], axis=1)
    else:
        faces = order[: len(order) // 3 * 3].reshape(-1, 3)
    return attribute, faces


def _draco(gltf: Gltf, primitive: dict[str, Any]) -> tuple[Callable[[str], Array | None], Array]:
    """The same out of a KHR_draco_mesh_compression bufferView."""
    extension = primitive["extensions"][DRACO]
    try:
        mesh = draco_decoder().decode(gltf.view_bytes(extension["bufferView"]))
    except BackendError as error:
        raise FileFormatError(f"{gltf.name}: {error}") from error
    identities = extension["attributes"]

    def attribute(name: str) -> Array | None:
        if name not in identities:
            return None
        values = np.asarray(mesh.get_attribute_by_unique_id(identities[name])["data"])
        entry = gltf.json["accessors"][primitive["attributes"][name]]
        return unit(values) if entry.get("normalized") and values.dtype.kind == "u" else values

    return attribute, np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)


def _base(material: dict[str, Any]) -> tuple[Array, dict[str, Any] | None, float | None]:
    """(linear RGBA factor [4], textureInfo or None, opacity cut-off or None) of a material."""
    rough = material.get("pbrMetallicRoughness", {})
    factor, info = rough.get("baseColorFactor", (1, 1, 1, 1)), rough.get("baseColorTexture")
    glossy = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
    if glossy is not None:
        factor, info = glossy.get("diffuseFactor", (1, 1, 1, 1)), glossy.get("diffuseTexture")
    mode = material.get("alphaMode", "OPAQUE")
    cutoff = {"MASK": float(material.get("alphaCutoff", 0.5)), "BLEND": 0.5}.get(mode)
    values = np.asarray(factor, dtype=float)
    if values.shape != (4,):
        raise ValueError(f"a colour factor of {values.size} numbers")
    return np.clip(values, 0, 1), info, cutoff


def _texture(
    gltf: Gltf, info: dict[str, Any], attribute: Callable[[str], Array | None], textures: dict[int, Texture]
) -> tuple[Texture | None, Array | None]:
    """The picture and the coordinates [P, 2] on it, transformed; (None, None) where there are no coordinates."""
    transform = info.get("extensions", {}).get("KHR_texture_transform", {})
    uv = attribute(f"TEXCOORD_{transform.get('texCoord', info.get('texCoord', 0))}")
    if uv is None:
        return None, None
    index = info["index"]
    if index not in textures:
        textures[index] = _open_texture(gltf, gltf.json["textures"][index])
    placed = _transformed(np.nan_to_num(uv.astype(float)), transform)
    return textures[index].around(placed), placed


def _transformed(uv: Array, transform: dict[str, Any]) -> Array:
    if not transform:
        return uv
    angle = float(transform.get("rotation", 0.0))
    cosine, sine = math.cos(angle), math.sin(angle)
    scaled = uv * np.array(transform.get("scale", (1, 1)), dtype=float)
    # The extension's matrix, counter-clockwise with v downwards: u' = c u + s v, v' = −s u + c v.
    turned = np.stack([cosine * scaled[:, 0] + sine * scaled[:, 1], -sine * scaled[:, 0] + cosine * scaled[:, 1]], axis=1)
    return turned + np.array(transform.get("offset", (0, 0)), dtype=float)


def _open_texture(gltf: Gltf, entry: dict[str, Any]) -> Texture:
    from PIL import Image

    source = entry.get("extensions", {}).get("EXT_texture_webp", {}).get("source", entry.get("source"))
    if source is None:
        used = next(iter(entry.get("extensions", {})), "a texture without a picture")
        raise refusal(gltf.name, used)
    image = gltf.json["images"][source]
    if "bufferView" in image:
        content = gltf.view_bytes(image["bufferView"])
    else:
        content = data_uri(image["uri"]) or gltf.resource(unquote(image["uri"]))
    sampler = gltf.json["samplers"][entry["sampler"]] if "sampler" in entry else {}
    u: Wrap = _WRAPS.get(int(sampler.get("wrapS", 0)), "repeat")
    v: Wrap = _WRAPS.get(int(sampler.get("wrapT", 0)), "repeat")
    try:
        texture = Texture(Image.open(BytesIO(content)), (u, v))  # its size is looked at before it is unpacked
        texture.image.load()
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    return texture
