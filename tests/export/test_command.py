"""export.py: what it writes, what it refuses, and in which words."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from export_scenes import egg, random_gaussians
from PIL import Image

from fsd_gs.export.command import main, stem
from fsd_gs.export.formats import EXPORTERS, load_splats, save_splats
from fsd_gs.export.ply import read_header
from fsd_gs.render import make_rasterizer

ROOT = Path(__file__).parent.parent.parent


def run(*arguments):
    return main([str(a) for a in arguments], make_rasterizer=lambda: make_rasterizer("cpu"))


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "outputs" / "a-red-chair" / "seed-0003"
    folder.mkdir(parents=True)
    save_splats(egg(600, 1), folder / "splats.ply")
    return folder


def test_every_format_of_a_run(run_folder, capsys):
    picture = ["--size", 48, "--frames", 4, "--mesh-resolution", 16]
    assert run(run_folder, "--format", ",".join(EXPORTERS), *picture) == 0
    written = sorted(path.name for path in (run_folder / "export").iterdir())
    suffixes = [*(entry.suffix for entry in EXPORTERS.values()), ".mtl"]  # an .obj names its texture in a file of its own
    beside = [f"a-red-chair-seed-0003{suffix}" for suffix in suffixes]
    assert [name for name in written if not name.endswith("_texture.png")] == sorted(beside)
    for name, entry in EXPORTERS.items():
        file = run_folder / "export" / f"a-red-chair-seed-0003{entry.suffix}"
        if entry.kind == "splats" and name in ("ply", "compressed-ply", "splat", "spz", "sog"):
            assert len(load_splats(file)) == 600, name
        elif entry.suffix in (".png", ".gif"):
            assert np.asarray(Image.open(file).convert("RGB")).std() > 5, f"{name} is blank"
        elif entry.suffix in (".glb", ".obj", ".mesh.ply", ".collision.glb"):
            assert len(trimesh.load(file, force="mesh").faces) > 20, name
        elif entry.suffix == ".html":
            assert file.read_text("utf-8").rstrip().endswith("</html>")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("wrote ") and line.endswith("B)") for line in lines) == len(EXPORTERS)
    assert any("600 splats of SH degree 1" in line for line in lines)
    splats = load_splats(run_folder / "export" / "a-red-chair-seed-0003.ply", target="supersplat")  # the default axes
    torch.testing.assert_close(splats.means, egg(600, 1).means, atol=1e-6, rtol=0)


def test_options_reach_the_file(tmp_path):
    save_splats(random_gaussians(300, 1), tmp_path / "a.ply")
    arguments = ["--target", "raw", "--sh-pad", 3, "--min-opacity", 0.3, "--max-splats", 50, "--recentre", "--radius", 0.7]
    assert run(tmp_path / "a.ply", "--output", tmp_path / "out.ply", *arguments) == 0
    result = load_splats(tmp_path / "out.ply")
    assert (len(result), result.sh_degree) == (50, 3)
    assert result.opacities.min() >= 0.3
    assert result.means.norm(dim=1).quantile(0.99) == pytest.approx(0.7, rel=0.03)
    assert run(tmp_path / "a.ply", "--output", tmp_path / "crop.ply", "--target", "raw", "--crop", -1, -1, -1, 1, 1, 0) == 0
    assert load_splats(tmp_path / "crop.ply").means[:, 2].max() <= 0


def test_up_turns_a_scan_upright(tmp_path):
    before = random_gaussians(20)
    save_splats(before, tmp_path / "scan.ply", target="supersplat")
    assert run(tmp_path / "scan.ply", "--up", "y-down", "--target", "raw", "--output", tmp_path / "out.ply") == 0
    torch.testing.assert_close(load_splats(tmp_path / "out.ply").means, before.means, atol=1e-6, rtol=0)


LISTS = ["ply,spz,glb,html", "ply,spz,html"]  # the README's list and the one at the end of --help


@pytest.mark.parametrize("formats", LISTS)
def test_a_target_goes_to_the_formats_it_fits_and_one_line_names_the_others(tmp_path, capsys, formats):
    save_splats(egg(300), tmp_path / "a.ply")
    arguments = ["--format", formats, "--target", "supersplat", "--mesh-resolution", 16, "--output", tmp_path / "out"]
    assert run(tmp_path / "a.ply", *arguments) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"a.{name}" for name in formats.split(","))
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: target")]
    fixed = "spz, glb keep their own axes" if "glb" in formats else "spz keeps its own axes"
    assert notes == [f"note: target supersplat: {fixed} (y up, front along +z); html has no axes"]
    assert read_header(tmp_path / "out" / "a.ply").comments[0] == "fsd_gs.axes = supersplat (y down, front along -z)"


@pytest.mark.parametrize("target", [None, "unreal", "raw"])
def test_an_export_is_read_upright_again(tmp_path, target):
    """Whatever the axes of the file: it says them, or its specification does."""
    save_splats(before := egg(300, 1), tmp_path / "a.ply")
    options = [] if target is None else ["--target", target]
    assert run(tmp_path / "a.ply", "--format", "ply,compressed-ply,sog,spz", *options, "--output", tmp_path / "out") == 0
    for path in (tmp_path / "out").iterdir():
        again = load_splats(path).means
        for got, wanted in [(again.amin(0), before.means.amin(0)), (again.amax(0), before.means.amax(0))]:
            torch.testing.assert_close(got, wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("x.ksplat", "x"),
        ("x.compressed.ply", "x"),
        ("x.ksplat.ply", "x"),
        ("x.SPLAT", "x"),
        ("a.b.sog", "a.b"),
        (".ply", ".ply"),
        ("x.y", "x.y"),
    ],
)
def test_names_drop_every_known_suffix(name, title):
    assert stem(name) == title


def test_a_file_that_does_not_say_its_axes_is_taken_as_it_is_with_a_note(tmp_path, capsys):
    save_splats(before := egg(300), tmp_path / "a.splat")
    assert run(tmp_path / "a.splat", "--target", "raw", "--output", tmp_path / "out.ply") == 0
    assert "a.splat does not say which way is up: z is taken" in capsys.readouterr().out
    torch.testing.assert_close(load_splats(tmp_path / "out.ply").means.amax(0), before.means.amax(0))


def test_mode_is_in_the_name_of_pictures_only(tmp_path):
    save_splats(egg(300), tmp_path / "a.ply")
    arguments = ["--format", "png,splat", "--mode", "normal", "--size", 24, "--output", tmp_path / "out"]
    assert run(tmp_path / "a.ply", *arguments) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a-normal.png", "a.splat"]


def test_existing_files_are_kept_unless_told(tmp_path, capsys):
    save_splats(random_gaussians(5), tmp_path / "a.ply")
    (tmp_path / "b.ply").write_text("mine")
    assert run(tmp_path / "a.ply", "--output", tmp_path / "b.ply") == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "b.ply").read_text() == "mine"
    assert run(tmp_path / "a.ply", "--output", tmp_path / "b.ply", "--overwrite") == 0
    assert len(load_splats(tmp_path / "b.ply")) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}/missing.ply"], "missing.ply: file not found"),
        (["{tmp}"], "no splats.ply in this folder"),
        (["{tmp}/a.ply", "--format", "usd"], "format: unknown name 'usd'"),
        (["{tmp}/a.ply", "--format", ","], "format: expected at least one of"),
        (["{tmp}/a.ply", "--min-opacity", "0.999"], "the filters dropped all 5; loosen them"),
        (["{tmp}/a.ply", "--crop", "1", "1", "1", "0", "0", "0"], "crop: expected a low corner"),
        (["{tmp}/a.ply", "--output", "{tmp}/out.spz"], "out.spz' does not fit the format ply"),
        (["{tmp}/a.ply", "--output", "{tmp}/a.ply/sub"], "cannot write"),
        (["{tmp}/a.ply", "--frames", "0", "--format", "mp4"], "expected frames ≥ 1"),
        (["{tmp}/empty.ply"], "the file has none"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, arguments, words):
    save_splats(random_gaussians(5), tmp_path / "a.ply")
    save_splats(random_gaussians(0), tmp_path / "empty.ply")
    before = sorted(tmp_path.rglob("*"))
    assert run(*(a.format(tmp=tmp_path) for a in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before  # no debris


def test_dropped_rows_are_reported_as_a_warning(tmp_path, capsys):
    splats = random_gaussians(6)
    save_splats(splats, tmp_path / "a.ply", target="raw")
    content = (tmp_path / "a.ply").read_bytes()
    one = np.float32(splats.means[2, 0]).tobytes()
    assert content.count(one) == 1
    (tmp_path / "a.ply").write_bytes(content.replace(one, np.float32(np.nan).tobytes()))
    assert run(tmp_path / "a.ply") == 0
    assert "warning:" in (error := capsys.readouterr().err)
    assert "dropped 1 of 6 splats" in error


@pytest.mark.long
def test_script_in_its_own_process(tmp_path):
    script = [sys.executable, str(ROOT / "export.py")]
    refused = subprocess.run([*script, str(tmp_path / "none.ply")], capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 2
    assert refused.stderr == f"error: {tmp_path / 'none.ply'}: file not found; check the path\n"
    debug = subprocess.run([*script, str(tmp_path / "none.ply"), "--debug"], capture_output=True, text=True, cwd=ROOT)
    assert debug.returncode == 2
    assert "Traceback" in debug.stderr


def test_help_lists_every_format(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in EXPORTERS)


def test_an_unbundled_sog_is_a_source(tmp_path, capsys):
    from splat_files import unbundle

    from fsd_gs.export import info

    save_splats(random_gaussians(30, 1), tmp_path / "a.sog")
    chair = tmp_path / "chair"
    chair.mkdir()
    for name, content in unbundle((tmp_path / "a.sog").read_bytes()).items():
        (chair / name).write_bytes(content)
    for source in (chair, chair / "meta.json"):
        assert run(source, "--format", "spz", "--output", str(tmp_path / source.suffix[1:])) == 0
        assert (tmp_path / source.suffix[1:] / "chair.spz").is_file()
        assert info.main([str(source)]) == 0
        assert "splats: 30" in capsys.readouterr().out


def test_a_prompts_folder_is_a_set(tmp_path, capsys):
    for seed in (0, 3):
        save_splats(egg(40), tmp_path / "a-red-chair" / f"seed-{seed:04d}" / "splats.ply")
    (tmp_path / "a-red-chair" / "seed-0001").mkdir()  # not finished
    out = tmp_path / "out"
    assert run(tmp_path / "a-red-chair", "--format", "splat,spz", "--output", out) == 0
    names = [f"a-red-chair-seed-{seed}.{suffix}" for seed in ("0000", "0003") for suffix in ("splat", "spz")]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert run(tmp_path / "a-red-chair") == 0  # beside each
    (tmp_path / "a-red-chair" / "seed-0000" / "export" / "a-red-chair-seed-0000.ply").unlink()
    capsys.readouterr()
    assert run(tmp_path / "a-red-chair") == 2  # one is there: nothing is written
    assert "already there" in capsys.readouterr().err
    assert not (tmp_path / "a-red-chair" / "seed-0000" / "export" / "a-red-chair-seed-0000.ply").exists()
    assert run(tmp_path / "a-red-chair", "--format", "spz", "--output", tmp_path / "one.spz") == 2
    assert "one file for 2 assets" in capsys.readouterr().err
