"""The same suite on backbones of different families: tiny random pipelines, three steps, from the command to the table."""

import json

import pytest
import tiny_pipelines as tiny
from stand_in_scorers import stand_ins

from fsd_gs.experiments.evaluate.command import main
from tests.priors.test_prior_3d import tiny_mvdream

BASE = [
    "steps=3", "render.sizes=[16]", "render.size_at=[0.0]", "splats.count=60", "densify.kind=none", "device=cpu", "prior.dtype=float32",
    "guidance.cfg_scale=2.0", "guidance.weight=one", "outputs.checkpoint_every=0", "cameras.azimuth_grid=0", "cameras.elevation_grid=0",
]  # fmt: skip
FAMILIES = {
    "mvdream": tiny_mvdream,
    "sd3": lambda folder: tiny.save(tiny.stable_diffusion_3(t5=False), folder),
}


@pytest.mark.long
@pytest.mark.parametrize("family", ["mvdream", pytest.param("sd3", marks=pytest.mark.slow)])
def test_one_suite_runs_on_every_family(family, tmp_path, capsys):
    folder = FAMILIES[family](tmp_path / family)
    values = {"prompts": ["an owl"], "seeds": [0, 1], "methods": ["sds", "fsd"], "baselines": ["sds"], "views": 4, "base": BASE}
    (tmp_path / "tiny.yaml").write_text(json.dumps(values | {"images": {"per_seed": 2, "steps": 2, "cfg_scale": 2.0}}))
    arguments = ["--suite", str(tmp_path / "tiny.yaml"), "--prior", str(folder), "--output", str(tmp_path / "out"), "--no-plots"]
    code = main(arguments, make_scorers=lambda settings, device: stand_ins(judge=False))
    (path,) = (tmp_path / "out").glob("*/results.json")
    results = json.loads(path.read_text())
    assert code == 0, results["failures"]
    methods = {m["method"]: m for m in results["methods"]}
    assert list(methods) == ["DDIM images", "sds", "fsd"]
    assert all(m["errors"] == 0 for m in methods.values())
    assert methods["fsd"]["cross_fid"]["mean"] > 0
    assert methods["fsd"]["modes"]["mean"] is None, "there is no judge"
    assert methods["DDIM images"]["inception_score"]["mean"] >= 1
    assert {len(a["weights"]) for a in results["assets"]} == {16}, "a retrained prior would make other assets"
