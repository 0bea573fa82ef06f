"""Splats as points in space: distances between neighbours, and connected components, which pruning and export remove and metrics count
as floaters.

Splats i and j are linked where |μ_i − μ_j| ≤ max(ℓ, r_i + r_j), their *reach* r_i a multiple of the largest standard deviation; components
are those of this graph. Listing its edges is O(N²) where splats are dense, and a graph of nearest neighbours alone falls apart at dense
clumps, whose splats have no neighbour outside. So:

    1. components of the graph cut to the 16 nearest neighbours: nearly right, O(N log N);
    2. a missing link between two of them has an end outside the largest. These few look for all their links, which join components
       that 1. left apart. The result is exact.

Ball queries reach r_i plus the largest radius there is; a few large splats would make them span everything, so the largest 1 % look
from their own side. Everything runs on the CPU through scipy's kd-tree.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.types import Gaussians

NEAREST = 16
LARGE = 0.99  # quantile of the reach from which a splat looks from its own side
CHUNK = 256  # ball queries at a time: their answers are lists


def splat_mass(gaussians: Gaussians) -> Tensor:
    """[N] opacity × area, o (σ1 σ2 σ3)^(2/3): about what a splat covers of a picture, over all directions."""
    return gaussians.opacities * gaussians.scales.prod(dim=1) ** (2 / 3)


def component_masses(gaussians: Gaussians, *, link: float = 0.0, reach: float = 2.0) -> tuple[Tensor, Tensor]:
    """Connected components of splats and what they weigh.

    Args:
        gaussians: N splats, all values finite.
        link: centres at most this far apart are linked, in world units.
        reach: so are those closer than ``reach`` (σ_i + σ_j), with the largest σ of each.

    Returns:
        Labels [N] int64, 0…M−1 by falling number of splats, and the sum of :func:`splat_mass` of each component [M] float64, on the
        splats' device.
    """
    means, scales = gaussians.means.detach(), gaussians.scales.detach()
    sizes = scales.amax(dim=1) if len(scales) else scales.new_zeros(0)
    found = splat_components(means.cpu().double().numpy(), reach * sizes.cpu().double().numpy(), link)
    labels = torch.from_numpy(found).to(means.device)
    mass = torch.zeros(int(labels.max()) + 1 if len(labels) else 0, dtype=torch.float64, device=means.device)
    return labels, mass.index_add_(0, labels, splat_mass(gaussians).detach().double())


def splat_components(points: np.ndarray, reach: np.ndarray, min_link: float) -> np.ndarray:
    """[N] int64 labels 0…M−1 of the components of ``points`` [N, 3] with radii ``reach`` [N] ≥ 0 and ℓ = ``min_link``, all in world units;
    component 0 has the most points."""
    labels = components_of_nearest(points, reach, min_link)
    if not labels.any():
        return labels
    pairs = _links_outside_largest(points, reach, min_link, labels)
    return _largest_first(_joined(pairs[:, 0], pairs[:, 1], int(labels.max()) + 1)[labels])


def components_of_nearest(points: np.ndarray, reach: np.ndarray, min_link: float, nearest: int = NEAREST) -> np.ndarray:
    """As :func:`splat_components`, with only those links where either point is among the other's ``nearest``: too many components."""
    from scipy.spatial import KDTree

    if len(points) < 2:
        return np.zeros(len(points), dtype=np.int64)
    distances, indices = (np.asarray(found) for found in KDTree(points).query(points, k=min(nearest + 1, len(points))))
    rows, columns = np.nonzero(distances <= np.maximum(min_link, reach[:, None] + reach[indices]))
    return _largest_first(_joined(rows, indices[rows, columns], len(points)))


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


def _links_outside_largest(points: np.ndarray, reach: np.ndarray, min_link: float, labels: np.ndarray) -> np.ndarray:
    """[E, 2] pairs of labels that some link with an end outside component 0 joins."""
    outside = np.nonzero(labels)[0]
    limit = float(np.quantile(reach, LARGE))
    large, ordinary = np.nonzero(reach > limit)[0], np.nonzero(reach <= limit)[0]
    return np.concatenate([_links(points, reach, min_link, labels, a, b) for a, b in ((outside, ordinary), (large, outside))])


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
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _largest_first(labels: np.ndarray) -> np.ndarray:
    """The same partition with labels 0…M−1 by falling number of members, int64."""
    order = np.argsort(-np.bincount(labels), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[labels]
