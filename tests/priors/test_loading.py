"""Finding and refusing weights: registry, cache, offline mode, gated repositories, pickles, broken folders, single files."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import ldm_layout
import pytest
import tiny_pipelines as tiny
import torch
from safetensors.torch import load_file, save_file

from fsd_gs import priors
from fsd_gs.errors import BackendError, FileFormatError, InputError
from fsd_gs.priors import LoadOptions, backbones, hub, mvdream_checkpoint
from fsd_gs.priors import text as text_module
from fsd_gs.priors.backbones.nano import WEIGHTS
from fsd_gs.priors.family import Published, Source
from fsd_gs.priors.loading import family_of

GOLDEN = Path(__file__).parent.parent / "golden" / "mvdream"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tiny.stable_diffusion(), tmp_path_factory.mktemp("loading") / "sd")


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """A hub cache with nothing in it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "cached_folder", lambda source: None)


@pytest.mark.parametrize(
    ("make", "family"),
    [
        (tiny.stable_diffusion, "sd"),
        (tiny.latent_consistency, "sd"),
        (tiny.stable_diffusion_xl, "sdxl"),
        (lambda: tiny.stable_diffusion_3(t5=False), "sd3"),
        (tiny.flux, "flux"),
    ],
)
def test_family_comes_from_the_configs_not_the_name(make, family, tmp_path):
    assert family_of(tiny.save(make(), tmp_path / "something-mvdream-flux-xl")).name == family


def test_not_a_pipeline_folder(tmp_path):
    with pytest.raises(FileFormatError, match="no diffusers pipeline folder"):
        priors.load(tmp_path)


@pytest.mark.parametrize("component", ["vae", "unet", "text_encoder", "tokenizer"])
def test_missing_component_is_named(copy, component):
    shutil.rmtree(copy / component)
    message = "neither a 'unet' nor a 'transformer'" if component == "unet" else f"the component '{component}' is missing"
    with pytest.raises(FileFormatError, match=message):
        priors.load(copy)


def test_missing_scheduler_is_named(copy):
    shutil.rmtree(copy / "scheduler")
    with pytest.raises(FileFormatError, match=r"scheduler_config\.json is missing"):
        priors.load(copy)


def test_pickle_weights_in_a_folder_are_refused(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), copy / "unet" / "diffusion_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(FileFormatError, match=r"only pickle weights \(diffusion_pytorch_model\.bin\), which can run code"):
        priors.load(copy)
    (copy / "unet" / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(FileFormatError, match="holds no weights"):
        priors.load(copy)


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pth"])
def test_pickle_checkpoints_are_refused(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    torch.save({"x": torch.zeros(1)}, file)
    with pytest.raises(FileFormatError, match="pickle checkpoints are refused because they can run code"):
        priors.load(file)


def test_truncated_weights_and_broken_json(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"unet cannot be loaded .*download or save it again"):
        priors.load(copy)
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(FileFormatError, match="not readable JSON"):
        priors.load(copy)


def test_inpainting_unet_is_refused(copy):
    config = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 9}))
    with pytest.raises(FileFormatError, match="takes 9 channels and gives 4; inpainting"):
        priors.load(copy)


def test_fp16_variant_files_are_found(folder, tmp_path):
    pipeline = tiny.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    prior = priors.load(tmp_path / "half")
    assert {p.dtype for p in prior.network.parameters()} == {torch.float32}


def test_unknown_names_and_missing_paths():
    with pytest.raises(InputError, match=r"prior: unknown name 'sd_15'; did you mean 'sd15'\?.*a hub id \(owner/name\) works as well"):
        priors.load("sd_15")
    with pytest.raises(FileFormatError, match=r"no file or folder './nowhere'"):
        priors.load("./nowhere")
    with pytest.raises(FileFormatError, match=r"no file or folder 'model\.safetensors'"):
        priors.load("model.safetensors")


def test_offline_environment_is_respected(monkeypatch, empty_cache):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: pytest.fail("contacted the hub"))
    for name in ("sd15", "someone/some-model"):
        with pytest.raises(BackendError, match=r"not in the local cache .* and offline mode is on; run once with a network"):
            priors.load(name)


def test_offline_option_is_respected(monkeypatch, empty_cache):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: pytest.fail("contacted the hub"))
    with pytest.raises(BackendError, match="offline mode is on"):
        priors.load("sd21", options=LoadOptions(offline=True))


