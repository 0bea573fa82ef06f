"""Front-to-back compositing of the tiles, and its analytic gradient.

Letters as in ``reference.py``; d = p − μ'. Forward, nearest splat first:  w = α T,  C += c w,  T ← T − w,  until T − w ≤ 1e-4.

Backward walks in the same order, so it needs neither the last contributor nor a division to recover T. With v the gradient of the
image and v_A that of alpha, the part of the loss that lies behind the current splat is
    B = Σ_{j>i} w_j (c_j·v) + T_end (c_bg·v − v_A),   which starts at C·v − T_end v_A (C with background) and loses w_i (c_i·v) a splat;
    ∂L/∂α_i = T_i (c_i·v) − B / (1 − α_i),    ∂L/∂q_i = −α_i ∂L/∂α_i =: g.
The gradients of μ', Σ'⁻¹ and o are moments of g over the pixels:  Σ g, Σ g dx, Σ g dy, Σ g dx², Σ g dx dy, Σ g dy².

A tile is 8×8 pixels; one vector holds 2 rows, so dx is the same in every step and the moments in dx are taken once at the end. α is
2^(quadratic form): (polynomial of degree 5)^8, relative error 2e-6 on the range where 1/255 ≤ α.
"""

from __future__ import annotations

import math

import numpy as np

from fsd_gs.core.kernels import njit
from fsd_gs.render._simd import LANES, vabove, vabs, vfill, vlargest, vload, vmax, vmin, vstore, vsum
from fsd_gs.render._threads import BLOCKS, take
from fsd_gs.render._tiles import HEADER, ROWS_A_STEP, TILE
from fsd_gs.render.contract import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

STEPS = TILE // ROWS_A_STEP
PIXELS = TILE * TILE
CHECK_EVERY = 8  # splats between looks at whether the tile is finished
MOMENTS = 8  # Σg, Σg dx, Σg dy, Σg dx², Σg dx dy, Σg dy², Σ|g ∂q/∂x|, Σ|g ∂q/∂y|

# ruff: noqa: ANN001, ANN202 - kernels carry their shapes in the docstrings

_f = np.float32
ONE, NONE = _f(1.0), _f(0.0)
LOWEST = _f(-8.2)  # log2 of less than 1/255
A_MIN, A_MAX, T_MIN = _f(ALPHA_MIN), _f(ALPHA_MAX), _f(TRANSMITTANCE_MIN)
# minimax in relative error for 2^(q/8) on [-8.2, 0], as a polynomial in q
E0, E1, E2 = _f(0.9999999131127353), _f(0.6931416188411288 / 8), _f(0.24016678242594963 / 8**2)
E3, E4, E5 = _f(0.05526358901476838 / 8**3), _f(0.009169016726353122 / 8**4), _f(0.000930487283419892 / 8**5)
LN2 = _f(math.log(2.0))

