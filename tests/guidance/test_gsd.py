"""GSD: which cell of one view shows what a cell of another shows, and a loss that moves the depth to where their gradients agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from guidance_priors import GaussianPrior

from fsd_gs.core.cameras import back_project, orbit_cameras
from fsd_gs.core.types import Cameras, Render
from fsd_gs.errors import ConfigError
from fsd_gs.guidance import GUIDANCES, ScoreGuidance, make_guidance
from fsd_gs.guidance.gsd import GeometryAwareScoreDistillation, gradient_dissimilarity, on_cells, seen_from

SIDE, FOCAL, DEPTH = 8, 8.0, 2.0


def beside(offset, side=SIDE):
    """Two parallel cameras, the second ``offset`` to the right: a plane at depth z moves by focal · offset / z cells to the left."""
    viewmats = torch.eye(4).double().repeat(2, 1, 1)
    viewmats[1, 0, 3] = -offset
    intrinsics = torch.tensor([[FOCAL, 0, side / 2], [0, FOCAL, side / 2], [0, 0, 1]]).double().repeat(2, 1, 1)
    return Cameras(viewmats, intrinsics, side, side)


def plane(depth=DEPTH, side=SIDE):
    return torch.full((2, side, side, 1), depth).double(), torch.ones(2, side, side, 1).double()


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_a_plane_seen_by_two_parallel_cameras():
    """Disparity 8 · 0.75 / 2 = 3 cells: column c of the first camera is column c − 3 of the second."""
    cameras, (depth, alpha) = beside(0.75), plane()
    opacity, z = on_cells(alpha, depth, SIDE, SIDE)
    assert torch.equal(opacity, torch.ones(2, SIDE, SIDE).double())
    places, there = seen_from(back_project(z[..., None], cameras).flatten(1, 2), cameras)
    column = (places[1, 0, :, 0] + 1) * SIDE / 2 - 0.5
    assert torch.allclose(column.reshape(SIDE, SIDE), torch.arange(SIDE).double().expand(SIDE, SIDE) - 3)
    assert torch.allclose(there, torch.full_like(there, DEPTH))


def test_gradients_that_move_with_the_surface_agree():
    first = randn(3, SIDE, SIDE)
    second = randn(3, SIDE, SIDE, seed=1)
    second[:, :, : SIDE - 3] = first[:, :, 3:]
    grad, (depth, alpha) = torch.stack([first, second]), plane()
    assert gradient_dissimilarity(grad, beside(0.75), alpha, depth, 0.05).abs() < 1e-12
    opposite = torch.stack([first, -second])
    assert gradient_dissimilarity(opposite, beside(0.75), alpha, depth, 0.05) == pytest.approx(2.0)
    scaled = torch.stack([first, 100 * second])
    assert gradient_dissimilarity(scaled, beside(0.75), alpha, depth, 0.05).abs() < 1e-12, "the direction counts, not the length"
    wrong_depth = depth * 1.5
    assert gradient_dissimilarity(grad, beside(0.75), alpha, wrong_depth, 0.05) > 0.3, "at another depth other cells correspond"


def test_the_mean_is_over_what_both_views_see():
    """One cell by hand: G is (1, 0) in the first view and (0, 1) in the second but for column 0, where it is (1, 1): cos = 1/√2."""
    grad = torch.zeros(2, 2, SIDE, SIDE).double()
    grad[0, 0] = 1
    grad[1, 1] = 1
    grad[1, 0, :, 0] = 1
    depth, alpha = plane()
    alpha[0, :, :3] = 0  # left of column 3 the first view shows nothing: columns 3 … 7 are seen, as columns 0 … 4 of the second
    loss = gradient_dissimilarity(grad, beside(0.75), alpha, depth, 0.05)
    assert loss == pytest.approx(1 - 0.2 / 2**0.5)


def test_what_only_one_view_sees_counts_nothing():
    grad, (depth, alpha) = randn(2, 3, SIDE, SIDE), plane()
    for hidden in ("nothing is opaque", "beyond the picture", "behind another surface"):
        a, d, cameras = alpha.clone(), depth.clone(), beside(0.75)
        if hidden == "nothing is opaque":
            a[1] = 0.4
        elif hidden == "beyond the picture":
            cameras = beside(3.0)
        else:
            d[1] -= 0.5
        d.requires_grad_()
        loss = gradient_dissimilarity(grad, cameras, a, d, 0.05)
        loss.backward()
        assert loss == 0, hidden
        assert torch.equal(d.grad, torch.zeros_like(d)), hidden


def test_gradient_is_that_of_finite_differences():
    """With respect to every pixel's depth, on a curved surface, in float64, at twice the resolution of the latents."""
    cameras = orbit_cameras([0.0, 25.0], 10.0, distance=2.0, width=8).to("cpu", torch.float64)
    rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, 8, dtype=torch.float64),) * 2, indexing="ij")
    depth = (1.6 + 0.1 * rows**2 + 0.05 * columns).expand(2, -1, -1)[..., None].clone().requires_grad_()
    alpha = torch.sigmoid(6 - 8 * (rows**2 + columns**2)).expand(2, -1, -1)[..., None]
    grad = randn(2, 4, 4, 4)

    def loss(d):
        return gradient_dissimilarity(grad, cameras, alpha, d, 10.0)  # no borders of visibility in between

    assert loss(depth) > 0.1
    assert torch.autograd.gradcheck(loss, (depth,), eps=1e-7, atol=1e-5)


