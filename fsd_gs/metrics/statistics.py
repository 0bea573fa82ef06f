"""What may be said about a mean over prompts: its spread, its interval, and how far two methods differ on the same prompts.

Letters: x_p the value of a method on prompt p, y_p that of its baseline, P prompts. Prompts are the sampled unit: seeds and views of one
prompt are not independent. With B resamples of P prompts with replacement,

    interval     2.5 % and 97.5 % percentiles of the B means x̄*             (Efron & Tibshirani 1993, ch. 13)
    difference   the same for the means of x_p − y_p: pairing takes the prompts' own difficulty out
    ratio        the same for x̄* / ȳ*, both from the same resample; a ratio of means, because a mean of ratios explodes where y_p is near 0

One prompt gives no interval, and no standard deviation either. Percentile intervals are too narrow for a handful of prompts, so a
difference is only called clear from six prompts on: that all of n prompts agree in sign happens by chance alone with probability 2^(1 − n),
which is below 5 % from n = 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
FEWEST_CLEAR = 6


@dataclass(frozen=True)
class Estimate:
    """mean over ``n`` prompts (None: no value at all), std with n − 1 and the 95 % interval (None below two prompts)."""

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline over the prompts that both have.

    Attributes:
        ratio: mean None where the baseline's mean is not above 0.
    """

    difference: Estimate
    ratio: Estimate

    @property
    def clear(self) -> bool:
        """Whether the interval of the difference excludes 0, over at least six prompts."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0) and self.difference.n >= FEWEST_CLEAR


def estimate(values: Mapping[str, float], rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Of prompt → value; NaN is no value."""
    kept = np.array([value for value in values.values() if not np.isnan(value)], dtype=np.float64)
    return _estimate(kept, kept[_draws(len(kept), rng, resamples)].mean(axis=1) if len(kept) > 1 else None)


def compare(method: Mapping[str, float], baseline: Mapping[str, float], rng: np.random.Generator, resamples: int = RESAMPLES) -> Comparison:
    """Prompt → value of two methods, paired by prompt; prompts that one of them lacks (or has NaN) are left out of both."""
    shared = [prompt for prompt in method if not np.isnan(method[prompt]) and not np.isnan(baseline.get(prompt, np.nan))]
    x, y = (np.array([values[prompt] for prompt in shared], dtype=np.float64) for values in (method, baseline))
    draws = _draws(len(shared), rng, resamples) if len(shared) > 1 else None
    difference = _estimate(x - y, None if draws is None else (x - y)[draws].mean(axis=1))
    if not len(shared) or y.mean() <= 0:
        return Comparison(difference, Estimate(None, None, None, None, len(shared)))
    ratios = None
    if draws is not None:
        below = y[draws].mean(axis=1)
        ratios = x[draws].mean(axis=1)[below > 0] / below[below > 0]
    return Comparison(difference, _interval(float(x.mean() / y.mean()), None, ratios, len(shared)))


def _draws(count: int, rng: np.random.Generator, resamples: int) -> NDArray[np.int64]:
    return rng.integers(max(count, 1), size=(resamples, count))


def _estimate(values: NDArray[np.float64], means: NDArray[np.float64] | None) -> Estimate:
    if not len(values):
        return Estimate(None, None, None, None, 0)
    return _interval(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None, means, len(values))


def _interval(mean: float, std: float | None, resampled: NDArray[np.float64] | None, n: int) -> Estimate:
    if resampled is None or not len(resampled):
        return Estimate(mean, std, None, None, n)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(mean, std, float(low), float(high), n)
