"""How alike assets and their views are to a network: diversity, consistency over the orbit, a Janus check, and distinct modes.

Letters: f_av ∈ R^D features of view v of asset a, f̂ = f/|f|; V evenly spaced views, view v at azimuth 360° v/V. cos(f, g) = f̂ · ĝ.

diversity     mean over pairs of assets of 1 − cos, in [0, 2]. Per asset: of the mean directions f̄_a = mean_v f̂_av, which know nothing
              of which view shows what. Per view: of the views at equal azimuth, averaged, which also counts a turned copy as another asset.
S(k)          turn similarity, mean_v cos(f_v, f_{v+k mod V}): how much an asset turned by 360° k/V looks like itself. S(k) = S(V − k).
consistency   S(1): neighbouring views show the same thing.
Janus         J = cos(front, back) − ½ [cos(front, left) + cos(front, right)]. Seen from the front, a sound asset looks less and less like
              itself as it turns, so J ≤ 0 (0 for a body of revolution). A second face at the back looks like the front again while the
              sides do not: J > 0. S peaks at the angle of the repetition, whatever it is (V/3 for three faces). Symmetric things (a
              table, a bridge) repeat as well: compare J between methods on the same prompts, not with a threshold.
modes         a mode is what the majority of an asset's views is classified as: colour, design, or both together. Coverage is the number
              of different modes among the seeds of a prompt; the entropy H = −Σ_m q_m log q_m is in nats, q_m the share of the seeds
              with mode m, H ≤ log(seeds).

The figures depend on the network: its name belongs beside them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import InputError
from fsd_gs.metrics.image_sets import check_features

Mode = tuple[int, ...]


def cosine_distances(features: Tensor) -> Tensor:
    """[A, D] → [A, A] of 1 − cos, in [0, 2], zeros on the diagonal; float64."""
    unit = _directions(check_features("features", features, ("A", "D")))
    distances = (1 - unit @ unit.T).clamp(0, 2)
    return distances.fill_diagonal_(0)


def cosine_diversity(features: Tensor, per: Literal["asset", "view"] = "asset") -> float:
    """Mean pairwise 1 − cos of A ≥ 2 assets, in [0, 2]. features: [A, V, D], for ``per="view"`` with the same V cameras for all."""
    features = check_features("features", features, ("A", "V", "D"))
    if len(features) < 2 or features.shape[1] < 1:
        raise InputError(
            f"features: diversity expects at least two assets of at least one view, got {len(features)} of {features.shape[1]}"
        )
    if per == "asset":
        return mean_pairwise(cosine_distances(asset_features(features)))
    if per == "view":
        return mean_pairwise(torch.stack([cosine_distances(view) for view in features.unbind(1)]).mean(0))
    raise InputError(f"per: expected 'asset' or 'view', got '{per}'")


def asset_features(features: Tensor) -> Tensor:
    """[A, V, D] → [A, D] mean directions over the views: every view counts the same, however long its feature vector."""
    return _directions(check_features("features", features, ("A", "V", "D"))).mean(1)


def mean_pairwise(distances: Tensor) -> float:
    """Mean over the pairs a < b of a symmetric [A, A], A ≥ 2."""
    check_shape("distances", distances, (len(distances), len(distances)))
    if len(distances) < 2:
        raise InputError(f"distances: a mean over pairs expects at least two assets, got {len(distances)}")
    rows, columns = torch.triu_indices(len(distances), len(distances), offset=1)
    return float(distances[rows, columns].mean())


def turn_similarity(features: Tensor) -> Tensor:
    """S [V] of one asset's views [V, D] in orbit order: S[k] = mean_v cos(f_v, f_{v+k}), in [−1, 1]; float64."""
    unit = _directions(check_features("features", features, ("V", "D")))
    return torch.stack([(unit * unit.roll(-k, 0)).sum(1).mean() for k in range(len(unit))])


def view_consistency(features: Tensor) -> float:
    """Mean cosine S(1) of neighbouring views, the last beside the first; views [V, D] in orbit order, V ≥ 2."""
    _check_views(features, least=2, multiple=1)
    return float(turn_similarity(features)[1])


