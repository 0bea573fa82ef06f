"""A z-buffer triangle rasterizer on the CPU: anti-aliased RGBA views of catalogue meshes, about a millisecond each.

In screen space 1/z and c/z (c a colour) are affine, so a triangle is a few planes f(x, y) = f_0 + f_x x + f_y y and the
perspective-correct colour is (c/z) / (1/z) (Blinn 1992, "Hyperbolic interpolation"). Two passes over a supersampled grid: rows of
samples between a triangle's edges compete on 1/z and keep the winner's index; then each covered sample is shaded once. Edges are
evaluated from the same end points in the same order for both neighbours, and spans are half open, so shared edges neither crack
nor overlap. Box filter over supersample² samples; the colour comes out premultiplied by coverage.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fsd_gs.catalogue.mesh import Mesh
from fsd_gs.core.kernels import njit
from fsd_gs.core.types import Cameras
from fsd_gs.errors import InputError

NEAR = 0.01
_EMPTY = -1


def render_mesh(mesh: Mesh, cameras: Cameras, *, supersample: int = 3) -> Tensor:
    """Views [V, H, W, 4] float32 on the CPU: sRGB premultiplied by coverage, and coverage, all in [0, 1].

    Faces are seen from both sides; what is nearer than 0.01 to the camera plane is cut off. supersample: samples a pixel side ≥ 1.
    """
    return _render(mesh, cameras, supersample)[..., :4]


def render_mesh_and_depth(mesh: Mesh, cameras: Cameras, *, supersample: int = 3) -> tuple[Tensor, Tensor]:
    """(views [V, H, W, 4] as :func:`render_mesh` has them, depths [V, H, W] along z: the mean of a pixel's covered samples, 0 where there
    is none)."""
    images = _render(mesh, cameras, supersample)
    coverage = images[..., 3]
    return images[..., :4], images[..., 4] / coverage.clamp_min(1e-6)


def _render(mesh: Mesh, cameras: Cameras, supersample: int) -> Tensor:
    """[V, H, W, 5]: premultiplied sRGB, coverage, depth times coverage."""
    if supersample < 1:
        raise InputError(f"supersample: expected at least 1, got {supersample}")
    viewmats = cameras.viewmats.detach().cpu().double().numpy()
    Ks = cameras.Ks.detach().cpu().double().numpy()
    corner_colors = np.ascontiguousarray(mesh.corner_colors, dtype=np.float64)
    images = np.zeros((len(cameras), cameras.height, cameras.width, 5), dtype=np.float32)
    for view in range(len(cameras)):
        _render_view(mesh.vertices, mesh.faces, corner_colors, viewmats[view], Ks[view], supersample, images[view])
    return torch.from_numpy(images)


@njit(nogil=True)
def _render_view(vertices, faces, corner_colors, viewmat, K, supersample, image):  # noqa: ANN001, ANN202
    """Fill ``image`` [H, W, 5] with one view."""
    height, width = image.shape[0] * supersample, image.shape[1] * supersample
    inverse_depth = np.zeros((height, width), dtype=np.float32)
    winner = np.full((height, width), _EMPTY, dtype=np.int32)
    planes = np.empty((2 * len(faces), 4, 3), dtype=np.float64)
    camera_points = np.empty((len(vertices), 3), dtype=np.float64)
    for p in range(len(vertices)):
        for row in range(3):
            camera_points[p, row] = viewmat[row, 3]
            for column in range(3):
                camera_points[p, row] += viewmat[row, column] * vertices[p, column]
    polygon = np.empty((4, 6), dtype=np.float64)
    triangle = np.empty((3, 6), dtype=np.float64)
    count = 0
    for f in range(len(faces)):
        corners = _clip_near(camera_points, faces[f], corner_colors[f], polygon)
        for k in range(corners):
            z = polygon[k, 2]
            polygon[k, 0] = (K[0, 0] * polygon[k, 0] / z + K[0, 1] * polygon[k, 1] / z + K[0, 2]) * supersample
            polygon[k, 1] = (K[1, 1] * polygon[k, 1] / z + K[1, 2]) * supersample
            polygon[k, 2] = 1.0 / z
            for c in range(3):
                polygon[k, 3 + c] /= z
        for k in range(1, corners - 1):
            triangle[0], triangle[1], triangle[2] = polygon[0], polygon[k], polygon[k + 1]
            if _plane_equations(triangle, planes[count]):
                _fill(triangle, planes[count, 0], count, inverse_depth, winner)
                count += 1
    _shade(winner, planes, supersample, image)


@njit()
def _clip_near(camera_points, face, colors, polygon):  # noqa: ANN001, ANN202
    """Cut a triangle at z = NEAR (Sutherland–Hodgman). Writes (x, y, z, r, g, b) rows; returns 0, 3 or 4 corners."""
    corners = 0
    for k in range(3):
        a, b, following = face[k], face[(k + 1) % 3], (k + 1) % 3
        za, zb = camera_points[a, 2], camera_points[b, 2]
        if za >= NEAR:
            for c in range(3):
                polygon[corners, c] = camera_points[a, c]
                polygon[corners, 3 + c] = colors[k, c]
            corners += 1
        if (za >= NEAR) != (zb >= NEAR):
            u = (NEAR - za) / (zb - za)
            for c in range(3):
                polygon[corners, c] = camera_points[a, c] + u * (camera_points[b, c] - camera_points[a, c])
                polygon[corners, 3 + c] = colors[k, c] + u * (colors[following, c] - colors[k, c])
            polygon[corners, 2] = NEAR
            corners += 1
    return corners


@njit()
def _plane_equations(triangle, planes):  # noqa: ANN001, ANN202
    """f_0, f_x, f_y of as many of 1/z and the three c/z as ``planes`` has rows, from rows (x, y, 1/z, r/z, g/z, b/z); False for a triangle
    without area."""
    x0, y0 = triangle[0, 0], triangle[0, 1]
    x1, y1 = triangle[1, 0] - x0, triangle[1, 1] - y0
    x2, y2 = triangle[2, 0] - x0, triangle[2, 1] - y0
    area = x1 * y2 - x2 * y1
    if abs(area) < 1e-9:
        return False
    for c in range(len(planes)):
        f1, f2 = triangle[1, 2 + c] - triangle[0, 2 + c], triangle[2, 2 + c] - triangle[0, 2 + c]
        planes[c, 1] = (f1 * y2 - f2 * y1) / area
        planes[c, 2] = (f2 * x1 - f1 * x2) / area
        planes[c, 0] = triangle[0, 2 + c] - planes[c, 1] * x0 - planes[c, 2] * y0
    return True


@njit()
def _first_sample(position, last):  # noqa: ANN001, ANN202
    """The first sample index whose centre i + ½ is not below ``position``, held in [0, last]."""
    return int(min(max(math.ceil(position - 0.5), 0.0), last))


@njit()
def _crossing(low, high, y):  # noqa: ANN001, ANN202
    """x where the edge from ``low`` to ``high`` (ordered by y) crosses the row y."""
    return low[0] + (high[0] - low[0]) * ((y - low[1]) / (high[1] - low[1]))


@njit()
def _fill(triangle, plane, index, inverse_depth, winner):  # noqa: ANN001, ANN202
    """Let a triangle compete for the samples it covers: the largest ``plane`` value (1/z) wins, ties go to the earlier triangle."""
    height, width = winner.shape
    top, middle, bottom = triangle[0], triangle[1], triangle[2]
    if top[1] > middle[1]:
        top, middle = middle, top
    if middle[1] > bottom[1]:
        middle, bottom = bottom, middle
    if top[1] > middle[1]:
        top, middle = middle, top
    for row in range(_first_sample(top[1], height), _first_sample(bottom[1], height)):
        y = row + 0.5
        long_edge = _crossing(top, bottom, y)
        short_edge = _crossing(top, middle, y) if y < middle[1] else _crossing(middle, bottom, y)
        start = _first_sample(min(long_edge, short_edge), width)
        stop = _first_sample(max(long_edge, short_edge), width)
        base = plane[0] + plane[2] * y + 0.5 * plane[1]
        for column in range(start, stop):
            value = np.float32(base + plane[1] * column)
            if value > inverse_depth[row, column]:
                inverse_depth[row, column] = value
                winner[row, column] = index


@njit()
def _shade(winner, planes, supersample, image):  # noqa: ANN001, ANN202
    """Colour and depth of each covered sample from its triangle's planes, averaged over the samples of each pixel."""
    weight = np.float32(1.0 / (supersample * supersample))
    for row in range(winner.shape[0]):
        y, i = row + 0.5, row // supersample
        for column in range(winner.shape[1]):
            index = winner[row, column]
            if index == _EMPTY:
                continue
            x, j = column + 0.5, column // supersample
            plane = planes[index]
            z = 1.0 / (plane[0, 0] + plane[0, 1] * x + plane[0, 2] * y)
            for c in range(3):
                value = z * (plane[1 + c, 0] + plane[1 + c, 1] * x + plane[1 + c, 2] * y)
                image[i, j, c] += np.float32(min(max(value, 0.0), 1.0)) * weight
            image[i, j, 3] += weight
            image[i, j, 4] += np.float32(z) * weight


