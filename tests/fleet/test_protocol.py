"""Claims, heartbeats and markers on files: one owner, no clock compared, nothing published twice."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fleet.stores import Clock, Slow, units

from fsd_gs.errors import OutputError
from fsd_gs.fleet.protocol import CLAIMS, Beat, Claims, Failure, Heartbeat, Owner, Standing, Watch
from fsd_gs.fleet.store import MARKER, FolderStore, ObjectStore, open_store
from fsd_gs.fleet.task import Rehearse, Tools
from fsd_gs.fleet.worker import Setup, Worker

KEY = "00ff00ff00ff00ff"


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    if request.param == "folder":
        return open_store(tmp_path / "out")
    return open_store(f"memory://{tmp_path.name}-{time.monotonic_ns()}", scratch=str(tmp_path))


def test_of_many_claimants_one_has_it(store):
    claims = Claims(store)
    start = threading.Barrier(16)

    def take(i):
        start.wait()
        return claims.take(KEY, 1, Owner.this_process(f"w{i}"))

    with ThreadPoolExecutor(16) as pool:
        taken = [claim for claim in pool.map(take, range(16)) if claim is not None]
    assert len(taken) == 1
    assert claims.standing(KEY).claim == taken[0]


def test_what_the_files_say(store):
    claims, owner = Claims(store), Owner.this_process("w")
    assert claims.standing(KEY) == Standing()
    claims.take(KEY, 1, owner, "a chair #0")
    claims.beat(KEY, 1, Beat(3, 40, 300))
    assert claims.standing(KEY).is_open
    assert claims.standing(KEY).beat == Beat(3, 40, 300)
    assert claims.fail(KEY, Failure(1, "error", "no"))
    assert not claims.fail(KEY, Failure(1, "died", "the second to say so")), "the first record of an end stays"
    assert not claims.standing(KEY).is_open
    assert claims.take(KEY, 1, owner) is None, "the number of an attempt is never given again"
    claims.take(KEY, 2, owner)
    claims.fail(KEY, Failure(2, "stopped", ""))
    standing = claims.standing(KEY)
    assert (standing.attempt, standing.counted(), claims.claimed()) == (2, 1, {KEY: 2})
    store.replace(f"{CLAIMS}/00/.nfs0000000000af", b"")
    store.replace(f"{CLAIMS}/00/._{KEY}.0003.claim", b"")
    assert claims.claimed() == {KEY: 2}, "what a file system leaves lying is nobody's claim"


def test_an_owner_is_judged_by_the_watchers_clock_alone(tmp_path):
    """The claimant's wall clock is a day ahead, then a day behind: it makes no difference, and neither do time stamps of files."""
    claims, clock = Claims(FolderStore(tmp_path)), Clock()
    watch = Watch(600.0, clock)
    elsewhere = Owner("w@other-1", "other", 1, "another boot", "7")
    for ahead in (86400.0, -86400.0):
        key = f"{int(abs(ahead)) + (ahead > 0):016x}"
        claim = claims.take(key, 1, elsewhere)
        claims.store.replace(f".fleet/claims/{key[:2]}/{key}.0001.claim", _as_json(replace(claim, taken=time.time() + ahead)))
        for count in range(40):  # alive for 40 minutes, with a beat a minute
            claims.beat(key, 1, Beat(count))
            clock.now += 60.0
            assert not watch.is_dead(key, claims.standing(key))
        clock.now += 599.0
        assert not watch.is_dead(key, claims.standing(key))
        clock.now += 1.0
        assert watch.is_dead(key, claims.standing(key)), "silent for ten minutes of the watcher's clock"


def _as_json(claim):
    import json
    from dataclasses import asdict

    return json.dumps(asdict(claim)).encode()


