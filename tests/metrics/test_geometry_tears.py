"""Tears on constructed bodies whose openings are known: analytic shells, and boxes hit by rays; depths in float64."""

import math

import numpy as np
import pytest

from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.metrics.geometry import GeometrySettings, tear_report
from fsd_gs.metrics.geometry.rays import points_in_view, rays_of
from fsd_gs.metrics.geometry.tears import filled_depth

SETTINGS = GeometrySettings()
CAMERAS = evaluation_orbit(24, width=96, fov_y_deg=36.0)
RADIUS, DISTANCE = 0.6, 2.5


def all_rays(cameras, view):
    rows, columns = np.mgrid[: cameras.height, : cameras.width]
    return rays_of(cameras, view, rows.ravel(), columns.ravel())


def images(cameras, values):
    return np.stack(values).reshape(len(cameras), cameras.height, cameras.width)


def hollow_ball(axis, half_angle_deg, cameras=CAMERAS):
    """a, z and the pixels that look through the opening onto the inside, of a sphere without its cap around ``axis``."""
    axis = np.asarray(axis) / np.linalg.norm(axis)
    height = RADIUS * math.cos(math.radians(half_angle_deg))
    alphas, depths, truth = [], [], []
    for view in range(len(cameras)):
        position, directions = all_rays(cameras, view)
        b, squared = directions @ position, (directions**2).sum(axis=1)
        discriminant = b * b - squared * (position @ position - RADIUS**2)
        root = np.sqrt(np.maximum(discriminant, 0))
        near, far = (-b - root) / squared, (-b + root) / squared
        near_cut, far_cut = ((position + t[:, None] * directions) @ axis > height for t in (near, far))
        hit = discriminant > 0
        alphas.append(hit & ~(near_cut & far_cut))
        depths.append(np.where(near_cut, far, near))
        truth.append(hit & near_cut & ~far_cut)
    return images(cameras, alphas).astype(float), images(cameras, depths), images(cameras, truth)


def boxes(*corners, cameras=CAMERAS):
    """a, z of the union of axis-parallel boxes, each ((x0, y0, z0), (x1, y1, z1)): slab tests."""
    depths = []
    for view in range(len(cameras)):
        position, directions = all_rays(cameras, view)
        nearest = np.full(len(directions), np.inf)
        for low, high in corners:
            t = (np.array([low, high]) - position)[:, None] / directions
            enter, leave = t.min(axis=0).max(axis=1), t.max(axis=0).min(axis=1)
            nearest = np.where((enter < leave) & (enter < nearest), enter, nearest)
        depths.append(nearest)
    z = images(cameras, depths)
    return np.isfinite(z).astype(float), np.where(np.isfinite(z), z, 0.0)


def direction(azimuth_deg, elevation_deg=15.0):
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    return math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)


@pytest.mark.parametrize("half_angle_deg", [8.0, 15.0, 25.0])
def test_a_punched_cap_is_measured_by_its_solid_angle(half_angle_deg):
    """Facing the camera of view 0, the rim is a circle of radius R sin φ at distance d − R cos φ."""
    a, z, truth = hollow_ball(direction(0.0), half_angle_deg)
    report = tear_report(a, z, CAMERAS, SETTINGS)
    phi = math.radians(half_angle_deg)
    expected = (RADIUS * math.sin(phi) / (DISTANCE - RADIUS * math.cos(phi))) ** 2 * (DISTANCE**2 - RADIUS**2) / RADIUS**2
    assert report.mask[0].sum() / a[0].sum() == pytest.approx(expected, rel=0.12)
    assert not (report.mask & ~truth).any()
    assert report.mask.sum() > 0.8 * truth.sum()
    assert report.tears >= 5  # neighbouring views look in too
    assert report.share == pytest.approx(report.mask.sum() / a.sum(), rel=1e-9)


def test_an_intact_ball_has_no_basin():
    a, z, _ = hollow_ball(direction(0.0), 0.0)
    report = tear_report(a, z, CAMERAS, SETTINGS)
    assert (report.share, report.basins, report.tears) == (0, 0, 0)


@pytest.mark.parametrize(("half_angle_deg", "elevation_deg"), [(90.0, 15.0), (60.0, 30.0), (90.0, 45.0)])
def test_a_bowl_is_not_torn(half_angle_deg, elevation_deg):
    cameras = evaluation_orbit(24, width=96, fov_y_deg=36.0, elevation_deg=elevation_deg)
    a, z, truth = hollow_ball((0.0, 0.0, 1.0), half_angle_deg, cameras)
    assert truth.sum() > 0.3 * a.sum()
    assert tear_report(a, z, cameras, SETTINGS).tears == 0


