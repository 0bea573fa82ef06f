"""Nothing lost, nothing silent, nobody else in: ``python -m tests.campaign [--long] [NAME ...]`` prints the table of docs/reliability.md.

A campaign is a module here with ``rows(long) -> Iterator[Row]`` and its name in ``CAMPAIGNS``. The short form is part of the tests.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# The cases fork, and a fork of a process with threads may never wake up: before torch and numba are imported, one thread each.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from row import Row

from fsd_gs.train import result

CAMPAIGNS = ("nonfinite", "bits", "overrides", "disk", "together", "kills", "commands", "strangers")  # those that start threads last


def rows_of(name: str, long: bool) -> Iterator[Row]:
    yield from importlib.import_module(name).rows(long)


def main(arguments: list[str] | None = None) -> int:
    """0 if every count is 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(CAMPAIGNS)}")
    parser.add_argument("--long", action="store_true", help="all cases, some minutes; otherwise a choice of them")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(CAMPAIGNS):
        parser.error(f"unknown name {', '.join(sorted(unknown))}")
    result.PREVIEW_SIZE = 16  # as small as the runs: encoding previews would take most of the time
    began, clean = time.monotonic(), True
    print("| campaign | cases | lost | silent | traceback | let in |\n|---|---|---|---|---|---|", flush=True)
    for name in options.names or CAMPAIGNS:
        for row in rows_of(name, options.long):
            print(f"| {row.name} | {row.cases} | {row.lost} | {row.silent} | {row.traceback} | {row.let_in} |", flush=True)
            clean = clean and row.clean
    print(f"\n{time.monotonic() - began:.0f} s", flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
