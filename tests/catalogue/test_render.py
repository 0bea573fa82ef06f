"""The mesh rasterizer against a slow ray-triangle twin, and the modelling kit's known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fsd_gs.catalogue.bake import finish
from fsd_gs.catalogue.mesh import (
    Mesh,
    Part,
    box,
    cone,
    cylinder,
    dome,
    ear_clip,
    ellipsoid,
    extrude,
    lathe,
    polygon_area,
    signed_volume,
    split_corners,
    split_long_edges,
    torus,
    tube,
    unique_rows,
)
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras
from fsd_gs.errors import InputError

RED = (0.8, 0.2, 0.1)


def soup(seed: int, count: int = 30) -> Mesh:
    """Random triangles inside the unit ball with random corner colours."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-0.5, 0.5, (count, 1, 3))
    corners = centre + rng.uniform(-0.4, 0.4, (count, 3, 3))
    return Mesh(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3), rng.uniform(0, 1, (3 * count, 3)))


def trace(mesh: Mesh, cameras: Cameras, supersample: int) -> np.ndarray:
    """Slow twin: Möller–Trumbore for every sample ray and triangle in float64, averaged over the samples of each pixel."""
    height, width = cameras.height * supersample, cameras.width * supersample
    images = []
    corners, colors = mesh.vertices[mesh.faces].astype(float), mesh.corner_colors.astype(float)
    for view in range(len(cameras)):
        pose, K = cameras.viewmats[view].double().numpy(), cameras.Ks[view].double().numpy()
        y, x = np.meshgrid((np.arange(height) + 0.5) / supersample, (np.arange(width) + 0.5) / supersample, indexing="ij")
        rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], -1).reshape(-1, 3)
        points = corners @ pose[:3, :3].T + pose[:3, 3]
        nearest, picture = np.full(len(rays), np.inf), np.zeros((len(rays), 4))
        for (a, b, c), rgb in zip(points, colors, strict=True):
            normal = np.cross(b - a, c - a)
            facing = rays @ normal
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = (a @ normal) / facing
                hit = rays * depth[:, None] - a
                denominator = normal @ normal
                v = np.cross(hit, c - a) @ normal / denominator
                w = np.cross(b - a, hit) @ normal / denominator
            inside = (v >= 0) & (w >= 0) & (v + w <= 1) & (depth > 0.01) & (depth < nearest)
            nearest[inside] = depth[inside]
            weights = np.stack([1 - v - w, v, w], 1)[inside]
            picture[inside] = np.c_[weights @ rgb, np.ones(inside.sum())]
        grid = picture.reshape(cameras.height, supersample, cameras.width, supersample, 4)
        images.append(grid.mean((1, 3)))
    return np.stack(images)


