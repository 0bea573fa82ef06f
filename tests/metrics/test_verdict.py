"""The verdict: each sign on pictures whose answer is known, the regression, and what the shipped numbers say of labelled assets."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from export_scenes import egg

from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.types import Render
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.metrics.geometry.rays import rays_of
from fsd_gs.metrics.verdict import NAMES, Signs, VerdictModel, judge_asset, load_verdict, look, signs_of
from fsd_gs.metrics.verdict.fit import Labelled, area_under_roc, fit, load_labelled, main, scores_left_out
from fsd_gs.metrics.verdict.signs import disagreement, haze_of, recognition, softness_of
from fsd_gs.render import make_rasterizer

CPU = make_rasterizer("cpu")
RADIUS = 0.6


def ball(cameras, inflate=0.0):
    """Exact alpha and depth of a ball of radius 0.6 at the origin: each pixel's ray against the sphere. inflate: one view too near."""
    a, z = [], []
    for v in range(len(cameras)):
        rows, columns = np.mgrid[: cameras.height, : cameras.width]
        pixels = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows)], axis=-1) @ np.linalg.inv(cameras.Ks[v].double().numpy()).T
        centre = cameras.viewmats[v, :3, 3].double().numpy()
        b, c, n = pixels @ centre, centre @ centre - RADIUS**2, (pixels**2).sum(-1)
        under = b**2 - n * c
        hit = under > 0
        a.append(hit.astype(float))
        z.append(np.where(hit, (b - np.sqrt(np.maximum(under, 0))) / n - (inflate if v == 0 else 0.0), 0.0))
    return np.stack(a), np.stack(z)


def test_haze_is_the_half_transparent_share_of_what_is_there():
    a = np.zeros((2, 10, 10))
    a[0, :5], a[0, 5] = 1.0, 0.5
    a[1, :2], a[1, 2:4] = 0.95, 0.05
    assert haze_of(a) == pytest.approx(10 / 80)
    assert haze_of(np.zeros((1, 4, 4))) == 1.0


def test_softness_is_0_at_a_step_and_grows_with_the_ramp():
    x = np.arange(64) - 31.5
    steps = [np.clip(0.5 - x / width, 0, 1) for width in (1, 8, 16, 32)]
    values = [softness_of(np.tile(step, (1, 64, 1))) for step in steps]
    assert values[0] == 0.0
    assert values[1:] == pytest.approx([1 - 4 / 8, 1 - 4 / 16, 1 - 4 / 32], abs=0.02)  # five pixels see four steps of the ramp
    assert softness_of(np.zeros((1, 8, 8))) == 1.0


def painted(a, z, cameras, color):
    """rgb of the surface points by color(points [P, 3]) → [P, 3]; grey elsewhere."""
    rgb = np.full((*a.shape, 3), 0.5)
    for v in range(len(a)):
        rows, columns = np.nonzero(a[v] > 0.5)
        position, directions = rays_of(cameras, v, rows, columns)
        rgb[v, rows, columns] = color(position + z[v, rows, columns][:, None] * directions)
    return rgb


def test_views_of_one_surface_agree_and_a_surface_of_one_view_is_denied():
    cameras = evaluation_orbit(8, width=96)
    a, z = ball(cameras)
    grey = np.full((*a.shape, 3), 0.5)
    assert disagreement(a, z, grey, cameras)[0] < 0.02
    near = disagreement(*ball(cameras, inflate=0.4), grey, cameras)[0]
    assert near > 0.05  # of an eighth of the points, most
    ghost, behind = a.copy(), z.copy()
    ghost[0, :, 70:], behind[0, :, 70:] = 1.0, 2.5  # a panel that only view 0 has
    assert disagreement(ghost, behind, grey, cameras)[0] > 0.02 + disagreement(a, z, grey, cameras)[0]
    assert disagreement(np.zeros_like(a), z, grey, cameras) == (1.0, 0.0)


def test_colours_of_the_surface_match_and_colours_of_the_view_do_not():
    cameras = evaluation_orbit(8, width=96)
    a, z = ball(cameras)
    smooth = disagreement(a, z, painted(a, z, cameras, lambda x: 0.5 + x / 2), cameras)[1]
    assert smooth < 0.02  # it belongs to the surface; what is left is rounding to pixels
    of_view = np.full((*a.shape, 3), 0.5)
    of_view[::2, ..., 0], of_view[1::2, ..., 0] = 0.7, 0.3  # every other view shows it redder
    assert disagreement(a, z, of_view, cameras)[1] == pytest.approx(0.4)


class FakeJudge:
    categories, colors = ("chair", "car", "fish"), ("red", "green")

    def __init__(self, logits, red=0.5):
        self.logits, self.red = torch.tensor(logits), torch.tensor([red, 1 - red])

    def read(self, prompt):
        if "zebra" in prompt:
            raise InputError("prompt: no such kind")
        color = next((c for c in self.colors if c in prompt), None)
        return type("Asked", (), {"category": prompt.split()[-1], "color": color})

    def __call__(self, images):
        return type("Output", (), {"category": self.logits.expand(len(images), -1), "color": self.red.log().expand(len(images), -1)})


