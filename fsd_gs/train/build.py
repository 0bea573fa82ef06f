"""From settings to the parts of a run: the one place that knows both ``Config`` and the families."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from fsd_gs.config import Config
from fsd_gs.core.cameras import OrbitSampler
from fsd_gs.core.rng import make_generator, stream_seed
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.export.formats import LOADERS, holds_splats, load_splats
from fsd_gs.noise import NoiseFunction, WorldMapNoise, make_noise, mix_world_maps
from fsd_gs.priors.base import Prior
from fsd_gs.render import make_rasterizer
from fsd_gs.splats.densify import Densifier
from fsd_gs.splats.initialize import MESH_SUFFIXES, ball, from_mesh_file, from_splats
from fsd_gs.splats.optimizers import build_optimizers
from fsd_gs.splats.parameters import from_gaussians
from fsd_gs.train.guard import Guard
from fsd_gs.train.session import Generators, Parts, Session
from fsd_gs.train.views import BackgroundSampler, ViewSampler


def build_session(config: Config, prior: Prior, device: torch.device) -> Session:
    """A session at step 0, all of its randomness derived from ``config.seed``."""
    if config.cameras.views % prior.views:
        raise ConfigError(
            f"cameras.views: expected a multiple of {prior.views}, because this prior denoises {prior.views} views jointly, "
            f"got {config.cameras.views}"
        )
    gaussians = initial_splats(config).to(device)
    params = from_gaussians(gaussians)
    densifier = Densifier(config.densify, config.steps, stream_seed(config.seed, "densify"))
    optimizers = build_optimizers(params, config.rates)
    densifier.check(params, optimizers)
    return Session(
        params=params,
        optimizers=optimizers,
        densifier=densifier,
        parts=build_parts(config, prior, device),
        rates=config.rates,
        generators=Generators(make_generator(config.seed, "views"), make_generator(config.seed, "guidance")),
        steps=config.steps,
    )


def build_parts(config: Config, prior: Prior, device: torch.device) -> Parts:
    noise = build_noise(config, prior, device)
    return Parts(
        prior=prior,
        rasterize=make_rasterizer(config.render.backend, device, config.render),
        sample_views=build_views(config),
        sample_background=BackgroundSampler(config.render.background),
        noise=noise,
        schedule=config.schedule.build(config.steps, stream_seed(config.seed, "time")),
        guidance=config.guidance.build(),
        regularize=config.regularize,
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        with_depth=noise.needs_depth,
    )


def build_views(config: Config) -> ViewSampler:
    starts = [math.ceil(fraction * config.steps) for fraction in config.render.size_at]
    return ViewSampler(OrbitSampler(**vars(config.cameras)), tuple(config.render.sizes), tuple(starts))


def build_noise(config: Config, prior: Prior, device: torch.device) -> NoiseFunction:
    """The noise of the run's seed, or of a relative of ``noise.like``."""
    make = partial(
        make_noise,
        config.noise,
        prior.latent_shape,
        fov_y_deg=sum(config.cameras.fov_y_deg) / 2,
        distance=sum(config.cameras.distance) / 2,
        radius=config.splats.radius,
    )
    noise = make(stream_seed(config.seed, "noise"))
    if config.noise.like is not None:
        parent = make(stream_seed(config.noise.like, "noise"))
        assert isinstance(parent, WorldMapNoise)
        assert isinstance(noise, WorldMapNoise)
        noise = mix_world_maps(parent, noise, config.noise.like_mix)
    return noise.to(device)


def initial_splats(config: Config) -> Gaussians:
    """What ``splats.init`` names: a ball, or the surface of a mesh file, or splats of any format, turned as the format stands."""
    settings, generator = config.splats, make_generator(config.seed, "splats")
    if settings.init == "ball":
        return ball(settings.count, settings.radius, generator, opacity=settings.opacity, sh_degree=settings.sh_degree)
    path = Path(settings.init)
    if holds_splats(path):
        return from_splats(load_splats(path), sh_degree=settings.sh_degree, max_count=config.densify.cap)
    if path.suffix.lower() not in MESH_SUFFIXES:
        known = ", ".join(dict.fromkeys([*LOADERS, *MESH_SUFFIXES]))
        raise InputError(f"splats.init: expected ball, a file of splats or a mesh ({known}), got '{settings.init}'")
    return from_mesh_file(path, settings.count, generator, radius=settings.radius, opacity=settings.opacity, sh_degree=settings.sh_degree)


def build_guard(config: Config, say: Callable[[str], None]) -> Guard:
    return Guard(config.guard.snapshot_every, config.guard.max_rollbacks, config.guard.rate_factor, say)
