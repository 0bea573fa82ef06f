"""Which prior the settings name."""

from __future__ import annotations

import torch

from fsd_gs.config import Config
from fsd_gs.priors.base import Prior


def load_prior(config: Config, device: torch.device) -> Prior:
    """The prior of ``config.prior``: the embedded one, the exact one over the catalogue, or another diffusers backbone."""
    if config.prior.name == "exact":
        return exact_prior(config, device)
    from fsd_gs.priors import LoadOptions, load
    from fsd_gs.priors.loading import EMBEDDED
    from fsd_gs.priors.prompts import PerpNeg, ViewPrompts

    settings = config.prior
    options = LoadOptions(
        view_prompts=ViewPrompts() if settings.view_prompts else None,
        perp_neg=PerpNeg() if settings.perp_neg else None,
        cfg_rescale=settings.cfg_rescale,
        lora=settings.lora,
        lora_scale=settings.lora_scale,
        compile=settings.compile,
        vae_checkpointing=settings.name != EMBEDDED,  # too small to save memory on
        tiny_vae=settings.tiny_vae,
        image_size=settings.image_size,
        config=settings.config,
        offline=settings.offline,
    )
    return load(settings.name, device=device, dtype=settings.dtype, options=options)


def exact_prior(config: Config, device: torch.device) -> Prior:
    """The ideal denoiser over the procedural catalogue, at the final resolution of the run."""
    from fsd_gs.priors.exact import ExactPrior
    from fsd_gs.priors.finite_set import CatalogueObjects

    settings = config.prior
    objects = CatalogueObjects(settings.objects, settings.distractors, settings.catalogue_seed)
    return ExactPrior(objects, image_size=max(config.render.sizes), views=config.cameras.views, device=device)
