"""The splat-native prior: its volume against readable twins, its Gaussians' places, its symmetries, its folder, the seam of all priors."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_pipelines as tiny
import torch
from torch import Tensor

import fsd_gs
from fsd_gs import priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.quaternions import matrix_from_quat
from fsd_gs.core.sh import C0
from fsd_gs.core.types import Cameras, Gaussians, TextCondition
from fsd_gs.errors import ConfigError, FileFormatError, InputError
from fsd_gs.pretrain.splat.model import start_model
from fsd_gs.priors.backbones.nano import NanoPrior, load_as
from fsd_gs.priors.backbones.splat import SplatPrior, check_cameras
from fsd_gs.priors.base import CleanPrior, Prior, SplatNativePrior
from fsd_gs.priors.family import Request
from fsd_gs.priors.nano.patch_code import PatchCode
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.splat.draw import EPS_2D, VISIBLE, asset, draw
from fsd_gs.priors.splat.folder import load_head, save_head
from fsd_gs.priors.splat.network import (
    COVERED,
    FOOTPRINT,
    SplatHead,
    SplatSettings,
    ViewMaps,
    WithFeatures,
    rotation_quats,
    surface,
)
from fsd_gs.priors.splat.sampling import FIRST, LAST, sample_splats
from fsd_gs.priors.splat.volume import (
    EMPTY,
    RADIUS,
    Rays,
    Stops,
    block_places,
    from_blocks,
    inside,
    march,
    march_slowly,
    mean_and_deviation,
    project,
    sample_views,
    sample_views_slowly,
    stack_rays,
    voxel_centers,
)
from fsd_gs.render import cpu

TINY = SplatSettings(
    voxels=8, volume_width=8, volume_depth=1, view_features=4, patch_width=8, samples=8, looks=3, look_step=0.05, point_width=8
)
FEATURES, CHANNELS, CELLS = 6, 12, 12  # of the outputs that heads without a UNet are given
SIZE = 2 * CELLS


def noise(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_code() -> PatchCode:
    """Of 2 × 2 pixels, all of whose numbers it keeps: decoding undoes encoding."""
    basis = torch.linalg.qr(noise(CHANNELS, CHANNELS, seed=1)).Q
    return PatchCode(0.1 * noise(CHANNELS, seed=2), basis, torch.linspace(1.5, 0.5, CHANNELS))


def make_head(code: PatchCode | None = None, features: int = FEATURES, *, new: bool = False) -> SplatHead:
    """A head whose zero-initialised layers are not zero, so that everything matters; ``new`` leaves them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = SplatHead(TINY, code or make_code(), features)
        for parameter in () if new else (head.volume.leave.weight, head.points[4].weight):
            torch.nn.init.normal_(parameter, std=0.3)
    return head.eval().requires_grad_(False)


def cameras(views: int = 4, size: int = SIZE, turn: float = 10.0) -> Cameras:
    return orbit_cameras([turn + 360.0 / views * k for k in range(views)], 15.0, distance=2.2, width=size)


def look(head: SplatHead, groups: list[Cameras], output: Tensor, latents: Tensor, alpha: float = 0.8) -> tuple[ViewMaps, Rays]:
    """What the head knows of views of one object or more, under one noise level."""
    rays = stack_rays([Rays.of(group) for group in groups])
    level = torch.full((len(output), 1, 1, 1), alpha)
    return head(output, latents, level, (1 - level.square()).sqrt(), rays, torch.float32), rays


