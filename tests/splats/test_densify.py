"""Densification, pruning and regularisers on a small differentiable scene with gsplat's info keys."""

import math

import pytest
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import BackendError, ConfigError, InputError
from fsd_gs.splats import regularizers
from fsd_gs.splats.densify import Densifier, DensifySettings, halved_opacity_logit, seeded_global_rng
from fsd_gs.splats.initialize import ball
from fsd_gs.splats.needles import mean_excess, mean_excess_of_tensors
from fsd_gs.splats.optimizers import (
    LearningRates,
    build_optimizers,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rates,
    step_all,
)
from fsd_gs.splats.parameters import activate, from_gaussians
from fsd_gs.splats.prune import PruneSettings, clean, prune, prune_mask, prune_masks, removal_mask, top_scored
from fsd_gs.splats.scores import accumulate_scores, scores_of_numbers, scores_of_tensors

WIDTH, HEIGHT, VIEWS = 48, 32, 3
THRESHOLD = 0.065  # of "default", about the median gradient of the scene below


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def start(count=40, seed=0, sh_degree=1):
    params = from_gaussians(ball(count, 0.5, gen(seed), sh_degree=sh_degree))
    return params, build_optimizers(params, LearningRates())


def tiny_render(params):
    """Per-view sums over splats of a smooth function of everything, and gsplat's info; splat i is hidden in view i mod 5."""
    g = activate(params)
    angle = torch.arange(VIEWS) * (2 * math.pi / VIEWS)
    x = g.means[None, :, 0] * angle.cos()[:, None] + g.means[None, :, 1] * angle.sin()[:, None]
    means2d = torch.stack([(x + 1) * WIDTH / 2, (1 - g.means[None, :, 2].expand_as(x)) * HEIGHT / 2], dim=-1)
    if not means2d.requires_grad:
        means2d.requires_grad_(True)
    hidden = (torch.arange(len(g))[None] % 5) == torch.arange(VIEWS)[:, None]
    radii = torch.where(hidden[..., None], 0, 3).expand(VIEWS, len(g), 2)
    wave = (1.5 + (means2d / 7).sin().prod(dim=-1)) * g.opacities * g.scales.sum(dim=1) * (1 + g.sh.square().sum(dim=(1, 2)))
    wave = torch.where(hidden, 0, wave) + 0 * g.quats.sum()
    info = {"means2d": means2d, "radii": radii, "width": WIDTH, "height": HEIGHT, "n_cameras": VIEWS, "gaussian_ids": None}
    return wave, info


def run(params, optimizers, densifier, steps, first=0, loss_scale=1.0, total=60):
    reports = []
    for step in range(first, first + steps):
        set_learning_rates(optimizers, LearningRates(), step / total)
        wave, info = tiny_render(params)
        densifier.step_pre_backward(params, optimizers, step, info)
        (loss_scale * (wave - 0.3).square().sum()).backward()
        step_all(optimizers)
        reports.append(densifier.step_post_backward(params, optimizers, step, info))
        assert reports[-1].count == len(params["means"])
    return reports


def assert_consistent(params, optimizers):
    count = len(params["means"])
    for name, param in params.items():
        optimizer = optimizers[name]
        assert optimizer.param_groups[0]["params"] == [param]
        assert len(optimizer.state) == 1
        state = optimizer.state[param]
        assert len(param) == count
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == param.shape
        assert param.is_leaf
        assert param.requires_grad


def settings(**changes):
    return DensifySettings(
        **({"start": 0.1, "stop": 0.9, "every": 5, "cap": 1000, "prune_opacity": 0.0, "ghost_opacity": 0.0, "split_scale": 0.08} | changes)
    )


