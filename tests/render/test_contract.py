"""What callers rely on: the interface, gsplat's info dictionary and strategies, odd inputs, errors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fsd_gs.render
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import BackendError, ConfigError, InputError
from fsd_gs.render import RasterizerSettings, cpu, make_rasterizer, reference, render_frames
from fsd_gs.render import cuda as cuda_backend

BACKENDS = [
    "cpu",
    "reference",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
]


def splats(count, degree=1, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1)
    scales = torch.exp(0.3 * torch.randn(count, 3, generator=generator) - 2.5)
    sh = 0.4 * torch.randn(count, (degree + 1) ** 2, 3, generator=generator)
    return Gaussians(0.4 * torch.randn(count, 3, generator=generator), quats, scales, torch.rand(count, generator=generator), sh).to(device)


def device_of(backend):
    return "cuda" if backend == "cuda" else "cpu"


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_meets_the_interface(backend):
    device = device_of(backend)
    gaussians, cameras = splats(60, device=device), orbit_cameras([0, 120, 240], width=24, height=18, device=device)
    gaussians.means.requires_grad_()
    rasterizer = make_rasterizer(backend, settings=RasterizerSettings(antialiased=True))
    view = rasterizer(gaussians, cameras, background=torch.ones(3, device=device), depth=True)
    assert view.rgb.shape == (3, 18, 24, 3)
    assert view.alpha.shape == (3, 18, 24, 1)
    assert view.depth is not None
    assert view.depth.shape == (3, 18, 24, 1)
    assert view.alpha.min() >= 0
    assert view.alpha.max() <= 1
    inside = view.alpha > 0.5
    assert view.depth[inside].min() > 0.5
    assert (view.depth[view.alpha == 0] == 0).all()
    torch.testing.assert_close(view.rgb[(view.alpha == 0)[..., 0]], torch.ones(int((view.alpha == 0).sum()), 3, device=device))
    info = view.info
    assert info["means2d"].shape == (3, 60, 2)
    assert info["radii"].shape == (3, 60, 2)
    assert (info["width"], info["height"], info["n_cameras"]) == (24, 18, 3)
    info["means2d"].retain_grad()
    view.rgb.sum().backward()
    assert info["means2d"].grad.abs().sum() > 0
    assert gaussians.means.grad is not None
    assert torch.isfinite(gaussians.means.grad).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_background_none_is_black_and_one_colour_a_view_is_kept_apart(backend):
    device = device_of(backend)
    gaussians, cameras = splats(20, device=device), orbit_cameras([0, 180], width=16, device=device)
    rasterizer = make_rasterizer(backend)
    black, colours = rasterizer(gaussians, cameras), torch.tensor([[1.0, 0, 0], [0, 0, 1.0]], device=device)
    both = rasterizer(gaussians, cameras, background=colours)
    torch.testing.assert_close(both.rgb, black.rgb + (1 - black.alpha) * colours[:, None, None], atol=1e-5, rtol=1e-5)
    assert black.depth is None


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_lower_sh_degree_ignores_the_higher_bands(backend):
    gaussians, cameras, rasterizer = splats(30, degree=2), orbit_cameras([50], width=16), make_rasterizer(backend)
    cut = Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh[:, :1])
    torch.testing.assert_close(rasterizer(gaussians, cameras, sh_degree=0).rgb, rasterizer(cut, cameras).rgb)
    torch.testing.assert_close(rasterizer(cut, cameras, sh_degree=3).rgb, rasterizer(cut, cameras).rgb)


def test_render_frames_equals_one_call_and_reports_progress():
    gaussians, cameras, rasterizer = splats(30), orbit_cameras(list(range(0, 350, 50)), width=12), make_rasterizer("cpu")
    seen, backgrounds = [], torch.rand(7, 3)
    frames = render_frames(
        rasterizer, gaussians, cameras, background=backgrounds, depth=True, chunk=3, progress=lambda done, of: seen.append((done, of))
    )
    once = rasterizer(gaussians, cameras, background=backgrounds, depth=True)
    assert torch.equal(frames.rgb, once.rgb)
    assert frames.depth is not None
    assert once.depth is not None
    assert torch.equal(frames.depth, once.depth)
    assert seen == [(3, 7), (6, 7), (7, 7)]
    with pytest.raises(InputError, match="chunk: expected at least 1, got 0"):
        render_frames(rasterizer, gaussians, cameras, chunk=0)


def test_info_has_gsplats_keys_and_a_consistent_tile_list():
    cameras, g = orbit_cameras([0, 90], width=20, height=29), splats(50)
    arguments = g.means, g.quats, g.scales, g.opacities, g.sh, cameras.viewmats, cameras.Ks, 20, 29
    _, _, info = cpu.rasterization(*arguments, sh_degree=1, packed=False)
    keys = "batch_ids camera_ids gaussian_ids radii means2d depths conics opacities tile_width tile_height tiles_per_gauss isect_ids "
    keys += "flatten_ids isect_offsets width height tile_size n_batches n_cameras"
    assert set(info) == set(keys.split())
    assert (info["tile_width"], info["tile_height"], info["tile_size"]) == (3, 4, 8)
    assert info["isect_offsets"].shape == (2, 4, 3)
    assert (info["isect_ids"].diff() >= 0).all()  # by view, tile, depth
    counts = torch.bincount(info["flatten_ids"].long(), minlength=100).reshape(2, 50)
    assert torch.equal(counts.int(), info["tiles_per_gauss"])
    assert ((counts > 0) <= (info["radii"] > 0).all(-1)).all()


@pytest.mark.parametrize("absgrad", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_gsplats_default_strategy_densifies_and_prunes(packed, absgrad):
    strategies = pytest.importorskip("gsplat.strategy")
    torch.manual_seed(0)  # split() draws from the global generator
    generator = torch.Generator().manual_seed(0)
    raw = {
        "means": 0.4 * torch.randn(200, 3, generator=generator),
        "quats": torch.randn(200, 4, generator=generator),
        "scales": torch.log(torch.rand(200, 3, generator=generator) * 0.1 + 0.005),
        "opacities": torch.logit(torch.rand(200, generator=generator) * 0.5 + 0.002),
        "sh": 0.3 * torch.randn(200, 1, 3, generator=generator),
    }
    params = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in raw.items()})
    optimizers = {name: torch.optim.Adam([{"params": params[name], "lr": 1e-3}]) for name in params}
    strategy = strategies.DefaultStrategy(
        grow_grad2d=1e-4, refine_start_iter=0, refine_every=1, absgrad=absgrad, grow_scale3d=0.05, refine_scale2d_stop_iter=2
    )
    strategy.check_sanity(params, optimizers)
    state, counts = strategy.initialize_state(), []
    cameras, target = orbit_cameras([0, 90, 180, 270], width=24), torch.rand(4, 24, 24, 3, generator=generator)
    for step in range(1, 4):
        image, _, info = cpu.rasterization(
            *(params["means"], params["quats"], params["scales"].exp(), params["opacities"].sigmoid(), params["sh"]),
            *(cameras.viewmats, cameras.Ks, 24, 24),
            sh_degree=0,
            packed=packed,
            absgrad=absgrad,
        )
        strategy.step_pre_backward(params, optimizers, state, step, info)
        ((image - target) ** 2).mean().backward()
        strategy.step_post_backward(params, optimizers, state, step, info, packed=packed)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        counts.append(len(params["means"]))
    assert counts[0] > 200  # grown
    weak = torch.sigmoid(params["opacities"]) < strategy.prune_opa
    assert not weak.any()  # pruned: 2 in 500 started below
    assert all(len(value) == counts[-1] for value in params.values())


@pytest.mark.parametrize(("backend", "packed"), [("cpu", False), ("cpu", True), ("reference", False)])  # the twin is always dense
@pytest.mark.parametrize("case", ["none", "behind", "beside", "transparent", "zero quaternion", "nan", "inf"])
def test_nothing_to_see_gives_the_background_and_zero_gradients(backend, case, packed):
    g, cameras = splats(0 if case == "none" else 12), orbit_cameras([0, 90], width=10)
    values = {name: getattr(g, name).clone() for name in ("means", "quats", "scales", "opacities", "sh")}
    if case == "behind":
        values["means"] = values["means"] * 0.01 + cameras.positions[0] * 1.5 + cameras.positions[1] * 1.5
    if case == "beside":
        values["means"][:] = torch.tensor([0.0, 0.0, 50.0])
    if case == "transparent":
        values["opacities"][:] = 0.9 / 255
    if case == "zero quaternion":
        values["quats"][:] = 0
    if case in ("nan", "inf"):
        for row, name in enumerate(("means", "quats", "scales", "opacities")):
            values[name][row::4] = float(case)
    leaves = [value.requires_grad_() for value in values.values()]
    background = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], requires_grad=True)
    function = {"cpu": cpu, "reference": reference}[backend].rasterization
    image, alpha, info = function(
        *leaves, cameras.viewmats, cameras.Ks, 10, 10, sh_degree=1, backgrounds=background, render_mode="RGB+ED", packed=packed
    )
    assert torch.equal(image[..., :3], background[:, None, None].expand(2, 10, 10, 3))
    assert (image[..., 3] == 0).all()
    assert (alpha == 0).all()
    assert not info["radii"].any()
    (image.sum() + alpha.sum()).backward()
    assert all(x.grad is None or (x.grad == 0).all() for x in leaves)
    assert torch.equal(background.grad, torch.full((2, 3), 100.0))


def test_zero_views():
    g, cameras = splats(5), orbit_cameras([0], width=8)
    image, alpha, _ = cpu.rasterization(
        g.means, g.quats, g.scales, g.opacities, g.sh, cameras.viewmats[:0], cameras.Ks[:0], 8, 8, sh_degree=1
    )
    assert image.shape == (0, 8, 8, 3)
    assert alpha.shape == (0, 8, 8, 1)


def test_zero_scale_is_drawn_as_a_point_of_the_blur():
    g, cameras = splats(1, degree=0), orbit_cameras([0], width=9)
    arguments = torch.zeros(1, 3), g.quats, torch.zeros(1, 3), torch.ones(1), torch.ones(1, 1), cameras.viewmats, cameras.Ks, 9, 9
    _, alpha, _ = cpu.rasterization(*arguments)
    expected, _, _ = reference.rasterization(*arguments)
    torch.testing.assert_close(alpha, expected, atol=1e-5, rtol=1e-5)
    assert 0.99 < alpha[0, 4, 4, 0] <= 0.9991  # clamped


odd_floats = st.one_of(
    st.sampled_from([0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-38, 1e20, 1e9]), st.floats(-3, 3, width=32)
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(odd_floats, min_size=14 * 4, max_size=14 * 4),
    st.lists(odd_floats, min_size=4, max_size=4),
    st.sampled_from([(1, 1), (8, 8), (9, 17)]),
    st.sampled_from([0.3, 0.0]),
    st.booleans(),
)
def test_no_numbers_crash_it(numbers, lens, size, eps2d, antialiased):
    """Arbitrary splats and intrinsics: no crash, and finite ordinary splats alone would still be drawn."""
    rows = torch.tensor(numbers, dtype=torch.float32).reshape(4, 14)
    leaves = [x.clone().requires_grad_() for x in (rows[:, :3], rows[:, 3:7], rows[:, 7:10], rows[:, 10], rows[:, 11:14])]
    cameras = orbit_cameras([30], width=size[0], height=size[1])
    Ks = cameras.Ks.clone()
    Ks[0, 0, 0], Ks[0, 1, 1], Ks[0, 0, 2], Ks[0, 1, 2] = lens
    for K in (Ks, cameras.Ks):
        image, alpha, info = cpu.rasterization(
            *leaves, cameras.viewmats, K, *size, eps2d=eps2d, rasterize_mode="antialiased" if antialiased else "classic", absgrad=True
        )
        assert image.shape == (1, size[1], size[0], 3)
        assert torch.isfinite(alpha).all()
        assert ((alpha >= 0) & (alpha <= 1)).all()
        assert (info["radii"] >= 0).all()
        (image.sum() + alpha.sum()).backward()


@pytest.mark.parametrize("module", [cpu, reference])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quats": torch.zeros(5, 3)}, r"quats: expected shape \[5, 4\], got \[5, 3\]"),
        ({"scales": torch.zeros(4, 3)}, r"scales: expected shape \[5, 3\], got \[4, 3\]"),
        ({"colors": torch.zeros(3, 3)}, r"colors: expected shape \[5, D\], got \[3, 3\]"),
        ({"colors": torch.zeros(5, 4, 3), "sh_degree": 2}, "colors: expected at least 9 SH coefficients for sh_degree 2, got 4"),
        ({"colors": torch.zeros(5, 25, 3), "sh_degree": 4}, "sh_degree: expected 0 to 3, got 4"),
        ({"backgrounds": torch.zeros(3)}, r"backgrounds: expected shape \[1, 3\], got \[3\]"),
        ({"render_mode": "depth"}, "render_mode: expected one of RGB, D, ED, RGB[+]D, RGB[+]ED, got 'depth'"),
        ({"rasterize_mode": "sharp"}, "rasterize_mode: expected one of classic, antialiased, got 'sharp'"),
        ({"width": 0}, "width, height: expected at least 1 pixel, got 0×8"),
        ({"means": torch.zeros(2, 5, 3)}, r"means: expected shape \[2, 3\], got \[2, 5, 3\]"),
    ],
)
def test_wrong_arguments_are_named(module, change, message):
    cameras = orbit_cameras([0], width=8)
    arguments = {"means": torch.zeros(5, 3), "quats": torch.ones(5, 4), "scales": torch.ones(5, 3), "opacities": torch.ones(5)}
    arguments |= {"colors": torch.ones(5, 3), "viewmats": cameras.viewmats, "Ks": cameras.Ks, "width": 8, "height": 8}
    with pytest.raises(InputError, match=message):
        module.rasterization(**(arguments | change))


@pytest.mark.parametrize(
    "option",
    [
        {"sparse_grad": True},
        {"distributed": True},
        {"camera_model": "fisheye"},
        {"segmented": True},
        {"with_ut": True},
        {"with_eval3d": True},
        {"covars": torch.zeros(5, 3, 3)},
        {"radial_coeffs": torch.zeros(1, 6)},
        {"viewmats_rs": torch.eye(4)},
    ],
)
def test_options_only_cuda_has_are_refused_by_name(option):
    g, cameras = splats(5), orbit_cameras([0], width=8)
    with pytest.raises(InputError, match=f"{next(iter(option))}: expected .* with the CPU backend, got .*use render.backend=cuda"):
        cpu.rasterization(g.means, g.quats, g.scales, g.opacities, g.sh, cameras.viewmats, cameras.Ks, 8, 8, sh_degree=1, **option)


def test_unknown_backend_and_settings_are_named():
    with pytest.raises(
        InputError, match=r"render.backend: unknown name 'cdua'; did you mean 'cuda'\? \(valid: auto, cpu, cuda, reference\)"
    ):
        make_rasterizer("cdua")
    with pytest.raises(InputError, match="expected 0 < near < far, got 2 and 1"):
        RasterizerSettings(near_plane=2.0, far_plane=1.0)
    with pytest.raises(ConfigError, match="eps2d: expected a value of at least 0"):
        RasterizerSettings(eps2d=-0.1)
    with pytest.raises(InputError, match=r"background: expected shape \[3\], got \[4\]"):
        make_rasterizer("cpu")(splats(3), orbit_cameras([0], width=8), background=torch.zeros(4))


def test_cuda_without_a_gpu_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r"render.backend=cuda: .*; use render.backend=cpu"):
        make_rasterizer("cuda")
    with pytest.raises(BackendError) as caught:
        cuda_backend.check_cuda()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", ["no nvcc", "no gsplat", "build failed"])
def test_unusable_kernels_are_explained_and_auto_falls_back(monkeypatch, state, caplog):
    import types

    fake = types.ModuleType("gsplat.cuda._backend")
    if state == "no nvcc":
        fake._C = None
    if state == "build failed":
        fake.__getattr__ = lambda name: (_ for _ in ()).throw(RuntimeError("ninja: build stopped\nerror: nvcc exploded"))
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", None if state == "no gsplat" else fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    expected = {"no nvcc": "found no nvcc", "no gsplat": "cannot be loaded", "build failed": "failed .error: nvcc exploded"}[state]
    with pytest.raises(BackendError, match=f"render.backend=cuda: .*{expected}.*use render.backend=cpu"):
        cuda_backend.check_cuda()
    view = make_rasterizer("auto", "cuda")(splats(4), orbit_cameras([0], width=8))
    assert view.rgb.shape == (1, 8, 8, 3)
    assert "rendering on the CPU" in caplog.text


def test_auto_on_the_cpu_is_the_cpu_backend():
    gaussians, cameras = splats(20), orbit_cameras([0], width=12)
    assert torch.equal(make_rasterizer()(gaussians, cameras).rgb, make_rasterizer("cpu")(gaussians, cameras).rgb)


def test_importing_the_package_needs_neither_numba_nor_gsplat():
    code = "import sys, fsd_gs.render; assert not {'numba', 'gsplat'} & set(sys.modules); fsd_gs.render.cpu.rasterization"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    with pytest.raises(AttributeError, match="has no attribute 'metal'"):
        _ = fsd_gs.render.metal


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("render_mode", ["RGB", "RGB+ED"])
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
def test_cpu_equals_gsplats_cuda_kernels(render_mode, rasterize_mode):
    """gsplat uses fast exponentials and logarithms, hence 1e-3."""
    results = {}
    for device, module in (("cpu", cpu), ("cuda", cuda_backend)):
        g, cameras = splats(800, degree=3, device=device), orbit_cameras([0, 100, 200], [0, 30, -10], width=70, height=50, device=device)
        leaves = [x.requires_grad_() for x in (g.means, g.quats, g.scales, g.opacities, g.sh)]
        image, alpha, info = module.rasterization(
            *leaves,
            *(cameras.viewmats, cameras.Ks, 70, 50),
            sh_degree=3,
            packed=False,
            absgrad=True,
            backgrounds=torch.ones(3, 3, device=device),
            render_mode=render_mode,
            rasterize_mode=rasterize_mode,
        )
        info["means2d"].retain_grad()
        weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(device)
        ((image * weight).sum() + alpha.sum()).backward()
        tensors = [image, alpha, *(x.grad for x in leaves), info["means2d"].grad, info["means2d"].absgrad]
        results[device] = [x.detach().cpu().double() for x in tensors]
    for ours, theirs in zip(results["cpu"], results["cuda"], strict=True):
        assert (ours - theirs).norm() <= 1e-3 * theirs.norm()
