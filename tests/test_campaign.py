"""The short form of the reliability campaign (tests/campaign): every count is 0."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "campaign"))


@pytest.mark.parametrize("name", ["nonfinite", "disk", "together", "kills"])
def test_short_form(name):
    """In a process of its own: a fork of one that has threads may never wake up."""
    words = [sys.executable, "-m", "tests.campaign", name]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[2:-1] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert rows
    for cases, *counts in rows:
        assert int(cases) > 0
        assert [int(count) for count in counts] == [0, 0, 0, 0], done.stdout


def test_a_campaign_can_fail(monkeypatch):
    """Without the guard's check of a step, the campaign sees what is not finite."""
    nonfinite, step = importlib.import_module("nonfinite"), importlib.import_module("fsd_gs.train.step")
    monkeypatch.setattr(step, "problem_after", lambda session, loss: None)
    row = nonfinite.Row("no guard")
    nonfinite.try_one(row, "means", nonfinite.STEPS["last"], float("nan"), False)
    assert not row.clean


def test_the_command_names_its_campaigns():
    words = [sys.executable, "-m", "tests.campaign", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert all(name in done.stdout for name in ("nonfinite", "disk", "together", "kills"))