@njit()
def sky_visibility(vertices, faces, points, directions, resolution, extent, bias):  # noqa: ANN001, ANN201
    """[D, P] bool: is ``points`` [P, 3] lit from each unit direction [D, 3]? One orthographic depth map of the mesh a direction.

    extent: half side of the map in world units; resolution: its samples a side; bias: depth tolerance in world units.
    """
    visible = np.empty((len(directions), len(points)), dtype=np.bool_)
    triangle = np.zeros((3, 6), dtype=np.float64)
    planes = np.empty((1, 3), dtype=np.float64)  # of the height alone
    screen = np.empty((len(vertices), 3), dtype=np.float64)
    for d in range(len(directions)):
        frame = _light_frame(directions[d])
        height = np.full((resolution, resolution), np.float32(-1e9))
        winner = np.full((resolution, resolution), _EMPTY, dtype=np.int32)
        for p in range(len(vertices)):
            _to_map(frame, vertices[p], resolution, extent, screen[p])
        for f in range(len(faces)):
            for k in range(3):
                triangle[k, :3] = screen[faces[f, k]]
            if _plane_equations(triangle, planes):
                _fill(triangle, planes[0], f, height, winner)
        point = np.empty(3)
        for p in range(len(points)):
            _to_map(frame, points[p], resolution, extent, point)
            row = min(max(int(point[1]), 0), resolution - 1)
            column = min(max(int(point[0]), 0), resolution - 1)
            visible[d, p] = point[2] + bias >= height[row, column]
    return visible


@njit()
def _light_frame(direction):  # noqa: ANN001, ANN202
    """[3, 3] rows: two axes of the map and the direction to the light."""
    frame = np.empty((3, 3))
    frame[2] = direction
    helper = np.array([1.0, 0.0, 0.0]) if abs(direction[0]) < 0.7 else np.array([0.0, 1.0, 0.0])
    side = np.cross(direction, helper)
    frame[0] = side / np.sqrt((side * side).sum())
    frame[1] = np.cross(direction, frame[0])
    return frame


@njit()
def _to_map(frame, point, resolution, extent, out):  # noqa: ANN001, ANN202
    """Map column, map row and height towards the light of a world point."""
    for axis in range(3):
        out[axis] = frame[axis, 0] * point[0] + frame[axis, 1] * point[1] + frame[axis, 2] * point[2]
    out[0] = (out[0] / extent * 0.5 + 0.5) * resolution
    out[1] = (out[1] / extent * 0.5 + 0.5) * resolution


def sphere_directions(count: int) -> npt.NDArray[np.float64]:
    """[count, 3] nearly even unit directions (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
