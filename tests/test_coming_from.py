"""The worked examples of docs/coming_from, run from their first line to their last on files of the kind that the other programs write."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from export_scenes import egg

from fsd_gs.cli import main
from fsd_gs.export.axes import to_target
from fsd_gs.export.formats import load_splats
from fsd_gs.export.ply import save_ply

pytestmark = pytest.mark.long

PAGES = {path.stem: path.read_text("utf-8") for path in sorted((Path(__file__).parent.parent / "docs" / "coming_from").glob("*.md"))}
FEW = ["--size", "32", "--frames", "2", "--mesh-resolution", "16", "--texture", "32"]
# The catalogue's objects instead of a network, small pictures, two steps; what the line says about splats and times stays.
SMALL = ["prior.name=exact", "prior.objects=2", "prior.distractors=1", "steps=2", "count=1", "render.sizes=[16]", "overwrite=true"]


def lines(page):
    """Commands of indented blocks that need neither a GPU nor an open browser."""
    found = [line.strip() for line in PAGES[page].splitlines() if re.match(r" {4}(python train\.py|fsd-gs (export|info)) ", line)]
    return [line for line in found if "--config mvdream" not in line and "--config sd" not in line and "RUN" not in line]


def run(line):
    words = shlex.split(line)
    if words[0] == "python":
        return main(["train", *words[2:], *SMALL])
    return main([*words[1:], *FEW] if words[1] == "export" else words[1:])


def foreign(path, frame, offset):
    """3DGS splats of another program: its axes, a place and a size of its own, and no word about any of it."""
    splats = egg(400)
    moved = type(splats)(splats.means * 0.5 + offset, splats.quats, splats.scales * 0.5, splats.opacities, splats.sh)
    save_ply(to_target(moved, frame), path)


def shape(splats):
    """The centres without place and size, in whatever order."""
    centred = splats.means - splats.means.mean(0)
    return centred / centred.std()


@pytest.mark.parametrize("page", ["trellis", "dreamgaussian", "gsplat"])
def test_their_splats_become_a_start(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, frame, offset in (("trellis", "supersplat", 3.0), ("scan", "supersplat", 3.0), ("theirs", "spark", 0.0)):
        foreign(tmp_path / f"{name}.ply", frame, offset)
    commands = lines(page)
    assert len(commands) >= 2
    for line in commands:
        assert run(line) == 0, line
    start = next((tmp_path / name for name in ("start.ply", "upright.ply") if (tmp_path / name).is_file()), None)
    assert start is not None
    assert torch.cdist(shape(load_splats(start)), shape(egg(400))).min(1).values.max() < 0.01  # they stand as ours do
    made = load_splats(next(tmp_path.glob("outputs/*/seed-*/splats.ply")))
    assert len(made)


def test_methods_of_threestudio_run_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = [line for line in lines("threestudio") if "methods/" in line]
    assert {re.search(r"methods/(\w+)", line)[1] for line in commands} == {"sds", "fsd"}
    for line in commands:
        assert main(["train", *shlex.split(line)[2:], *SMALL, f"output={len(list(tmp_path.iterdir()))}"]) == 0


def test_the_python_of_gsplat_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/a-red-chair/seed-0000"
    folder.mkdir(parents=True)
    save_ply(egg(100), folder / "splats.ply")
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGES["gsplat"], re.M | re.S):
        exec(block, names)
    assert {"means", "quats", "scales", "opacities", "sh0"} <= set(names["params"])
    assert (load_splats("tuned.ply").means - load_splats(folder / "splats.ply").means).abs().max() < 1e-6
