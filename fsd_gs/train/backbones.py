"""The prior that the settings name."""

from __future__ import annotations

import torch

from fsd_gs.config import Config
from fsd_gs.priors import LoadOptions, Prior, RunShape, load
from fsd_gs.priors.prompts import PerpNeg, ViewPrompts


def load_prior(config: Config, device: torch.device) -> Prior:
    """The prior of ``config.prior``, made to measure for the run where it has no size of its own."""
    settings = config.prior
    options = LoadOptions(
        view_prompts=ViewPrompts() if settings.view_prompts else None,
        perp_neg=PerpNeg() if settings.perp_neg else None,
        cfg_rescale=settings.cfg_rescale,
        lora=settings.lora,
        lora_scale=settings.lora_scale,
        compile=settings.compile,
        tiny_vae=settings.tiny_vae,
        image_size=settings.image_size,
        config=settings.config,
        offline=settings.offline,
        objects=settings.objects,
        distractors=settings.distractors,
        catalogue_seed=settings.catalogue_seed,
    )
    run = RunShape(config.cameras.views, max(config.render.sizes))
    return load(settings.name, device=device, dtype=settings.dtype, options=options, run=run)
