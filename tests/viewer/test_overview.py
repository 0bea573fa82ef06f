"""The overview of all prompts: what it lists, what can be done to an asset, and that a request can name nothing else."""

import http.client
import json
import shutil
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from export_scenes import egg

from fsd_gs.catalogue.vocabulary import Vocabulary
from fsd_gs.config import load_config
from fsd_gs.export.pictures import save_png
from fsd_gs.export.ply import save_ply
from fsd_gs.train import runs
from fsd_gs.viewer.command import find_assets, holds_prompts
from fsd_gs.viewer.house import BIN, House, finished_runs
from fsd_gs.viewer.overview import Overview, overview_page
from fsd_gs.viewer.server import door_of, open_server

pytestmark = pytest.mark.long

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")
HOSTILE = "</script><img src=x onerror=alert(1)> {{ 7 * 7 }}"


def finished(folder, prompt, seed):
    run = runs.prepare_folder(load_config(overrides=[f"prompt={prompt}", f"output={folder}", f"seed={seed}"]))
    save_png(np.full((388, 780, 3), 40 * seed, np.uint8), run / runs.PREVIEW)
    save_ply(egg(20), run / runs.SPLATS)
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for prompt, seed in (("a red chair", 0), ("a red chair", 1), (HOSTILE, 2)):
        finished(folder, prompt, seed)
    return folder


@pytest.fixture
def outputs(made, tmp_path):
    return shutil.copytree(made, tmp_path / "outputs")


KNOWN = Vocabulary(["mug", "chair"], ["a brown crate", "a brown crate of carrots"])


class Studio:
    """Notes what it is asked for."""

    def __init__(self):
        self.shown, self.proposed = [], []
        self.show, self.propose = self.shown.append, self.proposed.append

    def vocabulary(self):
        return KNOWN


@pytest.fixture(scope="module")
def server():
    server = open_server(port=0, say=lambda _: None)
    yield server
    server.stop()


@pytest.fixture
def served(outputs, server):
    studio = Studio()
    door_of(server).overview = Overview(House(outputs), studio)
    yield server.get_port(), studio
    door_of(server).overview.galleries.wait()


