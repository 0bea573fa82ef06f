"""What is half there is decided: a milky body becomes solid in the colours that it had, the ghost of an arm goes."""

from dataclasses import replace

import pytest
import torch
from export_scenes import egg

from fsd_gs.config import Config, load_config
from fsd_gs.errors import ConfigError
from fsd_gs.metrics.verdict import look, signs_of
from fsd_gs.render import make_rasterizer
from fsd_gs.splats.settings import LearningRates, SolidifySettings
from fsd_gs.train import solidify as module
from fsd_gs.train.asset import prepare, run
from fsd_gs.train.result import orbit_of
from fsd_gs.train.solidify import contrast, solidify

CPU = make_rasterizer("cpu")
FEW = SolidifySettings(views=8, size=64)
BODY = 1500
ORBIT = orbit_of(Config())


def milky():
    """A milky egg (alpha about 0.7) with the ghost of an arm (alpha up to 0.35), in colours of their own."""
    body, arm = egg(BODY, seed=1), egg(BODY, seed=2)
    body = replace(body, opacities=torch.full((BODY,), 0.07))
    arm = replace(arm, means=0.4 * arm.means + torch.tensor([0.0, 0.7, 0.0]), scales=0.4 * arm.scales, opacities=torch.full((BODY,), 0.01))
    return replace(body, **{name: torch.cat([getattr(body, name), getattr(arm, name)]) for name in vars(body)})


def signs(splats):
    return signs_of(*look(CPU, splats))


def test_the_curve_decides():
    alpha = torch.tensor([0.0, 0.3, 0.45, 0.6, 1.0])
    low, below, middle, above, high = contrast(alpha, 0.45, 0.1).tolist()
    assert low < below < 0.01
    assert middle == pytest.approx(0.5)
    assert 0.99 < above < high <= 1


def test_a_milky_body_becomes_solid_and_the_ghost_of_an_arm_goes():
    before = milky()
    state = torch.get_rng_state()
    after = solidify(before, CPU, FEW, 80, ORBIT)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(after) == len(before)
    assert not after.means.requires_grad
    assert signs(before).haze > 0.5
    assert signs(after).haze < 0.5 * signs(before).haze
    arms = [splats.select(torch.arange(len(splats)) >= BODY) for splats in (before, after)]
    seen = [look(CPU, arm)[0].alpha for arm in arms]
    assert seen[0].amax() > 0.15
    assert seen[1].mean() < 0.5 * seen[0].mean()
    views, cameras = look(CPU, after)
    solid = views.alpha[..., 0] > 0.9
    crisp, _ = look(CPU, egg(BODY, seed=1), cameras)
    assert (views.rgb - crisp.rgb)[solid].abs().mean() < 0.1  # the colours that it had


def test_what_is_crisp_stays_as_it_is():
    before = egg(2000)
    after = solidify(before, CPU, FEW, 20, ORBIT)
    assert signs(after).haze <= signs(before).haze + 0.02
    assert (after.means - before.means).norm(dim=1).max() < 0.05


def test_the_same_again_is_the_same_to_the_bit():
    first, again = (solidify(milky(), CPU, FEW, 3, ORBIT) for _ in range(2))
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in vars(first))


def test_nothing_to_do_and_nothing_there():
    splats = egg(50)
    assert solidify(splats, CPU, FEW, 0, ORBIT) is splats
    nothing = splats.select(torch.zeros(50, dtype=torch.bool))
    assert solidify(nothing, CPU, FEW, 5, ORBIT) is nothing


def test_what_does_not_help_is_not_taken(monkeypatch):
    wild = LearningRates(means=30.0, means_end=30.0, scales=0.01, quats=0.01, opacities=0.05, sh0=0.01, shN=0.0)
    monkeypatch.setattr(module, "RATES", wild)
    splats = milky()
    assert solidify(splats, CPU, FEW, 2, ORBIT) is splats
    poisoned = replace(splats, means=torch.where(torch.arange(2 * BODY)[:, None] == 3, torch.nan, splats.means))
    monkeypatch.undo()
    assert solidify(poisoned, CPU, FEW, 2, ORBIT) is poisoned


def test_colour_that_depends_on_the_view_keeps_doing_so():
    before = egg(300, sh_degree=2)
    after = solidify(replace(before, opacities=torch.full((300,), 0.4)), CPU, FEW, 10, ORBIT)
    assert after.sh_degree == 2
    assert torch.equal(after.sh[:, 1:], before.sh[:, 1:])


def test_a_run_ends_with_it_by_its_share_of_the_steps(monkeypatch):
    asked = []
    monkeypatch.setattr("fsd_gs.train.asset.solidify", lambda splats, rasterizer, settings, steps, orbit: asked.append(steps) or splats)
    words = ["prompt=a red chair", "prior.name=exact", "prior.objects=4", "prior.distractors=2", "guidance.cfg_scale=1", "steps=5"]
    words += ["splats.count=40", "render.sizes=[16]"]
    for more in ([], ["solidify.effort=2"], ["solidify.effort=0"]):
        config = load_config([], [*words, *more])
        run(config, prepare(config))
    assert asked == [2, 10, 0]


@pytest.mark.parametrize(
    ("override", "says"), [("level=1", "solidify.level"), ("views=2", "solidify.views"), ("effort=-1", "solidify.effort")]
)
def test_settings_that_cannot_be(override, says):
    with pytest.raises(ConfigError, match=says):
        load_config([], [f"solidify.{override}"])
