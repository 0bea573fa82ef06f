"""The prior that the settings name."""

from __future__ import annotations

import torch

from fsd_gs.config import Config
from fsd_gs.priors import LoadOptions, Prior, RunShape, load


def load_prior(config: Config, device: torch.device) -> Prior:
    """The prior of ``config.prior``, made to measure for the run where it has no size of its own."""
    settings = config.prior
    run = RunShape(config.cameras.views, max(config.render.sizes))
    return load(settings.name, device=device, dtype=settings.dtype, options=LoadOptions.of(settings), run=run)
