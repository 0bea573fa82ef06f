"""Projection of 3D Gaussians to the screen (EWA), and its analytic gradient.

    x_c = W μ + t,   u = f x/z + c,   P = J W R S  [2, 3],   Σ' = P Pᵀ + ε I,   conic = Σ'⁻¹ = (a, b; b, c),
    compensation = √(det P Pᵀ / det Σ')
    J = (f_x/z, 0, −f_x u_x/z;  0, f_y/z, −f_y u_y/z)   with u_x = x/z clamped to the image plus a margin of 0.15 of its size

Backward, v_X standing for ∂L/∂X:  v_Σ' = −K v_K K,  v_P = 2 v_Σ' P,  and the chain rule through P = J W (R S).
Scalars are float64: it costs next to nothing here, and det Σ' of a long thin splat cancels badly in float32.
"""

from __future__ import annotations

import math

import numpy as np

from fsd_gs.core.kernels import njit
from fsd_gs.render._matrices import add, columns_scaled, dot, row_times, scaled, times, times_column
from fsd_gs.render._threads import BLOCKS, take
from fsd_gs.render.contract import ALPHA_MIN, EXTENT_MAX, JACOBIAN_MARGIN

# ruff: noqa: ANN001, ANN202 - kernels carry their shapes in the docstrings

LARGEST = 2.0**30  # radii and positions in pixels beyond this are not drawn as such


@njit(error_model="numpy")
def _unit(w, x, y, z):
    """Unit quaternion and inverse length in float64; NaN or inf for the quaternion 0."""
    w, x, y, z = np.float64(w), np.float64(x), np.float64(y), np.float64(z)
    inverse = 1.0 / math.sqrt(w * w + x * x + y * y + z * z)
    return (w * inverse, x * inverse, y * inverse, z * inverse), inverse


@njit()
def _three(x, y, z):
    return np.float64(x), np.float64(y), np.float64(z)


@njit()
def _rotation(q):
    """R as rows from a unit quaternion wxyz."""
    w, x, y, z = q
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@njit(error_model="numpy")
def _clamped(ratio, focal, centre, size):
    """x/z clamped to the margin around the image."""
    margin = JACOBIAN_MARGIN * size / focal
    return min(max(ratio, -centre / focal - margin), (size - centre) / focal + margin)


@njit(error_model="numpy")
def _screen(point, fx, fy, cx, cy, width, height, W, M):
    """(f_x, f_y, u_x, u_y) of the Jacobian, T = J W as two rows, P = T M as two rows."""
    ux, uy = _clamped(point[0] / point[2], fx, cx, width), _clamped(point[1] / point[2], fy, cy, height)
    T0 = scaled(add(W[0], scaled(W[2], -ux)), fx / point[2])
    T1 = scaled(add(W[1], scaled(W[2], -uy)), fy / point[2])
    return (fx, fy, ux, uy), T0, T1, row_times(T0, M), row_times(T1, M)


@njit(error_model="numpy")
def _conic(P0, P1, eps2d):
    """Σ' = (xx, xy, yy), its determinant, the compensation."""
    pxx, pxy, pyy = dot(P0, P0), dot(P0, P1), dot(P1, P1)
    xx, yy = pxx + eps2d, pyy + eps2d
    det = xx * yy - pxy * pxy
    compensation = math.sqrt(max((pxx * pyy - pxy * pxy) / det, 0.0)) if det > 0.0 else 0.0
    return xx, pxy, yy, det, compensation


@njit(error_model="numpy")
def _radii(x, y, xx, yy, opacity, width, height, clip):
    """Half sizes of the box where α ≥ 1/255, in pixels; 0 where nothing is drawn (all comparisons fail on NaN)."""
    extent = min(EXTENT_MAX, math.sqrt(2.0 * math.log(max(opacity / ALPHA_MIN, 1.0))))
    rx, ry = math.ceil(extent * math.sqrt(xx)), math.ceil(extent * math.sqrt(yy))
    inside = x + rx > 0 and x - rx < width and y + ry > 0 and y - ry < height
    if inside and (rx > clip or ry > clip) and abs(x) < LARGEST and abs(y) < LARGEST:
        return int(min(rx, LARGEST)), int(min(ry, LARGEST))
    return 0, 0


# The kernels index arrays themselves and hand scalars to the helpers: an array argument costs numba two atomic reference counts.


