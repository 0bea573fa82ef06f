"""A network file system that is slow to show what others wrote, and other helpers of the tests of batches."""

import hashlib
import json
import time
from dataclasses import dataclass, replace

from fsd_gs.fleet.driver import Driver, Rules
from fsd_gs.fleet.local import Inline
from fsd_gs.fleet.plan import record_plan
from fsd_gs.fleet.protocol import CLAIMS, Beat, Claims, Failure, Marker, Owner
from fsd_gs.fleet.store import FolderStore
from fsd_gs.fleet.task import Rehearse
from fsd_gs.fleet.unit import Unit
from fsd_gs.fleet.worker import Setup


def units(count, prefix="unit"):
    def unit(i):
        key = hashlib.sha256(f"{prefix} {i}".encode()).hexdigest()[:16]
        return Unit(key, f"{prefix}/seed-{i:04d}", f"{prefix} #{i}", None, {"prompt": prefix, "seed": i})

    return [unit(i) for i in range(count)]


class Slow(FolderStore):
    """Reads and listings miss what was written in the last ``lag`` seconds, as on NFS with its caches; creating asks the server."""

    def __init__(self, root, lag):
        super().__init__(root)
        self.lag = lag

    def _hidden(self, name):
        path = self.root / name
        return not path.exists() or time.time() - path.stat().st_mtime < self.lag

    def read(self, name):
        return None if self._hidden(name) else super().read(name)

    def present(self, names):
        return {name for name in super().present(names) if not self._hidden(name)}

    def files(self, folder):
        return (name for name in super().files(folder) if not self._hidden(name))


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self):
        return self.now


def markers(output):
    return {path.parent: Marker.from_json(path.read_bytes()) for path in output.glob("**/done.json") if ".fleet" not in path.parts}


def assert_whole(output, expected):
    """Every unit is done once, nothing else has a marker, and every marker is true."""
    from fsd_gs.io import file_sha256

    found = markers(output)
    assert sorted(marker.key for marker in found.values()) == sorted(unit.key for unit in expected)
    for folder, marker in found.items():
        assert marker.files
        for name, (size, digest) in marker.files.items():
            assert (folder / name).stat().st_size == size
            assert file_sha256(folder / name) == digest
    assert set(output.glob("*/seed-*")) == set(found), "no half folder"


def attempts(output, key):
    """Kind by attempt of a unit, from the files: "failed", "claim"."""
    found = {}
    for path in sorted((output / CLAIMS / key[:2]).glob(f"{key}.*")):
        number, kind = path.name.split(".")[1:3]
        found[int(number)] = json.loads(path.read_text()).get("kind", kind) if kind == "failed" else found.get(int(number), kind)
    return found


ELSEWHERE = Owner("w@far-1", "far", 1, "another boot", "7")


def in_every_state(folder):
    """(units, store) of a batch with a unit in every state: done, failed, stopped, running, waiting, and one whose owner died."""
    todo, store = units(6, "a <b>chair</b>"), FolderStore(folder)
    record_plan(store, todo)
    rules = Rules(retries=0)
    Driver(store, todo[:2], Inline(Setup(str(folder), Rehearse(0.0, fail="#1"))), rules).run()
    claims = Claims(store)
    claims.take(todo[2].key, 1, ELSEWHERE)
    claims.fail(todo[2].key, Failure(1, "stopped", "asked to", "w"))
    claims.take(todo[3].key, 1, ELSEWHERE)
    claims.beat(todo[3].key, 1, Beat(5, 120, 300))
    claims.take(todo[5].key, 1, replace(Owner.this_process("gone"), born="0"))
    return todo, store
