"""Cameras against their definition, in numbers that can be checked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fsd_gs
from fsd_gs.core.cameras import (
    OrbitSampler,
    distance_for_radius,
    evaluation_orbit,
    opengl_from_opencv,
    orbit_cameras,
    orbit_viewmats,
)
from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.errors import InputError


def project(cameras: Cameras, point: tuple[float, float, float]) -> torch.Tensor:
    """(x, y, z) [V, 3] in pixels and depth, by the definition of viewmats and Ks."""
    world = torch.tensor([*point, 1.0])
    camera = (cameras.viewmats @ world)[:, :3]
    pixels = (cameras.Ks @ camera[:, :, None])[:, :, 0]
    return torch.cat([pixels[:, :2] / pixels[:, 2:], camera[:, 2:]], dim=1)


def test_front_camera_sees_y_to_its_right_and_z_up():
    camera = orbit_cameras(0, 0, distance=2.0, fov_y_deg=90, width=100)
    torch.testing.assert_close(project(camera, (0, 0, 0)), torch.tensor([[50.0, 50.0, 2.0]]))
    # From +x, looking along −x with z up, +y is on the right; 1 unit at depth 2 with fov 90° is half of the half image.
    torch.testing.assert_close(project(camera, (0, 1, 0)), torch.tensor([[75.0, 50.0, 2.0]]))
    torch.testing.assert_close(project(camera, (0, 0, 1)), torch.tensor([[50.0, 25.0, 2.0]]))
    torch.testing.assert_close(project(camera, (1, 0, 0)), torch.tensor([[50.0, 50.0, 1.0]]))


@settings(max_examples=50, deadline=None)
@given(azimuth=st.floats(0, 359.9), elevation=st.floats(-89, 89), distance=st.floats(0.5, 10), fov=st.floats(10, 120))
def test_orbit_parameters_can_be_read_back(azimuth, elevation, distance, fov):
    camera = orbit_cameras(azimuth, elevation, distance=distance, fov_y_deg=fov, width=64, height=48)
    assert abs((camera.azimuths_deg.item() - azimuth + 180) % 360 - 180) < 0.05 / max(math.cos(math.radians(elevation)), 0.02)
    assert camera.elevations_deg.item() == pytest.approx(elevation, abs=0.05)
    assert camera.distances.item() == pytest.approx(distance, rel=1e-4)
    assert camera.fov_y_deg.item() == pytest.approx(fov, rel=1e-3)
    rotation = camera.viewmats[0, :3, :3].double()
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("elevation", [90.0, -90.0])
def test_straight_above_and_below_are_well_defined(elevation):
    camera = orbit_cameras(30, elevation)
    assert torch.isfinite(camera.viewmats).all()
    right = camera.viewmats[0, 0, :3]
    torch.testing.assert_close(right, torch.tensor([-0.5, math.sqrt(3) / 2, 0.0]))


def test_sampler_is_stratified_snapped_and_reproducible():
    sampler = OrbitSampler(views=4, azimuth_grid=16, elevation_grid=3, elevation_deg=(0, 30))
    draw = lambda: [sampler(g) for g in [torch.Generator().manual_seed(3)] for _ in range(20)]  # noqa: E731
    batches = draw()
    for batch, again in zip(batches, draw(), strict=True):
        assert torch.equal(batch.viewmats, again.viewmats)
        steps = batch.azimuths_deg / 22.5
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
        gaps = torch.diff(torch.cat([batch.azimuths_deg, batch.azimuths_deg[:1] + 360])) % 360
        torch.testing.assert_close(gaps, torch.full((4,), 90.0), atol=1e-2, rtol=0)
        assert min(abs(batch.elevations_deg[0].item() - e) for e in (0, 15, 30)) < 1e-3
    assert len({round(b.azimuths_deg.min().item(), 1) for b in batches}) > 2


def test_resized_cameras_see_the_same_rays():
    camera = orbit_cameras(20, 10, width=100)
    small = camera.resized(25, 25)
    torch.testing.assert_close(project(small, (0.1, 0.2, 0.3))[:, :2] * 4, project(camera, (0.1, 0.2, 0.3))[:, :2])


def test_a_ball_at_distance_for_radius_touches_the_image_border():
    distance = distance_for_radius(0.9, 49.1, margin=1.0)
    assert math.degrees(2 * math.asin(0.9 / distance)) == pytest.approx(49.1)


def test_opengl_conversion_is_its_own_inverse_and_flips_y_and_z():
    pose = orbit_cameras([10, 200], [5, -20]).world_from_camera
    converted = opengl_from_opencv(pose)
    torch.testing.assert_close(opengl_from_opencv(converted), pose)
    torch.testing.assert_close(converted[:, :3, 0], pose[:, :3, 0])
    torch.testing.assert_close(converted[:, :3, 1:3], -pose[:, :3, 1:3])
    torch.testing.assert_close(converted[:, :, 3], pose[:, :, 3])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: orbit_cameras(0, distance=-1), "distance: expected values above 0"),
        (lambda: orbit_cameras(0, fov_y_deg=180), "fov_y_deg"),
        (lambda: orbit_cameras([0, 1], [0, 1, 2]), "expected one value or 3"),
        (lambda: orbit_cameras(0, 91), r"elevations_deg: expected values in \[-90, 90\]"),
        (lambda: evaluation_orbit(0), "views: expected at least 1, got 0"),
        (lambda: OrbitSampler(views=4, azimuth_grid=10), "azimuth_grid: expected 0 or a multiple of views"),
        (lambda: OrbitSampler(elevation_deg=(30, 0)), "low ≤ high"),
        (lambda: Cameras(torch.eye(4), torch.eye(3)[None], 8, 8), r"viewmats: expected shape \[V, 4, 4\], got \[4, 4\]"),
        (lambda: Cameras(torch.eye(4)[None], torch.eye(3)[None], 0, 8), "width, height"),
        (
            lambda: Gaussians(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 5, 3)),
            "sh: expected 1, 4, 9 or 16",
        ),
    ],
)
def test_errors_say_what_was_expected(call, match):
    with pytest.raises(InputError, match=match):
        call()


def test_indexing_keeps_a_batch():
    cameras = evaluation_orbit(5)
    assert len(cameras[0]) == 1
    assert len(cameras[-1]) == 1
    assert torch.equal(cameras[-1].viewmats, cameras.viewmats[4:])
    assert len(cameras[1:3]) == 2


@pytest.mark.parametrize("elevation", [-90.0, -20.0, 0.0, 35.0, 90.0])
def test_orbit_viewmats_are_rigid_stand_on_the_orbit_and_look_at_the_origin(elevation):
    azimuths, distances = np.array([25.0, 200.0]), np.array([1.5, 4.0])
    viewmats = orbit_viewmats(azimuths, np.full(2, elevation), distances)
    rotations = viewmats[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2), np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    for viewmat, azimuth, distance in zip(viewmats, np.deg2rad(azimuths), distances, strict=True):
        e = np.deg2rad(elevation)
        position = distance * np.array([np.cos(e) * np.cos(azimuth), np.cos(e) * np.sin(azimuth), np.sin(e)])
        np.testing.assert_allclose(viewmat @ [*position, 1], [0, 0, 0, 1], atol=1e-12)
        np.testing.assert_allclose(viewmat @ [0, 0, 0, 1], [0, 0, distance, 1], atol=1e-12)
        assert viewmat[1, 2] <= 1e-12  # z is up: down in the image never points up in the world


def test_package_imports_without_heavy_libraries():
    import subprocess
    import sys

    code = "import sys, fsd_gs; print([m for m in ('gsplat', 'diffusers', 'transformers', 'numba', 'viser') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    assert fsd_gs.__version__
