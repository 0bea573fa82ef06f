"""Names that programs outside import, whatever the rooms inside are called."""

import importlib

import pytest

NAMES = """
fsd_gs generate load_splats save_splats orbit_cameras evaluation_orbit Gaussians Cameras Render Result FsdGsError
fsd_gs.types Gaussians Cameras Render TextCondition
fsd_gs.cameras orbit_cameras evaluation_orbit
fsd_gs.render.cpu rasterization
fsd_gs.noise WorldMapNoise
fsd_gs.image2d generate
fsd_gs.priors load Prior LoadOptions
fsd_gs.priors.nano.vocabulary parse_prompt
fsd_gs.metrics evaluate
fsd_gs.metrics.judge Judge
fsd_gs.pretrain.sources CatalogueSource
fsd_gs.pretrain.asset_mesh load_asset
fsd_gs.train.runs slug
fsd_gs.train.backbones load_prior
fsd_gs.train.api prepare run
fsd_gs.export.formats export ExportOptions load_splats
fsd_gs.cli main default_rasterizer
"""


@pytest.mark.parametrize("line", NAMES.strip().splitlines(), ids=lambda line: line.split()[0])
def test_public_names(line):
    module, *names = line.split()
    found = importlib.import_module(module)
    assert [name for name in names if not callable(getattr(found, name, None))] == []


def test_aliases_are_the_same_objects():
    import fsd_gs.cameras
    import fsd_gs.core.cameras
    import fsd_gs.core.types
    import fsd_gs.types

    assert fsd_gs.types.Gaussians is fsd_gs.core.types.Gaussians is fsd_gs.Gaussians
    assert fsd_gs.cameras.orbit_cameras is fsd_gs.core.cameras.orbit_cameras is fsd_gs.orbit_cameras
