"""One file of a user's folder as a mesh of the catalogue's kind: in the ball, colours at the corners, soft light baked in.

read       ``fsd_gs.meshes`` opens the file; every placed part of its scene is a surface with a tint and perhaps a texture
place      axes to ours (z up, front +x), centred, scaled so that the farthest corner lies at 0.9
refine     edges are halved where the colours at a face's corners do not stand for the texture between them, the worst first, and where
           they are too long for light at the corners; both sides of an edge agree, and ``max_faces`` is never passed
thin out   a file of more than ``max_faces`` faces by quadric edge collapses (Garland & Heckbert 1997); colours from the nearest old corner
light      parts whose faces look inwards are turned (their other side sees more sky), then lit as the catalogue is (``catalogue.bake``);
           what blocks light is the shape before refinement, which is the same with fewer faces
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fsd_gs.catalogue.bake import RADIUS, lit_colors, openness
from fsd_gs.catalogue.mesh import Array, Mesh, Part, crease_normals, face_normals, fit_ball, split_faces, unique_rows
from fsd_gs.errors import BackendError, FileFormatError, InputError, unknown_name
from fsd_gs.meshes import read
from fsd_gs.meshes.read import SUFFIXES, read_surfaces, to_world, up_of
from fsd_gs.meshes.surface import Surface

__all__ = ["SUFFIXES", "AssetSettings", "load_asset"]

MAX_BYTES = read.MAX_BYTES
MAX_READ_FACES = read.MAX_FACES
TEXTURE_EDGE, PLAIN_EDGE = 0.06, 0.2  # shortest edge halved for a texture, longest left whole; a pixel of a 64-pixel view is about 0.03
TOLERANCE = 0.05  # of sRGB between a texture and what the corners make of it
_MAX_NORMAL_PAIRS = 20_000_000
_LEAST_AREA = 1e-12  # twice that of a face


@dataclass(frozen=True)
class AssetSettings:
    """How a mesh file is read for training.

    Attributes:
        up: "y" (front +z), "z" (front +x) or "auto" by file type.
        lit: the colours already hold light and shadow, add none.
        max_faces: denser meshes are thinned out to about this many triangles.
    """

    up: str = "auto"
    lit: bool = False
    max_faces: int = 20_000

    def __post_init__(self) -> None:
        if self.up not in ("auto", "y", "z"):
            raise InputError(unknown_name("up", self.up, ("auto", "y", "z")))
        if self.max_faces < 100:
            raise InputError(f"max_faces: expected at least 100, got {self.max_faces}")


@dataclass(frozen=True)
class TriangleSoup:
    """Loose triangles: points [F, 3, 3] and sRGB colors [F, 3, 3] at their corners."""

    points: Array
    colors: Array


def load_asset(path: Path, root: Path, settings: AssetSettings) -> Mesh:
    """The file as a lit mesh in the ball of radius 0.9. root: the folder that textures and buffers may lie in.

    FileFormatError if it cannot be read or holds no surface; BackendError if it must be thinned out and fast-simplification is missing.
    """
    surfaces = read_surfaces(path, root, max_faces=MAX_READ_FACES, max_bytes=MAX_BYTES)
    corners = to_world(np.concatenate([s.corners.reshape(-1, 3) for s in surfaces]), up_of(path, settings.up))
    if not np.ptp(corners, axis=0).max() > 0:
        raise FileFormatError(f"{path.name}: all its faces lie in one point")
    corners = fit_ball(Part(corners, np.zeros((0, 3), dtype=int), np.zeros((0, 3))), RADIUS).vertices.reshape(-1, 3, 3)
    painted = _Painted.of(surfaces, corners)
    if len(corners) > settings.max_faces:
        soup = _outwards(_thinned(painted.soup(), settings.max_faces, path.name), path.name)
        return _finished(soup, soup.points, settings.lit)
    if any(s.cut_out for s in surfaces):  # what is there is known after refinement only
        soup = _outwards(_refined(painted, settings.max_faces).soup(), path.name)
        return _finished(soup, soup.points, settings.lit)
    painted = painted.outwards(path.name)
    return _finished(_refined(painted, settings.max_faces).soup(), painted.attributes[..., :3], settings.lit)


@dataclass(frozen=True)
class _Painted:
    """Placed triangles that still know their surface.

    attributes [F, 3, 9]: position, tint, uv. surface [F]: index. level [F]: of the texture's pyramid. error [F, 3]: what the corners make
    of the texture along each edge is off by so much; negative where nobody looked yet.
    """

    surfaces: list[Surface]
    attributes: Array
    surface: npt.NDArray[np.int64]
    level: npt.NDArray[np.int64]
    error: Array

    @classmethod
    def of(cls, surfaces: list[Surface], points: Array) -> _Painted:
        counts = [len(s.corners) for s in surfaces]
        tint = np.concatenate([s.tint for s in surfaces])
        uv = np.concatenate([np.zeros((len(s.corners), 3, 2)) if s.uv is None else s.uv for s in surfaces])
        placed = np.split(points, np.cumsum(counts)[:-1])
        level = np.concatenate([s.levels(TEXTURE_EDGE, p) for s, p in zip(surfaces, placed, strict=True)])
        return cls(
            surfaces,
            np.concatenate([points, tint, uv], axis=2),
            np.repeat(np.arange(len(surfaces)), counts),
            level,
            np.full((len(points), 3), -1.0),
        )

    def colors(self, weights: Array) -> Array:
        """[F, P, 4] sRGB and opacity at barycentric ``weights`` [P, 3] of every face."""
        at = _mixed(weights, self.attributes[..., 3:])
        result = np.empty((*at.shape[:2], 4))
        for index, surface in enumerate(self.surfaces):
            chosen = self.surface == index
            values = at[chosen].reshape(-1, 6)
            levels = np.repeat(self.level[chosen], len(weights))
            uv = None if surface.uv is None else values[:, 4:]
            result[chosen] = surface.colors(values[:, :4], uv, levels).reshape(-1, len(weights), 4)
        return result

    def outwards(self, name: str) -> _Painted:
        """As :func:`_outwards`."""
        solid, inward = _solid_and_inward(self.attributes[..., :3], name)
        attributes = self.attributes[solid]
        attributes = np.where(inward[:, None, None], attributes[:, ::-1], attributes)
        return _Painted(self.surfaces, attributes, self.surface[solid], self.level[solid], self.error[solid])

    def soup(self) -> TriangleSoup:
        colors = self.colors(np.eye(3))
        cutoffs = np.array([s.cutoff if s.cut_out and s.cutoff is not None else -1.0 for s in self.surfaces])
        there = colors[..., 3].mean(1) >= cutoffs[self.surface]
        return TriangleSoup(self.attributes[there, :, :3], np.clip(colors[there, :, :3], 0, 1))


_EDGE_POINTS = np.array([[1 - t, t, 0.0] for t in (0.25, 0.5, 0.75)])  # on the edge from corner 0 to corner 1
_INSIDE = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]]) / np.array([[3], [6], [6], [6]])
_PROBES = np.concatenate([np.roll(_EDGE_POINTS, k, axis=1) for k in range(3)] + [_INSIDE])


def _mixed(weights: Array, corners: Array) -> Array:
    """[F, P, C]: values at the corners [F, 3, C] at barycentric ``weights`` [P, 3]."""
    return np.tensordot(weights, corners, axes=(1, 1)).transpose(1, 0, 2)


def _refined(painted: _Painted, max_faces: int) -> _Painted:
    """``painted`` with edges halved where it matters most, until nothing is to be gained or ``max_faces`` is reached."""
    while True:
        painted = replace(painted, error=_texture_error(painted))
        cut = _edges_to_cut(painted, max_faces - len(painted.attributes))
        if not cut.any():
            return painted
        corners = painted.attributes.reshape(-1, painted.attributes.shape[2])
        middles = ((painted.attributes + np.roll(painted.attributes, -1, axis=1)) / 2)[cut]
        halved = np.asarray(cut.any(axis=1))
        middle = np.full(cut.shape, -1)
        middle[cut] = len(corners) + np.arange(len(middles))
        faces, parents = split_faces(np.arange(len(corners)).reshape(-1, 3), middle)
        attributes = np.concatenate([corners, middles])[faces]
        error = np.where(halved[parents, None], -1.0, painted.error[parents])
        painted = _Painted(painted.surfaces, attributes, painted.surface[parents], painted.level[parents], error)


def _edges_to_cut(painted: _Painted, budget: int) -> npt.NDArray[np.bool_]:
    """[F, 3] edges (k joins corners k and k + 1) to halve now: at most ``budget`` new faces, the largest need first."""
    points = painted.attributes[..., :3]
    lengths = np.linalg.norm(points - np.roll(points, -1, axis=1), axis=2)
    need = np.where(lengths > PLAIN_EDGE, 0.5 * TOLERANCE, 0.0)
    need = np.maximum(need, np.where(lengths > TEXTURE_EDGE, painted.error, 0.0))
    _, faces = _welded(points)
    ends = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=2), axis=2)
    _, edge = unique_rows(ends.reshape(-1, 2))
    sharing = np.bincount(edge)
    most = np.zeros(len(sharing))
    np.maximum.at(most, edge, need.reshape(-1))  # both sides of an edge are halved, or none
    order = np.argsort(-most, kind="stable")
    order = order[most[order] > 0]
    chosen = np.zeros(len(sharing), dtype=bool)
    chosen[order[np.cumsum(sharing[order]) <= budget]] = True
    return chosen[edge].reshape(-1, 3)


def _texture_error(painted: _Painted) -> Array:
    """[F, 3] how far a textured face's colours along each edge are from what its corners make of them; 0 below the tolerance.

    A fault inside a face counts for its longest edge. Faces that were looked at before keep what was found.
    """
    new = painted.error[:, 0] < 0
    errors = np.where(new[:, None], 0.0, painted.error)
    textured = np.array([s.texture is not None for s in painted.surfaces])[painted.surface] & new
    if not textured.any():
        return errors
    part = _Painted(
        painted.surfaces, painted.attributes[textured], painted.surface[textured], painted.level[textured], painted.error[textured]
    )
    fault = np.abs(part.colors(_PROBES) - _mixed(_PROBES, part.colors(np.eye(3))))
    cut_out = np.array([s.cutoff is not None for s in painted.surfaces])[part.surface]
    fault[~cut_out, :, 3] = 0  # opacity counts where it decides what is there
    worst = fault.max(axis=2)
    found = worst[:, :9].reshape(-1, 3, 3).max(axis=2)
    points = part.attributes[..., :3]
    longest = np.linalg.norm(points - np.roll(points, -1, axis=1), axis=2).argmax(axis=1)
    rows = np.arange(len(found))
    found[rows, longest] = np.maximum(found[rows, longest], worst[:, 9:].max(axis=1))
    errors[textured] = np.where(found > TOLERANCE, found, 0.0)
    return errors


def _thinned(soup: TriangleSoup, max_faces: int, name: str) -> TriangleSoup:
    """About ``max_faces`` triangles of the same shape."""
    try:
        import fast_simplification
    except ImportError as error:
        raise BackendError(
            f"{name}: has {len(soup.points)} faces, more than max_faces={max_faces}; thinning out needs the package "
            "fast-simplification: pip install fast-simplification"
        ) from error
    from scipy.spatial import KDTree

    vertices, faces = _welded(soup.points)
    kept, triangles, *_ = fast_simplification.simplify(vertices.astype(np.float64), faces.astype(np.int32), target_count=max_faces)
    _, nearest = KDTree(soup.points.reshape(-1, 3)).query(kept)
    return TriangleSoup(kept[triangles].astype(float), soup.colors.reshape(-1, 3)[nearest][triangles])


def _welded(points: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """(vertices [P, 3], faces [F, 3]) of loose triangles; corners nearer than about 1e-5 become one."""
    grid = np.rint(points.reshape(-1, 3) * 1e5).astype(np.int64)
    first, index = unique_rows(grid)
    return grid[first] / 1e5, index.reshape(-1, 3)


def _outwards(soup: TriangleSoup, name: str) -> TriangleSoup:
    """Without faces that have no area, the others looking outwards. FileFormatError if none is left."""
    solid, inward = _solid_and_inward(soup.points, name)
    points, colors = soup.points[solid], soup.colors[solid]
    return TriangleSoup(*(np.where(inward[:, None, None], values[:, ::-1], values) for values in (points, colors)))


def _solid_and_inward(points: Array, name: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """[F] which faces have an area; of those, which belong to a part that is inside out."""
    vertices, faces = _welded(points)
    solid = np.linalg.norm(face_normals(vertices, faces), axis=1) > _LEAST_AREA
    if not solid.any():
        raise FileFormatError(f"{name}: none of its faces has an area")
    return solid, _inward(vertices, faces[solid])


def _finished(soup: TriangleSoup, blockers: Array, lit: bool) -> Mesh:
    """Weld and bake the light that ``blockers`` [B, 3, 3], triangles of the same shape, let through."""
    vertices, faces = _welded(soup.points)
    solid = np.linalg.norm(face_normals(vertices, faces), axis=1) > _LEAST_AREA
    faces, colors = faces[solid], soup.colors[solid].reshape(-1, 3)
    normals = _corner_normals(vertices, faces)
    key = np.c_[faces.reshape(-1), np.rint(np.c_[normals, colors] * 1000).astype(np.int64)]
    first, index = unique_rows(key)
    points, albedo = vertices[faces.reshape(-1)[first]], colors[first]
    shown = albedo if lit else lit_colors(*_welded(blockers), points, normals[first], albedo)
    return Mesh(points.astype(np.float32), index.reshape(-1, 3).astype(np.int32), shown.astype(np.float32))


def _inward(vertices: Array, faces: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """[F] whether a face belongs to a connected part that is inside out: by its volume if it is closed, else if its back sees more sky."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]]).T
    _, labels = connected_components(coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(vertices),) * 2), directed=False)
    part = labels[faces[:, 0]]
    closed, volume = _closed_parts(vertices, faces, part)
    if closed.all():
        return (volume < 0)[part]
    weighted = face_normals(vertices, faces)
    area = np.linalg.norm(weighted, axis=1)
    unit, centres = weighted / area[:, None], vertices[faces].mean(1)
    front, back = np.split(openness(vertices, faces, np.tile(centres, (2, 1)), np.concatenate([unit, -unit])), 2)
    # A sheet is open on both sides: only a clear difference counts.
    return np.where(closed, volume < 0, np.bincount(part, (back - front) * area) > 0.05 * np.bincount(part, area))[part]


