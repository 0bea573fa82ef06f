"""A folder of meshes as training objects: files made with trimesh, known colours, axes, sizes, and broken input."""

import json
import logging

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import BackendError, FileFormatError, InputError
from fsd_gs.pretrain import asset_mesh
from fsd_gs.pretrain.asset_mesh import AssetSettings, load_asset
from fsd_gs.pretrain.assets import MeshFolder, caption_from_name, main

LIT = AssetSettings(lit=True)
RED = (200, 20, 30, 255)


def red_box(extents=(1.0, 2.0, 3.0)):
    box = trimesh.creation.box(extents)
    box.visual.face_colors = np.tile(RED, (len(box.faces), 1))
    return box


def saved(mesh, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh.export(path)
    return path


def view(mesh, azimuth=0.0, elevation=0.0, size=48):
    from fsd_gs.catalogue.render import render_mesh

    return render_mesh(mesh, orbit_cameras([azimuth], elevation, width=size))[0]


def shown(rgba):
    """Mean sRGB of what is covered."""
    return rgba[..., :3].sum((0, 1)) / rgba[..., 3].sum()


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".off", ".glb", ".gltf", ".stl"])
def test_every_format_loads_into_the_ball(tmp_path, suffix):
    path = saved(red_box(), tmp_path / f"box{suffix}")
    mesh = load_asset(path, tmp_path, AssetSettings(up="z"))
    radii = np.linalg.norm(mesh.vertices, axis=1)
    assert radii.max() == pytest.approx(0.9, abs=1e-4)
    sides = np.ptp(mesh.vertices, axis=0)
    assert sides / sides[2] == pytest.approx([1 / 3, 2 / 3, 1], abs=1e-3)
    assert np.abs(mesh.vertices.max(0) + mesh.vertices.min(0)).max() < 1e-4
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume == pytest.approx(np.prod(sides), rel=1e-3)  # closed, outwards


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_plain_colours_survive(tmp_path, suffix):
    box = red_box()
    if suffix == ".obj":
        box.visual = trimesh.visual.ColorVisuals(box, vertex_colors=np.tile(RED, (8, 1)))
    mesh = load_asset(saved(box, tmp_path / f"box{suffix}"), tmp_path, LIT)
    assert np.abs(mesh.colors - np.array(RED[:3]) / 255).max() < 0.005


def test_vertex_colours_are_interpolated(tmp_path):
    box = trimesh.creation.box((1, 1, 1))
    low = box.vertices[:, 2] < 0
    box.visual.vertex_colors = np.where(low[:, None], [0, 0, 255, 255], [255, 255, 0, 255])
    mesh = load_asset(saved(box, tmp_path / "box.ply"), tmp_path, LIT)
    share = (mesh.vertices[:, 2] / np.ptp(mesh.vertices[:, 2]) + 0.5)[:, None]
    assert np.abs(mesh.colors - np.concatenate([share, share, 1 - share], axis=1)).max() < 0.01


def test_y_up_turns_up_and_front_to_ours(tmp_path):
    """glTF: +y up, the front looks along +z. A long arm up and a short one to the front."""
    arms = [
        trimesh.creation.box((0.1, 2, 0.1)).apply_translation((0, 1, 0)),
        trimesh.creation.box((0.1, 0.1, 1)).apply_translation((0, 0, 0.5)),
    ]
    path = saved(trimesh.util.concatenate(arms), tmp_path / "arms.glb")
    sides = np.ptp(load_asset(path, tmp_path, LIT).vertices, axis=0)
    assert sides[2] > sides[0] > 5 * sides[1]
    mesh = load_asset(path, tmp_path, LIT)
    assert mesh.vertices[mesh.vertices[:, 2] < mesh.vertices[:, 2].min() + 0.05, 0].max() > 0.2  # the low arm points to +x
    kept = np.ptp(load_asset(path, tmp_path, AssetSettings(up="z", lit=True)).vertices, axis=0)
    assert kept[1] > kept[2] > 5 * kept[0]


def textured_plane(material):
    """A unit square in y, z that looks along +x; v grows upwards."""
    vertices = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], dtype=float)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=float)
    return trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=TextureVisuals(uv=uv, material=material), process=False)