# -- growing ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["percentile", "default"])
def test_adam_state_follows_the_splats(kind):
    params, optimizers = start()
    densifier = Densifier(settings(kind=kind, grow_grad2d=THRESHOLD, prune_opacity=0.09), 60, seed=0)
    densifier.check(params, optimizers)
    reports = run(params, optimizers, densifier, 60)
    assert sum(r.grown for r in reports) > 0
    assert sum(r.pruned for r in reports) > 0
    assert 40 + sum(r.grown - r.pruned for r in reports) == len(params["means"])
    assert_consistent(params, optimizers)
    assert all(int(o.state[o.param_groups[0]["params"][0]]["step"]) == 60 for o in optimizers.values())


def test_rounds_are_where_the_settings_say():
    params, optimizers = start()
    densifier = Densifier(settings(start=0.2, stop=0.5, every=5), 60, seed=0)
    reports = run(params, optimizers, densifier, 60)
    assert [step for step, r in enumerate(reports) if r.grown] == [15, 20, 25]  # steps 12 … 29 that are multiples of 5
    assert [step for step in range(60) if densifier.is_round(step)] == [15, 20, 25]
    assert not Densifier(settings(start=0.0), 60, 0).is_round(0)


@pytest.mark.parametrize("kind", ["percentile", "default"])
@pytest.mark.parametrize("cap", [30, 40, 43, 70])
def test_the_cap_is_never_exceeded(kind, cap):
    params, optimizers = start(40)
    densifier = Densifier(settings(kind=kind, cap=cap, grow_percentile=30, grow_grad2d=1e-9), 60, seed=0)
    reports = run(params, optimizers, densifier, 60)
    assert max(r.count for r in reports) == max(cap, 40)  # reached, not passed; a start above the cap stays


def test_percentile_grows_the_strongest_share():
    watched, optimizers = start(40)
    watcher = Densifier(settings(start=0.9), 60, seed=0)  # sees the same six steps, has no round
    run(watched, optimizers, watcher, 6)
    score = watcher.state_dict()["grad2d"] / watcher.state_dict()["count"].clamp_min(1)

    params, optimizers = start(40)
    densifier = Densifier(settings(start=0.05, grow_percentile=90, split_scale=math.inf), 60, seed=0)
    assert [r.grown for r in run(params, optimizers, densifier, 6)] == [0, 0, 0, 0, 0, 4]
    copies = params["means"].detach()[40:]  # duplicates are appended
    chosen = {int((watched["means"] == copy).all(dim=1).nonzero()) for copy in copies}
    assert chosen == set(score.topk(4).indices.tolist())
    assert densifier.state_dict() == {}


