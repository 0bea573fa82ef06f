"""``fsd-gs fleet``: how batches stand, their manifest and page, their errors, their end; and jobs on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from fsd_gs.core import commandline
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.fleet.plan import plan_files, planned_units
from fsd_gs.fleet.progress import read_status, table
from fsd_gs.fleet.protocol import COUNTED, Claims, marker_of
from fsd_gs.fleet.run import CANCEL
from fsd_gs.fleet.scan import PAGE, write_manifest
from fsd_gs.fleet.store import Store, open_store

ACTIONS = ("status", "scan", "failed", "cancel", "submit", "logs")
DESCRIPTION = """Look after batches.

  {program} status OUTPUT            how far everything is
  {program} scan OUTPUT [--verify]   write manifest and overview page from the files
  {program} failed OUTPUT            the errors and logs of what failed
  {program} cancel OUTPUT            ask every driver at work there to stop; the same batch command goes on later
  {program} submit --address http://HEAD:8265 -- prompts.csv --output s3://… [options of batch]
  {program} status|cancel|logs --address http://HEAD:8265 JOB"""


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs fleet``."""
    parser = commandline.make_parser(program, DESCRIPTION)
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help="see above")
    parser.add_argument("place", nargs="?", metavar="OUTPUT|JOB", help="of a batch; with --address the id of a job")
    parser.add_argument("--address", metavar="URL", help="of the dashboard of a Ray cluster, http://HEAD:8265")
    parser.add_argument("--working-dir", metavar="FOLDER", help="submit: a folder that travels to the cluster (the prompt file)")
    parser.add_argument("--verify", action="store_true", help="scan: read every file and compare it with its marker")
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs fleet") -> int:
    """Run the command; 0, or 1 where a scan found damaged units."""
    words = list(arguments)
    cut = words.index("--") if "--" in words else len(words)
    options = commandline.parse(make_parser(program), words[:cut])
    from rich.console import Console

    console = Console()
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    if options.action in ("submit", "logs") or options.address is not None:
        from fsd_gs.fleet.jobs import run_action

        return run_action(options.action, options.address, options.place, words[cut + 1 :], options.working_dir, say)
    if options.place is None:
        raise InputError(f"{options.action}: expected the output of a batch, got nothing")
    store = open_store(options.place)
    if not plan_files(store):
        raise FileFormatError(f"{options.place}: no batch here")
    if options.action == "cancel":
        store.replace(CANCEL, os.urandom(8).hex().encode())
        say("asked; drivers stop after the steps in hand")
        return 0
    if options.action == "failed":
        return _show_failed(store, say)
    counts = write_manifest(store, verify=options.verify)
    say("  ".join(f"{state}: {count}" for state, count in sorted(counts.items())))
    if options.action == "status" and (statuses := read_status(store)):
        console.print(table(statuses), highlight=False)
    if options.action == "scan":
        say(f"overview: {store.address}/{PAGE}")
    return 1 if counts["damaged"] else 0


def _show_failed(store: Store, say: Callable[[str], None]) -> int:
    claims, found = Claims(store), 0
    claimed = claims.claimed()
    for unit in planned_units(store):
        if unit.key not in claimed or store.read(marker_of(unit.folder)) is not None:
            continue
        failures = [failure for failure in claims.standing(unit.key).failures if failure.kind in COUNTED]
        for failure in failures:
            say(f"{unit.label}, attempt {failure.attempt} by {failure.worker}: {failure.error}")
            for line in failure.log.splitlines():
                say(f"    {line}")
        found += bool(failures)
    say(f"{found} units failed" if found else "nothing failed")
    return 0
