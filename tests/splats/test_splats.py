"""Stored parameters, initialisation and optimizers: round trips, known geometry, explicit randomness, exact resume."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fsd_gs.config import load_config
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.points import mean_squared_neighbour_distance, splat_components
from fsd_gs.core.sh import C0, rgb_from_sh0, sh0_from_rgb
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import ConfigError, FileFormatError, InputError
from fsd_gs.export.ply import load_ply, save_ply
from fsd_gs.render.base import make_rasterizer
from fsd_gs.splats import initialize
from fsd_gs.splats.entropy import EDGE, total_and_slope, total_entropy
from fsd_gs.splats.optimizers import (
    LearningRates,
    build_optimizers,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rates,
    step_all,
)
from fsd_gs.splats.parameters import activate, from_gaussians
from fsd_gs.train.build import initial_splats


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def random_gaussians(count=50, sh_degree=1, seed=0):
    g = gen(seed)
    return Gaussians(
        means=torch.randn(count, 3, generator=g),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1),
        scales=torch.rand(count, 3, generator=g) * 0.1 + 1e-4,
        opacities=torch.rand(count, generator=g) * 0.98 + 0.01,
        sh=torch.randn(count, (sh_degree + 1) ** 2, 3, generator=g),
    )


# -- parameters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_activations_undo_the_stored_form(degree):
    before = random_gaussians(sh_degree=degree)
    params = from_gaussians(before)
    after = activate(params)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-5, atol=1e-6)
    assert set(params.keys()) == {"means", "scales", "quats", "opacities", "sh0"} | ({"shN"} if degree else set())
    assert all(p.dtype == torch.float32 and p.requires_grad for p in params.values())
    torch.testing.assert_close(params["scales"], before.scales.log())
    torch.testing.assert_close(params["opacities"], (before.opacities / (1 - before.opacities)).log(), rtol=1e-4, atol=1e-5)


def test_stored_values_are_copies():
    source = random_gaussians()
    params = from_gaussians(source)
    with torch.no_grad():
        params["means"].zero_()
    assert source.means.abs().sum() > 0


def test_extreme_splats_are_stored_finite_and_nan_is_refused():
    g = random_gaussians(3)
    g.scales[0], g.opacities[0], g.opacities[1], g.quats[2] = 0.0, 0.0, 1.0, 0.0
    params = from_gaussians(g)
    assert all(torch.isfinite(p).all() for p in params.values())
    after = activate(params).detach()
    assert after.opacities[0] == pytest.approx(0, abs=3e-9)
    assert after.opacities[1] == 1
    torch.testing.assert_close(after.quats[2], torch.tensor([1.0, 0, 0, 0]))
    g.means[1, 2] = math.nan
    with pytest.raises(InputError, match="means: expected finite values, got 1 of 3"):
        from_gaussians(g)


def test_a_file_as_a_start_is_that_file(tmp_path):
    """Nearly opaque, nearly empty and flat splats are not moved; what is written again from step 0 is what was read."""
    g = random_gaussians(40, sh_degree=1)
    logits = torch.linspace(-19.5, 19.5, 40)
    g = replace(g, opacities=logits.double().sigmoid().float(), scales=torch.logspace(-18, 5, 120).reshape(40, 3))
    save_ply(g, tmp_path / "a.ply")
    config = load_config(overrides=[f"splats.init={tmp_path / 'a.ply'}", "splats.sh_degree=1"])
    read = load_ply(tmp_path / "a.ply")
    start = activate(from_gaussians(initial_splats(config))).detach()
    for name in ("means", "quats", "scales", "sh"):
        torch.testing.assert_close(getattr(start, name), getattr(read, name), rtol=1e-5, atol=0)
    torch.testing.assert_close(start.opacities, read.opacities, rtol=3e-5, atol=0)


def test_a_flat_splat_does_not_drown_the_others():
    from fsd_gs.splats.regularizers import anisotropy

    scales = torch.tensor([[1e-19, 0.1, 0.1], [0.01, 0.1, 0.1]], requires_grad=True)
    anisotropy(scales).backward()
    assert (scales.grad[0] == 0).all()
    assert scales.grad[1].abs().max() > 0


def test_colour_constant_is_y00():
    assert pytest.approx(1 / (2 * math.sqrt(math.pi)), rel=1e-15) == C0
    rgb = torch.rand(5, 3, generator=gen())
    torch.testing.assert_close(rgb_from_sh0(sh0_from_rgb(rgb)), rgb)


def test_gradients_reach_every_parameter():
    params = from_gaussians(random_gaussians())
    a = activate(params)
    weights = [torch.randn(v.shape, generator=gen(7)) for v in (a.means, a.quats, a.scales, a.opacities, a.sh)]
    sum((v * w).sum() for v, w in zip((a.means, a.quats, a.scales, a.opacities, a.sh), weights, strict=True)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in params.values())
    # a step along q itself changes nothing
    assert (params["quats"].grad * params["quats"]).sum(dim=1).abs().max() < 1e-5


# -- neighbours ------------------------------------------------------------------------------------------------------------


def test_neighbour_distance_equals_brute_force():
    points = torch.randn(40, 3, generator=gen(), dtype=torch.float64)
    d2 = torch.cdist(points, points).square()
    expected = d2.sort(dim=1).values[:, 1:4].mean(dim=1)
    torch.testing.assert_close(mean_squared_neighbour_distance(points), expected)


def test_neighbour_distance_of_a_grid():
    axis = torch.arange(4) * 0.5
    grid = torch.cartesian_prod(axis, axis, axis)  # every point, corners too, has 3 neighbours at 0.5
    torch.testing.assert_close(mean_squared_neighbour_distance(grid), torch.full((64,), 0.25))
    assert mean_squared_neighbour_distance(torch.zeros(1, 3)).tolist() == [0.0]


def test_components_equal_a_readable_flood_fill():
    points = torch.rand(60, 3, generator=gen(3)) * 2
    reach = torch.rand(60, generator=gen(4)) * 0.2
    labels = torch.from_numpy(splat_components(points.double().numpy(), reach.double().numpy(), 0.0))
    linked = torch.cdist(points, points) <= reach[:, None] + reach[None]
    expected = [-1] * 60
    for start in range(60):
        stack = [start] if expected[start] < 0 else []
        while stack:
            i = stack.pop()
            if expected[i] < 0:
                expected[i] = start
                stack += linked[i].nonzero().flatten().tolist()
    pairs = {(a, b) for a, b in zip(labels.tolist(), expected, strict=True)}
    assert len(pairs) == len(set(labels.tolist())) == len(set(expected)) > 3  # a bijection between the two labellings
    sizes = torch.bincount(labels)
    assert (sizes[:-1] >= sizes[1:]).all()


# -- initialisation --------------------------------------------------------------------------------------------------------


def test_ball_is_uniform_and_overlapping():
    g = initialize.ball(4000, 0.5, gen())
    r = g.means.norm(dim=1)
    assert r.max() <= 0.5
    share_inside_half = (r < 0.25).float().mean().item()  # (1/2)³ of the volume
    assert share_inside_half == pytest.approx(0.125, abs=0.02)
    assert g.means.mean(dim=0).abs().max() < 0.02
    torch.testing.assert_close(g.scales[:, 0], mean_squared_neighbour_distance(g.means).sqrt())
    assert (g.scales == g.scales[:, :1]).all()
    assert g.opacities.unique().tolist() == pytest.approx([0.1])
    assert rgb_from_sh0(g.sh[:, 0]).unique().tolist() == [0.5]


def test_shell_and_random_colours():
    g = initialize.ball(100, 0.7, gen(), shell=True, color="random", sh_degree=2)
    torch.testing.assert_close(g.means.norm(dim=1), torch.full((100,), 0.7))
    rgb = rgb_from_sh0(g.sh[:, 0])
    assert rgb.min() >= -1e-6
    assert rgb.max() <= 1 + 1e-6
    assert rgb.std() > 0.2
    assert g.sh.shape == (100, 9, 3)
    assert g.sh[:, 1:].abs().max() == 0


def test_ball_depends_on_its_generator_only():
    state = torch.get_rng_state()
    first = initialize.ball(20, 1.0, gen(1))
    torch.manual_seed(99)
    second = initialize.ball(20, 1.0, gen(1))
    torch.set_rng_state(state)
    third = initialize.ball(20, 1.0, gen(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.means, second.means)
    assert not torch.equal(first.means, third.means)


def test_few_points_have_a_scale():
    assert initialize.ball(1, 0.5, gen()).scales.unique().tolist() == [0.5]
    pair = initialize.from_points(torch.tensor([[0.0, 0, 0], [0.3, 0, 0]]))
    torch.testing.assert_close(pair.scales, torch.full((2, 3), 0.3))
    assert (initialize.from_points(torch.zeros(5, 3)).scales > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: initialize.ball(0, 1.0, gen()), "count: expected at least 1 splat, got 0"),
        (lambda: initialize.ball(5, 0.0, gen()), "radius: expected a finite number above 0, got 0"),
        (lambda: initialize.ball(5, math.nan, gen()), "radius: expected"),
        (lambda: initialize.ball(5, 1.0, gen(), color="blue"), "color: expected 'grey' or 'random'"),
        (lambda: initialize.ball(5, 1.0, gen(), opacity=1.0), r"opacity: expected a number in \(0, 1\)"),
        (lambda: initialize.ball(5, 1.0, gen(), sh_degree=4), "sh_degree: expected 0, 1, 2 or 3"),
        (lambda: initialize.from_points(torch.zeros(0, 3)), "points: expected at least 1"),
        (lambda: initialize.from_points(torch.zeros(4, 2)), "points: expected shape"),
        (lambda: initialize.from_points(torch.full((4, 3), math.inf)), "points: expected finite"),
        (lambda: initialize.from_points(torch.zeros(4, 3), torch.zeros(3, 3)), "colors: expected shape"),
    ],
)
def test_bad_starts_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def two_tone_box():
    import trimesh

    mesh = trimesh.creation.box(extents=(2.0, 4.0, 6.0))
    mesh.apply_translation([10, 0, 0])
    colors = np.where(mesh.vertices[:, 2:] > 0, [[255, 0, 0, 255]], [[0, 0, 255, 255]]).astype(np.uint8)
    mesh.visual.vertex_colors = colors
    return mesh


@pytest.mark.parametrize("suffix", ["ply", "glb", "obj"])
def test_mesh_is_fitted_turned_and_coloured(tmp_path, suffix):
    path = tmp_path / f"box.{suffix}"
    two_tone_box().export(path)
    g = initialize.from_mesh_file(path, 2000, gen(), radius=0.5, up_axis="z")
    assert g.means.norm(dim=1).max() == pytest.approx(0.5, abs=1e-4)
    size = g.means.amax(dim=0) - g.means.amin(dim=0)
    torch.testing.assert_close(size / size[0], torch.tensor([1.0, 2.0, 3.0]), rtol=0.02, atol=0)
    rgb = rgb_from_sh0(g.sh[:, 0])
    top = g.means[:, 2] > 0.97 * g.means[:, 2].max()
    bottom = g.means[:, 2] < 0.97 * g.means[:, 2].min()
    torch.testing.assert_close(rgb[top].mean(dim=0), torch.tensor([1.0, 0, 0]), rtol=0, atol=0.03)
    torch.testing.assert_close(rgb[bottom].mean(dim=0), torch.tensor([0.0, 0, 1.0]), rtol=0, atol=0.03)
    # on the surface: every point touches one of the six faces
    assert ((g.means.abs() / (size / 2)).amax(dim=1) > 0.99).all()


def test_gltf_up_becomes_z(tmp_path):
    path = tmp_path / "box.glb"
    two_tone_box().export(path)
    g = initialize.from_mesh_file(path, 500, gen())
    size = g.means.amax(dim=0) - g.means.amin(dim=0)  # y (4) is up and becomes z, z (6) is the front and becomes x
    torch.testing.assert_close(size / size.min(), torch.tensor([3.0, 1.0, 2.0]), rtol=0.03, atol=0)
    rgb = rgb_from_sh0(g.sh[:, 0])
    assert rgb[g.means[:, 0] > 0.95 * g.means[:, 0].max()].mean(dim=0)[0] > 0.95


def test_texture_is_looked_up(tmp_path):
    import trimesh
    from PIL import Image

    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, :8], pixels[:, 8:] = (0, 255, 0), (255, 0, 255)  # left half green, right half magenta
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    mesh.visual = trimesh.visual.TextureVisuals(
        uv=np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]),
        material=material,
    )
    path = tmp_path / "quad.glb"
    mesh.export(path)
    g = initialize.from_mesh_file(path, 400, gen(), up_axis="z")
    rgb, x = rgb_from_sh0(g.sh[:, 0]), g.means[:, 0]
    torch.testing.assert_close(rgb[x < -0.05], torch.tensor([0.0, 1, 0]).expand(int((x < -0.05).sum()), 3), rtol=0, atol=0.01)
    torch.testing.assert_close(rgb[x > 0.05], torch.tensor([1.0, 0, 1]).expand(int((x > 0.05).sum()), 3), rtol=0, atol=0.01)


def test_mesh_sampling_is_reproducible(tmp_path):
    path = tmp_path / "box.stl"
    two_tone_box().export(path)
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002 — the global state is what must not move
    first, second = (initialize.from_mesh_file(path, 50, gen(5)) for _ in range(2))
    assert torch.equal(first.means, second.means)
    assert not torch.equal(first.means, initialize.from_mesh_file(path, 50, gen(6)).means)
    assert (np.random.get_state()[1] == np_state).all()  # noqa: NPY002


def test_point_cloud_ply(tmp_path):
    import trimesh

    path = tmp_path / "cloud.ply"
    trimesh.PointCloud(np.eye(3), colors=np.array([[255, 0, 0, 255]] * 3, dtype=np.uint8)).export(path)
    g = initialize.from_mesh_file(path, 6, gen())
    assert len(g) == 6
    torch.testing.assert_close(rgb_from_sh0(g.sh[:, 0]), torch.tensor([1.0, 0, 0]).expand(6, 3))


def test_bad_mesh_files_are_named(tmp_path):
    with pytest.raises(FileFormatError, match="no mesh file at"):
        initialize.from_mesh_file(tmp_path / "nothing.glb", 5, gen())
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FileFormatError, match=r"'notes\.txt' is not a mesh"):
        initialize.from_mesh_file(tmp_path / "notes.txt", 5, gen())
    (tmp_path / "broken.glb").write_bytes(b"glTF" + b"\0" * 30)
    with pytest.raises(FileFormatError, match=r"'broken\.glb' cannot be read"):
        initialize.from_mesh_file(tmp_path / "broken.glb", 5, gen())
    with pytest.raises(InputError, match="count: expected at least 1"):
        initialize.from_mesh_file(tmp_path / "broken.glb", 0, gen())


def test_refining_earlier_splats():
    source = random_gaussians(30, sh_degree=1)
    padded = initialize.from_splats(source, sh_degree=3)
    assert padded.sh.shape == (30, 16, 3)
    assert torch.equal(padded.sh[:, :4], source.sh)
    assert padded.sh[:, 4:].abs().max() == 0
    assert initialize.from_splats(source, sh_degree=0).sh.shape == (30, 1, 3)
    few = initialize.from_splats(source, max_count=10)
    cover = source.opacities * source.scales.prod(dim=1) ** (2 / 3)
    assert torch.equal(few.means, source.means[cover >= cover.sort().values[20]])
    fitted = initialize.from_splats(source, radius=0.5)
    assert fitted.means.norm(dim=1).max() == pytest.approx(0.5, rel=1e-5)
    ratio = fitted.scales / source.scales
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
    with pytest.raises(InputError, match="max_count"):
        initialize.from_splats(source, max_count=0)


# -- optimizers ------------------------------------------------------------------------------------------------------------


def test_means_rate_falls_log_linearly_and_scales_with_the_extent():
    rates = LearningRates(means=0.006, means_end=0.0006)
    assert rates.at(0)["means"] == pytest.approx(0.006)
    assert rates.at(0.5)["means"] == pytest.approx(0.006 / math.sqrt(10))
    assert rates.at(1, extent=2)["means"] == pytest.approx(0.0012)
    assert rates.at(1, extent=2)["scales"] == rates.at(0)["scales"]
    params = from_gaussians(random_gaussians())
    optimizers = build_optimizers(params, rates)
    set_learning_rates(optimizers, rates, 1.0)
    assert optimizers["means"].param_groups[0]["lr"] == pytest.approx(0.0006)


def test_bad_rates_are_named():
    with pytest.raises(ConfigError, match="scales: expected a value of at least 0"):
        LearningRates(scales=-1)
    with pytest.raises(ConfigError, match="means, means_end: expected both"):
        LearningRates(means_end=0)
    with pytest.raises(ConfigError, match="beta2: expected a value of at least 0 and below 1"):
        LearningRates(beta2=1.0)
    with pytest.raises(InputError, match="progress: expected a number in"):
        LearningRates().at(1.5)


def adam_by_hand(x, grads, lr, b1, b2, eps):
    m = v = np.zeros_like(x)
    for k, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x - lr * (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + eps)
    return x


def test_step_is_adam():
    params = from_gaussians(random_gaussians(8))
    start = params["opacities"].detach().double().numpy().copy()
    optimizers = build_optimizers(params, LearningRates())
    grads = torch.randn(5, 8, generator=gen(), dtype=torch.float64)
    for g in grads:
        params["opacities"].grad = g.float()
        step_all(optimizers)
    assert params["opacities"].grad is None
    expected = adam_by_hand(start, grads.numpy(), LearningRates().opacities, 0.9, 0.99, 1e-15)
    np.testing.assert_allclose(params["opacities"].detach().numpy(), expected, rtol=2e-6)


def test_steps_are_those_of_the_optimizers_own_method_to_the_bit():
    ours, theirs = from_gaussians(random_gaussians(8)), from_gaussians(random_gaussians(8))
    optimizers, twins = build_optimizers(ours, LearningRates()), build_optimizers(theirs, LearningRates())
    generator = gen()
    for step in range(6):
        set_learning_rates(optimizers, LearningRates(), step / 6)
        set_learning_rates(twins, LearningRates(), step / 6)
        for name in ours:
            if (name, step) != ("quats", 3):  # a parameter without a gradient stays
                ours[name].grad = torch.randn(ours[name].shape, generator=generator)
                theirs[name].grad = ours[name].grad.clone()
        step_all(optimizers)
        for optimizer in twins.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    saved, wanted = optimizer_tensors(optimizers), optimizer_tensors(twins)
    assert saved.keys() == wanted.keys()
    assert all(torch.equal(saved[name], wanted[name]) for name in saved)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_rasterizer_normalises_quaternions_itself_with_the_gradient(backend):
    cameras = orbit_cameras([0.0, 90.0], width=24)
    found = []
    for unit_quats in (True, False):
        params = from_gaussians(random_gaussians(40))
        with torch.no_grad():
            params["quats"].mul_(torch.linspace(0.3, 4.0, 40)[:, None])
        view = make_rasterizer(backend)(activate(params, unit_quats=unit_quats), cameras)
        view.rgb.square().sum().backward()
        found.append((view.rgb.detach(), params["quats"].grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    assert found[0][1].abs().max() > 0.01


def descend(params, optimizers, steps, first=0):
    rates = LearningRates()
    for k in range(first, first + steps):
        set_learning_rates(optimizers, rates, k / 20)
        sum((p - k * 0.01).square().sum() for p in params.values()).backward()
        step_all(optimizers)


def test_optimizer_state_resumes_bit_for_bit():
    params = from_gaussians(random_gaussians())
    optimizers = build_optimizers(params, LearningRates())
    descend(params, optimizers, 6)
    saved = optimizer_tensors(optimizers)
    values = {k: p.detach().clone() for k, p in params.items()}
    descend(params, optimizers, 6, first=6)

    again = from_gaussians(random_gaussians(seed=9))
    for name in again:
        again[name].data.copy_(values[name])
    fresh = build_optimizers(again, LearningRates())
    load_optimizer_tensors(fresh, saved)
    descend(again, fresh, 6, first=6)
    assert all(torch.equal(params[name], again[name]) for name in params)

    saved["means.exp_avg"] = saved["means.exp_avg"][:3]
    with pytest.raises(FileFormatError, match=r"means.exp_avg: expected shape \[50, 3\]"):
        load_optimizer_tensors(fresh, saved)
    del saved["means.exp_avg"]
    with pytest.raises(FileFormatError, match="means: expected step, exp_avg and exp_avg_sq"):
        load_optimizer_tensors(fresh, saved)


def test_the_entropy_and_its_slope_by_hand_are_those_of_the_formula():
    a = torch.tensor([0.0, 1e-6, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6, 1.0], dtype=torch.float64, requires_grad=True)
    held = a.clamp(EDGE, 1 - EDGE)
    slowly = -(held * held.log2() + (1 - held) * (1 - held).log2())
    for pixel in range(len(a)):
        torch.testing.assert_close(total_entropy(a[pixel : pixel + 1]), slowly[pixel])
    torch.testing.assert_close(total_entropy(a), slowly.sum())
    (wanted,) = torch.autograd.grad(slowly.sum(), a)
    (slope,) = torch.autograd.grad(3 * total_entropy(a), a)
    torch.testing.assert_close(slope, 3 * wanted)
    assert slope[[0, 1, 6, 7]].eq(0).all()
    assert slope[2] > 0 > slope[5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loop_over_half_there_pixels_is_the_formula_on_all(dtype):
    a = torch.rand(2, 9, 7, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(2).sub(0.5).clamp(0, 1).to(dtype)
    wanted, slope = total_and_slope(a)
    assert 0.3 < slope.eq(0).float().mean() < 0.9  # there are pixels of both kinds
    flipped = a.transpose(1, 2).requires_grad_()  # not contiguous
    found = total_entropy(flipped)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, flipped)[0], slope.transpose(1, 2))


def test_a_pixel_that_is_not_a_number_is_not_hidden_by_the_entropy():
    assert total_entropy(torch.tensor([0.5, float("nan")])).isnan()
