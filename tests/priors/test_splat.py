"""The splat-native prior: its volume and words against readable twins, its network's symmetries, and the seam of all priors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.priors.base import CleanPrior, Prior, SplatNativePrior
from fsd_gs.priors.splat.draw import draw, draw_gaussians, gaussians
from fsd_gs.priors.splat.folder import load_network, save_folder
from fsd_gs.priors.splat.network import (
    PIXEL_VARIANCE,
    SIZE,
    Condition,
    Neighbours,
    NetworkSettings,
    SplatDenoiser,
    SplatField,
    attend,
    best_gain,
    frequencies,
)
from fsd_gs.priors.splat.prior import CosineSchedule, SplatPrior, check_cameras
from fsd_gs.priors.splat.sampling import sample_splats
from fsd_gs.priors.splat.volume import (
    RADIUS,
    Rays,
    block_places,
    cell_centers,
    cell_points,
    inside,
    mean_and_deviation,
    project,
    sample_views,
    sample_views_slowly,
    stack_rays,
)
from fsd_gs.priors.splat.words import MAX_WORDS, WordEncoder, encode_words, letter_groups

TINY = NetworkSettings(
    cells=4, lift_points=2, emit_points=2, kept=20, early=1, width=16, depth=3, heads=2, view_features=3, voxel_features=4, head_width=8,
    text_rows=64, text_width=8,
)  # fmt: skip


def make_network(seed: int = 0, settings: NetworkSettings = TINY) -> SplatDenoiser:
    """A network whose zero-initialised layers are not zero, so that everything matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SplatDenoiser(settings)
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


def make_condition(texts: list[str], rows: int = 64) -> Condition:
    count = len(texts)
    return Condition(torch.linspace(-3, 3, count), encode_words(texts, rows), torch.zeros(count, 3), torch.ones(count))


def cameras(views: int = 4, size: int = SIZE, turn: float = 10.0) -> object:
    return orbit_cameras([turn + 360.0 / views * k for k in range(views)], 15.0, distance=2.2, width=size)


