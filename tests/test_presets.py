"""The presets of the real backbones: readable, consistent with what each backbone can do, and with variants on top."""

from pathlib import Path

import pytest

from fsd_gs.config import load_config
from fsd_gs.priors.backbones import published

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
    assert config.cameras.views % (4 if name == "mvdream" else 1) == 0
    assert config.prior.view_prompts == (name != "mvdream")
    assert config.guidance.cfg_scale <= 50
    assert config.guidance.cfg_rescale == 0, "the guidance's own rescale costs a third pass; prior.cfg_rescale is free"
    assert config.prior.cfg_rescale == (0.5 if name in ("sd15", "sd21", "sdxl") else 0.0)
    if variant is not None:
        plain = load_config([str(files[0])], ["prompt=x"])
        assert (config.steps < plain.steps) == (variant == "variants/fast")
        assert config.guidance == plain.guidance