def response_error(cls):
    """One of the hub's HTTP errors as its client raises it, whatever arguments this version wants."""
    error = cls.__new__(cls)
    Exception.__init__(error, "401 Client Error")
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            response_error(huggingface_hub.errors.GatedRepoError),
            r"is gated: accept its licence at https://\S+, then log in",
        ),
        (response_error(huggingface_hub.errors.RepositoryNotFoundError), r"does not exist \(any more\) or is private"),
        (ConnectionError("name resolution"), r"cannot be reached \(no network\?\); connect once"),
        (huggingface_hub.errors.OfflineModeIsEnabled("offline"), "cannot be reached"),
        (OSError(28, "No space left on device"), "disk of the cache is full"),
        (RuntimeError("strange\nmultiline"), "RuntimeError: strange"),
    ],
)
def test_hub_errors_become_one_line(monkeypatch, empty_cache, error, message):
    def refuse(*args, **settings):
        raise error

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(BackendError, match=message) as caught:
        priors.load("someone/some-model")
    assert "\n" not in str(caught.value)


def test_sources_are_tried_in_order_and_the_download_is_announced(monkeypatch, empty_cache, folder):
    """The first repository is gone, the second has two sets of weights: only the fp16 one is fetched, and said so before."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    entry = Published((Source("gone/model"), Source("kept/model", "abc")), 1.0, 1.0, "MIT")
    monkeypatch.setitem(backbones.published(), "sd15", entry)
    files = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    files += [f.replace(".safetensors", ".fp16.safetensors") for f in files if f.endswith(".safetensors")]
    files += ["v1-5-pruned.ckpt", "v1-5.safetensors", "unet/diffusion_pytorch_model.bin", "safety_checker/model.safetensors"]
    log: list = []

    def model_info(self, repo_id, revision=None, files_metadata=False):
        log.append(("asked", repo_id, revision))
        if repo_id == "gone/model":
            raise response_error(huggingface_hub.errors.RepositoryNotFoundError)
        return SimpleNamespace(sha="abc123", siblings=[SimpleNamespace(rfilename=f, size=100_000_000) for f in files])

    def snapshot_download(repo_id, revision=None, allow_patterns=None):
        log.append(("fetched", repo_id, revision, tuple(allow_patterns)))
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    found = hub.resolve("sd15", half=True, announce=lambda line: log.append(("said", line)))
    assert found == folder
    assert [entry[0] for entry in log] == ["asked", "asked", "said", "fetched"]
    fetched = log[3][3]
    assert log[3][1:3] == ("kept/model", "abc123")
    assert not [f for f in fetched if f.endswith((".bin", ".ckpt")) or f.startswith("safety_checker") or f == "v1-5.safetensors"]
    weights = sorted(f for f in fetched if f.endswith(".safetensors"))
    assert weights == [
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert f"downloading kept/model: {len(fetched)} files, {len(fetched) / 10:.1f} GB" in log[2][1]


def test_parts_of_repositories_are_fetched_alone_and_announced(monkeypatch, empty_cache, tmp_path):
    """An adapter's file, the folder of its encoder, a ControlNet at the top: what is needed of each, one line before, then the cache."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    names = ["models/a.safetensors", "models/a.bin", "models/other.safetensors"]
    for folder in ("models/encoder/", ""):
        names += [f"{folder}{name}" for name in ("config.json", "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin")]
    log: list = []

    def model_info(self, repo_id, revision=None, files_metadata=False):
        return SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=name, size=500_000_000) for name in names])

    def snapshot_download(repo_id, revision=None, allow_patterns=None, local_files_only=False):
        if local_files_only and not log:
            raise FileNotFoundError("not cached")
        log.append(tuple(sorted(allow_patterns or ())))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    said: list = []
    for name, half, fetched, gigabytes in (
        ("owner/name/models/a.safetensors", True, ("models/a.safetensors",), 0.5),
        ("owner/name/models/encoder", True, ("models/encoder/config.json", "models/encoder/model.fp16.safetensors"), 1.0),
        ("owner/name", False, ("config.json", "model.safetensors"), 1.0),
    ):
        log.clear()
        place = hub.resolve_part("prior.x", name, half=half, announce=said.append)
        assert place == tmp_path / name.removeprefix("owner/name").lstrip("/")
        assert log == [fetched]
        assert said.pop().startswith(f"downloading owner/name: {len(fetched)} files, {gigabytes:.1f} GB, to ")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.safetensors").touch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # from the cache
    assert hub.resolve_part("prior.x", "owner/name/models/a.safetensors", announce=pytest.fail) == tmp_path / "models" / "a.safetensors"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(FileFormatError, match=r"prior\.x: owner/name/nowhere holds no model with config\.json and \.safetensors weights"):
        hub.resolve_part("prior.x", "owner/name/nowhere", announce=pytest.fail)


