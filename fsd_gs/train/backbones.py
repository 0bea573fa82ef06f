"""The priors that the settings name, one in memory at a time; in sets with stages the small ones side by side."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import asdict

import torch

from fsd_gs.config import Config
from fsd_gs.core.device import resolve_device
from fsd_gs.priors import LoadOptions, Prior, RunShape, load

SMALL = ("nano", "exact")
"""Priors that ship with the package: tens of megabytes, so that those of several stages fit side by side."""

PriorSource = Callable[[Config], Prior]
"""Settings → the prior that they name. Runs ask it again for every stage, and keep a prior no longer than its stage."""


def load_prior(config: Config, device: torch.device) -> Prior:
    """The prior of ``config.prior``, made to measure for the run where it has no size of its own."""
    settings = config.prior
    run = RunShape(config.cameras.views, max(config.render.sizes))
    return load(settings.name, device=device, dtype=settings.dtype, options=LoadOptions.of(settings), run=run)


class PriorCache:
    """The last prior that was asked for: runs and stages come ordered so that neighbours can share it.

    In a set with stages (:meth:`expect`) the small priors of its stages stay side by side, so that each is loaded once for all its assets.

    Args:
        load: what loads one.

    Attributes:
        key: what the last one was loaded for.
    """

    def __init__(self, load: Callable[[Config, torch.device], Prior] = load_prior) -> None:
        self._load = load
        self._held: dict[str, Prior] = {}
        self._beside: frozenset[str] = frozenset()
        self.key = ""

    @property
    def last(self) -> Prior | None:
        """The last one; None before the first."""
        return self._held.get(self.key)

    def expect(self, config: Config) -> None:
        """Let go of what the set of ``config`` does not begin with; from now on hold the small priors of its stages side by side."""
        stages = [part.settings for part in config.split()]
        several = stages if config.count > 1 else []
        self._beside = frozenset(prior_key(stage) for stage in several if stage.prior.name in SMALL)
        self._keep(self._beside | {prior_key(stages[0])})

    def at_hand(self, config: Config) -> Prior | None:
        """The prior that ``config`` names, if it is loaded."""
        return self._held.get(prior_key(config))

    def prior(self, config: Config) -> Prior:
        """The prior that ``config`` names."""
        key = prior_key(config)
        if key not in self._held:
            self._keep(self._beside)  # before loading: two backbones may not fit side by side
            device = resolve_device(config.device)
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            self._held[key] = self._load(config, device)
        self.key = key
        return self._held[key]

    def _keep(self, keys: frozenset[str]) -> None:
        self._held = {key: prior for key, prior in self._held.items() if key in keys}


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
