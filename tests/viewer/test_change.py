"""Edits and refinements asked for by the form: the settings of the commands, the original's safety, and what cannot be typed."""

from dataclasses import replace

import pytest
from export_scenes import egg

from fsd_gs.config import load_config
from fsd_gs.errors import ConfigError, FsdGsError, InputError
from fsd_gs.export.ply import save_ply
from fsd_gs.train import runs
from fsd_gs.train.edit import edit_settings, refine_settings
from fsd_gs.viewer.again import edit_of, refinement_of, same_again
from fsd_gs.viewer.change import requested_change
from fsd_gs.viewer.form import requested_config
from tests.viewer.test_overview import finished

pytestmark = pytest.mark.long


@pytest.fixture
def original(tmp_path):
    return finished(tmp_path, "a red chair", 0)


def edit(original, tmp_path, **fields):
    form = edit_of(runs.load_run_config(original), "a-red-chair-seed-0000")
    return requested_change(replace(form, **{"prompt": "a blue chair", **fields}), original, str(tmp_path))


def refine(original, tmp_path, **fields):
    form = refinement_of(runs.load_run_config(original), "a-red-chair-seed-0000")
    return requested_change(replace(form, **fields), original, str(tmp_path))


def test_an_edit_is_that_of_the_command(original, tmp_path):
    save_ply(egg(30), original / "splats.v2.ply")
    config, folder = edit(original, tmp_path, strength=0.8, pull=0.2, settings="steps=7")
    newest = original / "splats.v2.ply"
    command = edit_settings(newest, "a blue chair", strength=0.8, pull=0.2, overrides=["steps=7"])
    assert runs.differing_settings(config, command) == []
    assert (config.splats.init, config.pull.shape, config.steps, config.count) == (str(newest), 0.2, 7, 1)
    assert folder == tmp_path / "a-blue-chair" / "seed-0000"
    assert edit(original, tmp_path, quality="draft")[0].steps == 0.4 * load_config().steps


def test_an_edit_brings_the_prior_of_its_original(tmp_path):
    exact = runs.prepare_folder(load_config(["exact"], ["prompt=a red chair", f"output={tmp_path}", "steps=9"]))
    save_ply(egg(20), exact / runs.SPLATS)
    config, _ = edit(exact, tmp_path)
    before = runs.load_run_config(exact)
    guidance = replace(before.guidance, cfg_late=1.0)  # other words need all of it
    assert (config.prior, config.guidance, config.render.sizes) == (before.prior, guidance, before.render.sizes)
    assert config.steps == load_config().steps


def test_a_refinement_is_that_of_the_command(original, tmp_path):
    config, folder = refine(original, tmp_path, settings="steps=50", strength=0.3)
    command, beside = refine_settings(original, strength=0.3, overrides=["steps=50"])
    assert runs.differing_settings(config, command) == []
    assert folder == beside == original.with_name("seed-0000-refined")
    assert (config.steps, config.render.sizes, config.prompt) == (50, [2 * max(load_config().render.sizes)], "a red chair")
    assert refine(original, tmp_path, preset="exact")[0].prior.name == "exact"


def test_an_edit_stands_beside_what_is_there(original, tmp_path):
    same_words, _ = edit(original, tmp_path, prompt="a red chair")
    assert same_words.seed == 1  # seed 0 is the original
    with pytest.raises(InputError, match="the edit would take the place of its original"):
        edit(original, tmp_path, prompt="a red chair", replace=True)
    finished(tmp_path, "a blue chair", 0)
    config, folder = edit(original, tmp_path)
    assert (config.seed, folder.name) == (1, "seed-0001")
    runs.prepare_folder(config)  # begun, and stopped: the same form goes on with it
    assert edit(original, tmp_path)[0] == config
    assert edit(original, tmp_path, settings="steps=7")[0].seed == 2
    replacing, _ = edit(original, tmp_path, replace=True)
    assert (replacing.seed, replacing.overwrite) == (0, True)


@pytest.mark.parametrize("ask", [edit, refine])
@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"settings": "splats.init=/etc/passwd"}, "splats.init: '/etc/passwd' cannot be chosen from a page"),
        ({"settings": "pull.keep=/etc/passwd"}, "pull.keep: '/etc/passwd' cannot be chosen from a page"),
        ({"settings": "prior.name=/etc"}, "prior.name: '/etc' cannot be chosen from a page"),
        ({"settings": "output=/tmp"}, "settings: output cannot be typed here"),
        ({"settings": "stepz=3"}, r"unknown key 'stepz'; did you mean 'steps'\?"),
        ({"preset": "../../etc/passwd"}, "preset: unknown preset"),
        ({"preset": "nano_exact"}, "preset: nano_exact has stages"),
        ({"strength": 0.0}, "strength: expected a number above 0 and of at most 1, got 0"),
    ],
)
def test_what_cannot_be_is_one_line(original, tmp_path, ask, fields, line):
    if ask is refine and ("nano_exact" in line or "pull.keep" in line):  # a refinement leaves a preset's stages, and has no pull
        line = "" if "nano_exact" in line else "pull.keep: a pull compares each splat"
        if not line:
            assert ask(original, tmp_path, **fields)[0].stages == []
            return
    with pytest.raises(FsdGsError, match=line) as error:
        ask(original, tmp_path, **fields)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-red-chair"]


def test_an_edit_can_be_asked_for_again(original, tmp_path):
    """Its settings name the file that it began with: a version of an asset of this house may be typed, nothing else."""
    config, _ = edit(original, tmp_path, settings="steps=7")
    again = requested_config(same_again(config), str(tmp_path))
    assert runs.differing_settings(config, again) == []
    (original / "notes.ply").write_bytes((original / runs.SPLATS).read_bytes())
    form = same_again(config)
    with pytest.raises(ConfigError, match=r"pull.keep: '/etc/passwd' cannot be chosen from a page"):
        requested_config(replace(form, settings=f"{form.settings} pull.keep=/etc/passwd"), str(tmp_path))
    for place in (original / "notes.ply", original / ".." / ".." / "x.ply"):
        with pytest.raises(ConfigError, match=r"splats.init: .* cannot be chosen from a page"):
            requested_config(replace(form, settings=form.settings.replace(str(original / runs.SPLATS), str(place))), str(tmp_path))
