"""The training loop: learning, the rate, going on bit for bit; and the folder it ends in, read back as a prior."""

import json

import pytest
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import TextCondition
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.pretrain.autoencoder import make_autoencoder
from fsd_gs.pretrain.diffusion import Denoiser, LatentSet, make_scheduler, make_text_encoder, make_unet
from fsd_gs.pretrain.folder import save_prior
from fsd_gs.pretrain.patch_code import fit_patch_code
from fsd_gs.pretrain.settings import AutoencoderSettings, DiffusionSettings
from fsd_gs.pretrain.start import compile_unet
from fsd_gs.pretrain.tokenizer import make_tokenizer
from fsd_gs.pretrain.trainer import STATE, Progress, Trainer, rate_factor, split_parameters
from fsd_gs.priors import load
from fsd_gs.priors.backbones.mvdream import MVDreamPrior, camera_numbers
from fsd_gs.priors.backbones.nano import NanoPrior
from fsd_gs.priors.digests import verify

SETTINGS = DiffusionSettings(channels=[16, 32], head_width=16, text_width=32, text_layers=1, objects=2, steps=8, warmup=2, cooldown=0.5)
WORDS = ["a", "red", "blue", "mug", "key", "on", "white", "black", "background"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return make_tokenizer(WORDS, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(3, 1, 1, 4, 8, 8, generator=generator).expand(3, 2, 2, 4, 8, 8)
    cameras = camera_numbers(orbit_cameras([0.0, 180.0], 10.0, width=8)).float().expand(3, 2, 2, 16)
    return LatentSet(patterns.half(), cameras, torch.ones(3, 2, 3), (("a red mug",), ("a blue mug",), ("a key", "a red key")))


def make_denoiser(tokenizer, settings=SETTINGS):
    torch.manual_seed(0)
    unet = make_unet(settings, 4, 8).to(memory_format=torch.channels_last)  # as it is trained; fused optimizers care
    return Denoiser(unet, make_text_encoder(settings, tokenizer), tokenizer)


def make_trainer(tokenizer, settings=SETTINGS):
    return Trainer(make_denoiser(tokenizer, settings), make_scheduler().alphas_cumprod, settings, seed=4)


@pytest.mark.long
def test_the_loss_falls_on_a_few_pictures(tokenizer, data):
    settings = DiffusionSettings(channels=[16, 32], head_width=16, text_width=32, text_layers=1, objects=4, steps=50, warmup=5, lr=5e-3)
    losses = []
    trainer = make_trainer(tokenizer, settings)
    while trainer.progress.share(settings) < 1.0:
        losses.append(trainer.step(data))
    assert len(losses) == 50
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_compiling_is_left_out_of_copies_and_needs_a_compiler(tokenizer, monkeypatch):
    trainer = make_trainer(tokenizer)
    compile_unet(trainer.denoiser)  # nothing is compiled before the first call
    assert trainer.denoiser.unet._compiled_call_impl is not None
    assert trainer.averaged().unet._compiled_call_impl is None  # else previews would show the weights of the day it was copied
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"diffusion\.compile: expected a C\+\+ compiler"):
        compile_unet(trainer.denoiser)


def test_going_on_is_bit_for_bit_the_same_as_never_stopping(tokenizer, data, tmp_path):
    straight = make_trainer(tokenizer)
    for _ in range(8):
        straight.step(data)
    first = make_trainer(tokenizer)
    for _ in range(3):
        first.step(data)
    first.save(tmp_path)
    second = make_trainer(tokenizer)
    second.load(tmp_path)
    for _ in range(5):
        second.step(data)
    for (name, one), other in zip(straight.denoiser.named_parameters(), second.denoiser.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert torch.equal(straight.average.values[name], second.average.values[name]), name
    assert second.progress.step == 8
    assert second.progress.loss == straight.progress.loss


def test_the_state_of_another_network_is_refused(tokenizer, tmp_path):
    make_trainer(tokenizer).save(tmp_path)
    wider = DiffusionSettings(channels=[32, 32], head_width=16, text_width=32, text_layers=1)
    with pytest.raises(FileFormatError, match=f"{STATE} does not continue this training"):
        make_trainer(tokenizer, wider).load(tmp_path)
    make_trainer(tokenizer).save(tmp_path)
    damaged = bytearray((tmp_path / STATE).read_bytes())
    damaged[-100] ^= 4  # one bit of a weight
    (tmp_path / STATE).write_bytes(damaged)
    with pytest.raises(FileFormatError, match="its checksum is wrong"):
        make_trainer(tokenizer).load(tmp_path)
    (tmp_path / STATE).write_bytes(b"cut off")
    with pytest.raises(FileFormatError, match="delete it to start this stage anew"):
        make_trainer(tokenizer).load(tmp_path)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.5), (1, 1.0), (4, 1.0), (6, 0.5), (8, 0.0)])
def test_the_rate_rises_holds_and_falls(step, expected):
    assert rate_factor(Progress(step=step), SETTINGS) == pytest.approx(expected)


def test_the_clock_ends_a_training_too():
    settings = DiffusionSettings(steps=1000, minutes=2.0)
    assert Progress(step=10, seconds=60.0).share(settings) == 0.5
    assert Progress(step=900, seconds=60.0).share(settings) == 0.9
    assert Progress(step=10, seconds=500.0).share(settings) == 1.0


