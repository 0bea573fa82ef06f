"""One file of a user's folder as a mesh of the catalogue's kind: in the ball, colours at the corners, soft light baked in.

read       trimesh opens the file; every placed part of its scene becomes a soup of triangles with colours or texture coordinates
place      axes to ours (z up, front +x), centred, scaled so that the farthest corner lies at 0.9
colour     long edges are halved until a colour a corner can stand for the texture, which is first averaged to that spacing
thin out   above ``max_faces`` by quadric edge collapses (Garland & Heckbert 1997); colours come from the nearest old corner
light      parts whose faces look inwards are turned (their other side sees more sky), then lit as the catalogue is (``priors.nano.bake``)

glTF multiplies linear texture × factor × vertex colour; the other formats hold sRGB. Nothing in a file is executed or fetched:
files it refers to are read from the user's folder only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fsd_gs.catalogue.bake import RADIUS, lit_colors, openness
from fsd_gs.catalogue.mesh import Array, Mesh, Part, crease_normals, face_normals, fit_ball, split_long_edges
from fsd_gs.core.srgb import linear_from_srgb, srgb_from_linear
from fsd_gs.errors import BackendError, FileFormatError, InputError, unknown_name

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")
_GLTF = (".glb", ".gltf")
#: Which axis points up if nobody says: glTF and (by habit) OBJ have y up and look along +z, the others z up and look along +x.
UP = {".glb": "y", ".gltf": "y", ".obj": "y", ".ply": "z", ".stl": "z", ".off": "z"}
MAX_BYTES = 512 * 2**20
MAX_READ_FACES = 4_000_000  # with all copies of a scene's parts
DEFAULT_COLOR = (0.72, 0.72, 0.72)
TEXTURE_EDGE, PLAIN_EDGE = 0.06, 0.2  # longest edges with and without a texture; a pixel of a 64-pixel view is about 0.03
_MAX_NORMAL_PAIRS = 20_000_000


@dataclass(frozen=True)
class AssetSettings:
    """up: "y" (front +z), "z" (front +x) or "auto" by file type. lit: the colours already hold light and shadow, add none.
    max_faces: denser meshes are thinned out to about this many triangles."""

    up: str = "auto"
    lit: bool = False
    max_faces: int = 20_000

    def __post_init__(self) -> None:
        if self.up not in ("auto", "y", "z"):
            raise InputError(unknown_name("up", self.up, ("auto", "y", "z")))
        if self.max_faces < 100:
            raise InputError(f"max_faces: expected at least 100, got {self.max_faces}")


@dataclass(frozen=True)
class Soup:
    """Loose triangles: points [F, 3, 3] and sRGB colors [F, 3, 3] at their corners."""

    points: Array
    colors: Array


def load_asset(path: Path, root: Path, settings: AssetSettings) -> Mesh:
    """The file as a lit mesh in the ball of radius 0.9. root: the folder that textures and buffers may lie in.

    FileFormatError if it cannot be read or holds no surface; BackendError if it must be thinned out and fast-simplification is missing.
    """
    up = UP[path.suffix.lower()] if settings.up == "auto" else settings.up
    pieces = _read_pieces(path, root)
    corners = np.concatenate([np.asarray(piece.triangles, dtype=float).reshape(-1, 3) for piece in pieces])
    if not np.isfinite(corners).all():
        raise FileFormatError(f"{path.name}: holds positions that are not finite numbers")
    if up == "y":
        corners = corners[:, [2, 0, 1]]
    if not np.ptp(corners, axis=0).max() > 0:
        raise FileFormatError(f"{path.name}: all its faces lie in one point")
    corners = fit_ball(Part(corners, np.zeros((0, 3), dtype=int), np.zeros((0, 3))), RADIUS).vertices.reshape(-1, 3, 3)
    starts = np.cumsum([len(piece.faces) for piece in pieces])[:-1]
    gltf = path.suffix.lower() in _GLTF
    soups = [_colored(piece, p, gltf, settings.max_faces) for piece, p in zip(pieces, np.split(corners, starts), strict=True)]
    soup = Soup(np.concatenate([s.points for s in soups]), np.concatenate([s.colors for s in soups]))
    if len(soup.points) > settings.max_faces:
        soup = _thinned(soup, settings.max_faces, path.name)
    return _finished(soup, settings.lit, path.name)


def _read_pieces(path: Path, root: Path) -> list[Any]:
    """Every placed mesh of the file, in its own axes."""
    import trimesh

    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(f"{path.name}: expected at most {MAX_BYTES >> 20} MiB, got {path.stat().st_size >> 20} MiB")
    try:
        scene = trimesh.load_scene(path, resolver=_resolver(path, root), process=False)
        placed = [scene.graph[node] for node in scene.graph.nodes_geometry]
        chosen = [(m, scene.geometry[name]) for m, name in placed if len(getattr(scene.geometry[name], "faces", ()))]
        total = sum(len(geometry.faces) for _, geometry in chosen)
        fits = total <= MAX_READ_FACES
        pieces = [geometry.copy().apply_transform(matrix) for matrix, geometry in chosen] if fits else []
    except Exception as error:  # trimesh's readers fail with whatever the broken bytes lead to
        reason = (str(error).splitlines() or [""])[0][:120]
        raise FileFormatError(f"{path.name}: cannot be read as {path.suffix[1:]} ({type(error).__name__}: {reason})") from error
    if not fits:
        raise FileFormatError(f"{path.name}: expected at most {MAX_READ_FACES} faces, got {total}; decimate it first")
    if not total:
        raise FileFormatError(f"{path.name}: holds no faces (a point cloud or an empty file)")
    return pieces


def _resolver(path: Path, root: Path) -> Any:
    """Finds textures and buffers beside the file, but nothing outside ``root``, whatever the file says."""
    from trimesh.resolvers import FilePathResolver

    class InsideFolder(FilePathResolver):
        def get(self, name: str) -> bytes:
            for candidate in (path.parent / name.strip(), path.parent / Path(name.strip().replace("\\", "/")).name):
                wanted = candidate.resolve()
                if wanted.is_relative_to(root.resolve()) and wanted.is_file():
                    return wanted.read_bytes()
            raise FileNotFoundError(f"{name} is not inside {root}")

    return InsideFolder(str(path))


def _colored(piece: Any, points: Array, gltf: bool, max_faces: int) -> Soup:
    """The piece's triangles, placed at ``points`` [F, 3, 3], with a colour at each corner."""
    visual, faces = piece.visual, piece.faces
    material = getattr(visual, "material", None)
    texture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uv = getattr(visual, "uv", None)
    textured = texture is not None and uv is not None and len(uv) == len(piece.vertices)
    uv = np.nan_to_num(uv) if textured and uv is not None else np.zeros((len(piece.vertices), 0))
    base = _to_srgb(_base_colors(piece, material, textured), gltf)
    attributes = np.concatenate([points, base, uv[faces]], axis=2)
    attributes = _split(attributes, TEXTURE_EDGE if textured else PLAIN_EDGE, max_faces)
    points, colors = attributes[..., :3], attributes[..., 3:6]
    if textured:
        texels = _sampled(texture, points, attributes[..., 6:8])
        # Kd of an OBJ is left out under a texture: exporters write anything there.
        product = linear_from_srgb(texels[..., :3]) * linear_from_srgb(colors)
        colors = srgb_from_linear(product) if gltf else texels[..., :3]
        if getattr(material, "alphaMode", None) in ("MASK", "BLEND"):
            opaque = texels[..., 3].mean(1) >= 0.5
            points, colors = points[opaque], colors[opaque]
    return Soup(points, np.clip(colors, 0, 1))