def test_a_process_of_this_machine_that_has_ended_is_dead_at_once(tmp_path):
    import subprocess
    import sys

    claims = Claims(FolderStore(tmp_path))
    code = (
        "import sys; from fsd_gs.fleet.protocol import *; from fsd_gs.fleet.store import FolderStore; from pathlib import Path;"
        f"Claims(FolderStore(Path({str(tmp_path)!r}))).take({KEY!r}, 1, Owner.this_process('w')); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        while not claims.standing(KEY).is_open:
            time.sleep(0.01)
        watch = Watch(600.0)
        assert not watch.is_dead(KEY, claims.standing(KEY))
        child.kill()
        child.wait()
        assert watch.is_dead(KEY, claims.standing(KEY))
    owner = claims.standing(KEY).claim.owner
    assert not replace(owner, machine="another").is_gone(), "of another machine nothing is known"


def test_a_heartbeat_beats_and_notices_that_it_was_overtaken(store):
    claims = Claims(store)
    claims.take(KEY, 1, Owner.this_process("slow"))
    with Heartbeat(claims, KEY, 1, stale_seconds=0.2) as heart:
        heart.progress = (4, 9)
        counts = set()
        end = time.monotonic() + 10
        while len(counts) < 3 and time.monotonic() < end:
            beat = claims.standing(KEY).beat
            counts.add(beat and beat.count)
            time.sleep(0.01)
        assert len(counts) >= 3
        assert (beat.step, beat.steps) == (4, 9)
        claims.take(KEY, 2, Owner.this_process("quick"))
        while not heart.overtaken and time.monotonic() < end:
            time.sleep(0.01)
        assert heart.overtaken


def test_whoever_was_thought_dead_publishes_nothing(store):
    """A slow worker goes on after its unit was taken over: before, while and after the other one publishes."""
    unit = units(1)[0]
    setup = Setup(store.address, Rehearse(0.0), scratch=str(store.scratch) if isinstance(store, ObjectStore) else None)

    class Overtaken:
        def make(self, unit, place, tools):
            assert Worker("quick", setup).attempt(unit, 2).state == "made"
            (place / "half.json").write_text("{}")
            return {}

    slow = Worker("slow", replace(setup, task=Overtaken()))
    assert slow.attempt(unit, 1).state == "overtaken"
    assert sorted(name.rpartition("/")[2] for name in store.files(unit.folder)) == [MARKER, "rehearsal.json"]
    late = slow.store.workplace(unit.key, 1)
    (late / MARKER).write_text("{}")
    assert not slow.store.publish(late, unit.folder), "a name is taken once"


def test_a_unit_that_is_done_is_found_and_not_made(tmp_path):
    unit, setup = units(1)[0], Setup(str(tmp_path), Rehearse(0.0))
    assert Worker("a", setup).attempt(unit, 1).state == "made"
    assert Worker("b", setup).attempt(unit, 1).state == "busy"
    assert Worker("b", setup).attempt(unit, 2).state == "found"


def test_a_lagging_file_system_shows_nothing_twice(tmp_path):
    """Markers and claims become visible half a second late: the claim is met as taken, the second result is refused."""
    unit = units(1)[0]
    setup = Setup(str(tmp_path), Rehearse(0.0))
    first, second = Worker("a", setup), Worker("b", setup)
    first.store = second.store = Slow(tmp_path, 0.5)
    first.claims = second.claims = Claims(first.store)
    assert first.attempt(unit, 1).state == "made"
    assert second.claims.standing(unit.key) == Standing(), "not to be seen yet"
    assert second.attempt(unit, 1).state == "busy"
    assert second.claims.standing(unit.key, known=1).is_open, "what is known for certain counts as claimed"
    assert second.attempt(unit, 2).state == "found", "made again in vain, and refused: the name is taken"
    assert (tmp_path / unit.folder / MARKER).is_file()


def test_errors_keep_their_log_and_a_bug_its_traceback(tmp_path):
    import logging

    class Broken:
        def make(self, unit, place, tools):
            logging.getLogger("fsd_gs.test").warning("it begins to smell")
            raise ZeroDivisionError("division\nby zero")

    report = Worker("w", Setup(str(tmp_path), Broken())).attempt(units(1)[0], 1)
    kept = Claims(FolderStore(tmp_path)).standing(report.key).failure
    assert report.failure == kept
    assert (kept.kind, kept.error) == ("error", "ZeroDivisionError: division by zero")
    assert "warning: it begins to smell" in kept.log
    assert "raise ZeroDivisionError" in kept.log


def test_what_is_wrong_with_the_machine_is_no_fault_of_the_unit(tmp_path):
    class Full:
        def make(self, unit, place, tools):
            raise OutputError("no space left on the disk")

    report = Worker("w", Setup(str(tmp_path), Full())).attempt(units(1)[0], 1)
    assert report.failure.kind == "machine"
    assert Claims(FolderStore(tmp_path)).standing(report.key).counted() == 0


def test_rehearsals_stop_when_asked():
    from fsd_gs.fleet.task import Stopped

    with pytest.raises(Stopped):
        Rehearse(60.0).make(units(1)[0], None, Tools(stop=lambda: True))