def noise(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
    places, depths = project(points, stack_rays([Rays.of(seen)]))
    for view in range(2):
        for n in range(2):
            in_camera = seen.viewmats[view, :3, :3] @ points[0, n] + seen.viewmats[view, :3, 3]
            pixel = seen.Ks[view] @ (in_camera / in_camera[2])
            assert torch.allclose(places[0, view, n] * torch.tensor([64.0, 48.0]), pixel[:2], atol=1e-4)
            assert depths[0, view, n].item() == pytest.approx(in_camera[2].item(), abs=1e-5)
    assert torch.allclose(places[0, :, 1], torch.full((2, 2), 0.5), atol=1e-5)  # the origin is in the middle
    assert torch.equal(inside(places, depths), torch.ones(1, 2, 2))
    assert torch.equal(inside(places + 1, depths), torch.zeros(1, 2, 2))


def test_cells_cover_the_ball_and_points_tile_the_cells():
    centers, offsets = cell_centers(8), cell_points(8, 3)
    edge = 2 * RADIUS / 8
    directions = torch.nn.functional.normalize(noise(2000, 3), dim=1) * RADIUS * 0.999
    nearest = (directions[:, None] - centers).abs().amax(-1).amin(1)
    assert (nearest <= edge / 2 + 1e-5).all()  # every point of the ball's surface lies in a cell
    assert ((centers.abs() - edge / 2).clamp_min(0).norm(dim=1) < RADIUS).all()  # and no cell lies outside
    assert offsets.shape == (27, 3)
    assert offsets.abs().max().item() == pytest.approx(edge / 3)
    assert torch.allclose(offsets.sum(0), torch.zeros(3), atol=1e-6)


def test_blocks_hold_the_eight_sub_voxels_of_their_place():
    cells, points = 4, 3
    places = block_places(cells, points)
    positions = (cell_centers(cells)[:, None] + cell_points(cells, points)).flatten(0, 1)
    assert places.unique().numel() == places.numel()  # one place each
    block, corner, edge = places.flatten() // 8, places.flatten() % 8, 2 * RADIUS / 6
    origin = torch.stack([block // 36, block // 6 % 6, block % 6], dim=1) * edge - RADIUS
    inner = torch.stack([corner // 4, corner // 2 % 2, corner % 2], dim=1) * (edge / 2) + edge / 4
    assert torch.allclose(origin + inner, positions, atol=1e-5)


def test_neighbours_equal_convolutions_over_the_grid_written_out():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = Neighbours(TINY).double()
        torch.nn.init.normal_(layer.leave.weight, std=0.3)
    hidden = noise(1, 3 * 8, 8).double().requires_grad_()
    kept = torch.tensor([[1, 4, 11]])
    heard = layer(hidden, kept)
    places, side = layer.places[kept[0]].flatten().tolist(), layer.side
    grid = {}
    for row, place in enumerate(places):
        grid.setdefault(place // 8, {})[place % 8] = layer.speak(hidden[0, row])
    x = torch.zeros(side, side, side, TINY.block_width, dtype=torch.float64)
    for block in range(side**3):
        corners = [grid.get(block, {}).get(c, torch.zeros(TINY.block_features, dtype=torch.float64)) for c in range(8)]
        x[block // side**2, block // side % side, block % side] = layer.enter(torch.cat(corners))
    for convolution in layer.convolutions:
        padded = torch.nn.functional.pad(torch.nn.functional.silu(x), (0, 0, 1, 1, 1, 1, 1, 1))
        around = sum(
            padded[i : i + side, j : j + side, k : k + side] @ convolution.weight[:, :, i, j, k].T
            for i in range(3) for j in range(3) for k in range(3)
        )  # fmt: skip
        x = x + around + convolution.bias
    left = layer.leave(torch.nn.functional.silu(x)).reshape(side**3, 8, 8)
    expected = torch.stack([left[place // 8, place % 8] for place in places])
    assert torch.allclose(heard[0], expected, atol=1e-12)
    weights = noise(3 * 8, 8).double()
    ours, twin = (torch.autograd.grad((y * weights).sum(), hidden, retain_graph=True)[0] for y in (heard[0], expected))
    assert torch.allclose(ours, twin, atol=1e-12)


def test_neighbours_are_heard():
    network, rays, x = make_network(), stack_rays([Rays.of(cameras())]), noise(1, 4, 3, SIZE, SIZE)
    before = network(x, rays, make_condition([""])).opacity_logits
    torch.nn.init.zeros_(network.neighbours.leave.weight)
    torch.nn.init.zeros_(network.neighbours.leave.bias)
    assert (network(x, rays, make_condition([""])).opacity_logits - before).abs().max() > 1e-3


def test_mean_and_deviation_over_the_views_that_count():
    values, weights = noise(1, 3, 2, 4), torch.tensor([[[1.0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]])
    mean, deviation = mean_and_deviation(values, weights, spread=1)
    assert torch.allclose(mean[0, :, 0], values[0, :, :, 0].mean(0))
    assert torch.allclose(deviation[0, 0, 1], (values[0, [0, 2], 0, 1].var(correction=0) + 1e-4).sqrt(), atol=1e-5)
    assert torch.allclose(mean[0, :, 2], values[0, 2, :, 2], atol=1e-5)
    assert torch.equal(mean[0, :, 3], torch.zeros(2))  # no view
    assert deviation.shape == (1, 1, 4)


def test_letter_groups_are_the_same_everywhere_and_shared_by_like_words():
    crc32 = (505241023, 2790632524, 2000545437, 1782349530, 331720586, 2645172281)  # of <car>, <ca, car, ar>, <car, car>
    assert letter_groups("car", 4096) == [1 + value % 4095 for value in crc32]
    chair, chairs, lamp = (set(letter_groups(w, 4096)) for w in ("chair", "chairs", "lamp"))
    assert len(chair & chairs) >= 5
    assert len(chair & lamp) <= 1
    assert all(0 < row < 4096 for row in chair | chairs | lamp)


def test_a_text_is_its_words_and_empty_texts_are_finite():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = WordEncoder(64, 8).eval()
    words = encode_words(["A red, CHAIR!", "a red chair", "", " ".join(["a"] * 40)], 64)
    vectors, text = encoder(words)
    assert torch.equal(words.groups[0], words.groups[1])  # case and punctuation say nothing
    assert words.present.sum(1).tolist() == [3, 3, 0, MAX_WORDS]
    assert torch.equal(text[2], torch.zeros(8))
    assert text.isfinite().all()
    assert not vectors[0, 3:].any()  # nothing where there is no word
    assert not torch.allclose(encoder(encode_words(["red a chair"], 64))[1], text[:1])  # the order says something


def test_attention_by_products_is_attention():
    q, k, v = (noise(2, 3, 5, 4, seed=s).double() for s in range(3))
    bias = torch.zeros(2, 1, 1, 5, dtype=torch.float64)
    bias[1, ..., 3:] = float("-inf")
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    assert torch.allclose(attend(q, k, v, bias), expected, atol=1e-12)


@pytest.mark.parametrize("views", [1, 2, 4, 5])
def test_any_number_of_views_and_their_order_does_not_matter(views: int):
    network, seen = make_network(), cameras(views)
    x, rays, condition = noise(1, views, 3, SIZE, SIZE), stack_rays([Rays.of(seen)]), make_condition(["a red chair"])
    field = network(x, rays, condition)
    order = torch.arange(views).flip(0)
    again = network(x[:, order], stack_rays([Rays.of(seen[order])]), condition)
    assert field.means.shape == (1, 20 * 8, 3)
    for name in ("means", "scales", "opacity_logits", "colors"):
        assert torch.allclose(getattr(field, name), getattr(again, name), atol=2e-5), name


def test_objects_of_a_batch_do_not_see_each_other():
    network = make_network()
    rays = stack_rays([Rays.of(cameras(turn=t)) for t in (0.0, 30.0)])
    x, condition = noise(2, 4, 3, SIZE, SIZE), make_condition(["a red chair", ""])
    both = network(x, rays, condition)
    alone = network(
        x[1:], rays[1:], replace(make_condition(["", ""]), log_snr=condition.log_snr[1:], words=condition.words[1:],
                                 background=condition.background[1:], known=condition.known[1:]),
    )  # fmt: skip
    assert torch.allclose(both.means[1:], alone.means, atol=2e-5)
    assert torch.allclose(both.colors[1:], alone.colors, atol=2e-5)


def test_text_noise_level_background_and_views_all_matter():
    network, rays, x = make_network(), stack_rays([Rays.of(cameras())]), noise(1, 4, 3, SIZE, SIZE)
    base = Condition(torch.zeros(1), encode_words(["a red chair"], 64), torch.zeros(1, 3), torch.ones(1))
    said = network(x, rays, base).colors
    for other in (
        replace(base, words=encode_words(["a blue car"], 64)),
        replace(base, log_snr=torch.ones(1)),
        replace(base, background=torch.ones(1, 3)),
        replace(base, known=torch.zeros(1)),
    ):
        assert (network(x, rays, other).colors - said).abs().max() > 1e-4
    assert (network(x.flip(-1), rays, base).colors - said).abs().max() > 1e-4


def test_gaussians_lie_in_kept_cells_and_the_bonus_decides_which():
    network, rays, x = make_network(), stack_rays([Rays.of(cameras())]), noise(1, 4, 3, SIZE, SIZE)
    condition = make_condition([""])
    wanted = torch.zeros(1, len(network.centers))
    wanted[0, :5] = 1e3
    field = network(x, rays, condition, keep_first=wanted)
    assert set(range(5)) <= set(field.kept[0].tolist())
    home = network.centers[field.kept[0]].repeat_interleave(8, dim=0)
    reach = RADIUS / TINY.cells + network.voxel
    assert ((field.means[0] - home).abs() <= reach).all()
    assert (field.scales > 0).all()
    assert ((field.colors >= 0) & (field.colors <= 1)).all()


def test_no_gain_is_better_than_the_best_one():
    """Over many pixels of the stated variance, a hundredth more or less of it is a larger error."""
    generator = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(400_000, generator=generator, dtype=torch.float64) for _ in range(2))
    x = x * PIXEL_VARIANCE**0.5
    for log_snr in (-4.0, 0.0, 3.0):
        alpha_squared = torch.sigmoid(torch.tensor(log_snr, dtype=torch.float64))
        x_t = alpha_squared.sqrt() * x + (1 - alpha_squared).sqrt() * eps
        gain = best_gain(torch.tensor(log_snr, dtype=torch.float64))
        errors = [(k * gain * x_t - x).square().mean() for k in (0.97, 1.0, 1.03)]
        assert errors[1] == min(errors)
        assert gain.item() == pytest.approx((x @ x_t / (x_t @ x_t)).item(), rel=0.01)


def test_what_a_view_is_taken_for_begins_at_the_view_itself_without_noise_and_at_grey_in_nothing_but_noise():
    with torch.random.fork_rng(devices=[]):
        network = SplatDenoiser(TINY).eval()  # as training begins: no correction
    rays, x = stack_rays([Rays.of(cameras())]), noise(1, 4, 3, SIZE, SIZE).clamp(-0.9, 0.9)
    condition = make_condition([""])
    at = {level: network(x, rays, replace(condition, log_snr=torch.tensor([level]))).views for level in (14.0, -14.0)}
    torch.testing.assert_close(at[14.0], x, atol=1e-4, rtol=0)
    assert at[-14.0].abs().max() < 0.01
    corrected = make_network()(x, rays, condition).views
    assert corrected.shape == x.shape
    assert (corrected - network(x, rays, condition).views).abs().max() > 0.05
    assert corrected.abs().max() <= 1


def test_frequencies_tell_noise_levels_apart():
    values = frequencies(torch.tensor([-14.0, -1.0, -0.9, 0.0, 14.0]))
    assert torch.cdist(values, values)[~torch.eye(5, dtype=torch.bool)].min() > 0.1
    assert torch.equal(frequencies(torch.tensor([40.0])), frequencies(torch.tensor([15.0])))


def make_prior(image_size: int = SIZE) -> SplatPrior:
    return SplatPrior(make_network(), image_size)


def test_it_satisfies_the_protocols():
    prior = make_prior()
    assert isinstance(prior, Prior)
    assert isinstance(prior, CleanPrior)
    assert prior.latent_shape == (3, SIZE, SIZE)


@pytest.mark.parametrize("image_size", [64, 128])
@pytest.mark.parametrize("cfg_scale", [0.0, 1.0, 3.0])
def test_noise_and_clean_estimate_belong_together(image_size: int, cfg_scale: float):
    prior, seen = make_prior(image_size), cameras(size=image_size)
    x_t, t = noise(4, 3, image_size, image_size), torch.tensor(0.6)
    text = prior.encode_text("a red chair", "a car", seen, torch.ones(3))
    clean, eps = prior.predict_clean_and_noise(x_t, t, text, seen, cfg_scale)
    assert torch.allclose(prior.schedule.alpha(t) * clean + prior.schedule.sigma(t) * eps, x_t, atol=1e-4)
    assert torch.equal(eps, prior.predict_noise(x_t, t, text, seen, cfg_scale))
    assert clean.shape == x_t.shape


def test_guidance_is_linear_in_the_scale():
    prior, seen, x_t, t = make_prior(), cameras(), noise(4, 3, SIZE, SIZE), torch.tensor(0.5)
    text = prior.encode_text("a red chair", "", seen)
    none, one, three = (prior.predict_noise(x_t, t, text, seen, s) for s in (0.0, 1.0, 3.0))
    assert torch.allclose(three, none + 3 * (one - none), atol=1e-4)


def test_the_clean_estimate_is_the_render_of_its_splats():
    prior, seen, x_t, t = make_prior(), cameras(), noise(4, 3, SIZE, SIZE), torch.tensor(0.3)
    white = torch.ones(3)
    text = prior.encode_text("a red chair", "", seen, white)
    splats = prior.predict_splats(x_t, t, text, seen)
    assert isinstance(splats, Gaussians)
    from fsd_gs.render import cpu

    colors = splats.sh[:, 0] * 0.28209479177387814 + 0.5
    rgb, _, _ = cpu.rasterization(
        splats.means,
        splats.quats,
        splats.scales,
        splats.opacities,
        colors,
        seen.viewmats,
        seen.Ks,
        SIZE,
        SIZE,
        backgrounds=white.expand(4, 3),
    )
    clean, _ = prior.predict_clean_and_noise(x_t, t, text, seen, 1.0)
    assert torch.allclose(rgb.permute(0, 3, 1, 2), (clean + 1) / 2, atol=1e-4)


def test_views_of_two_objects_are_denoised_apart():
    prior, seen = make_prior(), orbit_cameras([0.0, 90, 180, 270, 20, 110, 200, 290], 15.0, distance=2.2, width=SIZE)
    x_t, t = noise(8, 3, SIZE, SIZE), torch.tensor(0.4)
    together = prior.predict_noise(x_t, t, prior.encode_text("a car", "", seen), seen, 2.0)
    apart = prior.predict_noise(x_t[4:], t, prior.encode_text("a car", "", seen[4:]), seen[4:], 2.0)
    assert torch.allclose(together[4:], apart, atol=1e-4)


def test_larger_pictures_are_told_their_true_noise_level():
    """Means over 2 × 2 pixels: the network must be given unit variance and log(4 α²/σ²)."""
    prior, seen = make_prior(128), cameras(size=128)
    given = {}

    def spy(views: Tensor, rays: Rays, condition: Condition) -> SplatField:
        given["views"], given["log_snr"] = views, condition.log_snr
        return original(views, rays, condition)

    original = prior.network.forward
    prior.network.forward = spy
    t = torch.tensor(0.7)
    x_t = prior.schedule.sigma(t) * noise(4, 3, 128, 128)  # of a black-and-white mean of 0: noise alone
    prior.predict_noise(x_t, t, prior.encode_text("a car", "", seen), seen, 1.0)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    assert given["log_snr"].item() == pytest.approx((2 * (2 * alpha / sigma).log()).item(), abs=1e-4)
    noise_share = (sigma / 2) ** 2 / (alpha**2 + (sigma / 2) ** 2)
    assert given["views"].shape == (1, 4, 3, 64, 64)
    assert given["views"].var().item() == pytest.approx(noise_share.item(), rel=0.05)


def test_both_ends_of_time_are_finite():
    prior, seen, x_t = make_prior(), cameras(), noise(4, 3, SIZE, SIZE)
    text = prior.encode_text("a car", "", seen)
    for t in (0.0, 1.0):
        clean, eps = prior.predict_clean_and_noise(x_t, torch.tensor(t), text, seen, 3.0)
        assert clean.isfinite().all()
        assert eps.isfinite().all()
    schedule = CosineSchedule()
    assert schedule.alpha(torch.tensor(1.0)) == 0
    assert schedule.sigma(torch.tensor(0.0)) == 0
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones(11, dtype=torch.float64))


def test_without_cameras_each_picture_is_its_own_object():
    prior, x_t, t = make_prior(), noise(2, 3, SIZE, SIZE), torch.tensor(0.5)
    text = prior.encode_text("a car", "", None)
    both = prior.predict_noise(x_t, t, text, None, 1.0)
    assert torch.allclose(both[1:], prior.predict_noise(x_t[1:], t, text, None, 1.0), atol=1e-5)


def test_encoding_is_exact_and_differentiable():
    prior, rgb = make_prior(), torch.rand(1, 3, SIZE, SIZE, requires_grad=True)
    latents = prior.encode(rgb)
    assert torch.allclose(prior.decode(latents), rgb, atol=1e-6)
    (gradient,) = torch.autograd.grad(latents.sum(), rgb)
    assert torch.equal(gradient, torch.full_like(rgb, 2.0))


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"fov_y_deg": 100.0}, "fov_y_deg"), ({"distance": 6.0}, "distance"), ({"distance": 0.95}, "distance")],
)
def test_views_outside_the_range_are_refused(settings: dict[str, float], name: str):
    with pytest.raises(InputError, match=rf"cameras\.{name}: .*embedded prior knows"):
        check_cameras(orbit_cameras([0.0], 15.0, **({"distance": 2.2} | settings)))
    check_cameras(cameras())


def test_texts_of_another_prior_and_odd_sizes_are_refused():
    from fsd_gs.core.types import TextCondition

    with pytest.raises(InputError, match="encode_text"):
        make_prior().predict_noise(noise(4, 3, SIZE, SIZE), torch.tensor(0.5), TextCondition("a", ""), cameras(), 1.0)
    with pytest.raises(InputError, match="image_size: expected a multiple of 64, got 96"):
        make_prior(96)


def test_a_folder_gives_the_same_network_back(tmp_path):
    network = make_network()
    save_folder(tmp_path / "p", network, vocabulary="", categories=(), card={})
    again = load_network(tmp_path / "p", torch.device("cpu"))
    assert again.settings == network.settings
    for (name, value), other in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.allclose(value, other, atol=2e-3), name
    assert (tmp_path / "p" / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size < 2.2 * sum(
        p.numel() for p in network.parameters()
    ) + 20000


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model_index.json", {"version": 9}, "version 9, this is version 3"),
        ("transformer/config.json", {"wings": 2}, "missing or unknown: wings"),
        ("transformer/config.json", {"width": 32}, "does not fit its config.json"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path, file: str, change: dict[str, int], message: str):
    save_folder(tmp_path / "p", make_network(), vocabulary="", categories=(), card={})
    values = json.loads((tmp_path / "p" / file).read_text()) | change
    (tmp_path / "p" / file).write_text(json.dumps(values))
    with pytest.raises(FileFormatError, match=message):
        load_network(tmp_path / "p", torch.device("cpu"))
    (tmp_path / "p" / file).write_text("{")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_network(tmp_path / "p", torch.device("cpu"))


def test_ddim_of_a_network_that_knows_the_answer_ends_on_it():
    """A stub that always draws the same Gaussians: the sample is theirs, whatever the noise."""
    network = make_network()
    fixed = network(noise(1, 4, 3, SIZE, SIZE), stack_rays([Rays.of(cameras())]), make_condition([""]))
    network.forward = lambda *_: fixed
    prior, told = SplatPrior(network), []
    text = prior.encode_text("a car", "", cameras(), torch.ones(3))
    splats = sample_splats(prior, text, cameras(), noise(4, 3, SIZE, SIZE), steps=3, after_step=told.append)
    assert told == [1, 2, 3]
    assert isinstance(prior, SplatNativePrior)
    assert torch.equal(splats.means, gaussians(fixed, 0).means)
    assert torch.allclose(draw_gaussians(splats, cameras(), torch.ones(3)), draw(fixed, 0, cameras(), torch.ones(3))[0], atol=1e-5)


def test_sampling_follows_the_path_to_the_clean_views():
    """With a prior whose clean estimate is a fixed picture, x at the last time is that picture with the first noise scaled down."""
    network = make_network()
    fixed = network(noise(1, 4, 3, SIZE, SIZE), stack_rays([Rays.of(cameras())]), make_condition([""]))
    given = []

    def remember(views: Tensor, rays: Rays, condition: Condition) -> SplatField:
        given.append(views[0])
        return fixed

    network.forward = remember
    prior, start, white = SplatPrior(network), noise(4, 3, SIZE, SIZE), torch.ones(3)
    sample_splats(prior, prior.encode_text("a car", "", cameras(), white), cameras(), start, steps=4, cfg_scale=1.0)
    clean = 2 * draw(fixed, 0, cameras(), white)[0] - 1
    t = torch.tensor(0.01)
    assert torch.allclose(given[-1], prior.schedule.alpha(t) * clean + prior.schedule.sigma(t) * start, atol=5e-3)


def test_a_trained_folder_is_loaded_like_any_other_backbone(tmp_path):
    from fsd_gs import priors

    save_folder(tmp_path / "p", make_network(), vocabulary="catalogue", categories=("chair", "car"), card={})
    prior = priors.load(tmp_path / "p", options=priors.LoadOptions(image_size=128))
    assert isinstance(prior, SplatPrior)
    assert prior.latent_shape == (3, 128, 128)
    text = prior.encode_text("one crimson armchair", "", None)
    assert text.caption == "a red chair with armrests"
    with pytest.raises(InputError, match="not trained on 'mug'"):
        prior.encode_text("a mug", "", None)
    weights = tmp_path / "p" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(FileFormatError, match="missing or damaged"):
        priors.load(tmp_path / "p")


DIRECT = ("prompt=a red chair", "splats.init=direct", "splats.direct_steps=2", "device=cpu")


def test_direct_is_the_priors_own_sample_and_another_seed_another_one():
    import fsd_gs

    prior = make_prior()
    one, again, other = (fsd_gs.generate("a red chair", seed=s, overrides=[*DIRECT[1:], "steps=0"], prior=prior) for s in (0, 0, 1))
    assert one.complete
    assert len(one.splats) > 0
    assert torch.equal(one.splats.means, again.splats.means)
    assert one.splats.means.shape != other.splats.means.shape or not torch.equal(one.splats.means, other.splats.means)


def test_direct_can_start_flow_score_distillation():
    import fsd_gs

    settings = ["steps=2", "render.sizes=[32]", "schedule.start=0.6", *DIRECT[1:]]
    started = fsd_gs.generate("a red chair", overrides=settings, prior=make_prior())
    assert started.step == 2
    assert started.splats.means.isfinite().all()


def test_direct_needs_a_prior_that_draws():
    from fsd_gs.config import load_config
    from fsd_gs.errors import ConfigError
    from fsd_gs.train.build import build_session

    with pytest.raises(ConfigError, match="steps: expected at least 1, got 0"):
        load_config(overrides=["steps=0"])
    config = load_config(overrides=[*DIRECT, "steps=0"])
    toy = type("Toy", (), {"views": 4, "latent_shape": (3, 8, 8)})()
    with pytest.raises(ConfigError, match=r"splats\.init: direct needs a prior that draws splats .* this is a Toy"):
        build_session(config, lambda _: toy, torch.device("cpu"))