def test_every_parameter_has_one_optimizer(tokenizer):
    denoiser = make_denoiser(tokenizer)
    matrices, others = split_parameters(denoiser)
    assert {id(p) for p in matrices} | {id(p) for p in others} == {id(p) for p in denoiser.parameters()}
    assert len(matrices) + len(others) == len(list(denoiser.parameters()))
    assert all(p.ndim >= 2 for p in matrices)
    outer = (denoiser.unet.conv_in.weight, denoiser.unet.conv_out.weight, denoiser.text_encoder.get_input_embeddings().weight)
    assert {id(p) for p in outer} <= {id(p) for p in others}


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    """(denoiser rounded to half precision, the folder it was saved in)."""
    denoiser = make_denoiser(tokenizer).half().float().eval()
    pictures = torch.randint(256, (8, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    settings = AutoencoderSettings(channels=[16, 32], latent_channels=4)
    torch.manual_seed(0)
    vae = make_autoencoder(settings, 16, fit_patch_code(pictures, 4, 2))
    folder = tmp_path_factory.mktemp("saved") / "prior"
    save_prior(folder, denoiser, vae, views=2, vocabulary="catalogue", categories=["mug", "key"], card={"note": "test"})
    return denoiser, folder


@pytest.fixture(scope="module")
def prior(saved):
    return load(saved[1], dtype="float32")


CAMERAS = orbit_cameras([10.0, 190.0], 15.0, distance=2.2, fov_y_deg=49.1, width=16).to("cpu", torch.float32)


@pytest.mark.parametrize("n", [20, 500, 990])
def test_the_prior_predicts_what_the_denoiser_does(saved, prior, n):
    denoiser, _ = saved
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    t = prior.schedule.time(torch.tensor(n)).float()
    with torch.no_grad():
        v = {text: denoiser(x_t, torch.tensor([n, n]), [text], camera_numbers(CAMERAS)) for text in ("a red mug", "")}
    alpha, sigma = (float(f(prior.schedule.time(torch.tensor(n)))) for f in (prior.schedule.alpha, prior.schedule.sigma))
    eps = {text: alpha * output + sigma * x_t for text, output in v.items()}
    text = prior.encode_text("a red mug", "", CAMERAS)
    for scale in (1.0, 3.0):
        expected = eps[""] + scale * (eps["a red mug"] - eps[""])
        torch.testing.assert_close(prior.predict_noise(x_t, t, text, CAMERAS, scale), expected, atol=2e-4, rtol=1e-3)


def test_the_prior_knows_its_sizes(prior):
    assert isinstance(prior, NanoPrior)
    assert (prior.views, prior.image_size, prior.latent_shape) == (2, 16, (4, 8, 8))


def embedding_of(prior, prompt):
    return prior.encode_text(prompt, "", CAMERAS)


@pytest.mark.parametrize("prompt", ["a photo of a crimson coffee mug", "Red Mug", "one cute red mug, highly detailed"])
def test_prompts_are_read_as_plain_captions(prior, prompt):
    assert embedding_of(prior, prompt).prompt == "a red mug"


def test_unknown_words_are_named_with_suggestions(prior, caplog):
    assert embedding_of(prior, "a bluue mug with zorgles").prompt == "a mug"
    (record,) = [r for r in caplog.records if "left out" in r.message]
    assert "'bluue' is not known here (did you mean 'blue'?)" in record.message
    assert "'zorgles' is not known here" in record.message
    caplog.clear()
    embedding_of(prior, "a bluue mug with zorgles")
    assert not caplog.records  # said once


@pytest.mark.parametrize("prompt", ["a zorgle", "happiness"])
def test_an_unknown_subject_stops(prior, prompt):
    with pytest.raises(InputError, match=r"names nothing that this prior knows.*mvdream"):
        embedding_of(prior, prompt)


def test_a_category_that_was_not_trained_stops(prior):
    with pytest.raises(InputError, match=r"not trained on 'chair'; it knows mug, key"):
        embedding_of(prior, "a red chair")


def test_the_background_joins_both_prompts(prior):
    text: TextCondition = embedding_of(prior, "a red mug")
    placed = prior.encode_text("a red mug", "", CAMERAS, torch.tensor([0.02, 0.0, 0.05]))
    as_said = MVDreamPrior.encode_text(prior, "a red mug, on a black background", "on a black background", None)
    assert torch.equal(placed.positive.tokens, as_said.positive.tokens)
    assert torch.equal(placed.negative.tokens, as_said.negative.tokens)
    assert (placed.prompt, placed.negative_prompt) == ("a red mug", "")  # so that both can be asked for again
    again = prior.encode_text(placed.prompt, placed.negative_prompt, CAMERAS, placed.background)
    assert torch.equal(again.positive.tokens, placed.positive.tokens)
    moved = prior.encode_text("a red mug", "", CAMERAS, torch.ones(3))
    assert not torch.equal(moved.positive.tokens, placed.positive.tokens)
    x_t, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor(0.6)
    change = prior.predict_noise(x_t, t, placed, CAMERAS, 1.0) - prior.predict_noise(x_t, t, text, CAMERAS, 1.0)
    assert change.abs().max() > 1e-5


def test_the_checksums_notice_a_changed_file(saved, tmp_path):
    import shutil

    folder = shutil.copytree(saved[1], tmp_path / "copy")
    assert verify(folder) == folder
    card = folder / "card.json"
    card.write_text(card.read_text().replace("test", "tent"))
    with pytest.raises(FileFormatError, match=r"card\.json is missing or damaged"):
        verify(folder)


def test_the_folder_says_how_it_wants_to_be_asked(saved):
    index = json.loads((saved[1] / "model_index.json").read_text())
    assert (index["views"], index["vocabulary"], index["categories"], index["names_background"]) == (2, "catalogue", ["mug", "key"], True)
    assert not [p for p in saved[1].parent.iterdir() if p != saved[1]]  # nothing half-written beside it
