"""The denoiser: its loss against a hand-written twin, cameras and text, the weight average, Muon, the tokenizer."""

import pytest
import torch
from transformers import CLIPTokenizer

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.pretrain.captions import draw_caption
from fsd_gs.pretrain.diffusion import (
    Batch,
    Denoiser,
    LatentSet,
    WeightAverage,
    draw_batch,
    make_scheduler,
    make_text_encoder,
    make_unet,
    v_loss,
)
from fsd_gs.pretrain.muon import Muon, orthogonalize
from fsd_gs.pretrain.settings import DiffusionSettings
from fsd_gs.pretrain.sources import CatalogueSource
from fsd_gs.pretrain.start import start_tokenizer
from fsd_gs.pretrain.tokenizer import learn_merges, make_tokenizer
from fsd_gs.priors.backbones.mvdream import camera_numbers

SMALL = DiffusionSettings(channels=[16, 32], head_width=16, text_width=32, text_layers=1)
RED, BLUE = "a red mug, on a white background", "a blue key"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return make_tokenizer(["a", "red", "blue", "mug", "key", "on", "white", "background"], tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def denoiser(tokenizer):
    torch.manual_seed(0)
    return Denoiser(make_unet(SMALL, 4, 8), make_text_encoder(SMALL, tokenizer), tokenizer)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    cameras = camera_numbers(orbit_cameras([0.0, 180.0, 90.0, 270.0], 10.0, width=8)).float()
    return Batch(torch.randn(4, 4, 8, 8, generator=generator), cameras, [RED, BLUE])


def call(denoiser, batch, captions=None, cameras="own"):
    with torch.no_grad():
        n = torch.tensor([500, 500, 20, 20])
        numbers = batch.cameras if isinstance(cameras, str) else cameras
        return denoiser(batch.latents, n, captions or batch.captions, numbers)


@pytest.mark.parametrize("cameras", [True, False])
def test_the_loss_against_its_twin(denoiser, batch, cameras):
    alphas_cumprod = make_scheduler().alphas_cumprod
    loss = v_loss(denoiser, batch, alphas_cumprod, cameras=cameras, generator=torch.Generator().manual_seed(5))
    draws = torch.Generator().manual_seed(5)
    times = torch.randint(1000, (2,), generator=draws).tolist()
    noise = torch.randn(4, 4, 8, 8, generator=draws)
    total = 0.0
    for rig, n in enumerate(times):  # one time for both views
        alpha, sigma = float(alphas_cumprod[n]) ** 0.5, (1 - float(alphas_cumprod[n])) ** 0.5
        x_0, eps = batch.latents[2 * rig : 2 * rig + 2], noise[2 * rig : 2 * rig + 2]
        numbers = batch.cameras[2 * rig : 2 * rig + 2] if cameras else None
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            v = denoiser(alpha * x_0 + sigma * eps, torch.tensor([n, n]), [batch.captions[rig]], numbers).float()
        total += sigma * float((v - (alpha * eps - sigma * x_0)).pow(2).sum())
    assert loss.item() == pytest.approx(total / batch.latents.numel(), rel=0.01)  # bfloat16


def test_text_reaches_the_output_of_its_own_rig_only(denoiser, batch):
    other = call(denoiser, batch, [BLUE, BLUE]) - call(denoiser, batch)
    assert other[:2].abs().max() > 1e-4
    assert other[2:].abs().max() < 1e-6


def test_with_cameras_the_views_of_a_rig_see_one_another(denoiser, batch):
    moved = Batch(batch.latents.clone(), batch.cameras, batch.captions)
    moved.latents[0] += 1.0
    change = (call(denoiser, moved) - call(denoiser, batch)).abs().amax(dim=(1, 2, 3))
    assert change[1] > 1e-5
    assert change[2:].max() < 1e-6


def test_without_cameras_each_picture_stands_alone(denoiser, batch):
    moved = Batch(batch.latents.clone(), batch.cameras, batch.captions)
    moved.latents[0] += 1.0
    change = (call(denoiser, moved, cameras=None) - call(denoiser, batch, cameras=None)).abs().amax(dim=(1, 2, 3))
    assert change[0] > 1e-3
    assert change[1:].max() < 1e-6


def test_cameras_reach_the_output_and_can_be_dropped(denoiser, batch):
    own = call(denoiser, batch)
    assert (call(denoiser, batch, cameras=batch.cameras.flip(0)) - own).abs().max() > 1e-4
    assert (call(denoiser, batch, cameras=None) - own).abs().max() > 1e-4
    assert torch.equal(call(denoiser, batch), own)  # dropping them leaves nothing behind


def test_the_average_against_its_closed_form():
    layer = torch.nn.Linear(1, 1, bias=False)
    values = [1.0, 2.0, -1.0, 4.0, 0.5]
    torch.nn.init.constant_(layer.weight, values[0])
    average = WeightAverage(layer, horizon=4.0)
    for value in values[1:]:
        torch.nn.init.constant_(layer.weight, value)
        average.update(layer)
    decays = [min(0.75, (1 + n) / (10 + n)) for n in range(1, 5)]
    weights = [torch.tensor(decays[k:]).prod().item() * (1.0 if k == 0 else 1 - decays[k - 1]) for k in range(5)]
    assert sum(weights) == pytest.approx(1.0, abs=1e-6)
    assert float(average.values["weight"].detach()) == pytest.approx(sum(w * v for w, v in zip(weights, values, strict=True)), abs=1e-6)
    twin = average.copy_of(layer)
    assert float(twin.weight) == float(average.values["weight"])
    assert layer.weight.item() == values[-1]
    assert not twin.weight.requires_grad


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    made = orthogonalize(matrices)
    values = torch.linalg.svdvals(made)
    spread = torch.linalg.svdvals(matrices / matrices.flatten(1).norm(dim=1).view(-1, 1, 1))
    settled = spread > 0.03  # five steps lift smaller ones only part of the way
    assert values[settled].min() > 0.5
    assert values.max() < 1.3
    for one, together in zip(matrices, made, strict=True):
        torch.testing.assert_close(orthogonalize(one[None])[0], together, atol=0.02, rtol=0)  # bfloat16


def test_orthogonalize_keeps_the_singular_vectors():
    matrix = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    u, _, vt = torch.linalg.svd(matrix)
    turned = u.T @ orthogonalize(matrix[None])[0] @ vt.T
    assert (turned - torch.diag(turned.diag())).abs().max() < 0.06


def test_a_step_of_muon_by_hand():
    weight = torch.nn.Parameter(torch.randn(6, 2, 2, 2, generator=torch.Generator().manual_seed(2)))
    start, gradient = weight.detach().clone(), torch.randn(6, 2, 2, 2, generator=torch.Generator().manual_seed(3))
    weight.grad = gradient.clone()
    Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    ahead = (0.1 + 0.9 * 0.1) * gradient  # M = 0.1 G; Nesterov: 0.1 G + 0.9 M
    expected = start * (1 - 0.1 * 0.5) - 0.2 * 0.1 * 8**0.5 * orthogonalize(ahead.reshape(1, 6, 8)).view_as(start)
    torch.testing.assert_close(weight.detach(), expected, atol=1e-3, rtol=0)


def test_every_training_word_is_one_token(tmp_path):
    words = [*CatalogueSource(0).words, "mushroom", "background"]
    tokenizer = start_tokenizer(words, tmp_path, None)
    for word in words:
        pieces = [word] if word.isalpha() else list(word)  # CLIP's tokenizers cut numbers off: "3d" is two
        assert len(tokenizer(word).input_ids) == 2 + len(pieces), word
    again = CLIPTokenizer.from_pretrained(tmp_path)
    text = "a crimson teddy bear with a bow, on a turquoise background"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.decode(again(text).input_ids, skip_special_tokens=True).replace(" ,", ",") == text


def test_the_same_words_always_get_the_same_numbers(tmp_path):
    words = ["red", "mug", "mugs", "a", "teddy"]
    first, second = (make_tokenizer(order, tmp_path / name) for order, name in ((words, "one"), (words[::-1], "two")))
    assert first.get_vocab() == second.get_vocab()
    # Pinned: another run of Python must not number them otherwise, or a training that goes on forgets its words.
    assert first("a red teddy mugs").input_ids == [0, 322, 522, 523, 521, 1]


def test_a_tokenizer_that_weights_were_trained_with_is_kept(tmp_path):
    numbers = make_tokenizer(["red", "mug", "teddy"], tmp_path).get_vocab()
    assert make_tokenizer(["mug", "red"], tmp_path).get_vocab() == numbers
    assert len(make_tokenizer(["mug", "zebra"], tmp_path)("zebra").input_ids) == 3


def test_merges_by_hand():
    # "ab" occurs three times; then ("ab", "c</w>") and ("ab", "d</w>") once each, alphabetically
    assert learn_merges(["abc", "abd", "xab"]) == [("a", "b"), ("a", "b</w>"), ("ab", "c</w>"), ("ab", "d</w>"), ("x", "ab</w>")]


@pytest.mark.parametrize("word", ["café", "größe", "いす"])
def test_words_of_other_alphabets_are_one_token(tmp_path, word):
    tokenizer = make_tokenizer([word, "red"], tmp_path)
    assert len(tokenizer(word).input_ids) == 3
    assert tokenizer.decode(tokenizer(f"red {word}").input_ids, skip_special_tokens=True) == f"red {word}"


def test_unknown_words_still_have_tokens(tokenizer):
    pieces = tokenizer("zebra").input_ids[1:-1]
    assert len(pieces) > 1
    assert tokenizer.decode(pieces) == "zebra"


def test_captions_name_the_background_and_are_dropped_at_the_given_rates():
    generator, counts = torch.Generator().manual_seed(0), {"named": 0, "empty": 0}
    white = torch.ones(3)
    for _ in range(2000):
        text = draw_caption(("a mug", "a red mug"), white, 0.2, generator)
        counts["named"] += "white background" in text
        counts["empty"] += "mug" not in text
        assert text in ("", "a mug", "a red mug") or text.endswith("on a white background")
    assert counts["named"] / 2000 == pytest.approx(0.85, abs=0.03)
    assert counts["empty"] / 2000 == pytest.approx(0.2, abs=0.03)


def test_a_batch_keeps_pictures_cameras_and_words_together():
    objects, rigs = 5, 2
    index = torch.arange(objects * rigs).view(objects, rigs, 1)
    latents = index[..., None, None, None].expand(objects, rigs, 3, 1, 2, 2).half()
    cameras = index[..., None].expand(objects, rigs, 3, 16).float()
    data = LatentSet(latents, cameras, torch.ones(objects, rigs, 3), tuple((f"object {o}",) for o in range(objects)))
    drawn = draw_batch(data, 40, 0.0, torch.Generator().manual_seed(0))
    assert drawn.latents.shape == (120, 1, 2, 2)
    assert torch.equal(drawn.latents[:, 0, 0, 0], drawn.cameras[:, 0])
    assert [int(text.split(",")[0].split()[1]) for text in drawn.captions] == (drawn.cameras[::3, 0] // rigs).int().tolist()
    assert len(drawn.cameras[:, 0].unique()) == objects * rigs
