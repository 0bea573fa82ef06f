"""Rotations as quaternions q = w + xi + yj + zk, stored wxyz, as gsplat and the 3DGS files do."""

from __future__ import annotations

import torch
from torch import Tensor


def matrix_from_quat(quats: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] wxyz of any positive length."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1, eps=1e-30).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


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
