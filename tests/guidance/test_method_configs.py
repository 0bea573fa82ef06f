"""configs/methods: each file is a working method and departs from the default only where the method does."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny_pipelines as tiny
import torch
from guidance_priors import GaussianFlowPrior

from fsd_gs import priors
from fsd_gs.config import Config, describe_settings, load_config
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.device import resolve_device
from fsd_gs.errors import ConfigError
from fsd_gs.guidance import GUIDANCES, SCHEDULES
from fsd_gs.guidance.time_schedules import RandomAnnealed, RandomUniform
from fsd_gs.noise import ConstantNoise, GaussianNoise, SurfaceNoise, WorldMapNoise
from fsd_gs.train.api import prepare, run
from fsd_gs.train.backbones import load_prior

METHODS = {
    # name: (noise, falling time, guidance)
    "sds": (GaussianNoise, False, "score"),
    "sds-annealed": (GaussianNoise, True, "score"),
    "constant": (ConstantNoise, True, "score"),
    "fsd": (WorldMapNoise, True, "score"),
    "cfd": (SurfaceNoise, True, "score"),
    "ism": (GaussianNoise, None, "ism"),  # random below a bound that falls
    "sdi": (GaussianNoise, True, "sdi"),
    "dsd": (WorldMapNoise, True, "dsd"),
    "nfsd": (GaussianNoise, False, "nfsd"),
    "vsd": (GaussianNoise, None, "vsd"),
    "rfds": (GaussianNoise, False, "rfds"),
    "ucm": (GaussianNoise, False, "ucm"),
    "pfd": (WorldMapNoise, True, "pfd"),
    "pfd-inversion": (GaussianNoise, None, "pfd"),
    "dive3d": (GaussianNoise, None, "dive3d"),
    "gsd": (SurfaceNoise, False, "gsd"),
}
# Methods that the exact prior cannot serve, and a tiny backbone that can.
BACKBONES = {
    "vsd": tiny.stable_diffusion,
    "dive3d": tiny.stable_diffusion,
    "rfds": partial(tiny.stable_diffusion_3, t5=False),
    "ucm": partial(tiny.stable_diffusion_3, t5=False),
}
FOLDER = Path(__file__).resolve().parent.parent.parent / "configs" / "methods"
TINY = [
    "prompt=a chair", "steps=2", "render.sizes=[32]", "render.size_at=[0.0]", "splats.count=100", "densify.kind=none",
    "cameras.azimuth_grid=4", "cameras.elevation_grid=1", "prior.name=exact",
    "guidance.cfg_scale=1.0", "prior.objects=2", "prior.distractors=1", "device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def prior():
    return load_prior(load_config([], TINY), resolve_device("cpu"))


def value(config, key):
    for part in key.split("."):
        config = getattr(config, part)
    return config


def test_every_file_is_listed_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_departs_only_in_noise_schedule_and_guidance(name):
    config = load_config([f"methods/{name}"])
    changed = {key for key, _, _ in describe_settings() if value(config, key) != value(Config(), key)}
    assert {key.partition(".")[0] for key in changed} <= {"noise", "schedule", "guidance"}
    assert bool(changed) == (name != "fsd")  # the default is FSD


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs(name, prior, tmp_path):
    if name in BACKBONES:
        prior = priors.load(tiny.save(BACKBONES[name](), tmp_path / "backbone"))
    fewer = ["guidance.params.steps=2"] if name in ("sdi", "dsd", "ucm", "pfd-inversion") else []
    config = load_config([f"methods/{name}"], [*TINY, *fewer])
    session = prepare(config, prior)
    noise, falls, guidance = METHODS[name]
    assert type(session.parts.noise) is noise
    assert type(session.parts.guidance) is GUIDANCES[guidance]
    assert type(session.parts.schedule) is {True: SCHEDULES[config.schedule.kind], False: RandomUniform, None: RandomAnnealed}[falls]
    if falls:
        assert config.schedule.start >= float(session.parts.schedule(0)) > float(session.parts.schedule(1)) >= config.schedule.end
    before = session.gaussians().means.clone()  # means are stored as they are: no activation copies them
    result = run(config, session)
    assert result.complete
    assert session.step == 2
    assert not before.equal(session.gaussians().means)


def test_gsd_reaches_the_geometry(prior):
    """The loss on the depth moves the splats."""

    def means(consistency):
        config = load_config(["methods/gsd"], [*TINY, f"guidance.params.consistency={consistency}"])
        session = prepare(config, prior)
        assert session.parts.with_depth
        run(config, session)
        return session.gaussians().means

    assert means(0).equal(means(0))
    assert not means(0).equal(means(100))


@pytest.mark.parametrize("name", ["vsd", "dive3d"])
def test_a_method_with_a_lora_says_what_it_needs(name, prior):
    config = load_config([f"methods/{name}"], TINY)
    with pytest.raises(ConfigError, match=f"'{name}' trains a LoRA, which ExactPrior does not offer; use a diffusers backbone"):
        run(config, prepare(config, prior))


# What the presets say, as their authors' code has it: (s in the form ε_neg + s (ε_text − ε_neg), w, parameters, t).
PUBLISHED = {
    "sdi": (7.5 + 1, "lambda", {"inversion_scale": -7.5 + 1, "steps": 10, "eta": 0.3, "shift": True}, (0.98, 0.25)),
    "dsd": (7.5 + 1, "sigma2", {"steps": 10, "interval": 0.1, "t_min": 0.32, "target_scale": 1.0 + 1}, (0.98, 0.32)),
    "ism": (7.5, "lambda", {"delta_t": 0.05, "delta_s": 0.2}, (0.98, 0.02)),
    "rfds": (100.0, "one", {"random_weight": True}, (0.875, 0.058)),
    "ucm": (60.0, "one", {"steps": 3, "inversion_scale": 1.0}, (0.875, 0.058)),
    "vsd": (7.5, "sigma2", {"rank": 4, "rate": 1e-4, "t_min": 0.001, "t_max": 1.0}, (0.98, 0.02)),
    "dive3d": (7.5 + 1, "lambda", {"rank": 4, "rate": 1e-4, "t_min": 0.001, "t_max": 1.0}, (0.98, 0.02)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_the_published_one(name):
    scale, weight, params, (start, end) = PUBLISHED[name]
    config = load_config(["sd15", f"methods/{name}"])  # whatever the backbone says
    guidance = config.guidance.build()
    assert (guidance.cfg_scale, guidance.weight, guidance.cfg_rescale, guidance.cfg_late) == (scale, weight, 0.0, 1.0)
    assert {key: getattr(guidance, key) for key in params} == params
    assert (config.schedule.start, config.schedule.end) == (start, end)


def test_times_of_lucid_dreamer():
    """t ~ U(.02, max), max from .98 to .5 over the first 30 % of the run."""
    schedule = load_config(["methods/ism"]).schedule.build(1000, 0)
    early, late = [schedule(s) for s in range(40)], [schedule(s) for s in range(300, 1000)]
    assert max(early) > 0.8
    assert 0.47 < max(late) <= 0.5
    assert min(late) >= 0.02


@pytest.mark.parametrize("name", ["vsd", "dive3d"])
def test_times_of_prolific_dreamer(name):
    """t ~ U(.02, .98), and U(.02, .5) after 5000 of 25000 steps, at once."""
    schedule = load_config([f"methods/{name}"]).schedule.build(1001, 0)
    assert max(schedule(s) for s in range(150, 200)) > 0.8
    late = [schedule(s) for s in range(200, 1001)]
    assert 0.48 < max(late) <= 0.5
    assert min(late) >= 0.02


def test_rfds_weight_is_a_sigmoid_of_a_normal_number():
    guidance = load_config(["methods/rfds"]).guidance.build()
    plain = replace(guidance, random_weight=False)
    prior = GaussianFlowPrior()
    x, noise = torch.randn(2, 1, *prior.latent_shape, generator=torch.Generator().manual_seed(0)).double()
    text, cameras = prior.encode_text("red", "", None), orbit_cameras([0.0], width=8)
    grad = guidance(prior, x, noise, 0.5, text, cameras, generator=torch.Generator().manual_seed(5))
    z = torch.randn((), generator=torch.Generator().manual_seed(5))
    assert torch.allclose(grad, z.sigmoid() * plain(prior, x, noise, 0.5, text, cameras))
