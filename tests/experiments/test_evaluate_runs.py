"""``fsd-gs evaluate`` end to end on tiny runs: what is kept, what is found again, what is counted, and what the report says."""

import csv
import json
import pickle
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from stand_in_scorers import stand_ins

from fsd_gs.config import load_config, to_yaml
from fsd_gs.errors import FileFormatError, FsdGsError, InputError, OutputError
from fsd_gs.experiments.evaluate import assets as assets_module
from fsd_gs.experiments.evaluate.assets import asset_folder, find_runs, load_record, load_splats
from fsd_gs.experiments.evaluate.command import main
from fsd_gs.experiments.evaluate.runner import run_assets, take_stock
from fsd_gs.experiments.evaluate.suite import expand, suite_from_dict
from fsd_gs.experiments.sweep.cells import PriorCache
from fsd_gs.export.ply import load_ply, save_ply
from fsd_gs.fleet.worker import Setup, Worker
from fsd_gs.train import asset as train_asset
from fsd_gs.train import runs
from fsd_gs.train.loop import Observer
from fsd_gs.train.result import Result

pytestmark = pytest.mark.long

TINY = [
    "steps=3", "render.sizes=[16]", "render.size_at=[0.0]", "splats.count=60", "densify.kind=none", "cameras.azimuth_grid=4",
    "cameras.elevation_grid=1", "prior.name=exact",
    "guidance.cfg_scale=1.0", "schedule.end=0.02", "prior.objects=2", "prior.distractors=1", "device=cpu", "outputs.checkpoint_every=0",
]  # fmt: skip
HOSTILE = "a chair </title><script>alert(1)</script> @@STYLE@@"


def suite(**changes):
    values = {"prompts": ["a chair"], "seeds": [0, 1], "methods": ["sds", "fsd"], "base": TINY, "views": 4}
    return suite_from_dict({**values, "images": {"per_seed": 4, "steps": 2}, **changes})


@pytest.fixture
def console():
    return Console(quiet=True)


@pytest.fixture
def made(monkeypatch):
    """The keys of the assets that are really made."""
    keys, real = [], assets_module.train_asset

    def counted(config, prior, folder, **how):
        keys.append(folder.name.partition(".")[0])  # the work folder of an attempt
        return real(config, prior, folder, **how)

    monkeypatch.setattr(assets_module, "train_asset", counted)
    return keys


def run(assets, output, console, **more):
    return run_assets(assets, output, cache=PriorCache(), console=console, **more)


def write_suite(folder, **changes):
    values = {"title": "Tiny", "prompts": ["a chair"], "seeds": [0, 1], "methods": ["sds", "fsd"], "baselines": ["sds"], "views": 4}
    values |= {"base": TINY, "images": {"per_seed": 4, "steps": 2}, **changes}
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return str(path)


def evaluate(*arguments, scorers=None):
    return main(list(arguments), make_scorers=lambda settings, device: scorers or stand_ins())


