"""Triangle meshes and a small modelling kit for the procedural catalogue.

A builder makes closed solids (``Part``: one colour a face) with a few primitives, moves them about and hands the list to ``finish``,
which bakes them into one ``Mesh``: normals split at creases, soft light from a sky fixed in the world, centred and scaled to a ball.

Every primitive is a closed surface whose faces turn outwards: orientation comes from the sign of its volume,
V = 1/6 Σ_f a·(b × c) (divergence theorem), so a profile may be drawn in either direction.

World: z up, the front of an object faces +x (``fsd_gs.core.types``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from fsd_gs.errors import InputError

Array = npt.NDArray[np.floating]
Vector = Sequence[float] | npt.NDArray[np.floating]
Points = Sequence[Vector] | npt.NDArray[np.floating]
CREASE_DEG = 50.0  # faces that meet at less than this share a normal; an 8-sided tube (45°) is still round


@dataclass(frozen=True)
class Mesh:
    """A finished triangle mesh.

    Attributes:
        vertices: [P, 3] float32 world positions.
        faces: [F, 3] int32, counter-clockwise seen from outside.
        colors: [P, 3] (interpolated) or [F, 3] (flat) float32 sRGB in [0, 1]; with P = F they are taken as vertex colours.
    """

    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    colors: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, dtype in (("vertices", np.float32), ("faces", np.int32), ("colors", np.float32)):
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            if array.ndim != 2 or array.shape[1] != 3:
                raise InputError(f"{name}: expected shape [*, 3], got {list(array.shape)}")
            object.__setattr__(self, name, array)
        if len(self.colors) not in (len(self.vertices), len(self.faces)):
            raise InputError(f"colors: expected {len(self.vertices)} rows (vertices) or {len(self.faces)} (faces), got {len(self.colors)}")
        if len(self.faces) and (self.faces.min() < 0 or self.faces.max() >= len(self.vertices)):
            raise InputError(f"faces: expected indices in [0, {len(self.vertices)}), got {self.faces.min()} to {self.faces.max()}")

    @property
    def corner_colors(self) -> npt.NDArray[np.float32]:
        """[F, 3, 3] colour at each corner of each face."""
        if len(self.colors) == len(self.vertices):
            return self.colors[self.faces]
        return np.repeat(self.colors[:, None], 3, axis=1)


@dataclass(frozen=True)
class Part:
    """A raw solid under construction: vertices [P, 3], faces [F, 3], colors [F, 3] one a face. Methods return new parts."""

    vertices: Array
    faces: npt.NDArray[np.integer]
    colors: Array

    def move(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Part:
        return replace(self, vertices=self.vertices + np.array([x, y, z]))

    def scale(self, x: float, y: float | None = None, z: float | None = None) -> Part:
        """Stretch about the origin; one number scales all axes. A negative factor mirrors (faces stay outward)."""
        factors = np.array([x, x if y is None else y, x if z is None else z])
        faces = self.faces[:, ::-1] if np.prod(factors) < 0 else self.faces
        return replace(self, vertices=self.vertices * factors, faces=faces)

    def turn(self, axis: str, degrees: float) -> Part:
        """Rotate about a world axis through the origin, counter-clockwise seen from the axis' tip."""
        return replace(self, vertices=self.vertices @ rotation(axis, degrees).T)

    def paint(self, color: Vector) -> Part:
        return replace(self, colors=np.broadcast_to(np.asarray(color, dtype=float), self.colors.shape))

    def paint_where(self, chosen: Callable[[Array], npt.NDArray[np.bool_]], color: Vector) -> Part:
        """Recolour the faces whose centroids [F, 3] satisfy ``chosen``."""
        mask = chosen(self.vertices[self.faces].mean(1))
        return replace(self, colors=np.where(mask[:, None], np.asarray(color, dtype=float), self.colors))

    def warp(self, function: Callable[[Array], Array]) -> Part:
        """Move every vertex by a continuous map [P, 3] → [P, 3] that keeps the orientation."""
        return replace(self, vertices=function(self.vertices.copy()))


