"""``generate``: from words to splats in one call, for people who write Python. The command line is a thin layer over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fsd_gs.config import load_config
from fsd_gs.priors.base import Prior
from fsd_gs.train.asset import prepare, run
from fsd_gs.train.loop import Observer
from fsd_gs.train.observers import Callback
from fsd_gs.train.result import Result
from fsd_gs.train.step import StepReport

__all__ = ["generate", "prepare", "run"]


def generate(
    prompt: str,
    *,
    seed: int = 0,
    overrides: Sequence[str] = (),
    config_files: Sequence[str | Path] = (),
    prior: Prior | None = None,
    callbacks: Sequence[Observer | Callable[[StepReport], object]] = (),
) -> Result:
    """One asset for ``prompt``.

    seed: decides everything; another seed gives another asset. overrides: settings such as "steps=300" (``python train.py --help``
    lists them). config_files: YAML files merged first. prior: any object that satisfies :class:`fsd_gs.priors.Prior`; None loads
    ``prior.name``.
    callbacks: observers, or functions called with a :class:`StepReport` after each step.
    Raises FsdGsError subclasses with one clear line each.
    """
    config = load_config(config_files, [*overrides, f"prompt={prompt}", f"seed={seed}"])
    observers = [c if isinstance(c, Observer) else Callback(c) for c in callbacks]
    result = run(config, prepare(config, prior), observers)
    return result if prior is None else replace(result, own_prior=type(prior).__name__)
