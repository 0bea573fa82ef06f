"""Turning splats: covariances, colours seen from every side, and the axes of each target."""

import pytest
import torch
from export_scenes import random_gaussians

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.quaternions import quat_from_matrix, quat_multiply
from fsd_gs.core.sh import rotate_sh, sh_basis, sh_rotation_matrices
from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.axes import (
    TARGETS,
    UP_PRESETS,
    file_from_world,
    from_target,
    to_target,
    transform,
    turn_up,
)
from fsd_gs.render import make_rasterizer

FRONT, RIGHT, UP = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]), torch.tensor([0, 0, 1.0])  # of our world


def random_orthogonal(seed, determinant):
    g = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))[0]
    return Q * (torch.sign(torch.linalg.det(Q)) * determinant)


def unit_vectors(count, seed=3):
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=g, dtype=torch.float64), dim=1)


def rotation_matrices(quats):
    """[N, 3, 3] by rotating the axes with q v q*."""
    columns = []
    for axis in torch.eye(3, dtype=quats.dtype):
        v = torch.cat([torch.zeros(1, dtype=quats.dtype), axis]).expand_as(quats)
        conjugate = quats * quats.new_tensor([1, -1, -1, -1])
        columns.append(quat_multiply(quat_multiply(quats, v), conjugate)[:, 1:])
    return torch.stack(columns, dim=2)


def covariances(gaussians):
    R = rotation_matrices(gaussians.quats.double())
    return R @ torch.diag_embed(gaussians.scales.double() ** 2) @ R.transpose(1, 2)


def test_sh_basis_is_orthonormal():
    """∫ Y_i Y_j = δ_ij by a product quadrature that is exact to degree 7: Gauss–Legendre in z, even steps in azimuth."""
    import numpy as np

    z, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(8))
    azimuth = torch.arange(16, dtype=torch.float64) * (2 * torch.pi / 16)
    r = (1 - z**2).sqrt()
    grid = torch.stack([torch.outer(r, azimuth.cos()), torch.outer(r, azimuth.sin()), z[:, None].expand(8, 16)], dim=-1).reshape(-1, 3)
    Y = sh_basis(grid, 3)
    gram = (Y * (weight.repeat_interleave(16) * 2 * torch.pi / 16)[:, None]).T @ Y
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rotated_sh_show_the_same_colour_along_the_turned_direction(sh_degree, determinant, seed):
    M, d = random_orthogonal(seed, determinant), unit_vectors(200)
    sh = random_gaussians(6, sh_degree, seed=seed, sh_spread=1.0).sh.double()
    assert (sh != 0).all()
    before = torch.einsum("mk,nkc->nmc", sh_basis(d, sh_degree), sh)
    after = torch.einsum("mk,nkc->nmc", sh_basis(d @ M.T, sh_degree), rotate_sh(sh, M))
    torch.testing.assert_close(after, before, atol=1e-12, rtol=0)


def test_sh_signs_from_y_up_to_y_down():
    """The sign table that was derived by hand for (x, y, z) → (x, −y, −z)."""
    flip = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))
    table = ["--+", "-++-+", "-+--+-+"]
    for D, signs in zip(sh_rotation_matrices(flip, 3), table, strict=True):
        expected = torch.diag(torch.tensor([1.0 if s == "+" else -1.0 for s in signs], dtype=torch.float64))
        torch.testing.assert_close(D, expected, atol=1e-12, rtol=0)