def test_doubt_margin_and_tint_follow_the_judges_probabilities():
    judge, rgb = FakeJudge([math.log(0.6), math.log(0.3), math.log(0.1)], red=0.9), torch.rand(4, 8, 8, 3)
    doubt, margin, tint = recognition(judge, rgb, "a red chair")
    assert (doubt, margin, tint) == (pytest.approx(0.4), pytest.approx(math.log(2)), pytest.approx(0.1))
    assert recognition(judge, rgb, "a green chair")[2] == pytest.approx(0.9)
    assert math.isnan(recognition(judge, rgb, "a chair")[2])  # no colour was asked for
    assert recognition(judge, rgb, "a fish")[1] == pytest.approx(math.log(0.1 / 0.6))
    assert recognition(FakeJudge([50.0, 0.0, 0.0]), rgb, "a chair")[1] == 8.0  # held
    assert all(math.isnan(x) for x in recognition(judge, rgb, "a zebra"))


def test_fog_is_hazier_and_softer_than_a_solid():
    solid = egg(3000)
    solid = replace(solid, opacities=torch.full_like(solid.opacities, 0.99))
    fog = replace(solid, opacities=torch.full_like(solid.opacities, 0.05), scales=solid.scales * 2)
    clear, milky = (signs_of(*look(CPU, splats), splats) for splats in (solid, fog))
    assert clear.haze < milky.haze
    assert clear.softness < milky.softness
    assert clear.dissent < 0.1
    assert math.isnan(clear.doubt)


def test_depth_and_two_views_are_asked_for():
    cameras = evaluation_orbit(3, width=64)
    pictures = torch.zeros(3, 64, 64, 3), torch.zeros(3, 64, 64, 1)
    with pytest.raises(InputError, match="expected depth and at least 2 views, got 3 views, depth: False"):
        signs_of(Render(*pictures), cameras)


def made(kept, rng, number):
    good = np.array([0.12, 0.2, 0.05, 0.05, 0.0, 0.02, 6.0, 0.05])
    bad = np.array([0.4, 0.6, 0.3, 0.15, 0.1, 0.3, 1.0, 0.2])
    values = (good if kept else bad) + rng.normal(size=8) * np.array([0.05, 0.08, 0.04, 0.03, 0.02, 0.05, 1.5, 0.05])
    return Labelled("made", f"prompt {number}", 0, kept, False, Signs(*values.tolist()))


def test_the_regression_finds_what_separates_and_no_sign_speaks_the_wrong_way():
    rng = np.random.default_rng(0)
    assets = [made(n % 2 == 0, rng, n) for n in range(40)]
    model = fit(assets)
    scores = [model(a.signs).score for a in assets]
    assert area_under_roc(scores, [a.kept for a in assets]) > 0.98
    assert area_under_roc(scores_left_out(assets), [a.kept for a in assets]) > 0.95
    assert all((w >= 0) if name == "margin" else (w <= 0) for name, w in model.weights.items())
    flipped = [replace(a, kept=not a.kept) for a in assets]
    assert area_under_roc([fit(flipped)(a.signs).score for a in flipped], [a.kept for a in flipped]) == 0.5  # it may not say so


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    assert area_under_roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False]) == 0.75
    assert area_under_roc([0.5, 0.5], [True, False]) == 0.5
    assert math.isnan(area_under_roc([0.5], [True]))


def test_unknown_signs_neither_help_nor_hurt_and_the_worst_is_named():
    model = VerdictModel({**dict.fromkeys(NAMES, -1.0), "margin": 1.0}, dict.fromkeys(NAMES, 0.2), dict.fromkeys(NAMES, 0.1), bias=0.0)
    said = model(Signs(0.2, 0.2, 0.5, 0.2, 0.2))
    assert (said.worst, said.keep) == ("dissent", False)
    assert said.score == pytest.approx(1 / (1 + math.exp(3)))
    assert said.in_words() == "unclear (dissent 0.50)"
    assert model(Signs(0.2, 0.2, 0.2, 0.2, 0.2)).in_words() == "kept (0.50)"


def test_the_shipped_verdict_is_the_fit_of_the_shipped_labels_and_tells_others_apart(capsys):
    assets = load_labelled()
    seen = [a for a in assets if not a.held_out]
    model, again = load_verdict(), fit(seen)
    for name in NAMES:
        assert model.weights[name] == pytest.approx(again.weights[name], abs=2e-3)
    assert model.bias == pytest.approx(again.bias, abs=2e-3)
    others = [a for a in assets if a.held_out]
    assert len({a.kept for a in others}) == 2
    assert area_under_roc([model(a.signs).score for a in others], [a.kept for a in others]) >= 0.8
    assert main([]) == 0
    assert "held out" in capsys.readouterr().out


def test_missing_or_foreign_numbers_are_one_line(tmp_path):
    path = tmp_path / "verdict.json"
    with pytest.raises(FileFormatError, match="expected the numbers of the verdict"):
        load_verdict(path)
    path.write_text(json.dumps({"bias": 0, "threshold": 0.5, "weights": {}, "means": {}, "deviations": {}}))
    with pytest.raises(FileFormatError, match="reinstall the package"):
        load_verdict(path)


def test_nothing_is_never_kept_and_fog_is_not_either():
    assert not judge_asset(egg(10).select(torch.arange(0)), "an egg", CPU).keep
    fog = egg(1500)
    fog = replace(fog, opacities=torch.full_like(fog.opacities, 0.03), scales=fog.scales * 3)
    assert not judge_asset(fog, "an egg", CPU).keep
