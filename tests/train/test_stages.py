"""Stages: several priors in one run. What a stage may set, borders crossed bit for bit, one prior in memory at a time, one noise."""

import gc
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "campaign"))
from stub_prior import GreenPrior, tiny

from fsd_gs.config import config_from_dict, load_config, to_yaml
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.train import runs
from fsd_gs.train.api import prepare, run
from fsd_gs.train.asset import keep_asset, make_asset
from fsd_gs.train.backbones import PriorCache
from fsd_gs.train.checkpoint import load_state, save_state
from fsd_gs.train.loop import Observer, StopRun

TWO = (
    "stages=[{name: shape, steps: 2, schedule: {start: 0.98, end: 0.5}, render: {sizes: [16]}},"
    " {name: detail, steps: 1, prior: {name: fine}, schedule: {start: 0.5, end: 0.1}, render: {sizes: [32]}, cameras: {views: 4},"
    " noise: {gamma: 0.2}}]"
)


class FinePrior(GreenPrior):
    """Latents twice as large."""

    latent_shape = (3, 32, 32)
    image_size = 32


def stub_priors() -> PriorCache:
    return PriorCache(lambda config, _: FinePrior() if config.prior.name == "fine" else GreenPrior())


def staged(output, *overrides: str):
    return tiny(output, TWO, *overrides)


class Watch(Observer):
    def __init__(self, stop_at: int = 0) -> None:
        self.stop_at, self.reports, self.notes, self.shapes = stop_at, [], [], []

    def stepped(self, session, report):
        self.reports.append((report.step, round(report.t, 3), report.views, report.output.view.rgb.shape[1]))
        self.shapes.append(session.parts.noise.latent_shape)
        if report.step == self.stop_at:
            raise StopRun

    def said(self, message):
        self.notes.append(message)


# -- settings --------------------------------------------------------------------------------------------------------------


def test_a_stage_is_a_run_of_its_own(tmp_path):
    first, second = staged(tmp_path, "steps=16").split()
    assert (first.name, first.first, first.settings.steps, first.settings.schedule.end) == ("shape", 0, 11, 0.5)
    assert (second.first, second.settings.steps, second.settings.cameras.views, first.settings.cameras.views) == (11, 5, 4, 2)
    assert second.settings.densify == first.settings.densify  # what a stage does not say is the run's
    assert load_config([], ["prompt=x"]).split()[0].settings == load_config([], ["prompt=x"])  # no stages: one part, unchanged


def test_stages_come_back_from_their_file_and_single_keys_can_be_overridden(tmp_path):
    config = staged(tmp_path, "stages.1.guidance.cfg_scale=7", "stages.1.noise.gamma=0.5")
    assert config_from_dict(yaml.safe_load(to_yaml(config))) == config
    _, second = config.split()
    assert (second.settings.guidance.cfg_scale, second.settings.noise.gamma, second.settings.prior.name) == (7, 0.5, "fine")


def test_quality_scales_every_stage(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text(TWO.replace("stages=", "stages: "))
    plain, best = (load_config([preset], ["prompt=x", *more]).split() for more in ([], ["quality=best"]))
    assert [part.settings.steps for part in best] == [2 * part.settings.steps for part in plain]
    assert [part.settings.render.sizes for part in best] == [[24], [48]]
    assert [part.settings.cameras.views for part in best] == [8, 8]


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        (
            "[{name: a}, {name: b, schedule: {strat: 0.5}}]",
            r"stages\[1\] \(b\): unknown key 'schedule.strat'; did you mean 'schedule.start'",
        ),
        ("[{schedule: {start: 2}}]", r"stages\[0\]: schedule.start: expected a value from 0 to 1, got 2"),
        ("[{name: a, splats: {count: 5}}]", r"stages\[0\] \(a\): splats.count: belongs to the whole run"),
        ("[{render: {antialiased: true}}]", r"stages\[0\]: render.antialiased: belongs to the whole run"),
        ("[{prior: exact}]", r"stages\[0\]: prior: expected keys and values, got str"),
        ("[{steps: 0}]", r"stages\[0\]: steps: expected a number above 0"),
        ("[{steps: 1}, {steps: 9999}]", r"stages\[0\]: steps: no step of the run's 300 falls to it"),
        ("[{guidance: {method: fsdd}}]", r"stages\[0\]: guidance.method: "),
        ("[{name: 'a: b'}]", r"stages\[0\].name: expected a word"),
    ],
)
def test_what_is_wrong_with_a_stage_names_stage_and_key(stages, says):
    with pytest.raises(ConfigError, match=f"^{says}"):
        load_config([], ["prompt=x", f"stages={stages}"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["stages.1.steps=2"], "stages.1: there are no stages"),
        ([TWO, "stages.2.steps=2"], "stages.2: stages has 2, counted from 0"),
        ([TWO, "mode=2d"], "stages: mode=2d has none"),
    ],
)
def test_stages_that_are_not_there(overrides, says):
    with pytest.raises(ConfigError, match=says):
        load_config([], ["prompt=x", *overrides])


