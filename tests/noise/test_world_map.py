"""The world map: patches are where facts say, without the seam at elevation 0, around the back, over the poles, at the right rate."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.noise import WorldMapNoise, matching_theta_deg, mix_world_maps

SHAPE = (4, 16, 16)


def at(azimuth, elevation=0.0, **settings_):
    return orbit_cameras(azimuth, elevation, width=32, **settings_)


def best_shift(a, b, reach=4):
    """(rows, columns, share of equal cells) for the shift of patch a that agrees with b best: b(r, c) = a(r + rows, c + columns)."""
    best = (0, 0, -1.0)
    h, w = a.shape[-2:]
    for r in range(-reach, reach + 1):
        for c in range(-reach, reach + 1):
            rows, columns = slice(max(0, r), h + min(0, r)), slice(max(0, c), w + min(0, c))
            rows_b, columns_b = slice(max(0, -r), h + min(0, -r)), slice(max(0, -c), w + min(0, -c))
            share = (a[..., rows, columns] == b[..., rows_b, columns_b]).float().mean().item()
            best = max(best, (r, c, share), key=lambda entry: entry[2])
    return best


@pytest.mark.parametrize(("theta", "columns", "rows"), [(180, 32, 16), (90, 64, 32), (360, 16, 8), (45, 128, 64), (100, 58, 29)])
def test_map_has_the_published_size_plus_one_patch_of_rows(theta, columns, rows):
    noise = WorldMapNoise(SHAPE, theta)
    assert (noise.columns, noise.rows) == (columns, rows)
    assert noise.map.shape == (4, rows + 16, columns)


def test_patch_is_cut_where_the_formula_says():
    noise = WorldMapNoise(SHAPE, 90)  # 64 × 32 cells
    patch = noise(at(45.0, 30.0))[0]
    column, row = round(45 / 360 * 64), round((90 - 30) / 180 * 32)
    assert torch.equal(patch, noise.map[:, row : row + 16, column : column + 16])
    around = noise(at(315.0, -30.0))[0]
    columns = torch.arange(56, 56 + 16) % 64
    assert torch.equal(around, noise.map[:, 21 : 21 + 16][:, :, columns])


def test_neighbouring_views_share_the_shifted_noise_exactly():
    noise = WorldMapNoise(SHAPE, 180)  # one column is 11.25°
    a, b = noise(at([0.0, 22.5]))
    assert torch.equal(a[:, :, 2:], b[:, :, :-2])
    up = noise(at(0.0, 11.25))[0]  # and so is one row
    assert torch.equal(a[:, :-1], up[:, 1:])
    opposite = noise(at(180.0))[0]
    assert (a == opposite).float().mean() == 0  # Θ = 180°: nothing in common


@pytest.mark.parametrize("theta", [45, 180, 360])
def test_no_jump_at_any_elevation(theta):
    """From pole to pole in small steps a patch is the last one, or the last one moved by one row; never anything else."""
    noise = WorldMapNoise(SHAPE, theta)
    elevations = torch.linspace(-90, 90, 361)  # includes 0 and both poles
    patches = noise(at(torch.zeros(361), elevations))
    moves = 0
    for lower, upper in itertools.pairwise(patches):
        if torch.equal(lower, upper):
            continue
        assert torch.equal(lower[:, :-1], upper[:, 1:])
        moves += 1
    assert moves == noise.rows


@settings(max_examples=60, deadline=None)
@given(elevation=st.floats(-90, 90), delta=st.floats(0, 12), azimuth=st.floats(0, 360), theta=st.sampled_from([45.0, 90.0, 180.0, 360.0]))
def test_overlap_between_elevations_is_what_the_angle_leaves(elevation, delta, azimuth, theta):
    noise = WorldMapNoise(SHAPE, theta)
    higher = min(90.0, elevation + delta)
    a, b = noise(at([azimuth, azimuth], [elevation, higher]))
    rows, columns, share = best_shift(a, b, reach=8)
    assert share == 1.0
    assert columns == 0
    assert abs(-rows - (higher - elevation) / 180 * noise.rows) < 1.01


def test_azimuth_wraps_without_a_jump():
    noise = WorldMapNoise(SHAPE, 180)
    reference = noise(at(0.0))[0]
    for azimuth in (360.0, 360.0 - 1e-5, 359.99999999, 1e-5, -1e-7, 720.0, -360.0):
        assert torch.equal(noise(at(azimuth))[0], reference)
    before = noise(at(360.0 - 11.25))[0]
    assert torch.equal(before[:, :, 1:], reference[:, :, :-1])
    # all the way round in small steps: equal, or moved by one column, B_W times
    patches = noise(at(torch.linspace(0, 360, 721)))
    moves = 0
    for last, following in itertools.pairwise(patches):
        if not torch.equal(last, following):
            assert torch.equal(last[:, :, 1:], following[:, :, :-1])
            moves += 1
    assert moves == noise.columns


def test_a_camera_between_two_cells_always_rounds_the_same_way():
    """Half a cell exactly: 11.25°/2 at Θ = 180°, whatever float32 made of the angles, the elevation or the distance."""
    noise = WorldMapNoise(SHAPE, 180)
    for k in range(32):
        azimuth = (k + 0.5) * 11.25
        patches = noise(orbit_cameras([azimuth] * 40, 0.0, distance=torch.linspace(1.0, 9.0, 40)))
        assert all(torch.equal(patches[0], p) for p in patches)
        assert torch.equal(patches[0], noise(at((k + 1) * 11.25))[0])


def test_azimuth_is_defined_at_the_poles():
    """Straight above or below the position says nothing about the azimuth; the camera's right axis does."""
    noise = WorldMapNoise(SHAPE, 180)
    azimuths = torch.arange(0, 360, 7.5)
    for pole in (90.0, -90.0):
        cameras = at(azimuths, pole)
        cameras = replace(cameras, viewmats=cameras.viewmats.round(decimals=6))  # else 1e-17 in the position still tells the azimuth
        at_pole = noise(cameras)
        assert torch.equal(at_pole, noise(at(azimuths, math.copysign(89.99, pole))))
        row = 0 if pole > 0 else noise.rows
        columns = ((azimuths / 11.25 + 0.5 + 1e-4).floor().long()[:, None] + torch.arange(16)) % noise.columns
        assert torch.equal(at_pole, noise.map[:, row : row + 16][:, :, columns].movedim(2, 0))


