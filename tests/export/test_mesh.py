"""Meshes for a game engine: pieces, a face budget, a baked texture, normals, collision hulls, each file read again by our own reader."""

import numpy as np
import pytest
import torch
import trimesh
from export_scenes import egg

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.command import main
from fsd_gs.export.formats import ExportOptions, export, load_splats, save_splats
from fsd_gs.export.mesh import MeshSettings, collision_hulls, extract_mesh
from fsd_gs.export.mesh_texture import surface_points
from fsd_gs.meshes.read import read_surfaces, to_world
from fsd_gs.render import make_rasterizer

RASTERIZER = make_rasterizer("cpu")


def lamp(crumb=0):
    """A shade above a smaller foot, with air between; and a crumb beside them."""
    draw = torch.Generator().manual_seed(0)
    ball = torch.nn.functional.normalize(torch.randn(3000 + crumb, 3, generator=draw), dim=1)
    parts = [0.3 * ball[:2000] + torch.tensor([0.0, 0, 0.5]), 0.2 * ball[2000:3000] + torch.tensor([0.0, 0, -0.5])]
    parts.append(0.02 * ball[3000:] + torch.tensor([0.6, 0, 0]))
    means = torch.cat(parts)
    count = len(means)
    sh = torch.zeros(count, 1, 3)
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1)
    scales = torch.full((count, 3), 0.02)
    return Gaussians(means, quats, scales, torch.full((count,), 0.95), sh)


def test_both_pieces_of_a_lamp_are_kept(tmp_path):
    settings = MeshSettings(resolution=32, image_size=64)
    export(lamp(), tmp_path / "lamp.glb", "glb", ExportOptions(rasterizer=RASTERIZER, mesh=settings))
    mesh = trimesh.load_mesh(tmp_path / "lamp.glb")
    assert float(mesh.extents[1]) == pytest.approx(1.55, abs=1.6 / 27)  # with the splats' own thickness, to a voxel
    assert len(mesh.split(only_watertight=False)) == 2


def test_what_is_dropped_is_said_with_its_share():
    settings = MeshSettings(resolution=64, image_size=96, min_share=0.05)
    with pytest.warns(UserWarning, match=r"mesh: dropped . of . pieces, [0-9.]+% of the surface, .*pieces of 5.0% and more are kept"):
        mesh = extract_mesh(lamp(crumb=60), RASTERIZER, settings)
    assert len(mesh.split(only_watertight=False)) == 2
    assert len(extract_mesh(lamp(crumb=60), RASTERIZER, MeshSettings(64, 96, min_share=0)).split(only_watertight=False)) >= 3


def texture_of(path):
    (surface,) = read_surfaces(path)
    assert surface.texture is not None
    centres = np.full((len(surface.corners), 3), 1 / 3)
    colours = surface.at(np.arange(len(surface.corners)), centres)[:, :3]
    return to_world(surface.corners, "y").mean(axis=1), colours


@pytest.mark.parametrize("kind", ["glb", "obj"])
def test_the_texture_shows_the_colours_of_the_splats(tmp_path, kind):
    settings = MeshSettings(resolution=40, image_size=96, texture=256, max_faces=2000)
    export(egg(4000), tmp_path / f"a.{kind}", kind, ExportOptions(rasterizer=RASTERIZER, mesh=settings))
    assert sorted(p.name for p in tmp_path.iterdir()) == (["a.glb"] if kind == "glb" else ["a.mtl", "a.obj", "a.png"])
    points, colours = texture_of(tmp_path / f"a.{kind}")
    assert len(points) <= 2000
    direction = points / [0.5, 0.35, 0.6]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    assert np.abs(colours - (direction.clip(0, 1) * 0.9 + 0.05)).mean() < 0.06  # red in front, green right, blue on top
    mesh = trimesh.load_mesh(tmp_path / f"a.{kind}", process=False)
    assert (np.einsum("ij,ij->i", mesh.vertex_normals, np.asarray(mesh.vertices)) > 0).mean() > 0.99  # outwards


def test_every_texel_of_a_chart_lies_on_its_face():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 2, 0.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]])
    points, covered = surface_points(vertices, faces, uv, 64)
    assert covered.mean() == pytest.approx(0.64, abs=0.03)
    rows, columns = np.nonzero(covered)
    expected = np.stack([((columns + 0.5) / 64 - 0.1) / 0.8, 2 * (1 - (rows + 0.5) / 64 - 0.1) / 0.8, 0 * rows], axis=1)
    assert points == pytest.approx(expected, abs=1e-9)


def test_collision_hulls_hold_each_piece_with_few_faces():
    mesh = extract_mesh(lamp(), RASTERIZER, MeshSettings(resolution=32, image_size=64))
    hulls = collision_hulls(mesh, max_faces=100)
    pieces = hulls.split()
    assert len(pieces) == 2
    for hull, piece in zip(sorted(pieces, key=lambda p: p.area), sorted(mesh.split(), key=lambda p: p.area), strict=True):
        assert hull.is_convex
        assert len(hull.faces) <= 100
        assert hull.volume == pytest.approx(piece.convex_hull.volume, rel=0.15)


def test_the_command_writes_texture_hull_and_vertex_colours(tmp_path, capsys):
    save_splats(lamp(crumb=60), tmp_path / "lamp.ply")
    arguments = [
        tmp_path / "lamp.ply",
        "--format",
        "glb,mesh-ply",
        "--collision",
        "--mesh-resolution",
        48,
        "--texture",
        128,
        "--max-faces",
        800,
    ]
    assert main([str(a) for a in arguments], make_rasterizer=lambda: RASTERIZER) == 0
    folder = tmp_path / "export"
    assert sorted(p.name for p in folder.iterdir()) == ["lamp.collision.glb", "lamp.glb", "lamp.mesh.ply"]
    assert sum(len(s.corners) for s in read_surfaces(folder / "lamp.glb")) <= 800
    (painted,) = read_surfaces(folder / "lamp.mesh.ply")
    assert painted.tint[..., :3].mean() == pytest.approx(0.5, abs=0.1)
    assert np.ptp(painted.corners.reshape(-1, 3), axis=0)[2] == pytest.approx(1.5, abs=0.1)  # z up
    assert len(load_splats(tmp_path / "lamp.ply")) == 3060


def test_settings_are_checked():
    with pytest.raises(InputError, match="min_share: expected a share"):
        MeshSettings(min_share=1.0)
    with pytest.raises(InputError, match="texture: expected 0"):
        MeshSettings(texture=8)
