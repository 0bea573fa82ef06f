"""Intervals over prompts: against enumeration, on hand-made cases, and their coverage."""

import itertools

import numpy as np
import pytest

from fsd_gs.metrics.statistics import compare, estimate


def rng(seed=0):
    return np.random.default_rng(seed)


def prompts(values):
    return {f"p{i}": float(value) for i, value in enumerate(values)}


def test_against_all_resamples_of_three_prompts():
    """27 equally likely resamples: the percentiles of their means can be written down."""
    values = [1.0, 2.0, 6.0]
    means = np.array([np.mean(draw) for draw in itertools.product(values, repeat=3)])
    found = estimate(prompts(values), rng(), resamples=200_000)
    assert (found.mean, found.n) == (3.0, 3)
    assert found.std == pytest.approx(np.std(values, ddof=1))
    # 2.5 % lies inside the lowest step (1/27 = 3.7 % of all resamples) and 97.5 % inside the highest
    assert (found.low, found.high) == (means.min(), means.max())


def test_one_prompt_has_no_interval_and_none_has_no_mean():
    single = estimate(prompts([4.0]), rng())
    assert (single.mean, single.std, single.low, single.high, single.n) == (4.0, None, None, None, 1)
    nothing = estimate({"p": float("nan")}, rng())
    assert (nothing.mean, nothing.low, nothing.n) == (None, None, 0)
    pair = compare(prompts([4.0]), prompts([2.0]), rng())
    assert (pair.difference.mean, pair.difference.low, pair.ratio.mean, pair.ratio.low) == (2.0, None, 2.0, None)
    assert not pair.clear


def test_missing_values_are_no_values():
    found = estimate({"a": 1.0, "b": float("nan"), "c": 3.0}, rng())
    assert (found.mean, found.n) == (2.0, 2)
    pair = compare({"a": 1.0, "b": 5.0, "d": 9.0}, {"a": 3.0, "b": float("nan"), "c": 2.0}, rng())
    assert (pair.difference.mean, pair.difference.n) == (-2.0, 1)


def test_pairing_takes_the_prompts_own_difficulty_out():
    """Prompts differ by hundreds, methods by one: only the paired interval sees it."""
    baseline = 100.0 * np.arange(1, 9)
    found = compare(prompts(baseline + 1 + 0.1 * (-1.0) ** np.arange(8)), prompts(baseline), rng())
    assert found.difference.low > 0.9
    assert found.difference.high < 1.1
    assert found.clear
    alone = estimate(prompts(baseline), rng())
    assert alone.high - alone.low > 100


def test_a_handful_of_prompts_is_never_clear():
    """Five prompts that agree in sign do so by chance in 1 of 16 cases."""
    assert not compare(prompts([2.0] * 5), prompts([1.0] * 5), rng()).clear
    assert compare(prompts([2.0] * 6), prompts([1.0] * 6), rng()).clear
    assert not compare(prompts([2.0] * 6), prompts([2.0, 1.0, 3.0] * 2), rng()).clear


def test_the_ratio_is_one_of_means_and_exact_for_proportional_methods():
    y = np.array([1.0, 2.0, 10.0])
    found = compare(prompts(3 * y), prompts(y), rng())
    assert (found.ratio.mean, found.ratio.low, found.ratio.high) == pytest.approx((3.0, 3.0, 3.0))
    uneven = compare(prompts([2.0, 2.0]), prompts([1.0, 3.0]), rng())
    assert uneven.ratio.mean == pytest.approx(1.0)  # 4 / 4, not (2 + 2/3) / 2


def test_a_baseline_at_zero_has_no_ratio():
    found = compare(prompts([1.0, 2.0]), prompts([0.0, 0.0]), rng())
    assert found.ratio.mean is None
    assert found.difference.mean == 1.5
    partly = compare(prompts([1.0, 2.0, 1.0]), prompts([0.0, 1.0, 0.0]), rng())
    assert np.isfinite([partly.ratio.mean, partly.ratio.low, partly.ratio.high]).all()


def test_equal_generators_give_equal_intervals():
    values = prompts([1.0, 5.0, 2.0, 8.0])
    assert estimate(values, rng(3)) == estimate(values, rng(3))


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    """16 prompts of a skewed law: percentile intervals are a little too narrow, but not much."""
    draws = np.random.default_rng(7)
    hits = 0
    for i in range(200):
        found = estimate(prompts(draws.exponential(1.0, 16)), rng(i), resamples=400)
        hits += found.low <= 1.0 <= found.high
    assert 0.84 <= hits / 200 <= 0.98
