"""View prompts, their interpolation and Perp-Neg: known answers, and proof that they reach the network."""

import math

import pytest
import tiny_pipelines as tiny
import torch

from fsd_gs import priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError
from fsd_gs.priors import LoadOptions
from fsd_gs.priors.prompts import PerpNeg, ViewPrompts, combine_perp_neg, perpendicular


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tiny.stable_diffusion(), tmp_path_factory.mktemp("prompts") / "sd")


AZIMUTHS_AND_VIEWS = [
    (0, "front"), (44, "front"), (316, "front"), (-44, "front"), (46, "side"), (90, "side"), (134, "side"),
    (136, "back"), (180, "back"), (224, "back"), (226, "side"), (270, "side"), (314, "side"), (360, "front"),
]  # fmt: skip


@pytest.mark.parametrize(("azimuth", "view"), AZIMUTHS_AND_VIEWS)
def test_sectors(azimuth, view):
    mix = ViewPrompts().mix(azimuth, 10.0)
    assert (mix.first, mix.second, mix.weight) == (view, view, 1.0)


def test_angles_are_configurable():
    wide = ViewPrompts(front_deg=140.0, back_deg=20.0, overhead_deg=30.0)
    assert [wide.mix(a, 0.0).first for a in (69, 71, 169, 171)] == ["front", "side", "side", "back"]
    assert wide.mix(0.0, 31.0).first == "overhead"
    assert wide.mix(0.0, 29.0).first == "front"
    with pytest.raises(ConfigError, match=r"front_deg: expected an angle in \(0, 180\] degrees, got 200"):
        ViewPrompts(front_deg=200.0)
    with pytest.raises(ConfigError, match="overhead_deg"):
        ViewPrompts(overhead_deg=100.0)


def test_interpolation_is_continuous_around_the_circle():
    views = ViewPrompts(interpolate=True)

    def weights(azimuth: float) -> dict[str, float]:
        mix, total = views.mix(azimuth, 0.0), {"front": 0.0, "side": 0.0, "back": 0.0}
        total[mix.first] += mix.weight
        total[mix.second] += 1 - mix.weight
        return total

    assert weights(0)["front"] == weights(90)["side"] == weights(180)["back"] == weights(270)["side"] == 1.0
    assert weights(45) == {"front": 0.5, "side": 0.5, "back": 0.0}
    for degree in range(720):
        here, there = weights(degree / 2), weights(degree / 2 + 0.5)
        assert max(abs(here[v] - there[v]) for v in here) < 0.006