def test_noise_moves_with_the_near_surface():
    """At Θ* the patch moves across the image like the nearest point of the ball: same direction, same number of cells."""
    fov, distance, radius, cells = 49.1, 2.5, 0.5, 64
    theta = matching_theta_deg(fov, distance, radius)
    noise = WorldMapNoise((2, cells, cells), theta)
    nearest = torch.tensor([radius, 0.0, 0.0, 1.0])  # as seen from azimuth 0, elevation 0
    for azimuth, elevation in ((14.0, 0.0), (0.0, 14.0), (-12.0, 9.0)):
        camera = orbit_cameras(azimuth, elevation, distance=distance, fov_y_deg=fov, width=cells)
        x, y, z = (camera.viewmats[0] @ nearest)[:3]
        u, v = (camera.Ks[0, 0, 0] * x / z).item(), (camera.Ks[0, 1, 1] * y / z).item()  # cells from the centre
        a = noise(orbit_cameras(0.0, 0.0, distance=distance, fov_y_deg=fov, width=cells))[0]
        rows, columns, share = best_shift(a, noise(camera)[0], reach=8)
        assert share == 1.0
        assert (u, v) == pytest.approx((-columns, -rows), abs=1.0)  # both ends are rounded to cells
        assert max(abs(rows), abs(columns)) >= 3


def test_matching_theta_is_the_measured_one():
    assert [round(matching_theta_deg(fov, 1.4, 0.5)) for fov in (40, 52, 65)] == [75, 101, 131]
    auto = WorldMapNoise(SHAPE, "auto", fov_y_deg=40, distance=1.4)
    assert auto.theta_deg == pytest.approx(matching_theta_deg(40, 1.4))
    assert WorldMapNoise(SHAPE, "auto", fov_y_deg=60, distance=20.0).theta_deg == 360  # more than a turn does not exist
    with pytest.raises(ConfigError, match="radius: expected a number in"):
        matching_theta_deg(40, 0.4, 0.5)
    with pytest.raises(ConfigError, match="fov_y_deg: expected"):
        matching_theta_deg(180, 1.4)


def test_background_noise_is_where_the_object_is_not():
    noise = WorldMapNoise(SHAPE)
    alpha = torch.zeros(2, 64, 64, 1)
    alpha[:, 16:48, 16:48] = 1.0  # cells 4 … 11
    alpha[:, 16:20, 16:20] = 0.49
    alpha[:, 16:20, 20:24] = 0.5
    out, full = noise(at([0.0, 90.0]), alpha), noise(at([0.0, 90.0]))
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:12, 4:12] = True
    inside[4, 4] = False  # just below one half
    assert torch.equal(out[:, :, inside], full[:, :, inside])
    assert torch.equal(out[0][:, ~inside], out[1][:, ~inside])  # fixed to the screen
    assert (out[:, :, ~inside] != full[:, :, ~inside]).all()
    assert torch.equal(out, noise(at([0.0, 90.0]), alpha))

    fresh = WorldMapNoise(SHAPE, background="fresh")
    a, b = fresh(at([0.0, 90.0]), alpha), fresh(at([0.0, 90.0]), alpha)
    assert torch.equal(a[:, :, inside], b[:, :, inside])
    assert (a[:, :, ~inside] != b[:, :, ~inside]).all()
    assert (a[0][:, ~inside] != a[1][:, ~inside]).all()


