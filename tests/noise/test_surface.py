"""Surface noise: white in every view, and painted on the object: it follows points of a ball from view to view."""

from __future__ import annotations

import math

import pytest
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.noise import ConstantNoise, SurfaceNoise
from fsd_gs.noise.surface import SeenView, claim_texels, paint_view_numba, paint_view_torch, texel_of
from tests.noise.test_noise import ball

SHAPE = (4, 16, 16)
RADIUS = 0.8


def matched_cells(cameras: Cameras, alpha, depth, first: int, second: int, cells: int = 16):
    """Flat cell indices in two views that see the same surface point at the centre of the first's cell."""
    size = alpha.shape[1]
    centre = ((torch.arange(cells) + 0.5) * size / cells).long()
    rows, columns = torch.meshgrid(centre, centre, indexing="ij")
    z = depth[first, rows, columns, 0]
    pixels = torch.stack([columns + 0.5, rows + 0.5, torch.ones_like(z)], -1) * torch.tensor(
        [cameras.width / size, cameras.width / size, 1]
    )
    points = (pixels @ torch.linalg.inv(cameras.Ks[first]).T) * z[..., None]
    world = torch.cat([points, torch.ones_like(z)[..., None]], -1) @ cameras.world_from_camera[first].T
    seen = (world @ cameras.viewmats[second].T)[..., :3]
    projected = seen @ cameras.Ks[second].T
    uv = projected[..., :2] / projected[..., 2:] / cameras.width
    inside = (alpha[first, rows, columns, 0] > 0.9) & ((uv > 0) & (uv < 1)).all(-1)
    at = (uv.clamp(0, 0.9999) * size).long()
    visible = inside & ((depth[second, at[..., 1], at[..., 0], 0] - seen[..., 2]).abs() < 0.03)
    cell = (uv[..., 1] * cells).long() * cells + (uv[..., 0] * cells).long()
    here = torch.arange(cells * cells).view(cells, cells)
    return here[visible], cell[visible]


def agreement(make, cameras, alpha, depth, first, second, seeds=12):
    """Correlation of the noise at the same surface points of two views."""
    a, b = matched_cells(cameras, alpha, depth, first, second)
    assert len(a) > 25
    pairs = []
    for seed in range(seeds):
        noise = make(seed)(cameras, alpha, depth).flatten(2)
        pairs.append(torch.stack([noise[first][:, a].flatten(), noise[second][:, b].flatten()]))
    return torch.corrcoef(torch.cat(pairs, 1))[0, 1].item()


def test_noise_follows_the_surface_of_a_ball():
    """Cells that see the same point share the texels in their overlap: (3/4)² on average when only the cell grid is offset, less where
    perspective stretches one of the two; the same patch on the screen for every view shares nothing there."""
    cameras = orbit_cameras([0.0, 12.0, 35.0, 20.0], [10.0, 10.0, 10.0, 40.0], width=96)
    alpha, depth = ball(cameras, RADIUS, 96)
    for other, least in ((1, 0.45), (2, 0.35), (3, 0.35)):
        assert agreement(lambda seed: SurfaceNoise(SHAPE, seed=seed), cameras, alpha, depth, 0, other) > least
        assert abs(agreement(lambda seed: ConstantNoise(SHAPE, seed=seed), cameras, alpha, depth, 0, other)) < 0.15


def fibonacci_ball(count: int, radius: float) -> Gaussians:
    """Opaque flat splats that cover a ball."""
    i = torch.arange(count) + 0.5
    z, azimuth = 1 - 2 * i / count, i * math.pi * (3 - 5**0.5)
    ring = (1 - z**2).sqrt()
    means = radius * torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), z], 1)
    scale = 0.7 * radius * (4 * math.pi / count) ** 0.5
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(count, 1)
    return Gaussians(means, quats, torch.full((count, 3), scale), torch.full((count,), 0.95), torch.zeros(count, 1, 3))


