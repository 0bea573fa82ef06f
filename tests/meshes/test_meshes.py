"""Mesh files: colours, axes and extensions as both readers (training objects and starts of a run) see them."""

import base64
import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from mesh_mutations import MESHES, MeshMutator, load_mesh
from PIL import Image

from fsd_gs.errors import FileFormatError, FsdGsError, InputError
from fsd_gs.export.mesh import save_mesh
from fsd_gs.meshes.read import read_surfaces
from fsd_gs.meshes.surface import Texture
from fsd_gs.pretrain.asset_mesh import AssetSettings, load_asset
from fsd_gs.splats.initialize import from_mesh_file

FILES = Path(__file__).parent.parent / "data" / "mesh"
GREY = (0.72, 0.72, 0.72)


def as_training_object(path):
    """(mean sRGB, extents / longest) of train-prior's loader."""
    mesh = load_asset(path, path.parent, AssetSettings(lit=True))
    size = np.ptp(mesh.vertices, axis=0)
    return mesh.colors.mean(0), size / size.max()


def as_start(path):
    """The same of ``splats.init=FILE``."""
    splats = from_mesh_file(path, 2000, torch.Generator().manual_seed(0))
    size = (splats.means.amax(0) - splats.means.amin(0)).numpy()
    return splats.sh[:, 0].mean(0).numpy() * 0.28209479 + 0.5, size / size.max()


READERS = pytest.mark.parametrize("read", [as_training_object, as_start])


@READERS
@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("colours-and-material", (0.735, 0.11, 0.11)),  # COLOR_0 (128, 3, 3) of 255, linear, times a factor of 1
        ("factor", (0.735, 0.25, 0.25)),  # a linear factor of (0.5, 0.05, 0.05)
        ("texture-transform", (0.08, 0.78, 0.08)),  # the right half of the picture, by an offset
        ("quantized", GREY),
    ],
)
def test_gltf_colours_and_shape(read, name, color):
    found, extents = read(FILES / f"{name}.gltf")
    assert found == pytest.approx(color, abs=0.01)
    assert extents == pytest.approx((0.5, 0.5, 1), abs=0.01)  # a box of 1 × 2 × 1, y up


@READERS
def test_draco_is_decoded(read):
    pytest.importorskip("DracoPy")
    assert read(FILES / "draco.gltf")[1] == pytest.approx((0.5, 0.5, 1), abs=0.01)


@READERS
def test_draco_without_its_decoder_says_what_to_install(read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "DracoPy", None)
    with pytest.raises(FileFormatError, match=r"draco.gltf.* KHR_draco_mesh_compression; .*pip install DracoPy"):
        read(FILES / "draco.gltf")


@READERS
@pytest.mark.parametrize(("name", "extension"), [("meshopt", "EXT_meshopt_compression"), ("texture-basisu", "KHR_texture_basisu")])
def test_required_extensions_that_are_not_understood(read, name, extension):
    with pytest.raises(FileFormatError, match=rf"{name}.gltf.* needs the glTF extension {extension}, .*; (save|convert)") as caught:
        read(FILES / f"{name}.gltf")
    assert "\n" not in str(caught.value)


@READERS
def test_any_other_required_extension_is_named(read, tmp_path):
    content = json.loads((FILES / "factor.gltf").read_text())
    content["extensionsRequired"] = content["extensionsUsed"] = ["ACME_wobble"]
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="ACME_wobble"):
        read(tmp_path / "a.gltf")


def test_a_basisu_texture_with_a_fallback_is_read(tmp_path):
    content = json.loads((FILES / "texture-transform.gltf").read_text())
    content["textures"][0]["extensions"] = {"KHR_texture_basisu": {"source": 7}}
    content["extensionsUsed"].append("KHR_texture_basisu")
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    assert as_start(tmp_path / "a.gltf")[0] == pytest.approx((0.08, 0.78, 0.08), abs=0.01)


