"""MVDream against the original network's outputs, and every way of loading it.

golden/mvdream: a tiny random checkpoint in the official layout with the original implementation's outputs for 2 objects × 4 views.
"""

import json
from pathlib import Path

import ldm_layout
import pytest
import tiny_pipelines as tiny
import torch
from safetensors.torch import load_file, save_file

from fsd_gs import priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.guidance import TrainablePrior
from fsd_gs.priors import LoadOptions, mvdream_checkpoint
from fsd_gs.priors.backbones import mvdream
from fsd_gs.priors.family import Request
from fsd_gs.priors.text import EmbeddedText, Embedding

GOLDEN = Path(__file__).parent.parent / "golden" / "mvdream"
OFFICIAL = json.loads((GOLDEN / "mvdream_tiny_unet_config.json").read_text())
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def expected():
    return load_file(GOLDEN / "mvdream_tiny_expected.safetensors")


@pytest.fixture(scope="module")
def unet_state():
    return load_file(GOLDEN / "mvdream_tiny_official_layout.safetensors")


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """A tiny SD 2.x folder whose text is as wide as the golden network's context: configs, VAE, text encoder, tokenizer."""
    pipeline = tiny.stable_diffusion(cross_attention_dim=40)
    torch.manual_seed(3)
    pipeline.register_modules(text_encoder=tiny.CLIPTextModel(tiny.clip_config(40)).eval(), tokenizer=tiny.clip_tokenizer(pad_token="!"))
    return tiny.save(pipeline, tmp_path_factory.mktemp("mvdream") / "configs")


@pytest.fixture(scope="module")
def official_file(configs, unet_state, tmp_path_factory):
    """The whole official layout in one file: UNet, VAE, open_clip text encoder."""
    encoder = tiny.CLIPTextModel.from_pretrained(configs / "text_encoder")
    state = {**unet_state, **ldm_layout.vae_names(tiny.vae().state_dict(), 2), **ldm_layout.open_clip_names(encoder.state_dict())}
    file = tmp_path_factory.mktemp("official") / "sd-v2.1-base-4view.safetensors"
    save_file({k: v.contiguous().clone() for k, v in state.items()}, file)
    return file


@pytest.fixture(scope="module")
def prior(official_file, configs):
    return mvdream.load_official(Request(official_file, CPU, torch.float32, False, LoadOptions(config=str(configs))), OFFICIAL)


def given_text(expected) -> EmbeddedText:
    embedding = Embedding(expected["text"])
    return EmbeddedText("", "", embedding, Embedding(embedding.tokens[:1]))


# The golden cameras: azimuth 30° + 90° k and elevation 15° for both objects, in MVDream's own angles.
def golden_cameras():
    return orbit_cameras([30.0, 120.0, 210.0, 300.0] * 2, 15.0, distance=2.2)


def time_of(prior, expected):
    return prior.schedule.time(expected["timesteps"])


def test_matches_the_original_with_cameras(prior, expected):
    ours = prior.predict_noise(expected["latents"], time_of(prior, expected), given_text(expected), golden_cameras(), 1.0)
    torch.testing.assert_close(ours, expected["eps_multiview"], rtol=0, atol=1e-5)


def test_matches_the_original_without_cameras(prior, expected):
    ours = prior.predict_noise(expected["latents"], time_of(prior, expected), given_text(expected), None, 1.0)
    torch.testing.assert_close(ours, expected["eps_no_camera"], rtol=0, atol=1e-5)
    again = prior.predict_noise(expected["latents"], time_of(prior, expected), given_text(expected), golden_cameras(), 1.0)
    torch.testing.assert_close(again, expected["eps_multiview"], rtol=0, atol=1e-5)  # the 2D call leaves nothing behind


def test_both_cfg_halves_get_the_cameras_and_keep_the_order(prior, expected):
    x, t, cameras = expected["latents"], time_of(prior, expected), golden_cameras()
    text = given_text(expected)
    halves = [prior.predict_noise(x, t, text, cameras, s) for s in (0.0, 1.0)]
    torch.testing.assert_close(
        prior.predict_noise(x, t, text, cameras, 7.5), halves[0] + 7.5 * (halves[1] - halves[0]), rtol=1e-4, atol=2e-5
    )


