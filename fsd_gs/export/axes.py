"""Turning splats: positions, orientations and spherical harmonics together, and the axes that each target application expects.

A map M ∈ O(3) takes a splat to μ' = M μ, Σ' = M Σ Mᵀ and its view-dependent colour to c'(M d) = c(d) (``core.sh``).

The object's front looks along +x and its top along +z in our world. Axes of a file are named by where its x, y and z point, seen from
the front: R right, L left, U up, D down, F away from the viewer, B towards the viewer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.file_axes import FRAMES, Matrix
from fsd_gs.core.quaternions import quat_from_matrix, quat_multiply
from fsd_gs.core.sh import rotate_sh
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError, unknown_name

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


def place(gaussians: Gaussians, matrix: Any, source: str) -> Gaussians:
    """``gaussians`` under the affine ``matrix`` [4, 4] of a scene's node: turned, moved and scaled alike along all axes.

    Raises FileFormatError naming ``source`` for any other map: it would shear the splats' colours as well.
    """
    affine = torch.as_tensor(matrix, dtype=torch.float64)
    linear, shift = affine[:3, :3], affine[:3, 3]
    if torch.equal(affine, torch.eye(4, dtype=torch.float64)):
        return gaussians
    scale = float(torch.linalg.det(linear).abs()) ** (1 / 3)
    even = scale > 0 and torch.allclose(linear @ linear.T, scale**2 * torch.eye(3, dtype=torch.float64), atol=1e-4 * scale**2)
    if not (even and bool(affine.isfinite().all())):
        raise FileFormatError(f"{source}: a node scales or shears its splats unevenly, which is not supported; apply its transform first")
    turned = transform(gaussians, linear / scale)
    dtype = gaussians.means.dtype
    return replace(turned, means=turned.means * scale + shift.to(dtype), scales=turned.scales * scale)


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
