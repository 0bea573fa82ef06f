"""The written encoder against its readable twin, the least-squares decoder, and what cannot be written."""

import numpy as np
import pytest
import torch

from fsd_gs.errors import ConfigError, FileFormatError, InputError
from fsd_gs.pretrain.autoencoder import make_autoencoder
from fsd_gs.pretrain.patch_code import (
    check_channels,
    fit_patch_code,
    load_patch_code,
    save_patch_code,
    smallest_channels,
)
from fsd_gs.pretrain.settings import AutoencoderSettings
from fsd_gs.priors.nano.patch_code import PatchCode, read_encoder

COMPONENTS = {2: 5, 4: 12}


def smooth_pictures(count=24, size=16, seed=0):
    """uint8 [N, 3, size, size] with neighbours alike, as in pictures."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") * 255).round().byte()


def normalized(pictures):
    return pictures.float() / 127.5 - 1


def written(factor, dtype=torch.float32):
    code = fit_patch_code(smooth_pictures(), COMPONENTS[factor], factor)
    settings = AutoencoderSettings(channels=smallest_channels(factor), latent_channels=COMPONENTS[factor])
    torch.manual_seed(0)
    return code, make_autoencoder(settings, 16, code).to(dtype).eval()


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-3), (torch.float32, 1e-3)])
def test_the_network_computes_the_code(factor, dtype, tolerance):
    code, vae = written(factor, dtype)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1  # not the data it was fitted to
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
    twin = PatchCode(*(t.to(dtype) for t in (code.mean, code.basis, code.scale))).encode(images)
    torch.testing.assert_close(posterior.mode(), twin, atol=tolerance, rtol=1e-3)
    assert float(posterior.std.max()) < 1e-3  # a point: sampling and its mode are the same


@pytest.mark.parametrize("factor", [2, 4])
def test_half_precision_weights_hold_the_code(factor):
    # As shipped: stored in float16, computed in float32. Eleven bits a weight, 48 products: about 1e-2 at latents of size 1.
    code, vae = written(factor)
    halved = vae.half().float()
    images = normalized(smooth_pictures(seed=1))
    with torch.no_grad():
        latents = halved.encode(images).latent_dist.mode()
    assert (latents - code.encode(images)).abs().max() < 0.02
    assert latents.std() > 0.5


def test_encoding_is_differentiable_and_linear():
    code, vae = written(4)
    images = normalized(smooth_pictures(count=1)).requires_grad_(True)
    direction = torch.randn(1, 12, 4, 4, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((vae.encode(images).latent_dist.mode() * direction).sum(), images)
    (expected,) = torch.autograd.grad((code.encode(images) * direction).sum(), images)
    torch.testing.assert_close(gradient, expected, atol=2e-3, rtol=1e-2)


def test_decode_is_the_least_squares_inverse():
    code = fit_patch_code(smooth_pictures(), 5, 2)
    image = normalized(smooth_pictures(count=1, size=2, seed=3)).double()
    exact = PatchCode(*(t.double() for t in (code.mean, code.basis, code.scale)))
    # min ‖B S z + m − p‖ over z, solved by numpy without knowing that B is orthonormal
    patch = torch.nn.functional.pixel_unshuffle(image, 2).flatten().numpy() - exact.mean.numpy()
    solution, *_ = np.linalg.lstsq((exact.basis * exact.scale).numpy(), patch, rcond=None)
    np.testing.assert_allclose(exact.encode(image).flatten().numpy(), solution, atol=1e-5)
    torch.testing.assert_close(exact.encode(exact.decode(exact.encode(image))), exact.encode(image), atol=1e-5, rtol=0)


def test_all_components_lose_nothing():
    code, images = fit_patch_code(smooth_pictures(), 12, 2), normalized(smooth_pictures())
    torch.testing.assert_close(code.decode(code.encode(images)), images, atol=1e-4, rtol=0)


def test_the_code_is_the_principal_components():
    pictures = smooth_pictures()
    code = fit_patch_code(pictures, 5, 2)
    patches = torch.nn.functional.pixel_unshuffle(normalized(pictures), 2).permute(0, 2, 3, 1).reshape(-1, 12).double().numpy()
    values, vectors = np.linalg.eigh(np.cov(patches.T, bias=True))
    overlap = np.abs(vectors[:, ::-1][:, :5].T @ code.basis.double().numpy())
    np.testing.assert_allclose(overlap, np.eye(5), atol=2e-3)
    latents = code.encode(normalized(pictures))
    assert float(latents.pow(2).mean()) == pytest.approx(1.0, abs=1e-3)
    expected = values[::-1][:5] ** 0.5  # half whitened: variances fall as the square roots of the eigenvalues
    variances = latents.var(dim=(0, 2, 3), correction=0).numpy()
    np.testing.assert_allclose(variances / variances[0], expected / expected[0], rtol=2e-2)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_decoder_starts_as_the_mean_colour_of_each_patch(factor):
    code, vae = written(factor)
    with torch.no_grad():
        for name, parameter in vae.decoder.named_parameters():  # what is still to be learned: switch it off
            if "conv2" in name:
                parameter.zero_()
        color = torch.tensor([0.4, -0.3, 0.1]).view(1, 3, 1, 1)
        latents = code.encode(color.expand(1, 3, 32, 32))
        picture = vae.decode(latents).sample
    expected = code.decode(latents).mean(dim=(2, 3))
    inside = picture[:, :, 12:20, 12:20]  # the blur pads with zeros at the edges
    torch.testing.assert_close(inside.mean(dim=(2, 3)), expected, atol=0.06, rtol=0)


@pytest.mark.parametrize("channels", [[16, 48, 100], [16, 44, 104], [8, 48, 104], [104, 104, 104], [16], [16, 50, 104], []])
def test_too_narrow_channels_are_refused(channels):
    with pytest.raises(ConfigError, match=r"autoencoder\.channels: expected"):
        check_channels(channels)


def test_the_smallest_channels_are_enough():
    for factor in (2, 4):
        check_channels(smallest_channels(factor))
    assert smallest_channels(4) == [16, 48, 104]


def test_a_code_of_another_factor_does_not_fit():
    code = fit_patch_code(smooth_pictures(), 4, 2)
    with pytest.raises(ConfigError, match=r"expected 2 levels for this code, got 3"):
        make_autoencoder(AutoencoderSettings(latent_channels=4), 16, code)
    with pytest.raises(ConfigError, match=r"autoencoder\.latent_channels: expected the 4 components"):
        make_autoencoder(AutoencoderSettings(channels=[16, 32], latent_channels=6), 16, code)


@pytest.mark.parametrize("components", [0, 13])
def test_the_number_of_components_is_checked(components):
    with pytest.raises(InputError, match="expected 1 to 12 components of 2×2 patches"):
        fit_patch_code(smooth_pictures(), components, 2)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_code_is_read_back_from_the_weights(factor):
    code, vae = written(factor)
    found, images = read_encoder(vae.half().float()), normalized(smooth_pictures(seed=4))
    torch.testing.assert_close(found.encode(images), code.encode(images), atol=0.02, rtol=0)
    torch.testing.assert_close(found.encode(found.decode(code.encode(images))), code.encode(images), atol=0.02, rtol=0)


def test_a_learned_encoder_is_not_taken_for_a_written_one():
    _, vae = written(2)
    torch.nn.init.normal_(vae.encoder.mid_block.resnets[0].conv2.weight)
    assert read_encoder(vae) is None


def test_an_encoder_that_looks_beyond_its_patch_or_mixes_components_is_not_taken_for_a_code():
    code, vae = written(2)
    vae.encoder.conv_in.weight.data[0, 0, 1, 2] = 0.3  # a pixel's neighbour
    assert read_encoder(vae) is None
    skewed = PatchCode(code.mean, code.basis + 0.2 * code.basis.roll(1, 1), code.scale)
    assert read_encoder(make_autoencoder(AutoencoderSettings(channels=smallest_channels(2), latent_channels=5), 16, skewed)) is None


@pytest.mark.parametrize("factor", [2, 4])
def test_one_convolution_is_the_code_patch_by_patch(factor):
    code = fit_patch_code(smooth_pictures(), COMPONENTS[factor], factor)
    exact = PatchCode(*(x.double() for x in (code.mean, code.basis, code.scale)))
    images = normalized(smooth_pictures(count=2, seed=5)).double().requires_grad_()
    found, wanted = exact.encode(images), exact.encode_slowly(images)
    torch.testing.assert_close(found, wanted)
    direction = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(*(torch.autograd.grad((z * direction).sum(), images)[0] for z in (found, wanted)))


def test_a_code_survives_its_file(tmp_path):
    code = fit_patch_code(smooth_pictures(), 5, 2)
    save_patch_code(code, tmp_path / "code.safetensors")
    loaded = load_patch_code(tmp_path / "code.safetensors")
    for name in ("mean", "basis", "scale"):
        assert torch.equal(getattr(loaded, name), getattr(code, name))
    (tmp_path / "code.safetensors").write_bytes(b"not tensors")
    with pytest.raises(FileFormatError, match="not a readable patch code"):
        load_patch_code(tmp_path / "code.safetensors")
