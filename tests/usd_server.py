"""Answers ``usd_forks``: a fork for each read, of a process that has OpenUSD loaded and neither torch nor threads."""

import json
import os
import sys
from pathlib import Path

from fsd_gs.export._usd_reading import main, read


def serve(first: str) -> None:
    """A line of JSON in, [FILE for stdout, words …]; a line out: [status, bytes above this process]. first: a good file, to warm up."""
    if read(["splats", first, f"{first}.npz", "10"]):  # schemas and plug-ins are loaded at first use
        raise SystemExit("OpenUSD cannot read its own file")
    for line in sys.stdin:
        answer, *words = json.loads(line)
        before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        child = os.fork()
        if not child:
            os.dup2(os.open(answer, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            status = 1
            try:
                status = main(words)
                sys.stdout.flush()
            finally:
                os._exit(status)
        _, status, usage = os.wait4(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024 - before]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
