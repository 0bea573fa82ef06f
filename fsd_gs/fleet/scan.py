"""What is there, found by looking: ``manifest.jsonl``, ``manifest.csv`` and ``index.html`` are derived from the files and never the truth.

Units stream through, a thousand at a time: from the plans to their markers, and for those without one to their claims.

    state    done, running (claimed, and not known to have ended), failed, waiting; with ``verify`` also damaged: a file is not what
             the marker says
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

from fsd_gs import __version__
from fsd_gs.core.pages import page_style, render_page, resource
from fsd_gs.fleet.plan import Planned, planned_units
from fsd_gs.fleet.progress import read_status
from fsd_gs.fleet.protocol import Claims, Marker, Standing, marker_of
from fsd_gs.fleet.store import FLEET, Store

MANIFEST, TABLE, PAGE, PAGE_DATA = "manifest.jsonl", "manifest.csv", "index.html", f"{FLEET}/units.js"
STATES = ("done", "running", "failed", "waiting", "damaged")
COLUMNS = (
    "state", "key", "folder", "name", "prompt", "seed", "verdict", "splats", "seconds", "attempt", "owner", "error", "line",
)  # fmt: skip
_AT_ONCE = 1000


def scan(store: Store, *, verify: bool = False) -> Iterator[dict[str, Any]]:
    """One row a planned unit: the values of ``COLUMNS`` that are known, and the names of its files."""
    claims = Claims(store)
    for units in _batches(planned_units(store)):
        contents = store.read_many([marker_of(unit.folder) for unit in units])
        for unit, content in zip(units, contents, strict=True):
            yield {"key": unit.key, "folder": unit.folder, **unit.columns, **_state(store, claims, unit, content, verify)}


def _state(store: Store, claims: Claims, unit: Planned, content: bytes | None, verify: bool) -> dict[str, Any]:
    if content is None:
        return _unfinished(claims.standing(unit.key))
    try:
        marker = Marker.from_json(content)
    except ValueError as error:
        return {"state": "damaged", "error": f"{marker_of(unit.folder)}: {error}"}
    row = {"state": "done", "attempt": marker.attempt, "owner": marker.owner, "seconds": marker.seconds, **marker.facts}
    if verify and (bad := [name for name, (_, digest) in marker.files.items() if store.digest(f"{unit.folder}/{name}") != digest]):
        row |= {"state": "damaged", "error": f"not what was written: {', '.join(bad)}"}
    return row | {"files": sorted(marker.files)}


def _unfinished(standing: Standing) -> dict[str, Any]:
    if standing.attempt == 0:
        return {"state": "waiting"}
    owner = standing.claim.owner.name if standing.claim else None
    failure = standing.failures[-1] if standing.failures else None
    row: dict[str, Any] = {"attempt": standing.attempt, "owner": owner}
    if standing.is_open:
        gone = standing.claim is not None and standing.claim.owner.is_gone()
        row |= {"state": "waiting" if gone else "running"}
        if standing.beat is not None:
            row |= {"step": standing.beat.step, "steps": standing.beat.steps}
    else:
        row |= {"state": "waiting" if failure is not None and failure.kind in ("stopped", "withdrawn") else "failed"}
    return row | ({"error": failure.error} if failure is not None and failure.kind != "stopped" else {})


def write_manifest(store: Store, *, verify: bool = False) -> Counter[str]:
    """Scan, and write the manifest, the table and the page; how many units are in each state."""
    counts: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    with ExitStack() as files:
        lines, table, data = (
            files.enter_context(files.enter_context(store.writing(name)).open("w", encoding="utf-8", newline=""))
            for name in (MANIFEST, TABLE, PAGE_DATA)
        )
        rows: csv.DictWriter[str] = csv.DictWriter(table, COLUMNS, extrasaction="ignore", restval="")
        rows.writeheader()
        data.write("const UNITS = [\n")
        for row in scan(store, verify=verify):
            counts[row["state"]] += 1
            if row.get("verdict"):
                verdicts[row["verdict"]] += 1
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            rows.writerow(row)
            data.write(json.dumps(_for_the_page(row), ensure_ascii=False) + ",\n")
        data.write("];\n")
    with store.writing(PAGE) as path:
        path.write_text(overview(store, counts, verdicts), encoding="utf-8")
    return counts


def _for_the_page(row: dict[str, Any]) -> list[Any]:
    """state, label, prompt, seed, verdict, splats, seconds, attempt, error, folder, files; in the order that overview.js expects."""
    kept = [name for name in row.get("files", ()) if name in ("preview.png", "turntable.mp4", "splats.ply")]
    return [
        row["state"], row.get("name") or row.get("prompt", ""), row.get("prompt", ""), row.get("seed", 0), row.get("verdict", ""),
        row.get("splats"), row.get("seconds"), row.get("attempt"), row.get("error", ""), row["folder"], kept,
    ]  # fmt: skip


def overview(store: Store, counts: Counter[str], verdicts: Counter[str]) -> str:
    """The page: what the drivers say of themselves, and the units, filtered in the browser."""
    drivers = read_status(store)
    return render_page(
        "fsd_gs.fleet/overview.html.j2",
        address=store.address,
        counts={state: counts[state] for state in STATES if counts[state] or state != "damaged"},
        verdicts=sorted(verdicts),
        total=sum(counts.values()),
        drivers=drivers,
        refresh=any(driver.is_running for driver in drivers),
        version=__version__,
        data=PAGE_DATA,
        style=page_style("fsd_gs.fleet", "overview.css"),
        script=resource("fsd_gs.fleet", "overview.js"),
    )


def _batches(units: Iterable[Planned], size: int = _AT_ONCE) -> Iterator[Sequence[Planned]]:
    units = iter(units)
    while batch := list(islice(units, size)):
        yield batch
