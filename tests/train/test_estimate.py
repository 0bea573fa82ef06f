"""The estimate before a run: measured once, kept, and put right by what runs really took."""

import pytest

from fsd_gs.config import load_config
from fsd_gs.train import estimate
from fsd_gs.train.estimate import TimeBook, cache_folder, estimate_line

WHOLE = ["steps=300"]


@pytest.fixture
def measured(monkeypatch):
    calls = []
    monkeypatch.setattr(estimate, "calibrate", lambda config, prior: calls.append(config) or (0.1, 2.0))
    return calls


def test_measured_once_and_then_from_runs(tmp_path, measured):
    book, config = TimeBook(tmp_path / "a" / "times.json"), load_config(overrides=["prompt=an egg", "steps=300"])
    assert book.known(config) is None
    assert book.measure(config, None) == pytest.approx(300 * 0.1 + 2)
    assert TimeBook(book.path).measure(config, None) == pytest.approx(32)  # from the file
    assert len(measured) == 1
    for seconds in (60.0, 90.0, 66.0):
        book.add(config, seconds, 3.0)
    assert book.known(config) == pytest.approx(66 + 3)  # the median of true times; the measurement is gone
    assert book.known(load_config(overrides=["prompt=an egg", "steps=100"])) == pytest.approx(22 + 3)
    assert book.known(load_config(overrides=["prompt=an egg", "quality=best", "steps=300"])) is None


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", '{"a": 3}', '{"a": {"step": [], "end": [1]}}', '{"a": {"step": ["x"], "end": [1]}}', "\0"]
)
def test_a_damaged_book_is_measured_again(tmp_path, measured, content):
    path = tmp_path / "times.json"
    path.write_text(content)
    assert TimeBook(path).measure(load_config(overrides=WHOLE), None) == pytest.approx(32)
    assert TimeBook(path).known(load_config(overrides=WHOLE)) == pytest.approx(32)


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_memory(tmp_path, measured):
    (tmp_path / "file").write_text("")
    assert TimeBook(tmp_path / "file" / "times.json").measure(load_config(overrides=WHOLE), None) == pytest.approx(32)


def test_the_line_and_the_folder(tmp_path, measured, monkeypatch):
    monkeypatch.setenv("FSD_GS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert estimate_line(load_config(overrides=["quality=draft"]), None, 8, print) == (
        "estimate: about 0:14 an asset, 1:52 for 8, on this machine (draft)"
    )
    assert estimate_line(load_config(overrides=["steps=10"]), None, 8, print) is None


@pytest.mark.long
def test_a_real_measurement_leaves_the_prior_and_the_seed_alone():
    import torch

    from fsd_gs.train.backbones import load_prior
    from fsd_gs.train.build import build_session

    small = ["render.sizes=[16,32]", "render.size_at=[0,0.5]", "splats.count=50", "outputs.turntable_frames=2", "outputs.turntable_size=16"]
    config = load_config(overrides=["prompt=a red chair", *small])
    prior = load_prior(config, torch.device("cpu"))
    before = build_session(config, prior, torch.device("cpu")).gaussians()
    state = torch.get_rng_state()
    step, end = estimate.calibrate(config, prior)
    assert 0 < step < 60
    assert 0 < end < 60
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(build_session(config, prior, torch.device("cpu")).gaussians().means, before.means)
    without = load_config(overrides=["prompt=a red chair", *small, "outputs.turntable_frames=0"])
    assert 0 < estimate.calibrate(without, prior)[1] < 60  # no video is wanted: the preview alone
