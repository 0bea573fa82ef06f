"""Batches on an object store: s3fs against a server of its own that speaks S3 (moto's, in a thread, on a free port of 127.0.0.1)."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet.stores import units
from fleet.test_faults import in_thread, wait_for

from fsd_gs.errors import OutputError
from fsd_gs.fleet.driver import Driver, Rules
from fsd_gs.fleet.local import Inline, Processes
from fsd_gs.fleet.plan import record_plan
from fsd_gs.fleet.protocol import CLAIMS, Claims, Marker, Owner, marker_of
from fsd_gs.fleet.scan import MANIFEST, PAGE, write_manifest
from fsd_gs.fleet.store import MARKER, open_store
from fsd_gs.fleet.task import Rehearse
from fsd_gs.fleet.unit import shard
from fsd_gs.fleet.worker import Setup

KEY = "00ff00ff00ff00ff"


class Puts(logging.Handler):
    """The names that were written, in the order in which the server took them."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        found = re.search(r'PUT /bucket/(\S+) HTTP/1.1" (?:\x1b\[[0-9;]*m)*200', record.getMessage())
        if found is not None:
            self.names.append(found[1])


@pytest.fixture(scope="module")
def server():
    """Of this module; with a bucket. What a client needs to know is in the environment, where worker processes find it, too."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (the extra s3)")
    moto = pytest.importorskip("moto.server", reason="moto is not installed (the extra test)")
    import s3fs

    log, puts = logging.getLogger("werkzeug"), Puts()
    log.addHandler(puts)  # before the server starts: without a handler it would write to the terminal
    log.propagate = False
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
            patch.setenv(f"AWS_{name}", value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        server.puts = puts
        yield server
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
    log.removeHandler(puts)


@pytest.fixture
def address(server, request):
    server.puts.names.clear()
    return f"s3://bucket/{request.node.name}"


def assert_whole_on(store, todo):
    """Every unit has its marker, and every object is what the marker says; nothing else lies in a folder of a unit."""
    for unit in todo:
        marker = Marker.from_json(store.read(marker_of(unit.folder)))
        assert marker.key == unit.key
        assert {name: store.digest(f"{unit.folder}/{name}") for name in marker.files} == {n: d for n, (_, d) in marker.files.items()}
        assert set(store.files(unit.folder)) == {f"{unit.folder}/{name}" for name in (*marker.files, MARKER)}


def test_of_many_claimants_one_has_it(address, tmp_path):
    claims, start = Claims(open_store(address, str(tmp_path))), threading.Barrier(8)

    def take(i):
        start.wait()
        return claims.take(KEY, 1, Owner.this_process(f"w{i}"))

    with ThreadPoolExecutor(8) as pool:
        assert sum(claim is not None for claim in pool.map(take, range(8))) == 1


def test_two_shards_make_everything_once_and_the_marker_last(server, address, tmp_path):
    """Two drivers without a shared disk, each with its part; made locally, uploaded; the same commands find everything done."""
    todo, store = units(10), open_store(address, str(tmp_path / "look"))

    def work(rank):
        scratch = str(tmp_path / f"machine-{rank}")
        return Driver(open_store(address, scratch), shard(todo, rank, 2), Inline(Setup(address, Rehearse(0.0), scratch=scratch))).run()

    with ThreadPoolExecutor(2) as pool:
        tallies = list(pool.map(work, (0, 1)))
    assert sum(tally.made for tally in tallies) == 10
    assert all(tally.made for tally in tallies), "each has a part"
    assert_whole_on(store, todo)
    for unit in todo:
        mine = [name for name in server.puts.names if f"/{unit.folder}/" in name]
        assert mine[-1].endswith(MARKER)
        assert len(mine) == len(set(mine)) == 2, "uploaded once"
    server.puts.names.clear()
    assert [work(rank).found for rank in (0, 1)] == [tally.total for tally in tallies]
    assert server.puts.names == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing is left in the scratch folders"


@pytest.mark.slow  # four processes that import s3fs; test_faults.py kills the same ones over a folder
def test_a_killed_worker_and_a_killed_driver(server, address, tmp_path):
    """-9 for a driver over its units, then for a worker of the next one: nothing is lost, nothing made twice, no half folder is done."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a chair\na lamp\n")
    command = [sys.executable, "-m", "fsd_gs", "batch", str(prompts), "--output", address, "--scratch", str(tmp_path / "scratch")]
    store = open_store(address, str(tmp_path / "look"))
    with subprocess.Popen([*command, "--rehearse", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as driver:
        wait_for(lambda: list(store.files(CLAIMS)))
        driver.kill()
    from fsd_gs.fleet.plan import planned_units
    from fsd_gs.fleet.unit import Unit

    todo = [Unit(planned.key, planned.folder, planned.label, None, planned.columns) for planned in planned_units(store)]
    assert len(todo) == 2
    assert not any(store.read(marker_of(unit.folder)) for unit in todo)
    todo += units(4)
    team, said = Processes(Setup(address, Rehearse(0.8), scratch=str(tmp_path / "scratch")), 2), []
    join = in_thread(Driver(store, todo, team, Rules(poll_seconds=0.1), tell=said.append))
    wait_for(lambda: len(Claims(store).claimed()) >= 3)
    os.kill(next(iter(team.pids().values())), signal.SIGKILL)
    tally = join()
    assert (tally.done, tally.made, tally.failed) == (6, 6, {})
    assert any("is dead; taken over" in line for line in said), "the driver's claim, at once: its process was of this machine"
    assert any("the worker died (signal SIGKILL); tried again" in line for line in said)
    assert_whole_on(store, todo)
    markers = [name for name in server.puts.names if name.endswith(MARKER)]
    assert len(markers) == len(set(markers)) == 6


def test_manifest_and_page_are_made_there_and_damage_is_found(address, tmp_path):
    todo, store = units(3), open_store(address, str(tmp_path))
    record_plan(store, todo)
    Driver(store, todo[:2], Inline(Setup(address, Rehearse(0.0), scratch=str(tmp_path)))).run()
    store.replace(f"{todo[0].folder}/rehearsal.json", b"{}")
    assert write_manifest(store) == {"done": 2, "waiting": 1}
    assert write_manifest(store, verify=True) == {"done": 1, "waiting": 1, "damaged": 1}
    rows = [json.loads(line) for line in store.read(MANIFEST).splitlines()]
    assert rows[0]["error"] == "not what was written: rehearsal.json"
    assert b"<title>fsd-gs: a batch</title>" in store.read(PAGE)


def test_a_store_that_does_not_answer_is_one_line(server, tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"cannot use s3://no-such-bucket/x/a\.txt: .*bucket") as caught:
        open_store("s3://no-such-bucket/x", str(tmp_path)).replace("a.txt", b"")
    assert "\n" not in str(caught.value)
