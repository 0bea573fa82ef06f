"""CLIP scores with a tiny random CLIP saved to a folder: against transformers' own processor and model, and torchmetrics."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipelines import clip_tokenizer
from transformers import CLIPConfig, CLIPModel

from fsd_gs.errors import BackendError, FileFormatError, InputError
from fsd_gs.metrics.clip import ClipPreprocessing, ClipScorer, find_files
from fsd_gs.metrics.image_sets import embed_images, score_images
from fsd_gs.metrics.protocols import ImageEmbedder, PromptScorer

SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CLIP of 16-pixel patches on 32-pixel images, in the layout that the hub has: preprocessor_config.json beside the weights."""
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    tokenizer = clip_tokenizer(length=16)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": tokenizer.eos_token_id}
    text |= {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    small = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(6)
    CLIPModel(
        CLIPConfig(text_config={**small, **text}, vision_config={**small, "image_size": SIZE, "patch_size": 16}, projection_dim=12)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}, "resample": 3}
    config |= {"do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True}
    config |= {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    config |= {"image_processor_type": "CLIPImageProcessor", "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def scorer(folder) -> ClipScorer:
    return ClipScorer.load(folder)


def pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures of whole 8-bit levels, as image files hold."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round() / 255


def copied(folder: Path, tmp_path: Path, *without: str) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*without))
    return copy


def test_it_satisfies_both_protocols(scorer):
    assert isinstance(scorer, ImageEmbedder)
    assert isinstance(scorer, PromptScorer)
    assert scorer.name == "clip:tiny-clip"


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (50, 70), (81, 45), (20, 20)])
def test_preprocessing_is_that_of_the_library(height, width):
    """PIL's bicubic resize, crop and normalisation; PIL rounds between its two passes, so one level of 255 is allowed."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    images = pictures(2, height, width)
    library = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    arrays = [(image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy() for image in images]
    expected = torch.as_tensor(np.stack(library(arrays)["pixel_values"]))
    ours = ClipPreprocessing(SIZE, (SIZE, SIZE))(images)
    assert ours.shape == expected.shape == (2, 3, SIZE, SIZE)
    assert (ours - expected).abs().max() <= 1.01 / 255 / 0.26


def test_embeddings_are_those_of_the_library(scorer, folder):
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = torch.tensor([clip_tokenizer(length=16)("a red chair")["input_ids"]])
    images = pictures(3, SIZE, SIZE)
    output = model(input_ids=tokens, pixel_values=ClipPreprocessing(SIZE, (SIZE, SIZE))(images))
    cosines = 100 * (output.image_embeds @ output.text_embeds[0]).clamp_min(0)
    torch.testing.assert_close(torch.nn.functional.normalize(scorer.embed(images), dim=1), output.image_embeds)
    torch.testing.assert_close(torch.nn.functional.normalize(scorer.embed_text("a red chair"), dim=0), output.text_embeds[0])
    torch.testing.assert_close(scorer.alignment(images, "a red chair"), cosines)
    assert cosines.max() > 0


def test_score_is_that_of_torchmetrics(scorer, folder):
    clip_score = pytest.importorskip("torchmetrics.functional.multimodal").clip_score
    from transformers import CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    class Model(CLIPModel):
        """torchmetrics expects tensors here, as transformers 4 returned them."""

        def get_image_features(self, pixel_values):
            return self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output)

        def get_text_features(self, input_ids, attention_mask):
            return self.text_projection(self.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output)

    processor = CLIPProcessor(CLIPImageProcessorPil.from_pretrained(folder), clip_tokenizer(length=16))
    for prompt in ("a red chair", "blue"):
        for image in pictures(3, 60, 48):
            levels = (image * 255).round().to(torch.uint8)
            expected = clip_score(levels, prompt, lambda: (Model.from_pretrained(folder).eval(), processor))
            assert scorer.alignment(image[None], prompt).item() == pytest.approx(
                expected.item(), abs=0.15
            )  # one 8-bit level here and there


def test_negative_cosines_score_zero(scorer, monkeypatch):
    images = pictures(2, SIZE, SIZE)
    monkeypatch.setattr(scorer, "embed_text", lambda prompt: -scorer.embed(images)[0])
    assert scorer.alignment(images[:1], "anything").item() == 0


def test_batching_changes_nothing(scorer):
    images = pictures(5, 40, 40)
    torch.testing.assert_close(embed_images(scorer, list(images), batch_size=2), scorer.embed(images))
    torch.testing.assert_close(score_images(scorer, images, "a red chair", batch_size=3), scorer.alignment(images, "a red chair"))


def test_long_prompts_are_cut_with_a_warning(scorer, caplog):
    long = " ".join("abcdefghijklmnopqrstuvwxyz")
    with caplog.at_level("WARNING", logger="fsd_gs"):
        cut = scorer.embed_text(long)
    assert "28 tokens, the model reads 16" in caplog.text
    torch.testing.assert_close(cut, scorer.embed_text(long[: 2 * 14]))  # begin and end token take two


def test_bad_input(scorer):
    with pytest.raises(InputError, match=r"prompt: expected some words, got an empty prompt"):
        scorer.alignment(pictures(1, SIZE, SIZE), "  ")
    with pytest.raises(InputError, match=r"images: expected shape \[B, 3, H, W\], got \[1, 32, 32, 3\]"):
        scorer.embed(torch.rand(1, 32, 32, 3))
    with pytest.raises(InputError, match=r"expected floats in \[0, 1\], got uint8; divide by 255"):
        scorer.embed(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"expected finite values in \[0, 1\], got -1 to 1"):
        scorer.embed(torch.linspace(-1, 1, 3 * 16).reshape(1, 3, 4, 4))
    with pytest.raises(InputError, match=r"expected finite values in \[0, 1\], got nan"):
        scorer.embed(torch.full((1, 3, 4, 4), float("nan")))


def test_missing_weights_say_which_where_and_how(folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        BackendError, match=r"offline mode is on; it needs config\.json, .* model\.safetensors of https://huggingface\.co/open"
    ):
        ClipScorer.load(offline=True)
    with pytest.raises(InputError, match=r"no folder '.*/nowhere'; expected a folder with config\.json.* or a hub id such as openai"):
        ClipScorer.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no folder 'ViT-B-32'"):
        ClipScorer.load("ViT-B-32")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
def test_incomplete_folders_name_the_file(folder, tmp_path, file):
    with pytest.raises(FileFormatError, match=rf"lacks {file}.*copy them from openai"):
        ClipScorer.load(copied(folder, tmp_path, file))


def test_pickles_are_refused_with_the_conversion(folder, tmp_path):
    copy = copied(folder, tmp_path, "model.safetensors")
    (copy / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(FileFormatError, match=r"lacks model\.safetensors; pickles are not read; convert once: python -c"):
        ClipScorer.load(copy)


def test_damaged_or_foreign_weights_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = copied(folder, tmp_path)
    state = load_file(folder / "model.safetensors")
    state.pop("visual_projection.weight")
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(FileFormatError, match=r"lack 1 tensors \(visual_projection\.weight"):
        ClipScorer.load(copy)
    (copy / "model.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(FileFormatError, match="are damaged"):
        ClipScorer.load(copy)
    shutil.copy(folder / "model.safetensors", copy)
    (copy / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(FileFormatError, match="model of type 'siglip', expected 'clip'"):
        ClipScorer.load(copy)
    shutil.copy(folder / "config.json", copy)
    (copy / "preprocessor_config.json").write_text('{"size": {"height": 224}}')
    with pytest.raises(FileFormatError, match=r"no preprocessing of a CLIP model"):
        ClipScorer.load(copy)


def test_the_cache_is_used_without_a_network(folder, tmp_path, monkeypatch, scorer):
    """The hub converts pickles in a pull request: configs in one revision, weights in another."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--tiny"
    main, converted = (repository / "snapshots" / digits for digits in ("a" * 40, "b" * 40))
    shutil.copytree(folder, main, ignore=shutil.ignore_patterns("*.safetensors"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    with pytest.raises(BackendError, match="'owner/tiny' is not in the local cache"):
        find_files("owner/tiny", offline=True)
    converted.mkdir()
    shutil.copy(folder / "model.safetensors", converted)
    cached = ClipScorer.load("owner/tiny", offline=True)
    assert cached.name == "clip:owner/tiny"
    images = pictures(2, SIZE, SIZE)
    torch.testing.assert_close(cached.embed(images), scorer.embed(images))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees(folder, scorer):
    images = pictures(2, 40, 40)
    on_gpu = ClipScorer.load(folder, device="cuda").alignment(images, "a red chair")
    torch.testing.assert_close(on_gpu.cpu(), scorer.alignment(images, "a red chair"), atol=0.05, rtol=0)
