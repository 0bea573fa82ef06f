"""What a batch survives, with real processes. Units are rehearsals, which wait and write a small file; the files must tell the truth."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleet.stores import Clock, Slow, assert_whole, attempts, markers, units

from fsd_gs.errors import OutputError
from fsd_gs.fleet.driver import Driver, Event, Job, Rules
from fsd_gs.fleet.local import Inline, Processes
from fsd_gs.fleet.protocol import CLAIMS, Beat, Claims, Owner
from fsd_gs.fleet.store import FolderStore
from fsd_gs.fleet.task import Rehearse
from fsd_gs.fleet.worker import Setup

pytestmark = pytest.mark.long


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def claimed_units(output):
    return list((output / CLAIMS).glob("*/*.claim"))


def in_thread(driver):
    """Run a driver beside the test; its tally, or its error, by join()."""
    found = {}

    def run():
        try:
            found["tally"] = driver.run()
        except Exception as error:
            found["error"] = error

    thread = threading.Thread(target=run)
    thread.start()

    def join(seconds=90.0):
        thread.join(seconds)
        assert not thread.is_alive(), "the driver does not end"
        if "error" in found:
            raise found["error"]
        return found["tally"]

    return join


def test_a_worker_killed_in_the_middle(tmp_path):
    todo, output = units(6), tmp_path / "out"
    team = Processes(Setup(str(output), Rehearse(0.8)), 2)
    said = []
    join = in_thread(Driver(FolderStore(output), todo, team, Rules(poll_seconds=0.1), tell=said.append))
    wait_for(lambda: len(claimed_units(output)) >= 2)
    time.sleep(0.2)
    victim = next(iter(team.pids().values()))
    os.kill(victim, signal.SIGKILL)
    tally = join()
    assert (tally.done, tally.failed) == (6, {})
    assert_whole(output, todo)
    again = [unit for unit in todo if len(attempts(output, unit.key)) == 2]
    assert len(again) == 1
    assert attempts(output, again[0].key) == {1: "died", 2: "claim"}
    marker = next(marker for marker in markers(output).values() if marker.key == again[0].key)
    assert marker.attempt == 2
    assert f"-{victim}-" not in marker.owner, "made elsewhere"
    assert any("the worker died (signal SIGKILL); tried again" in line for line in said)


def batch(folder, *more, seconds=0.4):
    prompts = folder / "prompts.txt"
    if not prompts.exists():
        prompts.write_text("a chair\na lamp\n")
    command = [sys.executable, "-m", "fsd_gs", "batch", str(prompts), "--seeds", "0-2", "--output", str(folder / "out")]
    return [*command, "--rehearse", str(seconds), "--workers", "2", *more]


def finished(folder):
    return list((folder / "out" / "rehearsal").glob("*/*/done.json"))


def test_a_driver_killed_twice_and_started_again(tmp_path):
    """Nothing is made twice, nothing is lost, no worker stays behind, and claims of the dead are taken over at once."""
    for done in (1, 3):
        with subprocess.Popen(batch(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as driver:
            wait_for(lambda done=done: len(finished(tmp_path)) >= done)
            driver.kill()
    before = {path: path.stat().st_mtime_ns for path in finished(tmp_path)}
    assert len(before) < 6
    began = time.monotonic()
    ended = subprocess.run(batch(tmp_path), capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=90)
    assert time.monotonic() - began < 60, "the dead were not waited for"
    assert "6 of 6 done" in ended.stdout
    after = {path: path.stat().st_mtime_ns for path in finished(tmp_path)}
    assert len(after) == 6
    assert before.items() <= after.items(), "what was done was not touched"
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [row["state"] for row in rows] == ["done"] * 6
    assert all(row["attempt"] <= 3 for row in rows)


def test_two_drivers_on_one_folder(tmp_path):
    drivers = [
        subprocess.Popen(batch(tmp_path, "--stale-minutes", "1"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [driver.communicate(timeout=90)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], told
    made = [int(text.split(" of them now")[0].rpartition(" ")[2]) for text in told]
    assert sum(made) == 6, "each unit was made once"
    assert all("6 of 6 done" in text for text in told), "and both wait for the whole"
    assert len(claimed_units(tmp_path / "out")) == 6


def small_files_only(index):
    """The disk of worker 0 takes no file beyond 500 bytes: what it starts on it cannot end."""
    if index == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))


@dataclass(frozen=True)
class Bulky:
    """Writes a kilobyte."""

    def make(self, unit, place, tools):
        time.sleep(0.05)
        (place / "result.bin").write_bytes(bytes(1000))
        return {}


def test_a_full_disk_on_one_worker(tmp_path):
    todo, output, said = units(8), tmp_path / "out", []
    team = Processes(Setup(str(output), Bulky()), 2, begin=small_files_only)
    tally = in_thread(Driver(FolderStore(output), todo, team, Rules(poll_seconds=0.1), tell=said.append))()
    assert (tally.done, tally.failed) == (8, {})
    assert_whole(output, todo)
    assert any("is given nothing more" in line and "File too large" in line for line in said), said
    assert {marker.owner.split("@")[0].rpartition(".")[2] for marker in markers(output).values()} == {"2"}


def test_a_full_disk_everywhere_ends_the_batch_with_one_line(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=r"no worker is left: .*nothing is lost") as caught:
        Driver(FolderStore(tmp_path / "other"), units(2), Inline(Setup(str(tmp_path / "out"), Rehearse(0.0)))).run()
    assert "\n" not in str(caught.value)


def test_a_prompt_that_always_fails(tmp_path):
    """Tried on other workers as often as was said, then reported with its log; the others are made; tried again on request only."""
    todo, output, said = units(4), tmp_path / "out", []

    def run(**rules):
        team = Processes(Setup(str(output), Rehearse(0.05, fail="#2")), 2)
        return in_thread(Driver(FolderStore(output), todo, team, Rules(retries=1, poll_seconds=0.1, **rules), tell=said.append))()

    tally = run()
    unit, failure = tally.failed[todo[2].key]
    assert (tally.done, unit, failure.error) == (3, todo[2], "unit #2: rehearsed to fail")
    failures = Claims(FolderStore(output)).standing(unit.key).failures
    assert [f.kind for f in failures] == ["error", "error"]
    assert len({f.worker for f in failures}) == 2, "by another worker"
    assert_whole(output, [u for u in todo if u is not unit])
    assert run().failed.keys() == tally.failed.keys()
    assert len(attempts(output, unit.key)) == 2, "the same command leaves it alone"
    run(retry_failed=True)
    assert len(attempts(output, unit.key)) == 4
    assert sum("given up" in line for line in said) == 2


class Silent:
    """A team that never gets anything to do; for drivers that only watch."""

    def idle(self):
        return []

    def size(self):
        return 1

    def events(self, timeout):
        return []

    def close(self):
        pass


def test_claims_of_another_machine_are_waited_for_by_the_own_clock(tmp_path):
    """A living owner elsewhere, whose clock is a day off, keeps its unit; when it falls silent the unit is taken over after ten minutes."""
    todo, store, clock = units(1), FolderStore(tmp_path), Clock()
    claims = Claims(store)
    claims.take(todo[0].key, 1, Owner("w@far-1", "far", 1, "another boot", "7"))
    for path in (tmp_path / CLAIMS).glob("*/*"):
        os.utime(path, (time.time() - 86400,) * 2)
    driver = Driver(store, todo, Silent(), Rules(stale_seconds=600, poll_seconds=5), clock=clock)
    for count in range(100):
        claims.beat(todo[0].key, 1, Beat(count))
        clock.now += 50
        driver._look_elsewhere()
        assert driver._elsewhere
    clock.now += 595
    driver._look_elsewhere()
    assert driver._elsewhere
    clock.now += 10
    driver._look_elsewhere()
    assert [job.attempt for job in driver._waiting] == [2]


def test_drivers_on_a_file_system_that_lags(tmp_path):
    """Two drivers see each other's files 0.4 s late: every unit is published once."""
    todo, output = units(8), tmp_path / "out"

    def driver():
        team = Inline(Setup(str(output), Rehearse(0.1)))
        team.worker.store = Slow(output, 0.4)
        team.worker.claims = Claims(team.worker.store)
        return in_thread(Driver(Slow(output, 0.4), todo, team, Rules(poll_seconds=0.1)))

    tallies = [join() for join in (driver(), driver())]
    assert [tally.done for tally in tallies] == [8, 8]
    assert_whole(output, todo)


