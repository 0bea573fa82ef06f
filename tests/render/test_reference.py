"""The reference twin against gsplat's own torch code, finite differences and known answers."""

from __future__ import annotations

import math

import pytest
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.render import reference


def scene(count, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return 0.4 * normal(count, 3), normal(count, 4), torch.exp(0.4 * normal(count, 3) - 2.5), normal(count).sigmoid()


def test_projection_equals_gsplats_torch_implementation():
    gsplat = pytest.importorskip("gsplat.cuda._torch_impl")
    means, quats, scales, _ = scene(80)
    means = means * 3  # also outside the image and behind the camera
    cameras = orbit_cameras([0, 120], [20, -40], width=31, height=44).to("cpu", torch.float64)
    covars, _ = gsplat._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    arguments = covars, cameras.viewmats, cameras.Ks, 31, 44
    radii, means2d, depths, conics, compensations = gsplat._fully_fused_projection(
        means, *arguments, eps2d=0.3, near_plane=0.01, calc_compensations=True
    )
    ours = reference.project(means, quats, scales, cameras.viewmats, cameras.Ks, 31, 44, 0.3)
    front = depths > 0.1
    assert 0 < front.sum() < front.numel()
    torch.testing.assert_close(ours["depths"], depths, rtol=1e-12, atol=1e-12)
    for name, theirs in (("means2d", means2d), ("conics", conics), ("compensations", compensations)):
        torch.testing.assert_close(ours[name][front], theirs[front], rtol=1e-9, atol=1e-9)
    # gsplat's torch radii do not know the opacity: with opacity 1 the extent is √(2 ln 255) = 3.329 instead of its 3.33
    finite = torch.ones(80, dtype=torch.bool)
    mine = reference.screen_radii(ours, torch.ones(2, 80, dtype=torch.float64), finite, 31, 44, 0.01, 1e10, 0.0)
    assert (mine - radii).abs().max() <= 1
    assert torch.equal((mine > 0).all(-1), (radii > 0).all(-1))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_equal_gsplats(degree):
    gsplat = pytest.importorskip("gsplat.cuda._torch_impl")
    generator = torch.Generator().manual_seed(degree)
    directions = torch.randn(1, 50, 3, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(50, 16, 3, generator=generator, dtype=torch.float64)
    theirs = gsplat._spherical_harmonics(degree, directions[0], coefficients)
    torch.testing.assert_close(reference.spherical_harmonics(degree, directions, coefficients)[0], theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("antialiased", [False, True])
def test_gradients_equal_finite_differences(antialiased, fast):
    """Every input, away from the thresholds (a gradient has no meaning on them). Fast: along a random direction."""
    means, quats, scales, opacities = scene(6, seed=2)
    # wide enough for α ≥ 1/255 all over the image, so that no threshold is crossed
    inputs = [0.2 * means, quats, scales.clamp(0.5, 0.8), 0.2 + 0.4 * opacities]
    generator = torch.Generator().manual_seed(5)
    inputs.append(0.2 * torch.randn(6, 9, 3, generator=generator, dtype=torch.float64))
    cameras = orbit_cameras([10, 200], 20, width=5, height=4).to("cpu", torch.float64)
    inputs += [cameras.viewmats.clone(), torch.rand(2, 3, generator=generator, dtype=torch.float64)]

    def draw(means, quats, scales, opacities, sh, viewmats, backgrounds):
        image, alpha, _ = reference.rasterization(
            *(means, quats, scales, opacities, sh, viewmats, cameras.Ks, 5, 4),
            sh_degree=2,
            backgrounds=backgrounds,
            render_mode="RGB+ED",
            rasterize_mode="antialiased" if antialiased else "classic",
        )
        return image, alpha

    leaves = [x.clone().requires_grad_() for x in inputs]
    leaves[5].data[:, 3] = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    assert torch.autograd.gradcheck(draw, leaves, eps=1e-6, atol=1e-6, rtol=1e-5, fast_mode=fast)


def one_splat(opacity=0.7, depth=2.0, scale=0.1):
    eye = torch.eye(4, dtype=torch.float64)[None]
    K = torch.tensor([[[50.0, 0, 4.5], [0, 50.0, 4.5], [0, 0, 1]]], dtype=torch.float64)
    means = torch.tensor([[0.0, 0, depth]], dtype=torch.float64)
    quats = torch.tensor([[2.0, 0, 0, 0]], dtype=torch.float64)  # any length
    return means, quats, torch.full((1, 3), scale, dtype=torch.float64), torch.tensor([opacity], dtype=torch.float64), eye, K


def test_one_splat_by_hand():
    """σ' = f s / z = 2.5 px, plus eps2d; the peak sits on the centre of pixel 4."""
    means, quats, scales, opacities, eye, K = one_splat()
    colors, background = torch.tensor([[0.2, 0.5, 1.0]], dtype=torch.float64), torch.tensor([[1.0, 0.0, 0.25]], dtype=torch.float64)
    image, alpha, info = reference.rasterization(means, quats, scales, opacities, colors, eye, K, 9, 9, backgrounds=background, eps2d=0.3)
    variance = 2.5**2 + 0.3
    assert alpha[0, 4, 4, 0].item() == pytest.approx(0.7)
    assert alpha[0, 4, 7, 0].item() == pytest.approx(0.7 * math.exp(-0.5 * 9 / variance))
    torch.testing.assert_close(image[0, 4, 4], 0.7 * colors[0] + 0.3 * background[0])
    assert info["means2d"][0, 0].tolist() == pytest.approx([4.5, 4.5])
    assert info["radii"][0, 0].tolist() == [math.ceil(math.sqrt(2 * math.log(0.7 * 255)) * math.sqrt(variance))] * 2
    assert info["depths"][0, 0].item() == 2.0


def test_nearer_splats_cover_farther_ones():
    means, quats, scales, _, eye, K = one_splat()
    means = torch.cat([means + torch.tensor([0, 0, 1.0], dtype=torch.float64), means])  # far one first in memory
    colors = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    half = torch.full((2,), 0.5, dtype=torch.float64)
    arguments = means, quats.expand(2, 4), scales.expand(2, 3), half, colors, eye, K, 9, 9
    image, alpha, _ = reference.rasterization(*arguments, render_mode="RGB+ED")
    assert image[0, 4, 4, 0].item() == pytest.approx(0.5 * 0.5)
    assert alpha[0, 4, 4, 0].item() == pytest.approx(0.75)
    assert image[0, 4, 4, 1].item() == pytest.approx((0.5 * 2 + 0.25 * 3) / 0.75)


def test_pixel_ends_before_transmittance_falls_to_the_minimum():
    means, quats, scales, _, eye, K = one_splat()
    count = 5
    means = means.repeat(count, 1) + torch.arange(count)[:, None] * torch.tensor([0, 0, 0.1], dtype=torch.float64)
    arguments = means, quats.expand(count, 4), scales.expand(count, 3), torch.full((count,), 0.95, dtype=torch.float64)
    _, alpha, _ = reference.rasterization(*arguments, torch.ones(count, 1, dtype=torch.float64), eye, K, 9, 9)
    assert 1 - alpha[0, 4, 4, 0].item() == pytest.approx(0.05**3)  # 0.05⁴ = 6e-6 is below 1e-4: the fourth is left out