def test_noise_follows_splats_too():
    from fsd_gs.render.base import make_rasterizer

    cameras = orbit_cameras([0.0, 12.0, 30.0], 10.0, width=64)
    render = make_rasterizer("cpu")(fibonacci_ball(800, RADIUS), cameras, depth=True)
    assert render.depth is not None
    for other in (1, 2):
        assert agreement(lambda seed: SurfaceNoise(SHAPE, seed=seed), cameras, render.alpha, render.depth, 0, other) > 0.3

    values = torch.stack([SurfaceNoise(SHAPE, seed=seed)(cameras, render.alpha, render.depth) for seed in range(150)]).double()
    assert values.var().item() == pytest.approx(1, abs=0.02)
    for view in range(3):
        right, down = (values[:, view, :, :, 1:] * values[:, view, :, :, :-1]), (values[:, view, :, 1:] * values[:, view, :, :-1])
        assert abs(right.mean()) < 0.015
        assert abs(down.mean()) < 0.015


def test_opposite_views_share_nothing_on_the_ball():
    cameras = orbit_cameras([0.0, 180.0], 0.0, width=64)
    alpha, depth = ball(cameras, 0.5, 64)
    on_ball = torch.nn.functional.adaptive_avg_pool2d(alpha[..., 0], 16)[0] == 1
    values = torch.stack([SurfaceNoise(SHAPE, seed=s)(cameras, alpha, depth)[:, :, on_ball] for s in range(40)])
    assert abs((values[:, 0] * values[:, 1]).mean()) < 0.03


def test_empty_view_shows_the_background_patch():
    noise = SurfaceNoise(SHAPE)
    cameras = orbit_cameras([0.0, 90.0], width=32)
    a, b = noise(cameras, torch.full((2, 32, 32, 1), 0.05), torch.full((2, 32, 32, 1), 2.0))
    assert torch.equal(a, b)
    assert a.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("pixels", [16, 37, 96])
@pytest.mark.parametrize("cells", [(8, 8), (5, 12)])
def test_kernel_equals_its_readable_twin(pixels, cells):
    """On a ball, on torn depth with holes, and close to the origin, where a texel has many samples in many cells."""
    texture = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    cameras = orbit_cameras([0.0, 77.0, 190.0], [0.0, 40.0, -20.0], width=64)
    smooth = ball(cameras, RADIUS, pixels)
    generator = torch.Generator().manual_seed(1)
    torn = tuple(torch.rand(3, pixels, pixels, 1, generator=generator) * scale for scale in (0.3, 4.0))
    centred = (torch.ones(3, pixels, pixels, 1), torch.full((3, pixels, pixels, 1), 2.2))
    for alpha, depth in (smooth, torn, centred):
        for v in range(3):
            seen = SeenView.of(cameras[v], alpha[v, ..., 0], depth[v, ..., 0], 0.1, cells, 6)
            total, count = paint_view_numba(texture, seen)
            expected, expected_count = paint_view_torch(texture, seen)
            assert torch.equal(count, expected_count)
            assert count.sum() > 20
            torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)


def test_kernel_survives_what_is_no_depth():
    texture = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))
    camera = orbit_cameras([0.0], width=8)
    for bad in (float("nan"), float("inf"), -1.0, 0.0):
        depth = torch.full((8, 8), bad)
        total, count = paint_view_numba(texture, SeenView.of(camera, torch.ones(8, 8), depth, 0.1, (4, 4), 2))
        assert total.isfinite().all()
        if bad != float("inf"):
            assert count.sum() == 0


def test_one_texel_counts_in_one_cell():
    texels = torch.tensor([5, 5, 5, 7, 7, 2])
    cells = torch.tensor([1, 0, 1, 3, 2, 0])
    claimed = dict(zip(*(t.tolist() for t in claim_texels(texels, cells, 4)), strict=True))
    assert claimed == {5: 1, 7: 2, 2: 0}  # 5: two of three samples; 7: a tie, the lower cell
    empty = claim_texels(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 4)
    assert all(len(t) == 0 for t in empty)


def test_texels_have_equal_areas():
    points = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0)).double()
    counts = torch.bincount(texel_of(points, 8, 16), minlength=128).double()
    assert counts.mean() == 200_000 / 128
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 200  # χ² with 127 degrees of freedom: 127 ± 16
