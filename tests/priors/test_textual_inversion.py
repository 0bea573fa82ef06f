"""Textual inversion: learned words in our priors against diffusers' own loader and pipelines, of one vector and of several."""

import pytest
import tiny_pipelines as tiny
import torch
from safetensors.torch import save_file

from fsd_gs import priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError, FileFormatError
from fsd_gs.priors import LoadOptions

PROMPT, NEGATIVE = "a red <owl> and an <eye>", "no <eye>"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("words")
    tiny.save(tiny.stable_diffusion(), root / "sd")
    tiny.save(tiny.stable_diffusion_xl(second=40), root / "sdxl")
    generator = torch.Generator().manual_seed(0)
    vectors = {"owl": torch.randn(3, 32, generator=generator), "eye": torch.randn(1, 32, generator=generator)}
    save_file({"<owl>": vectors["owl"]}, root / "learned_embeds.safetensors")  # diffusers
    save_file({"emb_params": vectors["eye"]}, root / "<eye>.safetensors")  # A1111: the file's name is the word
    save_file({"<flat>": vectors["eye"][0]}, root / "flat.safetensors")
    save_file({"clip_l": vectors["owl"], "clip_g": torch.randn(3, 40, generator=generator)}, root / "<xl-owl>.safetensors")
    return root


def files(root, *names):
    return [str(root / f"{name}.safetensors") for name in names]


@torch.no_grad()
def test_embeddings_equal_the_pipelines(root):
    pipeline = tiny.stable_diffusion()
    pipeline.load_textual_inversion(root / "learned_embeds.safetensors")
    pipeline.load_textual_inversion(root / "<eye>.safetensors", token="<eye>")
    expected, negative = pipeline.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    prior = priors.load(root / "sd", options=LoadOptions(embeddings=files(root, "learned_embeds", "<eye>")))
    text = prior.encode_text(PROMPT, NEGATIVE, None)
    torch.testing.assert_close(text.positive.tokens, expected)
    torch.testing.assert_close(text.negative.tokens, negative)
    plain = priors.load(root / "sd").encode_text(PROMPT, NEGATIVE, None)
    assert (plain.positive.tokens - expected).abs().max() > 1e-2
    seen = prior.encode_text(PROMPT, NEGATIVE, orbit_cameras([0, 180]))  # the encoders were freed: they are taught again
    assert seen.positive.tokens.isfinite().all()
    torch.testing.assert_close(seen.negative.tokens, negative)


@torch.no_grad()
def test_a_word_of_one_vector_without_a_row(root):
    pipeline = tiny.stable_diffusion()
    pipeline.load_textual_inversion(root / "flat.safetensors")
    expected, _ = pipeline.encode_prompt("a <flat>", "cpu", 1, False)
    prior = priors.load(root / "sd", options=LoadOptions(embeddings=files(root, "flat")))
    torch.testing.assert_close(prior.encode_text("a <flat>", "", None).positive.tokens, expected)


@torch.no_grad()
def test_both_encoders_of_sdxl_learn_the_word(root):
    from safetensors.torch import load_file

    pipeline, state = tiny.stable_diffusion_xl(second=40), load_file(root / "<xl-owl>.safetensors")
    for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
        encoder, tokenizer = (getattr(pipeline, f"{part}{suffix}") for part in ("text_encoder", "tokenizer"))
        pipeline.load_textual_inversion({"<xl-owl>": state[key]}, text_encoder=encoder, tokenizer=tokenizer)
    tokens, _, pooled, _ = pipeline.encode_prompt("a <xl-owl>", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    prior = priors.load(root / "sdxl", options=LoadOptions(embeddings=files(root, "<xl-owl>")))
    text = prior.encode_text("a <xl-owl>", "", None)
    torch.testing.assert_close(text.positive.tokens, tokens)
    torch.testing.assert_close(text.positive.pooled, pooled)


def test_a_folder_that_was_saved_with_its_word(root, tmp_path):
    """Tokenizer and encoder hold the word already; its several vectors are spelled out all the same."""
    pipeline = tiny.stable_diffusion()
    pipeline.load_textual_inversion(root / "learned_embeds.safetensors")
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(PROMPT, "cpu", 1, False)
    text = priors.load(tiny.save(pipeline, tmp_path / "saved")).encode_text(PROMPT, "", None)
    torch.testing.assert_close(text.positive.tokens, expected)


def test_refusals(root, tmp_path):
    def embed(name, given):
        priors.load(root / name, options=LoadOptions(embeddings=[str(file) for file in given])).encode_text("a", "", None)

    def refused(message, *given, name="sd"):
        with pytest.raises(FileFormatError, match=message) as caught:
            embed(name, given)
        assert "\n" not in str(caught.value)

    torch.save({}, tmp_path / "word.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 32)
    save_file({"<two>": torch.zeros(1, 32), "<three>": torch.zeros(1, 32)}, tmp_path / "two.safetensors")
    save_file({"<wide>": torch.zeros(1, 48)}, tmp_path / "wide.safetensors")
    save_file({"a</w>": torch.zeros(1, 32)}, tmp_path / "known.safetensors")
    owl = root / "learned_embeds.safetensors"
    refused(r"word\.pt is a pickle, which can run code", tmp_path / "word.pt")
    refused(r"no file '\S+none\.safetensors'", tmp_path / "none.safetensors")
    refused(r"is not a readable safetensors file", tmp_path / "broken.safetensors")
    refused(r"expected one entry, found <three>, <two>", tmp_path / "two.safetensors")
    refused(r"its vectors have the shape \[1, 48\], this model's are \[n, 32\]", tmp_path / "wide.safetensors")
    refused(r"expected the entries clip_l and clip_g, found <owl>", owl, name="sdxl")
    refused(r"two files teach the word '<owl>'", owl, owl)
    refused(r"the tokenizer knows 'a</w>' already; rename the word", tmp_path / "known.safetensors")
    with pytest.raises(ConfigError, match=r"prior\.embeddings: a prior of the family 'flux' takes no textual inversion; those of mvdream"):
        priors.load(tiny.save(tiny.flux(), tmp_path / "flux"), options=LoadOptions(embeddings=[str(owl)]))
