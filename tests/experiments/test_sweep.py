"""Sweeps: what the YAML file means, that finished cells are kept, that failures are counted, and what the tables say."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from fsd_gs.errors import ConfigError, FileFormatError
from fsd_gs.experiments.sweep import cells as cells_module
from fsd_gs.experiments.sweep import command, pictures, runner
from fsd_gs.experiments.sweep.cells import CellResult, evaluation_cameras, load_result, load_views
from fsd_gs.experiments.sweep.measures import MeasureSettings
from fsd_gs.experiments.sweep.spec import expand, load_spec, setting_label, spec_from_dict
from fsd_gs.experiments.sweep.table import is_failed, markdown, prompt_row, prompt_rows, setting_rows
from fsd_gs.export.pictures import save_png

TINY = [
    "steps=2", "render.sizes=[16]", "render.size_at=[0.0]", "splats.count=60", "densify.kind=none", "cameras.azimuth_grid=4",
    "cameras.elevation_grid=1", "prior.name=exact", "guidance.cfg_scale=1.0", "prior.objects=2", "prior.distractors=1", "device=cpu",
]  # fmt: skip


def spec(**changes):
    return spec_from_dict({"prompts": ["a chair"], "seeds": [0, 1], "base": TINY, **changes})


@pytest.fixture
def console():
    return Console(quiet=True)


# -- the YAML file ---------------------------------------------------------------------------------------------------------


def test_cells_are_the_product_prompt_by_prompt():
    cells = expand(spec(prompts=["a chair", "a lamp"], methods=["sds", "fsd"], grid={"noise.gamma": [0, 0.5], "noise.theta": ["auto"]}))
    assert len(cells) == 2 * 2 * 2 * 2
    assert [c.config.prompt for c in cells] == ["a chair"] * 8 + ["a lamp"] * 8
    assert [c.label for c in cells[:4]] == [f"{m}, noise.gamma={g}, noise.theta=auto" for m in ("sds", "fsd") for g in (0, 0.5)]
    assert cells[0].config.noise.kind == "gaussian"
    assert cells[3].config.noise.gamma == 0.5
    assert cells[0].config.noise.theta == "auto"
    assert len({c.key for c in cells}) == len(cells)


def test_later_sources_win():
    base = spec(methods=["sds"], base=[*TINY, "noise.beta=0.25", "schedule.kind=sqrt"])
    assert expand(base)[0].config.schedule.kind == "sqrt"
    assert expand(replace(base, grid={"noise.beta": [0.75]}))[0].config.noise.beta == 0.75
    assert expand(base, ["noise.beta=0.5"])[0].config.noise.beta == 0.5


def test_the_key_knows_what_decides_the_result_and_nothing_else():
    cell = expand(spec())[0]
    assert replace(cell, config=replace(cell.config, output="elsewhere", viewer=True), setting=(("method", "x"),)).key == cell.key
    quiet, unclean = (replace(cell.config.outputs, **change) for change in ({"preview_every": 7}, {"clean": False}))
    assert replace(cell, config=replace(cell.config, outputs=quiet)).key == cell.key
    assert replace(cell, config=replace(cell.config, outputs=unclean)).key != cell.key
    assert replace(cell, measure=MeasureSettings(max_distance=0.5)).key == cell.key
    assert replace(cell, measure=MeasureSettings(views=3)).key != cell.key
    assert replace(cell, config=replace(cell.config, seed=7)).key != cell.key
    assert replace(cell, config=replace(cell.config, noise=replace(cell.config.noise, beta=0.5))).key != cell.key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promts": ["a chair"]}, "unknown key 'promts'; did you mean 'prompts'"),
        ({"prompts": []}, "prompts: expected at least one entry"),
        ({"seeds": [1, 1]}, "seeds: expected at least one entry and none twice"),
        ({"seeds": "many"}, "sweep: .*seeds|sweep: .*list"),
        ({"grid": {"noise.beta": 0.5}}, "grid.noise.beta: expected a list"),
        ({"grid": {"seed": [1, 2]}}, "give 'seeds"),
        ({"grid": {"noise.betta": [0.5]}}, "unknown key 'noise.betta'; did you mean 'noise.beta'"),
        ({"grid": {"noise.beta": [1.5]}}, "noise.beta: expected a value from 0 to 1"),
        ({"methods": ["no-such"]}, "no file 'no-such'"),
        ({"measure": {"max_distance": -1}}, "max_distance > 0"),
        ({"measure": {"elevation": 1}}, "unknown key 'measure.elevation'"),
        ({"prompts": "a chair"}, "prompts: expected a list of texts, got str"),
        ({"prompts": ["a chair", 7]}, "prompts: expected texts, got 7; put it into quotes"),
        ({"prompts": ["a r\udce9d chair"]}, "prompts: expected UTF-8 text"),
        ({"base": ["output=${oc.env:HOME}"]}, r"sweep: base: '\$\{…\}' is not replaced"),
        ({"grid": {"noise.kind": ["${oc.env:HOME}"]}}, r"sweep: grid: '\$\{…\}' is not replaced"),
    ],
)
def test_mistakes_are_one_clear_line(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        expand(spec(**changes))
    assert "\n" not in str(caught.value)


def test_prompts_are_plain_text_and_nothing_of_the_machine_is_read():
    texts = ["a chair ${oc.env:HOME}", "???", "a ${chair}", "${"]
    assert spec(prompts=texts).prompts == texts


def test_an_override_of_what_the_sweep_varies_is_refused():
    with pytest.raises(ConfigError, match=r"the sweep itself varies noise\.beta"):
        expand(spec(grid={"noise.beta": [0, 1]}), ["noise.beta=0.5"])


def test_a_file_that_is_no_sweep_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected keys and values, got list"):
        load_spec(str(tmp_path / "list.yaml"))
    for text in ("a: [1\n", "seeds: 2024-13-45\n", "a: " + "[" * 3000, "a: &x [*x]\n"):
        (tmp_path / "broken.yaml").write_text(text)
        with pytest.raises(ConfigError, match="not a readable YAML file"):
            load_spec(str(tmp_path / "broken.yaml"))


@pytest.mark.parametrize("name", ["methods", "beta", "theta", "noise", "guidance"])
def test_the_shipped_sweeps_follow_the_protocol(name):
    cells = expand(load_spec(f"ablations/{name}"))
    assert len({c.config.prompt for c in cells}) >= 6
    assert len({c.config.seed for c in cells}) >= 4
    assert {c.config.prior.name for c in cells} == {"exact"}
    assert len({c.key for c in cells}) == len(cells)


@pytest.mark.parametrize("name", ["targets", "gsd"])
def test_the_small_sweeps_say_what_they_leave_out(name):
    cells = expand(load_spec(f"ablations/{name}"))
    assert {(c.config.prompt, c.config.seed) for c in cells} == {(p, s) for p in ("a chair", "a lamp", "a mushroom") for s in (0, 1)}
    assert {c.config.prior.name for c in cells} == {"exact"}
    assert len({c.key for c in cells}) == len(cells)


def test_evaluation_looks_from_elevations_that_training_did_not_use():
    cell = expand(load_spec("ablations/beta"))[0]
    cameras = evaluation_cameras(cell.config, cell.measure, 64)
    low, high = cell.config.cameras.elevation_deg
    assert len(cameras) == cell.measure.views
    assert cameras.elevations_deg[0].item() == pytest.approx(low + (high - low) / 3, abs=1e-3)
    grid = cell.config.cameras.elevation_grid
    assert (high - low) / 3 not in [(high - low) * i / (grid - 1) for i in range(grid)]


# -- running ---------------------------------------------------------------------------------------------------------------


def test_a_sweep_runs_measures_and_goes_on_where_it_stopped(tmp_path, console, monkeypatch):
    cells = expand(spec(methods=["sds", "fsd"]))
    done, real = [], cells_module.run_cell

    def interrupted(cell, *rest):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(cell.key)
        return real(cell, *rest)

    monkeypatch.setattr(cells_module, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run_sweep(cells, tmp_path, console=console)
    assert set(runner.finished(cells, tmp_path)) == set(done)
    assert len(done) == 2

    rerun = []
    monkeypatch.setattr(cells_module, "run_cell", lambda cell, *rest: rerun.append(cell.key) or real(cell, *rest))
    results = runner.run_sweep(cells, tmp_path, console=console)
    assert set(rerun) == {c.key for c in cells} - set(done)
    assert set(results) == {c.key for c in cells}
    for cell in cells:
        result = results[cell.key]
        assert result.error is None
        assert result.nearest in (0, 1)
        assert result.objects == 2
        assert "chair" in result.caption
        assert 0 < result.distance < 1
        views = load_views(tmp_path / "cells" / cell.key, 8)
        assert views.shape == (16, 16, 16, 3)
        assert load_result(tmp_path / "cells" / cell.key) == result


def test_same_cell_same_result(tmp_path, console):
    cells = expand(spec(seeds=[3]))
    first = runner.run_sweep(cells, tmp_path / "a", console=console)[cells[0].key]
    second = runner.run_sweep(cells, tmp_path / "b", console=console)[cells[0].key]
    assert replace(first, seconds=None) == replace(second, seconds=None)
    assert (tmp_path / "a/cells" / first.key / "views.png").read_bytes() == (tmp_path / "b/cells" / first.key / "views.png").read_bytes()


def test_a_failed_cell_is_recorded_counted_and_tried_again_on_request(tmp_path, console, monkeypatch):
    cells = expand(spec(methods=["vsd"], seeds=[0]))
    results = runner.run_sweep(cells, tmp_path, console=console)
    assert "LoRA" in results[cells[0].key].error
    runs = []
    real = cells_module.run_cell
    monkeypatch.setattr(cells_module, "run_cell", lambda *a: runs.append(1) or real(*a))
    runner.run_sweep(cells, tmp_path, console=console)
    assert not runs
    runner.run_sweep(cells, tmp_path, retry=True, console=console)
    assert runs == [1]
    row = setting_rows(prompt_rows(cells, results, lambda r: pytest.fail("an asset that is not there was read")))[0]
    assert (row.assets, row.errors, row.intervals["failures"].mean) == (1, 1, 1.0)


def test_a_bug_in_one_cell_does_not_stop_the_others(tmp_path, console, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("fsd_gs.train.asset.prepare", broken)
    cells = expand(spec())
    results = runner.run_sweep(cells, tmp_path, console=console)
    assert [r.error for r in results.values()] == ["ZeroDivisionError: division by zero"] * 2
    assert "ZeroDivisionError" in (tmp_path / "cells" / cells[0].key / "traceback.txt").read_text()


@pytest.mark.slow
def test_several_workers_do_the_same(tmp_path, console):
    cells = expand(spec())
    pooled = runner.run_sweep(cells, tmp_path / "pool", workers=2, console=console)
    alone = runner.run_sweep(cells, tmp_path / "alone", console=console)
    assert {k: replace(r, seconds=None) for k, r in pooled.items()} == {k: replace(r, seconds=None) for k, r in alone.items()}


def test_an_unreadable_result_says_what_to_do(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(FileFormatError, match="remove its folder to run the cell again"):
        load_result(tmp_path)


@pytest.mark.long
def test_the_command_leaves_tables_plots_and_sheets(tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(
        f"prompts: [a chair]\nseeds: [0, 1]\nbase: [{', '.join(map(repr, TINY))}]\nmethods: [fsd, vsd]\ngrid: {{noise.beta: [0, 1.0]}}\n"
    )
    arguments = [str(tmp_path / "tiny.yaml"), "--output", str(tmp_path / "out"), "guidance.cfg_scale=1.5"]
    assert command.main(arguments) == 1  # vsd cannot run on the exact prior
    printed = capsys.readouterr().out
    assert "4 of 8 cells ended in an error" in printed
    folder = tmp_path / "out" / "tiny"
    for name in ("cells.csv", "prompts.csv", "settings.csv", "settings.md", "sheet-a-chair.png", "plot.png", "plot-noise.beta.png"):
        assert (folder / name).is_file(), name
        assert not name.endswith(".png") or np.asarray(Image.open(folder / name).convert("L")).std() > 5, f"{name} is blank"
    with (folder / "settings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["setting"] for r in rows] == [f"{m}, noise.beta={b}" for m in ("fsd", "vsd") for b in (0, 1.0)]
    assert [r["errors"] for r in rows] == ["0", "0", "2", "2"]
    assert rows[2]["distance"] == ""
    assert command.main([*arguments, "--report", "--no-plots"]) == 1
    assert "8 of 8 cells are finished" in capsys.readouterr().out


# -- tables ----------------------------------------------------------------------------------------------------------------


def result(seed, nearest=None, distance=None, setting="fsd", prompt="p", **more):
    key = f"{setting}-{prompt}-{seed}"
    return CellResult(key, (("method", setting),), prompt, seed, nearest=nearest, distance=distance, objects=24, seconds=2.0, **more)


def test_a_wreck_counts_as_failure_not_as_diversity():
    results = [result(0, 4, 0.001), result(1, 4, 0.003), result(2, 9, 0.2), result(3, 7, 0.002, failures=("holes",)), result(4, error="x")]
    assert [is_failed(r, 0.01) for r in results] == [False, False, True, True, True]
    row = prompt_row(results[0].setting, "p", results, lambda r: torch.full((1, 2, 2, 3), 0.1 * r.seed), 0.01)
    assert (row.assets, row.distinct, row.failures, row.errors) == (5, 1, 3, 1)
    assert row.pairwise == pytest.approx(0.01)  # of the two sound ones
    assert row.distance == pytest.approx((0.001 + 0.003 + 0.2 + 0.002) / 4)  # quality includes the wreck


def test_without_a_finite_set_only_the_measures_of_renders_remain():
    row = prompt_row((), "p", [result(0), result(1)], lambda r: torch.full((1, 2, 2, 3), float(r.seed)), 0.01)
    assert math.isnan(row.distinct)
    assert math.isnan(row.distance)
    assert (row.pairwise, row.failures) == (1.0, 0)
    assert "| default | – | – | 1.0000 [1.0000, 1.0000] | 0.00 [0.00, 0.00] | 1 | 2 | 0 | 2.0 |" in markdown(setting_rows([row]))


def test_intervals_are_over_prompts():
    rows = [
        prompt_row((), p, [result(s, n, 0.001, prompt=p) for s, n in enumerate(objects)], lambda r: torch.zeros(1, 1, 1, 3), 0.01)
        for p, objects in {"a": [0, 0], "b": [0, 1]}.items()
    ]
    interval = setting_rows(rows)[0].intervals["distinct"]
    assert (interval.mean, interval.low, interval.high, interval.n) == (1.5, 1.0, 2.0, 2)


def test_the_sheet_frames_failures_in_red(tmp_path):
    cells = expand(spec(seeds=[0, 1]))
    cells = [replace(cell, measure=MeasureSettings(views=2)) for cell in cells]
    for cell in cells:
        save_png(np.full((32, 32, 3), 255, np.uint8), tmp_path / cell.key / "views.png")
    results = {
        cell.key: CellResult(cell.key, cell.setting, "a chair", cell.config.seed, nearest=0, distance=distance)
        for cell, distance in zip(cells, (0.001, 0.1), strict=True)
    }
    path = pictures.save_sheet(cells, results, "a chair", lambda c: tmp_path / c.key, tmp_path / "sheet.png")
    from PIL import Image

    sheet = np.asarray(Image.open(path))
    corners = [sheet[pictures.HEADER, pictures.LABEL_WIDTH + i * (pictures.TILE + pictures.GAP)].tolist() for i in range(2)]
    assert corners == [[255, 255, 255], [200, 30, 30]]


def test_labels():
    assert setting_label(()) == "default"
    assert setting_label((("method", "fsd"), ("noise.beta", "0.5"))) == "fsd, noise.beta=0.5"
