"""Small matrices as nested tuples (rows) inside numba kernels: no allocation, everything ends up in registers."""

from __future__ import annotations

from fsd_gs.core.kernels import njit

# ruff: noqa: ANN001, ANN202 - kernels carry their shapes in the docstrings


@njit()
def row_times(r, m):
    """r [3] · m [3, 3]."""
    return (
        r[0] * m[0][0] + r[1] * m[1][0] + r[2] * m[2][0],
        r[0] * m[0][1] + r[1] * m[1][1] + r[2] * m[2][1],
        r[0] * m[0][2] + r[1] * m[1][2] + r[2] * m[2][2],
    )


@njit()
def times_column(m, v):
    """m [R, 3] · v [3] for R = 3."""
    return dot(m[0], v), dot(m[1], v), dot(m[2], v)


@njit()
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit()
def add(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@njit()
def scaled(a, s):
    return a[0] * s, a[1] * s, a[2] * s


@njit()
def times(a, b):
    """Element by element."""
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


@njit()
def columns_scaled(m, s):
    """m [3, 3] · diag(s)."""
    return (
        (m[0][0] * s[0], m[0][1] * s[1], m[0][2] * s[2]),
        (m[1][0] * s[0], m[1][1] * s[1], m[1][2] * s[2]),
        (m[2][0] * s[0], m[2][1] * s[1], m[2][2] * s[2]),
    )