# -- the run ---------------------------------------------------------------------------------------------------------------


def test_each_stage_has_its_prior_times_sizes_and_views(tmp_path):
    config, watch = staged(tmp_path, "steps=12"), Watch()
    result = run(config, prepare(config, stub_priors().prior), [watch])
    assert result.complete
    assert [report[0] for report in watch.reports] == list(range(1, 13))
    assert {report[2:] for report in watch.reports[:8]} == {(2, 16)}
    assert {report[2:] for report in watch.reports[8:]} == {(4, 32)}
    times = [report[1] for report in watch.reports]
    assert (times[0], times[7], times[8], times[-1]) == (0.98, 0.5, 0.5, 0.1)
    assert watch.shapes[7:9] == [(3, 16, 16), (3, 32, 32)]
    assert watch.notes == ["stage 2 of 2, detail: prior fine"]


BORDER = [(at, noise) for at in (5, 8, 9, 11) for noise in ("noise.beta=1", "noise.beta=0.5")]
QUICK = ((5, "noise.beta=0.5"), (8, "noise.beta=1"), (9, "noise.beta=0.5"))  # before, at and after it
MARKS = dict.fromkeys(BORDER, pytest.mark.slow) | dict.fromkeys(QUICK, pytest.mark.long) | {QUICK[1]: ()}


@pytest.mark.parametrize(("at", "noise"), [pytest.param(*each, marks=MARKS[each]) for each in BORDER])
def test_resume_crosses_the_border_bit_for_bit(tmp_path, at, noise):
    config = staged(tmp_path, "steps=12", noise)
    straight = prepare(config, stub_priors().prior)
    run(config, straight)
    first = prepare(config, stub_priors().prior)
    run(config, first, [Watch(at)])
    save_state(tmp_path / "state.safetensors", first.state_dict())
    second = prepare(config, stub_priors().prior)
    run(config, second, checkpoint=tmp_path / "state.safetensors")
    a, b = straight.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    assert [key for key in a if not (torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key])] == []


@pytest.mark.long
def test_in_a_folder_and_kept_early(tmp_path):
    config = staged(tmp_path, "steps=12")
    folder = make_asset(config, stub_priors().prior, observers=[Watch(9)]).folder
    assert load_state(folder / runs.CHECKPOINT)["stage"] == 1
    other = staged(tmp_path / "other", "steps=12")
    straight = make_asset(other, stub_priors().prior)
    resumed = make_asset(replace(config, resume=True), stub_priors().prior)
    assert (resumed.folder / runs.SPLATS).read_bytes()[-4000:] == (straight.folder / runs.SPLATS).read_bytes()[-4000:]
    early = make_asset(staged(tmp_path / "early", "steps=12"), stub_priors().prior, observers=[Watch(8)]).folder
    assert keep_asset(early).state == "kept"


def test_a_stage_that_does_not_fit_is_found_before_anything_is_written(tmp_path):
    class Four(FinePrior):
        views = 3

    cache = PriorCache(lambda config, _: Four() if config.prior.name == "fine" else GreenPrior())
    with pytest.raises(ConfigError, match=r"^stages\[1\] \(detail\): cameras.views: expected a multiple of 3"):
        make_asset(staged(tmp_path), cache.prior)
    with pytest.raises(InputError, match=r"^stages\[1\] \(detail\): .*'fine'"):
        make_asset(staged(tmp_path))
    assert not list(tmp_path.iterdir())