def test_each_camera_gets_its_own_words(folder):
    """Four cameras in one call: each row of the embedding is that of its own prompt, as the pipeline embeds it."""
    prior, pipeline = priors.load(folder), tiny.stable_diffusion()
    cameras = orbit_cameras([0, 90, 180, 20], [0, 0, 0, 80])
    text = prior.encode_text("a mug", "bad", cameras)
    for row, view in enumerate(("front", "side", "back", "overhead")):
        expected, negative = pipeline.encode_prompt(f"a mug, {view} view", "cpu", 1, True, "bad")
        torch.testing.assert_close(text.positive.tokens[row : row + 1], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(text.negative.tokens, negative, rtol=1e-4, atol=1e-5)


def test_view_prompts_change_the_prediction_of_their_camera_only(folder):
    prior, plain = priors.load(folder), priors.load(folder, options=LoadOptions(view_prompts=None))
    cameras, x = orbit_cameras([0, 180]), torch.randn(1, 4, 8, 8).repeat(2, 1, 1, 1)
    t = torch.tensor(0.5)
    seen = prior.predict_noise(x, t, prior.encode_text("mug", "", cameras), cameras, 5.0)
    unseen = plain.predict_noise(x, t, plain.encode_text("mug", "", cameras), cameras, 5.0)
    assert (seen[0] - seen[1]).abs().max() > 1e-3
    torch.testing.assert_close(unseen[0], unseen[1])
    front = plain.predict_noise(x, t, plain.encode_text("mug, front view", "", None), None, 5.0)
    torch.testing.assert_close(seen[0], front[0], rtol=1e-4, atol=1e-5)


def test_interpolated_embedding_is_the_mixture(folder):
    prior = priors.load(folder, options=LoadOptions(view_prompts=ViewPrompts(interpolate=True)))
    front, side = (prior.encode_text("mug", "", orbit_cameras([a])).positive.tokens for a in (0.0, 90.0))
    between = prior.encode_text("mug", "", orbit_cameras([30.0])).positive.tokens
    torch.testing.assert_close(between, front * (2 / 3) + side / 3, rtol=1e-4, atol=1e-5)


def test_a_prompt_that_is_cut_off_is_said(folder):
    """The view words are at the end, so they would be the first to go."""
    prior = priors.load(folder)
    with pytest.warns(UserWarning, match=r"only the first 32 of 38 tokens are used of 'a very long prompt about nothing, back view'"):
        prior.encode_text("a very long prompt about nothing", "", orbit_cameras([180.0]))


def test_perpendicular_is_perpendicular_and_keeps_the_rest():
    a, b = torch.randn(3, 4, 5, 5, dtype=torch.float64), torch.randn(3, 4, 5, 5, dtype=torch.float64)
    p = perpendicular(a, b)
    assert (p * b).sum((1, 2, 3)).abs().max() < 1e-10
    parallel = a - p
    cosine = (parallel * b).sum((1, 2, 3)) / (parallel.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    torch.testing.assert_close(cosine.abs(), torch.ones(3, dtype=torch.float64))


def test_perp_neg_by_hand():
    """In the plane: Δ along x, Δ_1 = (1, 1): only its y part acts, so w = −0.5 and s = 2 give (2, −1)."""
    zero, delta, other = (torch.tensor([[x, y]], dtype=torch.float64) for x, y in ((0, 0), (1, 0), (1, 1)))
    guided = combine_perp_neg(zero, delta, other[None], torch.tensor([[-0.5]]), 2.0)
    torch.testing.assert_close(guided, torch.tensor([[2.0, -1.0]], dtype=torch.float64))


def test_perp_neg_weights_are_never_positive_and_follow_the_view():
    perp, views = PerpNeg(), ViewPrompts(interpolate=True)
    table = {azimuth: perp.weights(views.mix(azimuth, 0.0)) for azimuth in range(0, 181, 5)}
    assert all(w <= 0 for weights in table.values() for w in weights.values())
    assert table[180]["front"] == pytest.approx(-(1 + 0.967))  # from behind (r = 0), "front view" is repelled hardest
    assert table[0]["front"] == pytest.approx(-(4 * math.exp(-0.5) - 2.426), abs=1e-3)  # and hardly at all from the front
    assert table[90]["side"] > table[0]["side"]
    assert perp.weights(views.mix(0.0, 80.0)) == {"front": 0.0, "side": 0.0}


@pytest.mark.long
def test_perp_neg_in_the_network_equals_separate_passes(folder):
    views = ViewPrompts(interpolate=True)
    prior = priors.load(folder, options=LoadOptions(view_prompts=views, perp_neg=PerpNeg()))
    plain = priors.load(folder, options=LoadOptions(view_prompts=None))
    cameras, x, t = orbit_cameras([30.0, 150.0]), torch.randn(2, 4, 8, 8), torch.tensor(0.5)
    text = prior.encode_text("mug", "bad", cameras)
    batches = []
    prior.network.register_forward_pre_hook(lambda module, args: batches.append(args[0].shape[0]))
    ours = prior.predict_noise(x, t, text, cameras, 7.5)
    assert batches == [8]  # negative, positive and two repelled views, for two cameras, in one batch
    negative = plain.predict_noise(x, t, plain.encode_text("bad", "", None), None, 1.0)
    repelled = [plain.predict_noise(x, t, plain.encode_text(f"mug, {v} view", "", None), None, 1.0) for v in ("front", "side")]
    without = priors.load(folder, options=LoadOptions(view_prompts=views))
    positive = without.predict_noise(x, t, without.encode_text("mug", "bad", cameras), cameras, 1.0)
    delta = positive - negative
    expected = delta.clone()
    for row, camera in enumerate(views.mixes(cameras)):
        weights = PerpNeg().weights(camera)
        for prediction, name in zip(repelled, ("front", "side"), strict=True):
            other = (prediction - negative)[row]
            expected[row] += weights[name] * (other - (other * delta[row]).sum() / (delta[row] ** 2).sum() * delta[row])
    torch.testing.assert_close(ours, negative + 7.5 * expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(prior.predict_noise(x, t, text, cameras, 1.0), positive, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="perp_neg: needs view prompts"):
        LoadOptions(view_prompts=None, perp_neg=PerpNeg())


def test_perp_neg_interpolates_whatever_the_prompts_say(folder):
    """Perp-Neg is defined on the interpolated prompt; switching prompts would apply the wrong decay to whole sectors."""
    options = LoadOptions(perp_neg=PerpNeg())
    assert options.view_prompts is not None
    assert options.view_prompts.interpolate
