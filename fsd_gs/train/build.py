"""From settings to the parts of a run: the one place that knows both ``Config`` and the families."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fsd_gs.config import Config
from fsd_gs.core.cameras import OrbitSampler, orbit_cameras
from fsd_gs.core.rng import make_generator, stream_seed
from fsd_gs.core.stages import Part
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.export.formats import LOADERS, holds_splats, load_splats
from fsd_gs.noise import NoiseFunction, WorldMapNoise, make_noise, mix_world_maps
from fsd_gs.priors.base import Prior, SplatNativePrior
from fsd_gs.priors.splat.sampling import sample_splats
from fsd_gs.render import make_rasterizer
from fsd_gs.splats.colour_floor import ColourFloor
from fsd_gs.splats.densify import Densifier
from fsd_gs.splats.initialize import MESH_SUFFIXES, ball, from_mesh_file, from_splats
from fsd_gs.splats.optimizers import build_optimizers
from fsd_gs.splats.parameters import from_gaussians
from fsd_gs.splats.pull import Hold, Pull, kept_splats
from fsd_gs.train.backbones import PriorSource, prior_source
from fsd_gs.train.control import build_control
from fsd_gs.train.session import Generators, Parts, Session, Stage
from fsd_gs.train.views import BackgroundSampler, ViewSampler


def build_session(config: Config, prior: Prior | PriorSource, device: torch.device) -> Session:
    """A session at step 0 in its first stage, all of its randomness derived from ``config.seed``."""
    parts, priors = config.split(), prior_source(config, prior, device)
    gaussians = _start(parts[0].settings, priors, device).to(device)
    params = from_gaussians(gaussians)
    original = {name: value.detach().clone() for name, value in params.items()} if config.pull.active else None
    stage = build_stage(parts, 0, priors, device, original)
    optimizers = build_optimizers(params, stage.rates)
    stage.densifier.check(params, optimizers)
    return Session(
        params=params,
        optimizers=optimizers,
        stage=stage,
        generators=Generators(make_generator(config.seed, "views"), make_generator(config.seed, "guidance")),
        steps=config.steps,
        borders=tuple(part.first for part in parts),
        build_stage=partial(build_stage, parts, priors=priors, device=device, original=original),
    )


def build_stage(
    parts: Sequence[Part[Config]], number: int, priors: PriorSource, device: torch.device, original: Mapping[str, Tensor] | None = None
) -> Stage:
    """A stage of the run at its first step, its prior loaded. original: what an edit is pulled to."""
    part = parts[number]
    config, stream = part.settings, f"densify/{number}" if number else "densify"
    prior = priors(config)
    if config.cameras.views % prior.views:
        raise ConfigError(
            f"cameras.views: expected a multiple of {prior.views}, because this prior denoises {prior.views} views jointly, "
            f"got {config.cameras.views}"
        )
    return Stage(
        parts=build_parts(config, prior, device, original),
        densifier=Densifier(config.densify, max(config.steps, 1), stream_seed(config.seed, stream)),
        rates=config.rates,
        steps=config.steps,
        number=number,
        first=part.first,
        keeps_noise=number > 0 and same_noise(parts[number - 1].settings, config),
    )


def same_noise(before: Config, now: Config) -> bool:
    """Whether two stages see the same noise up to the size of the latents: the map is of one kind and covers the same angles."""
    kind, theta = now.noise.kind, now.noise.theta
    if before.noise.kind != kind:
        return False
    if kind != "world_map":
        return True
    frame = (now.cameras.fov_y_deg, now.cameras.distance) if theta == "auto" else ()
    return (before.noise.theta, (before.cameras.fov_y_deg, before.cameras.distance) if theta == "auto" else ()) == (theta, frame)


def build_parts(config: Config, prior: Prior, device: torch.device, original: Mapping[str, Tensor] | None = None) -> Parts:
    """Everything a step calls that is not optimised, from the settings. original: what an edit is pulled to."""
    pull = config.pull
    noise, guidance = build_noise(config, prior, device), config.guidance.build()
    kept = None if original is None else kept_splats(pull, original["means"])
    control = build_control(prior, config.prior.control_mesh, config.splats.radius)
    return Parts(
        prior=prior,
        rasterize=make_rasterizer(config.render.backend, device, config.render),
        sample_views=build_views(config),
        sample_background=BackgroundSampler(config.render.background),
        noise=noise,
        schedule=config.schedule.build(max(config.steps, 1), stream_seed(config.seed, "time")),
        guidance=guidance,
        regularize=config.regularize,
        hold=Hold(kept),
        pull=Pull(original, pull.shape, pull.colour),
        lift=ColourFloor(config.regularize.colour_floor, kept),
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        control=control,
        with_depth=noise.needs_depth or guidance.needs_depth or control.needs_depth,
    )


def build_views(config: Config) -> ViewSampler:
    """The sampler of a run's cameras, with the sizes of its renders."""
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


def _start(config: Config, priors: PriorSource, device: torch.device) -> Gaussians:
    return direct_splats(config, priors(config), device) if config.splats.init == "direct" else initial_splats(config)


def initial_splats(config: Config) -> Gaussians:
    """What ``splats.init`` names: a ball, or the surface of a mesh file, or splats of any format, turned as the format stands."""
    settings, generator = config.splats, make_generator(config.seed, "splats")
    if settings.init == "ball":
        return ball(settings.count, settings.radius, generator, opacity=settings.opacity, sh_degree=settings.sh_degree)
    path = Path(settings.init)
    if holds_splats(path):
        most, radius = None if config.pull.active else config.densify.cap, settings.radius if settings.fit else None
        return from_splats(load_splats(path), sh_degree=settings.sh_degree, max_count=most, radius=radius)
    if path.suffix.lower() not in MESH_SUFFIXES:
        known = ", ".join(dict.fromkeys([*LOADERS, *MESH_SUFFIXES]))
        raise InputError(f"splats.init: expected ball, direct, a file of splats or a mesh ({known}), got '{settings.init}'")
    return from_mesh_file(path, settings.count, generator, radius=settings.radius, opacity=settings.opacity, sh_degree=settings.sh_degree)


def direct_splats(config: Config, prior: Prior, device: torch.device) -> Gaussians:
    """What a splat-native prior samples from the run's own noise, in front of white: where the path of FSD with that noise should lead."""
    if not isinstance(prior, SplatNativePrior):
        raise ConfigError(
            "splats.init: direct needs a prior that draws splats itself (fsd-gs train-prior --network splat), and this is a "
            f"{type(prior).__name__}; take splats.init=ball"
        )
    orbit, size, views = config.cameras, prior.image_size, prior.views
    elevation, distance, fov_y = (sum(bounds) / 2 for bounds in (orbit.elevation_deg, orbit.distance, orbit.fov_y_deg))
    azimuths = [360.0 / views * k for k in range(views)]
    cameras = orbit_cameras(azimuths, elevation, distance=distance, fov_y_deg=fov_y, width=size, device=device)
    noise = build_noise(config, prior, device)(cameras, torch.ones(views, size, size, 1, device=device), None)
    text = prior.encode_text(config.prompt, config.negative_prompt, cameras, torch.ones(3, device=device))
    return sample_splats(prior, text, cameras, noise, steps=config.splats.direct_steps, cfg_scale=config.guidance.cfg_scale)
