"""Cosine diversity, turn similarity, the Janus check and mode coverage: hand-worked cases, slow twins and constructed orbits."""

import itertools
import math

import pytest
import torch

from fsd_gs.errors import InputError
from fsd_gs.metrics.similarity import (
    Vote,
    asset_features,
    cosine_distances,
    cosine_diversity,
    janus_check,
    majority_vote,
    mean_pairwise,
    mode_coverage,
    turn_similarity,
    view_consistency,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orbit(views: int, faces: int = 1) -> torch.Tensor:
    """[V, 2 + 1] features that turn ``faces`` times while the camera turns once, around a common part."""
    angle = 2 * math.pi * faces * torch.arange(views) / views
    return torch.stack([angle.cos(), angle.sin(), torch.ones(views)], dim=1)


def test_distances_by_hand():
    features = torch.tensor([[2.0, 0], [0, 5], [-1, 0], [3, 3]])
    half = 1 - math.sqrt(0.5)
    expected = torch.tensor([[0, 1, 2, half], [1, 0, 1, half], [2, 1, 0, 2 - half], [half, half, 2 - half, 0]])
    torch.testing.assert_close(cosine_distances(features), expected.double())
    assert mean_pairwise(cosine_distances(features)) == pytest.approx((1 + 2 + half + 1 + half + 2 - half) / 6)


def test_diversity_against_loops():
    features = normal(4, 6, 5)
    pairs = list(itertools.combinations(range(4), 2))
    cosine = torch.nn.functional.cosine_similarity
    by_view = sum(1 - cosine(features[a, v], features[b, v], dim=0) for a, b in pairs for v in range(6)) / (6 * len(pairs))
    means = [sum(view / view.norm() for view in asset) for asset in features]
    by_asset = sum(1 - cosine(means[a], means[b], dim=0) for a, b in pairs) / len(pairs)
    assert cosine_diversity(features, per="view") == pytest.approx(by_view.item())
    assert cosine_diversity(features) == pytest.approx(by_asset.item())


def test_a_turned_copy_is_new_per_view_only():
    asset = normal(8, 5)
    features = torch.stack([asset, asset.roll(3, 0)])
    assert cosine_diversity(features) == pytest.approx(0, abs=1e-12)
    assert cosine_diversity(features, per="view") > 0.1
    assert cosine_diversity(torch.stack([asset, 7 * asset]), per="view") == pytest.approx(0, abs=1e-12)  # length is no difference


def test_every_view_counts_the_same():
    features = torch.tensor([[[100.0, 0], [0, 1]]])
    torch.testing.assert_close(asset_features(features), torch.tensor([[0.5, 0.5]]).double())


def test_turn_similarity_of_a_constructed_orbit():
    """cos of two views k apart is (1 + cos(2π faces k/V))/2: one minimum for one face, three peaks for three."""
    turns = torch.arange(12)
    for faces in (1, 2, 3):
        expected = (1 + torch.cos(2 * math.pi * faces * turns.double() / 12)) / 2
        torch.testing.assert_close(turn_similarity(orbit(12, faces)), expected, atol=1e-6, rtol=0)
    assert view_consistency(orbit(12)) == pytest.approx((1 + math.cos(math.pi / 6)) / 2, rel=1e-6)
    assert view_consistency(orbit(2)) == pytest.approx(0, abs=1e-6)


def test_turn_similarity_is_even_and_starts_at_one():
    similarity = turn_similarity(normal(9, 4))
    assert similarity[0] == pytest.approx(1)
    torch.testing.assert_close(similarity[1:], similarity[1:].flip(0))


@pytest.mark.parametrize("views", [4, 8, 24])
def test_the_janus_check_tells_one_face_from_two(views):
    sound, janus = janus_check(orbit(views)), janus_check(orbit(views, faces=2))
    assert (sound.front_back, sound.front_side, sound.score) == pytest.approx((0, 0.5, -0.5), abs=1e-6)
    assert (janus.front_back, janus.front_side, janus.score) == pytest.approx((1, 0, 1), abs=1e-6)
    assert janus_check(torch.ones(views, 3)).score == pytest.approx(0)  # a body of revolution


def test_the_front_may_be_any_view():
    features = normal(8, 4)
    report = janus_check(features.roll(3, 0), front=3)
    assert report == janus_check(features)
    unit = features / features.norm(dim=1, keepdim=True)
    assert report.front_side == pytest.approx(float(unit[0] @ unit[2] + unit[0] @ unit[6]) / 2)


def test_bad_features():
    with pytest.raises(InputError, match=r"features: diversity expects at least two assets of at least one view, got 1 of 5"):
        cosine_diversity(normal(1, 5, 3))
    with pytest.raises(InputError, match=r"features: expected shape \[A, V, D\], got \[5, 3\]"):
        cosine_diversity(normal(5, 3))
    with pytest.raises(InputError, match=r"per: expected 'asset' or 'view', got 'pair'"):
        cosine_diversity(normal(2, 5, 3), per="pair")  # pyright: ignore
    with pytest.raises(InputError, match=r"non-zero length"):
        view_consistency(torch.zeros(4, 3))
    with pytest.raises(InputError, match=r"features: expected at least 2 evenly spaced views, got 1"):
        view_consistency(normal(1, 3))
    with pytest.raises(InputError, match=r"features: expected a multiple of 4 evenly spaced views, got 6"):
        janus_check(normal(6, 3))
    with pytest.raises(InputError, match=r"distances: a mean over pairs expects at least two assets, got 1"):
        mean_pairwise(torch.zeros(1, 1))


def test_votes():
    assert majority_vote(torch.tensor([3, 1, 3, 3, 2])) == Vote((3,), 0.6)
    assert majority_vote(torch.tensor([5, 2, 2, 5])) == Vote((2,), 0.5)  # a tie goes to the smallest
    both = torch.tensor([[1, 7], [1, 8], [0, 8], [1, 8]])  # each attribute votes alone; two views agree with both winners
    assert majority_vote(both) == Vote((1, 8), 0.5)


def test_mode_coverage_by_hand():
    red, blue = torch.tensor([0, 0, 0, 2]), torch.tensor([1, 1, 2, 1])
    coverage = mode_coverage({0: red, 1: blue, 2: red, 3: red})
    assert (coverage.modes, coverage.seeds) == (2, 4)
    assert coverage.entropy == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert coverage.agreement == pytest.approx(0.75)
    assert coverage.votes[1].mode == (1,)


def test_coverage_runs_from_one_mode_to_all():
    alike = mode_coverage({seed: torch.tensor([4, 4]) for seed in range(4)})
    assert (alike.modes, alike.entropy, alike.agreement) == (1, 0, 1)
    different = mode_coverage({seed: torch.tensor([seed, seed]) for seed in range(4)})
    assert different.modes == 4
    assert different.entropy == pytest.approx(math.log(4))


def test_two_attributes_make_a_mode_together():
    """Same design in two colours, and same colour in two designs: 3 modes where each attribute alone has 2."""
    seeds = {0: (1, 5), 1: (2, 5), 2: (1, 6)}
    labels = {seed: torch.tensor([pair] * 3) for seed, pair in seeds.items()}
    assert mode_coverage(labels).modes == 3
    assert [mode_coverage({seed: pair[:, i] for seed, pair in labels.items()}).modes for i in (0, 1)] == [2, 2]


def test_bad_labels():
    with pytest.raises(InputError, match=r"labels: mode coverage expects at least one seed, got none"):
        mode_coverage({})
    with pytest.raises(InputError, match=r"labels: expected whole numbers .* use argmax"):
        mode_coverage({0: torch.rand(5)})
    with pytest.raises(InputError, match=r"labels: expected whole numbers for at least one view, got \[0\]"):
        mode_coverage({0: torch.zeros(0, dtype=torch.long)})
    with pytest.raises(InputError, match=r"same number of attributes for every seed, got \[1, 2\]"):
        mode_coverage({0: torch.zeros(4, dtype=torch.long), 1: torch.zeros(4, 2, dtype=torch.long)})
