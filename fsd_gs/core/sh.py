"""Real spherical harmonics in the order and with the signs of 3DGS and gsplat (bands 0 to 3, Condon–Shortley phase).

    colour seen along a unit direction d (camera → splat):  c(d) = ½ + Σ_k Y_k(d) sh_k,   k = 0 … (degree + 1)² − 1

Under an orthogonal map M the same colours are c'(M d) = c(d), which fixes the new coefficients: Σ_k f'_k Y_k(M d) = Σ_k f_k Y_k(d) for
all d. Each band l is closed under O(3), so f' = D_l(M) f_l with a (2l+1)×(2l+1) matrix D_l, which is solved for from sampled directions
(exact to rounding; reflections included, for left-handed engines).
"""

from __future__ import annotations

import torch
from torch import Tensor

C0 = 0.28209479177387814  # Y_0 = 1 / (2 √π)
C1 = 0.4886025119029199  # √(3 / 4π)
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)  # of xy yz xz, z², x² − y²
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


def sh0_from_rgb(rgb: Tensor) -> Tensor:
    """Coefficient of band 0 [..., 3] of a colour in [0, 1] that looks the same from everywhere."""
    return (rgb - 0.5) / C0


def rgb_from_sh0(sh0: Tensor) -> Tensor:
    """Colour [..., 3] of a coefficient of band 0, not clamped."""
    return 0.5 + C0 * sh0


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Y [..., (degree + 1)²] at unit ``directions`` [..., 3], degree 0 to 3."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, C0)]
    if degree >= 1:
        basis += [C1 * f for f in (-y, z, -x)]
    if degree >= 2:
        a, b, c = C2
        basis += [a * x * y, -a * y * z, b * (2 * zz - xx - yy), -a * x * z, c * (xx - yy)]
    if degree >= 3:
        a, b, c, d, e = C3
        basis += [-a * y * (3 * xx - yy), b * x * y * z, -c * y * (4 * zz - xx - yy), d * z * (2 * zz - 3 * xx - 3 * yy)]
        basis += [-c * x * (4 * zz - xx - yy), e * z * (xx - yy), -a * x * (xx - 3 * yy)]
    return torch.stack(basis, dim=-1)


def rotate_sh(sh: Tensor, orthogonal: Tensor) -> Tensor:
    """sh [N, K, 3] of degree 0 to 3 under ``orthogonal`` M [3, 3]: the colour seen along M d is the old colour along d."""
    degree = int(sh.shape[1] ** 0.5) - 1
    parts = [sh[:, :1]]
    for band, D in enumerate(sh_rotation_matrices(orthogonal, degree), start=1):
        coefficients = sh[:, band**2 : (band + 1) ** 2]
        parts.append(torch.einsum("ij,njc->nic", D.to(sh.device), coefficients.double()).to(sh.dtype))
    return torch.cat(parts, dim=1)


def sh_rotation_matrices(orthogonal: Tensor, degree: int) -> list[Tensor]:
    """D_l [2l+1, 2l+1] float64 for l = 1 … degree: the least-squares solution of Y_l(M d) D_l = Y_l(d) over 64 directions d."""
    directions = fibonacci_sphere(64).to(orthogonal.device)
    before, after = sh_basis(directions, degree), sh_basis(directions @ orthogonal.double().T, degree)
    bands = [slice(band**2, (band + 1) ** 2) for band in range(1, degree + 1)]
    return [torch.linalg.lstsq(after[:, band], before[:, band]).solution for band in bands]


def fibonacci_sphere(count: int) -> Tensor:
    """[count, 3] float64 unit vectors spread evenly: equal steps in z, golden-angle steps in azimuth."""
    index = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * index + 1) / count
    azimuth = index * torch.pi * (3 - 5**0.5)
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], dim=1)
