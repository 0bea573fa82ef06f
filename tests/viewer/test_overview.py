"""The overview of all prompts: what it lists, and that a request can name nothing else."""

import http.client

import numpy as np
import pytest
from export_scenes import egg

from fsd_gs.config import load_config
from fsd_gs.export.pictures import save_png
from fsd_gs.export.ply import save_ply
from fsd_gs.train import runs
from fsd_gs.viewer.command import all_prompts, find_assets
from fsd_gs.viewer.overview import Overview, finished_runs, overview_page
from fsd_gs.viewer.server import door_of, open_server

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")
HOSTILE = "</script><img src=x onerror=alert(1)> {{ 7 * 7 }}"


def finished(folder, prompt, seed):
    run = runs.prepare_folder(load_config(overrides=[f"prompt={prompt}", f"output={folder}", f"seed={seed}"]))
    save_png(np.full((388, 780, 3), 40 * seed, np.uint8), run / runs.PREVIEW)
    save_ply(egg(20), run / runs.SPLATS)
    return run


@pytest.fixture
def outputs(tmp_path):
    for prompt, seed in (("a red chair", 0), ("a red chair", 1), (HOSTILE, 2)):
        finished(tmp_path, prompt, seed)
    return tmp_path


@pytest.fixture
def served(outputs):
    chosen, server = [], open_server(port=0, say=lambda _: None)
    door_of(server).overview = Overview(finished_runs(outputs), chosen.append)
    yield server.get_port(), chosen
    server.stop()


def get(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": "127.0.0.1", **{k.replace("_", "-"): v for k, v in headers.items()}})
    answer = connection.getresponse()
    return answer.status, answer.getheader("Content-Type"), answer.read()


def test_all_prompts_are_found_and_damaged_runs_left_out(outputs, caplog):
    broken = finished(outputs, "a lamp", 3)
    (broken / runs.CONFIG).write_text("steps: [")
    entries = all_prompts(outputs)
    assert sorted((entry.prompt, entry.seed) for entry in entries) == sorted([("a red chair", 0), ("a red chair", 1), (HOSTILE, 2)])
    assert "left out of the overview" in caplog.text
    assert all_prompts(outputs / "a-red-chair") == []
    assert list(find_assets(outputs / "a-red-chair")) == ["a-red-chair-seed-0000", "a-red-chair-seed-0001"]


def test_prompts_stay_text(outputs):
    page = overview_page(finished_runs(outputs))
    assert "<img src=x" not in page
    assert "{{ 7 * 7 }}" in page
    assert "3 assets" in page
    assert "of 2 prompts" in page


def test_pages_pictures_and_choices(served):
    port, chosen = served
    status, kind, page = get(port, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert b"a red chair" in page
    status, kind, picture = get(port, "/thumbnail?asset=1")
    assert (status, kind, picture[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert get(port, "/index.html?asset=0", Sec_Fetch_Site="cross-site")[0] == 200  # a link of another site shows, but chooses nothing
    assert chosen == []
    assert get(port, "/index.html?asset=0", Sec_Fetch_Site="same-origin")[0] == 200
    assert len(chosen) == 1


@pytest.mark.parametrize("asset", ["3", "-1", "99999999999999999999", "../../etc/passwd", "%2e%2e", "1&asset=x", "\u0663", ""])
def test_only_numbers_of_the_list_are_assets(served, asset):
    from urllib.parse import quote

    port, chosen = served
    assert get(port, f"/thumbnail?asset={quote(asset, safe='/%&=')}")[0] == 404
    get(port, f"/index.html?asset={quote(asset, safe='/%&=')}")
    assert chosen == []


def test_the_overview_is_behind_the_same_rules(served):
    port, _ = served
    for path in ("/", "/thumbnail?asset=0"):
        assert get(port, path, Host="evil.example")[0] == 403
        assert get(port, path, Origin="http://evil.example")[0] == 403
