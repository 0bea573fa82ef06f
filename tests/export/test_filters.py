"""Filters on splats: hand-made scenes with known answers."""

import pytest
import torch
from export_scenes import egg, random_gaussians

from fsd_gs.core.points import components_of_nearest
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.filters import (
    FilterSettings,
    apply_filters,
    crop,
    drop_transparent,
    importance,
    keep_largest_component,
    keep_most_important,
    recentre,
    rescale,
)
from fsd_gs.export.framing import framed
from fsd_gs.metrics.geometry import splat_statistics
from fsd_gs.splats import prune


def line(xs, opacity=0.9, scale=0.1):
    n = len(xs)
    means = torch.tensor([[float(x), 0, 0] for x in xs]).reshape(n, 3)
    quats = torch.tensor([[1.0, 0, 0, 0]]).expand(n, 4)
    return Gaussians(means, quats, torch.full((n, 3), scale), torch.full((n,), opacity), torch.zeros(n, 1, 3))


def joined(*parts):
    return Gaussians(*(torch.cat([getattr(p, n) for p in parts]) for n in ("means", "quats", "scales", "opacities", "sh")))


def test_opacity_and_crop():
    splats = random_gaussians(200)
    kept = drop_transparent(splats, 0.4)
    assert len(kept) == int((splats.opacities >= 0.4).sum())
    assert kept.opacities.min() >= 0.4
    boxed = crop(splats, (-0.1, -0.2, -0.3), (0.1, 0.2, 0.3))
    assert (boxed.means.abs() <= torch.tensor([0.1, 0.2, 0.3])).all()
    assert len(boxed) == int((splats.means.abs() <= torch.tensor([0.1, 0.2, 0.3])).all(dim=1).sum())


def test_most_important_keeps_order_and_counts():
    splats = random_gaussians(100)
    kept = keep_most_important(splats, 30)
    assert len(kept) == 30
    dropped = importance(splats).sort().values[:70]
    assert importance(kept).min() >= dropped.max()
    positions = [int((splats.means == m).all(dim=1).nonzero()) for m in kept.means]
    assert positions == sorted(positions)
    assert keep_most_important(splats, 100) is splats


def test_importance_by_hand():
    splats = line([0.0], opacity=0.5)
    splats = Gaussians(splats.means, splats.quats, torch.tensor([[0.1, 0.4, 0.2]]), splats.opacities, splats.sh)
    assert importance(splats).item() == pytest.approx(0.5 * 0.4 * 0.2)


def test_largest_component_of_a_line_with_gaps():
    """σ = 0.1 and reach 2: neighbours up to 0.4 apart touch. Three pieces of 3, 4 and 1 splats."""
    splats = line([0, 0.3, 0.6, 1.2, 1.5, 1.8, 2.1, 5.0])
    assert keep_largest_component(splats).means[:, 0].tolist() == pytest.approx([1.2, 1.5, 1.8, 2.1])


def test_largest_component_goes_by_mass_not_count():
    faint = line([0, 0.1, 0.2, 0.3, 0.4], opacity=0.05)
    solid = line([9.0, 9.1], opacity=0.9)
    assert keep_largest_component(joined(faint, solid)).means[:, 0].min() > 8


def test_largest_component_keeps_a_surface_and_drops_floaters():
    surface, floaters = egg(2000), line([1.5, 2.5, -3], scale=0.02)
    assert len(keep_largest_component(joined(surface, floaters))) == 2000
    for count in (0, 1):
        assert len(keep_largest_component(random_gaussians(count))) == count


def dense_clump(x, seed):
    """200 splats whose 16 nearest neighbours are all their own."""
    splats = line([0.0] * 200, scale=0.08)
    centres = torch.tensor([x, 0, 0]) + 0.01 * torch.randn(200, 3, generator=torch.Generator().manual_seed(seed))
    return Gaussians(centres, splats.quats, splats.scales, splats.opacities, splats.sh)


def test_dense_clumps_that_overlap_are_one_thing_for_every_filter():
    near = joined(dense_clump(0.0, 0), dense_clump(0.2, 1))  # 0.2 < 2 (0.08 + 0.08)
    assert components_of_nearest(near.means.double().numpy(), near.scales[:, 0].double().numpy() * 2, 0.0).max() == 1  # the trap
    assert len(keep_largest_component(near)) == 400
    assert prune.clean(near, prune.PruneSettings(floater_fraction=0.6))[1].floating == 0
    assert splat_statistics(near).components == 1
    apart = joined(near, dense_clump(1.0, 2))
    assert len(keep_largest_component(apart)) == 400
    assert prune.clean(apart, prune.PruneSettings(floater_fraction=0.6))[1].floating == 200
    assert splat_statistics(apart).components == 2


def test_recentre_and_rescale():
    splats = egg(1000)
    moved = Gaussians(splats.means * 10 + torch.tensor([5.0, -7, 100]), splats.quats, splats.scales * 10, splats.opacities, splats.sh)
    back = rescale(recentre(moved), 0.6)
    assert (back.means.amax(dim=0) + back.means.amin(dim=0)).abs().max() < 0.05
    assert back.means.norm(dim=1).quantile(0.99) == pytest.approx(0.6, rel=0.01)
    torch.testing.assert_close(
        back.scales / back.means.norm(dim=1).max(), splats.scales / splats.means.norm(dim=1).max(), rtol=0.05, atol=0
    )


def test_framing_leaves_our_assets_alone_and_remembers_the_way_back():
    splats = egg(500)
    assert framed(splats).gaussians is splats
    far = Gaussians(splats.means * 20 + 50, splats.quats, splats.scales * 20, splats.opacities, splats.sh)
    frame = framed(far)
    assert frame.gaussians.means.norm(dim=1).max() < 1.1
    torch.testing.assert_close(frame.gaussians.means / frame.scale + frame.centre, far.means, rtol=1e-4, atol=1e-3)
    assert framed(random_gaussians(0)).scale == 1


def test_clean_runs_the_steps_that_are_asked_for():
    splats = random_gaussians(300)
    assert apply_filters(splats, FilterSettings()) is splats
    result = apply_filters(
        splats, FilterSettings(min_opacity=0.3, crop=((-1, -1, -1), (1, 1, 0)), max_splats=40, recentre=True, radius=2.0)
    )
    assert len(result) == 40
    assert result.means.norm(dim=1).max() >= 2.0 - 1e-5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (FilterSettings(min_opacity=1.0), r"min_opacity: expected a number in \[0, 1\), got 1"),
        (FilterSettings(crop=((0, 0, 1), (1, 1, 0))), "crop: expected a low corner below the high corner"),
        (FilterSettings(max_splats=0), "max_splats: expected at least 1, got 0"),
        (FilterSettings(radius=-1), "radius: expected a number above 0, got -1"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(InputError, match=words):
        apply_filters(random_gaussians(3), settings)