def test_scores_are_the_mean_over_views_relative_to_the_step():
    gradient = torch.zeros(2, 3, 2)
    gradient[0, 0] = torch.tensor([3.0 / 24, 4.0 / 16])  # 5 half images
    gradient[1, 0] = torch.tensor([1.0 / 24, 0.0])  # 1
    gradient[0, 1] = torch.tensor([0.0, 2.0 / 16])  # 2, but hidden in view 1, where its gradient must not count
    gradient[1, 1] = 100.0
    gradient[0, 2] = math.nan  # left out
    radii = torch.ones(2, 3, 2, dtype=torch.int32)
    radii[1, 1] = 0
    means2d = torch.zeros(2, 3, 2, requires_grad=True)
    means2d.grad = gradient
    running = {}
    accumulate_scores(running, {"means2d": means2d, "radii": radii, "width": WIDTH, "height": HEIGHT})
    mean = (5 + 1 + 2 + 0) / 4  # visible and finite pairs
    torch.testing.assert_close(running["grad2d"], torch.tensor([6.0, 2.0, 0.0]) / mean)
    assert running["count"].tolist() == [2, 1, 1]
    means2d.grad = gradient * 1e-25
    accumulate_scores(running, {"means2d": means2d, "radii": radii, "width": WIDTH, "height": HEIGHT})
    torch.testing.assert_close(running["grad2d"], 2 * torch.tensor([6.0, 2.0, 0.0]) / mean)
    means2d.grad = torch.zeros_like(gradient)
    accumulate_scores(running, {"means2d": means2d, "radii": radii, "width": WIDTH, "height": HEIGHT})
    assert torch.isfinite(running["grad2d"]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scores_in_one_pass_are_those_of_the_tensors(dtype):
    gradient = torch.randn(3, 40, 2, generator=gen(1), dtype=torch.float64).mul(1e-12).to(dtype)
    gradient[1, 7, 0], gradient[2, 8, 1] = math.nan, math.inf
    radii = torch.randint(0, 3, (3, 40, 2), generator=gen(2), dtype=torch.int32)
    wanted, seen = scores_of_tensors(gradient, radii, (12.0, 8.0))
    found, count = scores_of_numbers(gradient, radii, (12.0, 8.0))
    torch.testing.assert_close(found, wanted)
    assert torch.equal(count, seen)
    assert 0 < len(seen[seen > 0]) < 40
    for empty in (gradient[:, :0], torch.zeros_like(gradient)):
        found, count = scores_of_numbers(empty, radii[:, : empty.shape[1]], (12.0, 8.0))
        assert found.shape == (empty.shape[1],)
        assert not found.any()


@pytest.mark.parametrize("factor", [2.0**10, 2.0**20])
def test_percentile_does_not_depend_on_the_scale_of_the_loss(factor):
    # a power of two scales every float exactly, so whole runs must agree bit for bit (upwards: Adam's ε = 1e-15 stays out of sight)
    results = []
    for scale in (1.0, factor):
        params, optimizers = start()
        run(params, optimizers, Densifier(settings(grow_percentile=70, prune_opacity=0.02), 60, seed=3), 60, loss_scale=scale)
        results.append(params)
    assert len(results[0]["means"]) > 60
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_one_loud_step_does_not_decide():
    """A step whose loss is a million times larger than the rest weighs as much as any other."""
    scores = []
    for loud in (1.0, 1e6):
        params, optimizers = start()
        densifier = Densifier(settings(), 60, seed=0)
        run(params, optimizers, densifier, 2)
        run(params, optimizers, densifier, 1, first=2, loss_scale=loud)
        scores.append(densifier.state_dict()["grad2d"])
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-5, atol=1e-6)


def test_no_gradient_means_no_growth():
    params, optimizers = start()
    densifier = Densifier(settings(), 60, seed=0)
    reports = run(params, optimizers, densifier, 12, loss_scale=0.0)
    assert all(r.grown == 0 for r in reports)
    with pytest.raises(InputError, match="step_pre_backward"):
        densifier.step_post_backward(params, optimizers, 12, tiny_render(params)[1])


def test_growing_keeps_the_opacity_that_is_seen():
    opacity = torch.tensor([0.01, 0.1, 0.5, 0.9, 0.999])
    half = halved_opacity_logit(opacity.double().logit()).sigmoid()
    torch.testing.assert_close(1 - (1 - half) ** 2, opacity.double(), rtol=1e-9, atol=0)
    assert torch.isfinite(halved_opacity_logit(torch.tensor([-40.0, 40.0]))).all()
    params, optimizers = start()
    before = activate(params).detach().opacities
    densifier = Densifier(settings(grow_percentile=0, split_scale=math.inf), 60, seed=0)  # duplicate everything seen
    with torch.no_grad():
        densifier._running = {"grad2d": torch.ones(40), "count": torch.ones(40)}
    wave, info = tiny_render(params)
    densifier.step_pre_backward(params, optimizers, 10, info)
    wave.sum().backward()
    densifier.step_post_backward(params, optimizers, 10, info)
    after = activate(params).detach().opacities
    assert len(after) == 80
    torch.testing.assert_close(1 - (1 - after[:40]) * (1 - after[40:]), before, rtol=1e-5, atol=1e-6)


