"""What the button of the start page does: one prior in memory, replaced assets in the bin, edits and refinements, all with a stub prior."""

import gc
import sys
import weakref
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "campaign"))
from stub_prior import TINY, GreenPrior

from fsd_gs.io import file_sha256
from fsd_gs.train import runs, variants
from fsd_gs.train.backbones import PriorCache
from fsd_gs.train.variants import Attempt
from fsd_gs.viewer import start_page
from fsd_gs.viewer.form import EDIT, REFINE, Request
from fsd_gs.viewer.server import open_server
from fsd_gs.viewer.start_page import StartPage

pytestmark = pytest.mark.long

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")
OWN = ["steps=4", "outputs.turntable_frames=0", "outputs.preview_every=0"]
QUICK = [*(setting for setting in TINY if not setting.startswith(("prompt", "steps", "outputs"))), *OWN]


class FittingPrior(GreenPrior):
    """Latents as large as the pictures: refinements double them."""

    def __init__(self, side):
        self.latent_shape, self.image_size = (3, side, side), side


class Loads:
    """Notes what is loaded, and what of it lives."""

    def __init__(self):
        self.names, self.living, self.most = [], weakref.WeakSet(), 0

    def __call__(self, config, device):
        gc.collect()
        prior = FittingPrior(max(config.render.sizes))
        self.living.add(prior)
        self.names.append(config.prior.name)
        self.most = max(self.most, len(self.living))
        return prior


@pytest.fixture
def loads():
    return Loads()


@pytest.fixture
def start(tmp_path, monkeypatch, loads):
    monkeypatch.setattr(variants, "look_at", lambda splats, seed, *_: Attempt(seed, ()))  # what it finds is not the matter here
    monkeypatch.setattr(start_page, "write_gallery", lambda folder: None)
    server = open_server(port=0, say=lambda _: None)
    page = StartPage(server, output=str(tmp_path), overrides=tuple(QUICK), say=lambda _: None)
    page._priors = PriorCache(loads)
    yield page
    page.close()
    server.stop()


def press(start, request):
    start.propose(request)
    start.start()
    if start._worker is not None:
        start._worker.join(600)
    return start.board.message


def test_memory_holds_one_prior_whatever_is_asked_for(start, loads):
    for settings in ("", "", "prior.name=exact", "prior.name=exact prior.cfg_rescale=0.5", ""):
        assert "Done" in press(start, Request("a green egg", settings=settings, replace=True))
    assert loads.names == ["nano", "exact", "exact", "nano"]
    assert loads.most == 1
    assert start.vocabulary() is None  # of the stub
    staged = "stages=[{steps: 1, prior: {name: exact}}, {steps: 1}]"
    assert "Done" in press(start, Request("a green egg", settings=staged, replace=True))
    assert loads.most == 1


def test_what_is_replaced_goes_to_the_bin_and_comes_back(start, tmp_path):
    assert "Done" in press(start, Request("a green egg"))
    run = tmp_path / "a-green-egg" / "seed-0000"
    start.house.star("a-green-egg-seed-0000", True)
    before = {path.name: file_sha256(path) for path in run.iterdir() if path.is_file()}
    assert "Done" in press(start, Request("a green egg"))  # finished: kept
    assert start.house.binned() == []
    assert "Done" in press(start, Request("a green egg", settings="steps=3", replace=True))
    (gone,) = start.house.binned()
    assert (gone.entry.steps, gone.entry.card.starred, runs.load_run_config(run).steps) == (4, True, 3)
    assert "is in the bin" in start.board._notes.content
    start.house.delete("a-green-egg-seed-0000")
    start.house.restore(gone.name)
    assert {path.name: file_sha256(path) for path in run.iterdir() if path.is_file()} == before


def test_an_edit_and_a_refinement_stand_beside_their_original(start, tmp_path):
    press(start, Request("a green egg"))
    run, name = tmp_path / "a-green-egg" / "seed-0000", "a-green-egg-seed-0000"
    splats = file_sha256(run / runs.SPLATS)
    start.propose(Request("a blue egg", task=EDIT, source=name))
    assert start._original._handle is not None  # what is edited stands behind the form
    start.propose(Request("a blue egg"))
    assert start._original is None
    said = press(start, Request("a blue egg", task=EDIT, source=name))
    assert "silhouette: IoU" in said.replace("\\", "")
    assert start._inspector.names == ["a-blue-egg-seed-0000", name]
    assert "Done" in press(start, Request("a green egg", task=REFINE, source=name))
    assert (run.parent / "seed-0000-refined" / runs.SPLATS).is_file()
    assert start._inspector.names == ["a-green-egg-seed-0000-refined", name]
    assert file_sha256(run / runs.SPLATS) == splats
    kinds = {entry.name: entry.kind for entry in start.house.entries()}
    assert kinds == {name: "", "a-blue-egg-seed-0000": "edited", "a-green-egg-seed-0000-refined": "refined"}
    assert "there is no 'a-red-egg-seed-0000' here" in press(start, Request("x", task=EDIT, source="a-red-egg-seed-0000")).replace("\\", "")
    assert "strength: expected a number above 0" in press(start, Request("x", task=EDIT, source=name, strength=0.0))
