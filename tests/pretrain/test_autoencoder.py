"""Training of the decoder: the loss against a loop, learning, and going on from a saved state."""

import pytest
import torch

from fsd_gs.errors import FileFormatError
from fsd_gs.pretrain.autoencoder import DecoderTrainer, decoder_loss, make_autoencoder, psnr
from fsd_gs.pretrain.patch_code import fit_patch_code
from fsd_gs.pretrain.settings import AutoencoderSettings

CPU = torch.device("cpu")
SETTINGS = AutoencoderSettings(channels=[16, 32], latent_channels=5, batch=4, steps=30)


def pictures(count=24, size=16):
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") * 255).round().byte()


def parts(settings=SETTINGS):
    code = fit_patch_code(pictures(), settings.latent_channels, 2)
    torch.manual_seed(0)
    return make_autoencoder(settings, 16, code), code


def test_the_loss_against_a_loop():
    vae, code = parts()
    images = pictures(2).float() / 127.5 - 1
    latents = code.encode(images)
    with torch.no_grad():
        loss, decoded = decoder_loss(vae, images, latents, SETTINGS), vae.decode(latents).sample
    across = sum(float(((decoded - images)[..., x + 1] - (decoded - images)[..., x]).abs().sum()) for x in range(15)) / (2 * 3 * 16 * 15)
    down = sum(float(((decoded - images)[:, :, y + 1] - (decoded - images)[:, :, y]).abs().sum()) for y in range(15)) / (2 * 3 * 16 * 15)
    assert float(loss) == pytest.approx(float((decoded - images).abs().mean()) + SETTINGS.edges * (across + down), rel=1e-4)


@pytest.mark.long
def test_training_beats_the_blur_it_started_from():
    vae, code = parts()
    encoder = {name: value.clone() for name, value in vae.encoder.state_dict().items()}
    before, seen = psnr(vae, pictures()), []
    trainer = DecoderTrainer(vae, code, pictures(), SETTINGS, seed=0, device=CPU)
    while trainer.share < 1.0:
        trainer.step()
        seen.append((trainer.steps, trainer.share))
    trainer.finish()
    assert psnr(vae, pictures()) > before + 1.0
    assert seen[-1] == (30, 1.0)
    assert all(torch.equal(value, encoder[name]) for name, value in vae.encoder.state_dict().items())  # only the decoder learns


def test_psnr_of_a_known_error():
    class Shifted:
        """An autoencoder that is off by 0.2 everywhere (of a range of 2: −20 dB)."""

        dtype = torch.float32

        def encode(self, images):
            self.images = images
            return self

        latent_dist = property(lambda self: self)
        sample = property(lambda self: self.images + 0.2)
        mode = decode = lambda self, *latents: self

    assert psnr(Shifted(), torch.full((3, 3, 8, 8), 100, dtype=torch.uint8)) == pytest.approx(20.0, abs=1e-3)


def test_going_on_is_the_same_as_never_stopping(tmp_path):
    settings = AutoencoderSettings(channels=[16, 32], latent_channels=5, batch=2, steps=6)

    def trainer():
        return DecoderTrainer(*parts(settings), pictures(), settings, seed=3, device=CPU)

    straight = trainer()
    for _ in range(6):
        straight.step()
    first = trainer()
    for _ in range(3):
        first.step()
    first.save(tmp_path / "state.safetensors")
    second = trainer()
    second.load(tmp_path / "state.safetensors")
    assert second.steps == 3
    for _ in range(3):
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters, second.parameters, strict=True))
    assert second.share == 1.0


def test_a_state_of_another_decoder_is_refused(tmp_path):
    vae, code = parts()
    DecoderTrainer(vae, code, pictures(), SETTINGS, seed=0, device=CPU).save(tmp_path / "state.safetensors")
    wider = AutoencoderSettings(channels=[16, 48], latent_channels=5)
    with pytest.raises(FileFormatError, match="does not continue this training"):
        DecoderTrainer(*parts(wider), pictures(), wider, seed=0, device=CPU).load(tmp_path / "state.safetensors")