def test_default_is_gsplats_default_strategy_below_the_cap():
    from gsplat.strategy import DefaultStrategy

    params, optimizers = start()
    twin, twin_optimizers = start()
    with torch.no_grad():
        params["opacities"][:12], twin["opacities"][:12] = -4, -4  # these will be pruned
    config = settings(kind="default", grow_grad2d=THRESHOLD, prune_opacity=0.09, keep_opacity=False, max_prune_fraction=0.99)
    reports = run(params, optimizers, Densifier(config, 60, seed=7), 31)

    strategy = DefaultStrategy(
        prune_opa=0.09,
        grow_grad2d=THRESHOLD,
        grow_scale3d=0.08,
        refine_start_iter=5,
        refine_stop_iter=54,
        refine_every=5,
        reset_every=10**9,
    )
    state = strategy.initialize_state()
    for step in range(31):
        set_learning_rates(twin_optimizers, LearningRates(), step / 60)
        wave, info = tiny_render(twin)
        strategy.step_pre_backward(twin, twin_optimizers, state, step, info)
        (wave - 0.3).square().sum().backward()
        step_all(twin_optimizers)
        with seeded_global_rng(7, step, torch.device("cpu")):
            strategy.step_post_backward(twin, twin_optimizers, state, step, info | {"n_cameras": 1})
    assert sum(r.grown for r in reports) > 10
    assert sum(r.pruned for r in reports) > 10
    assert len(params["means"]) < config.cap
    assert all(torch.equal(params[name], twin[name]) for name in params)


def test_default_undoes_the_number_of_cameras():
    """The loss is a sum over views, so a threshold must mean the same for any number of them."""
    params, optimizers = start()
    densifier = Densifier(settings(kind="default", grow_grad2d=1e9), 60, seed=0)
    run(params, optimizers, densifier, 1)
    twin, _ = start()
    wave, info = tiny_render(twin)
    info["means2d"].retain_grad()
    (wave - 0.3).square().sum().backward()
    visible = (info["radii"] > 0).all(dim=-1)
    norm = (info["means2d"].grad * torch.tensor([WIDTH / 2, HEIGHT / 2])).norm(dim=-1)
    torch.testing.assert_close(densifier.state_dict()["grad2d"], (norm * visible).sum(dim=0))


@pytest.mark.parametrize("kind", ["percentile", "default"])
def test_densifies_what_the_cpu_rasterizer_draws(kind):
    """The real info dictionary: a bright square beside a dull ball attracts new splats."""
    cpu = pytest.importorskip("fsd_gs.render.cpu")
    cameras = orbit_cameras([0.0, 90.0], 0.0, width=32)
    params, optimizers = start(60, sh_degree=0)
    densifier = Densifier(settings(kind=kind, grow_grad2d=1e-4, cap=100), 20, seed=0)
    for step in range(20):
        g = activate(params)
        images, _, info = cpu.rasterization(
            g.means, g.quats, g.scales, g.opacities, g.sh, cameras.viewmats, cameras.Ks, 32, 32, sh_degree=0, packed=False
        )
        densifier.step_pre_backward(params, optimizers, step, info)
        (images[:, 10:16, 10:16] - 1).square().sum().backward()
        step_all(optimizers)
        densifier.step_post_backward(params, optimizers, step, info)
    assert 60 < len(params["means"]) <= 100
    assert_consistent(params, optimizers)
    assert all(torch.isfinite(p).all() for p in params.values())


# -- randomness and resume -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["percentile", "default"])
def test_the_global_generator_is_neither_used_nor_moved(kind):
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        params, optimizers = start()
        reports = run(params, optimizers, Densifier(settings(kind=kind, grow_grad2d=THRESHOLD), 60, seed=0), 60)
        assert torch.equal(torch.get_rng_state(), state)
        assert sum(r.grown for r in reports) > 0
        results.append(params["means"].detach())
    assert torch.equal(*results)
    params, optimizers = start()
    run(params, optimizers, Densifier(settings(kind=kind, grow_grad2d=THRESHOLD), 60, seed=1), 60)
    assert params["means"].shape != results[0].shape or not torch.equal(params["means"], results[0])


