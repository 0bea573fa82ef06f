"""Turntables, contact sheets and the meshes fused from them, on an egg whose colours tell where one looks from."""

import json
import struct
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from export_scenes import egg, random_gaussians
from PIL import Image

from fsd_gs.core.cameras import back_project, orbit_cameras
from fsd_gs.core.sheets import contact_sheet, write_label
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export._fusion import fuse_views
from fsd_gs.export.formats import ExportOptions, export
from fsd_gs.export.mesh import MeshSettings, extract_mesh
from fsd_gs.export.mesh_colours import visible_pixels
from fsd_gs.export.pictures import MODES, TurntableSettings, colour_map, depth_normals, save_gif, save_png, turntable_frames
from fsd_gs.render import make_rasterizer

RASTERIZER = make_rasterizer("cpu")
EGG = egg(2500)


def frames_of(mode="rgb", frames=4, size=64, progress=None):
    return list(turntable_frames(EGG, RASTERIZER, TurntableSettings(frames=frames, size=size, mode=mode), progress))


def test_turntable_goes_round_counter_clockwise_and_reports_progress():
    calls = []
    front, right, back, left = frames_of(progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    centre = (slice(28, 36), slice(28, 36))
    assert front[centre].mean(axis=(0, 1)).argmax() == 0  # red faces +x
    assert right[centre].mean(axis=(0, 1)).argmax() == 1  # green faces +y
    assert (back[centre].mean(), left[centre].mean()) < (100, 100)
    for frame in (front, right, back, left):
        assert frame.dtype == np.uint8
        assert frame.shape == (64, 64, 3)
        assert (frame[0, 0] == 255).all()  # white background


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_draws_something(mode):
    frame = frames_of(mode, frames=1)[0]
    assert np.abs(frame.astype(int) - frame[0, 0]).max() > 50


def test_normals_of_a_sphere():
    """Depth of a unit sphere from outside, analytically; the normal at a point of it is the point itself."""
    cameras = orbit_cameras([40.0], 20.0, distance=3.0, width=64)
    rays = back_project(torch.ones(1, 64, 64, 1), cameras) - cameras.positions
    a, b, c = (rays**2).sum(-1), (rays * cameras.positions).sum(-1), (cameras.positions**2).sum() - 1
    discriminant = b**2 - a * c
    depth = ((-b - discriminant.clamp_min(0).sqrt()) / a)[..., None]
    points = back_project(depth, cameras)
    inner = discriminant > 0.15 * discriminant.max()  # away from the silhouette, where differences cross the edge
    torch.testing.assert_close(points[inner].norm(dim=-1), torch.ones(int(inner.sum())), atol=1e-4, rtol=0)
    assert (depth_normals(depth, cameras)[inner] * points[inner]).sum(-1).min() > 0.99


def test_colour_map_rises_in_lightness():
    colours = colour_map(torch.linspace(0, 1, 101))
    lightness = colours @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (lightness.diff() > 0).all()
    assert colour_map(torch.tensor([-1.0, 2.0])).tolist() == colour_map(torch.tensor([0.0, 1.0])).tolist()


def test_contact_sheet_layout():
    frames = [np.full((10, 12, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(frames, columns=2, gap=3)
    assert sheet.shape == (23, 27, 3)
    assert [sheet[0, 0, 0], sheet[0, 15, 0], sheet[13, 0, 0], sheet[13, 15, 0]] == [10, 20, 30, 255]
    assert contact_sheet(frames, columns=9).shape[0] == 10
    labelled = contact_sheet([np.zeros((64, 64, 3), np.uint8)] * 2, columns=2, labels=["0°", "ab"])
    assert labelled[:20, :20].max() > 200
    assert labelled[40:].max(axis=(1, 2)).tolist() == [255] * 24  # the gap between the frames; the frames stay black
    assert labelled[40:, :60].max() == 0
    with pytest.raises(InputError, match="at least one frame"):
        contact_sheet([], columns=2)
    with pytest.raises(InputError, match="labels: expected one for each of 3 frames, got 1"):
        contact_sheet(frames, columns=2, labels=["x"])
    with pytest.raises(InputError, match="frames: expected one size"):
        contact_sheet([frames[0], frames[0][:5]], columns=2)


def test_label_leaves_the_frame_alone():
    frame = np.zeros((32, 32, 3), np.uint8)
    assert write_label(frame, "x").any()
    assert not frame.any()


def test_gif_and_png(tmp_path):
    frames = frames_of()
    save_gif(frames, tmp_path / "a.gif", fps=10, comment="two words")
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (4, 0, 100)
        assert gif.info["comment"] == b"two words"
        gif.seek(1)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(float) - frames[1]).mean() < 6
    save_png(frames[0], tmp_path / "a.png", metadata={"Description": "a réd chair"})
    with Image.open(tmp_path / "a.png") as png:
        assert (np.asarray(png) == frames[0]).all()
        assert png.text == {"Description": "a réd chair"}


def test_png_export_is_a_sheet(tmp_path):
    options = ExportOptions(rasterizer=RASTERIZER, turntable=TurntableSettings(size=32), sheet_views=6, sheet_columns=3)
    export(EGG, tmp_path / "a.png", "png", options)
    assert Image.open(tmp_path / "a.png").size == (3 * 36 - 4, 2 * 36 - 4)


@pytest.mark.parametrize(("kwargs", "words"), [({"mode": "heat"}, "mode: unknown name 'heat'"), ({"frames": 0}, "expected frames ≥ 1")])
def test_bad_turntables(kwargs, words):
    with pytest.raises(InputError, match=words):
        TurntableSettings(**kwargs)


@pytest.fixture(scope="module")
def mesh():
    return extract_mesh(EGG, RASTERIZER, MeshSettings(resolution=48, image_size=128))


def test_mesh_is_a_closed_egg(mesh):
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    ideal = 4 / 3 * np.pi * 0.5 * 0.35 * 0.6
    assert ideal < mesh.volume < 1.3 * ideal  # positive: the faces look outwards. Splats are a little thick.
    np.testing.assert_allclose(mesh.bounds, [[-0.5, -0.35, -0.6], [0.5, 0.35, 0.6]], atol=0.06)


def test_mesh_colours_follow_the_surface(mesh):
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    direction = np.asarray(mesh.vertices) / [0.5, 0.35, 0.6]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    assert np.abs(colours - (direction.clip(0, 1) * 0.9 + 0.05)).mean() < 0.06


def test_mesh_lands_where_the_splats_are(mesh):
    far = Gaussians(EGG.means * 30 + torch.tensor([100.0, 0, -50]), EGG.quats, EGG.scales * 30, EGG.opacities, EGG.sh)
    there = extract_mesh(far, RASTERIZER, MeshSettings(resolution=24, image_size=64))
    np.testing.assert_allclose(there.bounds.mean(axis=0), [100, 0, -50], atol=2)
    np.testing.assert_allclose(there.extents, np.array([1.0, 0.7, 1.2]) * 30, rtol=0.25)


@pytest.mark.parametrize("file_type", ["glb", "obj"])
def test_mesh_files_load_again(tmp_path, file_type):
    export(EGG, tmp_path / f"a.{file_type}", file_type, ExportOptions(rasterizer=RASTERIZER, mesh=MeshSettings(24, 64)))
    (loaded,) = trimesh.load_scene(tmp_path / f"a.{file_type}").geometry.values()
    assert isinstance(loaded, trimesh.Trimesh)
    assert loaded.is_watertight
    np.testing.assert_allclose(loaded.extents, [0.7, 1.2, 1.0], rtol=0.25)  # y up, front along z
    visual: Any = loaded.visual
    colours = np.asarray(visual.vertex_attributes["color"] if file_type == "glb" else visual.vertex_colors)
    top = np.asarray(loaded.vertices)[:, 1] > 0.5
    assert (colours[top, :3].argmax(axis=1) == 2).mean() > 0.9  # blue on top


def test_glb_is_valid_gltf_with_a_matt_material(tmp_path):
    export(EGG, tmp_path / "a.glb", "glb", ExportOptions(rasterizer=RASTERIZER, mesh=MeshSettings(16, 48)))
    content = (tmp_path / "a.glb").read_bytes()
    magic, version, length, json_length, kind = struct.unpack("<4sII I4s", content[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON")
    scene = json.loads(content[20 : 20 + json_length])
    primitive = scene["meshes"][0]["primitives"][0]
    assert {"POSITION", "COLOR_0"} <= set(primitive["attributes"])
    assert scene["materials"][primitive["material"]]["pbrMetallicRoughness"]["metallicFactor"] == 0


def test_decimation():
    pytest.importorskip("fast_simplification")
    small = extract_mesh(EGG, RASTERIZER, MeshSettings(resolution=32, image_size=64, max_faces=500))
    assert 400 <= len(small.faces) <= 500
    assert len(small.visual.vertex_colors) == len(small.vertices)


def test_fusion_kernel_against_a_slow_twin():
    cameras = orbit_cameras([0.0, 100.0, 220.0], [0.0, 30.0, -20.0], width=20)
    g = torch.Generator().manual_seed(0)
    depths = 2 + torch.rand(3, 20, 20, generator=g)
    depths[:, :6] = torch.inf
    low, spacing, shape, tau = np.full(3, -0.8, np.float32), 0.21, (6, 8, 7), 0.4
    field = fuse_views(low, spacing, shape, cameras.viewmats.numpy(), cameras.Ks.numpy(), depths.numpy(), tau)

    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"), dim=-1).reshape(-1, 3)
    points = torch.from_numpy(low) + spacing * index
    total, count = torch.zeros(len(points)), torch.zeros(len(points))
    for view in range(3):
        pixel, z, visible = visible_pixels(points, cameras, view)
        distance = ((depths[view].reshape(-1)[pixel] - z) / tau).clamp(max=1)
        counts = visible & (distance > -1)
        total += torch.where(counts, distance, torch.zeros(()))
        count += counts
    expected = torch.where(count > 0, total / count.clamp_min(1), -torch.ones(()))
    assert ((expected == -1).any(), (expected == 1).any()) == (True, True)
    np.testing.assert_allclose(field.reshape(-1), expected, atol=2e-5)


def test_nothing_to_mesh():
    with pytest.raises(InputError, match="there are no splats"):
        extract_mesh(random_gaussians(0), RASTERIZER)
    faint = Gaussians(EGG.means, EGG.quats, EGG.scales, EGG.opacities * 0.001, EGG.sh)
    with pytest.raises(InputError, match=r"no surface of opacity 0.5 is seen"):
        extract_mesh(faint, RASTERIZER, MeshSettings(resolution=16, image_size=32))
    with pytest.raises(InputError, match="mesh resolution: expected 8 to 512 voxels, got 4"):
        MeshSettings(resolution=4)