# -- memory ----------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_memory_holds_one_prior_at_a_time(tmp_path):
    """Whenever a prior is loaded, every one before it is gone; the session, the guard and the last report keep none."""
    living: weakref.WeakSet[GreenPrior] = weakref.WeakSet()
    loaded = []

    def load(config, device):
        assert not list(living), "another prior is still in memory"
        prior = FinePrior() if config.prior.name == "fine" else GreenPrior()
        living.add(prior)
        loaded.append(config.prior.name)
        return prior

    cache = PriorCache(load)
    gc.collect()
    config = staged(tmp_path, "steps=12", "guard.snapshot_every=1")
    folder = make_asset(config, cache.prior, observers=[Watch(10)]).folder
    assert loaded == ["fine", "nano", "fine"]  # tried out before anything is written, then one after the other
    assert make_asset(replace(config, resume=True), cache.prior, folder).state == "finished"
    assert len(living) == 1


def test_a_set_loads_the_small_priors_of_its_stages_once(tmp_path):
    loaded = []

    def load(config, device):
        loaded.append(config.prior.name)
        return FinePrior() if config.prior.name == "exact" else GreenPrior()

    cache = PriorCache(load)
    config = staged(tmp_path, "steps=6", "count=3", f"stages={TWO.removeprefix('stages=').replace('fine', 'exact')}")
    cache.expect(config)
    for seed in range(3):
        make_asset(replace(config, seed=seed, count=1), cache.prior)
    assert sorted(loaded) == ["exact", "nano"]
    cache.expect(config.split()[0].settings)  # another set, of one of them
    assert (len(cache._held), cache.at_hand(config.split()[1].settings)) == (1, None)


@pytest.mark.long
def test_a_prior_that_cannot_be_loaded_at_the_border_costs_nothing(tmp_path):
    tried = []

    def load(config, device):
        if config.prior.name != "fine":
            return GreenPrior()
        tried.append(1)
        if len(tried) > 1:
            raise InputError("the disk is gone")
        return FinePrior()

    config = staged(tmp_path, "steps=12", "outputs.checkpoint_every=0")
    with pytest.raises(InputError, match=r"stages\[1\] \(detail\): the disk is gone"):
        make_asset(config, PriorCache(load).prior)
    assert load_state(runs.run_folder(config) / runs.CHECKPOINT)["step"] == 8
    assert make_asset(replace(config, resume=True), stub_priors().prior).state == "finished"


# -- noise -----------------------------------------------------------------------------------------------------------------


def test_the_noise_of_the_second_stage_is_that_of_the_first_on_its_own_grid(tmp_path):
    config = staged(tmp_path, "steps=12")
    session = prepare(config, stub_priors().prior)
    before = session.parts.noise.map
    run(config, session, [Watch(9)])
    assert session.stage.number == 1
    fresh = session.build_stage(1)
    fresh.parts.noise.take_over({"buffer.map": before})
    after = fresh.parts.noise.map
    assert after.shape[1:] == tuple(2 * side for side in before.shape[1:])
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(after[None], 2)[0] * 2, before, atol=1e-5, rtol=0)
    refreshed = session.parts.noise.map  # once, with the γ of its stage
    assert float((refreshed * after).mean()) == pytest.approx(0.8**0.5, abs=0.02)


@pytest.mark.long
def test_another_theta_begins_another_map(tmp_path):
    config = staged(tmp_path, "stages.1.noise.theta=90")
    session = prepare(config, stub_priors().prior)
    assert not session.build_stage(1).keeps_noise
    assert prepare(staged(tmp_path), stub_priors().prior).build_stage(1).keeps_noise


# -- what the files say ----------------------------------------------------------------------------------------------------


def test_the_files_name_every_prior():
    config = load_config([], ["prompt=x", "stages=[{name: a, prior: {name: exact}}, {name: b, prior: {name: nano}}]"])
    origin = runs.origin(config)
    assert (origin.prior, origin.licence) == ("exact + nano", "Apache-2.0")
    unknown = load_config([], ["prompt=x", "stages=[{name: a}, {name: b, prior: {name: ./mine}}]"])
    assert (runs.origin(unknown).prior, runs.origin(unknown).licence) == ("nano + ./mine", None)