def test_an_early_end_is_asked_for_and_costs_nothing(tmp_path):
    with subprocess.Popen(batch(tmp_path, seconds=30), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as driver:
        wait_for(lambda: len(claimed_units(tmp_path / "out")) >= 2)
        driver.send_signal(signal.SIGTERM)
        assert "stopped; the same command goes on" in driver.communicate(timeout=60)[0]
        assert driver.returncode == 128 + signal.SIGTERM
    kinds = [json.loads(path.read_text())["kind"] for path in (tmp_path / "out" / CLAIMS).glob("*/*.failed")]
    assert kinds == ["stopped", "stopped"], "given back, so that others need not wait"
    ended = subprocess.run(batch(tmp_path, seconds=0), capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=90)
    assert "6 of 6 done" in ended.stdout


def test_workers_that_die_at_once_end_the_batch(tmp_path):
    team = Processes(Setup(str(tmp_path / "out"), Rehearse(0.0)), 1, begin=os._exit)
    with pytest.raises(OutputError, match="no worker is left: all of them died"):
        in_thread(Driver(FolderStore(tmp_path / "out"), units(1), team))()


def test_a_worker_that_did_not_claim_costs_its_unit_no_attempt(tmp_path):
    class Dies(Silent):
        def __init__(self):
            self.given = []

        def idle(self):
            return ["w"] if not self.given else []

        def give(self, worker, unit, attempt):
            self.given.append(attempt)

        def events(self, timeout):
            return [Event("w", None, "signal SIGKILL")]

    team = Dies()
    driver = Driver(FolderStore(tmp_path), units(1), team)
    driver._hand_out()
    driver._handle(team.events(0))
    job = driver._waiting[0]
    assert (job.attempt, job.failures) == (1, 0)


def test_a_unit_that_failed_does_not_wait_for_ever_for_workers_that_are_not_there():
    """Of two workers the other one is busy: it is waited for. Its machine leaves: after a minute the first one may try again."""

    class Two(Silent):
        there = ("a", "b")

        def present(self):
            return list(self.there)

        def size(self):
            return 2

    clock, team = Clock(), Two()
    driver = Driver(FolderStore(Path("nowhere")), [], team, clock=clock)
    job = Job(units(1)[0], avoid={"a"})
    driver._waiting.append(job)
    clock.now = 1000.0
    assert driver._next_for("a") is None
    team.there = ("a",)
    clock.now = job.failed_at = 2000.0
    assert driver._next_for("a") is None, "it may come back"
    clock.now += 61.0
    assert driver._next_for("a") is job