@pytest.mark.parametrize("kind", ["none", "percentile", "default"])
@pytest.mark.parametrize("at", [13, 15, 16])  # between rounds, before one, right after one
def test_resume_is_bit_exact(kind, at):
    config = settings(kind=kind, grow_grad2d=THRESHOLD, prune_opacity=0.05)
    params, optimizers = start()
    run(params, optimizers, Densifier(config, 60, seed=5), 60)

    other, other_optimizers = start()
    densifier = Densifier(config, 60, seed=5)
    run(other, other_optimizers, densifier, at)
    saved = {k: p.detach().clone() for k, p in other.items()}, optimizer_tensors(other_optimizers), densifier.state_dict()
    run(other, other_optimizers, densifier, 3, first=at)  # what is saved must be copies
    assert all(isinstance(v, torch.Tensor) for v in saved[2].values())

    resumed, _ = start(3, seed=8)
    for name, value in saved[0].items():
        resumed[name] = torch.nn.Parameter(value)
    resumed_optimizers = build_optimizers(resumed, LearningRates())
    load_optimizer_tensors(resumed_optimizers, saved[1])
    again = Densifier(config, 60, seed=5)
    again.load_state_dict(saved[2])
    run(resumed, resumed_optimizers, again, 60 - at, first=at)
    assert all(torch.equal(params[name], resumed[name]) for name in params)


