"""Colours from real spherical harmonics, c = max(½ + Σ_k Y_k(d) sh_k, 0), and their gradient.

d is the unit vector from the camera to the splat. Signs and order are those of 3DGS and gsplat (bands 0 to 3, Condon–Shortley phase).
"""

from __future__ import annotations

import math

import numpy as np

from fsd_gs.core import sh
from fsd_gs.core.kernels import njit
from fsd_gs.render._threads import BLOCKS, take

# ruff: noqa: ANN001, ANN202 - kernels carry their shapes in the docstrings

_f = np.float32
Y0, Y1 = _f(sh.C0), _f(sh.C1)
Y2A, Y2B, Y2C = (_f(c) for c in sh.C2)
Y3A, Y3B, Y3C, Y3D, Y3E = (_f(c) for c in sh.C3)
HALF, ZERO, ONE = _f(0.5), _f(0.0), _f(1.0)


@njit()
def _basis(degree, x, y, z, Y):
    """Y [16]: the values of the bands up to ``degree``."""
    Y[0] = Y0
    if degree >= 1:
        Y[1], Y[2], Y[3] = -Y1 * y, Y1 * z, -Y1 * x
    if degree >= 2:
        Y[4], Y[5], Y[6] = Y2A * x * y, -Y2A * y * z, Y2B * (_f(3) * z * z - ONE)
        Y[7], Y[8] = -Y2A * x * z, Y2C * (x * x - y * y)
    if degree >= 3:
        xx, yy, zz = x * x, y * y, z * z
        Y[9], Y[10], Y[11] = -Y3A * y * (_f(3) * xx - yy), Y3B * x * y * z, -Y3C * y * (_f(5) * zz - ONE)
        Y[12], Y[13] = Y3D * z * (_f(5) * zz - _f(3)), -Y3C * x * (_f(5) * zz - ONE)
        Y[14], Y[15] = Y3E * z * (xx - yy), -Y3A * x * (xx - _f(3) * yy)


@njit()
def _basis_vjp(degree, x, y, z, v):
    """Gradient of (x, y, z) from v [16] = ∂L/∂Y."""
    vx, vy, vz = -Y1 * v[3], -Y1 * v[1], Y1 * v[2]
    if degree >= 2:
        vx += Y2A * (y * v[4] - z * v[7]) + _f(2) * Y2C * x * v[8]
        vy += Y2A * (x * v[4] - z * v[5]) - _f(2) * Y2C * y * v[8]
        vz += -Y2A * (y * v[5] + x * v[7]) + _f(6) * Y2B * z * v[6]
    if degree >= 3:
        xx, yy, zz = x * x, y * y, z * z
        five, three, six, ten = _f(5), _f(3), _f(6), _f(10)
        vx += -six * Y3A * x * y * v[9] + Y3B * y * z * v[10] - Y3C * (five * zz - ONE) * v[13]
        vx += _f(2) * Y3E * x * z * v[14] - three * Y3A * (xx - yy) * v[15]
        vy += -three * Y3A * (xx - yy) * v[9] + Y3B * x * z * v[10] - Y3C * (five * zz - ONE) * v[11]
        vy += -_f(2) * Y3E * y * z * v[14] + six * Y3A * x * y * v[15]
        vz += Y3B * x * y * v[10] - ten * Y3C * z * (y * v[11] + x * v[13])
        vz += Y3D * (_f(15) * zz - three) * v[12] + Y3E * (xx - yy) * v[14]
    return vx, vy, vz


@njit(error_model="numpy")
def _unit(x, y, z):
    """Unit vector and 1 / length; (0, 0, 0) and 0 at the camera itself."""
    length = math.sqrt(x * x + y * y + z * z)
    inverse = ONE / length if length > ZERO else ZERO
    return x * inverse, y * inverse, z * inverse, inverse


# The kernels index arrays in their innermost loops instead of handing them on: an array argument costs two atomic reference counts.


@njit(nogil=True, error_model="numpy")
def colors_forward(counter, degree, means, centres, coefficients, radii, colors):
    """colors [C, N, 3] where radii [C, N, 2] > 0; coefficients [1 or C, N, K, 3], centres [C, 3]."""
    bands, count, block = (degree + 1) ** 2, means.shape[0], take(counter)
    Y = np.empty(16, np.float32)
    while block < BLOCKS:
        for n in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            for view in range(centres.shape[0]):
                if radii[view, n, 0] == 0:
                    continue
                x, y, z, _ = _unit(means[n, 0] - centres[view, 0], means[n, 1] - centres[view, 1], means[n, 2] - centres[view, 2])
                _basis(degree, x, y, z, Y)
                source = min(view, coefficients.shape[0] - 1)
                for k in range(3):
                    total = HALF
                    for band in range(bands):
                        total += Y[band] * coefficients[source, n, band, k]
                    colors[view, n, k] = total if not total < ZERO else ZERO
        block = take(counter)


@njit(nogil=True, error_model="numpy")
def colors_backward(counter, degree, means, centres, coefficients, radii, v_colors, v_directions, v_coefficients):
    """Adds to v_coefficients (as coefficients); fills v_directions [C, N, 3], the gradient of means − centres."""
    bands, count, block = (degree + 1) ** 2, means.shape[0], take(counter)
    Y, vY = np.empty(16, np.float32), np.empty(16, np.float32)
    while block < BLOCKS:
        for n in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            for view in range(centres.shape[0]):
                if radii[view, n, 0] == 0:
                    continue
                x, y, z, inverse = _unit(means[n, 0] - centres[view, 0], means[n, 1] - centres[view, 1], means[n, 2] - centres[view, 2])
                _basis(degree, x, y, z, Y)
                source = min(view, coefficients.shape[0] - 1)
                for band in range(bands):
                    vY[band] = ZERO
                for k in range(3):
                    total = HALF
                    for band in range(bands):
                        total += Y[band] * coefficients[source, n, band, k]
                    v = v_colors[view, n, k] if total >= ZERO else ZERO  # the slope of max(·, 0), 1 at 0 as torch has it
                    for band in range(bands):
                        v_coefficients[source, n, band, k] += v * Y[band]
                        vY[band] += v * coefficients[source, n, band, k]
                if degree > 0:
                    vx, vy, vz = _basis_vjp(degree, x, y, z, vY)
                    along = vx * x + vy * y + vz * z
                    v_directions[view, n, 0] = (vx - along * x) * inverse
                    v_directions[view, n, 1] = (vy - along * y) * inverse
                    v_directions[view, n, 2] = (vz - along * z) * inverse
        block = take(counter)