@dataclass(frozen=True)
class JanusReport:
    """Whether the back looks like the front.

    Attributes:
        front_back: cos(front, back).
        front_side: mean of cos(front, left) and cos(front, right); score: their difference J, in [−2, 2].
    """

    front_back: float
    front_side: float

    @property
    def score(self) -> float:
        return self.front_back - self.front_side


def janus_check(features: Tensor, front: int = 0) -> JanusReport:
    """Whether the back shows the front once more.

    Args:
        features: [V, D] in orbit order, V a multiple of 4.
        front: index of the front view.
    """
    _check_views(features, least=4, multiple=4)
    unit = _directions(check_features("features", features, ("V", "D"))).roll(-front, 0)
    quarter = len(unit) // 4
    left, back, right = (float(unit[0] @ unit[turn * quarter]) for turn in (1, 2, 3))
    return JanusReport(front_back=back, front_side=(left + right) / 2)


@dataclass(frozen=True)
class Vote:
    """What the views of one asset agree on.

    Attributes:
        mode: the winning labels, one for each attribute.
        share: of the views that agree with all of them, in (0, 1].
    """

    mode: Mode
    share: float


def majority_vote(labels: Tensor) -> Vote:
    """The commonest label of V ≥ 1 views, [V] or [V, L] for L attributes, each voted on its own; a tie goes to the smallest label."""
    columns = labels[:, None] if labels.ndim == 1 else labels
    check_shape("labels", columns, ("V", "L"))
    if columns.is_floating_point() or columns.numel() == 0:
        raise InputError(f"labels: expected whole numbers for at least one view, got {list(labels.shape)} of {labels.dtype}; use argmax")
    winners = torch.stack([column.mode().values for column in columns.cpu().unbind(1)])  # mode(): the smallest of the commonest values
    agreeing = (columns.cpu() == winners).all(1)
    return Vote(tuple(int(winner) for winner in winners), float(agreeing.double().mean()))


@dataclass(frozen=True)
class ModeCoverage:
    """Which modes the seeds reach.

    Attributes:
        votes: seed → its vote.
    """

    votes: Mapping[int, Vote]

    @property
    def seeds(self) -> int:
        return len(self.votes)

    @property
    def modes(self) -> int:
        """Number of distinct modes, 1 to ``seeds``."""
        return len({vote.mode for vote in self.votes.values()})

    @property
    def entropy(self) -> float:
        """Of the seeds' modes, in nats: 0 if all are alike, log(seeds) if all differ."""
        counts = Counter(vote.mode for vote in self.votes.values())
        return math.log(self.seeds) - sum(n * math.log(n) for n in counts.values()) / self.seeds

    @property
    def agreement(self) -> float:
        """Mean share of the views that agree with their asset's mode: near 1/labels, the modes mean nothing."""
        return sum(vote.share for vote in self.votes.values()) / self.seeds


def mode_coverage(labels: Mapping[int, Tensor]) -> ModeCoverage:
    """Distinct modes among the assets of one prompt.

    Args:
        labels: seed → [V] or [V, L] whole numbers, the same L for all.
    """
    if not labels:
        raise InputError("labels: mode coverage expects at least one seed, got none")
    votes = {seed: majority_vote(values) for seed, values in labels.items()}
    widths = sorted({len(vote.mode) for vote in votes.values()})
    if len(widths) > 1:
        raise InputError(f"labels: expected the same number of attributes for every seed, got {widths}")
    return ModeCoverage(votes)


def _directions(features: Tensor) -> Tensor:
    lengths = features.norm(dim=-1, keepdim=True)
    if (lengths == 0).any():
        raise InputError("features: expected vectors of non-zero length (a zero vector has no direction), got one of length 0")
    return features / lengths


def _check_views(features: Tensor, least: int, multiple: int) -> None:
    views = len(features) if features.ndim else 0
    if views < least or views % multiple:
        number = f"a multiple of {multiple}" if multiple > 1 else f"at least {least}"
        raise InputError(f"features: expected {number} evenly spaced views, got {views}")


def silhouette_iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two silhouettes, alpha ≥ 0.5 in the same views [V, H, W, 1]; 1 where both are empty."""
    first, second = a >= 0.5, b >= 0.5
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0