# -- assets ----------------------------------------------------------------------------------------------------------------


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path, console, made, monkeypatch):
    assets, real = expand(suite()), assets_module.make_asset

    def interrupted(asset, *rest):
        if len(made) == 2:
            raise KeyboardInterrupt
        return real(asset, *rest)

    monkeypatch.setattr(assets_module, "make_asset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(assets, tmp_path, console)
    monkeypatch.setattr(assets_module, "make_asset", real)
    records = run(assets, tmp_path, console)
    assert sorted(made) == sorted({a.key for a in assets}), "each was made once"
    assert set(records) == {a.key for a in assets}
    for asset in assets:
        assert load_record(asset_folder(tmp_path, asset)) == records[asset.key]
        assert len(load_splats(asset_folder(tmp_path, asset))) == records[asset.key].splats > 0
        assert records[asset.key].seconds > 0
    run(assets, tmp_path, console)
    assert len(made) == len(assets)


def test_suites_share_their_assets(tmp_path, console, made):
    run(expand(suite(methods=["fsd"])), tmp_path, console)
    run(expand(suite(axes={"noise.beta": [0.5, 1.0]}, methods=["fsd"])), tmp_path, console)
    assert len(made) == 2 + 2, "β = 1 is FSD itself, and was there already"


def test_an_unfinished_asset_goes_on_from_its_checkpoint_and_ends_the_same(tmp_path, made, monkeypatch):
    asset = expand(suite(methods=["fsd"], base=[*TINY, "outputs.checkpoint_every=1"]))[0]
    whole = run([asset], tmp_path / "whole", Console(quiet=True))[asset.key]
    real, steps = train_asset.run, []

    def killed(config, session, observers, checkpoint):
        class Kill(Observer):
            def stepped(self, session, report):
                steps.append(report.step)
                if report.step == 2 and len(steps) == 2:
                    raise KeyboardInterrupt

        return real(config, session, [*observers, Kill()], checkpoint)

    monkeypatch.setattr(train_asset, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        run([asset], tmp_path / "cut", Console(quiet=True))
    console = Console(record=True, width=300)
    record = run([asset], tmp_path / "cut", console)[asset.key]
    assert f"note: {asset}: unfinished" in console.export_text()
    assert steps == [1, 2, 3], "the first two steps were not done again"
    assert record.digest == whole.digest
    assert record.seconds is None, "the time of a part is no time of the whole"
    assert not (asset_folder(tmp_path / "cut", asset) / "checkpoint").exists()


def test_a_damaged_asset_is_named_and_made_again(tmp_path, made):
    assets = expand(suite(methods=["fsd"]))
    before = run(assets, tmp_path, Console(quiet=True))
    ply = asset_folder(tmp_path, assets[0]) / "splats.ply"
    ply.write_bytes(ply.read_bytes()[:-50])
    (asset_folder(tmp_path, assets[1]) / "record.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"a damaged asset \(splats\.ply is not the file that was written\)"):
        load_record(ply.parent)
    console = Console(record=True, width=300)
    after = run(assets, tmp_path, console)
    assert console.export_text().count("it is made again") == 2
    assert len(made) == 4
    assert {k: r.digest for k, r in after.items()} == {k: r.digest for k, r in before.items()}, "the same settings make the same splats"


def test_failures_are_recorded_and_only_tried_again_on_request(tmp_path, console, made):
    assets = expand(suite(methods=["fsd", "vsd"]))
    records = run(assets, tmp_path, console)
    errors = [records[a.key].error for a in assets if a.label == "vsd"]
    assert len(errors) == 2
    assert all("LoRA" in error for error in errors)
    run(assets, tmp_path, console)
    assert len(made) == 4
    run(assets, tmp_path, console, retry=True)
    assert len(made) == 6


def test_a_bug_in_one_asset_leaves_its_traceback_and_no_splats_are_a_failure(tmp_path, console, monkeypatch):
    assets = expand(suite(methods=["fsd"]))
    empty = load_ply_of(run(assets[:1], tmp_path / "x", console), tmp_path / "x", assets[0]).select(torch.arange(0))
    outcomes = iter([ZeroDivisionError("division\nby zero"), Result(empty, assets[1].config, None)])

    def broken(*args):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr("fsd_gs.train.asset.run", broken)
    records = run(assets, tmp_path, console)
    assert records[assets[0].key].error == "ZeroDivisionError: division by zero"
    assert "no splats are left" in records[assets[1].key].error
    assert "ZeroDivisionError" in (asset_folder(tmp_path, assets[0]) / "traceback.txt").read_text()


def load_ply_of(records, output, asset):
    return load_splats(asset_folder(output, asset))


def test_what_is_wrong_with_the_machine_ends_the_evaluation(tmp_path, console, monkeypatch):
    def full(*args):
        raise OutputError("no space left on the disk")

    monkeypatch.setattr("fsd_gs.train.asset.run", full)
    assets = expand(suite())
    with pytest.raises(OutputError, match="no space left"):
        run(assets, tmp_path, console)
    assert load_record(asset_folder(tmp_path, assets[0])) is None


def test_a_worker_makes_the_same_asset_from_a_pickled_job(tmp_path, console):
    """The workers themselves are the fleet's, and tested there."""
    asset = expand(suite(methods=["fsd"]))[0]
    alone = run([asset], tmp_path / "alone", console)[asset.key]
    setup, unit = pickle.loads(pickle.dumps((Setup(str(tmp_path / "worker"), assets_module.MakeRecord()), assets_module.unit_of(asset))))
    assert Worker("w", setup).attempt(unit, 1).state == "made"
    assert load_record(asset_folder(tmp_path / "worker", asset)).digest == alone.digest


def test_finished_runs_of_training_are_taken_over_if_their_settings_agree(tmp_path, console, made):
    assets = expand(suite(methods=["fsd"]))
    config = assets[0].config
    records = run(assets[:1], tmp_path / "first", console)
    trained = tmp_path / "outputs" / "a-chair" / "seed-0000"
    trained.mkdir(parents=True)
    trained_config = load_config(["exact"], [*TINY, "prompt=a chair", "output=outputs", "outputs.preview_every=9"])
    (trained / runs.CONFIG).write_text(to_yaml(trained_config))
    save_ply(load_ply_of(records, tmp_path / "first", assets[0]), trained / runs.SPLATS)
    other = tmp_path / "outputs" / "a-chair" / "seed-0001"
    other.mkdir()
    (other / runs.CONFIG).write_text(to_yaml(assets[1].config))  # unfinished
    (tmp_path / "outputs" / "old" / "seed-0000").mkdir(parents=True)
    (tmp_path / "outputs" / "old" / "seed-0000" / runs.CONFIG).write_text("steppps: 3\n")
    found = find_runs([tmp_path / "outputs"])
    assert list(found.finished.values()) == [trained]
    assert "an unfinished run; not used" in found.unfinished[0]
    assert "not a run of this version" in found.unreadable[0]
    stock = take_stock(assets, tmp_path / "second", found)
    assert set(stock.finished) == {assets[0].key}
    taken = stock.finished[assets[0].key]
    assert taken.source == str(trained)
    assert torch.equal(load_ply(asset_folder(tmp_path / "second", assets[0]) / "splats.ply").means, load_ply(trained / runs.SPLATS).means)
    assert config.prompt == taken.prompt


# -- the command -----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.tags, self.words, self.skip = [], [], False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.skip = tag == "style"

    def handle_endtag(self, tag):
        self.skip = False

    def handle_data(self, data):
        if not self.skip:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_command_leaves_everything_and_finds_it_again(tmp_path, capsys, made):
    spec = write_suite(tmp_path, methods=["sds", "fsd", "vsd"], stand_ins=["a chair"])
    arguments = ["--suite", spec, "--output", str(tmp_path / "out"), "guidance.cfg_scale=1.5"]
    scorers = stand_ins()
    assert evaluate(*arguments, scorers=scorers) == 1  # vsd cannot run on the exact prior
    printed = capsys.readouterr().out
    assert "2 ended in an error, such as:" in printed
    (folder,) = (p for p in (tmp_path / "out").iterdir() if p.name.startswith("tiny-exact"))
    for name in ("results.json", "table.md", "table.csv", "prompts.csv", "report.html", "plot-methods.png"):
        assert (folder / name).is_file(), name
    assert np.asarray(Image.open(folder / "plot-methods.png").convert("L")).std() > 5, "a blank plot"

    results = json.loads((folder / "results.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert results["versions"]["torch"] == torch.__version__
    assert results["command"].startswith("fsd-gs evaluate --suite")
    methods = {m["method"]: m for m in results["methods"]}
    assert list(methods) == ["DDIM images", "sds", "fsd", "vsd"]
    assert (methods["vsd"]["assets"], methods["vsd"]["errors"], methods["vsd"]["failure_rate"]["mean"]) == (2, 2, 1.0)
    assert methods["fsd"]["cross_fid"]["mean"] > 0
    assert methods["DDIM images"]["cross_fid"]["mean"] is None
    assert len(results["assets"]) == 6
    assert set(results["configs"]) == {a["key"] for a in results["assets"]}
    assert {c["method"] for c in results["comparisons"]} == {"fsd", "vsd"}

    text = (folder / "table.md").read_text()
    assert "2 of 6 assets failed" not in text  # tiny runs fail by geometry as well; the count is of all that failed
    assert re.search(r"[2-6] of 6 assets failed; all of them are counted", text)
    assert "**Stand-ins.**" in text
    assert "The paper's figures are not shown beside these: the networks are not the paper's" in text
    assert "One prompt only: there is no interval" in text
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["method"] for r in rows] == list(methods)
    assert rows[2]["cross_fid_low"] == ""

    shown, assets_made = scorers.embedder.calls, len(made)
    assert evaluate(*arguments, "--report", scorers=scorers) == 1
    assert scorers.embedder.calls - shown == 2 * 4, "assets keep their scores; only the images are looked at again"
    assert len(made) == assets_made


def test_the_page_is_self_contained_and_prompts_stay_text(tmp_path, capsys):
    spec = write_suite(tmp_path, prompts=[HOSTILE], methods=["fsd", "vsd"], baselines=["fsd"])
    evaluate("--suite", spec, "--output", str(tmp_path / "out"), "--no-plots", "anyway=true")
    (path,) = (tmp_path / "out").glob("*/report.html")
    page, source = Page(path), path.read_text("utf-8")
    assert HOSTILE in "".join(page.words)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert "default-src 'none'" in source
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", source)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3  # DDIM images, fsd, vsd
    for part in ("fsd-gs evaluate --suite", "LoRA", "stand-ins", "DDIM images", "prior: name: exact"):
        assert part.lower() in page.text.lower(), part


def test_a_report_of_a_part_is_refused(tmp_path, capsys):
    spec = write_suite(tmp_path)
    with pytest.raises(InputError, match="4 of 4 assets are missing, unfinished or damaged, such as 'a chair #0  sds'; run"):
        evaluate("--suite", spec, "--output", str(tmp_path / "out"), "--report")


def test_reference_only_draws_the_images_and_makes_no_asset(tmp_path, capsys, made):
    spec = write_suite(tmp_path)
    assert evaluate("--suite", spec, "--output", str(tmp_path / "out"), "--reference-only") == 0
    assert not made
    (path,) = (tmp_path / "out").glob("*/results.json")
    results = json.loads(path.read_text())
    assert [m["method"] for m in results["methods"]] == ["DDIM images"]
    assert results["methods"][0]["alignment"]["mean"] is not None
    drawn = sorted((tmp_path / "out" / "images").glob("*/images.png"))
    assert len(drawn) == 2
    before = [p.stat().st_mtime_ns for p in drawn]
    drawn[0].write_bytes(b"broken")
    evaluate("--suite", spec, "--output", str(tmp_path / "out"), "--reference-only")
    after = [p.stat().st_mtime_ns for p in drawn]
    assert after[0] > before[0], "damaged images are drawn again"
    assert after[1] == before[1]


def test_what_no_asset_can_do_without_fails_before_any_work(tmp_path):
    spec = write_suite(tmp_path, prompts=["a chair", "a quasar"])
    with pytest.raises(FsdGsError, match="quasar"):
        evaluate("--suite", spec, "--output", str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("assets/*"))
    with pytest.raises(FsdGsError, match=r"device: .*cuda"):
        evaluate("--suite", write_suite(tmp_path), "--output", str(tmp_path / "out"), "device=cuda:99")
