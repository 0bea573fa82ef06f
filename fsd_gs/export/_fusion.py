"""The numba kernel of TSDF fusion (see ``mesh.py`` for the maths): every voxel against every view, on all cores."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from fsd_gs.core.kernels import njit


@njit(parallel=True)
def fuse_views(
    low: NDArray[np.float32],  # [3] centre of voxel (0, 0, 0)
    spacing: float,
    shape: tuple[int, int, int],
    viewmats: NDArray[np.float32],  # [V, 4, 4]
    Ks: NDArray[np.float32],  # [V, 3, 3]
    depths: NDArray[np.float32],  # [V, H, W]: +inf where the ray misses the object
    tau: float,
) -> NDArray[np.float32]:
    """[I, J, K] averaged truncated signed distance in units of τ: 1 in free space, negative inside, −1 where no view looks."""
    views, height, width = depths.shape
    field = np.empty(shape, dtype=np.float32)
    for i in numba.prange(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                x, y, z = low[0] + spacing * i, low[1] + spacing * j, low[2] + spacing * k
                total, count = 0.0, 0
                for view in range(views):
                    M, K = viewmats[view], Ks[view]
                    depth = M[2, 0] * x + M[2, 1] * y + M[2, 2] * z + M[2, 3]
                    if depth <= 1e-6:
                        continue
                    u = K[0, 0] * (M[0, 0] * x + M[0, 1] * y + M[0, 2] * z + M[0, 3]) / depth + K[0, 2]
                    v = K[1, 1] * (M[1, 0] * x + M[1, 1] * y + M[1, 2] * z + M[1, 3]) / depth + K[1, 2]
                    if u < 0 or v < 0 or u >= width or v >= height:
                        continue
                    distance = min((depths[view, int(v), int(u)] - depth) / tau, 1.0)
                    if distance > -1.0:
                        total += distance
                        count += 1
                field[i, j, k] = total / count if count > 0 else -1.0
    return field