def rotation(axis: str, degrees: float) -> Array:
    """[3, 3] rotation about 'x', 'y' or 'z'."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def signed_volume(vertices: Array, faces: npt.NDArray[np.integer]) -> float:
    """Volume of a closed mesh, vertices [V, 3] and faces [F, 3]: Σ det(a, b, c)/6; negative if the faces look inwards."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def solid(vertices: Vector | Array, faces: npt.ArrayLike, color: Vector | Array) -> Part:
    """A closed surface as a part: welds equal points, drops empty faces, turns the faces outward. color: [3] or [F, 3]."""
    vertices, faces = np.asarray(vertices, dtype=float), np.asarray(faces, dtype=np.int64)
    colors = np.broadcast_to(np.asarray(color, dtype=float), (len(faces), 3))
    _, first, index = np.unique(np.round(vertices, 7), axis=0, return_index=True, return_inverse=True)
    vertices, faces = vertices[first], index.reshape(-1)[faces]
    kept = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    kept &= np.linalg.norm(face_normals(vertices, faces), axis=1) > 1e-12
    faces, colors = faces[kept], colors[kept]
    if signed_volume(vertices - vertices.mean(0), faces) < 0:
        faces = faces[:, ::-1]
    return Part(vertices, faces, colors)


def box(size: Vector, color: Vector, bevel: float = 0.0) -> Part:
    """A box of full side lengths ``size`` about the origin; ``bevel`` cuts the edges by that length."""
    half = np.asarray(size, dtype=float) / 2
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    if bevel <= 0:
        return hull(signs * half, color)
    bevel = min(bevel, 0.95 * half.min())
    inset = [signs * np.where(np.arange(3) == k, half, half - bevel) for k in range(3)]
    return hull(np.concatenate(inset), color)


def hull(points: Points, color: Vector) -> Part:
    """The convex hull of points: wedges, cabins, gems, roofs."""
    points = np.asarray(points, dtype=float)
    faces = ConvexHull(points).simplices
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a - points.mean(0)) < 0
    faces[inward] = faces[inward][:, ::-1]
    return solid(points, faces, color)


def lathe(profile: Points, color: Vector | Sequence[Vector], sections: int = 28) -> Part:
    """Revolve a profile of (radius, z) about z. Open ends are capped, a profile that returns to its start makes a ring.
    color: one, or one a profile segment."""
    profile = np.asarray(profile, dtype=float)
    colors = np.asarray(color, dtype=float)
    segment_colors = list(np.broadcast_to(colors, (len(profile) - 1, 3)))
    closed = bool(np.allclose(profile[0], profile[-1]))
    if closed:
        profile = profile[:-1]
    elif profile[0, 0] > 1e-6:
        profile, segment_colors = np.vstack([[0.0, profile[0, 1]], profile]), [segment_colors[0], *segment_colors]
    if not closed and profile[-1, 0] > 1e-6:
        profile, segment_colors = np.vstack([profile, [0.0, profile[-1, 1]]]), [*segment_colors, segment_colors[-1]]
    angle = 2 * np.pi * np.arange(sections) / sections
    rings = np.stack([profile[:, :1] * np.cos(angle), profile[:, :1] * np.sin(angle), np.repeat(profile[:, 1:], sections, 1)], axis=-1)
    return _grid(rings, np.repeat(np.array(segment_colors), 2 * sections, axis=0), closed)


def _grid(rings: Array, color: Vector | Array, closed: bool = False) -> Part:
    """Skin m rings of n points [m, n, 3]; the rings are closed, and joined last to first if ``closed``."""
    m, n, _ = rings.shape
    i, j = np.meshgrid(np.arange(m if closed else m - 1), np.arange(n), indexing="ij")
    a, b = i * n + j, i * n + (j + 1) % n
    c, d = (i + 1) % m * n + j, (i + 1) % m * n + (j + 1) % n
    faces = np.stack([np.stack([a, b, d], -1), np.stack([a, d, c], -1)], axis=2).reshape(-1, 3)
    return solid(rings.reshape(-1, 3), faces, color)


def cylinder(radius: float, height: float, color: Vector, axis: str = "z", top: float | None = None, sections: int = 20) -> Part:
    """About the origin along ``axis``; ``top`` is the other end's radius (0 = cone)."""
    part = lathe([(radius, -height / 2), (radius if top is None else top, height / 2)], color, sections)
    return part if axis == "z" else part.turn({"x": "y", "y": "x"}[axis], 90 if axis == "x" else -90)


