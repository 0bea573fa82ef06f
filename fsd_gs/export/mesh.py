"""Splats → triangle mesh: TSDF fusion of rendered depth (Curless & Levoy 1996), then marching cubes.

Every voxel x is projected into views all around. Where a view sees the surface at depth D(u), its signed distance is D(u) − z(x), cut to
±τ; where the view's ray misses the object, x is empty (+τ). Voxels more than τ behind a surface learn nothing from that view. The
average over the views is the field, its zero the surface. A voxel no view can see counts as inside and the border as outside, so that
the surface closes: the mesh is watertight.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
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
from fsd_gs.export.pictures import Progress, SplatRasterizer
from fsd_gs.export.provenance import Provenance
from fsd_gs.io import atomic_write


@dataclass
class MeshSettings:
    """resolution: voxels along the longest side of the object's box. image_size: pixels a side of the fused views. max_faces: decimate to
    about this many triangles (None: leave them). truncation: τ in voxels. min_alpha: below it a ray counts as a miss.
    largest_component: drop every other piece."""

    resolution: int = 128
    image_size: int = 256
    max_faces: int | None = None
    truncation: float = 4.0
    min_alpha: float = 0.5
    largest_component: bool = True

    def __post_init__(self) -> None:
        if not 8 <= self.resolution <= 512:
            raise InputError(f"mesh resolution: expected 8 to 512 voxels, got {self.resolution}")
        if self.max_faces is not None and self.max_faces < 4:
            raise InputError(f"mesh max_faces: expected at least 4, got {self.max_faces}")


@dataclass(frozen=True)
class Grid:
    """Voxel centres low + spacing · (i, j, k)."""

    low: Tensor
    spacing: float
    shape: tuple[int, int, int]


def extract_mesh(
    gaussians: Gaussians, rasterizer: SplatRasterizer, settings: MeshSettings | None = None, progress: Progress | None = None
) -> Any:
    """A ``trimesh.Trimesh`` in the coordinates of ``gaussians`` with sRGB vertex colours. progress(done, total) counts fused views.

    Raises InputError where no surface of opacity ``min_alpha`` is seen.
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
    colours = vertex_colours(torch.from_numpy(np.asarray(mesh.vertices)).to(grid.low), renders, cameras, grid.spacing * settings.truncation)
    mesh.visual.vertex_colors = (colours.clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
    mesh.apply_scale(1 / frame.scale)
    mesh.apply_translation(frame.centre.cpu().numpy())
    return mesh


def save_mesh(mesh: Any, path: str | os.PathLike[str], *, file_type: str, provenance: Provenance | None = None) -> None:
    """Write "glb" or "obj" with y up (glTF's axes; the front looks along +z), as importers of both formats expect."""
    if f".{file_type}" not in MESH_AXES:
        raise InputError(f"file_type: expected glb or obj, got {file_type!r}")
    provenance = provenance or Provenance()
    turned = mesh.copy()
    matrix = np.eye(4)
    matrix[:3, :3] = file_from_world(MESH_AXES[f".{file_type}"].frame).numpy()
    turned.apply_transform(matrix)
    with atomic_write(path) as temporary:
        if file_type == "glb":
            temporary.write_bytes(_glb(turned, provenance))
        elif file_type == "obj":
            header = "".join(f"# {line}\n" for line in provenance.comments())
            temporary.write_text(header + turned.export(file_type="obj", include_color=True), encoding="utf-8")
        else:
            raise InputError(f"file_type: expected glb or obj, got {file_type!r}")


def _glb(mesh: Any, provenance: Provenance) -> bytes:
    """glTF wants linear vertex colours and, to look as the splats do, a material that is neither metal nor shiny."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    srgb = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    linear = linear_from_srgb(srgb)
    rgba = np.concatenate([linear, np.ones((len(linear), 1))], axis=1)
    material = PBRMaterial(metallicFactor=0.0, roughnessFactor=0.9)
    visual = TextureVisuals(material=material)
    visual.vertex_attributes["color"] = np.round(rgba * 255).astype(np.uint8)
    painted = trimesh.Trimesh(mesh.vertices, mesh.faces, visual=visual, process=False)
    content = painted.export(file_type="glb", tree_postprocessor=lambda tree: tree["asset"].update(provenance.asset()))
    assert isinstance(content, bytes)
    return content


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


def project(points: Tensor, cameras: Cameras, view: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flat pixel index [P], depth z [P] and whether it lies in the picture [P] of world ``points`` [P, 3]."""
    viewmat, K = cameras.viewmats[view], cameras.Ks[view]
    local = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    z = local[:, 2].clamp_min(1e-6)
    column = (K[0, 0] * local[:, 0] / z + K[0, 2]).floor().long()
    row = (K[1, 1] * local[:, 1] / z + K[1, 2]).floor().long()
    inside = (local[:, 2] > 1e-6) & (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
    return row.clamp(0, cameras.height - 1) * cameras.width + column.clamp(0, cameras.width - 1), z, inside


def vertex_colours(vertices: Tensor, renders: list[Render], cameras: Cameras, tolerance: float) -> Tensor:
    """[P, 3] sRGB: the mean over the views that see the vertex (its depth agrees to ``tolerance``), weighted by α to the fourth so that
    silhouettes, where colour is mixed with what lies behind, count little."""
    total, weight = torch.zeros(len(vertices), 3, device=vertices.device), torch.zeros(len(vertices), device=vertices.device)
    for view, render in enumerate(renders):
        assert render.depth is not None
        pixel, z, visible = project(vertices, cameras, view)
        alpha, depth = render.alpha.reshape(-1)[pixel], render.depth.reshape(-1)[pixel]
        seen = torch.where(visible & (alpha > 0.1), alpha**4 * torch.exp(-(((depth - z) / tolerance) ** 2)), 0.0)
        total += seen[:, None] * (render.rgb.reshape(-1, 3)[pixel] / alpha.clamp_min(0.1)[:, None])  # rendered on black
        weight += seen
    return total / weight.clamp_min(1e-8)[:, None]


def _tidy(mesh: Any, settings: MeshSettings) -> Any:
    if settings.largest_component:
        pieces = mesh.split(only_watertight=False)
        mesh = max(pieces, key=lambda piece: piece.area)
    if settings.max_faces is not None and len(mesh.faces) > settings.max_faces:
        try:
            mesh = mesh.simplify_quadric_decimation(face_count=settings.max_faces)
        except ImportError as error:
            raise BackendError("decimation needs the package fast-simplification; pip install fast-simplification") from error
    return mesh
