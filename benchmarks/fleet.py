"""What batches cost beside the work: python benchmarks/fleet.py [--part workers|scan|requests] [--ray ADDRESS]

workers    throughput against the number of workers, with units that sleep: from the first end of a unit to the last one, worker by worker.
           overhead = what a worker spends on a unit beyond its cost: claim, heartbeat, marker, publishing, waiting for the next.
           efficiency = cost / (cost + overhead). With --ray, actors of that cluster ("auto": a new one of this machine).
scan       manifest, table and page of finished units, and the peak memory of the process that makes them; files in the page cache
requests   what a unit asks of an object store, counted by a server that speaks S3 (moto): the slope between 24 and 40 units
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fsd_gs.fleet.driver import Driver, Team
from fsd_gs.fleet.local import Inline, Processes
from fsd_gs.fleet.plan import record_plan
from fsd_gs.fleet.protocol import Marker, marker_of
from fsd_gs.fleet.scan import MANIFEST, PAGE_DATA, TABLE, scan, write_manifest
from fsd_gs.fleet.store import MARKER, FolderStore, open_store
from fsd_gs.fleet.task import Rehearse
from fsd_gs.fleet.unit import Unit
from fsd_gs.fleet.worker import Setup

FILES = ("config.yaml", "log.jsonl", "preview.png", "splats.ply", "timelapse.mp4", "turntable.mp4", "versions.txt", "words.json")


def some_units(count: int, prefix: str = "a wooden thing of the kind") -> list[Unit]:
    def unit(i: int) -> Unit:
        key = hashlib.sha256(f"{prefix} {i}".encode()).hexdigest()[:16]
        prompt = f"{prefix} {i // 4}"
        columns = {"line": i // 4 + 1, "name": "", "prompt": prompt, "seed": i % 4}
        return Unit(key, f"{prompt.replace(' ', '-')}/seed-{i % 4:04d}-{key[:8]}", f"{prompt} #{i % 4}", None, columns)

    return [unit(i) for i in range(count)]


# -- workers ---------------------------------------------------------------------------------------------------------------


def throughput(workers: int, cost: float, each: int, ray: str | None, where: str | None) -> dict[str, float]:
    units = some_units(workers * each)
    with tempfile.TemporaryDirectory(dir=where) as folder:
        setup = Setup(folder, Rehearse(cost))
        if ray is None:
            team: Team = Processes(setup, workers)
        else:
            from fsd_gs.fleet.cluster import Actors, Resources

            team = Actors(setup, workers, ray, Resources(cpus=0.01, gpus=0))
        began, busy = time.perf_counter(), time.process_time()
        tally = Driver(FolderStore(Path(folder)), units, team).run()
        whole, busy = time.perf_counter() - began, time.process_time() - busy
        assert tally.done == len(units), tally
        ended: dict[str, list[float]] = {}
        for unit in units:
            marker = Marker.from_json((Path(folder) / marker_of(unit.folder)).read_bytes())
            ended.setdefault(marker.owner, []).append(marker.finished)
    intervals = sum(len(times) - 1 for times in ended.values())
    seconds = sum(max(times) - min(times) for times in ended.values())
    return {
        "workers": len(ended),
        "per_hour": len(ended) * intervals / seconds * 3600,
        "efficiency": intervals * cost / seconds,
        "overhead": seconds / intervals - cost,
        "driver": busy / len(units),
        "whole": whole,
    }


def measure_workers(counts: list[int], cost: float, each: int, ray: str | None, where: str | None) -> None:
    kind, load = "actors of Ray" if ray else "processes", os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(f"units of {cost} s, {each} a worker, {kind}, in {where or tempfile.gettempdir()}; {os.cpu_count()} CPUs, load {load:.1f}")
    print("| workers | units an hour | efficiency | overhead, ms a unit | CPU of the driver, ms a unit | whole run, s |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        found = throughput(count, cost, each, ray, where)
        print(
            f"| {found['workers']:.0f} | {found['per_hour']:,.0f} | {found['efficiency']:.3f} | {found['overhead'] * 1000:.1f} "
            f"| {found['driver'] * 1000:.1f} | {found['whole']:.1f} |",
            flush=True,
        )


# -- scan ------------------------------------------------------------------------------------------------------------------


def finish(root: Path, units: list[Unit]) -> None:
    """Put markers where a worker would, without the work."""
    files = {name: [123_456, hashlib.sha256(name.encode()).hexdigest()] for name in FILES}
    facts = {"splats": 4487, "step": 300, "optimisation_seconds": 27.123, "verdict": "sound"}
    for unit in units:
        folder = root / unit.folder
        folder.mkdir(parents=True)
        marker = Marker(unit.key, 1, "a1b2c3.1@node-17-4242-a1b2c3", 31.25, time.time(), files, facts, dict(unit.columns))
        (folder / MARKER).write_bytes(marker.to_json())


def measure_scan(counts: list[int], where: str | None) -> None:
    print("| finished units | seconds | of CPU | peak memory, MB | manifest, table and page, MB | plan, MB |\n|---|---|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory(dir=where) as folder:
            root, units = Path(folder), some_units(count)
            record_plan(FolderStore(root), units)
            finish(root, units)
            said = subprocess.check_output([sys.executable, __file__, "--scan-here", folder], text=True)
            seconds, busy, peak = map(float, said.split())
            manifest = sum((root / name).stat().st_size for name in (MANIFEST, TABLE, PAGE_DATA)) / 1e6
            plan = sum(path.stat().st_size for path in (root / ".fleet" / "plans").iterdir()) / 1e6
        print(f"| {count:,} | {seconds:.1f} | {busy:.1f} | {peak:.0f} | {manifest:.0f} | {plan:.1f} |", flush=True)


def scan_here(folder: str) -> None:
    began, busy = time.perf_counter(), time.process_time()
    write_manifest(open_store(folder))
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    print(seconds, busy, peak / 1000)


# -- requests --------------------------------------------------------------------------------------------------------------


class Requests(logging.Handler):
    """Counts what the server logs: method, and whether it is a listing."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r'"(?:\x1b\[[0-9;]*m)*(GET|PUT|HEAD|POST|DELETE) (\S+)', record.getMessage())
        if found is not None:
            self.counts["LIST" if "list-type" in found[2] else found[1]] += 1


class Files:
    """Leaves as many files as an asset has."""

    def make(self, unit: Unit, place: Path, tools: object) -> dict[str, object]:
        for name in FILES:
            (place / name).write_bytes(os.urandom(1000))
        return {"verdict": "sound"}


def measure_requests() -> None:
    import s3fs
    from moto.server import ThreadedMotoServer

    requests, log = Requests(), logging.getLogger("werkzeug")
    log.addHandler(requests)  # before the server starts: without a handler it would write to the terminal
    log.propagate = False
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    s3fs.S3FileSystem().mkdir("bucket")
    print(
        f"an asset of {len(FILES)} files and its marker\n| requests a unit | PUT | GET | HEAD | LIST | DELETE |\n|---|---|---|---|---|---|"
    )
    made: dict[int, tuple[Counter[str], Counter[str]]] = {}
    for count in (24, 40):  # both beyond the number from which a driver lists instead of asking for each
        with tempfile.TemporaryDirectory() as scratch:
            address = f"s3://bucket/{count}"
            store, units = open_store(address, scratch), some_units(count)
            record_plan(store, units)
            requests.counts.clear()
            assert Driver(store, units, Inline(Setup(address, Files(), scratch=scratch))).run().done == count
            making = requests.counts.copy()
            requests.counts.clear()
            assert sum(row["state"] == "done" for row in scan(store)) == count
            made[count] = making, requests.counts.copy()
    server.stop()
    for index, what in enumerate(("made", "scanned")):
        few, many = made[24][index], made[40][index]
        print(f"| {what} | " + " | ".join(f"{(many[kind] - few[kind]) / 16:g}" for kind in ("PUT", "GET", "HEAD", "LIST", "DELETE")) + " |")
    print(json.dumps({str(count): [dict(counter) for counter in counters] for count, counters in made.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("workers", "scan", "requests"))
    parser.add_argument("--workers", default="1,2,4,8")
    parser.add_argument("--cost", type=float, default=1.0)
    parser.add_argument("--each", type=int, default=12, help="units a worker")
    parser.add_argument("--ray", metavar="ADDRESS")
    parser.add_argument("--folder", help="in which the units lie: /dev/shm leaves out what fsync costs")
    parser.add_argument("--units", default="10000,100000")
    parser.add_argument("--scan-here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scan_here:
        return scan_here(options.scan_here)
    if options.part in (None, "workers"):
        measure_workers([int(n) for n in options.workers.split(",")], options.cost, options.each, options.ray, options.folder)
    if options.part in (None, "scan"):
        measure_scan([int(n) for n in options.units.split(",")], options.folder)
    if options.part in (None, "requests"):
        measure_requests()


if __name__ == "__main__":
    main()
