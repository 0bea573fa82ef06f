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

from fsd_gs.neighbours import connected_components

GIANTS, CHUNK = 0.99, 256


def splat_components(points: np.ndarray, reach: np.ndarray, min_link: float) -> np.ndarray:
    """[N] labels 0…M−1 of the components of ``points`` [N, 3] with radii ``reach`` [N] ≥ 0 and ℓ = ``min_link``, all in world units;
    component 0 has the most points."""
    labels = connected_components(torch.from_numpy(points), torch.from_numpy(reach), min_link=min_link).numpy()
    if not labels.any():
        return labels
    joined = _joined(labels, _links_of_strays(points, reach, min_link, labels))
    order = np.argsort(-np.bincount(joined), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[joined]


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


def _joined(labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Labels after joining ``pairs`` [E, 2] of them."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components as components_of

    count = int(labels.max()) + 1
    graph = coo_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return components_of(graph, directed=False)[1][labels].astype(np.int64)