def test_mistakes_would_be_seen(prior, expected):
    """Each mistake of the list in the format's notes moves the output far more than the tolerance of the golden tests."""
    x, t, text = expected["latents"], time_of(prior, expected), given_text(expected)
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])  # (f b) instead of (b f)
    turned = orbit_cameras([120.0, 210.0, 300.0, 30.0] * 2, 15.0)
    for cameras in (golden_cameras()[order], turned):
        wrong = prior.predict_noise(x, t, text, cameras, 1.0)
        assert (wrong - expected["eps_multiview"]).abs().max() > 1e-2
    single = mvdream_checkpoint.build_unet(load_file(GOLDEN / "mvdream_tiny_official_layout.safetensors"), OFFICIAL, torch.float32)
    with torch.no_grad():
        plain = single(x, expected["timesteps"], encoder_hidden_states=expected["text"], class_labels=expected["camera"]).sample
    assert (plain - expected["eps_multiview"]).abs().max() > 0.1


def reference_camera(elevation_deg: float, azimuth_deg: float) -> torch.Tensor:
    """MVDream's camera from its definition: y-up orbit with azimuth 0 at +z, axes (right, up, backward), then y-up → z-up."""
    elevation, azimuth = torch.deg2rad(torch.tensor([elevation_deg, azimuth_deg], dtype=torch.float64))
    position = torch.stack([elevation.cos() * azimuth.sin(), elevation.sin(), elevation.cos() * azimuth.cos()])
    backward = position / position.norm()
    right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), backward)
    right = right / right.norm()
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(backward, right), backward], dim=1)
    pose[:3, 3] = position
    z_up = torch.tensor([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    return (z_up @ pose).flatten()


@pytest.mark.parametrize("azimuth", [0.0, 30.0, 90.0, 200.0, 359.0])
@pytest.mark.parametrize("elevation", [-20.0, 0.0, 30.0])
def test_camera_numbers_follow_the_definition(azimuth, elevation):
    ours = mvdream.camera_numbers(orbit_cameras([azimuth], elevation, distance=3.3, fov_y_deg=35.0))[0]
    torch.testing.assert_close(ours.double(), reference_camera(elevation, azimuth), rtol=0, atol=1e-6)


def test_our_front_is_mvdreams_minus_y_on_the_unit_sphere(expected):
    front = mvdream.camera_numbers(orbit_cameras([0.0], 0.0, distance=5.0))[0].view(4, 4)
    torch.testing.assert_close(front[:3, 3], torch.tensor([0.0, -1.0, 0.0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(mvdream.camera_numbers(golden_cameras()), expected["camera"], rtol=0, atol=1e-6)


def test_official_file_brings_vae_and_text_encoder(prior, official_file, configs):
    reference = tiny.vae()
    small = torch.rand(1, 3, prior.image_size, prior.image_size)
    with torch.no_grad():
        latents = reference.encode(2 * small - 1).latent_dist.mean * 0.18215
    torch.testing.assert_close(prior.encode(small), latents, rtol=1e-5, atol=1e-5)
    encoder = tiny.CLIPTextModel.from_pretrained(configs / "text_encoder")
    ids = tiny.clip_tokenizer(pad_token="!")("mug, 3d asset", padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert ids[0, -1] == 0  # the original pads with token 0
    with torch.no_grad():
        tokens = encoder(ids)[0]
    torch.testing.assert_close(prior.encode_text("mug", "", golden_cameras()).positive.tokens, tokens, rtol=1e-4, atol=1e-5)


def test_pt_is_read_as_tensors_only(prior, official_file, configs, tmp_path, monkeypatch, expected):
    file = tmp_path / "renamed.pt"
    torch.save(load_file(official_file), file)
    monkeypatch.setattr(mvdream_checkpoint, "OFFICIAL_UNET", OFFICIAL)
    loaded = priors.load(file, options=LoadOptions(config=str(configs)))
    ours = loaded.predict_noise(expected["latents"], time_of(loaded, expected), given_text(expected), golden_cameras(), 1.0)
    torch.testing.assert_close(ours, expected["eps_multiview"], rtol=0, atol=1e-5)
    torch.save({"weights": torch.zeros(1), "code": tiny.stable_diffusion}, tmp_path / "evil.pt")
    with pytest.raises(FileFormatError, match="pickle checkpoints are refused"):
        priors.load(tmp_path / "evil.pt")


def test_folder_with_official_unet_names(configs, unet_state, tmp_path, expected):
    folder = tiny.save(tiny.StableDiffusionPipeline.from_pretrained(configs), tmp_path / "ashawkey")
    bare = {k.removeprefix("model.diffusion_model."): v for k, v in unet_state.items()}
    save_file(bare, folder / "unet" / "diffusion_pytorch_model.safetensors")
    (folder / "unet" / "config.json").write_text(json.dumps({**OFFICIAL, "_class_name": "MultiViewUNetModel", "ip_dim": 0}))
    prior = priors.load(folder)
    assert isinstance(prior, mvdream.MVDreamPrior)
    ours = prior.predict_noise(expected["latents"], time_of(prior, expected), given_text(expected), golden_cameras(), 1.0)
    torch.testing.assert_close(ours, expected["eps_multiview"], rtol=0, atol=1e-5)

    (folder / "unet" / "config.json").write_text(json.dumps({**OFFICIAL, "_class_name": "MultiViewUNetModel", "ip_dim": 16}))
    with pytest.raises(FileFormatError, match="ImageDream checkpoint, which needs a reference image"):
        priors.load(folder)
    without = {k: v for k, v in bare.items() if "camera_embed" not in k}
    (folder / "unet" / "config.json").write_text(json.dumps({**OFFICIAL, "_class_name": "MultiViewUNetModel"}))
    save_file(without, folder / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(FileFormatError, match=r"no camera weights \(camera_embed.0.weight"):
        priors.load(folder)


def test_own_folder_round_trip(prior, tmp_path, expected):
    folder = mvdream.save_folder(prior, tmp_path / "own")
    assert not list(folder.rglob("*.bin"))
    loaded = priors.load(folder)
    assert loaded.views == 4
    ours = loaded.predict_noise(expected["latents"], time_of(loaded, expected), given_text(expected), golden_cameras(), 1.0)
    torch.testing.assert_close(ours, expected["eps_multiview"], rtol=0, atol=1e-5)
    same = loaded.encode_text("x", "y", golden_cameras()), prior.encode_text("x", "y", golden_cameras())
    torch.testing.assert_close(same[0].positive.tokens, same[1].positive.tokens)

    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if not k.startswith("class_embedding")}, weights)
    with pytest.raises(FileFormatError, match="no camera weights"):
        priors.load(folder)


def test_incomplete_or_foreign_checkpoints_are_refused(unet_state):
    truncated = dict(list(unet_state.items())[:-1])
    with pytest.raises(FileFormatError, match="the UNet's weights do not fit"):
        mvdream_checkpoint.build_unet(truncated, OFFICIAL, torch.float32)
    imagedream = {**unet_state, "model.diffusion_model.image_embed.proj_in.weight": torch.zeros(1)}
    with pytest.raises(FileFormatError, match="ImageDream"):
        mvdream_checkpoint.convert_unet(imagedream, OFFICIAL)
    single_view = {k: v for k, v in unet_state.items() if "camera_embed" not in k}
    with pytest.raises(FileFormatError, match="has no camera weights"):
        mvdream_checkpoint.convert_unet(single_view, OFFICIAL)


def test_official_architecture_has_the_published_size():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**mvdream_checkpoint.unet_config(mvdream_checkpoint.OFFICIAL_UNET))
    assert len(unet.state_dict()) == 690
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(867.6e6, rel=1e-4)
    assert unet.config.attention_head_dim == [5, 10, 20, 20]


def test_prompts_get_the_suffix_once_and_only_with_cameras(prior, monkeypatch):
    asked = []
    embed = prior.bank.embed
    monkeypatch.setattr(prior.bank, "embed", lambda prompts: asked.append(prompts[0]) or embed(prompts))
    monkeypatch.setattr(prior.bank, "negative", lambda prompt: embed([prompt])[0])
    prior.encode_text("a chair", "ugly", golden_cameras())
    prior.encode_text("a chair, 3d asset", "ugly", golden_cameras())
    prior.encode_text("a chair", "ugly", None)
    assert asked == ["a chair, 3d asset", "a chair, 3d asset", "a chair"]


def test_views_that_do_not_fill_a_group(prior):
    text = prior.encode_text("a chair", "", orbit_cameras([0.0, 90.0, 180.0]))
    with pytest.raises(InputError, match="expected a multiple of the 4 views that are denoised jointly, got 3"):
        prior.predict_noise(torch.randn(3, 4, 8, 8), torch.tensor(0.5), text, orbit_cameras([0.0, 90.0, 180.0]), 1.0)


def test_trainable_lora_sees_the_cameras(prior):
    assert isinstance(prior, TrainablePrior)
    x, t, cameras = torch.randn(4, 4, 8, 8), torch.tensor(0.5), orbit_cameras([0.0, 90.0, 180.0, 270.0])
    text = prior.encode_text("a chair", "", cameras)
    frozen = prior.predict_noise(x, t, text, cameras, 1.0)
    parameters = prior.add_lora(2, torch.Generator().manual_seed(0))
    trainable = prior.predict_noise_trainable(x, t, text, cameras)
    torch.testing.assert_close(trainable.detach(), frozen, rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(trainable.square().sum(), parameters)
    assert sum(g.abs().sum() for g in gradients) > 0
    torch.testing.assert_close(prior.predict_noise(x, t, text, cameras, 1.0), frozen, rtol=1e-5, atol=1e-6)
