"""What must hold for every noise function: N(0, 1) and white in each view, reproducible, resumable; and what sets each apart."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.noise import NOISES, ConstantNoise, GaussianNoise, NoiseFunction, SurfaceNoise, WorldMapNoise

SHAPE = (4, 8, 8)
CAMERAS = orbit_cameras([10.0, 100.0, 190.0, 280.0], [0.0, 20.0, -35.0, 80.0], width=32)


def ball(cameras, radius=0.5, size=32):
    """Opacity and depth [V, H, W, 1] of an opaque ball at the origin: the analytic answer to a ray."""
    pixel = (torch.arange(size) + 0.5) * (cameras.width / size)
    v, u = torch.meshgrid(pixel, pixel, indexing="ij")
    rays = torch.stack([u, v, torch.ones_like(u)], -1) @ torch.linalg.inv(cameras.Ks).transpose(1, 2)[:, None]
    centre = cameras.viewmats[:, None, None, :3, 3]
    a, b, c = (rays**2).sum(-1), (rays * centre).sum(-1), (centre**2).sum(-1) - radius**2
    discriminant = b**2 - a * c
    hit = discriminant > 0
    depth = torch.where(hit, (b - discriminant.clamp_min(0).sqrt()) / a, 0.0)
    return hit[..., None].float(), depth[..., None]


ALPHA, DEPTH = ball(CAMERAS)
VARIANTS = {
    "gaussian": lambda seed: GaussianNoise(SHAPE, seed=seed),
    "constant": lambda seed: ConstantNoise(SHAPE, seed=seed),
    "constant, mixed": lambda seed: ConstantNoise(SHAPE, beta=0.5, gamma=0.2, seed=seed),
    "world map": lambda seed: WorldMapNoise(SHAPE, seed=seed),
    "world map, mixed, fresh": lambda seed: WorldMapNoise(SHAPE, 120, 0.3, "fresh", seed, 0.1),
    "world map, fourier": lambda seed: WorldMapNoise(SHAPE, 75.0, seed=seed, subcell="fourier"),
    "surface": lambda seed: SurfaceNoise(SHAPE, seed=seed),
    "surface, mixed": lambda seed: SurfaceNoise(SHAPE, beta=0.5, gamma=0.3, background="fresh", seed=seed),
}
every_noise = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS.keys())


def call(noise, cameras=CAMERAS, alpha=ALPHA, depth=DEPTH):
    return noise(cameras, alpha, depth)


@every_noise
def test_contract(make):
    noise = make(0)
    assert isinstance(noise, NoiseFunction)
    out = call(noise)
    assert out.shape == (4, *SHAPE)
    assert out.dtype == torch.float32
    assert not out.requires_grad
    assert torch.isfinite(out).all()
    assert noise.to("cpu") is noise


def samples(make, seeds, steps=1):
    """[seeds, V, C, h, w], after some refreshes."""
    out = []
    for seed in range(seeds):
        noise = make(seed)
        for _ in range(steps):
            value = call(noise)
            noise.step()
        out.append(value)
    return torch.stack(out)


@every_noise
def test_marginally_standard_normal(make):
    """Kolmogorov-Smirnov and χ² over 150 seeds: view by view, since views of one seed share noise on purpose."""
    values = samples(make, 150, steps=3)
    for view in range(4):
        x = values[:, view].flatten().double().numpy()
        assert stats.kstest(x, "norm").pvalue > 1e-3
        assert 1e-3 < stats.chi2.cdf((x**2).sum(), len(x)) < 1 - 1e-3


@every_noise
def test_white_within_a_view(make):
    """Every pair of the 256 numbers of a view is uncorrelated: the off-diagonal correlations over n seeds have variance 1/n."""
    seeds = 400
    values = samples(make, seeds).double()
    for view in (0, 3):
        x = values[:, view].flatten(1)
        x = (x - x.mean(0)) / x.std(0, correction=0)
        correlation = (x.T @ x / seeds).fill_diagonal_(0)
        pairs = x.shape[1] * (x.shape[1] - 1)
        assert (correlation**2).sum() / pairs * seeds == pytest.approx(1.0, abs=0.05)
        assert correlation.abs().max() < 6.5 / seeds**0.5  # 33 000 pairs: 4.2 expected


@every_noise
def test_same_seed_same_bits_other_seed_other_noise(make):
    first, second, other = make(7), make(7), make(8)
    for _ in range(3):
        a, b, c = call(first), call(second), call(other)
        assert torch.equal(a, b)
        assert abs(torch.corrcoef(torch.stack([a.flatten(), c.flatten()]))[0, 1]) < 0.2
        for noise in (first, second, other):
            noise.step()


@every_noise
def test_resumed_run_is_bit_identical(make):
    noise = make(3)
    call(noise)
    noise.step()
    state = {name: tensor.clone() for name, tensor in noise.state_dict().items()}
    expected = []
    for _ in range(3):
        expected.append(call(noise))
        noise.step()
    resumed = make(99)  # another seed: everything must come from the state
    resumed.load_state_dict(state)
    for value in expected:
        assert torch.equal(call(resumed), value)
        resumed.step()


@every_noise
def test_global_generator_is_left_alone(make):
    before = torch.get_rng_state()
    noise = make(0)
    call(noise)
    noise.step()
    assert torch.equal(torch.get_rng_state(), before)


@every_noise
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_sees_the_same_bits(make):
    on_cpu, on_cuda = make(1), make(1).to("cuda")
    for _ in range(2):
        moved = call(on_cuda, CAMERAS.to("cuda"), ALPHA.cuda(), DEPTH.cuda())
        assert moved.device.type == "cuda"
        assert torch.equal(moved.cpu(), call(on_cpu))
        on_cpu.step()
        on_cuda.step()


def test_gaussian_is_fresh_in_every_call_and_view():
    noise = GaussianNoise(SHAPE)
    values = torch.stack([noise(CAMERAS) for _ in range(50)]).double()
    assert abs((values[0] * values[1]).mean()) < 0.1
    assert abs((values[:, 0] * values[:, 1]).mean()) < 0.03


def test_constant_is_the_same_patch_in_every_view():
    noise = ConstantNoise(SHAPE)
    values = noise(CAMERAS)
    assert torch.equal(values[0], values[3])
    assert torch.equal(values, noise(CAMERAS))
    values.zero_()  # a caller's in-place work must not reach the patch
    assert noise(CAMERAS).std() > 0.5


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.75, 1.0])
@pytest.mark.parametrize("kind", ["constant", "world_map", "surface"])
def test_beta_is_the_shared_share_of_the_variance(kind, beta):
    products = []
    for seed in range(60):
        noise = NOISES[kind](SHAPE, beta=beta, seed=seed)
        products.append((call(noise) * call(noise)).mean())
    assert torch.stack(products).mean() == pytest.approx(beta, abs=0.02)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["constant", "world_map", "surface"])
def test_gamma_forgets_at_its_rate(kind, gamma):
    """The correlation after n refreshes is (1 − γ)^{n/2}, front and background alike."""
    after = {1: [], 3: []}
    for seed in range(60):
        noise = NOISES[kind](SHAPE, gamma=gamma, seed=seed)
        start = call(noise)
        for n in range(1, 4):
            noise.step()
            if n in after:
                after[n].append((start * call(noise)).mean())
    for n, products in after.items():
        assert torch.stack(products).mean() == pytest.approx((1 - gamma) ** (n / 2), abs=0.025)


def test_state_of_another_function_is_refused():
    with pytest.raises(InputError, match="was it another noise function"):
        WorldMapNoise(SHAPE).load_state_dict(GaussianNoise(SHAPE).state_dict())
    with pytest.raises(InputError, match=r"noise state 'buffer.map': expected shape"):
        WorldMapNoise(SHAPE).load_state_dict(WorldMapNoise(SHAPE, 90.0).state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WorldMapNoise(SHAPE, beta=1.5), r"beta: expected a number in \[0, 1\], got 1.5"),
        (lambda: ConstantNoise(SHAPE, beta=-0.1), "beta: expected"),
        (lambda: SurfaceNoise(SHAPE, gamma=2), "gamma: expected"),
        (lambda: WorldMapNoise(SHAPE, 0), r"theta_deg: expected degrees in \(0, 360\] or 'auto', got 0"),
        (lambda: WorldMapNoise(SHAPE, 361), "theta_deg: expected"),
        (lambda: WorldMapNoise(SHAPE, "wide"), "or 'auto', got 'wide'"),
        (lambda: WorldMapNoise(SHAPE, "auto"), "'auto' needs fov_y_deg and distance"),
        (lambda: WorldMapNoise(SHAPE, background="black"), "background: expected one of fixed, fresh, got 'black'"),
        (lambda: WorldMapNoise(SHAPE, subcell="bilinear"), "subcell: expected one of off, fourier"),
        (lambda: GaussianNoise((4, 0, 8)), "latent_shape: expected"),
        (lambda: SurfaceNoise(SHAPE, samples=0), "texels_per_cell, samples: expected"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_bad_images_are_named():
    with pytest.raises(InputError, match="surface noise needs the rendered opacity and expected depth"):
        SurfaceNoise(SHAPE)(CAMERAS, ALPHA)
    with pytest.raises(InputError, match="alpha: expected one image for each of 4 cameras, got 2"):
        WorldMapNoise(SHAPE)(CAMERAS, ALPHA[:2])
    with pytest.raises(InputError, match=r"alpha: expected shape \[V, H, W, 1\]"):
        WorldMapNoise(SHAPE)(CAMERAS, ALPHA[..., 0])