def quadrants():
    """Top left red, top right green, bottom left blue, bottom right white; 64 px."""
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    return Image.fromarray(pixels.repeat(32, 0).repeat(32, 1))


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_texture_colours_survive(tmp_path, suffix):
    material = SimpleMaterial(image=quadrants()) if suffix == ".obj" else PBRMaterial(baseColorTexture=quadrants())
    mesh = load_asset(saved(textured_plane(material), tmp_path / f"plane{suffix}"), tmp_path, AssetSettings(up="z", lit=True))
    rgba = view(mesh, size=40)  # seen from +x: the image's right is world +y
    y, x = (n.tolist() for n in torch.nonzero(rgba[..., 3] > 0.99).T)
    left, right, top, bottom = min(x), max(x), min(y), max(y)
    at = {
        (v, h): rgba[round(top + v * (bottom - top)), round(left + h * (right - left)), :3].tolist() for v in (0.2, 0.8) for h in (0.2, 0.8)
    }
    assert at[0.2, 0.2] == pytest.approx([1, 0, 0], abs=0.02)
    assert at[0.2, 0.8] == pytest.approx([0, 1, 0], abs=0.02)
    assert at[0.8, 0.2] == pytest.approx([0, 0, 1], abs=0.02)
    assert at[0.8, 0.8] == pytest.approx([1, 1, 1], abs=0.02)


def test_a_fine_texture_is_averaged_not_aliased(tmp_path):
    checker = Image.fromarray(((np.indices((512, 512)).sum(0) % 2) * 255).astype(np.uint8)).convert("RGB")
    path = saved(textured_plane(SimpleMaterial(image=checker)), tmp_path / "plane.obj")
    assert np.abs(load_asset(path, tmp_path, LIT).colors - 0.5).max() < 0.03


@pytest.mark.parametrize(("mode", "left"), [("MASK", 0.5), ("OPAQUE", 1.0)])
def test_cut_outs_are_cut_out(tmp_path, mode, left):
    pixels = np.full((64, 64, 4), 255, dtype=np.uint8)
    pixels[:32, :, 3] = 0
    material = PBRMaterial(baseColorTexture=Image.fromarray(pixels), alphaMode=mode)
    mesh = load_asset(saved(textured_plane(material), tmp_path / "leaf.glb"), tmp_path, AssetSettings(up="z", lit=True))
    whole = 2 * 0.9**2  # a square with half diagonal 0.9
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).area == pytest.approx(left * whole, rel=0.05)


def test_gltf_factors_are_linear(tmp_path):
    material = PBRMaterial(baseColorFactor=[128, 128, 128, 255])  # 0.502 linear is 0.737 in sRGB
    box = trimesh.creation.box((1, 1, 1))
    box.visual = TextureVisuals(material=material)
    mesh = load_asset(saved(box, tmp_path / "box.glb"), tmp_path, LIT)
    assert np.abs(mesh.colors - 0.737).max() < 0.005


def test_every_placed_copy_of_a_scene_is_there(tmp_path):
    scene = trimesh.Scene()
    for k in range(3):
        scene.add_geometry(
            trimesh.creation.icosphere(1), geom_name="ball", transform=trimesh.transformations.translation_matrix((0, 4 * k, 0))
        )
    mesh = load_asset(saved(scene, tmp_path / "balls.glb"), tmp_path, LIT)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).body_count == 3


def test_light_is_baked_as_in_the_catalogue(tmp_path):
    path = saved(red_box((1, 1, 1)), tmp_path / "box.ply")
    plain, lit = load_asset(path, tmp_path, LIT), load_asset(path, tmp_path, AssetSettings())
    assert shown(view(plain)).tolist() == pytest.approx([c / 255 for c in RED[:3]], abs=0.01)
    top, under = shown(view(lit, elevation=90))[0], shown(view(lit, elevation=-90))[0]
    assert float(top) > 1.15 * float(under)


def test_light_is_blocked_by_the_shape_before_refinement(tmp_path, monkeypatch):
    """It is the same shape with a fraction of the faces, and loading is mostly this."""
    roof = red_box((2, 2, 0.3)).apply_translation((0, 0, 1))
    path = saved(trimesh.util.concatenate([red_box((1, 1, 1)), roof]), tmp_path / "box.ply")
    asked = []
    cast = asset_mesh.lit_colors
    monkeypatch.setattr(asset_mesh, "lit_colors", lambda v, f, *rest: asked.append(len(f)) or cast(v, f, *rest))
    mesh = load_asset(path, tmp_path, AssetSettings())
    assert asked == [24]
    assert len(mesh.faces) > 100
    monkeypatch.setattr(asset_mesh, "lit_colors", lambda v, f, *rest: cast(mesh.vertices, mesh.faces, *rest))
    assert np.abs(load_asset(path, tmp_path, AssetSettings()).colors - mesh.colors).max() < 1e-5


