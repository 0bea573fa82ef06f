"""A run's folder: who may write, what is left by a kill, what is refused, what is kept, and how a run is gone on with."""

import json
import os
import random
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "campaign"))
import kills
from stub_prior import GreenPrior, tiny

from fsd_gs.config import load_config
from fsd_gs.errors import BusyError, ConfigError, DivergenceError, EmptyAssetError, FileFormatError, OutputError
from fsd_gs.export.ply import load_ply
from fsd_gs.io import file_sha256, locked
from fsd_gs.train import runs
from fsd_gs.train.asset import keep_asset, make_asset
from fsd_gs.train.checkpoint import load_checkpoint, load_state, save_checkpoint, save_state
from fsd_gs.train.command import finish, main, read_settings
from fsd_gs.train.identity import prior_fingerprint
from fsd_gs.train.loop import Observer, StopRun
from fsd_gs.train.observers import Interrupts
from fsd_gs.train.variants import VARIANTS, Attempt, Variant, VariantSet, load_variants, record, train_variants

QUICK = kills.QUICK


def quick(output, *overrides):
    return tiny(output, *QUICK, *overrides)


class At(Observer):
    """Does something after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def stepped(self, session, report):
        if report.step == self.step:
            self.act()


def stop(keep=False):
    raise StopRun(keep=keep)


def interrupted(config, step=6):
    outcome = make_asset(config, GreenPrior(), observers=[At(step, stop)])
    assert outcome.state == "stopped"
    return outcome.folder


# -- checkpoints -----------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_checkpoint_is_refused(tmp_path):
    path = interrupted(quick(tmp_path)) / runs.CHECKPOINT
    good = path.read_bytes()
    load_checkpoint(path)
    draw = random.Random(0)
    header = 8 + int.from_bytes(good[:8], "little")
    places = [draw.randrange(len(good)) for _ in range(60)] + [draw.randrange(header) for _ in range(60)]
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match="checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("step", None, r"'step': expected a whole number from 0 to 16, got nothing"),
        ("step", 17, r"'step': expected a whole number from 0 to 16, got 17"),
        ("rate_factor", 0.0, r"'rate_factor': expected a number in \(0, 1\]"),
        ("generators.views", None, r"'generators.views': expected uint8 \[\d+\], got nothing"),
        ("params.means", torch.zeros(0, 3), r"'params.means': expected at least one splat"),
        ("params.quats", torch.zeros(60, 3), r"'params.quats': expected float32 \[60, 4\], got float32 \[60, 3\]"),
        ("optimizers.sh0.exp_avg_sq", None, r"'optimizers.sh0.exp_avg_sq': expected float32 \[60, 1, 3\], got nothing"),
        ("densify.grad2d", torch.zeros(7), r"'densify.grad2d': expected 60 values"),
        ("something.else", 1, r"unknown entry 'something.else'"),
        ("params.scales", torch.full((60, 3), torch.nan), r"params.scales holds values that are not finite"),
    ],
)
def test_a_checkpoint_is_checked_entry_by_entry(tmp_path, entry, value, message):
    config = quick(tmp_path, "densify.kind=none" if "densify" not in entry else "densify.kind=percentile", "densify.every=100")
    path = interrupted(config) / runs.CHECKPOINT
    state = load_state(path)
    state[entry] = value
    if value is None:
        del state[entry]
    save_state(path, state)
    with pytest.raises(FileFormatError, match=message) as caught:
        make_asset(replace(config, resume=True), GreenPrior())
    assert str(path) in str(caught.value)
    assert "overwrite=true" in str(caught.value)


def test_a_poisoned_checkpoint_is_never_written(tmp_path):
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, {"step": 1, "params.means": torch.zeros(3)})
    before = path.read_bytes()
    with pytest.raises(DivergenceError, match=r"not written, params\.means is not finite at step 2"):
        save_checkpoint(path, {"step": 2, "params.means": torch.tensor([0.0, torch.inf])})
    assert path.read_bytes() == before


def test_files_have_the_mode_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        folder = interrupted(quick(tmp_path))
    finally:
        os.umask(before)
    for name in (runs.CHECKPOINT, runs.CONFIG, runs.LOG, runs.PREVIEW):
        assert (folder / name).stat().st_mode & 0o777 == 0o640, name


# -- divergence ------------------------------------------------------------------------------------------------------------


def test_a_run_that_gives_up_leaves_its_last_good_state(tmp_path):
    config = quick(tmp_path, "guard.max_rollbacks=0", "guard.snapshot_every=2")

    class Sick(GreenPrior):
        calls = 0

        def predict_noise(self, *arguments):
            self.calls += 1
            return super().predict_noise(*arguments) * (torch.nan if self.calls == 8 else 1)

    with pytest.raises(DivergenceError, match=r"at step 7, after 0 rollbacks.*keeps the last good state, step 6: resume=true"):
        make_asset(config, Sick())
    folder = runs.run_folder(config)
    assert not runs.is_finished(folder)
    assert load_checkpoint(folder / runs.CHECKPOINT)["step"] == 6
    assert make_asset(replace(config, resume=True), GreenPrior()).state == "finished"


def test_an_asset_without_splats_is_not_finished(tmp_path, monkeypatch):
    config = quick(tmp_path, "outputs.clean=true", "count=2")
    monkeypatch.setattr("fsd_gs.train.asset.clean", lambda splats: (splats.select(torch.arange(0)), None))
    with pytest.raises(EmptyAssetError, match="no splats are left after step 16, so it is not finished"):
        make_asset(config, GreenPrior())
    assert not runs.is_finished(runs.run_folder(config))
    said = []
    variants, code = train_variants(
        replace(config, output=str(tmp_path / "set")), lambda asset: make_asset(asset, GreenPrior()) and 0, say=said.append
    )
    assert code == 2
    assert [v.attempts for v in variants.variants] == [(Attempt(s, ("empty",)), Attempt(s + 1000, ("empty",))) for s in (0, 1)]
    assert sum("no splats are left" in line for line in said) == 4


# -- overwriting, neighbours, locks ----------------------------------------------------------------------------------------


def test_overwriting_takes_what_was_made_from_the_old_run_and_leaves_what_is_somebodys(tmp_path):
    config = quick(tmp_path)
    folder = make_asset(config, GreenPrior()).folder
    ours = ("export/old.ply", "export/old.html", "snapshots/step-000026.ply", ".preview.00ff00ff.tmp.png", "previews/.x.00ff00ff.tmp.png")
    theirs = ("notes.txt", "export/letter.docx", "snapshots/favourite.ply", "previews/mine.png", ".hidden.tmp")
    for name in (*ours, *theirs):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"old")
    runs.prepare_folder(replace(config, overwrite=True))
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {*theirs, runs.CONFIG, runs.LOCK}


def test_half_written_files_of_a_killed_run_are_cleared(tmp_path):
    config = quick(tmp_path)
    folder = interrupted(config)
    for name in (".splats.0123abcd.tmp.ply", "checkpoint/.state.0123abcd.tmp.safetensors", "previews/.000004.0123abcd.tmp.png"):
        (folder / name).write_bytes(b"half")
    make_asset(replace(config, resume=True), GreenPrior())
    assert not kills.leftovers(folder)


def test_finished_json_says_which_files_it_stands_for(tmp_path):
    folder = make_asset(quick(tmp_path), GreenPrior()).folder
    told = json.loads((folder / runs.FINISHED).read_text())
    assert (told["step"], told["steps"]) == (16, 16)
    assert told["sha256"][runs.SPLATS] == file_sha256(folder / runs.SPLATS)
    assert runs.changed_files(folder) == []
    (folder / runs.PREVIEW).write_bytes(b"edited")
    assert runs.changed_files(folder) == [runs.PREVIEW]
    for damaged in ("{", "[1]", '{"step": 3, "sha256": []}', '{"step": "x", "sha256": {}}', "[" * 100_000):
        (folder / runs.FINISHED).write_text(damaged)
        assert (runs.finished_record(folder), runs.changed_files(folder)) == ({}, [])


@pytest.mark.parametrize("text", ["- 1", "steps: [", "steps: 2024-13-45", "a: " + "[" * 3000, "steps: many", "a: &x [*x]", "stepz: 3"])
def test_a_damaged_config_yaml_is_one_line_that_names_it(tmp_path, text):
    with pytest.raises(FileFormatError, match=r"no run here \(expected config\.yaml\)"):
        runs.load_run_config(tmp_path)
    (tmp_path / runs.CONFIG).write_text(text)
    with pytest.raises(FileFormatError, match=r"config\.yaml: ") as caught:
        runs.load_run_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_one_process_a_folder(tmp_path):
    config = quick(tmp_path, "resume=true")

    def meet():
        with pytest.raises(BusyError, match="another process is making this asset; wait for it, or choose another seed"):
            make_asset(config, GreenPrior())

    assert make_asset(config, GreenPrior(), observers=[At(2, meet)]).state == "finished"
    assert make_asset(config, GreenPrior()).state == "found"


def test_two_commands_on_one_prompt_lose_no_notes(tmp_path):
    """Each knows only its own slots when it begins; what the other wrote meanwhile stays."""
    for seed in (4, 0, 7):
        record(VariantSet("an egg", [Variant(seed, (Attempt(seed, ("hazy",)),))]), tmp_path)
    record(VariantSet("an egg", [Variant(0, (Attempt(0, ()),))], 0.5), tmp_path)
    known = load_variants(tmp_path / VARIANTS)
    assert {v.requested_seed: v.failures for v in known.variants} == {4: ("hazy",), 0: (), 7: ("hazy",)}
    with locked(tmp_path / runs.LOCK, "held"), pytest.raises(BusyError, match="held"), locked(tmp_path / runs.LOCK, "held"):
        pass


@pytest.mark.long
def test_a_damaged_neighbour_is_named_and_skipped(tmp_path, caplog):
    from fsd_gs.viewer.gallery import write_gallery

    neighbour = make_asset(quick(tmp_path, "seed=9"), GreenPrior()).folder
    splats = neighbour / runs.SPLATS
    splats.write_bytes(splats.read_bytes()[:900])
    (neighbour.parent / VARIANTS).write_text("{")
    config = quick(tmp_path, "count=2", "reseed=0")
    _, code = train_variants(config, lambda asset: make_asset(asset, GreenPrior()) and 0, write_gallery=write_gallery, say=lambda _: None)
    assert code == 0
    page = (neighbour.parent / "gallery.html").read_text()
    assert 'data-seed="0"' in page
    assert 'data-seed="1"' in page
    assert 'data-seed="9"' not in page
    assert str(splats) in caplog.text
    assert VARIANTS in caplog.text


# -- resuming --------------------------------------------------------------------------------------------------------------


def test_settings_that_cannot_change_the_result_may_differ(tmp_path):
    config = quick(tmp_path)
    interrupted(config)
    other = quick(tmp_path, "resume=true", "viewer=true", "viewer_port=8123", "reseed=3", "outputs.turntable_size=32", "device=auto")
    assert make_asset(other, GreenPrior()).state == "finished"
    assert runs.load_run_config(runs.run_folder(config)).resume is False


def test_every_other_setting_that_differs_is_named(tmp_path):
    config = quick(tmp_path)
    folder = interrupted(config)
    more = ["resume=true", "steps=99", "noise.beta=0.5", "lr.means=0.5", "splats.count=61", "guidance.cfg_scale=2", "outputs.clean=true"]
    known = {key for key, _, _ in __import__("fsd_gs.config").config.describe_settings()}
    more = [m if m.partition("=")[0] in known else m.replace("lr.", "rates.") for m in more]
    with pytest.raises(OutputError) as caught:
        make_asset(quick(tmp_path, *more), GreenPrior())
    for override in more[1:]:
        assert f"{override.partition('=')[0]} (" in str(caught.value)
    make_asset(replace(config, resume=True), GreenPrior())
    before = file_sha256(folder / runs.SPLATS)
    with pytest.raises(OutputError, match=r"is finished, and not with these settings: steps \(16 → 99\); keep them, or use overwrite=true"):
        make_asset(quick(tmp_path, "resume=true", "steps=99"), GreenPrior())
    assert file_sha256(folder / runs.SPLATS) == before


def test_a_run_that_another_network_began_goes_on_and_says_so(tmp_path, caplog):
    """After an upgrade the same prior.name may mean other files; the checkpoint fits both."""
    config = quick(tmp_path, "prior.name=nano")
    path = interrupted(config) / runs.CONFIG
    now = prior_fingerprint("nano")
    make_asset(replace(config, resume=True, overwrite=False), GreenPrior())
    assert "another network" not in caplog.text
    path = interrupted(replace(config, overwrite=True)) / runs.CONFIG
    text = path.read_text("utf-8")
    assert text.count(now) == 1
    path.write_text(text.replace(now, "0123456789abcdef"), "utf-8")
    assert make_asset(replace(config, resume=True), GreenPrior()).state == "finished"
    assert f"begun with another network behind prior.name=nano (0123456789abcdef, now {now}); going on" in caplog.text
    assert "overwrite=true begins anew" in caplog.text


def test_a_folder_alone_is_enough_to_resume(tmp_path):
    config = quick(tmp_path / "here", "noise.beta=0.25", "seed=3")
    folder = interrupted(config)
    shutil.move(folder.parent, tmp_path / "renamed")
    moved = tmp_path / "renamed" / folder.name
    found, place = read_settings([], [f"resume={moved}", "viewer_port=8123"])
    assert place == moved
    assert (found.noise.beta, found.seed, found.resume, found.viewer_port) == (0.25, 3, True, 8123)
    assert runs.differing_settings(config, found) == []
    assert make_asset(found, GreenPrior(), moved).state == "finished"
    assert read_settings([], ["prompt=a house", "resume=true"])[1] is None
    with pytest.raises(ConfigError, match="one asset, seed 3; leave seed and count out"):
        read_settings([], [f"resume={moved}", "seed=4"])
    with pytest.raises(FileFormatError, match=r"no run here \(expected config.yaml\); give true, or the folder of a run"):
        read_settings([], [f"resume={moved.parent}"])
    with pytest.raises(FileFormatError, match="no such folder"):
        read_settings([], ["resume=nowhere"])


@pytest.mark.long
def test_the_command_goes_on_from_a_folder(tmp_path, capsys):
    settings = ["prior.name=exact", "guidance.cfg_scale=1", "prior.objects=2", "prior.distractors=1", "cameras.azimuth_grid=4", *QUICK]
    settings += ["cameras.elevation_grid=1", "steps=4", "render.sizes=[16]", "splats.count=40", "densify.kind=none", "outputs.clean=false"]
    config = load_config(overrides=["prompt=a mug", f"output={tmp_path}", *settings])
    from fsd_gs.train.backbones import load_prior

    prior = load_prior(config, torch.device("cpu"))
    folder = make_asset(config, prior, observers=[At(2, stop)]).folder
    assert main([f"resume={folder}"]) == 0
    assert runs.finished_record(folder)["step"] == 4
    assert load_variants(folder.parent / VARIANTS).seeds == [0]
    assert main([f"resume={folder}"]) == 0
    assert "already finished" in capsys.readouterr().out


# -- stopping and keeping --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_a_checkpoint(tmp_path, number):
    config, interrupts = quick(tmp_path), Interrupts()
    before = signal.signal(number, signal.SIG_DFL)  # whoever started pytest may have it ignored: nohup does
    try:
        outcome = make_asset(config, GreenPrior(), observers=[At(5, lambda: signal.raise_signal(number)), interrupts])
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert (outcome.state, outcome.step, interrupts.received) == ("stopped", 5, number)
    assert load_checkpoint(outcome.folder / runs.CHECKPOINT)["step"] == 5


def test_nohup_is_respected(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        outcome = make_asset(quick(tmp_path), GreenPrior(), observers=[At(5, lambda: signal.raise_signal(signal.SIGHUP)), Interrupts()])
        assert outcome.state == "finished"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def twice():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def test_a_second_ctrl_c_keeps_the_asset(tmp_path):
    outcome = make_asset(quick(tmp_path), GreenPrior(), observers=[At(5, twice), Interrupts()])
    assert (outcome.state, outcome.step) == ("kept", 5)
    assert runs.is_finished(outcome.folder)
    assert runs.finished_record(outcome.folder)["step"] == 5
    assert torch.equal(load_ply(outcome.folder / runs.SPLATS).means, outcome.result.splats.means)
    again = make_asset(quick(tmp_path, "resume=true"), GreenPrior())
    assert (again.state, again.step) == ("found", 5)


def test_a_second_ctrl_c_within_the_grace_keeps_the_asset(tmp_path):
    said = []

    def say(message):
        said.append(message)
        signal.raise_signal(signal.SIGINT)

    watch = Interrupts(grace=30.0, say=say)
    outcome = make_asset(quick(tmp_path), GreenPrior(), observers=[At(5, lambda: signal.raise_signal(signal.SIGINT)), watch])
    assert outcome.state == "kept"
    assert "Ctrl-C again" in said[0]


def test_a_third_ends_at_once(tmp_path):
    def thrice():
        twice()
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_asset(quick(tmp_path), GreenPrior(), observers=[At(5, thrice), Interrupts()])


def test_another_terminal_can_ask_to_keep(tmp_path, capsys):
    config = quick(tmp_path)
    folder = runs.run_folder(config)
    watch = Interrupts(folder / runs.FINISH)
    outcome = make_asset(config, GreenPrior(), observers=[At(7, lambda: finish([str(folder)])), watch])
    assert (outcome.state, outcome.step) == ("kept", 7)
    assert "asked to stop and keep" in capsys.readouterr().out
    make_asset(replace(config, overwrite=True), GreenPrior(), observers=[Interrupts(folder / runs.FINISH)])
    assert runs.finished_record(folder)["step"] == 16, "an old request is forgotten"


def test_finish_keeps_unfinished_runs(tmp_path, capsys):
    from fsd_gs.viewer.gallery import write_gallery

    config = tiny(tmp_path, "solidify.effort=0")  # to compare with the checkpoint's bits
    folder = interrupted(config, step=9)
    assert finish([str(folder.parent)], write_gallery=write_gallery) == 0
    for name in (runs.SPLATS, runs.PREVIEW, runs.TURNTABLE, runs.TIMELAPSE, runs.FINISHED):
        assert (folder / name).stat().st_size > 0, name
    assert "kept as of step 9 of 16" in " ".join(capsys.readouterr().out.split())
    assert load_variants(folder.parent / VARIANTS).seeds == [0]
    assert (folder.parent / "gallery.html").is_file()
    stored = load_checkpoint(folder / runs.CHECKPOINT)["params.means"]
    assert torch.equal(load_ply(folder / runs.SPLATS).means, stored)
    assert keep_asset(folder).state == "found"
    with pytest.raises(FileFormatError, match="no unfinished run here"):
        finish([str(tmp_path / "nothing")])


def test_a_full_terminal_loses_no_step(tmp_path):
    """Observers come between two steps: what was done is kept when one of them fails."""

    def full():
        raise OSError(28, "No space left on device")

    config = quick(tmp_path)
    with pytest.raises(OSError, match="No space"):
        make_asset(config, GreenPrior(), observers=[At(5, full)])
    assert load_checkpoint(runs.run_folder(config) / runs.CHECKPOINT)["step"] == 5