# -- settings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "percentle"}, "kind: unknown name 'percentle'; did you mean 'percentile'"),
        ({"start": 0.8, "stop": 0.2}, "start, stop: expected fractions"),
        ({"every": 0}, "every: expected a value from 1"),
        ({"cap": 0}, "cap: expected a value from 1"),
        ({"grow_percentile": 101.0}, "grow_percentile: expected a value from 0 to 100"),
        ({"prune_opacity": 1.0}, "prune_opacity: expected a value of at least 0 and below 1"),
        ({"prune_scale": -1.0}, "prune_scale: expected a value of at least 0"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


def test_check_names_what_would_fail_later():
    params, optimizers = start()
    with pytest.raises(BackendError, match=r"kind=mcmc: .*CUDA only, got splats on cpu; use kind=percentile"):
        Densifier(settings(kind="mcmc"), 60, seed=0).check(params, optimizers)
    densifier = Densifier(settings(), 60, seed=0)
    del optimizers["quats"]
    with pytest.raises(InputError, match="optimizers: expected one for each"):
        densifier.check(params, optimizers)
    del params["quats"]
    with pytest.raises(InputError, match="params: expected the keys"):
        densifier.check(params, optimizers)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_mcmc_relocates_and_grows_to_the_cap():
    params = from_gaussians(ball(200, 0.5, gen()).to("cuda"))
    with torch.no_grad():
        params["opacities"][:50] = -9.0  # dead: they must be moved to living places
    optimizers = build_optimizers(params, LearningRates())
    for p in params.values():
        p.grad = torch.zeros_like(p)
    step_all(optimizers)
    densifier = Densifier(settings(kind="mcmc", cap=205, every=1), 60, seed=0)
    densifier.check(params, optimizers)
    state = torch.cuda.get_rng_state()
    report = densifier.step_post_backward(params, optimizers, 10, {})
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert report.count == 205
    assert activate(params).opacities.min() > 0.004


# -- pruning ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ghost", "first", "left"), [(0.3, 50, 12), (0.0, 50, 20), (0.3, 10, 20)])
def test_what_stays_half_there_is_pruned_with_the_percentile_rule(ghost, first, left):
    """From step 50: before, everything is still fog."""
    params, optimizers = start(20)
    with torch.no_grad():
        params["opacities"].copy_(torch.logit(torch.tensor([0.2] * 8 + [0.4] * 12)))
    densifier = Densifier(settings(ghost_opacity=ghost, cap=12, every=1), 100, seed=0)  # the cap: nothing grows
    reports = run(params, optimizers, densifier, 4, first=first, total=100)
    assert reports[-1].count == left == len(params["means"])


def test_training_prune_is_bounded_and_takes_the_faintest():
    params, optimizers = start(20)
    with torch.no_grad():
        params["opacities"].copy_(torch.linspace(-9, -7, 20))
    mask = removal_mask(params, 0.5, math.inf, 0.25)
    assert mask.nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    with torch.no_grad():
        params["opacities"].fill_(5.0)
        params["scales"][7] = 1.0
    assert removal_mask(params, 0.5, 2.0, 0.25).nonzero().flatten().tolist() == [7]
    assert not removal_mask(params, 0.5, math.inf, 0.25).any()
    wave, _ = tiny_render(params)
    wave.sum().backward()
    step_all(optimizers)
    running = {"count": torch.arange(20)}
    means = params["means"].detach()
    gone = torch.arange(20) % 3 == 0
    assert prune(params, optimizers, running, gone) == 7
    assert torch.equal(params["means"], means[~gone])
    assert torch.equal(running["count"], torch.arange(20)[~gone])
    assert_consistent(params, optimizers)
    assert prune(params, optimizers, running, torch.zeros(13, dtype=torch.bool)) == 0


def test_strongest_breaks_ties_by_index_and_respects_the_budget():
    score = torch.tensor([1.0, 3, 3, 2, 3])
    every = torch.ones(5, dtype=torch.bool)
    assert top_scored(score, every, 2).tolist() == [False, True, True, False, False]
    assert top_scored(score, every, -3).sum() == 0
    assert top_scored(score, torch.tensor([True, False, False, True, False]), 1).tolist() == [False, False, False, True, False]
    assert torch.equal(top_scored(score, every, 9), every)


def solid_ball(count, radius, center, opacity=0.9, seed=0):
    g = ball(count, radius, gen(seed), opacity=opacity)
    return Gaussians(g.means + torch.tensor(center), g.quats, g.scales, g.opacities, g.sh)


def joined(*parts):
    return Gaussians(*(torch.cat([getattr(p, n) for p in parts]) for n in ("means", "quats", "scales", "opacities", "sh")))


def test_clean_takes_each_kind_of_bad_splat_and_nothing_else():
    good = solid_ball(500, 0.4, [0.0, 0, 0])
    speck = solid_ball(5, 0.01, [0.9, 0, 0])
    faint, large, escaped, broken = (solid_ball(3, 0.1, [0.0, 0, 0], seed=s) for s in range(1, 5))
    faint.opacities.fill_(0.001)
    large.scales.fill_(0.8)
    escaped.means.add_(torch.tensor([0.0, 2.0, 0]))
    broken.sh[:, 0, 1] = math.nan
    mixed = joined(faint, good, large, speck, escaped, broken)
    cleaned, report = clean(mixed)
    assert (report.faint, report.oversized, report.escaped, report.floating, report.non_finite) == (3, 3, 3, 5, 3)
    assert report.kept == len(cleaned) == 500
    assert torch.equal(cleaned.means, good.means)
    assert torch.equal(prune_mask(mixed), torch.cat([torch.ones(3), torch.zeros(500), torch.ones(14)]).bool())
    masks = torch.stack(list(prune_masks(mixed).values()))
    assert masks.sum(dim=0).max() == 1


def test_parts_of_some_weight_are_not_floaters():
    two = joined(solid_ball(300, 0.25, [0.5, 0, 0]), solid_ball(150, 0.2, [-0.5, 0, 0], seed=1))
    assert clean(two)[1].floating == 0
    assert clean(two, PruneSettings(floater_fraction=0.5))[1].floating == 150
    assert clean(two, PruneSettings(floater_fraction=0.0))[1].kept == 450
    assert clean(two.select(torch.zeros(450, dtype=torch.bool)))[1].kept == 0
    with pytest.raises(ConfigError, match="floater_fraction: expected a number in"):
        PruneSettings(floater_fraction=2)


# -- regularisers ----------------------------------------------------------------------------------------------------------

UNIT = torch.rand(6, generator=gen(2), dtype=torch.float64) * 0.8 + 0.1
SCALES = torch.rand(6, 3, generator=gen(3), dtype=torch.float64) + 0.1


@pytest.mark.parametrize(
    ("penalty", "at"),
    [
        (regularizers.opacity_binarity, UNIT),
        (regularizers.opacity_mean, UNIT),
        (regularizers.scale_mean, SCALES),
        (lambda s: regularizers.anisotropy(s, 2.0), SCALES),
        (regularizers.alpha_entropy, UNIT),
        (regularizers.alpha_sparsity, UNIT),
    ],
)
def test_penalty_gradients_equal_finite_differences(penalty, at):
    x = at.clone().requires_grad_(True)
    (analytic,) = torch.autograd.grad(penalty(x), x)
    numeric, h = torch.zeros_like(at), 1e-6
    for i in range(at.numel()):
        d = torch.zeros(at.numel(), dtype=at.dtype)
        d[i] = h
        d = d.view_as(at)
        numeric.view(-1)[i] = (penalty(at + d) - penalty(at - d)) / (2 * h)
    torch.testing.assert_close(analytic, numeric, rtol=1e-6, atol=1e-9)
    assert analytic.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_excess_in_one_loop_is_that_of_the_tensors(dtype):
    """Values and slopes, at ties, flat splats and what is no number, too."""
    scales = torch.rand(30, 3, generator=gen(4), dtype=torch.float64).pow(3).to(dtype)
    odd = [[0.5, 0.5, 0.1], [0.1, 0.1, 0.7], [0.2, 0.2, 0.2], [1e-19, 0.1, 0.1], [0.0, 0.1, 0.3]]
    a = torch.cat([scales, scales.new_tensor(odd)]).requires_grad_()
    b = a.detach().clone().requires_grad_()
    found, wanted = 3 * mean_excess(a, 2.0), 3 * mean_excess_of_tensors(b, 2.0)
    torch.testing.assert_close(found, wanted)
    (slope,), (wanted_slope,) = torch.autograd.grad(found, a), torch.autograd.grad(wanted, b)
    torch.testing.assert_close(slope, wanted_slope)
    assert slope.any(dim=1).sum() > 10
    assert mean_excess(torch.tensor([[math.nan, 1.0, 1.0], [1.0, 1.0, 1.0]], dtype=dtype), 2.0).isnan()


def test_penalties_have_their_known_values():
    half, sure = torch.full((4,), 0.5), torch.tensor([0.0, 1.0])
    assert regularizers.opacity_binarity(half) == 1
    assert regularizers.opacity_binarity(sure) == 0
    assert regularizers.alpha_entropy(half) == 1
    assert regularizers.alpha_entropy(sure) < 1e-3
    assert regularizers.anisotropy(torch.tensor([[1.0, 2, 5], [1, 1, 1]]), 3.0) == 1  # (5 − 3 + 0) / 2
    torch.testing.assert_close(regularizers.alpha_sparsity(torch.zeros(3)), torch.tensor(0.1))


def test_weights_choose_and_scale_the_penalties():
    g, alpha = ball(10, 0.5, gen()), torch.rand(2, 4, 4, 1, generator=gen())
    assert regularizers.Regularizers(anisotropy=0, alpha=0)(g, alpha) == 0
    weights = regularizers.Regularizers(opacity_mean=2.0, anisotropy=0, alpha=0.5)
    terms = weights.terms(g, alpha)
    assert set(terms) == {"opacity_mean", "alpha"}
    torch.testing.assert_close(terms["opacity_mean"], 2 * g.opacities.mean())
    torch.testing.assert_close(weights(g, alpha), terms["opacity_mean"] + terms["alpha"])
    with pytest.raises(ConfigError, match="scale: expected a value of at least 0"):
        regularizers.Regularizers(scale=-1)