def _base_colors(piece: Any, material: Any, textured: bool) -> Array:
    """[F, 3, 3] in [0, 1] as the file holds them: face or vertex colours, the material's colour, or both multiplied (glTF)."""
    faces, visual = piece.faces, piece.visual
    if visual.kind == "face":
        return np.repeat(visual.face_colors[:, None, :3] / 255.0, 3, axis=1)
    if visual.kind == "vertex":
        return visual.vertex_colors[faces][..., :3] / 255.0
    if material is None:
        return np.broadcast_to(np.array(DEFAULT_COLOR), (len(faces), 3, 3))
    factor = getattr(material, "baseColorFactor", None)
    if factor is None and hasattr(material, "diffuse"):
        factor = material.diffuse
    color = np.ones(3) if factor is None else _unit(factor)[:3]
    painted = visual.vertex_attributes.get("color") if hasattr(visual, "vertex_attributes") else None
    if painted is not None and len(painted) == len(piece.vertices):
        return color * _unit(painted)[faces][..., :3]
    plain = np.array(DEFAULT_COLOR) if factor is None and not textured else color
    return np.broadcast_to(plain, (len(faces), 3, 3))


def _unit(values: npt.ArrayLike) -> Array:
    """Integers of any width or floats → floats in [0, 1]."""
    array = np.asarray(values)
    return array / np.iinfo(array.dtype).max if np.issubdtype(array.dtype, np.integer) else np.clip(array, 0, 1)


def _to_srgb(values: Array, gltf: bool) -> Array:
    return srgb_from_linear(values) if gltf else values


def _split(attributes: Array, longest: float, max_faces: int) -> Array:
    """Halve edges of [F, 3, 3 + A] (positions first) above ``longest``, or above more where that would make far too many faces."""
    edges = np.linalg.norm(attributes[..., :3] - np.roll(attributes[..., :3], -1, axis=1), axis=2).max(1)
    while longest < 2 and np.maximum(1.0, (edges / longest) ** 2).sum() > max(4 * max_faces, 2 * len(edges)):
        longest *= 1.4
    # Loose triangles stay without cracks: both sides of an edge halve it at the same point.
    loose = Part(attributes.reshape(-1, attributes.shape[2]), np.arange(3 * len(attributes)).reshape(-1, 3), np.zeros((len(attributes), 1)))
    part = split_long_edges(loose, longest)
    return part.vertices[part.faces]


