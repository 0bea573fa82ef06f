"""A texture for a mesh made from splats: unwrapped with xatlas, every texel coloured from the rendered views.

unwrap     charts and their packing by xatlas (MIT); a vertex on a seam becomes one vertex a chart
rasterise  each triangle covers texels of the atlas; a texel's centre gives a point on the surface by its barycentric coordinates
colour     of that point as the views see it, like a vertex colour (``mesh.colours_of``), but at the texture's resolution
margin     charts keep a distance, and texels outside of all take the nearest one's colour, so that filtering and mip levels do not bleed
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from fsd_gs.core.types import Cameras, Render
from fsd_gs.errors import BackendError
from fsd_gs.export.mesh_colours import vertex_colours

MARGIN = 4  # texels between charts: up to the third mip level each keeps its own colours


def textured(mesh: Any, size: int, renders: list[Render], cameras: Cameras, tolerance: float) -> Any:
    """``mesh`` (trimesh, in the frame of ``renders``) with a baked texture instead of vertex colours.

    Args:
        mesh: the surface.
        size: side of the texture in texels.
        renders: views with depth, one a camera, on black.
        cameras: of the views.
        tolerance: depth within which a view counts as seeing a point.

    Raises:
        BackendError: xatlas is missing.
    """
    import trimesh
    from PIL import Image
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    try:
        import xatlas
    except ImportError as error:
        raise BackendError("a texture needs the package xatlas; pip install xatlas, or export vertex colours (--texture 0)") from error
    normals = np.asarray(mesh.vertex_normals)
    atlas, packing = xatlas.Atlas(), xatlas.PackOptions()
    atlas.add_mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32))
    packing.resolution, packing.padding = size, MARGIN
    atlas.generate(pack_options=packing)
    origin, faces, uv = atlas[0]
    vertices = np.asarray(mesh.vertices)[origin]
    points, covered = surface_points(vertices, faces.astype(np.int64), uv.astype(np.float64), size)
    colours = _coloured(points, renders, cameras, tolerance)
    picture = np.zeros((size, size, 3), np.uint8)
    picture[covered] = (colours.clip(0, 1) * 255).round().astype(np.uint8)
    nearest = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    assert nearest is not None
    picture = picture[nearest[0], nearest[1]]
    material = PBRMaterial(baseColorTexture=Image.fromarray(picture), metallicFactor=0.0, roughnessFactor=0.9)
    visual = TextureVisuals(uv=uv, material=material)
    return trimesh.Trimesh(vertices, faces, vertex_normals=normals[origin], visual=visual, process=False)


def _coloured(points: NDArray[np.float64], renders: list[Render], cameras: Cameras, tolerance: float) -> NDArray[np.float32]:
    chunk = 1 << 17
    pieces = [torch.from_numpy(points[i : i + chunk]).to(cameras.viewmats) for i in range(0, len(points), chunk)]
    parts = [vertex_colours(piece, renders, cameras, tolerance) for piece in pieces]
    return torch.cat(parts).cpu().numpy() if parts else np.zeros((0, 3), np.float32)


def surface_points(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], uv: NDArray[np.floating], size: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(points [P, 3] on the surface, covered [size, size]): one point for each covered texel, row by row; row 0 is v = 1."""
    from fsd_gs.export._texels import rasterise

    face, weights = rasterise(np.ascontiguousarray(faces, np.int64), np.ascontiguousarray(uv, np.float64), size)
    covered = face >= 0
    corners = vertices[faces[face[covered]]]
    return np.einsum("pk,pkc->pc", weights[covered], corners), covered
