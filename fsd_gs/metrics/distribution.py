"""Sets of images as distributions: Fréchet distance (FID), CROSS-FID and Inception Score, from features and probabilities.

Letters: X [N, D] features of a set, μ their mean, Σ their covariance (divided by N − 1), p_i [K] class probabilities of image i.

    FID    d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁ Σ₂)^½                Heusel et al. 2017, arXiv:1706.08500
    IS     exp( 1/N Σ_i KL(p_i ‖ p̄) ),  p̄ the mean of the p_i; in [1, min(N, K)]      Salimans et al. 2016, arXiv:1606.03498
    CROSS-FID   FID between the views of one half of a prompt's seeds and those of the other; high is diverse.  arXiv:2405.10988

The last trace without a matrix square root: with any factors Σ₁ = AᵀA, Σ₂ = BᵀB the eigenvalues of Σ₁Σ₂ = AᵀA BᵀB are those of
(A Bᵀ)(A Bᵀ)ᵀ and zeros, so tr (Σ₁ Σ₂)^½ = ‖A Bᵀ‖_*, the sum of the singular values. That is exact for singular Σ, which 48 views with
2048 features always have, needs no ε on the diagonal (which would change the figure), and with A = (X₁ − μ₁)/√(N₁ − 1) costs a 48 × 48
decomposition instead of one of 2048 × 2048.

Everything is float64 on the CPU. FID is biased upwards by roughly 1/N: only figures of equal N (and equal network) may be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fsd_gs.errors import InputError
from fsd_gs.metrics.image_sets import check_features

Halves = tuple[Sequence[int], Sequence[int]]
PAPER_HALVES: Halves = ((0, 1), (2, 3))
_ROUNDING = 1e-5  # of the largest eigenvalue: covariances accumulated in float32 are that far from symmetric and semi-definite


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Squared 2-Wasserstein distance d² of two Gaussians. means [D]; covs [D, D] symmetric, positive semi-definite, singular or not."""
    mean1 = check_features("mean1", mean1, ("D",))
    mean2 = check_features("mean2", mean2, (len(mean1),))
    root1, root2 = _root("cov1", cov1, len(mean1)), _root("cov2", cov2, len(mean1))
    return _distance(mean1, root1, mean2, root2)


