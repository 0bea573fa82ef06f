"""Where a training step spends its time, on the default settings: python benchmarks/step.py [NAME of a config] [key=value ...]

Prints one table: the prior, the rasterizer forward, everything in backward that is the rasterizer's, and the rest, as shares of the step.
The goal is that everything outside prior and rasterizer stays within 15 % of a step.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fsd_gs.config import load_config
from fsd_gs.train.api import prepare
from fsd_gs.train.guard import Guard
from fsd_gs.train.session import Session
from fsd_gs.train.step import advance

STEPS = 60


class Stopwatch:
    """Adds up the time inside wrapped functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds[name] += time.perf_counter() - began

        return timed


def instrument(session: Session, watch: Stopwatch) -> None:
    """Time the prior's methods and the rasterizer, forward and backward."""
    prior = session.parts.prior
    for name in ("predict_noise", "encode", "encode_text"):
        setattr(prior, name, watch.wrap("prior", getattr(prior, name)))
    parts = replace(session.parts, rasterize=watch.wrap("rasterizer forward", session.parts.rasterize))
    session.stage = replace(session.stage, parts=parts)
    from fsd_gs.render import cpu

    for value in vars(cpu).values():
        if isinstance(value, type) and issubclass(value, torch.autograd.Function):
            value.backward = staticmethod(watch.wrap("rasterizer backward", value.backward))  # type: ignore[method-assign]


def main() -> None:
    files, overrides = [a for a in sys.argv[1:] if "=" not in a], [a for a in sys.argv[1:] if "=" in a]
    config = load_config(files, ["prompt=a red chair", *overrides])
    session = prepare(config)
    guard = Guard(config.guard, print)
    # Fill the exact prior's cache of renders, which a run fills once: it is start-up, not step.
    while session.step < config.steps * 0.5:
        advance(session, guard)
    watch = Stopwatch()
    instrument(session, watch)
    began = time.perf_counter()
    for _ in range(STEPS):
        advance(session, guard)
    total = time.perf_counter() - began
    table = Table(title=f"{STEPS} steps, {len(session.params['means'])} splats, {torch.get_num_threads()} threads")
    for column in ("part", "ms a step", "share"):
        table.add_column(column, justify="left" if column == "part" else "right")
    parts = dict(watch.seconds) | {"everything else": total - sum(watch.seconds.values())}
    for name, seconds in parts.items():
        table.add_row(name, f"{1000 * seconds / STEPS:.1f}", f"{100 * seconds / total:.0f} %")
    table.add_row("step", f"{1000 * total / STEPS:.1f}", "100 %")
    Console().print(table)


if __name__ == "__main__":
    main()
