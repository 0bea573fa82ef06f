"""Connected components of splats: against all pairs, and in the cases where nearest neighbours alone go wrong."""

import numpy as np
import pytest
import torch

from fsd_gs.core.points import components_of_nearest
from fsd_gs.core.types import Gaussians
from fsd_gs.metrics.geometry import GeometrySettings, splat_components, splat_statistics


def splats(means, sigma: float | torch.Tensor = 0.02, opacity: float | torch.Tensor = 0.9):
    n = len(means)
    scales = torch.as_tensor(sigma, dtype=torch.float32).expand(n, 3)
    opacities = torch.as_tensor(opacity, dtype=torch.float32).expand(n)
    return Gaussians(torch.as_tensor(means).float(), torch.tensor([1.0, 0, 0, 0]).repeat(n, 1), scales, opacities, torch.zeros(n, 1, 3))


def on_sphere(count, radius, centre=(0.0, 0.0, 0.0), seed=0):
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return radius * points / np.linalg.norm(points, axis=1, keepdims=True) + np.asarray(centre)


def joined(*parts):
    return Gaussians(*(torch.cat([getattr(p, n) for p in parts]) for n in ("means", "quats", "scales", "opacities", "sh")))


def by_all_pairs(points, reach, min_link):
    """Labels by relaxation over the full matrix of links."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    linked = distance <= np.maximum(min_link, reach[:, None] + reach[None])
    labels = np.arange(len(points))
    while True:
        lower = np.where(linked, labels[None], len(points)).min(axis=1)
        if (lower == labels).all():
            return labels
        labels = lower


def same_partition(left, right):
    return (left[:, None] == left[None]).astype(int).tolist() == (right[:, None] == right[None]).astype(int).tolist()


@pytest.mark.parametrize("seed", range(12))
def test_components_are_those_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    clumps = [rng.normal(rng.uniform(-1, 1, 3), 10 ** rng.uniform(-3, -0.7), (rng.integers(1, 60), 3)) for _ in range(8)]
    points = np.concatenate(clumps)
    reach = 10 ** rng.uniform(-3, -0.9, len(points))
    found = splat_components(points, reach, 0.03)
    assert same_partition(found, by_all_pairs(points, reach, 0.03))
    sizes = np.bincount(found)
    assert sizes[0] == sizes.max()


def test_dense_clumps_side_by_side_are_one_component():
    """Every splat has its 16 nearest neighbours in its own clump."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 1e-4, (50, 3)) + np.array([x, 0.0, 0.0]) for x in (0.0, 0.02, 0.04, 0.5)])
    reach = np.full(len(points), 0.02)
    nearest_only = components_of_nearest(points, reach, 0.03)
    assert nearest_only.max() == 3  # why splat_components exists
    assert np.bincount(splat_components(points, reach, 0.03)).tolist() == [150, 50]


def test_a_giant_splat_links_what_it_covers():
    points = np.concatenate([on_sphere(300, 0.1, (x, 0, 0)) for x in (-0.6, 0.0, 0.6)] + [np.array([[0.0, 0.0, 0.3]])])
    reach = np.full(len(points), 0.02)
    assert splat_components(points, reach, 0.03).max() == 3
    reach[-1] = 0.7
    assert splat_components(points, reach, 0.03).max() == 0


def test_two_spheres_are_one_floater_of_known_mass():
    asset = joined(splats(on_sphere(900, 0.3, (0, 0, 0))), splats(on_sphere(300, 0.15, (0, 0, 0.8), seed=1)))
    statistics = splat_statistics(asset)
    assert (statistics.components, statistics.floater_count) == (2, 1)
    assert statistics.floaters == pytest.approx(0.25, rel=1e-5)


def test_what_nobody_sees_neither_links_nor_floats():
    ball, moon = splats(on_sphere(900, 0.3)), splats(on_sphere(100, 0.1, (0, 0, 0.8), seed=1))
    bridge = splats(np.stack([np.zeros(20), np.zeros(20), np.linspace(0.3, 0.7, 20)], axis=1), opacity=0.01)
    assert splat_statistics(joined(ball, moon, bridge)).components == 2
    assert splat_statistics(joined(ball, moon, bridge), GeometrySettings(link_opacity=0.0)).components == 1
    assert splat_statistics(joined(ball, splats(np.array([[0.0, 0, 0.9]]), opacity=0.01))).floater_count == 0
    assert splat_statistics(splats(on_sphere(50, 0.3), opacity=0.01)).components == 0


def test_shape_statistics_of_known_splats():
    shapes = torch.tensor([[0.02, 0.02, 0.02], [0.04, 0.04, 0.01], [0.001, 0.3, 0.001], [0.1, 0.02, 0.02]])
    statistics = splat_statistics(splats(np.zeros((4, 3)), sigma=shapes, opacity=torch.tensor([0.01, 0.5, 0.9, 0.99])))
    assert statistics.transparent == 0.25
    assert statistics.huge == 0.25  # 0.3
    assert statistics.needles == 0.25  # 300 : 1 : 1; the disk and the 5 : 1 spindle are not
    assert statistics.opacity_mean == pytest.approx(0.6)
    assert statistics.anisotropy_percentiles[-1] == pytest.approx(300, rel=1e-5)
    assert statistics.anisotropy_percentiles[1] == pytest.approx(4.5, rel=1e-5)  # of 1, 4, 5, 300
