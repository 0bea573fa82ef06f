"""The numba kernel that covers an atlas with its triangles (see ``mesh_texture.py``)."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True)
def rasterise(
    faces: NDArray[np.int64],  # [F, 3]
    uv: NDArray[np.float64],  # [P, 2] in [0, 1], v upwards
    size: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(face [size, size] or −1, barycentric weights [size, size, 3]) at the centres of the texels; row 0 is v = 1."""
    face = np.full((size, size), -1, dtype=np.int64)
    weights = np.zeros((size, size, 3))
    for f in range(len(faces)):
        ax, ay = uv[faces[f, 0], 0] * size, (1 - uv[faces[f, 0], 1]) * size
        bx, by = uv[faces[f, 1], 0] * size, (1 - uv[faces[f, 1], 1]) * size
        cx, cy = uv[faces[f, 2], 0] * size, (1 - uv[faces[f, 2], 1]) * size
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-12:
            continue
        left, right = max(0, int(min(ax, bx, cx))), min(size - 1, int(max(ax, bx, cx)) + 1)
        top, bottom = max(0, int(min(ay, by, cy))), min(size - 1, int(max(ay, by, cy)) + 1)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y = column + 0.5, row + 0.5
                b = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
                c = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
                a = 1 - b - c
                if a >= -1e-9 and b >= -1e-9 and c >= -1e-9:
                    face[row, column] = f
                    weights[row, column, 0], weights[row, column, 1], weights[row, column, 2] = a, b, c
    return face, weights