def _sampled(texture: Any, points: Array, uv: Array) -> Array:
    """[F, 3, 4] sRGB and alpha of the texture (a PIL image; repeats; v up), averaged over about an edge's length first."""
    from PIL import Image
    from scipy.ndimage import map_coordinates

    size = np.array(texture.size)
    lengths = np.linalg.norm((uv - np.roll(uv, -1, axis=1)) * size, axis=2)
    shrink = max(1.0, float(np.median(lengths)))
    small = texture.convert("RGBA").resize(tuple(int(n) for n in np.maximum(1, np.round(size / shrink))), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=float) / 255
    height, width = pixels.shape[:2]
    u, v = uv[..., 0] % 1, uv[..., 1] % 1
    where = np.stack([(1 - v) * height - 0.5, u * width - 0.5])  # texel centres lie at half numbers
    return np.stack([map_coordinates(pixels[..., c], where, order=1, mode="grid-wrap") for c in range(4)], axis=-1)


def _thinned(soup: Soup, max_faces: int, name: str) -> Soup:
    """About ``max_faces`` triangles of the same shape."""
    try:
        import fast_simplification
    except ImportError as error:
        raise BackendError(
            f"{name}: has {len(soup.points)} faces, more than max_faces={max_faces}; thinning out needs the package "
            "fast-simplification: pip install fast-simplification"
        ) from error
    from scipy.spatial import KDTree

    vertices, faces = _welded(soup.points)
    kept, triangles, *_ = fast_simplification.simplify(vertices.astype(np.float64), faces.astype(np.int32), target_count=max_faces)
    _, nearest = KDTree(soup.points.reshape(-1, 3)).query(kept)
    return Soup(kept[triangles].astype(float), soup.colors.reshape(-1, 3)[nearest][triangles])


def _welded(points: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """(vertices [P, 3], faces [F, 3]) of loose triangles; corners nearer than about 1e-5 become one."""
    vertices, index = np.unique(np.round(points.reshape(-1, 3), 5), axis=0, return_inverse=True)
    return vertices, index.reshape(-1, 3)


def _finished(soup: Soup, lit: bool, name: str) -> Mesh:
    """Weld, drop faces without area, turn parts outwards, bake the light."""
    vertices, faces = _welded(soup.points)
    solid = np.linalg.norm(face_normals(vertices, faces), axis=1) > 1e-12
    faces, colors = faces[solid], soup.colors[solid]
    if not len(faces):
        raise FileFormatError(f"{name}: none of its faces has an area")
    inward = _inward(vertices, faces)
    faces, colors = np.where(inward[:, None], faces[:, ::-1], faces), np.where(inward[:, None, None], colors[:, ::-1], colors)
    normals = _corner_normals(vertices, faces)
    key = np.c_[faces.reshape(-1), np.round(normals, 3), np.round(colors.reshape(-1, 3), 3)]
    _, first, index = np.unique(key, axis=0, return_index=True, return_inverse=True)
    points, albedo = vertices[faces.reshape(-1)[first]], colors.reshape(-1, 3)[first]
    shown = albedo if lit else lit_colors(vertices, faces, points, normals[first], albedo)
    return Mesh(points.astype(np.float32), index.reshape(-1, 3).astype(np.int32), shown.astype(np.float32))


def _inward(vertices: Array, faces: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """[F] whether a face belongs to a connected part whose back sees more of the sky than its front."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]]).T
    _, labels = connected_components(coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(vertices),) * 2), directed=False)
    part = labels[faces[:, 0]]
    weighted = face_normals(vertices, faces)
    area = np.linalg.norm(weighted, axis=1)
    unit, centres = weighted / area[:, None], vertices[faces].mean(1)
    gain = openness(vertices, faces, centres, -unit) - openness(vertices, faces, centres, unit)
    # A sheet is open on both sides: only a clear difference counts.
    return (np.bincount(part, gain * area) > 0.05 * np.bincount(part, area))[part]


def _corner_normals(vertices: Array, faces: npt.NDArray[np.integer]) -> Array:
    """[3 F, 3] unit normals, smooth within the crease angle; flat where thousands of faces share a corner, which would not fit memory."""
    valence = np.bincount(faces.reshape(-1)).astype(float)
    if (valence**2).sum() <= _MAX_NORMAL_PAIRS:
        return crease_normals(vertices, faces).reshape(-1, 3)
    weighted = face_normals(vertices, faces)
    return np.repeat(weighted / np.linalg.norm(weighted, axis=1, keepdims=True), 3, axis=0)
