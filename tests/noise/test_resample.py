"""White noise on other grids: still white, the same integrals, and the world map of a run whose latents change size."""

import pytest
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.noise import ConstantNoise, SurfaceNoise, WorldMapNoise
from fsd_gs.noise.resample import resampled


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def to(noise: torch.Tensor, height: int, width: int, seed: int = 1) -> torch.Tensor:
    return resampled(noise, height, width, torch.Generator().manual_seed(seed))


def blocks(noise: torch.Tensor, factor: int) -> torch.Tensor:
    """Σ/√count over blocks of factor × factor."""
    return torch.nn.functional.avg_pool2d(noise[None], factor)[0] * factor


@pytest.mark.parametrize(("height", "width"), [(12, 18), (8, 12), (3, 7), (9, 4), (5, 12)])
def test_the_covariance_is_the_identity_on_any_grid(height, width):
    """Of all cells at once, from 20 000 draws: the entries of a covariance of white noise scatter by 1/√draws."""
    draws = 20_000
    fine = to(white(draws, 4, 6), height, width).flatten(1)
    covariance = fine.T @ fine / draws
    assert (covariance - torch.eye(height * width)).abs().max() < 6 / draws**0.5
    assert fine.mean(dim=0).abs().max() < 6 / draws**0.5


def test_finer_noise_has_the_integrals_of_the_coarser_one():
    coarse = white(4, 8, 16)
    torch.testing.assert_close(blocks(to(coarse, 24, 48), 3), coarse, atol=1e-5, rtol=0)
    torch.testing.assert_close(to(coarse, 4, 8), blocks(coarse, 2), atol=1e-5, rtol=0)  # and coarser ones draw nothing new


def test_there_and_back_again():
    noise = white(4, 7, 9)
    assert torch.equal(to(noise, 7, 9), noise)
    torch.testing.assert_close(to(to(noise, 14, 27), 7, 9, seed=5), noise, atol=1e-5, rtol=0)


def test_the_world_map_of_larger_latents_shows_every_camera_the_same_noise():
    """32² → 64² cells, as from MVDream to Stable Diffusion: blocks of the new patch are the old patch."""
    small, large = WorldMapNoise((4, 32, 32), seed=3), WorldMapNoise((4, 64, 64), seed=3)
    large.take_over(small.state_dict())
    cameras = orbit_cameras([0.0, 45.0, 180.0, 315.0], [0.0, 45.0, 90.0, -22.5], distance=2.0, width=8)  # at whole cells of the small map
    before, after = small(cameras), large(cameras)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(blocks(new, 2), old, atol=1e-5, rtol=0)
    transparent = torch.zeros(4, 8, 8, 1)
    torch.testing.assert_close(blocks(large(cameras, transparent)[0], 2), small(cameras, transparent)[0], atol=1e-5, rtol=0)
    assert abs(float(large.map.var()) - 1) < 0.02


def test_streams_go_on_and_further_channels_are_the_larger_ones_own():
    small = WorldMapNoise((4, 8, 8), beta=0.5, gamma=0.3, seed=3)
    camera = orbit_cameras([10.0], 0.0, distance=2.0, width=8)
    for _ in range(3):
        small(camera)
        small.step()
    large, own = WorldMapNoise((6, 8, 8), beta=0.5, gamma=0.3, seed=3), WorldMapNoise((6, 8, 8), seed=3)
    large.take_over(small.state_dict())
    assert torch.equal(large.map[:4], small.map)
    assert torch.equal(large.map[4:], own.map[4:])
    same = WorldMapNoise((4, 8, 8), beta=0.5, gamma=0.3, seed=3)
    same.take_over(small.state_dict())
    assert torch.equal(same(camera), small(camera))  # the random half, too


@pytest.mark.parametrize(("kind", "buffer"), [(ConstantNoise, "patch"), (SurfaceNoise, "texture")])
def test_every_kind_of_fixed_noise_goes_on(kind, buffer):
    small, large = kind((3, 8, 8), seed=1), kind((3, 16, 16), seed=1)
    large.take_over(small.state_dict())
    torch.testing.assert_close(blocks(large._buffers[buffer], 2), small._buffers[buffer], atol=1e-5, rtol=0)
