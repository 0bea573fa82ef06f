"""Renders the views of the training set in several processes, which share the shards by number."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fsd_gs.errors import BackendError
from fsd_gs.pretrain.settings import DataSettings
from fsd_gs.pretrain.shards import missing_shards, render_shards
from fsd_gs.pretrain.sources import ObjectSource
from fsd_gs.pretrain.views import make_source

Watch = Callable[[int], None]  # objects done so far; may stop the work by raising


def render_views(source: ObjectSource, data: DataSettings, folder: Path, watch: Watch) -> None:
    """Every missing shard of ``folder``; ``watch`` is called again and again."""
    workers = min(data.workers or os.cpu_count() or 1, len(missing_shards(data, folder)))
    if workers > 1:
        _render_together(data, folder, workers, watch)
        return
    done = _objects_there(data, folder)

    def count() -> None:
        nonlocal done
        done += 1
        watch(done)

    for _ in render_shards(source, data, folder, after_object=count):
        pass


def _objects_there(data: DataSettings, folder: Path) -> int:
    """Objects in the finished shards; the last shard may be smaller."""
    missing = missing_shards(data, folder)
    return data.objects - sum(min(data.shard, data.objects - number * data.shard) for number in missing)


def _render_together(data: DataSettings, folder: Path, workers: int, watch: Watch) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's and numba's threads in an unknown state
    processes = [context.Process(target=_work, args=(data, folder, part, workers), daemon=True) for part in range(workers)]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes):
            time.sleep(0.2)
            watch(_objects_there(data, folder))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    if missing_shards(data, folder):
        raise BackendError("data.workers: a rendering process failed (its message is above); try data.workers=1")


def _work(data: DataSettings, folder: Path, part: int, parts: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, so that half-written files are removed
    torch.set_num_threads(1)
    for _ in render_shards(make_source(data), data, folder, part, parts):
        pass
