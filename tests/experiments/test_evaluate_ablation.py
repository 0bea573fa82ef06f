"""Axes and their boundary, on rows whose geometry is known; and one real axis through the command."""

import json

import numpy as np
import pytest
from PIL import Image
from stand_in_scorers import stand_ins

from fsd_gs.config import load_config
from fsd_gs.experiments.evaluate.ablation import Axis, _axis, break_at, default_value
from fsd_gs.experiments.evaluate.command import main
from fsd_gs.experiments.evaluate.evaluation import comparisons_of, rows_of
from fsd_gs.experiments.evaluate.scores import MEASURES, PromptScores
from tests.experiments.test_evaluate_runs import TINY

FSD = (("method", "fsd"),)


def scores(value, holes, failure_rate=0.0, key="noise.beta", tears=0.0):
    """Six prompts with holes ± 0.001 around the given mean."""
    setting = FSD if value is None else (*FSD, (key, value))
    return [
        PromptScores(
            setting,
            prompt,
            dict.fromkeys(MEASURES, float("nan")) | {"holes": holes + d, "tears": tears, "failure_rate": failure_rate, "diversity": 0.1},
            4,
            0,
            0,
        )
        for prompt, d in zip("abcdef", (-0.001, 0.001) * 3, strict=True)
    ]


def axis(values, overrides=(), key="noise.beta"):
    prompts = [s for value, holes, rate in values for s in scores(value, holes, rate, key)]
    rows = {row.setting: row for row in rows_of(prompts)}
    named = {value: rows[(*FSD, (key, value))] for value, _, _ in values if value is not None}
    return _axis(FSD, key, rows[FSD], named, load_config(overrides=list(overrides)), comparisons_of(prompts, ["fsd"]))


def test_the_boundary_is_the_first_break_away_from_the_default():
    found = axis([(None, 0.001, 0), ("0.0", 0.05, 0), ("0.25", 0.02, 0), ("0.5", 0.004, 0), ("1.0", 0.001, 0)])
    assert found.default == "1.0"
    assert found.numeric
    assert [b.value for b in found.breaks] == ["0.0", "0.25"]
    assert [(b.value, b.measure, b.clear) for b in found.boundary] == [("0.25", "holes", True)]
    assert found.boundary[0].excess == pytest.approx(0.019)
    assert "noise.beta (default 1.0; tried 0.0, 0.25, 0.5, 1.0): geometry breaks at 0.25 (holes +0.019; clear)" in found.statement


def test_there_may_be_a_boundary_on_either_side():
    values = [(None, 0.001, 0), ("45.0", 0.03, 0), ("90.0", 0.02, 0), ("180.0", 0.001, 0), ("360.0", 0.002, 0.2)]
    found = axis(values, key="noise.theta")
    assert [(b.value, b.measure) for b in found.boundary] == [("90.0", "holes"), ("360.0", "failure_rate")]


def test_names_have_no_order_so_every_break_is_listed():
    values = [(None, 0.001, 0), ("constant", 0.03, 0), ("gaussian", 0.001, 0), ("surface", 0.04, 0.5), ("world_map", 0.001, 0)]
    found = axis(values, key="noise.kind")
    assert not found.numeric
    assert [b.value for b in found.boundary] == ["constant", "surface"]
    assert found.boundary[1].measure == "holes", "the measure that exceeds its margin by the largest factor: 0.039/0.005 > 0.5/0.1"


def test_a_margin_must_be_exceeded_and_all_sound_is_said():
    found = axis([(None, 0.001, 0), ("0.5", 0.0059, 0.1), ("1.0", 0.001, 0)])
    assert not found.boundary
    assert found.statement.endswith("geometry does not break.")


def test_a_break_within_its_interval_says_so():
    prompts = scores(None, 0.001) + [
        PromptScores((*FSD, ("noise.beta", "0.5")), prompt, dict.fromkeys(MEASURES, float("nan")) | {"holes": holes}, 4, 0, 0)
        for prompt, holes in zip("abcdef", (0.0, 0.0, 0.0, 0.0, 0.0, 0.1), strict=True)
    ]
    rows = {row.setting: row for row in rows_of(prompts)}
    half = (*FSD, ("noise.beta", "0.5"))
    found = break_at("0.5", rows[FSD], rows[half], comparisons_of(prompts, ["fsd"])[half, FSD])
    assert found is not None
    assert not found.clear
    assert "more prompts may undo it" in Axis("fsd", "noise.beta", "1.0", {"1.0": rows[FSD], "0.5": rows[half]}, [found]).statement


def test_an_axis_without_its_default_shows_it_anyway():
    found = axis([(None, 0.001, 0), ("0.5", 0.001, 0), ("0.25", 0.001, 0)])
    assert list(found.rows) == ["0.25", "0.5", "1.0"]


def test_the_default_of_a_setting_as_it_is_written():
    config = load_config()
    assert [default_value(config, key) for key in ("noise.beta", "noise.kind", "noise.theta")] == ["1.0", "world_map", "180.0"]


@pytest.mark.long
def test_an_axis_through_the_command(tmp_path, capsys):
    values = {"prompts": ["a chair"], "seeds": [0, 1], "methods": ["fsd"], "baselines": ["fsd"], "views": 4, "base": TINY}
    values |= {"images": {"per_seed": 0}, "axes": {"noise.beta": [0.0, 1.0]}, "pairs": [{"noise.beta": [0.0], "noise.gamma": [0.5]}]}
    (tmp_path / "axis.yaml").write_text(json.dumps(values))
    arguments = ["--suite", str(tmp_path / "axis.yaml"), "--output", str(tmp_path / "out")]
    assert main(arguments, make_scorers=lambda settings, device: stand_ins()) == 0
    folder = tmp_path / "out" / "axis-exact"
    assert np.asarray(Image.open(folder / "plot-fsd-noise.beta.png").convert("L")).std() > 5, "a blank plot"
    text = (folder / "table.md").read_text()
    assert "## fsd: noise.beta" in text
    assert "| 1.0 (default) |" in text
    results = json.loads((folder / "results.json").read_text())
    assert results["axes"][0]["values"] == ["0.0", "1.0"]
    by_method = {m["method"]: m for m in results["methods"]}
    assert by_method["fsd"]["diversity"] == by_method["fsd, noise.beta=1.0"]["diversity"] | {
        end: by_method["fsd"]["diversity"][end] for end in ("low", "high")
    }, "the same assets have the same figures"
    assert "fsd, noise.beta=0.0, noise.gamma=0.5" in by_method
    assert len(list((tmp_path / "out" / "assets").iterdir())) == 6
    assert "One factor at a time" in (folder / "report.html").read_text()
