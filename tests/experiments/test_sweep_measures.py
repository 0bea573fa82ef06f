"""Measures of a sweep on constructed assets whose answer is known."""

import math

import numpy as np
import pytest
import torch

from fsd_gs.errors import ConfigError, InputError
from fsd_gs.experiments.sweep.measures import (
    MeasureSettings,
    Nearest,
    bootstrap_interval,
    distances,
    distinct_objects,
    mean_pairwise,
    nearest_object,
    on_white_and_black,
    uniform_distinct,
)


def flat(value, views=2, size=3):
    return torch.full((views, size, size, 3), value)


def test_distance_is_the_mean_square_over_views_pixels_and_channels():
    objects = torch.stack([flat(0.0), flat(0.5), flat(1.0)])
    torch.testing.assert_close(distances(flat(0.3), objects), torch.tensor([0.09, 0.04, 0.49]).double(), atol=1e-7, rtol=0)
    one_pixel = flat(0.0)
    one_pixel[1, 2, 0, 1] = 0.6
    assert distances(one_pixel, objects)[0].item() == pytest.approx(0.36 / (2 * 3 * 3 * 3))


def test_nearest_object_and_its_distance():
    nearest = nearest_object(flat(0.6), torch.stack([flat(0.0), flat(0.5), flat(1.0)]))
    assert nearest.index == 1
    assert nearest.distance == pytest.approx(0.01)


def test_views_of_another_shape_are_refused():
    with pytest.raises(InputError, match="asset: expected shape"):
        distances(flat(0.0, views=3), torch.stack([flat(0.0)]))


def test_an_object_counts_once_and_only_if_it_is_reached():
    nearest = [Nearest(3, 0.001), Nearest(3, 0.002), Nearest(5, 0.01), Nearest(7, 0.011)]
    assert distinct_objects(nearest, max_distance=0.01) == 2
    assert distinct_objects(nearest, max_distance=0.1) == 3
    assert distinct_objects([], max_distance=0.1) == 0


def test_pairwise_distance_equals_the_double_loop():
    generator = torch.Generator().manual_seed(0)
    assets = [torch.rand(2, 4, 4, 3, generator=generator) for _ in range(5)]
    pairs = [(assets[a] - assets[b]).square().mean().item() for a in range(5) for b in range(a)]
    assert mean_pairwise(assets) == pytest.approx(np.mean(pairs), rel=1e-6)
    assert mean_pairwise([assets[0]] * 3) == 0
    assert math.isnan(mean_pairwise(assets[:1]))


def test_pictures_are_over_white_and_then_over_black():
    rgba = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.25, 0.0, 0.5, 0.5], [0.1, 0.2, 0.3, 1.0]]).view(1, 1, 3, 4)
    white, black = on_white_and_black(rgba)
    torch.testing.assert_close(white[0], torch.tensor([[1.0, 1.0, 1.0], [0.75, 0.5, 1.0], [0.1, 0.2, 0.3]]))
    torch.testing.assert_close(black[0], rgba[0, 0, :, :3])


def test_a_ghost_is_not_taken_for_a_white_object():
    nothing, white = torch.zeros(1, 2, 2, 4), torch.ones(1, 2, 2, 4)
    assert nearest_object(on_white_and_black(nothing), on_white_and_black(white)[None]).distance == pytest.approx(0.5)


@pytest.mark.parametrize(("objects", "draws"), [(24, 4), (3, 8), (1, 5)])
def test_expected_distinct_objects_of_uniform_draws(objects, draws):
    samples = np.random.default_rng(0).integers(objects, size=(20_000, draws))
    simulated = np.mean([len(set(row)) for row in samples])
    assert uniform_distinct(objects, draws) == pytest.approx(simulated, abs=0.02)


def test_bootstrap_interval_of_known_cases():
    constant = bootstrap_interval([2.0, 2.0, 2.0])
    assert (constant.mean, constant.low, constant.high, constant.n) == (2.0, 2.0, 2.0, 3)
    coin = bootstrap_interval([0.0, 1.0])  # means 0, ½, 1 with probabilities ¼, ½, ¼
    assert (coin.low, coin.high) == (0.0, 1.0)
    assert math.isnan(bootstrap_interval([float("nan")]).mean)
    assert bootstrap_interval([1.0, float("nan"), 3.0]).n == 2


def test_bootstrap_interval_matches_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(5.0, 2.0, size=400)
    interval = bootstrap_interval(values.tolist())
    half_width = 1.96 * values.std() / math.sqrt(400)
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.02)
    assert bootstrap_interval(values.tolist()) == interval


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="max_distance > 0, got 8 and 0"):
        MeasureSettings(max_distance=0.0)