def test_descent_finds_the_depth_at_which_the_views_agree():
    """A plane that is put 10 % too far comes back to where its gradients were made, and stays at first sight of it."""
    side = 16
    cameras = beside(0.75, side)
    smooth = torch.nn.functional.interpolate(randn(1, 3, 5, 9), (side, side), mode="bicubic", align_corners=True)[0]
    second = torch.zeros_like(smooth)
    second[:, :, : side - 3] = smooth[:, :, 3:]  # 8 · 0.75 / 2
    grad = torch.stack([smooth, second])
    _, alpha = plane(side=side)
    z = torch.tensor(2.2).double().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.01)
    for _ in range(60):
        loss = gradient_dissimilarity(grad, cameras, alpha, z.expand(2, side, side, 1), 10.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert z.item() == pytest.approx(2.0, abs=0.02)


def test_the_residual_is_the_scores_and_the_loss_is_weighted():
    prior, cameras = GaussianPrior((3, SIDE, SIDE)), beside(0.75)
    x, noise = randn(2, 3, SIDE, SIDE), randn(2, 3, SIDE, SIDE, seed=1)
    text, (depth, alpha) = prior.encode_text("red", "dull", cameras), plane()
    guidance = GeometryAwareScoreDistillation(5.0, "lambda", consistency=3.0)
    grad = guidance(prior, x, noise, 0.5, text, cameras)
    assert torch.equal(grad, ScoreGuidance(5.0, "lambda")(prior, x, noise, 0.5, text, cameras))
    view = Render(torch.zeros(2, SIDE, SIDE, 3), alpha, depth.requires_grad_())
    loss = guidance.geometry_loss(grad, cameras, view)
    assert loss.item() == pytest.approx(3 * gradient_dissimilarity(grad, cameras, alpha, depth, 0.05).item())
    assert loss.item() > 0
    assert replace(guidance, consistency=0.0).geometry_loss(grad, cameras, view) == 0
    with pytest.raises(ConfigError, match="'gsd' compares the views of one object, and a picture has none; use 'score'"):
        guidance(prior, x, noise, 0.5, text, None)


def test_only_gsd_looks_at_the_geometry():
    view = Render(torch.zeros(2, 4, 4, 3), torch.ones(2, 4, 4, 1))
    for name in GUIDANCES:
        guidance = make_guidance(name)
        assert guidance.needs_depth == (name == "gsd")
        if not guidance.needs_depth:
            assert guidance.geometry_loss(torch.ones(2, 3, 4, 4), orbit_cameras([0.0, 90.0], width=4), view) == 0
