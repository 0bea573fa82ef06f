"""Connected components of splats in space: what pruning removes and metrics count as floaters.

Splats i and j are linked where |μ_i − μ_j| ≤ max(ℓ, r_i + r_j); components are those of this graph. Listing its edges is O(N²) where
splats are dense, and a graph of nearest neighbours alone falls apart at dense clumps, whose splats have no neighbour outside. So:

    1. components of the graph cut to the 16 nearest neighbours: nearly right, O(N log N);
    2. a missing link between two of them has an end outside the largest. These few *strays* look for all their links, which join
       components that 1. left apart. The result is exact.

Ball queries reach r_i plus the largest radius there is; a few giant splats would make them span everything, so the giants look from
their own side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GIANTS, CHUNK = 0.99, 256


def splat_components(points: np.ndarray, reach: np.ndarray, min_link: float) -> np.ndarray:
    """[N] labels 0…M−1 of the components of ``points`` [N, 3] with radii ``reach`` [N] ≥ 0 and ℓ = ``min_link``, all in world units;
    component 0 has the most points."""
    labels = connected_components(torch.from_numpy(points), torch.from_numpy(reach), min_link=min_link).numpy()
    if not labels.any():
        return labels
    pairs = _links_of_strays(points, reach, min_link, labels)
    return _largest_first(_joined(pairs[:, 0], pairs[:, 1], int(labels.max()) + 1)[labels])


def _links_of_strays(points: np.ndarray, reach: np.ndarray, min_link: float, labels: np.ndarray) -> np.ndarray:
    """[E, 2] pairs of labels that some link joins."""
    strays = np.nonzero(labels)[0]
    ordinary_reach = float(np.quantile(reach, GIANTS))
    giants, ordinary = np.nonzero(reach > ordinary_reach)[0], np.nonzero(reach <= ordinary_reach)[0]
    return np.concatenate(
        [
            _links(points, reach, min_link, labels, strays, ordinary),
            _links(points, reach, min_link, labels, giants, strays),
        ]
    )


def _links(points: np.ndarray, reach: np.ndarray, min_link: float, labels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[E, 2] distinct pairs of labels joined by a link from a point of ``left`` to one of ``right`` (indices)."""
    from scipy.spatial import KDTree

    found = [np.zeros((0, 2), dtype=np.int64)]
    if len(left) and len(right):
        tree, farthest = KDTree(points[right]), float(reach[right].max())
        for start in range(0, len(left), CHUNK):
            some = left[start : start + CHUNK]
            lists = tree.query_ball_point(points[some], np.maximum(min_link, reach[some] + farthest))
            i = np.repeat(some, [len(near) for near in lists])
            j = right[np.concatenate([np.asarray(near, dtype=np.int64) for near in lists])]
            linked = np.linalg.norm(points[i] - points[j], axis=1) <= np.maximum(min_link, reach[i] + reach[j])
            found.append(np.unique(np.stack([labels[i[linked]], labels[j[linked]]], axis=1), axis=0))
    return np.concatenate(found)


def _joined(rows: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    """[count] labels of ``count`` nodes after joining each of ``rows`` [E] with its partner in ``columns`` [E]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components as components_of

    graph = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
    return components_of(graph, directed=False)[1]


def _largest_first(labels: np.ndarray) -> np.ndarray:
    """The same partition with labels 0…M−1 by falling number of members, int64."""
    order = np.argsort(-np.bincount(labels), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[labels]


def connected_components(points: Tensor, reach: Tensor, *, min_link: float = 0.0, neighbours: int = 16) -> Tensor:
    """[N] int64 labels 0…M−1 of the components of ``points`` [N, 3], largest component (most points) first.

    i and j are linked where |p_i − p_j| ≤ max(min_link, r_i + r_j), with ``reach`` r [N] ≥ 0 in world units, and either is among
    the other's nearest ``neighbours``: the cap keeps the graph at O(N) edges where splats are dense.
    """
    from scipy.spatial import KDTree

    count = len(points)
    if count < 2:
        return torch.zeros(count, dtype=torch.int64, device=points.device)
    xyz, radius = points.detach().cpu().double().numpy(), reach.detach().cpu().double().numpy()
    k = min(neighbours + 1, count)
    distances, indices = (np.asarray(found) for found in KDTree(xyz).query(xyz, k=k))
    linked = distances <= np.maximum(min_link, radius[:, None] + radius[indices])
    rows, columns = np.nonzero(linked)
    return torch.from_numpy(_largest_first(_joined(rows, indices[rows, columns], count))).to(points.device)


def mean_squared_neighbour_distance(points: Tensor, neighbours: int = 3) -> Tensor:
    """[N] mean squared distance from each of ``points`` [N, 3] to its nearest ``neighbours`` (fewer if there are fewer points).

    A single point has no neighbour: 0. Result has the dtype and device of ``points``.
    """
    from scipy.spatial import KDTree

    k = min(neighbours, len(points) - 1)
    if k < 1:
        return points.new_zeros(len(points))
    xyz = points.detach().cpu().double().numpy()
    distances = np.asarray(KDTree(xyz).query(xyz, k=k + 1)[0])  # the first neighbour is the point itself
    return torch.from_numpy((distances[:, 1:] ** 2).mean(axis=1)).to(points)
