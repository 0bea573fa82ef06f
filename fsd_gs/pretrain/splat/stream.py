"""Objects without end: shards of fresh examples, rendered ahead of the trainer by a process of their own, dropped when they are used up.

    after n objects trained on, batches are drawn from the examples [hi − window, hi),   hi(n) = first + ⌊n / reuse⌋

so each example is used about ``reuse`` times, and which ones a step may see depends on n alone: not on the clock, the number of processes
or on when the training was stopped. Shards that are missing after a stop are rendered again, bit for bit.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fsd_gs.errors import BackendError, FileFormatError
from fsd_gs.io import atomic_write
from fsd_gs.pretrain.mixture import beside_meshes
from fsd_gs.pretrain.sources import CatalogueSource, ObjectSource
from fsd_gs.pretrain.splat.objects import SplatExample, make_example
from fsd_gs.pretrain.splat.settings import SplatDataSettings

FIRST = 128  # examples that are there before the first step
TENSORS = ("views", "depths", "viewmats", "focal")
AHEAD = 4  # shards rendered beyond what the trainer needs


def make_splat_source(data: SplatDataSettings, *, held_out: bool = False) -> ObjectSource:
    """The catalogue, the user's own meshes (which have no held-out side), or a mixture."""
    return beside_meshes(CatalogueSource(data.seed, held_out, tuple(data.categories), supersample=data.supersample), data)


def save_examples(examples: list[SplatExample], path: Path) -> None:
    """One shard, atomically."""
    from safetensors.torch import save_file

    tensors = {name: torch.stack([getattr(e, name) for e in examples]) for name in TENSORS}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"captions": json.dumps([e.captions for e in examples])})


def load_examples(path: Path) -> list[SplatExample]:
    """Read a shard of rendered objects. FileFormatError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            captions = json.loads(opened.metadata()["captions"])
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (not a dict)
        views, depths, viewmats, focal = (tensors[name] for name in TENSORS)
        parts = zip(views, depths, viewmats, focal, captions, strict=True)
        return [SplatExample(v, d, m, f, tuple(texts)) for v, d, m, f, texts in parts]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise FileFormatError(f"{path} is not a readable shard; delete it and run the command again") from error


class Stream:
    """The examples of a training, by index; a context manager that owns the rendering processes.

    Args:
        folder: of the shards.
        watch: called while it waits; may stop the work by raising.
    """

    def __init__(self, data: SplatDataSettings, folder: Path, watch: Callable[[], None]) -> None:
        self.data, self.folder, self.watch = data, folder, watch
        self._loaded: OrderedDict[int, list[SplatExample]] = OrderedDict()
        self._source: ObjectSource | None = None
        self._processes: list[Any] = []
        self._context = multiprocessing.get_context("spawn")  # a fork would copy torch's and numba's threads in an unknown state
        self._needed = self._context.Value("q", 0)

    def __enter__(self) -> Stream:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def begin(self, used: int) -> None:
        """Start rendering for a training that has seen ``used`` objects."""
        low, high = self.bounds(used)
        self._needed.value = high // self.data.shard
        arguments = (self.data, self.folder, self._needed, low // self.data.shard, self.data.workers)
        for part in range(self.data.workers):
            process = self._context.Process(target=_render_ahead, args=(*arguments, part), daemon=True)
            process.start()
            self._processes.append(process)

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def bounds(self, used: int) -> tuple[int, int]:
        """[low, high) of the examples that the next step may draw, after ``used`` objects."""
        first = min(FIRST, self.data.window)
        high = first + int(used / self.data.reuse)
        return max(0, high - self.data.window), high

    def example(self, index: int, used: int) -> SplatExample:
        """The example at ``index``, waiting for its shard if need be; older shards than the window of ``used`` are dropped."""
        low, high = self.bounds(used)
        self._needed.value = high // self.data.shard
        self._drop_before(low // self.data.shard)
        number, place = divmod(index, self.data.shard)
        if number not in self._loaded:
            self._loaded[number] = self._get(number)
        return self._loaded[number][place]

    def _get(self, number: int) -> list[SplatExample]:
        path = shard_path(self.folder, number)
        while not path.is_file():
            self.watch()
            if not self._processes:
                self._source = self._source or make_splat_source(self.data)
                save_examples(render_shard(self._source, self.data, number, self.watch), path)
            elif not all(process.is_alive() for process in self._processes):
                raise BackendError("data.workers: a rendering process failed (its message is above); try data.workers=0")
            else:
                time.sleep(0.1)
        return load_examples(path)

    def _drop_before(self, number: int) -> None:
        for old in [n for n in self._loaded if n < number]:
            del self._loaded[old]
            shard_path(self.folder, old).unlink(missing_ok=True)


def shard_path(folder: Path, number: int) -> Path:
    """The file of shard ``number``."""
    return folder / f"shard-{number:07d}.safetensors"


def render_shard(source: ObjectSource, data: SplatDataSettings, number: int, watch: Callable[[], None]) -> list[SplatExample]:
    """Draw the ``data.shard`` objects of shard ``number``; ``watch`` is called after each."""
    examples = []
    for index in range(number * data.shard, (number + 1) * data.shard):
        examples.append(make_example(source, data, index))
        watch()
    return examples


def _render_ahead(data: SplatDataSettings, folder: Path, needed: Any, first: int, parts: int, part: int) -> None:
    """Render the shards first, first + 1, … ≡ part (mod parts), never more than AHEAD beyond what is needed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, so that half-written files are removed
    torch.set_num_threads(1)
    source, parent, number = make_splat_source(data), os.getppid(), first + (part - first) % parts
    while os.getppid() == parent:  # a killed trainer leaves nobody to stop this
        if number > needed.value + AHEAD:
            time.sleep(0.2)
            continue
        path = shard_path(folder, number)
        if not path.is_file():
            save_examples(render_shard(source, data, number, lambda: None), path)
        number += parts