@READERS
@pytest.mark.parametrize("kind", ["glb", "obj"])
def test_our_own_meshes_come_back_with_their_colour_and_upright(read, tmp_path, kind):
    box = trimesh.creation.box((0.2, 0.4, 1.0))
    box.visual.vertex_colors = [200, 30, 30, 255]
    save_mesh(box, tmp_path / f"a.{kind}", file_type=kind)
    color, extents = read(tmp_path / f"a.{kind}")
    assert color == pytest.approx((200 / 255, 30 / 255, 30 / 255), abs=0.01)
    assert extents == pytest.approx((0.2, 0.4, 1), abs=0.01)


def gltf_of(positions, *, material=None, uv=None, picture=None, mode=4, node=None, indices=None):
    """A .gltf with one primitive, everything inside."""
    blobs, views, accessors = b"", [], []

    def add(values, kind, component):
        nonlocal blobs
        views.append({"buffer": 0, "byteOffset": len(blobs), "byteLength": values.nbytes})
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(values), "type": kind})
        blobs += values.tobytes() + b"\0" * (-values.nbytes % 4)
        return len(accessors) - 1

    primitive = {"attributes": {"POSITION": add(np.asarray(positions, "<f4"), "VEC3", 5126)}, "mode": mode}
    if uv is not None:
        primitive["attributes"]["TEXCOORD_0"] = add(np.asarray(uv, "<f4"), "VEC2", 5126)
    if indices is not None:
        primitive["indices"] = add(np.asarray(indices, "<u2"), "SCALAR", 5123)
    content = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0} | (node or {})]}
    if material is not None:
        content["materials"] = [material]
        primitive["material"] = 0
    if picture is not None:
        from io import BytesIO

        stream = BytesIO()
        picture.save(stream, "PNG")
        content["images"] = [{"uri": "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()}]
        content["textures"] = [{"source": 0}]
    content |= {"meshes": [{"primitives": [primitive]}], "bufferViews": views, "accessors": accessors}
    content["buffers"] = [{"byteLength": len(blobs), "uri": "data:;base64," + base64.b64encode(blobs).decode()}]
    return content


SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(("mode", "indices", "area"), [(4, [0, 1, 2, 0, 2, 3], 1), (5, [0, 1, 3, 2], 1), (6, [0, 1, 2, 3], 1)])
def test_triangles_strips_and_fans(tmp_path, mode, indices, area):
    (tmp_path / "a.gltf").write_text(json.dumps(gltf_of(SQUARE, mode=mode, indices=indices)))
    (surface,) = read_surfaces(tmp_path / "a.gltf")
    a, b, c = np.moveaxis(surface.corners, 1, 0)
    normals = np.cross(b - a, c - a) / 2
    assert normals.sum(0) == pytest.approx([0, 0, area])  # the same way round


def test_nodes_are_placed_and_mirrors_turn_faces(tmp_path):
    node = {"scale": [-2, 1, 1], "translation": [0, 0, 5], "rotation": [0, 0, np.sin(np.pi / 4), np.cos(np.pi / 4)]}
    (tmp_path / "a.gltf").write_text(json.dumps(gltf_of(SQUARE, indices=[0, 1, 2, 0, 2, 3], node=node)))
    (surface,) = read_surfaces(tmp_path / "a.gltf")
    assert surface.corners.reshape(-1, 3).min(0) == pytest.approx([-1, -2, 5])
    assert surface.corners.reshape(-1, 3).max(0) == pytest.approx([0, 0, 5])
    a, b, c = np.moveaxis(surface.corners, 1, 0)
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["accessors"][0].update(count=10**12), "fewer than its accessor asks for"),
        (lambda c: c["accessors"][0].update(count=-1), "a count of -1"),
        (lambda c: c["accessors"][0].update(componentType=7), "cannot be read as glTF"),
        (lambda c: c["bufferViews"][0].update(byteLength=10**9), "reaches beyond its buffer"),
        (lambda c: c["bufferViews"][0].update(byteOffset=-4), "reaches beyond its buffer"),
        (lambda c: c["nodes"][0].update(children=[0]), "nodes within nodes without end"),
        (lambda c: c["nodes"][0].update(mesh=9), "cannot be read as glTF"),
        (lambda c: c["asset"].update(version="1.0"), "glTF of version 1.0; expected 2.0"),
        (lambda c: c["buffers"][0].update(uri="../../etc/passwd"), "is not inside"),
        (lambda c: c.update(meshes=[]), "cannot be read as glTF"),
        (lambda c: c["meshes"][0]["primitives"][0].update(mode=0), "holds no faces"),
    ],
)
def test_broken_gltf_is_one_line(tmp_path, change, words):
    content = gltf_of(SQUARE, indices=[0, 1, 2, 0, 2, 3])
    change(content)
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=words) as caught:
        read_surfaces(tmp_path / "a.gltf")
    assert "\n" not in str(caught.value)