def _closed_parts(vertices: Array, faces: npt.NDArray[np.integer], part: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.bool_], Array]:
    """For each part: whether every edge is met once in each direction, and its signed volume."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    forward = directed[:, 0] * len(vertices) + directed[:, 1]
    backward = directed[:, 1] * len(vertices) + directed[:, 0]
    keys, counts = np.unique(forward, return_counts=True)
    at = np.minimum(np.searchsorted(keys, backward), len(keys) - 1)
    paired = np.logical_and(keys[at] == backward, counts[at] == 1)
    edge_part = np.concatenate([part, part, part])
    a, b, c = (vertices[faces[:, k]] - vertices.mean(0) for k in range(3))
    volumes = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
    return np.bincount(edge_part, ~paired) == 0, np.bincount(part, volumes).astype(float)


def _corner_normals(vertices: Array, faces: npt.NDArray[np.integer]) -> Array:
    """[3 F, 3] unit normals, smooth within the crease angle; flat where thousands of faces share a corner, which would not fit memory."""
    valence = np.bincount(faces.reshape(-1)).astype(float)
    if (valence**2).sum() <= _MAX_NORMAL_PAIRS:
        return crease_normals(vertices, faces).reshape(-1, 3)
    weighted = face_normals(vertices, faces)
    return np.repeat(weighted / np.linalg.norm(weighted, axis=1, keepdims=True), 3, axis=0)