@njit(nogil=True, error_model="numpy")
def project_forward(
    counter, means, quats, scales, opacities, viewmats, Ks, settings, antialiased, radii, means2d, depths, conics, compensations
):
    """Fills radii [C, N, 2] int32, means2d [C, N, 2], depths [C, N], conics [C, N, 3], compensations [C, N]; culled rows stay 0.

    settings float64: width, height, eps2d, near_plane, far_plane, radius_clip.
    """
    width, height, eps2d, near, far, clip = settings[0], settings[1], settings[2], settings[3], settings[4], settings[5]
    count, block = means.shape[0], take(counter)
    while block < BLOCKS:
        for n in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            mean, scale = _three(means[n, 0], means[n, 1], means[n, 2]), _three(scales[n, 0], scales[n, 1], scales[n, 2])
            quat, _ = _unit(quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3])
            M = columns_scaled(_rotation(quat), scale)
            for view in range(viewmats.shape[0]):
                W = (
                    _three(viewmats[view, 0, 0], viewmats[view, 0, 1], viewmats[view, 0, 2]),
                    _three(viewmats[view, 1, 0], viewmats[view, 1, 1], viewmats[view, 1, 2]),
                    _three(viewmats[view, 2, 0], viewmats[view, 2, 1], viewmats[view, 2, 2]),
                )
                point = add(times_column(W, mean), _three(viewmats[view, 0, 3], viewmats[view, 1, 3], viewmats[view, 2, 3]))
                if not (near <= point[2] <= far) or point[2] == 0.0:
                    continue
                fx, fy, cx = _three(Ks[view, 0, 0], Ks[view, 1, 1], Ks[view, 0, 2])
                cy = np.float64(Ks[view, 1, 2])
                _, _, _, P0, P1 = _screen(point, fx, fy, cx, cy, width, height, W, M)
                xx, xy, yy, det, compensation = _conic(P0, P1, eps2d)
                opacity = np.float64(opacities[n]) * (compensation if antialiased else 1.0)
                if not (det > 0.0 and xx < math.inf and yy < math.inf and ALPHA_MIN <= opacity < math.inf):
                    continue
                x, y = fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy
                rx, ry = _radii(x, y, xx, yy, opacity, width, height, clip)
                if rx == 0 or ry == 0:
                    continue
                radii[view, n, 0], radii[view, n, 1] = rx, ry
                means2d[view, n, 0], means2d[view, n, 1], depths[view, n] = x, y, point[2]
                conics[view, n, 0], conics[view, n, 1], conics[view, n, 2] = yy / det, -xy / det, xx / det
                compensations[view, n] = compensation
        block = take(counter)


@njit(error_model="numpy")
def _conic_vjp(P0, P1, eps2d, v_conic, v_compensation):
    """v_P as two rows from the gradients of the conic (a, b, c) and of the compensation."""
    pxx, pxy, pyy = dot(P0, P0), dot(P0, P1), dot(P1, P1)
    xx, yy = pxx + eps2d, pyy + eps2d
    det = xx * yy - pxy * pxy
    a, b, c = yy / det, -pxy / det, xx / det
    va, vb, vc = v_conic[0], 0.5 * v_conic[1], v_conic[2]
    ka, kb, kc, kd = a * va + b * vb, a * vb + b * vc, b * va + c * vb, b * vb + c * vc  # K v_K
    vxx, vxy, vyy = -(ka * a + kb * b), -(ka * b + kb * c), -(kc * b + kd * c)
    sharp = pxx * pyy - pxy * pxy
    if v_compensation != 0.0 and sharp > 0.0:
        half = 0.5 * v_compensation * math.sqrt(sharp / det)  # d√(s/d) = ½ √(s/d) (ds/s − dd/d), ds = adj(P Pᵀ), dd/d = K
        vxx += half * (pyy / sharp - a)
        vxy += half * (-pxy / sharp - b)
        vyy += half * (pxx / sharp - c)
    v_P0 = add(scaled(P0, 2.0 * vxx), scaled(P1, 2.0 * vxy))
    v_P1 = add(scaled(P0, 2.0 * vxy), scaled(P1, 2.0 * vyy))
    return v_P0, v_P1


@njit(error_model="numpy")
def _point_vjp(point, jacobian, W, v_T0, v_T1, v_u, v_v, v_depth):
    """Gradient of the camera point from those of T = J W (two rows), of means2d and of depth."""
    fx, fy, ux, uy = jacobian
    z = point[2]
    x_ratio, y_ratio = point[0] / z, point[1] / z
    v_ux, v_uy = -fx / z * dot(v_T0, W[2]), -fy / z * dot(v_T1, W[2])
    v_z = v_depth - fx / (z * z) * (dot(v_T0, W[0]) - ux * dot(v_T0, W[2])) - fy / (z * z) * (dot(v_T1, W[1]) - uy * dot(v_T1, W[2]))
    v_xr = fx * v_u + (v_ux if ux == x_ratio else 0.0)  # a clamped ratio does not move
    v_yr = fy * v_v + (v_uy if uy == y_ratio else 0.0)
    return v_xr / z, v_yr / z, v_z - (v_xr * x_ratio + v_yr * y_ratio) / z


@njit()
def _quat_vjp(q, inverse, v):
    """Gradient of the unnormalised quaternion from that of R, v as rows."""
    w, x, y, z = q
    vw = 2.0 * (x * (v[2][1] - v[1][2]) + y * (v[0][2] - v[2][0]) + z * (v[1][0] - v[0][1]))
    vx = 2.0 * (-2.0 * x * (v[1][1] + v[2][2]) + y * (v[1][0] + v[0][1]) + z * (v[2][0] + v[0][2]) + w * (v[2][1] - v[1][2]))
    vy = 2.0 * (x * (v[1][0] + v[0][1]) - 2.0 * y * (v[0][0] + v[2][2]) + z * (v[2][1] + v[1][2]) + w * (v[0][2] - v[2][0]))
    vz = 2.0 * (x * (v[2][0] + v[0][2]) + y * (v[2][1] + v[1][2]) - 2.0 * z * (v[0][0] + v[1][1]) + w * (v[1][0] - v[0][1]))
    along = vw * w + vx * x + vy * y + vz * z
    return (vw - along * w) * inverse, (vx - along * x) * inverse, (vy - along * y) * inverse, (vz - along * z) * inverse


