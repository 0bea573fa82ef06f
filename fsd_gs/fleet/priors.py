"""The prior that a worker holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import torch

from fsd_gs.config import Config
from fsd_gs.core.device import resolve_device
from fsd_gs.priors.base import Prior
from fsd_gs.train.backbones import load_prior


class PriorCache:
    """The prior of the last unit: units come ordered so that neighbours can share it. key: what it was loaded for."""

    def __init__(self, load: Callable[[Config, torch.device], Prior] = load_prior) -> None:
        self._load = load
        self.key = ""
        self.last: Prior | None = None

    def prior(self, config: Config) -> Prior:
        """The prior that ``config`` names."""
        key = json.dumps([asdict(config.prior), config.cameras.views, max(config.render.sizes), config.device])
        if self.last is None or key != self.key:
            self.last = None  # before loading: two backbones may not fit side by side
            self.last, self.key = self._load(config, resolve_device(config.device)), key
        return self.last