def test_repository_with_pickles_only_is_refused():
    with pytest.raises(FileFormatError, match=r"'unet' has no \.safetensors weights \(pickles are refused\)"):
        hub.choose_files(["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin"], half=True)


def test_sharded_weights_come_with_the_index_of_their_variant():
    names = ["transformer/config.json"]
    for variant in ("", ".fp16"):
        names.append(f"transformer/diffusion_pytorch_model.safetensors.index{variant}.json")
        names += [f"transformer/diffusion_pytorch_model{variant}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for half, wanted in ((True, ".fp16"), (False, "")):
        chosen = hub.choose_files(names, half=half)
        assert len(chosen) == 4
        assert all((".fp16" in name) == bool(wanted) for name in chosen if name != "transformer/config.json")


def test_a_trained_prior_on_a_hub_comes_whole(tmp_path):
    """With the part that draws, captions and checksums, which would refuse it otherwise; a cache without one of them is not used."""
    files = {p.relative_to(WEIGHTS).as_posix() for p in WEIGHTS.rglob("*") if p.is_file()} | {"captions.json"}
    fetched = hub.choose_files([*files, "README.md", "outputs/a.ply", ".gitattributes"], half=True)
    assert set(fetched) == files
    assert "splats/model.safetensors" in fetched
    assert "captions.json" not in hub.choose_files([f for f in files if f != "checksums.json"], half=True)  # another's file of that name
    cached = shutil.copytree(WEIGHTS, tmp_path / "cached")
    assert hub.is_complete(cached)
    (cached / "splats" / "model.safetensors").unlink()
    assert not hub.is_complete(cached)


def test_cache_is_used_only_if_complete(folder, copy, monkeypatch):
    assert hub.is_complete(folder)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert not hub.is_complete(copy)
    shutil.copy(folder / "unet" / "diffusion_pytorch_model.safetensors", copy / "unet" / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "unet" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not hub.is_complete(copy)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(folder))
    assert hub.resolve("sd15", offline=True) == folder


@pytest.fixture(scope="module")
def single_file(tmp_path_factory):
    """A tiny SD in the original layout: the golden UNet without its cameras, with VAE and CLIP, and a folder with its configs."""
    root = tmp_path_factory.mktemp("single")
    official = json.loads((GOLDEN / "mvdream_tiny_unet_config.json").read_text())
    state = {k: v for k, v in load_file(GOLDEN / "mvdream_tiny_official_layout.safetensors").items() if "camera_embed" not in k}
    pipeline = tiny.stable_diffusion()
    plain = {k: v for k, v in mvdream_checkpoint.unet_config(official).items() if "class_embed" not in k}
    torch.manual_seed(11)
    pipeline.register_modules(unet=tiny.UNet2DConditionModel(**plain), text_encoder=tiny.CLIPTextModel(tiny.clip_config(40)).eval())
    configs = tiny.save(pipeline, root / "configs")
    state |= {**ldm_layout.vae_names(pipeline.vae.state_dict(), 2), **ldm_layout.clip_names(pipeline.text_encoder.state_dict())}
    save_file({k: v.contiguous().clone() for k, v in state.items()}, root / "model.safetensors")
    return root / "model.safetensors", configs, pipeline


def test_single_file_checkpoint(single_file):
    """The checkpoint's UNet is the golden one: with no cameras its output is known."""
    file, configs, pipeline = single_file
    prior = priors.load(file, options=LoadOptions(config=str(configs), view_prompts=None))
    expected = load_file(GOLDEN / "mvdream_tiny_expected.safetensors")
    embedding = text_module.Embedding(expected["text"])
    text = text_module.EmbeddedText("", "", embedding, text_module.Embedding(embedding.tokens[:1]))
    ours = prior.predict_noise(expected["latents"], prior.schedule.time(expected["timesteps"]), text, None, 1.0)
    torch.testing.assert_close(ours, expected["eps_no_camera"], rtol=0, atol=1e-5)
    rgb = torch.rand(1, 3, prior.image_size, prior.image_size)
    with torch.no_grad():
        torch.testing.assert_close(prior.encode(rgb), pipeline.vae.encode(2 * rgb - 1).latent_dist.mean * 0.18215, rtol=1e-4, atol=1e-5)
    tokens, _ = pipeline.encode_prompt("mug", "cpu", 1, False)
    torch.testing.assert_close(prior.encode_text("mug", "", None).positive.tokens, tokens, rtol=1e-4, atol=1e-5)
    prior.release_text_encoder()
    assert prior.encode_text("another", "", None).positive.tokens.shape == tokens.shape


def with_tensors(file, target, change):
    """A copy of a checkpoint whose tensors are what ``change`` makes of them."""
    save_file({k: v.contiguous().clone() for k, v in change(load_file(file)).items()}, target)
    return target


def test_the_averaged_weights_of_a_training_checkpoint_are_read(single_file, tmp_path):
    file, configs, _ = single_file
    prefix = "model.diffusion_model."

    def with_average(state):
        average = {"model_ema." + "".join(k.split(".")[1:]): v + 0.5 for k, v in state.items() if k.startswith(prefix)}
        return {**state, **average, "model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}

    options = LoadOptions(config=str(configs))
    plain = priors.load(file, options=options).network.state_dict()
    averaged = priors.load(with_tensors(file, tmp_path / "pruned.safetensors", with_average), options=options).network.state_dict()
    for name, value in plain.items():
        torch.testing.assert_close(averaged[name], value + 0.5)

    def torn(state):
        state = with_average(state)
        del state["model_ema.diffusion_modelout2weight"]
        return state

    with pytest.raises(FileFormatError, match=r"averaged weights \(model_ema\.\*\) lack model_ema\.diffusion_modelout2weight"):
        priors.load(with_tensors(file, tmp_path / "torn.safetensors", torn), options=options)


def original_layout(pipeline):
    """A pipeline's tensors as one file in the original layout."""
    state = {**ldm_layout.unet_names(pipeline.unet), **ldm_layout.vae_names(pipeline.vae.state_dict(), 2)}
    if hasattr(pipeline, "text_encoder_2"):
        state |= ldm_layout.clip_names(pipeline.text_encoder.state_dict(), "conditioner.embedders.0.transformer.")
        return state | ldm_layout.open_clip_names(pipeline.text_encoder_2.state_dict(), "conditioner.embedders.1.model.")
    return state | ldm_layout.clip_names(pipeline.text_encoder.state_dict())


@pytest.mark.parametrize("make", [tiny.stable_diffusion, lambda: tiny.stable_diffusion_xl(24)], ids=["sd15", "sdxl"])
def test_a_single_file_is_the_folder_of_the_same_weights(make, tmp_path):
    pipeline = make()
    folder = tiny.save(pipeline, tmp_path / "folder")
    file = tmp_path / "model.safetensors"
    save_file({k: v.contiguous().clone() for k, v in original_layout(pipeline).items()}, file)
    from_folder = priors.load(folder, options=LoadOptions(view_prompts=None))
    from_file = priors.load(file, options=LoadOptions(config=str(folder), view_prompts=None))
    assert type(from_file) is type(from_folder)
    assert from_file.image_size == from_folder.image_size
    x_t, t = torch.randn(2, *from_folder.latent_shape), torch.tensor(0.4)
    texts = [prior.encode_text("a mug", "red", None) for prior in (from_folder, from_file)]
    torch.testing.assert_close(texts[1].positive.tokens, texts[0].positive.tokens)
    expected, ours = (prior.predict_noise(x_t, t, text, None, 7.5) for prior, text in zip((from_folder, from_file), texts, strict=True))
    torch.testing.assert_close(ours, expected)
    rgb = torch.rand(1, 3, from_folder.image_size, from_folder.image_size)
    torch.testing.assert_close(from_file.encode(rgb), from_folder.encode(rgb))


def test_a_single_file_is_read_whole_or_not_at_all(single_file, tmp_path):
    file, configs, _ = single_file
    prefix = "model.diffusion_model."
    more = with_tensors(file, tmp_path / "more.safetensors", lambda s: {**s, prefix + "adapter.weight": torch.ones(2)})
    with pytest.raises(FileFormatError, match=r"more\.safetensors holds \d+ tensors of a UNet, the network of its configs has \d+"):
        priors.load(more, options=LoadOptions(config=str(configs)))
    bare = with_tensors(
        file, tmp_path / "bare.safetensors", lambda s: {k.removeprefix(prefix): v for k, v in s.items() if k.startswith(prefix)}
    )
    with pytest.raises(FileFormatError, match=r"bare\.safetensors holds a UNet alone"):
        priors.load(bare, options=LoadOptions(config=str(configs)))


def test_single_files_that_are_something_else(single_file, tmp_path):
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(FileFormatError, match=r"holds no Stable Diffusion UNet.*a LoRA goes to prior\.lora"):
        priors.load(tmp_path / "lora.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(single_file[0].read_bytes()[:100])
    with pytest.raises(FileFormatError, match="not a readable safetensors file"):
        priors.load(tmp_path / "cut.safetensors")