COLUMN = (np.arange(LANES) % TILE + 0.5).astype(np.float32)
ROW = (np.arange(LANES) // TILE + 0.5).astype(np.float32)


@njit()
def _exp2(q):
    """2^q of each lane for q clamped to [-8.2, 0]."""
    q = vmin(vmax(q, vfill(LOWEST)), vfill(NONE))
    y = ((((vfill(E5) * q + vfill(E4)) * q + vfill(E3)) * q + vfill(E2)) * q + vfill(E1)) * q + vfill(E0)
    y = y * y
    y = y * y
    return y * y


@njit()
def _open_tile(T, left, top, width, height):
    """T = 1 on pixels of the image. A finished pixel keeps its transmittance with a minus sign; pixels outside start finished."""
    for p in range(PIXELS):
        inside = left + p % TILE < width and top + p // TILE < height
        T[p] = ONE if inside else -ONE


@njit()
def _finished(T):
    most = vload(T, 0)
    for step in range(1, STEPS):
        most = vmax(most, vload(T, step * LANES))
    return vlargest(most) <= NONE


@njit(error_model="numpy")
def _forward_tile(begin, end, entries, slot_rank, slot_steps, splats, left, top, T, C):
    """Composite entries begin…end into T [64] and C [D · 64], pixels in tile order."""
    columns, rows, threshold, channels = vload(COLUMN, 0), vload(ROW, 0), vfill(T_MIN), splats.shape[1] - HEADER
    for entry in range(begin, end):
        if (entry - begin) % CHECK_EVERY == 0 and _finished(T):
            break
        slot = entries[entry]
        rank, first, last = slot_rank[slot], slot_steps[slot] & 255, slot_steps[slot] >> 8
        dx = columns - vfill(splats[rank, 0] - _f(left))
        u, bx, c = (vfill(splats[rank, 2]) * dx) * dx + vfill(splats[rank, 5]), vfill(splats[rank, 3]) * dx, vfill(splats[rank, 4])
        offset = splats[rank, 1] - _f(top)
        for step in range(first, last):
            dy = rows - vfill(offset - _f(ROWS_A_STEP * step))
            alpha = vmin(_exp2((c * dy + bx) * dy + u), vfill(A_MAX))
            alpha = vabove(vfill(A_MIN), alpha, vfill(NONE), alpha)
            before = vload(T, step * LANES)
            w = alpha * before
            after = before - w
            vstore(T, step * LANES, vabove(after, threshold, after, vfill(NONE) - vabs(before)))
            w = vabove(after, threshold, w, vfill(NONE))
            for k in range(channels):
                at = k * PIXELS + step * LANES
                vstore(C, at, vload(C, at) + vfill(splats[rank, HEADER + k]) * w)


@njit(nogil=True, error_model="numpy")
def composite_forward(counter, entries, tile_ptr, slot_rank, slot_steps, splats, backgrounds, images, rests):
    """images [C, H, W, D] over backgrounds [C, D], and rests [C, H, W] = T_end (1 − α would lose its digits)."""
    views, height, width, channels = images.shape
    tiles_x, tiles = (width + TILE - 1) // TILE, (len(tile_ptr) - 1) // views
    T, C, block = np.empty(PIXELS, np.float32), np.empty(PIXELS * channels, np.float32), take(counter)
    while block < BLOCKS:
        for tile in range(block, views * tiles, BLOCKS):  # interleaved: the middle of the image is the busiest
            view, left, top = tile // tiles, tile % tiles % tiles_x * TILE, tile % tiles // tiles_x * TILE
            _open_tile(T, left, top, width, height)
            C[:] = NONE
            _forward_tile(tile_ptr[tile], tile_ptr[tile + 1], entries, slot_rank, slot_steps, splats, left, top, T, C)
            for i in range(min(TILE, height - top)):
                for j in range(min(TILE, width - left)):
                    p = i * TILE + j
                    rest = abs(T[p])
                    rests[view, top + i, left + j] = rest
                    for k in range(channels):
                        images[view, top + i, left + j, k] = C[k * PIXELS + p] + rest * backgrounds[view, k]
        block = take(counter)


@njit(error_model="numpy")
def _backward_tile(begin, end, entries, slot_rank, slot_steps, splats, left, top, T, B, V, VC, absgrad, v_slots):
    """Gradients of entries begin…end into their slots, given T [64] opened, B [64] and V [D · 64] in tile order; VC [D · 16] is scratch."""
    columns, rows, threshold, zero = vload(COLUMN, 0), vload(ROW, 0), vfill(T_MIN), vfill(NONE)
    channels = splats.shape[1] - HEADER
    for entry in range(begin, end):
        slot = entries[entry]
        if (entry - begin) % CHECK_EVERY == 0 and _finished(T):
            for rest in range(entry, end):
                v_slots[entries[rest], :] = NONE
            break
        rank, first, last = slot_rank[slot], slot_steps[slot] & 255, slot_steps[slot] >> 8
        dx = columns - vfill(splats[rank, 0] - _f(left))
        u, bx, c = (vfill(splats[rank, 2]) * dx) * dx + vfill(splats[rank, 5]), vfill(splats[rank, 3]) * dx, vfill(splats[rank, 4])
        offset = splats[rank, 1] - _f(top)
        g0, g1, g2, ax, ay = zero, zero, zero, zero, zero
        for k in range(channels):
            vstore(VC, k * LANES, zero)
        for step in range(first, last):
            dy = rows - vfill(offset - _f(ROWS_A_STEP * step))
            e = _exp2((c * dy + bx) * dy + u)
            alpha = vmin(e, vfill(A_MAX))
            alpha = vabove(vfill(A_MIN), alpha, zero, alpha)
            before = vload(T, step * LANES)
            w = alpha * before
            after = before - w
            vstore(T, step * LANES, vabove(after, threshold, after, zero - vabs(before)))
            w = vabove(after, threshold, w, zero)
            cv = zero
            for k in range(channels):
                v = vload(V, k * PIXELS + step * LANES)
                cv = cv + vfill(splats[rank, HEADER + k]) * v
                vstore(VC, k * LANES, vload(VC, k * LANES) + w * v)
            behind = vload(B, step * LANES) - w * cv
            vstore(B, step * LANES, behind)
            g = (alpha * before) * (behind / vabove(after, threshold, after, vfill(ONE)) - cv)
            g = vabove(w, zero, vabove(e, vfill(A_MAX), zero, g), zero)
            g0, gy = g0 + g, g * dy
            g1, g2 = g1 + gy, g2 + gy * dy
            if absgrad:
                slope = vfill(_f(2.0)) * vfill(splats[rank, 2]) * dx + vfill(splats[rank, 3]) * dy
                ax = ax + vabs(g * slope)
                ay = ay + vabs(g * (bx + vfill(_f(2.0)) * c * dy))
        gx = g0 * dx
        v_slots[slot, 0], v_slots[slot, 1], v_slots[slot, 2] = vsum(g0), vsum(gx), vsum(g1)
        v_slots[slot, 3], v_slots[slot, 4], v_slots[slot, 5] = vsum(gx * dx), vsum(g1 * dx), vsum(g2)
        if absgrad:
            v_slots[slot, 6], v_slots[slot, 7] = vsum(ax) * LN2, vsum(ay) * LN2
        for k in range(channels):
            v_slots[slot, MOMENTS + k] = vsum(vload(VC, k * LANES))


@njit(nogil=True, error_model="numpy")
def composite_backward(counter, entries, tile_ptr, slot_rank, slot_steps, splats, images, rests, v_images, v_alphas, absgrad, v_slots):
    """v_slots [S, 8 + D]: the moments and feature gradients of every intersection. images, rests: results of the forward pass."""
    views, height, width, channels = images.shape
    tiles_x, tiles = (width + TILE - 1) // TILE, (len(tile_ptr) - 1) // views
    T, B = np.empty(PIXELS, np.float32), np.empty(PIXELS, np.float32)
    V, VC, block = np.empty(PIXELS * channels, np.float32), np.empty(LANES * channels, np.float32), take(counter)
    while block < BLOCKS:
        for tile in range(block, views * tiles, BLOCKS):
            view, left, top = tile // tiles, tile % tiles % tiles_x * TILE, tile % tiles // tiles_x * TILE
            _open_tile(T, left, top, width, height)
            B[:] = NONE
            V[:] = NONE
            for i in range(min(TILE, height - top)):
                for j in range(min(TILE, width - left)):
                    p, y, x = i * TILE + j, top + i, left + j
                    B[p] = -rests[view, y, x] * v_alphas[view, y, x]
                    for k in range(channels):
                        V[k * PIXELS + p] = v_images[view, y, x, k]
                        B[p] += images[view, y, x, k] * v_images[view, y, x, k]
            begin, end = tile_ptr[tile], tile_ptr[tile + 1]
            _backward_tile(begin, end, entries, slot_rank, slot_steps, splats, left, top, T, B, V, VC, absgrad, v_slots)
        block = take(counter)


@njit(nogil=True, error_model="numpy")
def reduce_slots(counter, order, slot_ptr, v_slots, conics, opacities, v_means2d, v_abs, v_conics, v_opacities, v_features):
    """Sums each splat's contiguous slots, in order, and turns the moments into gradients by row."""
    count, block = len(order), take(counter)
    while block < BLOCKS:
        for rank in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            row = order[rank]
            s, sx, sy, sxx, sxy, syy, ax, ay = NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE
            for slot in range(slot_ptr[rank], slot_ptr[rank + 1]):
                s += v_slots[slot, 0]
                sx += v_slots[slot, 1]
                sy += v_slots[slot, 2]
                sxx += v_slots[slot, 3]
                sxy += v_slots[slot, 4]
                syy += v_slots[slot, 5]
                ax += v_slots[slot, 6]
                ay += v_slots[slot, 7]
                for k in range(v_features.shape[1]):
                    v_features[row, k] += v_slots[slot, MOMENTS + k]
            a, b, c = conics[row, 0], conics[row, 1], conics[row, 2]
            v_means2d[row, 0], v_means2d[row, 1] = -(a * sx + b * sy), -(b * sx + c * sy)  # ∂d/∂μ' = −1
            v_abs[row, 0], v_abs[row, 1] = ax, ay
            v_conics[row, 0], v_conics[row, 1], v_conics[row, 2] = _f(0.5) * sxx, sxy, _f(0.5) * syy
            v_opacities[row] = -s / opacities[row]
        block = take(counter)