def cone(radius: float, height: float, color: Vector, axis: str = "z", sections: int = 20) -> Part:
    """Base centre at −height/2, tip at +height/2 along ``axis``."""
    return cylinder(radius, height, color, axis, 0.0, sections)


def ellipsoid(radii: Vector | float, color: Vector | Sequence[Vector], sections: int = 20) -> Part:
    """A sphere of ``radii`` (one number or three) about the origin. color: one, or one for each of the sections/2 rows from below."""
    rows = max(sections // 2, 4)
    polar = np.linspace(0, np.pi, rows + 1)
    part = lathe(np.stack([np.sin(polar), -np.cos(polar)], 1), color, sections)
    return part.scale(*np.broadcast_to(np.asarray(radii, dtype=float), 3))


def dome(radii: Vector | float, color: Vector, sections: int = 20, rows: int = 6) -> Part:
    """The upper half of an ellipsoid, flat below at z = 0."""
    polar = np.linspace(0, np.pi / 2, rows + 1)
    part = lathe(np.stack([np.cos(polar), np.sin(polar)], 1), color, sections)
    return part.scale(*np.broadcast_to(np.asarray(radii, dtype=float), 3))


def torus(major: float, minor: float, color: Vector, axis: str = "z", sections: int = 28, sides: int = 10) -> Part:
    """A ring of tube radius ``minor`` around ``axis``."""
    angle = 2 * np.pi * np.arange(sections) / sections
    part = tube(np.stack([major * np.cos(angle), major * np.sin(angle), np.zeros(sections)], 1), minor, color, sides, closed=True)
    return part if axis == "z" else part.turn({"x": "y", "y": "x"}[axis], 90)


def tube(path: Points, radius: float | Vector, color: Vector, sides: int = 10, closed: bool = False) -> Part:
    """Sweep a circle along a path [n, 3]; ``radius`` is one number or one a point. Frames are carried along without twist."""
    path = np.asarray(path, dtype=float)
    radii = np.broadcast_to(np.asarray(radius, dtype=float), len(path))
    ahead, behind = (
        (np.roll(path, -1, 0), np.roll(path, 1, 0)) if closed else (np.vstack([path[1:], path[-1]]), np.vstack([path[0], path[:-1]]))
    )
    tangents = ahead - behind
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    side = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    angle = 2 * np.pi * np.arange(sides) / sides
    rings = np.empty((len(path), sides, 3))
    for k, tangent in enumerate(tangents):
        side = side - tangent * (side @ tangent)
        side /= np.linalg.norm(side)
        rings[k] = path[k] + radii[k] * (np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(tangent, side))
    if closed:
        return _grid(rings, color, closed=True)
    first, last = np.repeat(path[:1], sides, 0)[None], np.repeat(path[-1:], sides, 0)[None]
    return _grid(np.concatenate([first, rings, last]), color)


def curve(points: Points, count: int = 16) -> Array:
    """[count, 3] points on a smooth (Catmull–Rom) curve through ``points``."""
    points = np.asarray(points, dtype=float)
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, len(points) - 1, count)
    k = np.minimum(t.astype(int), len(points) - 2)
    u = (t - k)[:, None]
    p0, p1, p2, p3 = (padded[k + n] for n in range(4))
    return 0.5 * (2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + (3 * p1 - p0 - 3 * p2 + p3) * u**3)


def extrude(polygon: Points, depth: float, color: Vector, axis: str = "x") -> Part:
    """Thicken a simple polygon by ``depth`` along ``axis``, centred. Its (u, v) become (y, z), (x, z) or (x, y) for x, y, z."""
    polygon = np.asarray(polygon, dtype=float)
    if polygon_area(polygon) < 0:
        polygon = polygon[::-1]
    n = len(polygon)
    caps = ear_clip(polygon)
    j = np.arange(n)
    k = (j + 1) % n
    sides = np.concatenate([np.stack([j, k, k + n], 1), np.stack([j, k + n, j + n], 1)])
    faces = np.concatenate([caps[:, ::-1], caps + n, sides])
    flat = np.concatenate([np.c_[polygon, np.full(n, -depth / 2)], np.c_[polygon, np.full(n, depth / 2)]])
    columns = {"x": (2, 0, 1), "y": (0, 2, 1), "z": (0, 1, 2)}[axis]
    return solid(flat[:, columns], faces, color)