FENCE = [((0.25, y, -0.4), (0.3, y + 0.12, 0.4)) for y in (-0.42, -0.14, 0.14)]
FENCE += [((0.25, -0.42, z), (0.3, 0.26, z + 0.1)) for z in (-0.5, 0.4)]
PLATE = ((-0.3, -0.42, -0.5), (-0.25, 0.26, 0.5))


def test_between_slats_and_a_wall_one_sees_no_inside():
    a, z = boxes(*FENCE, PLATE)
    report = tear_report(a, z, CAMERAS, SETTINGS)
    assert report.basins >= 4
    assert report.tears == 0


def test_the_same_slats_on_a_closed_box_count():
    """What images cannot tell: openings into a closed body, made so or torn."""
    sides = [((-0.3, y, -0.5), (0.3, y + 0.02, 0.5)) for y in (-0.44, 0.26)]
    sides += [((-0.3, -0.44, z), (0.3, 0.28, z + 0.02)) for z in (-0.52, 0.5)]
    a, z = boxes(*FENCE, PLATE, *sides)
    report = tear_report(a, z, CAMERAS, SETTINGS)
    assert report.tears >= 2
    assert report.share > 0.02


def test_under_an_armrest_is_a_design():
    """An armchair's seat is open in front and above: a fifth of the views and more look between the arms, so it is no closed body."""
    parts = [((-0.3, -0.4, -0.3), (-0.26, 0.4, 0.5)), ((-0.3, -0.4, -0.33), (0.3, 0.4, -0.3))]  # back, seat
    for y in (-0.4, 0.36):
        parts += [((x, y, -0.3), (x + 0.1, y + 0.04, 0.2)) for x in (-0.3, 0.2)]
        parts += [((-0.3, y, z), (0.3, y + 0.04, z + 0.1)) for z in (-0.3, 0.1)]
    a, z = boxes(*parts)
    by_hull_alone = tear_report(a, z, CAMERAS, GeometrySettings(tear_openness=1.0))
    assert by_hull_alone.tears == 12  # the back and the other arm cover it in every view off the axis
    assert by_hull_alone.share > 0.05
    assert tear_report(a, z, CAMERAS, SETTINGS).tears == 0


def test_shallow_dents_are_below_the_step():
    a, z = boxes(((-0.4, -0.4, -0.4), (0.3, 0.4, 0.4)), *[((0.3, y, -0.4), (0.35, y + 0.3, 0.4)) for y in (-0.4, 0.1)])
    assert tear_report(a, z, CAMERAS, SETTINGS).basins == 0


def test_one_view_alone_accuses_nothing():
    a, z, truth = hollow_ball(direction(0.0), 20.0)
    assert truth[0].any()
    report = tear_report(a[:1], z[:1], CAMERAS[0], SETTINGS)
    assert (report.basins, report.tears) == (1, 0)


def test_filled_depth_is_the_lowest_pass_to_the_border():
    """Against a slow twin: raise the whole picture until the basin spills over (minimax path, by relaxation)."""
    rng = np.random.default_rng(0)
    z = rng.uniform(1, 3, (9, 11))
    nearness = 1 / z
    spill = np.full(z.shape, np.inf)
    spill[[0, -1]], spill[:, [0, -1]] = nearness[[0, -1]], nearness[:, [0, -1]]
    for _ in range(z.size):
        for r in range(1, z.shape[0] - 1):
            for c in range(1, z.shape[1] - 1):
                spill[r, c] = max(nearness[r, c], spill[r - 1 : r + 2, c - 1 : c + 2].min())
    np.testing.assert_allclose(filled_depth(z), 1 / spill)


def test_rays_and_projection_are_inverse():
    rows, columns = np.array([3, 50, 90]), np.array([7, 20, 95])
    position, directions = rays_of(CAMERAS, 5, rows, columns)
    np.testing.assert_allclose(position, CAMERAS.positions[5].numpy(), atol=1e-6)
    r, c, depth, seen = points_in_view(CAMERAS, 5, position + 2.0 * directions)
    assert seen.all()
    np.testing.assert_array_equal((r, c), (rows, columns))
    np.testing.assert_allclose(depth, 2.0)
    assert not points_in_view(CAMERAS, 5, position - 2.0 * directions)[3].any()  # behind the camera
