"""Which splats touch which tile, nearest first.

The image is cut into tiles of 8×8 pixels. A splat contributes where o e^{−q} ≥ 1/255, i.e. inside the ellipse
a dx² + 2b dx dy + c dy² ≤ 2 ln(255 o); per column of tiles its exact range of rows is found, so no tile is listed that the ellipse
misses, and each intersection knows which rows of the tile it reaches.

rows     [M] splats × views in gsplat's order (dense C·N or packed nnz), ``view_ptr`` [C + 1] delimits the views
ranks    [R] the visible rows of each view sorted by depth: ``order[rank] = row``
slots    [S] intersections grouped by rank (a splat's are contiguous: gradients are summed there, without atomics)
entries  [S] the same intersections grouped by tile, by rank within a tile: ``entries[e] = slot``
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fsd_gs.core.kernels import njit
from fsd_gs.errors import InputError
from fsd_gs.render._threads import BLOCKS, run, take
from fsd_gs.render.contract import ALPHA_MIN

# ruff: noqa: ANN001, ANN202 - kernels carry their shapes in the docstrings

TILE = 8
GRAIN = 2048  # splats worth a thread of their own
ROWS_A_STEP = 2  # a vector of 16 lanes holds 2 rows of 8 pixels
HEADER = 6  # floats of a packed splat before its features: x, y, A, B, C, log2(opacity)
LOG2E = 1.0 / math.log(2.0)


class Bins(NamedTuple):
    """The intersections of one call; see the module docstring for the letters."""

    order: np.ndarray  # int32 [R] row
    splats: np.ndarray  # float32 [R, 6 + D] packed for compositing
    slot_ptr: np.ndarray  # int64 [R + 1]
    slot_rank: np.ndarray  # int32 [S]
    slot_steps: np.ndarray  # int32 [S] first step | end step << 8 inside the tile
    tile_ptr: np.ndarray  # int64 [C · tiles + 1]
    entries: np.ndarray  # int32 [S]
    flatten_ids: np.ndarray  # int32 [S] the row of each entry
    isect_ids: np.ndarray  # int64 [S] view | tile | bits of depth, as gsplat packs them
    tiles_per_row: np.ndarray  # int32 [M]


def bin_splats(
    means2d: np.ndarray,
    conics: np.ndarray,
    opacities: np.ndarray,
    features: np.ndarray,
    depths: np.ndarray,
    visible: np.ndarray,
    view_ptr: np.ndarray,
    width: int,
    height: int,
) -> Bins:
    """All arrays by row: [M, 2], [M, 3], [M], [M, D], [M] float32 and [M] bool; view_ptr int64 [C + 1]."""
    rank_ptr = np.zeros_like(view_ptr)
    np.cumsum([visible[a:b].sum() for a, b in pairwise(view_ptr)], out=rank_ptr[1:])
    order = np.empty(rank_ptr[-1], np.int32)
    keys = depths.view(np.uint32)
    run(sort_views, len(view_ptr) - 1, 1, keys, visible, view_ptr, rank_ptr, order)
    splats = np.empty((len(order), HEADER + features.shape[1]), np.float32)
    slot_ptr, tiles_per_row = np.zeros(len(order) + 1, np.int64), np.zeros(len(means2d), np.int32)
    run(pack_and_count, len(order), GRAIN, order, means2d, conics, opacities, features, width, height, splats, slot_ptr, tiles_per_row)
    np.cumsum(slot_ptr, out=slot_ptr)
    if slot_ptr[-1] >= 2**31:
        raise InputError(f"scales: {slot_ptr[-1]} splat-tile intersections do not fit; render fewer views at once or smaller splats")
    slots, tiles = int(slot_ptr[-1]), -(-width // TILE) * -(-height // TILE)
    slot_rank, slot_tile, slot_steps = np.empty(slots, np.int32), np.empty(slots, np.int32), np.empty(slots, np.int32)
    run(list_tiles, len(order), GRAIN, order, means2d, conics, opacities, width, height, slot_ptr, slot_rank, slot_tile, slot_steps)
    tile_ptr, entries = np.zeros((len(view_ptr) - 1) * tiles + 1, np.int64), np.empty(slots, np.int32)
    flatten_ids, isect_ids = np.empty(slots, np.int32), np.empty(slots, np.int64)
    run(
        group_by_tile,
        len(view_ptr) - 1,
        1,
        slot_ptr[rank_ptr],
        slot_rank,
        slot_tile,
        order,
        keys,
        tiles,
        tile_ptr,
        entries,
        flatten_ids,
        isect_ids,
    )
    return Bins(order, splats, slot_ptr, slot_rank, slot_steps, tile_ptr, entries, flatten_ids, isect_ids, tiles_per_row)


@njit()
def _sort_by_key(keys, rows, spare):
    """Stable radix sort of ``rows`` by ``keys[row]`` (bits of float32, any sign), 11 bits a pass; ``spare`` is as long as ``rows``."""
    sign = np.uint32(0x80000000)
    for shift in (0, 11, 22):
        starts = np.zeros(2049, np.int64)
        for i in range(len(rows)):
            key = keys[rows[i]]
            key = ~key if key & sign else key | sign
            starts[((key >> np.uint32(shift)) & np.uint32(2047)) + 1] += 1
        for digit in range(2048):
            starts[digit + 1] += starts[digit]
        for i in range(len(rows)):
            key = keys[rows[i]]
            key = ~key if key & sign else key | sign
            digit = (key >> np.uint32(shift)) & np.uint32(2047)
            spare[starts[digit]] = rows[i]
            starts[digit] += 1
        rows[:] = spare


@njit(nogil=True)
def sort_views(counter, keys, visible, view_ptr, rank_ptr, order):
    """order: the visible rows of each view, nearest first, ties in row order."""
    view = take(counter)
    while view < len(view_ptr) - 1:
        rank = rank_ptr[view]
        for row in range(view_ptr[view], view_ptr[view + 1]):
            if visible[row]:
                order[rank] = row
                rank += 1
        rows = order[rank_ptr[view] : rank_ptr[view + 1]]
        _sort_by_key(keys, rows, np.empty_like(rows))
        view = take(counter)


@njit(error_model="numpy")
def _walk(row, means2d, conics, opacities, width, height, slot, slot_tile, slot_steps):
    """Number of tiles the ellipse of a row meets; writes them from ``slot`` on unless that is negative."""
    x, y, opacity = np.float64(means2d[row, 0]), np.float64(means2d[row, 1]), np.float64(opacities[row])
    a, b, c = np.float64(conics[row, 0]), np.float64(conics[row, 1]), np.float64(conics[row, 2])
    reach = 2.0 * math.log(max(opacity / ALPHA_MIN, 1.0)) * 1.0001 + 1e-3  # a little more than exact: compositing decides
    det = max(a * c - b * b, 1e-12 * a * c)
    half_x, half_y = math.sqrt(reach * c / det), math.sqrt(reach * a / det)
    first, last = math.ceil(max(x - half_x - 0.5, 0.0)), math.floor(min(x + half_x - 0.5, width - 1.0))
    lean, inverse = -b / a * half_y, 1.0 / c  # lean: dx of the topmost point; the lowest lies opposite
    tiles_x, count = (width + TILE - 1) // TILE, 0
    if not (half_x >= 0.0 and half_y >= 0.0) or last < first:  # NaN: the conic under- or overflowed float32
        return 0
    for tx in range(int(first) // TILE, int(last) // TILE + 1):
        left, right = max(first, TILE * tx) + 0.5 - x, min(last, TILE * tx + TILE - 1.0) + 0.5 - x
        up, down = min(max(lean, left), right), min(max(-lean, left), right)
        top = y + (-b * up + math.sqrt(max(reach * c - det * up * up, 0.0))) * inverse
        bottom = y + (-b * down - math.sqrt(max(reach * c - det * down * down, 0.0))) * inverse
        low, high = math.ceil(max(bottom - 0.5, 0.0)), math.floor(min(top - 0.5, height - 1.0))
        if high < low:
            continue
        for ty in range(low // TILE, high // TILE + 1):
            if slot >= 0:
                begin, end = max(low - TILE * ty, 0) // ROWS_A_STEP, min(high - TILE * ty, TILE - 1) // ROWS_A_STEP + 1
                slot_tile[slot + count] = ty * tiles_x + tx
                slot_steps[slot + count] = begin | end << 8
            count += 1
    return count


@njit(nogil=True, error_model="numpy")
def pack_and_count(counter, order, means2d, conics, opacities, features, width, height, splats, counts, tiles_per_row):
    """Packed splats by rank (log2 of α is then one quadratic form) and, in counts[rank + 1], their number of tiles."""
    none, count, block = np.empty(0, np.int32), len(order), take(counter)
    while block < BLOCKS:
        for rank in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            row = order[rank]
            a, b, c = conics[row, 0], conics[row, 1], conics[row, 2]
            splats[rank, 0], splats[rank, 1] = means2d[row, 0], means2d[row, 1]
            splats[rank, 2], splats[rank, 3], splats[rank, 4] = -0.5 * LOG2E * a, -LOG2E * b, -0.5 * LOG2E * c
            splats[rank, 5] = math.log(np.float64(opacities[row])) * LOG2E
            for k in range(features.shape[1]):
                splats[rank, HEADER + k] = features[row, k]
            tiles = _walk(row, means2d, conics, opacities, width, height, -1, none, none)
            counts[rank + 1] = tiles
            tiles_per_row[row] = tiles
        block = take(counter)


@njit(nogil=True, error_model="numpy")
def list_tiles(counter, order, means2d, conics, opacities, width, height, slot_ptr, slot_rank, slot_tile, slot_steps):
    """The tiles of each rank, in its slots."""
    count, block = len(order), take(counter)
    while block < BLOCKS:
        for rank in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            _walk(order[rank], means2d, conics, opacities, width, height, slot_ptr[rank], slot_tile, slot_steps)
            for slot in range(slot_ptr[rank], slot_ptr[rank + 1]):
                slot_rank[slot] = rank
        block = take(counter)


@njit()
def _group_view(view, begin, end, slot_rank, slot_tile, order, keys, tiles, tile_ptr, entries, flatten_ids, isect_ids):
    """Slots begin…end, which are one view's, stably by tile: within a tile they stay nearest first."""
    starts, bits = np.zeros(tiles + 1, np.int64), 0
    while tiles >> bits:
        bits += 1
    for slot in range(begin, end):
        starts[slot_tile[slot] + 1] += 1
    starts[0] = begin
    for tile in range(tiles):
        starts[tile + 1] += starts[tile]
        tile_ptr[view * tiles + tile + 1] = starts[tile + 1]
    for slot in range(begin, end):
        tile, row = np.int64(slot_tile[slot]), order[slot_rank[slot]]
        at = starts[tile]
        entries[at], flatten_ids[at] = slot, row
        isect_ids[at] = np.int64(view) << (32 + bits) | tile << 32 | np.int64(keys[row])
        starts[tile] = at + 1


@njit(nogil=True)
def group_by_tile(counter, view_slots, slot_rank, slot_tile, order, keys, tiles, tile_ptr, entries, flatten_ids, isect_ids):
    """Counting sort of the slots by tile, each view on its own; view_slots [C + 1] delimits the views."""
    view = take(counter)
    while view < len(view_slots) - 1:
        begin, end = view_slots[view], view_slots[view + 1]
        _group_view(view, begin, end, slot_rank, slot_tile, order, keys, tiles, tile_ptr, entries, flatten_ids, isect_ids)
        view = take(counter)