def test_an_inside_out_mesh_is_turned(tmp_path):
    good, bad = red_box((1, 1, 1)), red_box((1, 1, 1))
    bad.invert()
    good, bad = (load_asset(saved(m, tmp_path / f"{n}.ply"), tmp_path, AssetSettings()) for n, m in (("good", good), ("bad", bad)))
    for azimuth, elevation in ((20, 10), (200, 60)):
        assert torch.allclose(view(good, azimuth, elevation), view(bad, azimuth, elevation), atol=0.02)


def test_a_sheet_is_not_turned(tmp_path):
    mesh = load_asset(saved(textured_plane(SimpleMaterial(image=quadrants())), tmp_path / "plane.obj"), tmp_path, AssetSettings(up="z"))
    assert (np.cross(*(mesh.vertices[mesh.faces[:, k]] - mesh.vertices[mesh.faces[:, 0]] for k in (1, 2)))[:, 0] > 0).all()


def test_dense_meshes_are_thinned_out_with_their_colours(tmp_path):
    ball = trimesh.creation.icosphere(5)  # 20,480 faces
    ball.visual.vertex_colors = np.where(ball.vertices[:, 2:] > 0, [255, 0, 0, 255], [0, 0, 255, 255])
    mesh = load_asset(saved(ball, tmp_path / "ball.ply"), tmp_path, AssetSettings(lit=True, max_faces=2000))
    assert 1000 < len(mesh.faces) <= 2100
    assert np.linalg.norm(mesh.vertices, axis=1) == pytest.approx(0.9, abs=0.02)
    above = mesh.vertices[:, 2] > 0.1
    assert np.abs(mesh.colors[above] - [1, 0, 0]).max() < 0.01


def test_thinning_out_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fast_simplification", None)
    path = saved(trimesh.creation.icosphere(3), tmp_path / "ball.ply")
    with pytest.raises(BackendError, match=r"ball.ply: has \d+ faces, more than max_faces=200; .*pip install fast-simplification"):
        load_asset(path, tmp_path, AssetSettings(max_faces=200))


def test_huge_files_are_refused(tmp_path, monkeypatch):
    path = saved(trimesh.creation.icosphere(2), tmp_path / "ball.ply")
    monkeypatch.setattr(asset_mesh, "MAX_READ_FACES", 100)
    with pytest.raises(FileFormatError, match="at most 100 faces, got 320"):
        load_asset(path, tmp_path, AssetSettings())
    monkeypatch.setattr(asset_mesh, "MAX_BYTES", 10)
    with pytest.raises(FileFormatError, match="expected at most 0 MiB"):
        load_asset(path, tmp_path, AssetSettings())


def test_files_outside_the_folder_are_not_read(tmp_path):
    inside = tmp_path / "inside"
    saved(textured_plane(SimpleMaterial(image=quadrants())), inside / "plane.obj")
    library = next(inside.glob("*.mtl"))
    picture = next(inside.glob("*.png"))
    picture.rename(tmp_path / "secret.png")
    library.write_text(library.read_text().replace(picture.name, "../secret.png"))
    mesh = load_asset(inside / "plane.obj", inside, LIT)
    assert np.ptp(mesh.colors, axis=0).max() < 0.01  # no texture, one colour
    textured = load_asset(inside / "plane.obj", tmp_path, LIT)  # the same file in a larger folder: now it is inside
    assert np.ptp(textured.colors, axis=0).max() > 0.9


def folder_of_three(tmp_path):
    saved(red_box(), tmp_path / "red_box_01.ply")
    saved(trimesh.creation.icosphere(1), tmp_path / "balls" / "ball.stl")
    saved(trimesh.creation.cone(0.5, 1), tmp_path / "cone.off")
    return tmp_path


def test_captions_from_sidecar_table_or_name(tmp_path):
    folder = folder_of_three(tmp_path)
    (folder / "cone.txt").write_text("A party  hat\n\na pointed hat\n")
    (folder / "captions.json").write_text(json.dumps({"balls/ball.stl": ["a ball", "a round ball"]}))
    source = MeshFolder(folder)
    assert {o.name: o.captions for o in source.objects} == {
        "balls-ball": ("a ball", "a round ball"),
        "cone": ("a party hat", "a pointed hat"),
        "red_box_01": ("red box",),
    }
    assert source.words == ("a", "ball", "box", "hat", "party", "pointed", "red", "round")


