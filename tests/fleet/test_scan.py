"""Manifest, table and page: what each state of a unit looks like from the files, and that nothing in them is the truth."""

import csv
import json
import time

from fleet.stores import in_every_state, units

from fsd_gs.fleet.driver import Tally
from fsd_gs.fleet.plan import planned_units, record_plan
from fsd_gs.fleet.progress import Reporter, read_status
from fsd_gs.fleet.scan import MANIFEST, PAGE, PAGE_DATA, TABLE, scan, write_manifest
from fsd_gs.fleet.store import FolderStore


def test_every_state_is_read_from_the_files(tmp_path):
    todo, store = in_every_state(tmp_path)
    rows = list(scan(store))
    assert [row["key"] for row in rows] == [unit.key for unit in todo]
    assert [row["state"] for row in rows] == ["done", "failed", "waiting", "running", "waiting", "waiting"]
    assert (rows[0]["verdict"], rows[0]["attempt"], rows[0]["files"]) == ("rehearsal", 1, ["rehearsal.json"])
    assert rows[1]["error"] == "a <b>chair</b> #1: rehearsed to fail"
    assert (rows[3]["owner"], rows[3]["step"], rows[3]["steps"]) == ("w@far-1", 120, 300)


def test_what_is_written_is_derived_and_can_be_deleted(tmp_path):
    _, store = in_every_state(tmp_path)
    counts = write_manifest(store)
    assert counts == {"done": 1, "failed": 1, "running": 1, "waiting": 3}
    written = {name: (tmp_path / name).read_text() for name in (MANIFEST, TABLE, PAGE, PAGE_DATA)}
    assert [json.loads(line)["state"] for line in written[MANIFEST].splitlines()] == [row["state"] for row in scan(store)]
    table = list(csv.DictReader(written[TABLE].splitlines()))
    assert [(row["seed"], row["state"]) for row in table][:2] == [("0", "done"), ("1", "failed")]
    assert "<b>chair" not in written[PAGE], "prompts stay text"
    (tmp_path / MANIFEST).write_text("lies\n")
    for name in (TABLE, PAGE, PAGE_DATA):
        (tmp_path / name).unlink()
    assert write_manifest(store) == counts
    assert {name: (tmp_path / name).read_text() for name in written} == written


def test_damage_and_half_markers_are_found(tmp_path):
    todo, store = in_every_state(tmp_path)
    (tmp_path / todo[0].folder / "rehearsal.json").write_text("{}")
    assert write_manifest(store)["damaged"] == 0, "only looked for on request"
    assert write_manifest(store, verify=True)["damaged"] == 1
    (tmp_path / todo[0].folder / "done.json").write_text('{"key":')
    row = next(scan(store))
    assert (row["state"], "not a marker" in row["error"]) == ("damaged", True)


def test_a_plan_that_was_cut_off_and_one_that_overlaps(tmp_path):
    """Lines that are not whole are left out; a unit of two plans is counted once."""
    store, todo = FolderStore(tmp_path), units(5)
    record_plan(store, todo[:3])
    record_plan(store, todo)
    assert sorted(unit.key for unit in planned_units(store)) == sorted(unit.key for unit in todo)
    longest = max((tmp_path / ".fleet" / "plans").iterdir(), key=lambda path: path.stat().st_size)
    longest.write_bytes(longest.read_bytes()[:-20])
    assert len(list(planned_units(store))) == 4


def test_the_progress_table_says_what_every_worker_does(tmp_path):
    """Done, running, failed, assets an hour, time left; the step from the heartbeat; also on the page."""
    from rich.console import Console

    todo, store = in_every_state(tmp_path)
    console = Console(file=None, width=200, record=True)
    reporter = Reporter(store, console, "driver")
    now = time.monotonic()
    tally = Tally(6, found=1, made=2, waiting=1, workers=2, running={"d.1": (todo[3].key, todo[3].label, now - 9)}, began=now - 3600)
    reporter.write(tally)
    (status,) = read_status(store)
    assert dict(status.figures()) == {
        "done": "3 of 6", "running": "1", "failed": "0", "waiting": "1", "elsewhere": "0", "assets an hour": "2.0", "time left": "1:30:00",
    }  # fmt: skip
    assert status.is_running
    assert status.workers[0].words == "a <b>chair</b> #3 (0:09, step 120 of 300)"
    assert status.workers[1].name == "1 more"
    write_manifest(store)
    page = (tmp_path / PAGE).read_text()
    assert "step 120 of 300" in page
    assert "3 of 6" in page
    reporter.write(tally, ended=True)
    assert not read_status(store)[0].is_running
