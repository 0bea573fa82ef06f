"""``fsd-gs batch`` and ``fsd-gs fleet`` as commands: the dry run and its estimate, ranks, cancelling, and mistakes."""

import json
import re
from types import SimpleNamespace

import pytest
from fleet.stores import units
from fleet.test_faults import in_thread, wait_for

from fsd_gs.errors import ConfigError, FsdGsError
from fsd_gs.fleet import command, manage
from fsd_gs.fleet.driver import Driver
from fsd_gs.fleet.local import Inline
from fsd_gs.fleet.protocol import CLAIMS, Marker
from fsd_gs.fleet.run import CANCEL, _Stop
from fsd_gs.fleet.store import FolderStore
from fsd_gs.fleet.task import Rehearse
from fsd_gs.fleet.worker import Setup
from fsd_gs.train.runs import write_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to be in, with a prompt file of two lines."""
    monkeypatch.chdir(tmp_path)
    for ranks, sizes in command.RANKS:
        monkeypatch.delenv(ranks, raising=False)
        monkeypatch.delenv(sizes, raising=False)
    (tmp_path / "p.csv").write_text("prompt,name,seeds,steps\na red chair,,,\na lamp,Lamp One,3-5,50\n")
    return tmp_path


def batch(*words):
    return command.main(["p.csv", "--output", "out", *words])


def test_a_dry_run_says_what_would_be_made_and_touches_nothing(folder, capsys):
    assert batch("--seeds", "0-1,7", "--dry-run", "steps=30") == 0
    said = capsys.readouterr().out
    assert re.search(r"2 +a red chair +0-1,7 +0 of 3", said)
    assert re.search(r"3 +a lamp +Lamp One +3-5 +0 of 3 +steps=50", said)
    assert "2 prompts, 6 assets, 0 done, 6 to make" in said
    assert "time: unknown, nothing of this kind was made yet" in said
    assert sorted(path.name for path in folder.iterdir()) == ["p.csv"]


def finished_run(folder, config, seconds):
    """A run of the book: its settings and its marker."""
    folder.mkdir(parents=True)
    write_config(config, folder)
    (folder / "done.json").write_bytes(Marker("k", 1, "w", seconds, 0.0, {}, {"optimisation_seconds": 1.0}).to_json())


def test_the_estimate_comes_from_the_run_book(folder, capsys):
    """Median seconds a step of finished runs of the same prior and size, times the steps of what is left, over the workers."""
    from fsd_gs.config import load_config

    config = load_config(overrides=["steps=100"])
    for seed, seconds in enumerate((100.0, 200.0, 9000.0)):
        finished_run(folder / "book" / "a-chair" / f"seed-000{seed}", config, seconds)
    assert batch("--seeds", "0", "--dry-run", "--book", "book", "--workers", "2", "steps=90") == 0
    # 2 s a step: 90 · 2 + 3 seeds · 50 · 2 = 480 s of work
    assert "about 4:00 with 2 workers (8:00 of work)" in capsys.readouterr().out
    assert batch("--seeds", "0", "--dry-run", "--book", "book", "prior.name=exact") == 0
    assert "time: unknown" in capsys.readouterr().out, "another prior has other times"


def test_what_is_done_is_seen_and_changed_settings_are_said(folder, capsys):
    assert batch("--rehearse", "0", "--seeds", "0") == 0
    assert "4 of 4 done, 4 of them now" in capsys.readouterr().out
    assert batch("--rehearse", "0", "--seeds", "0", "--dry-run") == 0
    assert "4 assets, 4 done, 0 to make" in capsys.readouterr().out
    assert batch("--rehearse", "0", "--seeds", "0") == 0
    assert "4 of 4 done, 0 of them now" in capsys.readouterr().out
    assert batch("--rehearse", "0", "--seeds", "0", "noise.beta=0.5") == 0
    said = capsys.readouterr().out
    assert "4 of 4 units are here with other settings and stay; these are new, in folders of their own: noise.beta (1.0 → 0.5)" in said
    assert len(list((folder / "out" / "rehearsal").glob("*/seed-*"))) == 8


def options(**given):
    return SimpleNamespace(**{"rank": None, "world_size": None, **given})


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ({}, {}, (0, 1)),
        ({}, {"rank": 2, "world_size": 4}, (2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, {}, (3, 8)),
        ({"SLURM_ARRAY_TASK_ID": "13", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "10"}, {}, (3, 8)),
        (
            {"SLURM_ARRAY_TASK_ID": "30", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_STEP": "10"},
            {},
            (2, 4),
        ),
        ({"JOB_COMPLETION_INDEX": "1", "JOB_COMPLETIONS": "2"}, {}, (1, 2)),
        ({"JOB_COMPLETION_INDEX": "1"}, {"world_size": 5}, (1, 5)),
        ({"JOB_COMPLETION_INDEX": "1"}, {"world_size": 1}, (0, 1)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, {"rank": 0, "world_size": 2}, (0, 2)),
    ],
)
def test_ranks_come_from_the_options_or_the_scheduler(folder, monkeypatch, environment, given, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert command.rank_of(options(**given)) == expected


def test_a_number_without_a_count_is_no_reason_to_make_everything_eight_times(folder, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    with pytest.raises(
        ConfigError, match=r"JOB_COMPLETION_INDEX: is set, but JOB_COMPLETIONS is not; give --world-size N \(1 for everything\)"
    ):
        command.rank_of(options())
    monkeypatch.setenv("JOB_COMPLETIONS", "many")
    with pytest.raises(ConfigError, match=r"JOB_COMPLETIONS: expected a number, got 'many'"):
        command.rank_of(options())


def test_a_rank_makes_its_part_and_only_rank_0_scans(folder, monkeypatch, capsys):
    monkeypatch.setenv("JOB_COMPLETIONS", "2")
    made = []
    for rank in ("1", "0"):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", rank)
        assert batch("--rehearse", "0", "--seeds", "0-3") == 0
        made.append(len(list((folder / "out" / "rehearsal").glob("*/seed-*"))))
        assert (folder / "out" / "index.html").exists() == (rank == "0")
    assert 0 < made[0] < made[1] == 7
    assert json.loads((folder / "out" / "manifest.jsonl").read_text().splitlines()[0])["state"] == "done"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rank", "1"], "give --rank and --world-size together"),
        (["--rank", "2", "--world-size", "2"], r"--rank: expected a number from 0 to 1 \(--world-size 2\), got 2"),
        (["--workers", "0"], "--workers: expected at least 1, got 0"),
        (["--retries", "-1"], "--retries: expected at least 0, got -1"),
        (["--stale-minutes", "0"], r"--stale-minutes: expected at least 0\.01, got 0"),
        (["--rehearse", "-1"], "--rehearse: expected seconds from 0 to 86400, got -1"),
        (["--gpus-per-worker", "-1"], "--gpus-per-worker: expected at least 0, got -1"),
        (["--label", "fast"], "--label: expected KEY=VALUE, got 'fast'"),
        (["--seeds", "0-"], "--seeds: expected numbers and ranges"),
        (["prompt=a bed"], r"prompt: a batch takes it from p\.csv; leave it out"),
        (["--dry-run", "seed=3"], r"seed: a batch takes it from --seeds \(such as 0-3\) or a column 'seeds'; leave it out"),
        (["--dry-run", "output=elsewhere"], r"output: a batch sets it itself; use --output"),
        (["--dry-run", "resume=true"], r"resume: a batch sets it itself; leave it out"),
        (["--output", "gs://bucket/x"], r"gs://bucket/x: gs:// needs another package"),
        (["--output", "nowhere://x"], r"nowhere://x: .*not known"),
        (["--ray", "nowhere", "--rehearse", "0"], "--ray: .*(HOST:PORT|not installed)"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_line_before_anything_starts(folder, words, message):
    with pytest.raises(FsdGsError, match=message) as caught:
        batch(*words)
    assert "\n" not in str(caught.value)
    assert not (folder / "out" / CLAIMS).exists()


def test_words_that_the_prior_does_not_know_stop_the_batch_with_their_line(folder):
    (folder / "p.csv").write_text("prompt\na red chair\na red chiar\n")
    with pytest.raises(FsdGsError, match=r"p\.csv, line 3: .*chiar"):
        batch("prior.name=exact")
    assert not (folder / "out").exists()


def test_a_seed_that_two_lines_make_is_named(folder):
    (folder / "p.csv").write_text("prompt,seeds\na red chair,0-2\na red chair,2-4\n")
    with pytest.raises(ConfigError, match=r"p\.csv, line 3: seed 2 is made by line 2 already"):
        batch("--dry-run")


def test_cancel_stops_the_drivers_at_work_and_not_the_next_one(folder):
    todo, output = units(3), folder / "out"
    store = FolderStore(output)
    batch("--rehearse", "0", "--seeds", "0")  # so that there is a batch to cancel
    before = store.read(CANCEL)
    stop = _Stop(lambda: False, lambda: store.read(CANCEL) != before, every=0.05)
    join = in_thread(Driver(store, todo, Inline(Setup(str(output), Rehearse(60.0)), stop), stop=stop))
    wait_for(lambda: any(f"{todo[0].key}.0001.claim" in name for name in store.files(CLAIMS)))
    assert manage.main(["cancel", "out"]) == 0
    tally = join(30)
    assert (tally.stopped, tally.done) == (True, 0)
    assert batch("--rehearse", "0", "--seeds", "0-1") == 0, "an old request does not stop a new driver"


def test_errors_and_logs_are_shown(folder, capsys):
    output = folder / "out"
    batch("--rehearse", "0", "--seeds", "0")
    from fsd_gs.fleet.driver import Rules
    from fsd_gs.fleet.plan import record_plan

    todo, store = units(2), FolderStore(output)
    record_plan(store, todo)
    Driver(store, todo, Inline(Setup("out", Rehearse(0.0, fail="#1"))), Rules(retries=1)).run()
    capsys.readouterr()
    assert manage.main(["failed", "out"]) == 0
    said = capsys.readouterr().out
    assert said.count("unit #1: rehearsed to fail") == 2
    assert said.endswith("1 units failed\n")
    assert manage.main(["status", "out"]) == 0
    assert "done: 5  failed: 1" in capsys.readouterr().out
    assert manage.main(["scan", "out", "--verify"]) == 0
    (output / todo[0].folder / "rehearsal.json").write_text("{}")
    assert manage.main(["scan", "out", "--verify"]) == 1


def test_a_place_without_a_batch_is_said(folder):
    for words, message in ((["status", "out"], "out: no batch here"), (["status"], "expected the output of a batch")):
        with pytest.raises(FsdGsError, match=message):
            manage.main(words)