def test_map_of_a_seed_does_not_depend_on_other_settings():
    reference = WorldMapNoise(SHAPE, seed=5)
    for other in (WorldMapNoise(SHAPE, beta=0.2, seed=5), WorldMapNoise(SHAPE, background="fresh", seed=5, gamma=0.5)):
        other(at([0.0, 10.0]), torch.zeros(2, 16, 16, 1))
        assert torch.equal(other.map, reference.map)


# ---- sub-cell shifts ------------------------------------------------------------------------------------------------------------------


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_fourier_shift_is_orthogonal():
    """The shifted map has exactly the norm of the map, and a whole turn in fractional steps comes back."""
    noise = WorldMapNoise(SHAPE, 180, subcell="fourier")
    from fsd_gs.noise.world_map import _shifted

    shifted = _shifted(noise.map, torch.tensor([0.37]), torch.tensor([-0.21]))[0]
    assert shifted.norm().item() == pytest.approx(noise.map.norm().item(), rel=1e-5)
    back = _shifted(shifted, torch.tensor([-0.37]), torch.tensor([0.21]))[0]
    assert torch.allclose(back, noise.map, atol=1e-4)


def test_fourier_agrees_with_whole_cells_on_whole_cells_and_is_continuous_between():
    noise = WorldMapNoise(SHAPE, 180, subcell="fourier")
    cell = 360 / noise.columns
    top = round((90 - 0) / 180 * noise.rows)
    assert torch.allclose(noise(at(3 * cell))[0], noise.map[:, top : top + 16, 3:19], atol=1e-4)
    whole = WorldMapNoise(SHAPE, 180)
    steps = torch.arange(0, 4 * cell, cell / 16)
    smooth, stepped = noise(at(steps)), whole(at(steps))
    lowest = min(correlation(a, b) for a, b in itertools.pairwise(smooth))
    jump = min(correlation(a, b) for a, b in itertools.pairwise(stepped))
    assert lowest > 0.98  # a sixteenth of a cell: sinc(1/16) = .994
    assert abs(jump) < 0.15  # whole cells jump by a cell at once


# ---- more like this one ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8, 1.0])
def test_mixed_maps_keep_their_variance_and_their_shares(rho):
    a, b = WorldMapNoise((4, 32, 32), seed=1), WorldMapNoise((4, 32, 32), seed=2)
    child = mix_world_maps(a, b, rho)
    assert child.map.std().item() == pytest.approx(1.0, abs=0.03)
    assert correlation(child.map, a.map) == pytest.approx(math.sqrt(rho), abs=0.03)
    assert correlation(child.map, b.map) == pytest.approx(math.sqrt(1 - rho), abs=0.03)
    assert correlation(child(at(0.0), torch.zeros(1, 32, 32, 1)), a(at(0.0), torch.zeros(1, 32, 32, 1))) == pytest.approx(
        math.sqrt(rho), abs=0.05
    )


def test_mixing_relatives_keeps_the_variance_too():
    a, b = WorldMapNoise((4, 32, 32), seed=1), WorldMapNoise((4, 32, 32), seed=2)
    child = mix_world_maps(a, b, 0.5)
    again = mix_world_maps(child, a, 0.5)  # correlated parents: plain √ρ mixing would give a variance of 1.7
    assert again.map.std().item() == pytest.approx(1.0, abs=0.03)
    assert torch.allclose(mix_world_maps(a, a, 0.4).map, a.map, atol=1e-4)


def test_children_of_one_parent_differ_in_their_fresh_parts_too():
    parent = WorldMapNoise(SHAPE, beta=0.0, seed=1)
    first, second = (mix_world_maps(parent, WorldMapNoise(SHAPE, beta=0.0, seed=seed), 1.0) for seed in (2, 3))
    assert torch.equal(first.map, second.map)
    assert abs(correlation(first(at(0.0)), second(at(0.0)))) < 0.15


def test_mixing_refuses_maps_of_different_shape():
    with pytest.raises(InputError, match="expected maps of one shape"):
        mix_world_maps(WorldMapNoise(SHAPE, 180), WorldMapNoise(SHAPE, 90), 0.5)
    with pytest.raises(ConfigError, match="rho: expected"):
        mix_world_maps(WorldMapNoise(SHAPE), WorldMapNoise(SHAPE), 1.5)
