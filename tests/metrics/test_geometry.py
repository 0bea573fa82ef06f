"""Geometry metrics on constructed scenes whose holes, haze and floaters are known, rendered by marching rays through a solid."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.types import Gaussians, Render
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.metrics.geometry import (
    GeometrySettings,
    border_share,
    geometry_report,
    haze_report,
    haze_share,
    image_floaters,
    splat_statistics,
)

CAMERAS = evaluation_orbit(24, width=64)
CLOSE = evaluation_orbit(24, width=64, fov_y_deg=25.0)  # the ball of radius ½ nearly fills the image


def alphas_of(inside, cameras=CAMERAS, samples=128, supersample=1):
    """[V, H, W, 1] share of each pixel's rays that meet the solid ``inside(points [..., 3]) -> bool``, within 0.9 of the origin."""
    fine = cameras.resized(cameras.width * supersample, cameras.height * supersample)
    rows, columns = torch.meshgrid(torch.arange(fine.height) + 0.5, torch.arange(fine.width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    images = []
    for v in range(len(cameras)):
        rotation, position = fine.viewmats[v, :3, :3], fine.positions[v]
        directions = torch.nn.functional.normalize(pixels @ torch.linalg.inv(fine.Ks[v]).T @ rotation, dim=-1)
        near = torch.linalg.cross(directions, position.expand_as(directions)).norm(dim=-1) < 0.9  # distance of the ray from the origin
        depths = torch.linspace(-0.9, 0.9, samples) + position.norm()
        hit = torch.zeros(fine.height, fine.width)
        hit[near] = inside(position + depths[:, None, None] * directions[near]).any(dim=0).float()
        images.append(torch.nn.functional.avg_pool2d(hit[None, None], supersample)[0, 0])
    return torch.stack(images)[..., None]


def splats_in(inside, count=600, seed=0, opacity=0.9, sigma=0.04):
    """Splats uniform in the solid."""
    points = torch.rand(60_000, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    means = points[inside(points)][:count]
    assert len(means) == count
    return make_splats(means, opacity, sigma)


def make_splats(means, opacity=0.9, sigma=0.04):
    n = len(means)
    return Gaussians(
        means, torch.tensor([1.0, 0, 0, 0]).repeat(n, 1), torch.full((n, 3), sigma), torch.full((n,), opacity), torch.zeros(n, 1, 3)
    )


def joined(*parts):
    return Gaussians(*(torch.cat([getattr(p, n) for p in parts]) for n in ("means", "quats", "scales", "opacities", "sh")))


def ball(p, radius=0.5):
    return p.norm(dim=-1) < radius


def tunnel(p, radius, azimuth_deg=0.0, elevation_deg=15.0, through=(0.0, 0.0, 0.0)):
    """An endless cylinder from the camera of CAMERAS at these angles through the point ``through``."""
    a, e, through = math.radians(azimuth_deg), math.radians(elevation_deg), torch.tensor(through)
    camera = 2.5 * torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
    axis = torch.nn.functional.normalize(camera - through, dim=0)
    p = p - through
    return (p - (p @ axis)[..., None] * axis).norm(dim=-1) < radius


def torus(p, major=0.5, minor=0.15):
    """Lies in the plane y z, so that its hole is seen from +x and −x."""
    ring = p[..., 1:].norm(dim=-1) - major
    return torch.hypot(ring, p[..., 0]) < minor


def mug(p):
    """A cup (closed cylinder) with a handle on the side of +y."""
    cup = (p[..., :2].norm(dim=-1) < 0.35) & (p[..., 2].abs() < 0.45)
    q = p - torch.tensor([0.0, 0.38, 0.0])
    handle = torch.hypot(q[..., 1:].norm(dim=-1) - 0.25, q[..., 0]) < 0.07
    return cup | handle


SOLID = splats_in(ball)


# -- whole reports ---------------------------------------------------------------------------------------------------------


def test_a_solid_ball_is_sound():
    report = geometry_report(SOLID, alphas_of(ball, supersample=2), CAMERAS)
    assert report.ok
    assert report.failures == ()
    assert (report.holes, report.pinholes, report.haze, report.gaps, report.image_floaters, report.border) == (0, 0, 0, 0, 0, 0)
    assert report.splats.components == 1
    # silhouette of a ball: radius r/√(d² − r²) at unit focal length, an image of half height tan(fov/2)
    expected = math.pi * 0.5**2 / (2.5**2 - 0.5**2) / (2 * math.tan(math.radians(49.1 / 2))) ** 2
    assert report.coverage == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("radius", [0.06, 0.1])
def test_a_punched_hole_is_measured_in_proportion(radius):
    """Straight through the ball along the axis of view 0: that view looks through it, and only that view."""
    alphas = alphas_of(lambda p: ball(p) & ~tunnel(p, radius), CLOSE)
    report = geometry_report(SOLID, alphas, CLOSE)
    assert report.gaps == report.leaks == 1
    # the far end of the tunnel limits the view: (ρ / (d + r))² against the silhouette of the ball, r² / (d² − r²)
    expected = (radius / 3.0) ** 2 * (2.5**2 - 0.5**2) / 0.5**2
    assert report.holes * 24 == pytest.approx(expected, rel=0.15)


def test_a_tunnel_seen_from_both_ends_is_still_a_leak():
    level = evaluation_orbit(24, width=64, elevation_deg=0.0)  # here the view from behind looks through it too
    report = geometry_report(SOLID, alphas_of(lambda p: ball(p) & ~tunnel(p, 0.1, elevation_deg=0.0), level), level)
    assert report.gaps == report.leaks == 2


@pytest.mark.parametrize("solid", [torus, mug])
def test_a_designed_hole_is_not_a_leak(solid):
    report = geometry_report(splats_in(solid), alphas_of(solid), CAMERAS)
    assert report.gaps >= 4
    assert report.leaks == 0
    assert report.holes == 0
    assert report.ok


def test_a_leak_beside_a_designed_hole_is_found():
    def thick(p):
        return torus(p, 0.5, 0.22)

    def leaky(p):
        return thick(p) & ~tunnel(p, 0.03, elevation_deg=0.0, through=(0.0, 0.5, 0.0))

    level = evaluation_orbit(24, width=96, elevation_deg=0.0, fov_y_deg=36.0)
    whole = geometry_report(SOLID, alphas_of(thick, level), level)
    broken = geometry_report(SOLID, alphas_of(leaky, level), level)
    assert (whole.leaks, broken.leaks) == (0, 1)
    assert whole.gaps > 1
    assert broken.holes > 0


def test_many_leaks_fail():
    def sieve(p):
        spots = [(0.0, 0.0, 0.0), (0.0, 0.25, 0.0), (0.0, -0.25, 0.0), (0.0, 0.0, 0.25), (0.0, 0.0, -0.25)]
        turned = [(spot, azimuth) for spot in spots for azimuth in (0, 180)]
        turned += [((y, x, z), azimuth) for x, y, z in spots for azimuth in (90, 270)]
        solid = ball(p)
        inner = p[solid]
        solid[solid.clone()] = ~torch.stack([tunnel(inner, 0.08, azimuth, through=spot) for spot, azimuth in turned]).any(dim=0)
        return solid

    alphas = alphas_of(sieve)
    report = geometry_report(SOLID, alphas, CAMERAS)
    assert report.leaks >= 16
    assert report.failures == ("holes",)
    assert geometry_report(SOLID, alphas, CAMERAS, GeometrySettings(max_holes=1.0)).ok


def test_without_cameras_small_gaps_count():
    alphas = alphas_of(lambda p: ball(p) & ~tunnel(p, 0.06))
    assert geometry_report(SOLID, alphas).leaks == 1
    assert geometry_report(SOLID, alphas_of(torus)).leaks == 0  # a large one says nothing without cameras


def test_a_pinhole_is_counted_by_its_area():
    alphas = alphas_of(ball)
    alphas[3, 30:31, 30:32] = 0.25
    report = geometry_report(SOLID, alphas, CAMERAS)
    area = float((alphas > 0.5).sum() + 2)
    assert report.pinholes == pytest.approx(2 * 0.75 / area)
    assert report.holes == pytest.approx(2 * 0.75 / area)


def test_fog_is_haze():
    fog = 0.3 * alphas_of(lambda p: (p.abs() < 0.5).all(dim=-1))
    report = geometry_report(make_splats(SOLID.means, opacity=0.02, sigma=0.2), fog, CAMERAS)
    assert report.haze > 0.6
    assert "hazy" in report.failures
    halo = torch.maximum(alphas_of(ball), 0.2 * alphas_of(lambda p: ball(p, 0.8)))
    assert geometry_report(SOLID, halo, CAMERAS).haze > 0.2


def test_a_soft_edge_is_not_haze():
    blurred = torch.nn.functional.avg_pool2d(alphas_of(ball).permute(0, 3, 1, 2), 3, stride=1, padding=1).permute(0, 2, 3, 1)
    assert ((blurred > 0.05) & (blurred < 0.95)).sum() > 24 * 100
    assert geometry_report(SOLID, blurred, CAMERAS).haze == 0


def test_haze_is_the_share_that_was_put_there():
    alpha = np.zeros((1, 100, 100))
    alpha[0, 10:90, 10:90] = 1.0
    alpha[0, 30:70, 30:70] = 0.6  # above ½: the outline stays outside
    assert haze_share(alpha) == pytest.approx(1600 / 6400)


@pytest.mark.parametrize("fog", [0.1, 0.3, 0.7])
def test_a_fog_of_known_alpha(fog):
    """A solid square of 200² pixels beside a foggy one of 400²: all but the seams of width e count."""
    alpha = np.zeros((1, 600, 700))
    alpha[0, 20:220, 20:220] = 1
    alpha[0, 100:500, 250:650] = fog
    report = haze_report(alpha, edge=0.005)  # 4 pixels, and the outline itself
    inner = (400 - 2 * 5) ** 2
    assert report.alpha == pytest.approx(fog)
    assert report.share == pytest.approx(inner / (200**2 + 400**2))
    assert report.mass == pytest.approx(fog * inner / (200**2 + fog * 400**2))


def test_floaters_of_splats_and_images():
    left, right = torch.tensor([0.0, -0.6, 0.0]), torch.tensor([0.0, 0.6, 0.0])
    two = joined(make_splats(SOLID.means[:400] * 0.5 + left), make_splats(SOLID.means[:200] * 0.5 + right))
    statistics = splat_statistics(two)
    assert statistics.components == 2
    assert statistics.floaters == pytest.approx(1 / 3, rel=1e-6)
    specks = make_splats(torch.tensor([[0.0, 0, 0.9], [0.9, 0, 0], [0, 0, -0.9]]), sigma=0.01)
    assert splat_statistics(joined(SOLID, specks)).components == 4

    alpha = np.zeros((2, 20, 20))
    alpha[:, 2:8, 2:8] = 1
    alpha[1, 12:15, 12:16] = 1
    assert image_floaters(alpha) == pytest.approx(12 / 84)


def test_empty_and_exploded():
    nothing = torch.zeros(24, 64, 64, 1)
    assert geometry_report(SOLID, nothing, CAMERAS).failures == ("empty",)
    none = SOLID.select(torch.zeros(len(SOLID), dtype=torch.bool))
    assert geometry_report(none, nothing, CAMERAS).failures == ("empty",)
    assert geometry_report(none, nothing, CAMERAS).splats.count == 0

    everywhere = geometry_report(SOLID, torch.ones(24, 64, 64, 1), CAMERAS)
    assert everywhere.failures == ("exploded",)
    assert everywhere.border == 1
    flown = joined(SOLID, make_splats(SOLID.means[:100] + 3))
    report = geometry_report(flown, alphas_of(ball), CAMERAS)
    assert report.failures == ("exploded",)
    assert report.splats.escaped == pytest.approx(1 / 7, rel=1e-5)
    broken = make_splats(SOLID.means.clone())
    broken.means[4, 1] = math.nan
    report = geometry_report(broken, alphas_of(ball), CAMERAS)
    assert report.failures == ("exploded",)
    assert report.splats.non_finite == 1


def test_statistics_are_what_they_say():
    statistics = splat_statistics(SOLID)
    assert statistics.count == sum(statistics.opacity_histogram) == 600
    assert statistics.opacity_histogram[8] + statistics.opacity_histogram[9] == 600
    assert statistics.scale_percentiles == pytest.approx((0.04,) * 4)
    assert statistics.extent == pytest.approx(0.5 * 0.95 ** (1 / 3), rel=0.02)  # 95 % of the volume of the ball
    assert statistics.escaped == statistics.floaters == 0


def test_border_share_counts_each_border_pixel_once():
    alpha = np.zeros((1, 5, 6))
    alpha[0, 0, :] = 1
    assert border_share(alpha) == pytest.approx(6 / 18)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="alphas: expected shape"):
        geometry_report(SOLID, torch.zeros(4, 8, 8))
    with pytest.raises(InputError, match="alphas: expected at least one view"):
        geometry_report(SOLID, torch.zeros(0, 8, 8, 1))
    with pytest.raises(InputError, match="cameras: expected 3 views of 64×64 as in alphas, got 24 of 64×64"):
        geometry_report(SOLID, torch.zeros(3, 64, 64, 1), CAMERAS)
    with pytest.raises(ConfigError, match="max_haze: expected a share"):
        GeometrySettings(max_haze=2)


# -- what the report is made from, and what it hands on -------------------------------------------------------------------


def test_a_report_is_a_flat_table_of_floats():
    values = geometry_report(SOLID, alphas_of(ball), CAMERAS).as_dict()
    assert all(type(value) is float for value in values.values())
    assert (values["ok"], values["splats"], values["floater_count"], values["scale_p50"]) == (1, 600, 0, pytest.approx(0.04))
    assert math.isnan(values["tears"])  # alphas alone do not say
    assert sum(math.isnan(value) for value in values.values()) == 1


def drawn_shell(gaussians, cameras, *, depth=False):
    """A rasterizer of one picture: a torn plate of 40² pixels, its inside 0.5 behind the front."""
    alpha, z = (torch.zeros(len(cameras), cameras.height, cameras.width, 1) for _ in range(2))
    alpha[:, 12:52, 12:52], z[:, 12:52, 12:52] = 1, 2.2
    z[:, 28:36, 28:36] = 2.7
    return Render(alpha.expand(-1, -1, -1, 3), alpha, z if depth else None)


def test_a_rasterizer_or_its_pictures_give_the_same_report():
    settings = GeometrySettings(tear_openness=1.0)  # the same picture from everywhere is no solid: all look into the tear
    by_rasterizer = geometry_report(SOLID, drawn_shell, CAMERAS, settings)
    assert by_rasterizer == geometry_report(SOLID, drawn_shell(SOLID, CAMERAS, depth=True), CAMERAS, settings)
    assert by_rasterizer.torn == 24
    assert by_rasterizer.tears == pytest.approx(64 / 1600)
    assert by_rasterizer.failures == ("holes",)
    assert geometry_report(SOLID, drawn_shell, CAMERAS, replace(settings, max_tears=0.05)).ok
    assert geometry_report(SOLID, drawn_shell(SOLID, CAMERAS), CAMERAS, settings).ok  # without depths, no tears


def test_a_rasterizer_must_draw_depth():
    with pytest.raises(InputError, match="views: expected a rasterizer that draws depth"):
        geometry_report(SOLID, lambda g, c, depth: drawn_shell(g, c), CAMERAS)
    picture = drawn_shell(SOLID, CAMERAS, depth=True)
    with pytest.raises(InputError, match="depths: expected shape"):
        geometry_report(SOLID, Render(picture.rgb, picture.alpha, picture.alpha[:3]), CAMERAS)


def test_no_splats_are_an_empty_picture():
    none = SOLID.select(torch.zeros(len(SOLID), dtype=torch.bool))
    assert geometry_report(none, drawn_shell).failures == ("empty",)


# -- on real splats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("opacity", "sigma", "failures"), [(0.9, 0.05, ()), (0.03, 0.05, ("hazy",))])
def test_rendered_splats(opacity, sigma, failures):
    pytest.importorskip("fsd_gs.render.cpu")
    from fsd_gs.render.base import make_rasterizer

    splats = splats_in(ball, opacity=opacity, sigma=sigma)
    cameras = evaluation_orbit(8, width=64)
    with torch.no_grad():
        alphas = make_rasterizer("cpu")(splats, cameras).alpha
    assert geometry_report(splats, alphas, cameras).failures == failures


def test_a_torn_shell_of_splats():
    """From splats to verdict: a sphere of splats, and the same with four caps of 12° cut out."""
    from fsd_gs.render.base import make_rasterizer

    i = torch.arange(3000) + 0.5  # Fibonacci sphere
    z, angle = 1 - 2 * i / 3000, i * math.pi * (3 - math.sqrt(5))
    points = 0.6 * torch.stack([(1 - z * z).sqrt() * angle.cos(), (1 - z * z).sqrt() * angle.sin(), z], dim=1)
    shell = make_splats(points, opacity=0.95, sigma=0.018)
    spots = 0.6 * torch.tensor([[0.8, 0, 0.6], [-0.6, 0.8, 0], [0.6, 0.8, 0], [0, -1, 0]])
    torn = shell.select((torch.cdist(points, spots) > 0.125).all(dim=1))
    rasterizer, cameras = make_rasterizer("cpu"), evaluation_orbit(24, width=64)
    whole, broken = (geometry_report(splats, rasterizer, cameras) for splats in (shell, torn))
    assert (whole.ok, whole.tears, whole.holes) == (True, 0, 0)
    assert broken.failures == ("holes",)
    assert broken.holes == 0  # alpha is 1 everywhere: the back is intact
    assert broken.tears > 0.01
    assert broken.splats.components == 1