def fid(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance of two sets of features [N, D] and [M, D], N, M ≥ 2, fitted with covariances divided by N − 1 and M − 1."""
    features_a = check_features("features_a", features_a, ("N", "D"))
    features_b = check_features("features_b", features_b, ("M", features_a.shape[1]))
    for name, features in (("features_a", features_a), ("features_b", features_b)):
        if len(features) < 2:
            raise InputError(f"{name}: expected at least 2 images (a covariance needs them), got {len(features)}")
    return _distance(*_fit(features_a), *_fit(features_b))


def cross_fid(features: Mapping[int, Tensor], halves: Halves = PAPER_HALVES) -> float:
    """FID between the pooled views of two halves of a prompt's seeds; the paper's protocol is 24 views each of seeds {0, 1} and {2, 3}.

    Args:
        features: seed → [V, D], the same V and D for all.
        halves: the seeds on either side: equally many, none twice, none left out. Raises InputError on fewer than two seeds, other halves,
            unequal view counts or feature sizes.
    """
    _check_halves(features, halves)
    views, size = features[halves[0][0]].shape if features[halves[0][0]].ndim == 2 else ("V", "D")
    for seed, values in features.items():
        if values.ndim == 2 and values.shape[0] != views:
            raise InputError(f"features of seed {seed}: expected {views} views as seed {halves[0][0]} has, got {values.shape[0]}")
        check_features(f"features of seed {seed}", values, (views, size))
    first, second = (torch.cat([features[seed] for seed in half]) for half in halves)
    return fid(first, second)


def halves_of(seeds: Sequence[int]) -> Halves:
    """The lower half of the seeds against the upper one: {0, 1} and {2, 3} of four. InputError on an odd count, repeats or none."""
    ordered = sorted(set(seeds))
    if len(ordered) != len(seeds) or len(ordered) < 2 or len(ordered) % 2:
        raise InputError(f"seeds: expected an even number of different seeds, at least 2, got {list(seeds)}")
    middle = len(ordered) // 2
    return tuple(ordered[:middle]), tuple(ordered[middle:])


def inception_score(probabilities: Tensor, splits: int = 1) -> float:
    """Mean Inception Score of ``splits`` consecutive parts of the set; the paper's protocol is one part: all views of a prompt.

    probabilities: [N, K], rows non-negative with sum 1. The order of the images matters for splits > 1: nothing is shuffled here.
    """
    return float(inception_scores(probabilities, splits).mean())


def inception_scores(probabilities: Tensor, splits: int = 1) -> Tensor:
    """[splits] the score of each part (Salimans et al. report mean and standard deviation over 10)."""
    probabilities = _check_probabilities(probabilities)
    count = len(probabilities)
    if not 1 <= splits <= count:
        raise InputError(f"splits: expected 1 to {count} (the number of images), got {splits}")
    parts = [probabilities[i * count // splits : (i + 1) * count // splits] for i in range(splits)]
    return torch.stack([_score(_negative_entropy(part).mean(), part.mean(0)) for part in parts])


class FeatureStatistics:
    """Mean and covariance of a stream of features without keeping them (Chan, Golub & LeVeque 1979).

    Σ (x − μ)(x − μ)ᵀ is carried about the running mean, so that features far from zero lose no digits, as Σ x xᵀ − N μ μᵀ would.
    """

    def __init__(self, size: int) -> None:
        """size: D."""
        self.count = 0
        self._mean = torch.zeros(size, dtype=torch.float64)
        self._scatter = torch.zeros(size, size, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add a batch [B, D]."""
        features = check_features("features", features, ("B", len(self._mean)))
        if len(features):
            mean = features.mean(0)
            self._add(len(features), mean, (features - mean).T @ (features - mean))

    def merge(self, other: FeatureStatistics) -> None:
        """Add everything another accumulator of the same size has seen."""
        if len(other._mean) != len(self._mean):
            raise InputError(f"other: expected statistics of {len(self._mean)} features, got {len(other._mean)}")
        if other.count:
            self._add(other.count, other._mean, other._scatter)

    def compute(self) -> tuple[Tensor, Tensor]:
        """(mean [D], covariance [D, D]), float64; InputError before the second image."""
        if self.count < 2:
            raise InputError(f"features: expected at least 2 images (a covariance needs them), got {self.count}")
        return self._mean.clone(), self._scatter / (self.count - 1)

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        shift = mean - self._mean
        self._scatter = self._scatter + scatter + torch.outer(shift, shift) * (self.count * count / total)
        self._mean = self._mean + shift * (count / total)
        self.count = total


class ScoreStatistics:
    """The Inception Score of a stream of probabilities, one split: log IS = mean_i Σ_k p log p − Σ_k p̄ log p̄."""

    def __init__(self, classes: int) -> None:
        """classes: K."""
        self.count = 0
        self._sum = torch.zeros(classes, dtype=torch.float64)
        self._negative_entropy = torch.zeros((), dtype=torch.float64)

    def update(self, probabilities: Tensor) -> None:
        """Add a batch [B, K]."""
        probabilities = _check_probabilities(probabilities, len(self._sum))
        self.count += len(probabilities)
        self._sum = self._sum + probabilities.sum(0)
        self._negative_entropy = self._negative_entropy + _negative_entropy(probabilities).sum()

    def compute(self) -> float:
        """The score of all images so far; InputError before the first."""
        if self.count == 0:
            raise InputError("probabilities: expected at least one image, got none")
        return float(_score(self._negative_entropy / self.count, self._sum / self.count))


def _distance(mean1: Tensor, root1: Tensor, mean2: Tensor, root2: Tensor) -> float:
    """d² from means [D] and factors A [·, D], B [·, D] of the covariances."""
    cross = torch.linalg.svdvals(root1 @ root2.T).sum()  # tr (Σ₁ Σ₂)^½
    distance = (mean1 - mean2).square().sum() + root1.square().sum() + root2.square().sum() - 2 * cross
    return float(distance.clamp_min(0))  # d² ≥ 0; rounding leaves −1e-13 of the traces for equal sets


def _fit(features: Tensor) -> tuple[Tensor, Tensor]:
    """(μ [D], A [min(N, D), D] with AᵀA = Σ) of features [N, D]."""
    mean = features.mean(0)
    root = (features - mean) / (len(features) - 1) ** 0.5
    if len(root) > root.shape[1]:
        root = torch.linalg.qr(root, mode="r").R
    return mean, root


def _root(name: str, cov: Tensor, size: int) -> Tensor:
    """A [D, D] with AᵀA = cov; InputError unless cov is symmetric and positive semi-definite up to rounding."""
    cov = check_features(name, cov, (size, size))
    tolerance = _ROUNDING * cov.abs().max()
    if (cov - cov.T).abs().max() > tolerance:
        raise InputError(f"{name}: expected a symmetric matrix, got entries that differ by {(cov - cov.T).abs().max().item():g}")
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)  # ascending
    if values[0] < -tolerance:
        raise InputError(f"{name}: expected a covariance (no negative eigenvalues), got {values[0].item():g}")
    # Below the numerical rank there is only rounding, which the square root would lift from 1e-16 to 1e-8 of the largest.
    floor = size * torch.finfo(values.dtype).eps * values[-1]
    return torch.where(values > floor, values, 0).sqrt()[:, None] * vectors.T


def _check_halves(features: Mapping[int, Tensor], halves: Halves) -> None:
    if len(features) < 2:
        raise InputError(f"features: CROSS-FID expects at least two seeds of a prompt, got {len(features)}")
    first, second = halves
    wanted = [*first, *second]
    if len(first) != len(second) or not first or len(set(wanted)) != len(wanted):
        raise InputError(f"halves: expected two sides of equally many different seeds, got {list(first)} and {list(second)}")
    missing, unused = sorted(set(wanted) - set(features)), sorted(set(features) - set(wanted))
    if missing or unused:
        raise InputError(
            f"halves: expected every seed of the set on one side, got {list(first)} against {list(second)} for seeds {sorted(features)}"
            + (f"; missing: {missing}" if missing else "")
            + (f"; left out: {unused}" if unused else "")
        )


def _check_probabilities(probabilities: Tensor, classes: int | str = "K") -> Tensor:
    probabilities = check_features("probabilities", probabilities, ("N", classes))
    if probabilities.numel() == 0:
        raise InputError(f"probabilities: expected at least one image and one class, got {list(probabilities.shape)}")
    if probabilities.min() < 0 or (probabilities.sum(1) - 1).abs().max() > 1e-3:
        raise InputError("probabilities: expected non-negative rows with sum 1, got others; are these logits? (use softmax)")
    return probabilities / probabilities.sum(1, keepdim=True)


def _negative_entropy(probabilities: Tensor) -> Tensor:
    """Σ_k p log p along the last axis, with 0 log 0 = 0."""
    return torch.special.xlogy(probabilities, probabilities).sum(-1)


def _score(mean_negative_entropy: Tensor, mean_probabilities: Tensor) -> Tensor:
    """exp of the mean KL divergence from p̄; at least 1, which rounding would miss for equal rows."""
    return (mean_negative_entropy - _negative_entropy(mean_probabilities)).exp().clamp_min(1)
