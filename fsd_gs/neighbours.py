"""Distances and components of point clouds, shared by splats (initialisation, pruning) and metrics (floaters).

Both run on the CPU through scipy's kd-tree: O(N log N), a few milliseconds for the 10³–10⁵ splats of an asset.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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


def connected_components(points: Tensor, reach: Tensor, *, min_link: float = 0.0, neighbours: int = 16) -> Tensor:
    """[N] int64 labels 0…M−1 of the components of ``points`` [N, 3], largest component (most points) first.

    i and j are linked where |p_i − p_j| ≤ max(min_link, r_i + r_j), with ``reach`` r [N] ≥ 0 in world units, and either is among
    the other's nearest ``neighbours``: the cap keeps the graph at O(N) edges where splats are dense.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components as components_of
    from scipy.spatial import KDTree

    count = len(points)
    if count < 2:
        return torch.zeros(count, dtype=torch.int64, device=points.device)
    xyz, radius = points.detach().cpu().double().numpy(), reach.detach().cpu().double().numpy()
    k = min(neighbours + 1, count)
    distances, indices = (np.asarray(found) for found in KDTree(xyz).query(xyz, k=k))
    linked = distances <= np.maximum(min_link, radius[:, None] + radius[indices])
    rows, columns = np.nonzero(linked)
    graph = coo_matrix((np.ones(len(rows), dtype=bool), (rows, indices[rows, columns])), shape=(count, count))
    _, labels = components_of(graph, directed=False)
    order = np.argsort(-np.bincount(labels), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return torch.from_numpy(rank[labels].astype(np.int64)).to(points.device)
