"""Runs a kernel on several threads that share one counter of work.

Why not numba's own ``parallel=True``: its OpenMP workers spin at every barrier, which costs milliseconds per kernel as soon as another
pool (torch's) wants the same cores, its portable layer aborts when two threads render at once, and it compiles several times
slower. Here kernels release the GIL and take blocks of work from an atomic counter. The calling thread works too and waits
only for helpers that have started, so a busy machine costs at most the serial time. What a block computes does not depend on who takes
it: results have the same bits for any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import extending, types

BLOCKS = 64  # blocks of work a kernel is cut into; more than any thread count that helps here


def _take(typingctx: Any, counter: Any) -> Any:
    """counter[0]++ atomically; returns the old value."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen


take: Callable[..., Any] = extending.intrinsic(_take)  # pyright: ignore[reportAssignmentType, reportCallIssue]

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None  # its threads did not survive the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(kernel: Callable[..., Any], items: int, grain: int, *args: Any) -> None:
    """``kernel(counter, *args)`` on up to ``torch.get_num_threads()`` threads, one for each ``grain`` of ``items`` at most."""
    global _pool
    counter = np.zeros(1, np.int64)
    helpers = min(torch.get_num_threads(), items // grain + 1) - 1
    if helpers > 0 and _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max((os.cpu_count() or 2) - 1, 1), thread_name_prefix="rasterizer")
    started = [_pool.submit(kernel, counter, *args) for _ in range(helpers)] if _pool is not None else []
    kernel(counter, *args)
    for helper in started:
        if not helper.cancel():
            helper.result()
