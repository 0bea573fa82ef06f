"""From settings to the parts of a run: the one place that knows both ``Config`` and the families."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch

from fsd_gs.config import Config
from fsd_gs.core.cameras import OrbitSampler
from fsd_gs.core.rng import make_generator, stream_seed
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.export.ply import load_ply
from fsd_gs.guidance import SCHEDULES, Guidance, make_guidance
from fsd_gs.guidance.time_schedules import Piecewise, RandomUniform, TimeSchedule
from fsd_gs.noise import ConstantNoise, GaussianNoise, NoiseFunction, SurfaceNoise, WorldMapNoise, mix_world_maps
from fsd_gs.priors.base import Prior
from fsd_gs.render import RasterizerSettings, make_rasterizer
from fsd_gs.splats.densify import Densifier, DensifySettings
from fsd_gs.splats.initialize import MESH_SUFFIXES, ball, from_mesh_file, from_splats
from fsd_gs.splats.optimizers import LearningRates, build_optimizers
from fsd_gs.splats.parameters import from_gaussians
from fsd_gs.splats.regularizers import Regularizers
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
    rates = LearningRates(**vars(config.rates))
    densifier = build_densifier(config)
    optimizers = build_optimizers(params, rates)
    densifier.check(params, optimizers)
    return Session(
        params=params,
        optimizers=optimizers,
        densifier=densifier,
        parts=build_parts(config, prior, device),
        rates=rates,
        generators=Generators(make_generator(config.seed, "views"), make_generator(config.seed, "guidance")),
        steps=config.steps,
    )


def build_parts(config: Config, prior: Prior, device: torch.device) -> Parts:
    settings = RasterizerSettings(eps2d=config.render.eps2d, antialiased=config.render.antialiased)
    return Parts(
        prior=prior,
        rasterize=make_rasterizer(config.render.backend, device, settings),
        sample_views=build_views(config),
        sample_background=BackgroundSampler(config.render.background),
        noise=build_noise(config, prior, device),
        schedule=build_schedule(config),
        guidance=build_guidance(config),
        regularize=build_regularizers(config),
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        with_depth=config.noise.kind == "surface",
    )


def build_guidance(config: Config) -> Guidance:
    settings = config.guidance
    weight = None if settings.weight == "auto" else settings.weight  # None: the weight the method was published with
    return make_guidance(settings.method, settings.cfg_scale, weight, cfg_rescale=settings.cfg_rescale)


def build_views(config: Config) -> ViewSampler:
    cameras = config.cameras
    orbit = OrbitSampler(
        views=cameras.views,
        elevation_deg=_pair(cameras.elevation_deg),
        fov_y_deg=_pair(cameras.fov_y_deg),
        distance=_pair(cameras.distance),
        azimuth_grid=cameras.azimuth_grid,
        elevation_grid=cameras.elevation_grid,
    )
    starts = [math.ceil(fraction * config.steps) for fraction in config.render.size_at]
    return ViewSampler(orbit, tuple(config.render.sizes), tuple(starts))


def build_noise(config: Config, prior: Prior, device: torch.device) -> NoiseFunction:
    noise = _fixed_noise(config, prior, stream_seed(config.seed, "noise"))
    if config.noise.like is not None:
        if not isinstance(noise, WorldMapNoise):
            raise ConfigError(f"noise.like: 'more like this one' mixes world maps, got noise.kind={config.noise.kind}")
        parent = _fixed_noise(config, prior, stream_seed(config.noise.like, "noise"))
        assert isinstance(parent, WorldMapNoise)
        noise = mix_world_maps(parent, noise, config.noise.like_mix)
    return noise.to(device)


def _fixed_noise(config: Config, prior: Prior, seed: int) -> NoiseFunction:
    settings, shape = config.noise, prior.latent_shape
    background = "fixed" if settings.background == "fixed" else "fresh"
    if settings.kind == "gaussian":
        return GaussianNoise(shape, seed=seed)
    if settings.kind == "constant":
        return ConstantNoise(shape, beta=settings.beta, gamma=settings.gamma, seed=seed)
    if settings.kind == "surface":
        return SurfaceNoise(shape, beta=settings.beta, gamma=settings.gamma, background=background, seed=seed)
    theta = "auto" if isinstance(settings.theta, str) else float(settings.theta)
    return WorldMapNoise(
        shape,
        theta,
        settings.beta,
        background,
        seed,
        settings.gamma,
        subcell="fourier" if settings.subcell else "off",
        fov_y_deg=sum(config.cameras.fov_y_deg) / 2,
        distance=sum(config.cameras.distance) / 2,
        radius=config.splats.radius,
    )


def build_schedule(config: Config) -> TimeSchedule:
    settings = config.schedule
    if settings.kind == "random":
        return RandomUniform(settings.end, settings.start, seed=stream_seed(config.seed, "time"))
    if settings.kind == "piecewise":
        if len(settings.progress) != len(settings.values):
            raise ConfigError(
                f"schedule.progress, schedule.values: expected equal lengths, got {len(settings.progress)} and {len(settings.values)}"
            )
        return Piecewise(tuple(zip(settings.progress, settings.values, strict=True)), steps=config.steps)
    return SCHEDULES[settings.kind](settings.start, settings.end, config.steps)


def build_densifier(config: Config) -> Densifier:
    settings = vars(config.densify).copy()
    settings["cap_max"] = settings.pop("cap")
    return Densifier(DensifySettings(**settings), config.steps, stream_seed(config.seed, "densify"))


def build_regularizers(config: Config) -> Regularizers:
    settings = config.regularize
    return Regularizers(
        opacity_binarity=settings.opacity, alpha_entropy=settings.alpha, scale_mean=settings.scale, anisotropy=settings.anisotropy
    )


def initial_splats(config: Config) -> Gaussians:
    """What ``splats.init`` names: a ball, or the surface of a mesh file, or splats from a .ply."""
    settings, generator = config.splats, make_generator(config.seed, "splats")
    if settings.init == "ball":
        return ball(settings.count, settings.radius, generator, opacity=settings.opacity, sh_degree=settings.sh_degree)
    path = Path(settings.init)
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise InputError(f"splats.init: expected ball, a .ply of splats or a mesh ({', '.join(MESH_SUFFIXES)}), got '{settings.init}'")
    if path.suffix.lower() == ".ply" and _is_splat_ply(path):
        return from_splats(load_ply(path), sh_degree=settings.sh_degree, max_count=config.densify.cap)
    return from_mesh_file(path, settings.count, generator, radius=settings.radius, opacity=settings.opacity, sh_degree=settings.sh_degree)


def _is_splat_ply(path: Path) -> bool:
    """Whether the header lists splat columns; files that cannot be opened are left to the loader's own message."""
    try:
        with path.open("rb") as file:
            return b"f_dc_0" in file.read(4096)
    except OSError:
        return True


def build_guard(config: Config, say: Callable[[str], None]) -> Guard:
    return Guard(config.guard.snapshot_every, config.guard.max_rollbacks, config.guard.rate_factor, say)


def _pair(values: list[float]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
