"""Splats → triangle mesh: TSDF fusion of rendered depth (Curless & Levoy 1996), then marching cubes.

Every voxel x is projected into views all around. Where a view sees the surface at depth D(u), its signed distance is D(u) − z(x), cut to
±τ; where the view's ray misses the object, x is empty (+τ). Voxels more than τ behind a surface learn nothing from that view. The
average over the views is the field, its zero the surface. A voxel no view can see counts as inside and the border as outside, so that
the surface closes: the mesh is watertight.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.cameras import distance_for_radius, orbit_cameras
from fsd_gs.core.file_axes import MESH_AXES
from fsd_gs.core.srgb import linear_from_srgb
from fsd_gs.core.types import Cameras, Gaussians, Render
from fsd_gs.errors import BackendError, InputError
from fsd_gs.export.axes import file_from_world
from fsd_gs.export.framing import framed
from fsd_gs.export.mesh_colours import vertex_colours
from fsd_gs.export.mesh_texture import textured
from fsd_gs.export.pictures import Progress, SplatRasterizer, save_png
from fsd_gs.export.provenance import Provenance
from fsd_gs.io import write_bytes, write_text


@dataclass
class MeshSettings:
    """What a mesh is made with.

    Args:
        resolution: voxels along the longest side of the object's box.
        image_size: pixels a side of the fused views.
        max_faces: decimate to about this many triangles (None: leave them).
        truncation: τ in voxels.
        min_alpha: below it a ray counts as a miss.
        min_share: pieces with a smaller share of the surface are dropped, and said.
        texture: side of a baked texture in texels; 0 gives vertex colours.
    """

    resolution: int = 128
    image_size: int = 256
    max_faces: int | None = 10_000
    truncation: float = 4.0
    min_alpha: float = 0.5
    min_share: float = 0.01
    texture: int = 0

    def __post_init__(self) -> None:
        if not 8 <= self.resolution <= 512:
            raise InputError(f"mesh resolution: expected 8 to 512 voxels, got {self.resolution}")
        if self.max_faces is not None and self.max_faces < 4:
            raise InputError(f"mesh max_faces: expected at least 4, got {self.max_faces}")
        if not 0 <= self.min_share < 1:
            raise InputError(f"mesh min_share: expected a share of the surface in [0, 1), got {self.min_share:g}")
        if self.texture and not 16 <= self.texture <= 8192:
            raise InputError(f"mesh texture: expected 0 (vertex colours) or 16 to 8192 texels, got {self.texture}")


@dataclass(frozen=True)
class Grid:
    """Voxel centres low + spacing · (i, j, k)."""

    low: Tensor
    spacing: float
    shape: tuple[int, int, int]


def extract_mesh(
    gaussians: Gaussians, rasterizer: SplatRasterizer, settings: MeshSettings | None = None, progress: Progress | None = None
) -> Any:
    """A ``trimesh.Trimesh`` in the coordinates of ``gaussians`` with sRGB vertex colours, or a texture. progress(done, total) counts views.

    Raises InputError where no surface of opacity ``min_alpha`` is seen. Pieces that are dropped are said in a warning.
    """
    import trimesh
    from skimage.measure import marching_cubes

    settings = settings or MeshSettings()
    if not len(gaussians):
        raise InputError("mesh: there are no splats; loosen the filters")
    frame = framed(gaussians.detach())
    cameras = fusion_cameras(settings.image_size, device=gaussians.means.device)
    grid = _grid(frame.gaussians, settings.resolution)
    renders = _render_views(frame.gaussians, cameras, rasterizer, progress)
    field = fuse(renders, cameras, grid, settings)
    if not (field.min() < 0 < field.max()):
        raise InputError(f"mesh: no surface of opacity {settings.min_alpha:g} is seen; lower --min-opacity or check the splats")
    vertices, faces, _, _ = marching_cubes(field.numpy(), 0.0)
    world = vertices * grid.spacing + grid.low.cpu().numpy()
    mesh = trimesh.Trimesh(world, faces, process=True)
    mesh = _tidy(mesh, settings)
    tolerance = grid.spacing * settings.truncation
    if settings.texture:
        # A texture holds more than the views that the shape came from: twice their resolution.
        sharper = fusion_cameras(2 * settings.image_size, device=gaussians.means.device)
        mesh = textured(mesh, settings.texture, _render_views(frame.gaussians, sharper, rasterizer, None), sharper, tolerance)
    else:
        colours = vertex_colours(torch.from_numpy(np.asarray(mesh.vertices)).to(grid.low), renders, cameras, tolerance)
        mesh.visual.vertex_colors = (colours.clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
    mesh.apply_scale(1 / frame.scale)
    mesh.apply_translation(frame.centre.cpu().numpy())
    return mesh


def save_mesh(mesh: Any, path: str | os.PathLike[str], *, file_type: str, provenance: Provenance | None = None) -> None:
    """Write "glb" or "obj" with y up (glTF's axes; the front looks along +z), as importers of both expect, or "ply" with z up."""
    if file_type not in ("glb", "obj", "ply"):
        raise InputError(f"file_type: expected glb, obj or ply, got {file_type!r}")
    provenance = provenance or Provenance()
    turned = mesh.copy()
    matrix = np.eye(4)
    matrix[:3, :3] = file_from_world(MESH_AXES[f".{file_type}"].frame).numpy()
    turned.apply_transform(matrix)
    if file_type == "glb":
        write_bytes(path, _glb(turned, provenance))
    elif file_type == "obj":
        _write_obj(turned, Path(path), provenance)
    else:
        turned.metadata.clear()
        content = turned.export(file_type="ply", vertex_normal=True)
        write_bytes(path, with_comments(content, provenance.comments()))


def _glb(mesh: Any, provenance: Provenance) -> bytes:
    """glTF wants linear vertex colours and, to look as the splats do, a material that is neither metal nor shiny."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    painted = mesh
    if mesh.visual.kind != "texture":
        srgb = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
        rgba = np.concatenate([linear_from_srgb(srgb), np.ones((len(srgb), 1))], axis=1)
        visual = TextureVisuals(material=PBRMaterial(metallicFactor=0.0, roughnessFactor=0.9))
        visual.vertex_attributes["color"] = np.round(rgba * 255).astype(np.uint8)
        painted = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.vertex_normals, visual=visual, process=False)
    content = painted.export(
        file_type="glb", include_normals=True, tree_postprocessor=lambda tree: tree["asset"].update(provenance.asset())
    )
    assert isinstance(content, bytes)
    return content


def _write_obj(mesh: Any, path: Path, provenance: Provenance) -> None:
    """The .obj, and beside it for a texture NAME.mtl and NAME.png; these first, so that nothing refers to what is not there."""
    vertices, normals, faces = np.asarray(mesh.vertices), np.asarray(mesh.vertex_normals), np.asarray(mesh.faces) + 1
    lines = [f"# {line}" for line in provenance.comments()]
    if mesh.visual.kind == "texture":
        picture, library = path.with_suffix(".png"), path.with_suffix(".mtl")
        save_png(np.asarray(mesh.visual.material.baseColorTexture), picture, metadata=provenance.chunks())
        write_text(library, f"newmtl splats\nKd 1 1 1\nKs 0 0 0\nmap_Kd {picture.name}\n")
        lines += [f"mtllib {library.name}", "usemtl splats", *(f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in vertices)]
        lines += [f"vt {u:.6g} {v:.6g}" for u, v in np.asarray(mesh.visual.uv)]
        corner = "{0}/{0}/{0}"
    else:
        colours = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
        lines += [f"v {x:.6g} {y:.6g} {z:.6g} {r:.4g} {g:.4g} {b:.4g}" for x, y, z, r, g, b in np.hstack([vertices, colours])]
        corner = "{0}//{0}"
    lines += [f"vn {x:.4g} {y:.4g} {z:.4g}" for x, y, z in normals]
    lines += ["f " + " ".join(corner.format(i) for i in face) for face in faces]
    write_text(path, "\n".join([*lines, ""]))


def with_comments(content: bytes, comments: Sequence[str]) -> bytes:
    """A .ply with ``comments`` after the format line of its header."""
    first, second, rest = content.split(b"\n", 2)
    return b"\n".join([first, second, *(f"comment {line}".encode("ascii") for line in comments), rest])


def collision_hulls(mesh: Any, max_faces: int = 128) -> Any:
    """One mesh of convex hulls, one a piece of ``mesh``, each of at most ``max_faces`` triangles (PhysX takes 255 a convex shape)."""
    import trimesh

    hulls = []
    for piece in mesh.split(only_watertight=False):
        hull = piece.convex_hull
        points = np.asarray(hull.vertices)
        # Fewer directions, each with its farthest point: the hull of those lies inside, and within a few per cent of, the whole one.
        while len(hull.faces) > max_faces:
            points = points[np.unique((sphere_directions(max_faces // 2) @ points.T).argmax(axis=1))]
            hull = trimesh.convex.convex_hull(points)
        hulls.append(hull)
    return trimesh.util.concatenate(hulls)


def sphere_directions(count: int) -> np.ndarray:
    """[count, 3] unit vectors spread evenly over the sphere (golden-angle spiral)."""
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    azimuth = index * np.pi * (3 - 5**0.5)
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)


def fusion_cameras(image_size: int, *, device: torch.device | str = "cpu") -> Cameras:
    """38 views: rings of 12 from 30° below to 45° above, and straight up and down."""
    rings = [(azimuth, elevation) for elevation in (-30.0, 10.0, 45.0) for azimuth in np.arange(12) * 30.0 + elevation]
    angles = np.array([*rings, (0.0, 90.0), (0.0, -90.0)])
    distance = distance_for_radius(1.15, 40.0)
    return orbit_cameras(
        torch.from_numpy(angles[:, 0]), torch.from_numpy(angles[:, 1]), distance=distance, fov_y_deg=40.0, width=image_size, device=device
    )


def _render_views(gaussians: Gaussians, cameras: Cameras, rasterizer: SplatRasterizer, progress: Progress | None) -> list[Render]:
    renders = []
    for view in range(len(cameras)):
        with torch.no_grad():
            render = rasterizer(gaussians, cameras[view], background=None, depth=True)
        renders.append(Render(render.rgb.float(), render.alpha.float(), None if render.depth is None else render.depth.float()))
        if progress is not None:
            progress(view + 1, len(cameras))
    return renders


def _grid(gaussians: Gaussians, resolution: int) -> Grid:
    """A grid around the splats, three standard deviations and two voxels wider than the centres, inside the ball the cameras see."""
    reach = 3 * gaussians.scales.amax(dim=1, keepdim=True)
    low = (gaussians.means - reach).amin(dim=0).clamp(-1.15, 1.15).float()
    high = (gaussians.means + reach).amax(dim=0).clamp(-1.15, 1.15).float()
    spacing = max(float((high - low).max()) / (resolution - 5), 1e-6)
    shape = [math.ceil(float(side) / spacing) + 5 for side in high - low]
    return Grid(low - 2 * spacing, spacing, (shape[0], shape[1], shape[2]))


def fuse(renders: list[Render], cameras: Cameras, grid: Grid, settings: MeshSettings) -> Tensor:
    """The averaged truncated signed distance [I, J, K] in units of τ: negative inside, 1 on the border. On the CPU."""
    from fsd_gs.export._fusion import fuse_views

    depths = [torch.where(r.alpha >= settings.min_alpha, r.depth, torch.inf)[0, ..., 0] for r in renders if r.depth is not None]
    arrays = (t.cpu().float().contiguous().numpy() for t in (cameras.viewmats, cameras.Ks, torch.stack(depths)))
    viewmats, Ks, stacked = arrays
    low = grid.low.cpu().numpy()
    field = torch.from_numpy(fuse_views(low, grid.spacing, grid.shape, viewmats, Ks, stacked, settings.truncation * grid.spacing))
    closed = torch.ones_like(field)
    closed[1:-1, 1:-1, 1:-1] = field[1:-1, 1:-1, 1:-1]
    return closed


def _tidy(mesh: Any, settings: MeshSettings) -> Any:
    import trimesh

    pieces = mesh.split(only_watertight=False)
    if len(pieces) > 1:
        shares = np.array([piece.area for piece in pieces]) / mesh.area
        kept = shares >= min(settings.min_share, shares.max())
        if not kept.all():
            largest = f"{shares[~kept].max():.1%}" if shares[~kept].max() >= 1e-3 else "less than 0.1%"
            words = (
                f"mesh: dropped {(~kept).sum()} of {len(pieces)} pieces, {shares[~kept].sum():.1%} of the surface, the largest {largest}"
            )
            warnings.warn(f"{words}; pieces of {settings.min_share:.1%} and more are kept", stacklevel=3)
            mesh = trimesh.util.concatenate([piece for piece, keep in zip(pieces, kept, strict=True) if keep])
    if settings.max_faces is not None and len(mesh.faces) > settings.max_faces:
        try:
            mesh = mesh.simplify_quadric_decimation(face_count=settings.max_faces)
        except ImportError as error:
            raise BackendError("decimation needs the package fast-simplification; pip install fast-simplification") from error
    return mesh
