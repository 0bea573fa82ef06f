"""Bakes soft light into vertex colours, so that every view of an object agrees and renders need no lighting.

colour(p) = albedo(p) · s(p),  s = exposure · E(n)/E(up) · (floor + (1 − floor) · A(p)),
E(n) = Σ_d max(0, n·d) L(d) / Σ_d max(0, n·d): light from directions d on the sphere, L a bright sky above, a dim ground below and a
broad key light from the front; A(p) the share of that light which the object itself does not block, found with one small depth map
a direction (ambient occlusion: darker under table tops, inside mugs, behind handles). The light is fixed in the world. s ≈ 1 on top
and about 0.8 on open walls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fsd_gs.catalogue.mesh import Array, Mesh, Part, fit_ball, merge, split_corners, split_long_edges
from fsd_gs.catalogue.render import sky_visibility, sphere_directions

RADIUS = 0.9  # the catalogue's objects just fit this ball
SHADE_FLOOR = 0.45  # of the open light reaches even enclosed corners: bounced light
EXPOSURE = 1.10
_ROWS = 256  # points at a time: with 400 directions they stay in the cache
_COARSE, _FINE = sphere_directions(44), sphere_directions(400)
_KEY = np.array([0.55, -0.45, 0.70])  # from the front, its right side, above


def sky_radiance(directions: Array) -> Array:
    """[D] light that arrives from each unit direction [D, 3]."""
    height = directions[:, 2]
    sky = np.where(height > 0, 0.82 + 0.18 * height, 0.62 + 0.12 * height)
    return sky + 0.75 * np.maximum(0.0, directions @ (_KEY / np.linalg.norm(_KEY))) ** 2


def open_light(normals: Array) -> Array:
    """[P] light on an unoccluded surface with unit ``normals`` [P, 3], as a multiple of that on an open horizontal plane."""
    radiance = sky_radiance(_FINE)

    def gather(n: Array) -> Array:
        cosine = np.maximum(0.0, n @ _FINE.T)
        return cosine @ radiance / np.maximum(cosine.sum(1), 1e-9)

    gathered = [gather(normals[at : at + _ROWS]) for at in range(0, len(normals), _ROWS)]
    return np.concatenate([np.zeros(0), *gathered]) / gather(np.array([[0.0, 0.0, 1.0]]))


def openness(vertices: Array, faces: npt.NDArray[np.integer], points: Array, normals: Array) -> Array:
    """[P] share of the light from above each tangent plane that the mesh (vertices, faces) lets through; 1 on convex objects."""
    visible = sky_visibility(
        np.ascontiguousarray(vertices, dtype=np.float64),
        np.ascontiguousarray(faces, dtype=np.int64),
        np.ascontiguousarray(points + 0.02 * normals),
        _COARSE,
        96,
        1.0,
        0.03,
    )
    weight = np.maximum(0.0, _COARSE @ normals.T) * sky_radiance(_COARSE)[:, None]
    share = (weight * visible).sum(0) / np.maximum(weight.sum(0), 1e-9)
    return np.minimum(1.0, 1.12 * share)  # grazing directions hit the next facet of a round surface: do not count them


def lit_colors(vertices: Array, faces: npt.NDArray[np.integer], points: Array, normals: Array, albedo: Array) -> Array:
    """[P, 3] sRGB in [0, 1]: ``albedo`` [P, 3] at ``points`` [P, 3] with unit ``normals`` under the light that the mesh lets through."""
    occlusion = SHADE_FLOOR + (1 - SHADE_FLOOR) * openness(vertices, faces, points, normals)
    factor = (EXPOSURE * open_light(normals) * occlusion)[:, None]
    # Shadows keep their hue: the darker, the more the channel differences count.
    shaded = albedo * factor
    gray = shaded.mean(1, keepdims=True)
    return np.clip(gray + (shaded - gray) * (1 + 0.35 * np.clip(1 - factor, 0, 1)), 0, 1)


def finish(parts: Sequence[Part], *, longest_edge: float = 0.45, radius: float = RADIUS) -> Mesh:
    """One mesh from solids: centred, scaled to ``radius``, creases split, light baked. longest_edge: finer than this for the shading."""
    part = fit_ball(merge(parts), radius)
    part = split_long_edges(part, longest_edge)
    vertices, faces, normals, albedo = split_corners(part)
    colors = lit_colors(part.vertices, np.asarray(part.faces), vertices, normals, albedo)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32), colors.astype(np.float32))