def test_captions_from_csv(tmp_path, caplog):
    folder = folder_of_three(tmp_path)
    (folder / "captions.csv").write_text('file,caption\ncone.off,"a cone, pointed"\ncone.off,a hat\nlost.glb,nothing\n')
    captions = {o.name: o.captions for o in MeshFolder(folder).objects}
    assert captions["cone"] == ("a cone, pointed", "a hat")
    assert "the captions name 'lost.glb', which is not in the folder" in caplog.text


@pytest.mark.parametrize(
    ("stem", "caption"),
    [("red_chair-02", "red chair"), ("Old.Oak Tree", "old oak tree"), ("42", "42"), ("___", "object"), ("r2_d2", "r2 d2")],
)
def test_names_as_captions(stem, caption):
    assert caption_from_name(stem) == caption


def test_source_is_endless_fair_and_deterministic(tmp_path):
    source, again = (MeshFolder(folder_of_three(tmp_path), LIT, seed=2) for _ in range(2))
    names = [source.draw(i).name for i in range(30)]
    assert names == [again.draw(i).name for i in range(30)]
    assert all(len(set(names[k : k + 3])) == 3 for k in range(0, 30, 3))
    assert len({tuple(names[k : k + 3]) for k in range(0, 30, 3)}) > 1
    rgba = source.draw(0).render(orbit_cameras([0, 90], width=32))
    assert rgba.shape == (2, 32, 32, 4)
    assert (rgba[..., :3] <= rgba[..., 3:] + 1e-5).all()
    assert 0.05 < float(rgba[..., 3].mean()) < 0.9
    captions = [source.draw(0).caption(np.random.default_rng(k)) for k in range(5)]
    assert set(captions) <= set(source.draw(0).captions)


def broken_files(folder):
    (folder / "noise.glb").write_bytes(b"not a glb at all")
    (folder / "empty.obj").write_bytes(b"")
    (folder / "points.ply").write_bytes(trimesh.PointCloud(np.eye(3)).export(file_type="ply"))
    (folder / "cut.stl").write_bytes(trimesh.creation.icosphere(2).export(file_type="stl")[:200])
    saved(trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False), folder / "line.off")
    (folder / "nan.off").write_text("OFF\n3 1 0\n0 0 nan\n1 0 0\n0 1 0\n3 0 1 2\n")


def test_broken_files_are_named_and_skipped(tmp_path, caplog):
    broken_files(tmp_path)
    saved(red_box(), tmp_path / "good.ply")
    with caplog.at_level(logging.WARNING, logger="fsd_gs"):
        source = MeshFolder(tmp_path)
    assert [o.name for o in source.objects] == ["good"]
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("fsd_gs")]
    for name in ("noise.glb", "empty.obj", "points.ply", "cut.stl", "line.off", "nan.off"):
        assert sum(line.startswith(f"meshes: skipped {name}: ") for line in lines) == 1, lines
    assert all("\n" not in line for line in lines)


def test_folders_without_use(tmp_path):
    with pytest.raises(InputError, match="which does not exist"):
        MeshFolder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no mesh in .*; expected files that end in .glb"):
        MeshFolder(tmp_path)
    (tmp_path / "bad.glb").write_bytes(b"x")
    with pytest.raises(InputError, match="none of the 1 files"):
        MeshFolder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.json", "{", "captions.json is not valid JSON"),
        ("captions.json", "[1]", "expected {file: caption or list of captions}, got a list"),
        ("captions.json", '{"cone.off": 3}', "a caption or a list of captions for 'cone.off'"),
        ("captions.csv", "cone.off,a,b\n", "captions.csv, line 1: expected file,caption"),
        ("cone.txt", b"\xff\xfe\xff", "cannot read cone.txt as UTF-8"),
    ],
)
def test_broken_captions_stop(tmp_path, name, content, message):
    saved(trimesh.creation.cone(0.5, 1), tmp_path / "cone.off")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        MeshFolder(tmp_path)


def test_settings_are_checked():
    with pytest.raises(InputError, match="up: unknown name 'x'"):
        AssetSettings(up="x")
    with pytest.raises(InputError, match="max_faces: expected at least 100"):
        AssetSettings(max_faces=3)


def test_the_sheet_command(tmp_path, capsys):
    main([str(folder_of_three(tmp_path)), "--out", str(tmp_path / "sheet.png"), "--lit"])
    assert "3 of 3 objects; words: ball box cone red" in capsys.readouterr().out
    assert Image.open(tmp_path / "sheet.png").size == (3 * 2 * 96, 110)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "nowhere")])
    assert stop.value.code == 2
    assert "does not exist" in capsys.readouterr().err
