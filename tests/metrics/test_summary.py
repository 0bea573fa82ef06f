"""``fsd_gs.metrics.evaluate``: hand-worked cases, and the judge as the default."""

import math

import pytest
import torch

from fsd_gs.errors import InputError
from fsd_gs.metrics import evaluate


class Corner:
    """Reads everything from each picture's first pixel, so that every figure can be worked out by hand."""

    name = "corner"

    def embed(self, images):
        return images[:, :, 0, 0]

    def probabilities(self, images):
        return torch.nn.functional.one_hot((images[:, 0, 0, 0] > 0.5).long(), 2).float()

    def alignment(self, images, prompt):
        return images[:, 0, 0, 0] * len(prompt)


def turntable(color):
    return torch.tensor(color).view(1, 3, 1, 1).expand(4, 3, 8, 8)


def figures(views):
    corner = Corner()
    return evaluate(views, "ab", embedder=corner, classifier=corner, scorer=corner)


def test_two_colours_against_each_other():
    """Seed 0 all red, seed 1 all green: orthogonal features √2 apart without spread, one class each, half of the views aligned."""
    found = figures({0: turntable([1.0, 0.0, 0.0]), 1: turntable([0.0, 1.0, 0.0])})
    assert found.alignment == pytest.approx(1.0)  # red 2, green 0
    assert found.inception_score == pytest.approx(2.0)
    assert found.cross_fid == pytest.approx(2.0, abs=1e-6)
    assert found.diversity == pytest.approx(1.0)
    assert found.consistency == pytest.approx(1.0)
    assert found.janus == pytest.approx(0.0)
    assert found.scorers == ("corner",) * 3


def test_the_same_asset_twice_has_no_diversity():
    found = figures({3: turntable([1.0, 0.5, 0.0]), 7: turntable([1.0, 0.5, 0.0])})
    assert found.cross_fid == pytest.approx(0.0, abs=1e-9)
    assert found.diversity == pytest.approx(0.0, abs=1e-9)
    assert found.inception_score == pytest.approx(1.0)


def test_the_judge_is_the_default():
    generator = torch.Generator().manual_seed(0)
    found = evaluate({seed: torch.rand(4, 3, 64, 64, generator=generator) for seed in (0, 1)}, "a red chair")
    assert found.scorers[0] == found.scorers[1] == found.scorers[2]
    assert 0 <= found.alignment <= 1
    assert math.isfinite(found.cross_fid)


def test_seeds_and_sizes_are_checked():
    with pytest.raises(InputError, match="same number and size of images for every seed"):
        figures({0: torch.rand(4, 3, 8, 8), 1: torch.rand(4, 3, 4, 4)})
    with pytest.raises(InputError, match="no seeds"):
        figures({})
    with pytest.raises(InputError, match="even number of different seeds"):
        figures({0: torch.rand(4, 3, 8, 8)})
    with pytest.raises(InputError, match="multiple of 4"):
        figures({0: torch.rand(6, 3, 8, 8), 1: torch.rand(6, 3, 8, 8)})
