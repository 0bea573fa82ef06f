"""Where an asset comes from: written into every format with a place for it, and read again; nonsense is not believed."""

import json

import pytest
import trimesh
from export_scenes import egg

from fsd_gs.cli import main as cli
from fsd_gs.core.file_axes import FRAMES, MESH_AXES, SPLAT_AXES, stated_axes
from fsd_gs.export.formats import EXPORTERS, ExportOptions, export, load_splats, save_splats
from fsd_gs.export.mesh import MeshSettings, save_mesh
from fsd_gs.export.pictures import TurntableSettings
from fsd_gs.export.provenance import Provenance, from_comments, from_mapping, read_provenance
from fsd_gs.render import make_rasterizer

ORIGIN = Provenance('a "réd" chair\nend_header', 7, "0123456789abcdef", "nano", "Apache-2.0", "9.9")
SILENT = {"spz", "splat"}
SPEAKING = {
    "ply",
    "compressed-ply",
    "sog",
    "splat-glb",
    "usda",
    "usdc",
    "usdz",
    "glb",
    "obj",
    "mesh-ply",
    "collision",
    "html",
    "mp4",
    "gif",
    "png",
}


@pytest.mark.parametrize("name", sorted(SILENT | SPEAKING))
def test_every_format_with_a_place_for_it_keeps_it(tmp_path, name):
    entry = EXPORTERS[name]
    settings = MeshSettings(resolution=16, image_size=48)
    options = ExportOptions(
        provenance=ORIGIN, rasterizer=make_rasterizer("cpu"), mesh=settings, turntable=TurntableSettings(frames=2, size=32), sheet_views=2
    )
    path = tmp_path / f"a{entry.suffix}"
    export(egg(300), path, name, options)
    found = read_provenance(path)
    if name in SILENT:
        assert found is None
        return
    assert found is not None
    assert {**found.known(), "axes": None} == {**ORIGIN.known(), "axes": None}
    assert found.axes == (entry.axes.frame if entry.axes else None)


def test_the_header_of_a_ply_stays_ascii_lines(tmp_path):
    save_splats(egg(20), tmp_path / "a.ply", provenance=ORIGIN)
    header = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")[0].decode("ascii")
    assert "comment fsd_gs.axes = supersplat (y down, front along -z)\n" in header
    assert 'comment fsd_gs.prompt = "a \\"r\\u00e9d\\" chair\\nend\\u005fheader"\n' in header
    assert len(load_splats(tmp_path / "a.ply")) == 20


def test_nonsense_is_not_believed(tmp_path):
    assert from_mapping({"seed": "7", "prompt": 3, "licence": None}) is None
    assert from_mapping({"seed": True}) is None
    assert from_mapping([1]) is None
    assert from_comments(["fsd_gs.seed = {", "fsd_gs.axes = sideways (no)", "made by somebody"]) is None
    assert stated_axes(["fsd_gs.axes = unity (left-handed)"]) == "unity"
    for name, content in [
        ("a.ply", b"ply\ncomment fsd_gs.seed = 1e999"),
        ("a.sog", b"PK"),
        ("a.glb", b"glTF"),
        ("a.png", b""),
        ("a.mp4", b"\0" * 8),
    ]:
        (tmp_path / name).write_bytes(content)
        assert read_provenance(tmp_path / name) is None, name
    (tmp_path / "b.mp4").write_bytes(b"\0\0\0\x20moov" + b"\xa9cmt" + b"\xff" * 18)
    assert read_provenance(tmp_path / "b.mp4") is None


def test_long_words_are_cut(tmp_path):
    save_splats(egg(20), tmp_path / "a.ply", provenance=Provenance("x" * 100_000))
    assert len(load_splats(tmp_path / "a.ply")) == 20
    assert len(read_provenance(tmp_path / "a.ply").prompt) == 2000


def test_the_table_of_axes_names_known_frames():
    """Up, front and handedness follow from the matrix, and stand in docs/formats.md."""
    assert {axes.frame for axes in [*SPLAT_AXES.values(), *MESH_AXES.values()]} <= set(FRAMES)
    assert {name: (f.up, f.front, f.handedness) for name, f in FRAMES.items()} == {
        "raw": ("+z", "+x", "right"),
        "supersplat": ("-y", "-z", "right"),
        "spark": ("+y", "+z", "right"),
        "unity": ("+y", "+z", "left"),
        "blender": ("+z", "-y", "right"),
        "unreal": ("+z", "+x", "left"),
    }
    json.dumps(ORIGIN.known())


def test_info_prints_what_a_file_holds_and_says(tmp_path, capsys):
    save_splats(egg(50, 1), tmp_path / "a.ply", provenance=ORIGIN)
    assert cli(["info", str(tmp_path / "a.ply")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"size: {(tmp_path / 'a.ply').stat().st_size:,} bytes" in lines
    for line in ("splats: 50", "SH degree: 1", "axes: supersplat (y down, front along -z)", 'prompt: a "réd" chair end_header', "seed: 7"):
        assert line in lines
    assert any(line.startswith("extent: x -0.") and line.endswith("(z up)") for line in lines)
    box = trimesh.creation.box((1, 1, 2))
    save_mesh(box, tmp_path / "b.glb", file_type="glb")
    save_splats(egg(50), tmp_path / "c.spz")
    assert cli(["info", str(tmp_path / "b.glb"), str(tmp_path / "c.spz")]) == 0
    out = capsys.readouterr().out
    assert "faces: 12" in out
    assert "z -1 to 1 (z up)" in out
    assert out.count("origin: the file does not say") == 2


def test_info_of_what_is_not_there_is_one_line(tmp_path, capsys):
    (tmp_path / "x.ply").write_bytes(b"ply\nnonsense")
    for name in ("none.ply", "x.ply"):
        assert cli(["info", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
