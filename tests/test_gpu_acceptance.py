"""benchmarks/gpu_acceptance.sh, as a GPU machine would run it, on tiny networks and the CPU; and what its report calls a failure."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_the_whole_road_on_tiny_networks(tmp_path):
    said = subprocess.run(
        ["bash", "benchmarks/gpu_acceptance.sh", "--tiny", "--device", "cpu", "--stages", "kernels,steps,presets", "--steps", "2",
         "--priors", "sd21", "--presets", "sd15+variants/fast", "--output", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    report = json.loads((tmp_path / "acceptance.json").read_text())
    assert report["failures"] == []
    assert {row["SH"] for row in report["stages"]["kernels"]} == {0, 1, 3}
    (step,) = report["stages"]["steps"]
    assert step["step_ms"] >= step["network"] > 0
    (preset,) = report["stages"]["presets"]
    assert (preset["preset"], preset["steps"], preset["of_steps"]) == ("sd15+variants/fast", 2, 600)
    table = (tmp_path / "acceptance.md").read_text()
    assert "dry run on tiny networks" in table
    assert "| sd21: step ≤ 1.1 × its networks |" in table


def test_without_a_gpu_it_says_so_in_one_line(acceptance, monkeypatch, capsys):
    monkeypatch.setattr(acceptance.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_acceptance.py"])
    assert acceptance.main() == 2
    assert capsys.readouterr().err.startswith("error: --device: expected a CUDA device")


@pytest.mark.parametrize(
    ("stage", "row", "line"),
    [
        ("tests", {"exit": 1, "said": "2 failed, 6 passed"}, "tests: 2 failed, 6 passed"),
        ("kernels", {"splats": 60, "px": 24, "SH": 1, "equal": False}, "kernels differ: 60 splats, 24 px, SH 1"),
        ("presets", {"preset": "sd21", "exit": 2, "said": "error: no"}, "sd21: error: no"),
        ("presets", {"preset": "sd21", "exit": 0, "finite": False}, "sd21: splats that are not finite"),
        ("steps", {"error": "RuntimeError: out of memory"}, "steps: RuntimeError: out of memory"),
    ],
)
def test_what_is_called_a_failure(acceptance, stage, row, line):
    assert acceptance.failures({"stages": {stage: [row]}}) == [line]


def test_goals_are_held_against_the_measured_rows(acceptance):
    steps = [{"prior": "sd21", "step_ms": 120.0, "floor_ms": 100.0, "other": "16.7 %"}]
    presets = [{"preset": "mvdream", "asset_seconds": 25.0}, {"preset": "sd15+variants/fast", "peak_gb": 7.0}]
    met = {row["goal"]: row["met"] for row in acceptance.goals({"stages": {"steps": steps, "presets": presets}})}
    assert met == {
        "sd21: step ≤ 1.1 × its networks": False,
        "sd21: everything else ≤ 15 %": False,
        "mvdream: an asset ≤ 30 s": True,
        "fast preset ≤ 8 GB": True,
    }


@pytest.fixture
def acceptance(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu_acceptance")