def polygon_area(polygon: Array) -> float:
    """Signed area, positive counter-clockwise."""
    x, y = polygon.T
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def ear_clip(polygon: Array) -> npt.NDArray[np.int64]:
    """[n − 2, 3] triangles of a simple counter-clockwise polygon [n, 2]: cut off convex corners that hold no other point."""
    left = list(range(len(polygon)))
    triangles = []
    while len(left) > 3:
        areas = []
        for k in range(len(left)):
            a, b, c = polygon[left[k - 1]], polygon[left[k]], polygon[left[(k + 1) % len(left)]]
            others = polygon[[i for i in left if i not in (left[k - 1], left[k], left[(k + 1) % len(left)])]]
            sides = np.stack([_cross2(q - p, others - p) for p, q in ((a, b), (b, c), (c, a))])
            corner = float(_cross2(b - a, c - b))
            areas.append(corner if corner > 0 and not (sides >= 0).all(0).any() else -np.inf)
        k = int(np.argmax(np.isfinite(areas))) if np.isfinite(areas).any() else 0
        triangles.append((left[k - 1], left[k], left[(k + 1) % len(left)]))
        left.pop(k)
    return np.array([*triangles, tuple(left)], dtype=np.int64)


def _cross2(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def merge(parts: Iterable[Part]) -> Part:
    """Several solids as one part; vertices stay apart."""
    parts = list(parts)
    offsets = np.cumsum([0] + [len(p.vertices) for p in parts])
    return Part(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.faces + offset for p, offset in zip(parts, offsets[:-1], strict=True)]),
        np.concatenate([p.colors for p in parts]),
    )


def ring(part: Part, count: int, start_deg: float = 0.0) -> Part:
    """``count`` copies turned about z."""
    return merge(part.turn("z", start_deg + 360 * k / count) for k in range(count))


def mirrored(part: Part, axis: str = "y") -> Part:
    """The part and its mirror image across the plane through the origin."""
    factors = [-1.0 if a == axis else 1.0 for a in "xyz"]
    return merge([part, part.scale(*factors)])


def split_long_edges(part: Part, longest: float) -> Part:
    """Halve edges longer than ``longest`` until none is left. Neighbours agree on each edge, so no cracks open.

    Columns of the vertices after x, y, z (texture coordinates, colours) are halved along but do not count for the length.
    """
    vertices, faces, colors = part.vertices, np.asarray(part.faces), np.asarray(part.colors)
    while True:
        edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2), axis=2)  # [F, 3, 2] edge k joins corners k and k + 1
        long = np.linalg.norm(vertices[edges[..., 0], :3] - vertices[edges[..., 1], :3], axis=2) > longest
        if not long.any():
            return Part(vertices, faces, colors)
        first, index = unique_rows(edges[long])
        middle = np.full(faces.shape, -1)
        middle[long] = len(vertices) + index
        vertices = np.concatenate([vertices, vertices[edges[long][first]].mean(1)])
        faces, parents = split_faces(faces, middle)
        colors = colors[parents]


