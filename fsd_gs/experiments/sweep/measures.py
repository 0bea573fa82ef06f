"""How diverse and how good the assets of one prompt are, given the finite set of objects they should have come from.

Let x_a be asset a rendered from V evaluation views, over white and again over black (over white alone a ghost, translucent everywhere,
looks like a white object), r_i the same 2V pictures of object i of the prompt's set, and

    d(a, i) = mean over pictures, pixels and channels of (x_a − r_i)²         MSE, colours in [0, 1]
    nearest(a) = argmin_i d(a, i)         distance(a) = min_i d(a, i)

An asset *failed* if its run ended in an error, if its geometry is unsound (``metrics.geometry``), or if distance(a) > max_distance: it is
none of the objects. Over the assets of a prompt,

    distinct   |{ nearest(a) : a not failed }|, the objects reached
    pairwise   mean of MSE(x_a, x_b) over pairs of assets that did not fail (wrecks differ from everything, which is not diversity)
    distance   mean of distance(a) over all assets that have one, failed or not (quality must not hide what failed)

and over prompts the mean with a percentile bootstrap interval (prompts are the sampled unit; Efron & Tibshirani 1993, ch. 13).
A uniform draw of n of M objects reaches M (1 − (1 − 1/M)^n) distinct ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import ConfigError
from fsd_gs.metrics.statistics import estimate


@dataclass
class MeasureSettings:
    """How a cell is looked at and measured.

    Attributes:
        views: evaluation views, evenly around.
        elevation_deg: theirs; None takes one third of the training range, which no grid of training elevations with two or three values
            contains.
        max_distance: an asset farther than this from every object has failed.
    """

    views: int = 8
    elevation_deg: float | None = None
    max_distance: float = 0.01

    def __post_init__(self) -> None:
        if self.views < 1 or self.max_distance <= 0:
            raise ConfigError(f"views, max_distance: expected views ≥ 1 and max_distance > 0, got {self.views} and {self.max_distance:g}")


@dataclass(frozen=True)
class Nearest:
    """The object of the set that an asset looks most like: its number, and the MSE to it."""

    index: int
    distance: float


@dataclass(frozen=True)
class Interval:
    """A mean with a 95 % interval over ``n`` values; NaN where there are none."""

    mean: float
    low: float
    high: float
    n: int


def on_white_and_black(rgba: Tensor) -> Tensor:
    """Premultiplied views [V, H, W, 4] in [0, 1] → pictures [2V, H, W, 3]: all views over white, then all over black."""
    return torch.cat([rgba[..., :3] + (1 - rgba[..., 3:]), rgba[..., :3]])


def distances(asset: Tensor, objects: Tensor) -> Tensor:
    """d(a, ·) [M] for the pictures of an asset [P, H, W, 3] and of M objects [M, P, H, W, 3]."""
    check_shape("asset", asset, tuple(objects.shape[1:]))
    return (objects.double() - asset.double()).square().mean(dim=(1, 2, 3, 4))


def nearest_object(asset: Tensor, objects: Tensor) -> Nearest:
    """The nearest of M ≥ 1 objects; shapes as in :func:`distances`."""
    d = distances(asset, objects)
    index = int(d.argmin())
    return Nearest(index, float(d[index]))


def mean_pairwise(assets: Sequence[Tensor]) -> float:
    """Mean MSE over pairs of assets [P, H, W, 3]; NaN for fewer than two."""
    if len(assets) < 2:
        return float("nan")
    flat = torch.stack([asset.double().flatten() for asset in assets])
    rows, columns = torch.triu_indices(len(assets), len(assets), offset=1)
    return float((flat[rows] - flat[columns]).square().mean())


def distinct_objects(nearest: Sequence[Nearest], max_distance: float) -> int:
    """How many different objects are reached to within ``max_distance``."""
    return len({n.index for n in nearest if n.distance <= max_distance})


def uniform_distinct(objects: int, draws: int) -> float:
    """Expected number of distinct objects in ``draws`` uniform draws from ``objects`` ≥ 1: M (1 − (1 − 1/M)^n)."""
    return objects * (1 - (1 - 1 / objects) ** draws)


def bootstrap_interval(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Mean and 95 % percentile bootstrap interval of the values that are not NaN; deterministic. One value is its own interval."""
    found = estimate({str(n): value for n, value in enumerate(values)}, np.random.default_rng(seed), resamples)
    if found.mean is None:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    low, high = (found.mean if bound is None else bound for bound in (found.low, found.high))
    return Interval(found.mean, low, high, found.n)
