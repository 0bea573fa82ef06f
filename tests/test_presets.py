"""The presets of the real backbones: readable, consistent with what each backbone can do, and with variants on top."""

import math
from pathlib import Path

import pytest

from fsd_gs.config import load_config
from fsd_gs.priors.backbones import published
from fsd_gs.priors.backbones.mvdream import VIEWS

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PRESETS = ("sd15", "sd21", "sdxl", "mvdream", "turbo", "lcm", "sd3", "flux")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("variant", [None, "variants/fast", "variants/quality"])
def test_preset_is_read_and_fits_its_backbone(name, variant):
    files = [CONFIGS / f"{name}.yaml"] + ([CONFIGS / f"{variant}.yaml"] if variant else [])
    config = load_config([str(file) for file in files], ["prompt=a red chair"])
    assert config.prior.name == name
    assert name in published()
    assert config.cameras.azimuth_grid == 0, "only the exact prior profits from a grid of cameras"
    assert config.cameras.views % (VIEWS if name == "mvdream" else 1) == 0, "MVDream denoises its views jointly"
    assert config.prior.view_prompts == (name != "mvdream"), "a prior that sees the cameras needs no words for them"
    distilled = name in ("turbo", "lcm", "flux")
    assert (config.guidance.cfg_scale <= 8) >= distilled, "a large scale burns the colours of a guidance-distilled network"
    low, high = config.cameras.fov_y_deg
    covered = 2 * config.cameras.distance[0] * math.tan(math.radians(low / 2)) / 2
    assert config.splats.radius < covered, "the ball of the start fits the nearest and narrowest camera"
    schedule = config.schedule.build(config.steps, 0)
    times = [float(schedule(step)) for step in range(0, config.steps, max(1, config.steps // 50))]
    assert 0.9 <= times[0] <= 1.0
    assert times[-1] < 0.5, "the details come last"
    assert low <= high
    guidance = config.guidance.build()
    assert guidance.scale(times[-1]) == guidance.cfg_scale, "what is left of the scale at late times was measured with the embedded prior"
    assert config.guidance.cfg_rescale == 0, "the guidance's own rescale costs a third pass; prior.cfg_rescale is free"
    assert config.prior.cfg_rescale == (0.5 if name in ("sd15", "sd21", "sdxl") else 0.0)
    if variant is not None:
        plain = load_config([str(files[0])], ["prompt=x"])
        assert (config.steps < plain.steps) == (variant == "variants/fast")
        assert config.guidance == plain.guidance
