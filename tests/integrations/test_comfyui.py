"""The ComfyUI nodes against ComfyUI's interface: inputs and outputs, progress, interruption, refusals, and no path beyond its folders."""

import asyncio
import json
import re
from pathlib import Path

import pytest
import torch
from export_scenes import egg

from fsd_gs.errors import FsdGsError
from fsd_gs.export.formats import load_splats, save_splats
from tests.integrations.comfy_interface import Interface, InterruptProcessingException, Splat, load_nodes

ROOT = Path(__file__).parents[2]
FEW = "prior.objects=2 prior.distractors=1"
SMALL = "steps=3 splats.count=200 outputs.preview_every=1 outputs.turntable_frames=0 outputs.timelapse=false"
CHAIR = {
    "prompt": "a red chair",
    "seed": 0,
    "quality": "good",
    "config": "exact",
    "settings": f"{SMALL} {FEW}",
}


@pytest.fixture
def interface(tmp_path):
    return Interface(tmp_path)


@pytest.fixture
def nodes(interface, monkeypatch):
    with torch.inference_mode():  # as ComfyUI runs them
        yield load_nodes(interface, monkeypatch)


def test_the_extension_names_its_nodes(nodes):
    found = asyncio.run(asyncio.run(nodes.comfy_entrypoint()).get_node_list())
    schemas = {schema.node_id: schema for schema in (node.define_schema() for node in found)}
    assert {schema.display_name for schema in schemas.values()} == {"FSD-GS Generate", "Load splats", "Export splats"}
    assert [socket.io_type for socket in schemas["FSDGS_Generate"].outputs] == ["SPLAT", "FILE_3D_PLY", "IMAGE"]
    assert schemas["FSDGS_Export"].is_output_node
    graph = json.loads((ROOT / "integrations/comfyui/examples/chair.json").read_text())
    ours = [node for node in graph.values() if node["class_type"].startswith("FSDGS_")]
    assert ours
    for node in ours:
        assert node["inputs"].keys() == {socket.id for socket in schemas[node["class_type"]].inputs}


def test_generate_reports_progress_and_gives_the_runs_splats(nodes, interface):
    splat, file, picture = nodes.Generate.execute(**CHAIR).args
    made = load_splats(file.source)
    assert isinstance(splat, Splat)
    assert splat.positions.shape == (1, len(made), 3)
    assert splat.opacities.shape == (1, len(made), 1)
    assert (splat.scales > 0).all()
    assert torch.allclose(splat.positions[0, :, 1], -made.means[:, 2], atol=1e-6)  # y down
    assert picture.shape[0] == 1
    assert 0 <= picture.min() < picture.max() <= 1
    assert [report[:2] for report in interface.bars] == [(1, 3), (2, 3), (3, 3)]
    assert [report[2] is not None for report in interface.bars][1]  # a new contact sheet came with the second step
    again = nodes.Generate.execute(**CHAIR)  # is there: nothing is made
    assert len(interface.bars) == 3
    assert torch.equal(again.args[0].positions, splat.positions)
    best = nodes.settings_of(**{**CHAIR, "quality": "best"})
    assert (best.steps, best.cameras.views, best.overwrite) == (3, 8, True)  # what is typed wins; other settings make it anew


@pytest.mark.long
def test_an_interrupted_run_goes_on(nodes, interface):
    interface.interrupted = True
    with pytest.raises(InterruptProcessingException):
        nodes.Generate.execute(**CHAIR)
    folder = interface.folders["output"] / "fsd_gs/a-red-chair/seed-0000"
    assert (folder / "checkpoint/state.safetensors").is_file()
    nodes.Generate.execute(**CHAIR)
    assert (folder / "splats.ply").is_file()
    assert interface.bars[-1][:2] == (3, 3)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"prompt": " "}, "prompt: expected words that say what to make"),
        ({"settings": "stepz=3"}, r"unknown key 'stepz'; did you mean 'steps'\?"),
        ({"settings": "splats.init=/etc/passwd"}, "splats.init: '/etc/passwd' cannot be chosen from a page"),
        ({"settings": "output=/tmp/elsewhere"}, "settings: output cannot be typed here"),
        ({"config": "../../etc/passwd"}, "preset: unknown preset"),
    ],
)
def test_refusals_are_the_terminals_line(nodes, fields, line):
    said = nodes.Generate.validate_inputs(**{**CHAIR, **fields})
    assert re.match(line, said)
    assert "\n" not in said
    assert nodes.Generate.validate_inputs(**CHAIR) is True


def test_load_and_export_stay_in_their_folders(nodes, interface, tmp_path):
    splats = egg(50)
    save_splats(splats, interface.folders["input"] / "3d.ply")
    save_splats(splats, tmp_path / "outside.ply")
    (interface.folders["input"] / "notes.txt").touch()
    save_splats(splats, interface.folders["input"] / "scan.splat")  # has no place to say where it comes from
    assert nodes.input_files() == ["3d.ply", "scan.splat"]
    assert nodes.Load.execute("scan.splat").args[1:] == (50, "")
    splat, count, _ = nodes.Load.execute("3d.ply").args
    assert count == 50
    with pytest.raises(FsdGsError, match="is not in the input folder"):
        nodes.Load.execute("../outside.ply")
    for format in ("ply", "spz", "html"):
        file, path = nodes.Export.execute(splat, format, "auto", "3d/egg").args
        assert Path(path).parent == interface.folders["output"] / "3d"
        assert Path(file.source).stat().st_size
    back = load_splats(interface.folders["output"] / "3d/egg_00001_.ply")
    assert torch.allclose(back.means, splats.means, atol=1e-5)
    with pytest.raises(Exception, match="outside the output folder"):
        nodes.Export.execute(splat, "ply", "auto", "../../egg")


def test_a_batch_is_written_one_by_one_without_its_padding(nodes, interface):
    one = nodes.Load.execute
    save_splats(egg(50), interface.folders["input"] / "a.ply")
    splat = one("a.ply").args[0]
    pad = {name: torch.cat([getattr(splat, name)] * 2) for name in ("positions", "scales", "rotations", "opacities", "sh")}
    nodes.Export.execute(Splat(**pad, counts=torch.tensor([50, 20])), "ply", "auto", "both")
    assert [len(load_splats(path)) for path in sorted(interface.folders["output"].glob("both*.ply"))] == [50, 20]