@njit()
def _view_vjp(v_point, mean, jacobian, z, v_T0, v_T1):
    """v_W as three rows, through x_c = W μ + t and through T = J W."""
    s0, s1 = jacobian[0] / z, jacobian[1] / z
    third = add(scaled(v_T0, -s0 * jacobian[2]), scaled(v_T1, -s1 * jacobian[3]))
    return (
        add(scaled(mean, v_point[0]), scaled(v_T0, s0)),
        add(scaled(mean, v_point[1]), scaled(v_T1, s1)),
        add(scaled(mean, v_point[2]), third),
    )


@njit(nogil=True, error_model="numpy")
def project_backward(
    counter, means, quats, scales, viewmats, Ks, settings, radii, v_means2d, v_depths, v_conics, v_comp, v_means, v_quats, v_scales, v_poses
):
    """Fills v_means [N, 3], v_quats [N, 4], v_scales [N, 3] and the blocks' shares v_poses [BLOCKS, C, 3, 4] of v_viewmats."""
    count, block, zero = means.shape[0], take(counter), (0.0, 0.0, 0.0)
    while block < BLOCKS:
        for n in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            mean, scale = _three(means[n, 0], means[n, 1], means[n, 2]), _three(scales[n, 0], scales[n, 1], scales[n, 2])
            quat, inverse = _unit(quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3])
            R = _rotation(quat)
            M = columns_scaled(R, scale)
            v_mean, v_M0, v_M1, v_M2, seen = zero, zero, zero, zero, False
            for view in range(viewmats.shape[0]):
                if radii[view, n, 0] == 0:
                    continue
                seen = True
                W = (
                    _three(viewmats[view, 0, 0], viewmats[view, 0, 1], viewmats[view, 0, 2]),
                    _three(viewmats[view, 1, 0], viewmats[view, 1, 1], viewmats[view, 1, 2]),
                    _three(viewmats[view, 2, 0], viewmats[view, 2, 1], viewmats[view, 2, 2]),
                )
                point = add(times_column(W, mean), _three(viewmats[view, 0, 3], viewmats[view, 1, 3], viewmats[view, 2, 3]))
                fx, fy, cx = _three(Ks[view, 0, 0], Ks[view, 1, 1], Ks[view, 0, 2])
                jacobian, T0, T1, P0, P1 = _screen(point, fx, fy, cx, np.float64(Ks[view, 1, 2]), settings[0], settings[1], W, M)
                v_conic = _three(v_conics[view, n, 0], v_conics[view, n, 1], v_conics[view, n, 2])
                v_P0, v_P1 = _conic_vjp(P0, P1, settings[2], v_conic, np.float64(v_comp[view, n]))
                v_T0, v_T1 = times_column(M, v_P0), times_column(M, v_P1)
                v_u, v_v, v_depth = _three(v_means2d[view, n, 0], v_means2d[view, n, 1], v_depths[view, n])
                v_point = _point_vjp(point, jacobian, W, v_T0, v_T1, v_u, v_v, v_depth)
                v_mean = add(v_mean, row_times(v_point, W))
                v_M0 = add(v_M0, add(scaled(v_P0, T0[0]), scaled(v_P1, T1[0])))
                v_M1 = add(v_M1, add(scaled(v_P0, T0[1]), scaled(v_P1, T1[1])))
                v_M2 = add(v_M2, add(scaled(v_P0, T0[2]), scaled(v_P1, T1[2])))
                v_W = _view_vjp(v_point, mean, jacobian, point[2], v_T0, v_T1)
                for i in range(3):
                    v_poses[block, view, i, 0] += v_W[i][0]
                    v_poses[block, view, i, 1] += v_W[i][1]
                    v_poses[block, view, i, 2] += v_W[i][2]
                    v_poses[block, view, i, 3] += v_point[i]
            if seen:
                v_quat = _quat_vjp(quat, inverse, columns_scaled((v_M0, v_M1, v_M2), scale))
                v_scale = add(add(times(R[0], v_M0), times(R[1], v_M1)), times(R[2], v_M2))
                v_means[n, 0], v_means[n, 1], v_means[n, 2] = v_mean[0], v_mean[1], v_mean[2]
                v_scales[n, 0], v_scales[n, 1], v_scales[n, 2] = v_scale[0], v_scale[1], v_scale[2]
                v_quats[n, 0], v_quats[n, 1], v_quats[n, 2], v_quats[n, 3] = v_quat[0], v_quat[1], v_quat[2], v_quat[3]
        block = take(counter)
