"""The numba kernels against the slow torch twin in float64: values, and gradients of every input."""

from __future__ import annotations

import threading

import pytest
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.render import cpu, reference

NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds", "means2d")
# Measured 1e-6 for images and gradients, 2e-5 where depth is divided by a small alpha.
TOLERANCE = 1e-4


def random_scene(count, *, channels=3, coefficients=None, spread=0.5, log_scale=-3.0, seed=0):
    """float64 arguments means … colors of ``rasterization``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    colors = 0.4 * normal(count, coefficients, 3) if coefficients else torch.rand(count, channels, generator=generator, dtype=torch.float64)
    return [spread * normal(count, 3), normal(count, 4), torch.exp(0.5 * normal(count, 3) + log_scale), normal(count).sigmoid(), colors]


def draw(function, scene, cameras, backgrounds, dtype, **options):
    """Image, alpha, info and the gradient of a fixed random loss in every input and in means2d."""
    leaves = [x.to(dtype).clone().requires_grad_() for x in (*scene, cameras.viewmats)]
    if backgrounds is not None:
        leaves.append(backgrounds.to(dtype).clone().requires_grad_())
    image, alpha, info = function(
        *leaves[:6],
        cameras.Ks.to(dtype),
        cameras.width,
        cameras.height,
        backgrounds=leaves[6] if backgrounds is not None else None,
        packed=options.pop("packed", False),
        **options,
    )
    info["means2d"].retain_grad()
    generator = torch.Generator().manual_seed(99)
    loss = sum((x * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(dtype)).sum() for x in (image, alpha))
    loss.backward()
    gradients = [x.grad for x in leaves] + [None] * (7 - len(leaves)) + [info["means2d"].grad]
    return image.detach(), alpha.detach(), info, dict(zip(NAMES, gradients, strict=True))


def relative(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm().clamp_min(1e-12)).item()


def assert_equal_to_twin(scene, cameras, backgrounds=None, **options):
    image, alpha, info, gradients = draw(cpu.rasterization, scene, cameras, backgrounds, torch.float32, **options)
    # the twin sees the same float32-rounded inputs, so that only the arithmetic differs
    rounded = [x.float().double() for x in scene]
    expected = draw(reference.rasterization, rounded, cameras.to("cpu", torch.float32), backgrounds, torch.float64, **options)
    assert (info["radii"] == expected[2]["radii"]).all()
    assert relative(image, expected[0]) <= TOLERANCE
    assert relative(alpha, expected[1]) <= TOLERANCE
    for name, gradient in gradients.items():
        wanted = expected[3][name]
        if wanted is None or not wanted.any():
            assert gradient is None or not gradient.any(), name
        else:
            assert relative(gradient, wanted) <= TOLERANCE, name


@pytest.mark.parametrize("render_mode", ["RGB", "D", "ED", "RGB+D", "RGB+ED"])
@pytest.mark.parametrize("background", [False, True])
def test_modes_and_backgrounds(render_mode, background):
    cameras = orbit_cameras([0, 100, 200], [10, 60, -20], width=37, height=26)
    backgrounds = torch.rand(3, 3 if "RGB" in render_mode else 1, dtype=torch.float64) if background else None
    assert_equal_to_twin(random_scene(120), cameras, backgrounds, render_mode=render_mode)


@pytest.mark.parametrize(("degree", "stored"), [(0, 0), (1, 1), (2, 2), (3, 3), (0, 3), (1, 3), (2, 3)])
def test_spherical_harmonics(degree, stored):
    scene = random_scene(100, coefficients=(stored + 1) ** 2)
    assert_equal_to_twin(scene, orbit_cameras([0, 140], [0, 45], width=24), sh_degree=degree)


def test_colors_and_harmonics_per_view():
    cameras = orbit_cameras([0, 140], width=24)
    scene = random_scene(60)
    generator = torch.Generator().manual_seed(3)
    scene[4] = torch.rand(2, 60, 3, generator=generator, dtype=torch.float64)
    assert_equal_to_twin(scene, cameras)
    scene[4] = 0.3 * torch.randn(2, 60, 9, 3, generator=generator, dtype=torch.float64)
    assert_equal_to_twin(scene, cameras, sh_degree=2)


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_any_number_of_channels(channels):
    cameras = orbit_cameras([30], width=19)
    assert_equal_to_twin(random_scene(50, channels=channels), cameras, torch.rand(1, channels, dtype=torch.float64))


@pytest.mark.parametrize(
    ("scene", "options"),
    [
        ({"log_scale": -3.0}, {"rasterize_mode": "antialiased"}),
        ({"log_scale": -6.0}, {"rasterize_mode": "antialiased"}),
        ({"log_scale": -6.0}, {}),  # tiny: only eps2d is left
        ({"log_scale": 0.0}, {}),  # huge: each covers the image
        ({"spread": 3.0}, {}),  # behind the camera, beside the image, at the clamp of the Jacobian
        ({"spread": 3.0, "log_scale": -1.0}, {"rasterize_mode": "antialiased"}),
        ({}, {"near_plane": 2.3, "far_plane": 2.8}),
        ({}, {"radius_clip": 5.0}),
        ({}, {"eps2d": 0.0}),
        ({}, {"eps2d": 1.7}),
    ],
)
def test_shapes_of_scenes(scene, options):
    cameras = orbit_cameras([0, 100, 250], [10, 60, -20], width=33, height=41)
    assert_equal_to_twin(random_scene(120, **scene), cameras, torch.rand(3, 3, dtype=torch.float64), **options)


def test_opaque_stacks_end_early():
    """Hundreds of nearly opaque splats in each pixel: α at its clamp, pixels finished at T ≤ 1e-4, tiles left early."""
    scene = random_scene(400, spread=0.15, log_scale=-2.0)
    scene[3] = 0.9 + 0.2 * scene[3]  # some above 1: clamped to 0.999
    cameras = orbit_cameras([0, 77], width=21)
    assert_equal_to_twin(scene, cameras, torch.rand(2, 3, dtype=torch.float64), render_mode="RGB+D")
    image, alpha, _ = reference.rasterization(*scene, cameras.viewmats.double(), cameras.Ks.double(), 21, 21)
    assert alpha.max() > 0.999
    assert torch.isfinite(image).all()


def test_off_centre_principal_point_and_narrow_view():
    cameras = orbit_cameras([0, 90], fov_y_deg=20.0, width=30, height=22)
    cameras.Ks[:, 0, 2] += 7.0
    cameras.Ks[:, 1, 2] -= 5.0
    cameras.Ks[:, 0, 0] *= 1.4
    assert_equal_to_twin(random_scene(100), cameras)


def test_one_pixel_image():
    assert_equal_to_twin(random_scene(30), orbit_cameras([0], width=1))


@pytest.mark.parametrize("packed", [False, True])
def test_absgrad_is_the_sum_of_absolute_pixel_gradients(packed):
    scene, cameras = random_scene(25), orbit_cameras([15], width=7)
    _, _, info, _ = draw(cpu.rasterization, scene, cameras, None, torch.float32, absgrad=True, packed=packed)
    leaves = [x.clone().requires_grad_() for x in scene]
    image, alpha, twin = reference.rasterization(*leaves, cameras.viewmats.double(), cameras.Ks.double(), 7, 7)
    generator = torch.Generator().manual_seed(99)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (image, alpha)]
    per_pixel = (image * weights[0]).sum(-1) + (alpha * weights[1])[..., 0]
    expected = sum(torch.autograd.grad(p, twin["means2d"], retain_graph=True)[0].abs() for p in per_pixel.flatten())
    assert isinstance(expected, torch.Tensor)
    expected = expected[0, info["gaussian_ids"]] if packed else expected
    assert relative(info["means2d"].absgrad, expected) <= TOLERANCE


def test_packed_equals_dense():
    scene, cameras = random_scene(150, spread=1.5), orbit_cameras([0, 120], width=20)
    dense = draw(cpu.rasterization, scene, cameras, None, torch.float32, render_mode="RGB+ED")
    packed = draw(cpu.rasterization, scene, cameras, None, torch.float32, render_mode="RGB+ED", packed=True)
    torch.testing.assert_close(packed[0], dense[0], rtol=0, atol=0)
    visible = (dense[2]["radii"] > 0).all(-1)
    assert 0 < visible.sum() < visible.numel()
    assert torch.equal(torch.stack([packed[2]["camera_ids"], packed[2]["gaussian_ids"]], 1), torch.nonzero(visible))
    for key in ("radii", "means2d", "depths", "conics", "opacities"):
        assert torch.equal(packed[2][key], dense[2][key][visible])
    assert torch.equal(packed[3]["means2d"], dense[3]["means2d"][visible])
    assert all(torch.equal(packed[3][name], dense[3][name]) for name in NAMES[:6])


def test_same_bits_for_any_number_of_threads():
    scene = random_scene(9000, coefficients=4, log_scale=-3.5)
    cameras, before, results = orbit_cameras([0, 180], width=64), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5, 2):
            torch.set_num_threads(threads)
            image, alpha, _, gradients = draw(cpu.rasterization, scene, cameras, torch.full((2, 3), 0.3), torch.float32, sh_degree=1)
            results.append([image, alpha, *(g for n, g in gradients.items() if n != "backgrounds")])  # torch sums that one itself
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_concurrent_renders_do_not_disturb_each_other():
    scene, cameras = [x.float() for x in random_scene(4000)], orbit_cameras([0], width=48)
    arguments = (*scene, cameras.viewmats, cameras.Ks, 48, 48)
    expected = cpu.rasterization(*arguments)[0]
    wrong = []

    def work():
        for _ in range(5):
            if not torch.equal(cpu.rasterization(*arguments)[0], expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_float64_inputs_give_float64_images_and_gradients():
    scene = [x.requires_grad_() for x in random_scene(20)]
    cameras = orbit_cameras([0], width=16).to("cpu", torch.float64)
    image, alpha, _ = cpu.rasterization(*scene, cameras.viewmats, cameras.Ks, 16, 16)
    assert image.dtype == alpha.dtype == torch.float64
    image.sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.float64 for x in scene)