def get(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": "127.0.0.1", **{k.replace("_", "-"): v for k, v in headers.items()}})
    answer = connection.getresponse()
    return answer.status, answer.getheader("Content-Type"), answer.read()


def act(port, what, asset, **fields):
    """The answer to what a page's script asks for."""
    query = urlencode({"act": what, "asset": asset, **fields})
    status, kind, body = get(port, f"/do?{query}", X_Fsd_Gs="act")
    assert kind == "application/json"
    return status, json.loads(body)


def test_all_prompts_are_found_and_damaged_runs_left_out(outputs, caplog):
    broken = finished(outputs, "a lamp", 3)
    (broken / runs.CONFIG).write_text("steps: [")
    entries = finished_runs(outputs)
    assert sorted((entry.prompt, entry.seed) for entry in entries) == sorted([("a red chair", 0), ("a red chair", 1), (HOSTILE, 2)])
    assert "left out of the overview" in caplog.text
    assert holds_prompts(outputs)
    assert not holds_prompts(outputs / "a-red-chair")
    assert list(find_assets(outputs / "a-red-chair")) == ["a-red-chair-seed-0000", "a-red-chair-seed-0001"]


def test_prompts_stay_text(outputs):
    page = overview_page(finished_runs(outputs))
    assert "<img src=x" not in page
    assert "{{ 7 * 7 }}" in page
    assert "3 assets" in page
    assert "of 2 prompts" in page


def test_pages_pictures_and_choices(served):
    port, studio = served
    status, kind, page = get(port, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert b"a red chair" in page
    assert get(port, "/assets")[2] == page
    status, kind, picture = get(port, "/thumbnail?asset=a-red-chair-seed-0001")
    assert (status, kind, picture[:2]) == (200, "image/jpeg", b"\xff\xd8")
    opened = "/index.html?asset=a-red-chair-seed-0001"
    assert get(port, opened, Sec_Fetch_Site="cross-site")[0] == 200  # a link of another site shows, but chooses nothing
    assert studio.shown == []
    assert get(port, opened, Sec_Fetch_Site="same-origin")[0] == 200
    assert studio.shown == ["a-red-chair-seed-0001"]


def test_only_names_of_the_list_are_assets(served, outputs):
    for asset in ("3", "a-red-chair", "../../etc/passwd", "%2e%2e", "a-red-chair-seed-0000&asset=x", "\u0663", ""):
        check_that_nothing_is_done(*served, f"asset={quote(asset, safe='/%&=')}")
    assert len(House(outputs).entries()) == 3
    assert not (outputs / BIN).exists()


def check_that_nothing_is_done(port, studio, query):
    assert get(port, f"/thumbnail?{query}")[0] == 404
    for how in ("asset", "again", "like", "seeds", "edit", "refine"):
        get(port, f"/index.html?{query.replace('asset=', f'{how}=', 1)}")
    for what in ("star", "rename", "delete", "restore"):
        status, _, body = get(port, f"/do?act={what}&{query}", X_Fsd_Gs="act")
        assert status == 400
        assert "any more" in json.loads(body)["detail"]
    assert get(port, f"/compare?{query}&{query}")[0] == 400
    assert (studio.shown, studio.proposed) == ([], [])


def test_the_overview_is_behind_the_same_rules(served, outputs):
    port, _ = served
    deed = "/do?act=delete&asset=a-red-chair-seed-0000"
    for path in ("/", "/thumbnail?asset=a-red-chair-seed-0000", "/words", "/compare", deed):
        assert get(port, path, Host="evil.example", X_Fsd_Gs="act")[0] == 403
        assert get(port, path, Origin="http://evil.example", X_Fsd_Gs="act")[0] == 403
    assert get(port, deed)[0] == 400  # a picture or a link on another page sends no header of its own
    assert get(port, deed, X_Fsd_Gs="act", Sec_Fetch_Site="cross-site")[0] == 400
    assert len(House(outputs).entries()) == 3


def test_acts_and_their_way_back(served, outputs):
    port, _ = served
    run = outputs / "a-red-chair" / "seed-0001"
    before = sorted(path.name for path in run.iterdir())
    assert act(port, "star", "a-red-chair-seed-0001")[1]["starred"] is True
    assert act(port, "rename", "a-red-chair-seed-0001", title=" the <b>throne</b> ")[1]["title"] == "the <b>throne</b>"
    assert b"the &lt;b&gt;throne" in get(port, "/")[2]
    status, gone = act(port, "delete", "a-red-chair-seed-0001")
    assert status == 200
    assert not run.exists()
    assert sorted(entry.seed for entry in House(outputs).entries()) == [0, 2]
    assert b"Bin (<span>1</span>)" in get(port, "/")[2]
    status, back = act(port, "restore", gone["binned"])
    assert (status, back["title"], back["starred"]) == (200, "the <b>throne</b>", True)
    assert sorted(path.name for path in run.iterdir()) == sorted({*before, "card.json", ".lock"})
    assert act(port, "rename", "a-red-chair-seed-0001", title="")[1]["title"] == "a red chair"
    assert not list((outputs / BIN).iterdir())


@pytest.mark.parametrize(
    ("what", "fields", "line"),
    [
        ("rename", {"title": "x" * 81}, "title: expected at most 80 printable characters"),
        ("rename", {"title": "a\x00b"}, "title: expected at most 80 printable characters"),
        ("burn", {}, "act: expected one of star, unstar, rename, delete, restore, got 'burn'"),
    ],
)
def test_acts_that_cannot_be_are_one_line(served, what, fields, line):
    status, answer = act(served[0], what, "a-red-chair-seed-0000", **fields)
    assert status == 400
    assert answer["detail"].startswith(line)


def test_an_asset_once_more(served):
    port, studio = served
    for how in ("again", "seeds", "like", "edit", "refine"):
        assert get(port, f"/index.html?{how}=a-red-chair-seed-0001")[0] == 200
    again, seeds, like, edit, refine = studio.proposed
    assert [(form.task, form.source, form.prompt) for form in (edit, refine)] == [
        ("edit", "a-red-chair-seed-0001", "a red chair"),
        ("refine", "a-red-chair-seed-0001", "a red chair"),
    ]
    assert (again.prompt, again.seed, again.count) == ("a red chair", 1, 1)
    assert (seeds.seed, seeds.count) == (2, 4)
    assert (like.seed, like.settings.split()) == (1_000_001, ["noise.like=1", "noise.like_mix=0.7"])
    get(port, "/index.html?words=a%20blue%20lamp")
    assert studio.proposed[-1].prompt == "a blue lamp"


def test_side_by_side(served):
    port, _ = served
    status, _, page = get(port, "/compare?asset=a-red-chair-seed-0000&asset=a-red-chair-seed-0001")
    assert status == 200
    assert page.count(b'<figure class="splats"><canvas') == 2
    status, kind, page = get(port, "/compare?asset=a-red-chair-seed-0000")
    assert (status, kind) == (400, "text/html; charset=utf-8")
    assert b"expected 2 to 4 different assets, got 1" in page


def test_words_with_a_picture_of_each_kind(served):
    port, _ = served
    page = get(port, "/words")[2].decode()
    assert page.count("<article") == 3
    assert page.count("<img") == 2
    assert 'href="/index.html?words=crate%20of%20carrots"' in page
    status, kind, picture = get(port, "/words/picture?kind=mug")
    assert (status, kind, picture[8:12]) == (200, "image/webp", b"WEBP")
    assert get(port, "/words/picture?kind=../mug")[0] == 404