@pytest.mark.parametrize("supersample", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_ray_traced_twin(seed: int, supersample: int) -> None:
    cameras = orbit_cameras([10.0, 200.0], [25.0, -40.0], distance=2.0, width=24, height=20)
    mesh = soup(seed)
    expected, actual = trace(mesh, cameras, supersample), render_mesh(mesh, cameras, supersample=supersample).numpy()
    # A sample that lies on an edge to the last bit may fall either way: allow a handful of pixels, the rest must agree.
    wrong = np.abs(expected - actual).max(-1) > 1e-4
    assert wrong.sum() <= 1, wrong.sum()
    assert actual[..., 3].mean() > 0.1


def test_a_camera_inside_the_scene_cuts_at_the_near_plane() -> None:
    cameras = orbit_cameras([0.0, 90.0], [10.0, 60.0], distance=0.3, fov_y_deg=80.0, width=20)
    mesh = soup(4, 60)
    expected, actual = trace(mesh, cameras, 1), render_mesh(mesh, cameras, supersample=1).numpy()
    assert np.isfinite(actual).all()
    assert (np.abs(expected - actual).max(-1) > 1e-3).sum() <= 4


def test_a_marker_appears_where_the_cameras_project_it() -> None:
    """A small ball at +y must land where K [R | t] says, in every view; from azimuth 0 that is the right half of the image."""
    cameras = orbit_cameras([0.0, 60.0, 200.0], [0.0, 20.0, -10.0], width=64)
    centre = np.array([0.0, 0.6, 0.2])
    part = ellipsoid(0.05, RED).move(*centre)
    vertices, faces, _, colors = split_corners(part)
    alpha = render_mesh(Mesh(vertices, faces, colors), cameras)[..., 3]
    camera = cameras.viewmats[:, :3, :3] @ torch.tensor(centre, dtype=torch.float32) + cameras.viewmats[:, :3, 3]
    pixel = (cameras.Ks @ camera[:, :, None])[:, :, 0]
    pixel = pixel[:, :2] / pixel[:, 2:]
    grid = torch.arange(64) + 0.5
    mass = alpha.sum((1, 2))
    found = torch.stack([(alpha.sum(1) * grid).sum(1) / mass, (alpha.sum(2) * grid).sum(1) / mass], dim=1)
    assert float((found - pixel).abs().max()) < 0.15
    assert float(found[0, 0]) > 32


def test_colour_is_premultiplied_and_flat_colours_come_back() -> None:
    part = ellipsoid(0.6, RED, 40)
    rgba = render_mesh(Mesh(part.vertices, part.faces, part.colors), orbit_cameras(0.0, width=32))[0]
    torch.testing.assert_close(rgba[..., :3], rgba[..., 3:] * torch.tensor(RED), atol=1e-5, rtol=0)
    edge = (rgba[..., 3] > 0) & (rgba[..., 3] < 1)
    assert edge.any()
    assert float(rgba[16, 16, 3]) == pytest.approx(1.0, abs=1e-5)


def test_area_of_a_disc() -> None:
    """A ball of radius r at distance d covers a disc of radius f r / √(d² − r²) pixels."""
    cameras = orbit_cameras(0.0, 0.0, width=96)
    part = ellipsoid(0.5, RED, 64)
    alpha = render_mesh(Mesh(part.vertices, part.faces, part.colors), cameras)[..., 3]
    radius = float(cameras.Ks[0, 0, 0]) * 0.5 / np.sqrt(2.5**2 - 0.5**2)
    assert float(alpha.sum()) == pytest.approx(np.pi * radius**2, rel=0.01)


def test_neighbouring_triangles_neither_crack_nor_overlap() -> None:
    """A finely triangulated closed ball has no hole anywhere inside its outline."""
    part = ellipsoid(0.8, RED, 60)
    alpha = render_mesh(Mesh(part.vertices, part.faces, part.colors), orbit_cameras([0.0, 33.0], [0.0, 51.0], width=80), supersample=1)[
        ..., 3
    ]
    for view in alpha:
        for row in view:
            covered = torch.nonzero(row)[:, 0]
            if len(covered):
                assert len(covered) == int(covered[-1] - covered[0]) + 1


def test_bad_input_is_named() -> None:
    mesh = soup(0, 2)
    with pytest.raises(InputError, match="supersample: expected at least 1"):
        render_mesh(mesh, orbit_cameras(0.0), supersample=0)
    with pytest.raises(InputError, match=r"faces: expected indices in \[0, 6\)"):
        Mesh(mesh.vertices, mesh.faces + 1, mesh.colors)
    with pytest.raises(InputError, match="colors: expected 6 rows"):
        Mesh(mesh.vertices, mesh.faces, mesh.colors[:4])


SOLIDS: dict[str, tuple[Part, float]] = {
    "box": (box((1, 2, 3), RED), 6.0),
    "cylinder": (cylinder(0.5, 2, RED, "y", sections=200), np.pi * 0.5),
    "cone": (cone(0.6, 1.5, RED, "x", 200), np.pi * 0.36 * 0.5),
    "ball": (ellipsoid((1, 0.5, 0.25), RED, 120), 4 / 3 * np.pi * 0.125),
    "dome": (dome(1.0, RED, 120, 60), 2 / 3 * np.pi),
    "torus": (torus(1.0, 0.25, RED, "x", 160, 80), 2 * np.pi**2 * 0.0625),
    "tube": (tube([(0, 0, 0), (0, 0, 1), (0, 0, 2)], 0.3, RED, 160), np.pi * 0.09 * 2),
    "cup": (lathe([(1, 0), (1, 1), (0.8, 1), (0.8, 0.2)], RED, 240), np.pi * (1 - 0.64 * 0.8)),
    "star": (extrude([(2, 0), (0.5, 0.5), (0, 2), (-0.5, 0.5), (-2, 0), (-0.5, -0.5), (0, -2), (0.5, -0.5)], 0.5, RED), 2.0),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_closed_outward_and_have_their_volume(name: str) -> None:
    part, volume = SOLIDS[name]
    assert signed_volume(part.vertices, part.faces) == pytest.approx(volume, rel=0.01)
    edges = np.sort(np.concatenate([part.faces[:, [0, 1]], part.faces[:, [1, 2]], part.faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    mirrored = part.scale(1, -1, 1)
    assert signed_volume(mirrored.vertices, mirrored.faces) == pytest.approx(volume, rel=0.01)


def test_splitting_long_edges_keeps_the_solid_closed_and_its_volume() -> None:
    part = split_long_edges(box((1, 2, 3), RED, 0.2), 0.3)
    whole = box((1, 2, 3), RED, 0.2)
    assert signed_volume(part.vertices, part.faces) == pytest.approx(signed_volume(whole.vertices, whole.faces))
    lengths = np.linalg.norm(part.vertices[part.faces] - part.vertices[np.roll(part.faces, -1, 1)], axis=2)
    assert lengths.max() <= 0.3
    edges = np.sort(np.concatenate([part.faces[:, [0, 1]], part.faces[:, [1, 2]], part.faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_ear_clipping_fills_a_concave_polygon() -> None:
    polygon = np.array([(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)], dtype=float)
    triangles = ear_clip(polygon)
    areas = [polygon_area(polygon[t]) for t in triangles]
    assert min(areas) > 0
    assert sum(areas) == pytest.approx(polygon_area(polygon))


def test_creases_split_a_box_but_not_a_ball() -> None:
    assert len(split_corners(box((1, 1, 1), RED))[0]) == 24
    ball = ellipsoid(1.0, RED, 24)
    vertices, _, normals, _ = split_corners(ball)
    assert len(vertices) == len(ball.vertices)
    assert float(np.einsum("ij,ij->i", vertices, normals).min()) > 0.98


def test_light_comes_from_above_is_soft_and_is_blocked_below_a_table() -> None:
    white = (0.8, 0.8, 0.8)
    ball = finish([ellipsoid(1.0, white, 32)])
    brightness = ball.colors.mean(1)
    assert brightness[np.argmax(ball.vertices[:, 2])] > 1.2 * brightness[np.argmin(ball.vertices[:, 2])]
    assert brightness.min() > 0.35
    floor = box((2, 2, 0.1), white)
    covered = finish([floor, box((2, 2, 0.1), white).move(0, 0, 0.5)], longest_edge=0.3)
    scale = 0.9 / np.linalg.norm([1, 1, 0.3])
    inner = np.isclose(covered.vertices[:, 2], -0.2 * scale, atol=1e-4) & (np.abs(covered.vertices[:, :2]).max(1) < 0.3)
    top = covered.vertices[:, 2] > covered.vertices[:, 2].max() - 1e-3
    assert inner.any()
    assert covered.colors[inner].mean() < 0.75 * covered.colors[top].mean()


@pytest.mark.parametrize("spread", [5, 1 << 40])  # the second overflows 64 bits unless columns are ranked
def test_unique_rows_are_numpys(spread):
    rows = np.random.default_rng(0).integers(-spread, spread, (60, 4))[np.random.default_rng(1).integers(0, 60, 500)]
    first, index = unique_rows(rows)
    expected, expected_first, expected_index = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    assert (rows[first] == expected).all()
    assert first.tolist() == expected_first.tolist()
    assert index.tolist() == expected_index.reshape(-1).tolist()
    assert [len(a) for a in unique_rows(np.zeros((0, 3), int))] == [0, 0]