def split_faces(faces: npt.NDArray[np.integer], middle: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Cut faces [F, 3] at edge midpoints (−1 = not cut). Returns the new faces and the old face of each."""
    count = (middle >= 0).sum(1)
    # Turn each face so that the first edge is cut, and with two cuts the uncut edge comes last.
    first = np.argmax(middle >= 0, 1)
    first = np.where((count == 2) & (middle[:, 0] >= 0) & (middle[:, 1] < 0), 2, first)
    turned = (first[:, None] + np.arange(3)) % 3
    corners, mids = np.take_along_axis(faces, turned, 1), np.take_along_axis(middle, turned, 1)
    (a, b, c), (p, q, r) = corners.T, mids.T
    patterns = {
        0: [(a, b, c)],
        1: [(a, p, c), (p, b, c)],
        2: [(p, b, q), (a, p, q), (a, q, c)],
        3: [(a, p, r), (p, b, q), (r, q, c), (p, q, r)],
    }
    pieces, parents = [], []
    for cuts, triangles in patterns.items():
        chosen = np.flatnonzero(count == cuts)
        for triangle in triangles:
            pieces.append(np.stack([corner[chosen] for corner in triangle], 1))
            parents.append(chosen)
    return np.concatenate(pieces), np.concatenate(parents)


def face_normals(vertices: Array, faces: npt.NDArray[np.integer]) -> Array:
    """[F, 3] outward normals whose length is twice the face's area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def crease_normals(vertices: Array, faces: npt.NDArray[np.integer], crease_deg: float = CREASE_DEG) -> Array:
    """[F, 3, 3] unit normal at each corner: the area-weighted mean over the faces around its vertex that lie within the crease angle."""
    weighted = face_normals(vertices, faces)
    unit = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)
    corner_vertex = faces.reshape(-1)
    order = np.argsort(corner_vertex, kind="stable")
    starts = np.searchsorted(corner_vertex[order], corner_vertex)
    counts = np.searchsorted(corner_vertex[order], corner_vertex, side="right") - starts
    # All pairs (corner, face around the same vertex), flattened.
    corner = np.repeat(np.arange(len(corner_vertex)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    other = order[np.repeat(starts, counts) + within] // 3
    smooth = np.einsum("ij,ij->i", unit[corner // 3], unit[other]) > np.cos(np.deg2rad(crease_deg))
    smooth |= other == corner // 3
    total = np.zeros((len(corner_vertex), 3))
    for k in range(3):
        total[:, k] = np.bincount(corner[smooth], weighted[other[smooth], k], len(corner_vertex))
    return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)).reshape(-1, 3, 3)


def split_corners(part: Part, crease_deg: float = CREASE_DEG) -> tuple[Array, npt.NDArray[np.integer], Array, Array]:
    """(vertices [P, 3], faces [F, 3], normals [P, 3], colors [P, 3]) with one vertex for each different normal and colour at a point."""
    normals = crease_normals(part.vertices, part.faces, crease_deg).reshape(-1, 3)
    colors = np.repeat(part.colors, 3, axis=0)
    first, index = unique_rows(np.c_[part.faces.reshape(-1), np.rint(np.c_[normals, colors] * 1e4).astype(np.int64)])
    return part.vertices[part.faces.reshape(-1)[first]], index.reshape(-1, 3), normals[first], colors[first]


def unique_rows(rows: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(first, index) of the different rows of integers [N, K], in lexicographic order: the first row of each, and which one each row is.

    As ``np.unique(axis=0)``, ten times as fast: columns are folded into one integer, which is ranked where it would overflow.
    """
    key, span = np.zeros(len(rows), np.int64), 1
    for column in rows.T:
        low = int(column.min()) if len(column) else 0
        width = int(column.max()) - low + 1 if len(column) else 1
        if span * width >= 1 << 63:
            ranks, key = np.unique(key, return_inverse=True)
            span = len(ranks)
        key, span = key * width + (column - low), span * width
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    return first, index


def fit_ball(part: Part, radius: float = 0.9) -> Part:
    """Centred on the bounding box and scaled so that the farthest vertex lies at ``radius``."""
    centred = part.vertices - (part.vertices.max(0) + part.vertices.min(0)) / 2
    return replace(part, vertices=centred * (radius / np.linalg.norm(centred, axis=1).max()))


def sample_surface(mesh: Mesh, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Area-uniform points on the surface: (points, unit normals, colors), each [count, 3] float32 on the CPU."""
    if count < 1:
        raise InputError(f"count: expected at least 1, got {count}")
    corners = torch.from_numpy(mesh.vertices[mesh.faces])
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = cross.norm(dim=1)
    if not float(area.sum()) > 0:
        raise InputError("mesh: expected a surface with an area above 0, got an empty one")
    face = torch.multinomial(area.double(), count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    root = u.sqrt()  # uniform barycentrics: (1 − √u, √u (1 − v), √u v)
    weights = torch.stack([1 - root, root * (1 - v), root * v], dim=1)[:, :, None]
    colors = torch.from_numpy(mesh.corner_colors)
    return (weights * corners[face]).sum(1), torch.nn.functional.normalize(cross[face], dim=1), (weights * colors[face]).sum(1)
