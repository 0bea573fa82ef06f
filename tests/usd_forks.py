"""``run_reader`` of ``fsd_gs.export.usd`` by forks of one process that has OpenUSD loaded: the same function in the same limits, a hundred
times as fast.

    with forked_usd() as usage: load_splats("a.usdc"); usage[-1]     # bytes that the last reader took beyond the process it began as
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export_scenes import random_gaussians

from fsd_gs.export import usd
from fsd_gs.export.formats import save_splats


@contextmanager
def forked_usd() -> Iterator[list[int]]:
    usage: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        save_splats(random_gaussians(3), first := Path(folder) / "first.usda")
        command = [sys.executable, str(Path(__file__).with_name("usd_server.py")), str(first)]
        environment = os.environ | {"PXR_WORK_THREAD_LIMIT": "1", "TF_ENV_SETTING_ALERTS_ENABLED": "0"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
            before, usd.run_reader = usd.run_reader, _asking(server, Path(folder) / "stdout", usage)
            try:
                yield usage
            finally:
                usd.run_reader = before
                server.communicate(timeout=20)  # the end of its input is its end


def _asking(server, answer: Path, usage: list[int]):
    def run_reader(*words: str) -> tuple[int, str]:
        server.stdin.write(json.dumps([str(answer), *words]) + "\n")
        server.stdin.flush()
        status, taken = json.loads(server.stdout.readline())
        usage.append(taken)
        return status, answer.read_text(errors="replace").strip()

    return run_reader
