"""The priors that the settings name, one in memory at a time."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import asdict

import torch

from fsd_gs.config import Config
from fsd_gs.core.device import resolve_device
from fsd_gs.priors import LoadOptions, Prior, RunShape, load

PriorSource = Callable[[Config], Prior]
"""Settings → the prior that they name. Runs ask it again for every stage, and keep a prior no longer than its stage."""


def load_prior(config: Config, device: torch.device) -> Prior:
    """The prior of ``config.prior``, made to measure for the run where it has no size of its own."""
    settings = config.prior
    run = RunShape(config.cameras.views, max(config.render.sizes))
    return load(settings.name, device=device, dtype=settings.dtype, options=LoadOptions.of(settings), run=run)


class PriorCache:
    """The last prior that was asked for: runs and stages come ordered so that neighbours can share it.

    Args:
        load: what loads one.

    Attributes:
        key: what the last one was loaded for.
        last: it; None before the first.
    """

    def __init__(self, load: Callable[[Config, torch.device], Prior] = load_prior) -> None:
        self._load = load
        self.key = ""
        self.last: Prior | None = None

    def prior(self, config: Config) -> Prior:
        """The prior that ``config`` names."""
        key = prior_key(config)
        if self.last is None or key != self.key:
            self.last = None  # before loading: two backbones may not fit side by side
            gc.collect()
            device = resolve_device(config.device)
            if device.type == "cuda":
                torch.cuda.empty_cache()
            self.last, self.key = self._load(config, device), key
        return self.last


def prior_key(config: Config) -> str:
    """What decides a prior: its settings, the device, and the run's shape for one that has none of its own."""
    shape = [config.cameras.views, max(config.render.sizes)] if config.prior.name == "exact" else []
    return json.dumps([asdict(config.prior), shape, config.device])


def prior_source(config: Config, prior: Prior | PriorSource | None, device: torch.device) -> PriorSource:
    """Where the stages of ``config`` get their priors from.

    Args:
        config: of the run.
        prior: what stands for ``config.prior``: an object, or a source that knows every stage's. None: they are loaded as named.
        device: of what is loaded.
    """
    cache = PriorCache(lambda settings, _: load_prior(settings, device))
    if prior is None:
        return cache.prior
    if hasattr(prior, "encode_text"):
        own: Prior = prior  # type: ignore[assignment]
        return lambda stage: own if stage.prior == config.prior else cache.prior(stage)
    return prior  # type: ignore[return-value]
