"""``generate``: from words to splats in one call, for people who write Python. The command line is a thin layer over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from fsd_gs.config import Config, load_config
from fsd_gs.core.device import resolve_device
from fsd_gs.errors import InputError
from fsd_gs.priors.base import Prior
from fsd_gs.splats.prune import clean
from fsd_gs.train.backbones import load_prior
from fsd_gs.train.build import build_guard, build_session
from fsd_gs.train.checkpoint import load_state
from fsd_gs.train.loop import Observer, StepReport, optimize
from fsd_gs.train.observers import Callback
from fsd_gs.train.result import Result
from fsd_gs.train.session import Session


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
    return run(config, prepare(config, prior), observers)


def prepare(config: Config, prior: Prior | None = None) -> Session:
    """A session at step 0; everything that can be wrong with the settings is found here, before anything is written."""
    if not config.prompt.strip():
        raise InputError('prompt: expected words that say what to make, got nothing; for example prompt="a red chair"')
    device = resolve_device(config.device)
    prior = load_prior(config, device) if prior is None else prior
    session = build_session(config, prior, device)
    cameras = session.parts.sample_views(0, torch.Generator().manual_seed(0)).to(device)
    prior.encode_text(config.prompt, config.negative_prompt, cameras)  # a prompt that the prior does not understand fails now
    return session


def run(config: Config, session: Session, observers: Sequence[Observer] = (), checkpoint: Path | None = None) -> Result:
    """Optimise one asset, from the start or from ``checkpoint``."""
    if checkpoint is not None:
        session.load_state_dict(load_state(checkpoint))
    complete = optimize(session, observers, partial(build_guard, config))
    splats = session.gaussians()
    if complete and config.outputs.clean:
        splats, _ = clean(splats)
    return Result(splats, config, session.parts.rasterize, complete)
