"""The diversity score: hand-worked cases, a slow twin, and the axioms of a metric."""

import itertools

import numpy as np
import pytest
import torch

from fsd_gs.errors import InputError
from fsd_gs.metrics.diversity import DiversitySettings, diversity, jaccard_distance, oriented_edges, pairwise_distances

PLAIN = DiversitySettings(grid=4, up_to_turns=False)


def random_views(assets: int, views: int = 3, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(assets, views, size, size, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def square(colour: tuple[float, float, float], left: int, size: int = 16) -> torch.Tensor:
    """[1, 1, H, W, 3] a square of 4×4 pixels on white."""
    picture = torch.ones(1, 1, size, size, 3, dtype=torch.float64)
    picture[0, 0, 4:8, left : left + 4] = torch.tensor(colour, dtype=torch.float64)
    return picture


def test_jaccard_by_hand():
    f, g = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([2.0, 1.0, 1.0])
    assert jaccard_distance(f, g).item() == pytest.approx(1 - 2 / 5)
    assert jaccard_distance(f, f).item() == 0
    assert jaccard_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])).item() == 1
    assert jaccard_distance(torch.zeros(3), torch.zeros(3)).item() == 0


def test_equal_assets_are_at_distance_zero_and_disjoint_ones_at_one():
    same = random_views(1).expand(3, -1, -1, -1, -1)
    assert diversity(same) == pytest.approx(0, abs=1e-12)
    apart = torch.cat([square((0, 0, 0), 0), square((0, 0, 0), 12)])
    assert diversity(apart, settings=PLAIN) == pytest.approx(1)


def test_colour_counts():
    """Red paints (0, 1, 1) over white, blue (1, 1, 0): ink distance 1 − 1/3; the edges differ by luminance only."""
    red, dark_red, blue = square((1, 0, 0), 4), square((0.9, 0, 0), 4), square((0, 0, 1), 4)
    near, far = (diversity(torch.cat([red, other]), settings=PLAIN) for other in (dark_red, blue))
    assert 0 < near < 0.1 < far
    edge = 1 - (1 - 0.299) / (1 - 0.114)  # the luminance steps of the two squares
    assert far == pytest.approx((2 / 3 + edge) / 2)


def test_shape_alone_counts_through_alpha():
    """A white asset on white leaves neither ink nor edges: only alpha sees it."""
    renders = torch.ones(2, 1, 16, 16, 3)
    alphas = torch.zeros(2, 1, 16, 16, 1)
    alphas[0, :, :8], alphas[1, :, 4:12] = 1, 1
    assert diversity(renders) == 0
    assert diversity(renders, alphas, PLAIN) == pytest.approx((0 + 0 + (1 - 4 / 12)) / 3)


def test_a_turned_copy_is_no_other_asset():
    asset = random_views(1, views=6)
    turned = torch.cat([asset, asset.roll(2, dims=1)])
    assert diversity(turned) == pytest.approx(0, abs=1e-12)
    assert diversity(turned, settings=DiversitySettings(up_to_turns=False)) > 0.1


def test_metric_axioms():
    distances = pairwise_distances(random_views(5, views=4) ** torch.linspace(0.3, 4, 5, dtype=torch.float64).reshape(5, 1, 1, 1, 1))
    assert torch.equal(distances, distances.T)
    assert (distances.diagonal() == 0).all()
    assert ((distances >= 0) & (distances <= 1)).all()
    for a, b, c in itertools.permutations(range(5), 3):
        assert distances[a, c] <= distances[a, b] + distances[b, c] + 1e-12


def test_diversity_is_the_mean_over_pairs():
    distances = pairwise_distances(random_views(4))
    pairs = [distances[a, b].item() for a, b in itertools.combinations(range(4), 2)]
    assert diversity(random_views(4)) == pytest.approx(np.mean(pairs))


def test_edges_split_between_orientations():
    """A vertical edge has a horizontal gradient (bin 0), a horizontal edge a vertical one (bin 2), a diagonal one lies in bin 1."""
    ramp = torch.linspace(0, 1, 12, dtype=torch.float64)
    across = ramp.expand(1, 3, 12, 12)
    diagonal = (ramp[:, None] + ramp) / 2
    for picture, bin_ in ((across, 0), (across.transpose(2, 3), 2), (diagonal.expand(1, 3, 12, 12), 1)):
        inner = oriented_edges(picture)[0, :, 2:-2, 2:-2]
        assert inner[bin_].min() > 0.02
        assert torch.cat([inner[:bin_], inner[bin_ + 1 :]]).max() < 1e-9
    magnitude = oriented_edges(random_views(1)[0].permute(0, 3, 1, 2)).sum(1)
    assert (magnitude >= 0).all()


def test_bad_input():
    with pytest.raises(InputError, match=r"renders: expected shape \[A, V, H, W, 3\]"):
        diversity(torch.zeros(2, 3, 8, 8))
    with pytest.raises(InputError, match="at least 12×12, got 1 of 8×8"):
        diversity(torch.zeros(2, 1, 8, 8, 3))
    with pytest.raises(InputError, match="alphas: expected shape"):
        diversity(torch.zeros(2, 1, 16, 16, 3), torch.zeros(2, 1, 8, 8, 1))
    with pytest.raises(InputError, match="finite"):
        diversity(torch.full((2, 1, 16, 16, 3), float("nan")))
    assert diversity(random_views(1)) == 0
    assert diversity(torch.zeros(0, 2, 16, 16, 3)) == 0