def said(views: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    """(output of a UNet, noisy latents) of so many views."""
    return noise(views, CHANNELS + FEATURES, CELLS, CELLS, seed=seed), noise(views, CHANNELS, CELLS, CELLS, seed=seed + 1)


def test_sampling_equals_its_slow_twin_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 2, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    places = torch.rand(2, 3, 11, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2  # some outside the image
    weights = torch.randn(2, 3, 2, 11, generator=generator, dtype=torch.float64)
    fast, slow = sample_views(maps, places), sample_views_slowly(maps, places)
    assert torch.allclose(fast, slow, atol=1e-12)
    (fast_gradient,) = torch.autograd.grad((fast * weights).sum(), maps)
    (slow_gradient,) = torch.autograd.grad((slow * weights).sum(), maps)
    assert torch.allclose(fast_gradient, slow_gradient, atol=1e-12)


def test_projection_is_the_pinhole_camera():
    seen = orbit_cameras([30.0, 200.0], [10.0, -20.0], distance=2.0, fov_y_deg=40.0, width=64, height=48)
    points = torch.tensor([[[0.2, -0.3, 0.4], [0.0, 0.0, 0.0]]])
    rays = stack_rays([Rays.of(seen)])
    places, depths = project(points, rays)
    for view in range(2):
        for n in range(2):
            in_camera = seen.viewmats[view, :3, :3] @ points[0, n] + seen.viewmats[view, :3, 3]
            pixel = seen.Ks[view] @ (in_camera / in_camera[2])
            assert torch.allclose(places[0, view, n] * torch.tensor([64.0, 48.0]), pixel[:2], atol=1e-4)
            assert depths[0, view, n].item() == pytest.approx(in_camera[2].item(), abs=1e-5)
    assert torch.allclose(places[0, :, 1], torch.full((2, 2), 0.5), atol=1e-5)  # the origin is in the middle
    assert torch.equal(inside(places, depths), torch.ones(1, 2, 2))
    assert torch.equal(inside(places + 1, depths), torch.zeros(1, 2, 2))
    assert torch.allclose(rays.positions[0], seen.positions, atol=1e-5)


def test_mean_and_deviation_over_the_views_that_count():
    values, weights = noise(1, 3, 2, 4), torch.tensor([[[1.0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]])
    mean, deviation = mean_and_deviation(values, weights, spread=1)
    assert torch.allclose(mean[0, :, 0], values[0, :, :, 0].mean(0))
    assert torch.allclose(deviation[0, 0, 1], (values[0, [0, 2], 0, 1].var(correction=0) + 1e-4).sqrt(), atol=1e-5)
    assert torch.allclose(mean[0, :, 2], values[0, 2, :, 2], atol=1e-5)
    assert torch.equal(mean[0, :, 3], torch.zeros(2))  # no view
    assert deviation.shape == (1, 1, 4)


def test_voxels_fill_the_cube_and_blocks_hold_each_of_them_once():
    side = 6
    centers, voxels = voxel_centers(side), torch.arange(side**3)
    assert centers.abs().max().item() == pytest.approx(RADIUS * (1 - 1 / side))
    assert torch.equal(centers[1] - centers[0] > 0, torch.tensor([False, False, True]))  # x is slowest
    places = block_places(voxels, side)
    assert torch.equal(places.sort().values, voxels)
    blocks = voxels.new_zeros(2, side**3).index_copy(1, places, torch.stack([voxels, -voxels])).view(2, -1, 8)
    assert torch.equal(from_blocks(blocks), torch.stack([voxels, -voxels]).view(2, side, side, side))
    inside_one = centers[places.argsort()].view(-1, 8, 3)
    assert torch.allclose((inside_one - inside_one.mean(1, keepdim=True)).abs(), torch.tensor(RADIUS / side), atol=1e-6)


def test_marching_equals_its_slow_twin_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(4, 4, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    origins = torch.nn.functional.normalize(torch.randn(8, 3, generator=generator, dtype=torch.float64), dim=1) * 2.2
    aims = (torch.rand(8, 3, generator=generator, dtype=torch.float64) * 2 - 1) * RADIUS  # corners of the cube lie outside the ball
    rays = (origins, (aims - origins) / 2, origins.norm(dim=1), 9)
    fast, slow = march(logits, *rays), march_slowly(logits, *rays)
    points = rays[0][:, None] + rays[1][:, None] * fast.depths[..., None]
    outside = points.norm(dim=-1) > RADIUS + 0.05
    assert 10 < outside.sum() < outside.numel() - 10
    assert ((points.abs() > RADIUS * 0.75).any(-1) & ~outside).any()  # beyond the outermost centres
    weights = torch.randn(8, 9, generator=generator, dtype=torch.float64)
    gradients = []
    for stops in (fast, slow):
        assert torch.allclose(stops.depths, slow.depths, atol=1e-12)
        assert torch.allclose(stops.weights, slow.weights, atol=1e-12)
        assert torch.allclose(stops.through, slow.through, atol=1e-12)
        gradients += torch.autograd.grad((stops.weights * weights).sum() + stops.through.square().sum(), logits)
    assert torch.allclose(*gradients, atol=1e-12)
    assert torch.allclose(fast.weights.sum(1) + fast.through, torch.ones(8, dtype=torch.float64), atol=1e-4)
    assert fast.weights[outside].max() < 1e-5


def test_a_march_ends_where_the_volume_is_opaque():
    logits = torch.full((16, 16, 16), EMPTY)
    logits[5:8] = 12.0  # −0.3375 < x < 0
    origins = torch.tensor([[2.2, 0.0, 0.0], [-2.2, 0.1, 0.0], [0.5, 2.2, 0.0]])
    directions = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    stops = march(logits, origins, directions, torch.full((3,), 2.2), 90)
    depth, _ = surface(stops)
    assert stops.through[:2].max() < 1e-3
    assert depth[:2].tolist() == pytest.approx([2.2, 2.2 - 0.3375], abs=0.03)
    assert stops.through[2] > 0.99  # passes beside it


def test_of_two_surfaces_the_likelier_one_is_taken():
    depths = torch.linspace(1.3, 3.1, 10).expand(2, 10)
    weights = torch.zeros(2, 10)
    weights[0, 2], weights[0, 8] = 0.8, 0.2
    weights[1, 5] = 1.0
    depth, spread = surface(Stops(depths, weights, 1 - weights.sum(1)))
    near, far = depths[0, 2], depths[0, 8]
    assert abs(depth[0] - near) < 0.1 * (far - near) < abs((weights[0] * depths[0]).sum() - near)
    assert depth[1].item() == pytest.approx(depths[1, 5].item(), abs=1e-3)
    assert spread[0] > 0.2 > 0.01 > spread[1]


@pytest.mark.parametrize("views", [1, 2, 4, 5])
def test_any_number_of_views_in_any_order_make_one_volume(views: int):
    head, seen = make_head(), cameras(views)
    output, latents = said(views)
    maps, rays = look(head, [seen], output, latents)
    order = torch.arange(views).roll(1).flip(0)
    again, rays_again = look(head, [seen[order]], output[order], latents[order])
    assert maps.logits.shape == (1, 8, 8, 8)
    assert maps.logits.std() > 0.01
    assert torch.allclose(maps.logits, again.logits, atol=1e-4)
    assert torch.allclose(maps.coverage[:, order], again.coverage, atol=1e-5)
    one, other = head.gaussians(maps, 0, rays), head.gaussians(again, 0, rays_again)
    assert len(one.means) == len(other.means) > 0
    for view in range(views):
        mine = one.view == order[view]
        assert torch.allclose(one.means[mine], other.means[other.view == view], atol=1e-4)
        assert torch.allclose(one.colors[mine], other.colors[other.view == view], atol=1e-4)


def test_objects_of_a_batch_do_not_see_each_other():
    head, groups = make_head(), [cameras(turn=0.0), cameras(turn=30.0)]
    output, latents = said(8)
    both, rays = look(head, groups, output, latents)
    alone, ray = look(head, groups[1:], output[4:], latents[4:])
    for name in ("clean", "colors", "coverage", "pixels", "logits", "told"):
        assert torch.allclose(getattr(both, name)[1:], getattr(alone, name), atol=1e-5), name
    one, other = head.gaussians(both, 1, rays), head.gaussians(alone, 0, ray)
    for name in ("means", "quats", "scales", "opacity_logits", "colors"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-4), name


def test_noise_level_features_and_views_all_matter():
    head, seen = make_head(), cameras()
    output, latents = said(4)
    logits = look(head, [seen], output, latents)[0].logits
    louder = torch.cat([output[:, :CHANNELS], 2 * output[:, CHANNELS:]], dim=1)
    for other in (
        look(head, [seen], output, latents, alpha=0.3),
        look(head, [seen], louder, latents),
        look(head, [seen], output, latents.flip(-1)),
        look(head, [cameras(turn=40.0)], output, latents),
    ):
        assert (other[0].logits - logits).abs().max() > 1e-3


def test_every_gaussian_lies_on_the_ray_of_its_pixel():
    head, seen = (
        make_head(),
        orbit_cameras([10.0, 130.0, 250.0], [20.0, -10.0, 50.0], distance=2.4, fov_y_deg=[35.0, 45.0, 50.0], width=SIZE),
    )
    maps, rays = look(head, [seen], *said(3))
    splats = head.gaussians(maps, 0, rays)
    places, depths = project(splats.means[None], rays)
    own = (0, splats.view, torch.arange(len(splats.means)))
    wanted = torch.stack([splats.column + 0.5, splats.row + 0.5], dim=1)
    assert torch.allclose(places[own] * SIZE, wanted, atol=2e-3)
    assert torch.allclose(depths[own], splats.depths, atol=1e-5)
    assert splats.depths.std() > 0.01
    assert torch.equal(torch.stack([splats.view, splats.row, splats.column], dim=1), (maps.coverage[0] > COVERED).nonzero())
    assert torch.allclose(matrix_from_quat(splats.quats), seen.viewmats[splats.view, :3, :3].transpose(1, 2), atol=1e-5)


def test_quaternions_rotate_as_their_matrix():
    rotations = torch.linalg.qr(noise(20, 3, 3)).Q
    rotations = rotations * torch.linalg.det(rotations)[:, None, None]
    quats = rotation_quats(rotations)
    assert torch.allclose(matrix_from_quat(quats), rotations, atol=1e-5)
    assert torch.allclose(quats.norm(dim=1), torch.ones(20), atol=1e-5)


def test_a_new_head_puts_opaque_dots_of_a_third_of_a_pixel_where_its_views_are():
    head, seen = make_head(new=True), cameras()
    maps, rays = look(head, [seen], *said(4))
    splats = head.gaussians(maps, 0, rays)
    focal = seen.Ks[0, 0, 0]
    assert torch.allclose(splats.scales * focal / splats.depths[:, None], torch.tensor(FOOTPRINT), atol=1e-5)
    covered = maps.coverage[0][splats.view, splats.row, splats.column]
    assert torch.allclose(splats.opacity_logits, 2 + covered / 2, atol=1e-5)
    assert torch.equal(splats.colors, maps.colors[0][splats.view, :, splats.row, splats.column])


def test_a_last_convolution_keeps_its_channels_and_shows_its_features():
    inner = torch.nn.Conv2d(5, 3, 3, padding=1)
    features = noise(2, 5, 4, 4)
    both = WithFeatures(inner)(features)
    assert torch.equal(both[:, :3], inner(features))
    assert torch.equal(both[:, 3:], features)


def with_coverage(maps: ViewMaps, coverage: Tensor) -> ViewMaps:
    return replace(maps, coverage=coverage.expand_as(maps.coverage).contiguous())


def test_the_backdrop_is_the_colour_of_what_is_not_covered():
    head, color = make_head(), torch.tensor([0.2, 0.5, 0.9])
    pictures = color[:, None, None].expand(4, 3, SIZE, SIZE).clone()
    pictures[..., : SIZE // 2] = 1.0
    maps, rays = look(head, [cameras()], *said(4))
    maps = replace(maps, clean=head.code.encode(2 * pictures - 1)[None])
    half = torch.full((SIZE, SIZE), -30.0)
    half[:, : SIZE // 2] = 30.0
    assert torch.allclose(head.backdrop(with_coverage(maps, half), 0), color, atol=1e-4)
    empty = with_coverage(maps, torch.tensor(-30.0))
    assert torch.allclose(head.backdrop(empty, 0), (color + 1) / 2, atol=1e-4)
    splats = head.gaussians(empty, 0, rays)
    assert len(splats.means) == 0
    rgb, alpha = draw(splats, cameras(), color)
    assert torch.allclose(rgb, color[:, None, None].expand(4, 3, SIZE, SIZE))
    assert not alpha.any()


def render(splats: Gaussians, seen: Cameras, background: Tensor) -> Tensor:
    """An asset of SH degree 0, drawn as the prior draws."""
    behind = background.expand(len(seen), 3)
    args = (splats.means, splats.quats, splats.scales, splats.opacities, splats.sh[:, 0] * C0 + 0.5)
    rgb, _, _ = cpu.rasterization(*args, seen.viewmats, seen.Ks, seen.width, seen.height, eps2d=EPS_2D, backgrounds=behind)
    return rgb.permute(0, 3, 1, 2)


def test_the_picture_of_the_networks_gaussians_is_that_of_their_asset():
    head, seen, background = make_head(), cameras(), torch.tensor([0.3, 0.6, 0.1])
    maps, rays = look(head, [seen], *said(4))
    splats = head.gaussians(maps, 0, rays)
    splats = replace(splats, colors=splats.colors.clamp(0, 1), opacity_logits=20 * (splats.opacity_logits - splats.opacity_logits.median()))
    made = asset(splats)
    assert 0 < len(made) < len(splats.means)  # some cannot be seen
    assert made.opacities.min() > VISIBLE
    rgb, alpha = draw(splats, seen, background)
    assert torch.allclose(rgb, render(made, seen, background), atol=1e-5)
    assert alpha.shape == (4, 1, SIZE, SIZE)
    assert torch.allclose(draw(splats, seen, background + 0.1)[0] - rgb, 0.1 * (1 - alpha).expand_as(rgb), atol=1e-5)


def test_gradients_flow_from_pictures_to_the_features():
    head, seen = make_head(), cameras()
    output, latents = said(4)
    output.requires_grad_()
    maps, rays = look(head, [seen], output, latents)
    rgb, _ = draw(head.gaussians(maps, 0, rays), seen, head.backdrop(maps, 0))
    (gradient,) = torch.autograd.grad((rgb * noise(*rgb.shape)).sum(), output)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax((0, 2, 3)) > 0).all()  # of every channel


def test_a_folder_gives_the_same_head_back(tmp_path):
    head = make_head()
    save_head(tmp_path, head)
    again = load_head(tmp_path, head.code, FEATURES, torch.device("cpu"))
    assert again.settings == TINY
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    for (name, value), other in zip(head.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.allclose(value, other, atol=2e-3), name
    size = (tmp_path / "splats" / "model.safetensors").stat().st_size
    assert size < 2.2 * sum(p.numel() for p in head.parameters()) + 4000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "version 9, this is version 4; train it again"),
        ({"version": None}, "version None, this is version 4"),
        ({"wings": 2}, "missing or unknown: wings"),
        ({"looks": None}, "missing or unknown: looks"),
        ({"voxels": "many"}, "cannot be read as a splat prior"),
        ({"volume_width": -1}, "cannot be read as a splat prior"),
        ({"volume_width": 16}, r"does not fit its config\.json: volume\.convolutions\.0\.bias and \d+ other tensors differ"),
    ],
)
def test_heads_that_do_not_fit_are_refused(tmp_path, change: dict[str, int | str | None], message: str):
    head = make_head()
    save_head(tmp_path, head)
    config = tmp_path / "splats" / "config.json"
    values = json.loads(config.read_text()) | change
    config.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    with pytest.raises(FileFormatError, match=message):
        load_head(tmp_path, head.code, FEATURES, torch.device("cpu"))


@pytest.mark.parametrize(("file", "content"), [("config.json", "{"), ("config.json", "[]"), ("model.safetensors", "nothing")])
def test_heads_that_cannot_be_read_are_refused(tmp_path, file: str, content: str):
    head = make_head()
    save_head(tmp_path, head)
    (tmp_path / "splats" / file).write_text(content)
    with pytest.raises(FileFormatError, match="cannot be read as a splat prior"):
        load_head(tmp_path, head.code, FEATURES, torch.device("cpu"))


def test_a_head_for_other_features_is_refused(tmp_path):
    head = make_head()
    save_head(tmp_path, head)
    with pytest.raises(FileFormatError, match="does not fit its config"):
        load_head(tmp_path, head.code, FEATURES + 1, torch.device("cpu"))


def shipped(kind: type[NanoPrior]) -> NanoPrior:
    return load_as(kind, Request(None, torch.device("cpu"), torch.float32, False, LoadOptions(text_encoder="keep")))[0]


@pytest.fixture(scope="module")
def nano() -> NanoPrior:
    return shipped(NanoPrior)


@pytest.fixture(scope="module")
def prior() -> SplatPrior:
    """The shipped network with a head that has learned nothing."""
    made = shipped(SplatPrior)
    assert isinstance(made, SplatPrior)
    assert made.code is not None
    made.attach(make_head(made.code, 64))
    return made


EARLY, LATE = 0.8, 0.4  # times at which views are drawn, and are not
WHITE = torch.ones(3)
CHAIR = ("a red chair", "a blue car")


def rig(objects: int = 1) -> Cameras:
    return orbit_cameras([20.0 * k + 90.0 * v for k in range(objects) for v in range(4)], 15.0, distance=2.2, width=64)


def test_it_satisfies_the_protocols(prior, nano):
    for protocol in (Prior, CleanPrior, SplatNativePrior):
        assert isinstance(prior, protocol), protocol
    assert not isinstance(nano, SplatNativePrior)
    assert prior.latent_shape == (12, 16, 16)
    assert prior.image_size == 64
    assert prior.views == 4


@pytest.mark.parametrize("cfg_scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("time", [EARLY, LATE])
def test_noise_and_clean_estimate_belong_together(prior, cfg_scale: float, time: float):
    seen, x_t, t = rig(), noise(4, 12, 16, 16), torch.tensor(time)
    text = prior.encode_text(*CHAIR, seen, WHITE)
    clean, eps = prior.predict_clean_and_noise(x_t, t, text, seen, cfg_scale)
    assert torch.allclose(prior.schedule.alpha(t) * clean + prior.schedule.sigma(t) * eps, x_t, atol=1e-4)
    assert torch.equal(eps, prior.predict_noise(x_t, t, text, seen, cfg_scale))
    assert clean.shape == x_t.shape


def test_what_the_head_is_told_is_linear_in_the_scale_of_guidance(prior, monkeypatch):
    seen, x_t, t = rig(), noise(4, 12, 16, 16), torch.tensor(EARLY)
    text, told, forward = prior.encode_text(*CHAIR, seen, WHITE), [], prior.head.forward
    monkeypatch.setattr(prior.head, "forward", lambda output, *others: told.append(output) or forward(output, *others))
    for scale in (0.0, 1.0, 3.0):
        prior.predict_noise(x_t, t, text, seen, scale)
        prior.predict_splats(x_t, t, text, seen, scale)
    none, one, three = told[::2]
    assert none.shape == (4, 12 + 64, 16, 16)
    assert (one - none).abs().max() > 0.1
    assert torch.allclose(three, none + 3 * (one - none), atol=1e-3)
    for views, splats in zip(told[::2], told[1::2], strict=True):
        assert torch.equal(views, splats)


def test_the_head_is_given_the_velocity_of_the_network_as_it_was(prior, nano, monkeypatch):
    seen, x_t, t = rig(), noise(4, 12, 16, 16), torch.tensor(EARLY)
    text, told, forward = prior.encode_text(*CHAIR, seen, WHITE), [], prior.head.forward
    monkeypatch.setattr(prior.head, "forward", lambda *args: told.append(forward(*args)) or told[-1])
    prior.predict_noise(x_t, t, text, seen, 1.0)
    expected, _ = nano.predict_clean_and_noise(x_t, t, nano.encode_text(*CHAIR, seen, WHITE), seen, 1.0)
    assert torch.allclose(told[0].clean[0], expected, atol=1e-4)


@pytest.mark.parametrize("known", [True, False])
def test_the_clean_estimate_is_the_encoded_render_of_its_splats(prior, monkeypatch, known: bool):
    """Around grey, where no colour that the head makes is outside [0, 1]."""
    monkeypatch.setattr(prior, "options", replace(prior.options, drawn_from=0.0))
    seen, t = rig(), torch.tensor(0.1)
    grey = prior.encode(torch.full((4, 3, 64, 64), 0.5))
    x_t = prior.schedule.alpha(t) * grey + prior.schedule.sigma(t) * noise(4, 12, 16, 16)
    text, behind, backdrop = prior.encode_text(*CHAIR, seen, WHITE if known else None), [WHITE], prior.head.backdrop
    monkeypatch.setattr(prior.head, "backdrop", lambda *args: behind.append(backdrop(*args)) or behind[-1])
    splats = prior.predict_splats(x_t, t, text, seen)
    assert isinstance(splats, Gaussians)
    assert (splats.sh[:, 0] * C0).abs().max() < 0.5
    clean, _ = prior.predict_clean_and_noise(x_t, t, text, seen, 1.0)
    assert len(behind) == 2 - known
    assert torch.allclose(prior.encode(render(splats, seen, behind[-1])), clean, atol=1e-3)


def test_views_of_two_objects_are_denoised_apart(prior):
    seen, x_t, t = rig(2), noise(8, 12, 16, 16), torch.tensor(EARLY)
    together = prior.predict_noise(x_t, t, prior.encode_text("a car", "", seen), seen, 2.0)
    apart = prior.predict_noise(x_t[4:], t, prior.encode_text("a car", "", seen[4:]), seen[4:], 2.0)
    assert torch.allclose(together[4:], apart, atol=1e-3)


def test_late_views_are_what_the_network_says(prior, nano):
    seen, x_t, times = rig(), noise(4, 12, 16, 16), (EARLY, prior.options.drawn_from, LATE)
    text, plain = (p.encode_text(*CHAIR, seen, WHITE) for p in (prior, nano))
    ours, theirs = (
        [p.predict_clean_and_noise(x_t, torch.tensor(t), said, seen, 2.0)[0] for t in times] for p, said in ((prior, text), (nano, plain))
    )
    assert torch.allclose(ours[2], theirs[2], atol=1e-4)
    assert (ours[1] - theirs[1]).abs().max() > 0.1
    assert (ours[0] - theirs[0]).abs().max() > 0.1


def test_each_object_is_drawn_by_its_own_time(prior):
    seen, x_t, t = rig(2), noise(8, 12, 16, 16), torch.tensor([EARLY] * 4 + [LATE] * 4)
    both = prior.predict_noise(x_t, t, prior.encode_text("a car", "", seen, WHITE), seen, 2.0)
    for part, time in ((slice(0, 4), EARLY), (slice(4, 8), LATE)):
        own = prior.predict_noise(x_t[part], torch.tensor(time), prior.encode_text("a car", "", seen[part], WHITE), seen[part], 2.0)
        assert torch.allclose(both[part], own, atol=1e-3)


def test_without_cameras_it_is_the_network_alone(prior, nano):
    x_t, t = noise(2, 12, 16, 16), torch.tensor([0.3, 0.7])
    text, plain = (p.encode_text("a car", "", None) for p in (prior, nano))
    for ours, theirs in zip(
        prior.predict_clean_and_noise(x_t, t, text, None, 2.0), nano.predict_clean_and_noise(x_t, t, plain, None, 2.0), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_both_ends_of_time_are_finite(prior):
    seen, x_t = rig(), noise(4, 12, 16, 16)
    text = prior.encode_text("a car", "", seen, WHITE)
    for t in (0.0, 1.0):
        clean, eps = prior.predict_clean_and_noise(x_t, torch.tensor(t), text, seen, 3.0)
        assert clean.isfinite().all()
        assert eps.isfinite().all()
        assert prior.predict_splats(x_t, torch.tensor(t), text, seen).means.isfinite().all()


def test_any_number_of_views_may_be_drawn(prior):
    for views in (1, 3):
        seen = cameras(views, 64)
        splats = prior.predict_splats(noise(views, 12, 16, 16), torch.tensor(0.5), prior.encode_text("a car", "", seen), seen)
        assert len(splats) > 0
    assert prior.views == 4
    with pytest.raises(InputError, match="expected a multiple of the 4 views"):
        prior.predict_noise(noise(3, 12, 16, 16), torch.tensor(0.5), prior.encode_text("a car", "", seen), seen, 1.0)


def test_its_noise_is_differentiable_in_the_latents(prior):
    seen, t = rig(), torch.tensor(EARLY)
    x_t = noise(4, 12, 16, 16).requires_grad_()
    text = prior.encode_text("a car", "", seen, WHITE)
    eps = prior.predict_noise_differentiable(x_t, t, text, seen, 1.0)
    assert torch.allclose(eps.detach(), prior.predict_noise(x_t.detach(), t, text, seen, 1.0), atol=1e-5)
    (gradient,) = torch.autograd.grad((eps * noise(*eps.shape)).sum(), x_t)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_adapters_learn_through_the_render(prior):
    own = copy.copy(prior)
    parameters = own.add_lora(2, torch.Generator().manual_seed(0))
    seen, x_t, t = rig(), noise(4, 12, 16, 16), torch.tensor(EARLY)
    text = own.encode_text("a car", "", seen, WHITE)
    eps = own.predict_noise_trainable(x_t, t, text, seen)
    assert torch.allclose(eps.detach(), prior.predict_noise(x_t, t, text, seen, 1.0), atol=1e-4)
    eps.square().sum().backward()
    assert sum(p.grad is not None and bool(p.grad.any()) for p in parameters) >= len(parameters) // 2  # A waits for B, which is 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_noise_has_the_precision_of_the_latents(prior, dtype: torch.dtype):
    seen, t = rig(), torch.tensor(EARLY)
    x_t, text = noise(4, 12, 16, 16).to(dtype), prior.encode_text("a car", "", seen, WHITE.to(dtype))
    eps = prior.predict_noise(x_t, t, text, seen, 2.0)
    assert eps.dtype == dtype
    assert torch.allclose(eps.float(), prior.predict_noise(x_t.float(), t, text, seen, 2.0), atol=0.3 if dtype == torch.bfloat16 else 1e-3)
    assert prior.predict_splats(x_t, t, text, seen).means.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"fov_y_deg": 100.0}, "fov_y_deg"), ({"distance": 6.0}, "distance"), ({"distance": 0.95}, "distance")],
)
def test_views_outside_the_range_are_refused(prior, settings: dict[str, float], name: str):
    far = orbit_cameras([0.0, 90.0, 180.0, 270.0], 15.0, **({"distance": 2.2, "width": 64} | settings))
    with pytest.raises(InputError, match=rf"cameras\.{name}: .*embedded prior knows"):
        check_cameras(far)
    x_t, t, text = noise(4, 12, 16, 16), torch.tensor(0.5), prior.encode_text("a car", "", far)
    for ask in (lambda: prior.predict_noise(x_t, t, text, far, 1.0), lambda: prior.predict_splats(x_t, t, text, far)):
        with pytest.raises(InputError, match=rf"cameras\.{name}: "):
            ask()
    check_cameras(rig())


def test_texts_of_another_prior_and_odd_latents_are_refused(prior):
    seen, x_t, t = rig(), noise(4, 12, 16, 16), torch.tensor(0.5)
    with pytest.raises(InputError, match="encode_text"):
        prior.predict_noise(x_t, t, TextCondition("a", ""), seen, 1.0)
    with pytest.raises(InputError, match="encode_text"):
        prior.predict_splats(x_t, t, TextCondition("a", ""), seen)
    with pytest.raises(InputError, match="latents_t"):
        prior.predict_splats(x_t[:3], t, prior.encode_text("a car", "", seen), seen)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What a training leaves, of the shipped network and a head that has learned nothing."""
    place = tmp_path_factory.mktemp("trained")
    headless = tiny.save_embedded_unet(place / "headless")
    model = start_model(str(headless), ["a", "red", "chair", "car"], TINY, 0, place / "tokenizer", torch.device("cpu"))
    model.head.load_state_dict(make_head(model.head.code, 64).state_dict())
    model.save(place / "prior", vocabulary="catalogue", categories=("chair", "car"), card={})
    return place / "prior"


def test_a_trained_folder_is_loaded_like_any_other_backbone(folder, prior):
    loaded = priors.load(folder, dtype="float32", options=LoadOptions(image_size=128))
    assert isinstance(loaded, SplatPrior)
    assert loaded.latent_shape == (12, 32, 32)
    assert loaded.encode_text("one crimson armchair", "", None).prompt == "a red chair with armrests"
    with pytest.raises(InputError, match="not trained on 'mug'"):
        loaded.encode_text("a mug", "", None)
    small = priors.load(folder, dtype="float32")
    seen, x_t, t = rig(), noise(4, 12, 16, 16), torch.tensor(EARLY)
    found, wanted = (p.predict_noise(x_t, t, p.encode_text("a car", "", seen, WHITE), seen, 1.0) for p in (small, prior))
    assert (found - wanted).square().mean() < 1e-3 * wanted.square().mean()  # saved in float16


def test_damaged_and_other_folders_are_refused(folder, tmp_path):
    own = shutil.copytree(folder, tmp_path / "own")
    weights = own / "splats" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FileFormatError, match=r"splats.model\.safetensors is missing or damaged"):
        priors.load(own)
    weights.unlink()
    with pytest.raises(FileFormatError, match="missing or damaged"):
        priors.load(own)
    with pytest.raises(ConfigError, match=r"prior\.tiny_vae: "):
        priors.load(folder, options=LoadOptions(tiny_vae="anything"))


def test_a_folder_of_a_version_without_unet_is_refused_by_name(tmp_path):
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"_class_name": "SplatDenoiser"}))
    (tmp_path / "model_index.json").write_text(json.dumps({"version": 3}))
    with pytest.raises(FileFormatError, match="is a splat prior of a version before 4; train it again"):
        priors.load(tmp_path)


def test_sampling_follows_the_path_to_the_clean_views():
    """With a prior whose clean estimate is always the same, x at the last time is that with the first noise scaled down."""
    clean, start, schedule, drawn = 3 * noise(4, 12, 16, 16, seed=0), noise(4, 12, 16, 16), DiscreteSchedule.scaled_linear(), object()
    given, told = [], []

    def predict(x: Tensor, t: Tensor, text: object, seen: object, scale: float) -> tuple[Tensor, Tensor]:
        given.append((x, float(t), text, seen, scale))
        return clean, (x - schedule.alpha(t) * clean) / schedule.sigma(t)

    def draw_it(*args: object) -> object:
        predict(*args)
        return drawn

    stub = SimpleNamespace(schedule=schedule, predict_clean_and_noise=predict, predict_splats=draw_it)
    found = sample_splats(stub, "text", "cameras", start, steps=4, cfg_scale=2.0, after_step=told.append)
    assert found is drawn
    assert told == [1, 2, 3, 4]
    assert [t for _, t, *_ in given] == pytest.approx(torch.linspace(FIRST, LAST, 4).tolist())
    assert {tuple(rest) for _, _, *rest in given} == {("text", "cameras", 2.0)}
    first, last = torch.tensor(FIRST), torch.tensor(LAST)
    eps = (start - schedule.alpha(first) * clean) / schedule.sigma(first)
    assert torch.allclose(given[-1][0], schedule.alpha(last) * clean + schedule.sigma(last) * eps, atol=1e-4)


DIRECT = ("prompt=a red chair", "splats.init=direct", "splats.direct_steps=2", "device=cpu")


def test_direct_is_the_priors_own_sample_and_another_seed_another_one(prior):
    one, again, other = (fsd_gs.generate("a red chair", seed=s, overrides=[*DIRECT[1:], "steps=0"], prior=prior) for s in (0, 0, 1))
    assert one.complete
    assert len(one.splats) > 0
    assert torch.equal(one.splats.means, again.splats.means)
    assert one.splats.means.shape != other.splats.means.shape or not torch.equal(one.splats.means, other.splats.means)


def test_direct_can_start_flow_score_distillation(prior):
    settings = ["steps=2", "render.sizes=[32]", "schedule.start=0.6", "solidify.effort=0", *DIRECT[1:]]
    started = fsd_gs.generate("a red chair", overrides=settings, prior=prior)
    assert started.step == 2
    assert started.splats.means.isfinite().all()


def test_direct_needs_a_prior_that_draws():
    from fsd_gs.config import load_config
    from fsd_gs.train.build import build_session

    with pytest.raises(ConfigError, match="steps: expected at least 1, got 0"):
        load_config(overrides=["steps=0"])
    config = load_config(overrides=[*DIRECT, "steps=0"])
    toy = type("Toy", (), {"views": 4, "latent_shape": (3, 8, 8)})()
    with pytest.raises(ConfigError, match=r"splats\.init: direct needs a prior that draws splats .* this is a Toy"):
        build_session(config, lambda _: toy, torch.device("cpu"))
