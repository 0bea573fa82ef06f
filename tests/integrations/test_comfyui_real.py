"""The nodes in a real ComfyUI: its server loads them and runs a graph in which its own nodes take our splats.

Skipped where there is none. COMFYUI names a checkout (0.30 or newer), COMFYUI_PYTHON the command that starts its main.py (default: this
Python and the checkout's main.py): ``COMFYUI=~/ComfyUI pytest -n 0 tests/integrations/test_comfyui_real.py``.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from export_scenes import egg

from fsd_gs.export.formats import load_splats, save_splats

NODES = Path(__file__).parents[2] / "integrations" / "comfyui"
COMFYUI = os.environ.get("COMFYUI")
pytestmark = pytest.mark.skipif(not COMFYUI, reason="no ComfyUI here: name a checkout in COMFYUI")
SECONDS = 900


class Comfy:
    """A running server. folder: its base directory."""

    def __init__(self, folder: Path, port: int, process: subprocess.Popen) -> None:
        self.folder, self.process, self._address = folder, process, f"http://127.0.0.1:{port}"

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def wait(self, found):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, "ComfyUI has ended"
            try:
                if (value := found()) is not None:
                    return value
            except urllib.error.URLError:
                pass
            time.sleep(0.5)
        raise AssertionError("ComfyUI took too long")

    def run(self, graph):
        key = self.ask("/prompt", {"prompt": graph})["prompt_id"]
        return self.wait(lambda: self.ask(f"/history/{key}").get(key))


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comfy")
    for name in ("custom_nodes", "input", "output", "web"):
        (folder / name).mkdir()
    save_splats(egg(50), folder / "input" / "scan.splat")
    (folder / "web" / "index.html").write_text("<!doctype html>")
    (folder / "custom_nodes" / "fsd_gs_nodes").symlink_to(NODES)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = shlex.split(os.environ.get("COMFYUI_PYTHON", f"{sys.executable} main.py"))
    options = [
        "--cpu",
        "--port",
        str(port),
        "--disable-api-nodes",
        "--base-directory",
        str(folder),
        "--front-end-root",
        str(folder / "web"),
    ]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([*start, *options], cwd=COMFYUI, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        server = Comfy(folder, port, process)
        try:
            server.wait(lambda: server.ask("/system_stats"))
            yield server
        finally:
            process.terminate()
            process.wait()


LOADS = {
    "7": {"class_type": "FSDGS_Load", "inputs": {"file": "scan.splat"}},
    "8": {"class_type": "FSDGS_Export", "inputs": {"splat": ["7", 0], "format": "ply", "target": "auto", "filename_prefix": "3d/scan"}},
}


def graph(**fields):
    """Ours generates and exports; ComfyUI's own nodes write, read, and count the same splats; ours exports them again."""
    words = {
        "prompt": "a red chair",
        "seed": 0,
        "quality": "good",
        "config": "default",
        "settings": "steps=6 outputs.turntable_frames=0",
        **fields,
    }
    return {
        "1": {"class_type": "FSDGS_Generate", "inputs": words},
        "2": {
            "class_type": "FSDGS_Export",
            "inputs": {"splat": ["1", 0], "format": "spz", "target": "auto", "filename_prefix": "3d/chair"},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 2]}},
        "4": {"class_type": "SplatToFile3D", "inputs": {"splat": ["1", 0], "format": "ply"}},
        "5": {"class_type": "File3DToSplat", "inputs": {"model_3d": ["4", 0]}},
        "6": {"class_type": "FSDGS_Export", "inputs": {"splat": ["5", 0], "format": "ply", "target": "auto", "filename_prefix": "3d/back"}},
    }


def test_its_server_knows_the_nodes(comfy):
    known = comfy.ask("/object_info")
    assert {"FSDGS_Generate", "FSDGS_Load", "FSDGS_Export"} <= known.keys()
    assert known["FSDGS_Generate"]["output"] == ["SPLAT", "FILE_3D_PLY", "IMAGE"] == [*known["FSDGS_Generate"]["output"]]
    assert known["SplatToFile3D"]["input"]["required"]["splat"][0] == known["FSDGS_Export"]["input"]["required"]["splat"][0] == "SPLAT"


def test_a_graph_of_its_nodes_and_ours(comfy):
    done = comfy.run({**graph(), **LOADS})
    assert done["status"]["status_str"] == "success", done["status"]
    made = load_splats(comfy.folder / "output/fsd_gs/a-red-chair/seed-0000/splats.ply")
    back = load_splats(comfy.folder / "output/3d/back_00001_.ply")  # through ComfyUI's own writer and reader
    assert len(made) == len(back) > 1000
    assert (made.means - back.means).abs().max() < 1e-4
    assert len(load_splats(comfy.folder / "output/3d/chair_00001_.spz")) == len(made)
    assert done["outputs"]["3"]["images"]
    loaded = load_splats(comfy.folder / "output/3d/scan_00001_.ply")
    assert (loaded.means - load_splats(comfy.folder / "input/scan.splat").means).abs().max() < 1e-4


def test_a_refusal_is_the_line_of_the_terminal(comfy):
    for settings, line in (
        ("stepz=3", "unknown key 'stepz'; did you mean 'steps'?"),
        ("splats.init=/etc/passwd", "cannot be chosen from a page"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            comfy.run(graph(settings=settings))
        assert line in json.dumps(json.loads(refused.value.read()), ensure_ascii=False)


def test_interrupting_stops_after_the_step_and_the_next_run_goes_on(comfy):
    slow = graph(seed=1, settings="steps=400 outputs.turntable_frames=0 outputs.preview_every=0")
    key = comfy.ask("/prompt", {"prompt": slow})["prompt_id"]
    log = comfy.folder / "output/fsd_gs/a-red-chair/seed-0001/log.jsonl"
    comfy.wait(lambda: True if log.is_file() and len(log.read_text().splitlines()) >= 2 else None)
    comfy.ask("/interrupt", {})
    done = comfy.wait(lambda: comfy.ask(f"/history/{key}").get(key))
    assert "execution_interrupted" in json.dumps(done["status"])
    assert (log.parent / "checkpoint" / "state.safetensors").is_file()
