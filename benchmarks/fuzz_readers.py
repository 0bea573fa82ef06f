"""Damages good splat and mesh files at random and reads them: the answer is a read file or one error, quickly, in little memory.

    python benchmarks/fuzz_readers.py [--count 2000] [--seed 0] [--format .spz …]

Every format is read in a process of its own, so that a crash is seen and counted; a mutation is decided by format, seed and number, and one
that fails is written to --keep. Prints a table; exit status 1 if anything escaped. ``tests/export/test_splat_fuzz.py`` runs a hundred.
OpenUSD's native code is at work in a process of its own, whose crash is a refusal; its memory counts. Seconds are of CPU time, OpenUSD's of
the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "tests")]

MAX_SECONDS, MAX_BYTES = 10.0, 1 << 30
ADDRESS_SPACE = 12 << 30  # a reader that runs away meets MemoryError, not the machine's killer


def read_all(suffix: str, first: int, count: int, seed: int, folder: Path) -> None:
    """Read mutations ``first`` … ``count`` of a format; one JSON line each on stdout, before and after."""
    from splat_mutations import USD
    from usd_forks import forked_usd

    mutator, load = mutator_and_reader(suffix)
    mutator.read_samples(load, folder)  # imports and caches are no reader's memory
    with forked_usd() if suffix in USD else nullcontext([]) as usage:
        read_numbers(mutator, load, range(first, count), seed, folder / f"fuzzed{suffix}", usage)


def mutator_and_reader(suffix: str) -> tuple[Any, Callable[[Path], object]]:
    from mesh_mutations import MESHES, MeshMutator, load_mesh
    from splat_mutations import Mutator

    from fsd_gs.export.formats import load_splats

    return (MeshMutator(suffix), load_mesh) if suffix in MESHES else (Mutator(suffix), load_splats)


def read_numbers(mutator: Any, load: Callable[[Path], object], numbers: range, seed: int, path: Path, usage: list[int]) -> None:
    """``usage``: bytes taken by readers in processes of their own."""
    from splat_mutations import USD

    from fsd_gs.errors import FileFormatError, InputError

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    for number in numbers:
        usage.clear()
        path.write_bytes(mutator(seed, number))
        print(json.dumps({"number": number}), flush=True)
        # CPU time, whatever else the machine does; OpenUSD's is spent in another process.
        clock = time.perf_counter if path.suffix in USD else time.process_time
        before, start = _peak(), clock()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(path)
            outcome = "read"
        except (FileFormatError, InputError) as error:
            outcome = "refused" if "\n" not in str(error) else "more than one line"
        except BaseException as error:
            outcome = f"raised {type(error).__name__}"
        answer = {"number": number, "outcome": outcome, "seconds": clock() - start, "bytes": max([_peak() - before, *usage])}
        print(json.dumps(answer), flush=True)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def watch(suffix: str, count: int, seed: int, keep: Path | None) -> dict[str, float]:
    """All mutations of a format, in as many processes as it takes; the totals."""
    totals: dict[str, float] = {"read": 0, "refused": 0, "raised": 0, "crashed": 0, "seconds": 0.0, "bytes": 0.0}
    first = 0
    with tempfile.TemporaryDirectory() as folder:
        while first < count:
            words = [sys.executable, str(HERE), "--child", suffix, str(first), str(count), str(seed), folder]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                last = first - 1
                for line in child.stdout:
                    answer = json.loads(line)
                    last = answer["number"]
                    if "outcome" in answer:
                        _count(totals, answer, suffix, seed, keep)
                        first = last + 1
            if child.returncode and last < first:
                raise SystemExit(f"{suffix}: the process failed outside of a reader (status {child.returncode})")
            if child.returncode:
                totals["crashed"] += 1
                _report(suffix, last, seed, f"killed (status {child.returncode})", keep)
                first = last + 1
    return totals


def _count(totals: dict[str, float], answer: dict, suffix: str, seed: int, keep: Path | None) -> None:
    outcome = answer["outcome"]
    totals[outcome if outcome in ("read", "refused") else "raised"] += 1
    totals["seconds"] = max(totals["seconds"], answer["seconds"])
    totals["bytes"] = max(totals["bytes"], answer["bytes"])
    if outcome not in ("read", "refused") or answer["seconds"] > MAX_SECONDS or answer["bytes"] > MAX_BYTES:
        _report(suffix, answer["number"], seed, f"{outcome}, {answer['seconds']:.1f} s, {answer['bytes'] / 1e6:.0f} MB", keep)


def _report(suffix: str, number: int, seed: int, words: str, keep: Path | None) -> None:
    print(f"{suffix} seed {seed} number {number}: {words}", file=sys.stderr, flush=True)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{seed}-{number}{suffix}").write_bytes(mutator_and_reader(suffix)[0](seed, number))


def main() -> int:
    from mesh_mutations import MESHES
    from splat_mutations import SUFFIXES

    kinds = [*SUFFIXES, *MESHES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="mutations a format (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--keep", type=Path, help="folder for the files that escaped")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        suffix, first, count, seed, folder = arguments.child
        read_all(suffix, int(first), int(count), int(seed), Path(folder))
        return 0
    print("| format | mutations | read | refused | raised | crashed | slowest s | most MB |\n|---|---|---|---|---|---|---|---|")
    bad = 0
    for suffix in arguments.format:
        t = watch(suffix, arguments.count, arguments.seed, arguments.keep)
        bad += int(t["raised"] + t["crashed"] + (t["seconds"] > MAX_SECONDS) + (t["bytes"] > MAX_BYTES))
        outcomes = " | ".join(f"{t[k]:.0f}" for k in ("read", "refused", "raised", "crashed"))
        print(f"| {suffix} | {arguments.count} | {outcomes} | {t['seconds']:.2f} | {t['bytes'] / 1e6:.0f} |", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