def test_a_damaged_glb_never_escapes(tmp_path):
    box = trimesh.creation.box((1, 1, 1))
    good = box.export(file_type="glb")
    draw = np.random.default_rng(0)
    for trial in range(100):
        broken = bytearray(good)
        for at in draw.integers(0, len(broken), 4):
            broken[at] = draw.integers(256)
        (tmp_path / "a.glb").write_bytes(bytes(broken[: draw.integers(4, len(broken))] if trial % 3 == 0 else broken))
        try:
            read_surfaces(tmp_path / "a.glb")
        except FileFormatError as error:
            assert "\n" not in str(error)  # noqa: PT017
    (tmp_path / "b.glb").write_bytes(b"glTF" + struct.pack("<II", 2, 2**31))
    with pytest.raises(FileFormatError, match="bytes, of which 12 are there"):
        read_surfaces(tmp_path / "b.glb")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nodes": [*({"children": [i + 1, i + 1]} for i in range(60)), {"mesh": 0}]}, "nodes with many parents"),  # 2^60 ways to the mesh
        ({"nodes": [{"children": [0], "mesh": 0}]}, "nodes"),
        ({"accessors": [{"componentType": 5126, "type": "VEC3", "count": 10**9, "sparse": {}}]}, "a sparse accessor of 1000000000 rows"),
    ],
)
def test_gltf_that_asks_for_too_much(tmp_path, change, words):
    content = gltf_of(np.eye(3)) | change | {"scenes": [{"nodes": [0]}], "scene": 0}
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    start = time.process_time()
    with pytest.raises(FileFormatError, match=words):
        read_surfaces(tmp_path / "a.gltf")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("size", [(20_000, 10_000), (9000, 1)])
def test_pictures_are_measured_before_they_are_unpacked(tmp_path, size):
    content = gltf_of(
        np.eye(3),
        uv=np.zeros((3, 2)),
        material={"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}},
        picture=Image.new("1", size),
    )
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=r"200000000 pixels|9000 × 1 pixels, expected at most 8192 a side"):
        read_surfaces(tmp_path / "a.gltf")


@READERS
@pytest.mark.parametrize(
    "text",
    [
        "v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n",  # two coordinates
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0\nvt 1\nvt 0\nf 1/1 2/2 3/3\n",
        "v 0 0 0 1 0\nv 1 0 0 1 0\nv 0 1 0 1 0\nf 1 2 3\n",  # half a colour
        "v 0 0\nv 1 0\n",  # a cloud of the plane
    ],
)
def test_rows_of_the_wrong_width_are_read_or_one_line(tmp_path, read, text):
    (tmp_path / "a.obj").write_text(text)
    try:
        read(tmp_path / "a.obj")
    except FsdGsError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_texture_wrapping_and_levels():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 2:] = 255
    uv = np.array([[1.125, 0.5]])  # in the first column of the next copy
    first = {
        wrap: Texture(Image.fromarray(pixels), (wrap, wrap)).sample(uv, np.zeros(1, int))[0, 0] for wrap in ("repeat", "mirror", "clamp")
    }
    assert first == pytest.approx({"repeat": 0, "mirror": 1, "clamp": 1})
    assert Texture(Image.fromarray(pixels)).level(2).tolist() == [[[0.5, 0.5, 0.5, 1.0]]]
    assert Texture(Image.fromarray(pixels[:3, :3])).level(5).shape == (1, 1, 4)


