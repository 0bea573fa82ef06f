"""The short form of the reliability campaign (tests/campaign): every count is 0, and would not be without what is tested."""

import importlib
import random
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "campaign"))
IN_ONE_PROCESS = ("nonfinite", "bits", "overrides", "together", "kills")
WITH_COMMANDS = ("disk", "commands", "strangers")


def campaign(*arguments):
    """In a process of its own: a fork of one that has threads may never wake up."""
    words = [sys.executable, "-m", "tests.campaign", *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1800, stdin=subprocess.DEVNULL)


@pytest.mark.long
@pytest.mark.parametrize("names", [IN_ONE_PROCESS, pytest.param(WITH_COMMANDS, marks=pytest.mark.slow)], ids=["runs", "commands"])
def test_short_form(names):
    done = campaign(*names)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[2:-1] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= len(names)
    for cases, *counts in rows:
        assert int(cases) > 0
        assert [int(count) for count in counts] == [0, 0, 0, 0], done.stdout


@pytest.mark.long
def test_the_command_names_its_campaigns():
    done = campaign("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in (*IN_ONE_PROCESS, *WITH_COMMANDS))


# -- the campaign can fail -----------------------------------------------------------------------------------------------------


def test_it_sees_what_is_not_finite(monkeypatch):
    nonfinite, step = importlib.import_module("nonfinite"), importlib.import_module("fsd_gs.train.step")
    monkeypatch.setattr(step, "problem_after", lambda session, loss: None)
    row = nonfinite.Row("no guard")
    nonfinite.try_one(row, "means", nonfinite.STEPS["last"], float("nan"), False)
    assert not row.clean


def test_it_sees_a_flipped_bit_without_a_checksum(monkeypatch, tmp_path):
    bits, checkpoint = importlib.import_module("bits"), importlib.import_module("fsd_gs.train.checkpoint")
    monkeypatch.setattr(checkpoint, "_check_sum", lambda content, digest: None)
    config = bits.tiny(tmp_path, *bits.QUICK)
    path = bits.make_asset(config, bits.GreenPrior(), observers=[bits.StopAt(7)]).folder / bits.runs.CHECKPOINT
    last = path.stat().st_size - 1  # of the tensors, which come after the header
    row = bits.flips(bits.Row("no checksum"), path, [last], random.Random(0), str(tmp_path))
    assert row.silent


def test_it_sees_who_is_let_in():
    strangers = importlib.import_module("strangers")

    class Open(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Open)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        row = strangers.Row("anybody")
        strangers.strangers(row, server.server_port, "")
        assert row.let_in == row.cases > 30
        assert row.lost == 1  # no WebSocket of its own
    finally:
        server.shutdown()
        server.server_close()
