"""configs/methods: each file is a working method and departs from the default only where the method does."""

from pathlib import Path

import pytest

from fsd_gs.config import Config, describe_settings, load_config
from fsd_gs.core.device import resolve_device
from fsd_gs.errors import ConfigError
from fsd_gs.guidance import GUIDANCES
from fsd_gs.guidance.time_schedules import RandomUniform
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
    "ism": (GaussianNoise, False, "ism"),
    "sdi": (GaussianNoise, True, "sdi"),
    "dsd": (WorldMapNoise, True, "dsd"),
    "nfsd": (GaussianNoise, False, "nfsd"),
    "vsd": (GaussianNoise, False, "vsd"),
}
FOLDER = Path(__file__).resolve().parent.parent / "configs" / "methods"
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


@pytest.mark.parametrize("name", [name for name in METHODS if name != "vsd"])
def test_a_method_runs(name, prior):
    config = load_config([f"methods/{name}"], TINY)
    session = prepare(config, prior)
    noise, falls, guidance = METHODS[name]
    assert type(session.parts.noise) is noise
    assert type(session.parts.guidance) is GUIDANCES[guidance]
    assert isinstance(session.parts.schedule, RandomUniform) != falls
    if falls:
        assert config.schedule.start >= float(session.parts.schedule(0)) > float(session.parts.schedule(1)) >= config.schedule.end
    before = session.gaussians().means.clone()  # means are stored as they are: no activation copies them
    result = run(config, session)
    assert result.complete
    assert session.step == 2
    assert not before.equal(session.gaussians().means)


def test_vsd_says_what_it_needs(prior):
    config = load_config(["methods/vsd"], TINY)
    with pytest.raises(ConfigError, match="'vsd' trains a LoRA, which ExactPrior does not offer; use a diffusers backbone"):
        run(config, prepare(config, prior))