def windows(path):
    """A low box of 12 faces whose picture has sharp panes of glass: white with dark squares."""
    pixels = np.full((256, 256, 3), 240, np.uint8)
    for row in range(32, 256, 96):
        for column in range(32, 256, 96):
            pixels[row : row + 48, column : column + 48] = 20
    box = trimesh.creation.box((1, 1, 1))
    corners = box.vertices[box.faces].reshape(-1, 3)
    axis = np.abs(box.face_normals).argmax(1).repeat(3)
    uv = np.stack([corners[np.arange(36), (axis + 1) % 3], corners[np.arange(36), (axis + 2) % 3]], axis=1) + 0.5
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    path.write_text(json.dumps(gltf_of(corners, material=material, uv=uv, picture=Image.fromarray(pixels))))
    return path


def test_a_low_poly_textured_mesh_keeps_its_seams_and_its_budget(tmp_path):
    """It is refined where the picture asks for it, never past max_faces, and never thinned: the panes stay where they are."""
    path = windows(tmp_path / "house.gltf")
    for budget, of_one_colour in ((2000, 0.25), (20_000, 0.5)):
        mesh = load_asset(path, tmp_path, AssetSettings(lit=True, max_faces=budget))
        assert len(mesh.faces) <= budget
        assert trimesh.Trimesh(mesh.vertices, mesh.faces).area == pytest.approx(6 * (0.9 * 2 / 3**0.5) ** 2, rel=1e-3)  # still the box
        colors = mesh.corner_colors
        plain = np.ptp(colors, axis=1).max(1) < 0.05
        weights = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).area_faces
        assert weights[plain].sum() / weights.sum() > of_one_colour  # most of the wall is one colour or the other …
        dark = colors.mean((1, 2)) < 0.5
        assert weights[dark].sum() / weights.sum() == pytest.approx(0.25, abs=0.04)  # … and the panes are as large as drawn


def test_refinement_leaves_no_cracks(tmp_path):
    """Both sides of every edge are halved alike: welded, the box is closed."""
    mesh = load_asset(windows(tmp_path / "house.gltf"), tmp_path, AssetSettings(lit=True, max_faces=3000))
    welded = trimesh.Trimesh(np.round(mesh.vertices, 5), mesh.faces)
    welded.merge_vertices(merge_tex=True, merge_norm=True)
    assert welded.is_watertight


def test_one_colour_a_face_is_not_refined_for_its_texture(tmp_path):
    """A palette: every face looks at one cell. Faces stay as they are but for the shading's own spacing."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    ball = trimesh.creation.icosphere(3)  # 1280 faces, edges below 0.2
    corners = ball.vertices[ball.faces].reshape(-1, 3)
    cell = np.random.default_rng(1).integers(0, 8, (len(ball.faces), 2)).repeat(3, 0)
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    content = gltf_of(corners, material=material, uv=(cell + 0.5) / 8, picture=Image.fromarray(pixels))
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    assert len(load_asset(tmp_path / "a.gltf", tmp_path, AssetSettings(lit=True)).faces) == 1280


@pytest.mark.parametrize("suffix", MESHES)
def test_damaged_meshes_are_read_or_refused(tmp_path, suffix):
    """A hundred of each kind, by both readers; ``benchmarks/fuzz_readers.py`` reads thousands."""
    mutator = MeshMutator(suffix)
    mutator.read_samples(load_mesh, tmp_path)
    refused = 0
    for number in range(100):
        (tmp_path / suffix).write_bytes(mutator(2, number))
        try:
            load_mesh(tmp_path / suffix)
        except (FileFormatError, InputError) as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
    assert refused >= 10
