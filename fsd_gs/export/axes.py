"""Turning splats: positions, orientations and spherical harmonics together, and the axes that each target application expects.

A map M ∈ O(3) takes a splat to μ' = M μ, Σ' = M Σ Mᵀ and its view-dependent colour to c'(M d) = c(d). The last line fixes the new SH
coefficients: Σ_k f'_k Y_k(M d) = Σ_k f_k Y_k(d) for all d. Each band l is closed under O(3), so f' = D_l(M) f_l with a (2l+1)×(2l+1)
matrix D_l, which is solved for from sampled directions (exact to rounding; reflections included, for left-handed engines).

The object's front looks along +x and its top along +z in our world. Axes of a file are named by where its x, y and z point, seen from
the front: R right, L left, U up, D down, F away from the viewer, B towards the viewer.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fsd_gs.core.file_axes import FRAMES, Matrix
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError, unknown_name

#: Target application → file_from_world [3, 3].
TARGETS: dict[str, Matrix] = {name: frame.file_from_world for name, frame in FRAMES.items()}

#: The axis of the input that points up (or down) → world_from_file [3, 3].
UP_PRESETS: dict[str, Matrix] = {
    "z": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "z-down": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
    "y": ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),  # inverse of spark
    "y-down": ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),  # inverse of supersplat: scans trained from COLMAP poses
    "x": ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    "x-down": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
}


def file_from_world(target: str) -> Tensor:
    """[3, 3] float64: the orthogonal map from our world to the axes of ``target``; left-handed targets have determinant −1."""
    if target not in TARGETS:
        raise InputError(unknown_name("target", target, TARGETS))
    return torch.tensor(TARGETS[target], dtype=torch.float64)


def to_target(gaussians: Gaussians, target: str) -> Gaussians:
    """``gaussians`` of our world in the axes of ``target``."""
    return gaussians if target == "raw" else transform(gaussians, file_from_world(target))


def from_target(gaussians: Gaussians, target: str) -> Gaussians:
    """``gaussians`` read from a file in the axes of ``target``, back in our world."""
    return gaussians if target == "raw" else transform(gaussians, file_from_world(target).T)


def turn_up(gaussians: Gaussians, up: str) -> Gaussians:
    """``gaussians`` in which ``up`` (z, z-down, y, y-down, x or x-down) is the vertical, turned so that z does."""
    if up not in UP_PRESETS:
        raise InputError(unknown_name("up", up, UP_PRESETS))
    return gaussians if up == "z" else transform(gaussians, torch.tensor(UP_PRESETS[up], dtype=torch.float64))


def transform(gaussians: Gaussians, orthogonal: Tensor) -> Gaussians:
    """Positions, orientations and SH under ``orthogonal`` [3, 3], a rotation or a reflection (M Mᵀ = 1)."""
    M = orthogonal.double()
    if M.shape != (3, 3) or not torch.allclose(M @ M.T, torch.eye(3, dtype=torch.float64, device=M.device), atol=1e-6):
        raise InputError(f"orthogonal: expected a 3×3 matrix with M Mᵀ = 1, got {M.tolist()}")
    M = M.to(gaussians.means.device)
    # A Gaussian is symmetric about its centre, so that −M moves its covariance exactly as M does, and one of the two is a rotation.
    rotation = M if torch.linalg.det(M) > 0 else -M
    return replace(
        gaussians,
        means=(gaussians.means.double() @ M.T).to(gaussians.means.dtype),
        quats=quat_multiply(quat_from_matrix(rotation), gaussians.quats.double()).to(gaussians.quats.dtype),
        sh=rotate_sh(gaussians.sh, M),
    )


def rotate_sh(sh: Tensor, orthogonal: Tensor) -> Tensor:
    """sh [N, K, 3] of SH degree 0 to 3 under ``orthogonal`` [3, 3]: the colour seen along M d is the old colour along d."""
    degree = int(sh.shape[1] ** 0.5) - 1
    parts = [sh[:, :1]]
    for band, D in enumerate(sh_rotation_matrices(orthogonal, degree), start=1):
        coefficients = sh[:, band**2 : (band + 1) ** 2]
        parts.append(torch.einsum("ij,njc->nic", D.to(sh.device), coefficients.double()).to(sh.dtype))
    return torch.cat(parts, dim=1)


def sh_rotation_matrices(orthogonal: Tensor, degree: int) -> list[Tensor]:
    """D_l [2l+1, 2l+1] float64 for l = 1 … degree: the least-squares solution of Y_l(M d) D_l = Y_l(d) over 64 directions d."""
    directions = _fibonacci_sphere(64).to(orthogonal.device)
    before, after = sh_basis(directions, degree), sh_basis(directions @ orthogonal.double().T, degree)
    bands = [slice(band**2, (band + 1) ** 2) for band in range(1, degree + 1)]
    return [torch.linalg.lstsq(after[:, band], before[:, band]).solution for band in bands]


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Y [M, (degree + 1)²] at unit ``directions`` [M, 3]: the real SH with the signs and order of the 3DGS files, degree 0 to 3."""
    x, y, z = directions.unbind(1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        basis += [0.4886025119029199 * f for f in (-y, z, -x)]
    if degree >= 2:
        a, b, c = 1.0925484305920792, 0.31539156525252005, 0.5462742152960396
        basis += [a * x * y, -a * y * z, b * (2 * zz - xx - yy), -a * x * z, c * (xx - yy)]
    if degree >= 3:
        a, b, c, d, e = 0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277
        basis += [-a * y * (3 * xx - yy), b * x * y * z, -c * y * (4 * zz - xx - yy), d * z * (2 * zz - 3 * xx - 3 * yy)]
        basis += [-c * x * (4 * zz - xx - yy), e * z * (xx - yy), -a * x * (xx - 3 * yy)]
    return torch.stack(basis, dim=1)


def _fibonacci_sphere(count: int) -> Tensor:
    """[count, 3] float64 unit vectors spread evenly: equal steps in z, golden-angle steps in azimuth."""
    index = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * index + 1) / count
    azimuth = index * torch.pi * (3 - 5**0.5)
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], dim=1)


def quat_from_matrix(rotation: Tensor) -> Tensor:
    """[4] wxyz of a rotation matrix [3, 3]: the eigenvector of Bar-Itzhack's symmetric matrix K with the largest eigenvalue."""
    r = rotation
    K = torch.stack(
        [
            torch.stack([r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]),
            torch.stack([r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]]),
            torch.stack([r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]]),
            torch.stack([r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]]),
        ]
    )
    quat = torch.linalg.eigh(K).eigenvectors[:, -1]
    return quat if quat[0] >= 0 else -quat


def quat_multiply(p: Tensor, q: Tensor) -> Tensor:
    """Hamilton product p q [..., 4] wxyz: rotate by q first, then by p."""
    pw, px, py, pz = p.unbind(-1)
    qw, qx, qy, qz = q.unbind(-1)
    product = [
        pw * qw - px * qx - py * qy - pz * qz,
        pw * qx + px * qw + py * qz - pz * qy,
        pw * qy - px * qz + py * qw + pz * qx,
        pw * qz + px * qy - py * qx + pz * qw,
    ]
    return torch.stack(product, dim=-1)