def test_sh_matrices_compose():
    A, B = random_orthogonal(5, 1), random_orthogonal(6, -1)
    for DA, DB, DAB in zip(sh_rotation_matrices(A, 3), sh_rotation_matrices(B, 3), sh_rotation_matrices(A @ B, 3), strict=True):
        torch.testing.assert_close(DA @ DB, DAB, atol=1e-12, rtol=0)
        torch.testing.assert_close(DA @ DA.T, torch.eye(len(DA), dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("determinant", [1, -1])
def test_transform_moves_means_and_covariances(determinant):
    M = random_orthogonal(4, determinant)
    before = random_gaussians(50, 2).to("cpu", torch.float64)
    after = transform(before, M)
    torch.testing.assert_close(after.means, before.means @ M.T, atol=1e-12, rtol=0)
    torch.testing.assert_close(covariances(after), M @ covariances(before) @ M.T, atol=1e-12, rtol=0)
    torch.testing.assert_close(after.quats.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(after.opacities, before.opacities)


@pytest.mark.parametrize("degrees", [0, 90, 179, 180, 270])
def test_quat_from_matrix(degrees):
    half = torch.deg2rad(torch.tensor(degrees / 2, dtype=torch.float64))
    for axis in [*torch.eye(3, dtype=torch.float64), *unit_vectors(3)]:
        quat = torch.cat([half.cos()[None], half.sin() * axis])
        R = rotation_matrices(quat[None])[0]
        torch.testing.assert_close(rotation_matrices(quat_from_matrix(R)[None])[0], R, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("target", "right", "up", "front"),
    [
        ("raw", [0, 1, 0], [0, 0, 1], [1, 0, 0]),
        ("supersplat", [1, 0, 0], [0, -1, 0], [0, 0, -1]),
        ("spark", [1, 0, 0], [0, 1, 0], [0, 0, 1]),
        ("unity", [-1, 0, 0], [0, 1, 0], [0, 0, 1]),
        ("blender", [1, 0, 0], [0, 0, 1], [0, -1, 0]),
        ("unreal", [0, -1, 0], [0, 0, 1], [1, 0, 0]),
    ],
)
def test_targets_by_hand(target, right, up, front):
    M = file_from_world(target).float()
    assert (M @ RIGHT).tolist() == right
    assert (M @ UP).tolist() == up
    assert (M @ FRONT).tolist() == front
    assert torch.linalg.det(M).item() == pytest.approx(-1 if target in ("unity", "unreal") else 1)


def test_y_up_to_y_down_quaternion_of_the_facts():
    """(w, x, y, z) → (−x, w, −z, y) between the y-up and the y-down target."""
    world = random_gaussians(20)
    w, x, y, z = to_target(world, "spark").quats.unbind(1)
    down = to_target(world, "supersplat").quats
    expected = torch.stack([-x, w, -z, y], dim=1)
    same = (down * expected).sum(dim=1).abs()
    torch.testing.assert_close(same, torch.ones(20), atol=1e-6, rtol=0)


@pytest.mark.parametrize("target", TARGETS)
def test_there_and_back(target):
    before = random_gaussians(30, 3)
    after = from_target(to_target(before, target), target)
    torch.testing.assert_close(after.means, before.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(after.sh, before.sh, atol=2e-6, rtol=0)
    torch.testing.assert_close(covariances(after), covariances(before), atol=1e-8, rtol=0)


def test_raw_changes_nothing():
    before = random_gaussians(3, 1)
    assert to_target(before, "raw") is before


@pytest.mark.parametrize(
    ("up", "axis"),
    [("z", [0, 0, 1]), ("z-down", [0, 0, -1]), ("y", [0, 1, 0]), ("y-down", [0, -1, 0]), ("x", [1, 0, 0]), ("x-down", [-1, 0, 0])],
)
def test_up_presets_turn_the_vertical_to_z(up, axis):
    one = random_gaussians(1)
    placed = Gaussians(torch.tensor([axis], dtype=torch.float32), one.quats, one.scales, one.opacities, one.sh)
    assert turn_up(placed, up).means.tolist() == [[0, 0, 1]]
    assert torch.linalg.det(torch.tensor(UP_PRESETS[up])).item() == pytest.approx(1)


def test_up_undoes_the_matching_target():
    before = random_gaussians(5, 1)
    for target, up in [("spark", "y"), ("supersplat", "y-down")]:
        torch.testing.assert_close(turn_up(to_target(before, target), up).means, before.means, atol=1e-6, rtol=0)


@pytest.mark.parametrize("determinant", [1, -1])
def test_a_turned_object_before_a_turned_camera_looks_the_same(determinant):
    """The whole of it at once, with view-dependent colour: render(M g, camera M⁻¹) = render(g, camera)."""
    M = random_orthogonal(8, determinant)
    rasterizer = make_rasterizer("reference")
    before = random_gaussians(40, 3).to("cpu", torch.float64)
    cameras = orbit_cameras([20.0, 130.0], 25.0, width=24).to("cpu", torch.float64)
    turned_world = torch.eye(4, dtype=torch.float64)
    turned_world[:3, :3] = M.T
    moved = Cameras(cameras.viewmats @ turned_world, cameras.Ks, cameras.width, cameras.height)
    expected, actual = rasterizer(before, cameras), rasterizer(transform(before, M), moved)
    torch.testing.assert_close(actual.rgb, expected.rgb, atol=1e-9, rtol=0)
    torch.testing.assert_close(actual.alpha, expected.alpha, atol=1e-9, rtol=0)


def test_bad_input():
    splats = random_gaussians(1)
    with pytest.raises(InputError, match=r"target: unknown name 'superslat'; did you mean 'supersplat'\?"):
        to_target(splats, "superslat")
    with pytest.raises(InputError, match="up: unknown name 'w'"):
        turn_up(splats, "w")
    with pytest.raises(InputError, match="orthogonal: expected a 3×3 matrix with M Mᵀ = 1"):
        transform(splats, 2 * torch.eye(3))
