"""One mesh file → its surfaces. glTF is read here (``gltf_surfaces``); OBJ, PLY, STL and OFF through trimesh.

Nothing in a file is executed or fetched; files it refers to are read from ``root`` only, whatever the file says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsd_gs.core.file_axes import FRAMES, MESH_AXES
from fsd_gs.errors import FileFormatError, FsdGsError
from fsd_gs.meshes.gltf_surfaces import read_gltf
from fsd_gs.meshes.surface import GREY, Array, Surface, Texture, unit

SUFFIXES = tuple(MESH_AXES)
MAX_BYTES = 512 * 2**20
MAX_FACES = 4_000_000  # with all copies of a scene's parts


@dataclass(frozen=True)
class Cloud:
    """Points [P, 3] without faces, and sRGB colours [P, 3]."""

    points: Array
    colors: Array


def up_of(path: Path, up: str = "auto") -> str:
    """ "y" or "z": which axis of the file points up; "auto" by its suffix (``core.file_axes``)."""
    return FRAMES[MESH_AXES[path.suffix.lower()].frame].up[1] if up == "auto" else up


def to_world(points: Array, up: str) -> Array:
    """Points [..., 3] of a file in our world (z up, front +x): a y-up file looks along +z, a z-up file along +x as we do."""
    return points[..., [2, 0, 1]] if up == "y" else points


def read_surfaces(path: Path, root: Path | None = None, *, max_faces: int = MAX_FACES, max_bytes: int = MAX_BYTES) -> list[Surface]:
    """Every placed surface of a mesh file, in the file's own axes.

    Args:
        path: .glb, .gltf, .obj, .ply, .stl or .off.
        root: the folder that textures and buffers may lie in; the file's own if None.
        max_faces: more are refused.
        max_bytes: a larger file is refused before it is read.

    Raises:
        FileFormatError: the file cannot be read, needs an extension that is not supported, or holds no faces.
    """
    surfaces, _ = _read(path, path.parent if root is None else root, max_faces, max_bytes)
    if not surfaces:
        raise FileFormatError(f"{path.name}: holds no faces (a point cloud or an empty file)")
    return surfaces


def read_surfaces_or_cloud(path: Path) -> tuple[list[Surface], Cloud | None]:
    """(surfaces, None), or ([], points) of a file that holds points only. Raises FileFormatError as :func:`read_surfaces`."""
    surfaces, cloud = _read(path, path.parent, MAX_FACES, MAX_BYTES)
    return (surfaces, None) if surfaces or cloud is None else ([], cloud)


def _read(path: Path, root: Path, max_faces: int, max_bytes: int) -> tuple[list[Surface], Cloud | None]:
    size = path.stat().st_size
    if size > max_bytes:
        raise FileFormatError(f"{path.name}: expected at most {max_bytes >> 20} MiB, got {size >> 20} MiB; decimate it first")
    resource = resource_reader(path, root)
    cloud: Cloud | None = None
    if path.suffix.lower() in (".glb", ".gltf"):
        surfaces, total = [], 0
        for surface in read_gltf(path, resource):
            total += len(surface.corners)
            if total > max_faces:
                raise FileFormatError(f"{path.name}: expected at most {max_faces} faces, got {total} and more; decimate it first")
            surfaces.append(surface)
    else:
        surfaces, cloud = _read_with_trimesh(path, root, resource, max_faces)
    if not all(np.isfinite(s.corners).all() for s in surfaces):
        raise FileFormatError(f"{path.name}: holds positions that are not finite numbers; export it again")
    return surfaces, cloud


def resource_reader(path: Path, root: Path) -> Callable[[str], bytes]:
    """A reader of files beside ``path``, but of nothing outside ``root``."""

    def read(name: str) -> bytes:
        cleaned = name.strip().replace("\\", "/")
        for candidate in (path.parent / cleaned, path.parent / Path(cleaned).name):
            wanted = candidate.resolve()
            if wanted.is_relative_to(root.resolve()) and wanted.is_file():
                return wanted.read_bytes()
        raise FileNotFoundError(f"{name} is not inside {root}")

    return read


def _read_with_trimesh(path: Path, root: Path, resource: Callable[[str], bytes], max_faces: int) -> tuple[list[Surface], Cloud | None]:
    import trimesh
    from trimesh.resolvers import FilePathResolver

    class InsideFolder(FilePathResolver):
        def get(self, name: str) -> bytes:
            return resource(name)

    try:
        scene = trimesh.load_scene(path, resolver=InsideFolder(str(path)), process=False)
        placed = [(scene.geometry[name], matrix) for matrix, name in (scene.graph[node] for node in scene.graph.nodes_geometry)]
        total = sum(len(getattr(g, "faces", ())) for g, _ in placed)
        if total > max_faces:
            raise FileFormatError(f"{path.name}: expected at most {max_faces} faces, got {total}; decimate it first")
        surfaces = [_from_trimesh(g.copy().apply_transform(matrix)) for g, matrix in placed if len(getattr(g, "faces", ()))]
        points = [g for g, _ in placed if isinstance(g, trimesh.PointCloud) and len(g.vertices)]
        cloud = None if surfaces or not points else _cloud(points)
    except FsdGsError:
        raise
    except Exception as error:  # trimesh's readers fail with whatever the broken bytes lead to
        reason = (str(error).splitlines() or [""])[0][:120]
        raise FileFormatError(f"{path.name}: cannot be read as {path.suffix[1:].lower()} ({type(error).__name__}: {reason})") from error
    return surfaces, cloud


def _cloud(clouds: list[Any]) -> Cloud:
    vertices = np.concatenate([np.asarray(c.vertices, dtype=np.float64) for c in clouds])
    colors = np.concatenate([unit(c.colors)[:, :3] if len(c.colors) else np.full((len(c.vertices), 3), 0.5) for c in clouds])
    if vertices.shape != (len(colors), 3) or colors.shape[1] != 3:
        raise ValueError(f"points of shape {list(vertices.shape)} with colours of shape {list(colors.shape)}")
    return Cloud(vertices, colors)


def _from_trimesh(mesh: Any) -> Surface:
    faces, visual = np.asarray(mesh.faces), mesh.visual
    corners = np.asarray(mesh.vertices, dtype=float)[faces]
    material = getattr(visual, "material", None)
    image, uv = getattr(material, "image", None), getattr(visual, "uv", None)
    textured = image is not None and uv is not None and len(uv) == len(mesh.vertices)
    tint = np.ones((len(faces), 3, 4))
    tint[..., :3] = _tint(visual, material, faces, len(mesh.vertices), textured)
    if not textured:
        return Surface(corners, tint)
    flipped = np.nan_to_num(np.asarray(uv, dtype=float)) * (1, -1) + (0, 1)  # trimesh: v upwards
    return Surface(corners, tint, flipped[faces], Texture(image).around(flipped))


def _tint(visual: Any, material: Any, faces: Array, vertices: int, textured: bool) -> Array:
    """[F, 3, 3] sRGB: face or vertex colours, else the material's, else grey."""
    if visual.kind == "face":
        return np.repeat(unit(visual.face_colors)[:, None, :3], 3, axis=1)
    if visual.kind == "vertex":
        return unit(visual.vertex_colors)[faces][..., :3]
    painted = visual.vertex_attributes.get("color") if hasattr(visual, "vertex_attributes") else None
    if painted is not None and len(painted) == vertices and not textured:
        return unit(painted)[faces][..., :3]
    diffuse = getattr(material, "diffuse", None)
    plain = np.ones(3) if textured else np.full(3, GREY) if diffuse is None else unit(diffuse)[:3]
    return np.broadcast_to(plain, (len(faces), 3, 3))
