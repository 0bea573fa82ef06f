"""The weights that ship with the package: whole, small, loadable, and they follow the words of a prompt as far as their card says."""

import json
import math
import shutil

import pytest
import tiny_pipelines as tiny
import torch

from fsd_gs import image2d, priors
from fsd_gs.config import load_config
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.export.formats import load_splats
from fsd_gs.metrics.judge import Judge
from fsd_gs.pretrain.settings import load_pretrain_config
from fsd_gs.pretrain.start import load_finished
from fsd_gs.priors.backbones.nano import WEIGHTS
from fsd_gs.priors.backbones.splat import SplatPrior
from fsd_gs.priors.digests import verify
from fsd_gs.priors.sampling import sample_views
from fsd_gs.priors.splat.draw import EPS_2D
from fsd_gs.render import make_rasterizer
from fsd_gs.render.settings import RasterizerSettings
from fsd_gs.train.build import initial_splats
from fsd_gs.train.command import main


@pytest.fixture(scope="module")
def prior() -> SplatPrior:
    loaded = priors.load("nano")
    assert isinstance(loaded, SplatPrior)
    return loaded


def test_the_folder_is_whole_and_small(tmp_path):
    files = [p for p in WEIGHTS.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 24e6
    assert max(p.stat().st_size for p in files) <= 16 * 2**20
    assert verify(WEIGHTS) == WEIGHTS
    damaged = shutil.copytree(WEIGHTS, tmp_path / "weights")
    file = damaged / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(FileFormatError, match="missing or damaged"):
        verify(damaged)


def test_its_configs_do_not_say_where_they_were_made():
    for path in WEIGHTS.rglob("*.json"):
        assert "_name_or_path" not in path.read_text(), path


def test_it_is_a_prior_that_knows_cameras_and_background(prior):
    assert isinstance(prior, priors.Prior)
    assert prior.names_background
    assert prior.views == 4
    assert prior.latent_shape == (12, 16, 16)
    assert prior.image_size == 64
    assert len(json.loads((WEIGHTS / "model_index.json").read_text())["categories"]) >= 30


def test_it_runs_in_bfloat16_where_the_cpu_is_made_for_it(monkeypatch, tmp_path):
    own = shutil.copytree(WEIGHTS, tmp_path / "own")  # trained by the user, for all that load knows
    fast, slow = torch.bfloat16, torch.float32
    for units, expected in (
        ({"amx_bf16": True}, fast),
        ({"avx512_bf16": True}, fast),
        ({"avx512_f": True, "amx_bf16": False}, slow),
        ({}, slow),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units, raising=False)
        assert priors.load("nano").dtype == priors.load(own).dtype == expected
        assert priors.load("nano", dtype="float32").dtype == torch.float32


def test_its_autoencoder_returns_what_it_encodes(prior):
    """Two flat squares: the encoder is linear, so colours survive exactly where patches are flat."""
    pictures = torch.ones(2, 3, 64, 64)
    pictures[0, :, 16:48, 16:48] = torch.tensor([0.9, 0.1, 0.2]).view(3, 1, 1)
    pictures[1, :, 16:48, 16:48] = torch.tensor([0.1, 0.3, 0.9]).view(3, 1, 1)
    decoded = prior.decode(prior.encode(pictures))
    assert (decoded - pictures)[:, :, 24:40, 24:40].abs().max() < 0.08
    assert (decoded - pictures).abs().mean() < 0.02


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_matrix_takes_the_place_of_its_encoder(dtype):
    prior = priors.load("nano", dtype=dtype)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    direction = torch.randn(2, 12, 16, 16, generator=torch.Generator().manual_seed(1))
    vae = priors.load("nano", dtype="float32").codec.vae
    wanted = vae.encode(2 * images - 1).latent_dist.mode()
    assert prior.code is not None
    found = prior.encode(images)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    slopes = [torch.autograd.grad((z * direction).sum(), images)[0] for z in (found, wanted)]
    torch.testing.assert_close(*slopes, atol=2e-3, rtol=1e-2)


def test_an_encoder_that_was_learned_stays_a_network(tmp_path):
    from safetensors.torch import load_file, save_file

    own = tiny.save_embedded_unet(tmp_path / "own")
    file = own / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    key = "encoder.mid_block.resnets.0.conv2.weight"
    tensors[key] = torch.randn(tensors[key].shape, generator=torch.Generator().manual_seed(0)).half()
    save_file(tensors, file, metadata={"format": "pt"})
    prior = priors.load(own, dtype="float32")
    assert prior.code is None
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(prior.encode(images), prior.codec.vae.encode(2 * images - 1).latent_dist.mode())
    with pytest.raises(FileFormatError, match="was not made by train-prior; start without init"):
        load_finished(load_pretrain_config([], [f"init={own}"]))


def test_what_it_draws_cannot_disagree(prior):
    """Its clean views at high noise are renders of the Gaussians that it names: drawn again from those, they are the same."""
    cameras = orbit_cameras([20.0, 110.0, 200.0, 290.0], 15.0, distance=2.2, fov_y_deg=49.1, width=64)
    text, white = prior.encode_text("a red chair", "", cameras, torch.ones(3)), torch.ones(4, 3, 1, 1)
    x_t = torch.randn(4, *prior.latent_shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor(0.999)
    clean, _ = prior.predict_clean_and_noise(x_t, t, text, cameras, 1.0)
    splats = prior.predict_splats(x_t, t, text, cameras, 1.0)  # guidance would leave [0, 1], where an asset's colours end
    shown = make_rasterizer("cpu", settings=RasterizerSettings(eps2d=EPS_2D))(splats, cameras, background=torch.ones(3)).rgb.permute(
        0, 3, 1, 2
    )
    assert prior.code is not None
    assert len(splats) > 300
    assert (shown - white).abs().mean() > 0.02, "there is something to be seen"
    assert ((prior.code.decode(clean) + 1) / 2 - shown).abs().mean() < 0.02


def test_prompts_outside_its_training_are_refused_with_a_way_out(prior):
    cameras = orbit_cameras([0.0, 90.0, 180.0, 270.0], 15.0, width=64)
    assert prior.encode_text("one cute crimson armchair", "", cameras).prompt == "a red chair with armrests"
    with pytest.raises(InputError, match=r"not trained on 'sneaker'.*--config exact"):
        prior.encode_text("a sneaker", "", cameras)
    with pytest.raises(InputError, match="names nothing that this prior knows; it knows chair, table, "):
        prior.encode_text("a qwertyuiop", "", cameras)


@pytest.mark.long
def test_samples_have_the_colour_and_background_that_were_asked_for(prior):
    prompts = ["a green tree", "a purple lamp", "a red chair", "a blue mug"]
    cameras = orbit_cameras([20.0, 110.0, 200.0, 290.0], 15.0, distance=2.2, fov_y_deg=49.1, width=64)
    generator = torch.Generator().manual_seed(0)
    views = sample_views(prior, prompts, cameras, generator=generator, steps=12, cfg_scale=2.5, background=torch.ones(3))
    assert views[:, :, :, :4, :4].mean() > 0.85  # white corners
    judge = Judge.load()
    asked = [judge.read(prompt).color for prompt in prompts]
    seen = [judge.modes(judge(images)).color for images in views]
    assert sum(a == s for a, s in zip(asked, seen, strict=True)) >= 3


@pytest.mark.long
def test_single_pictures_by_image2d_stand_on_the_background_it_was_told(prior):
    def corners(background):
        return image2d.generate(prior, "a mug", steps=20, cfg_scale=3.0, background=background).images[:, :, :4, :4].mean()

    assert corners(torch.ones(3)) > 0.8
    assert corners(torch.zeros(3)) < 0.2


def test_it_drives_a_run(tmp_path):
    arguments = ["prompt=a green tree", f"output={tmp_path}", "steps=2", "splats.count=200", "outputs.turntable_frames=0", "device=cpu"]
    assert main(["--config", "nano", *arguments], "train.py") == 0
    folder = tmp_path / "a-green-tree" / "seed-0000"
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(math.isfinite(row["loss"]) for row in rows)
    config = load_config([folder / "config.yaml"])
    start, end = initial_splats(config), load_splats(folder / "splats.ply")
    moved = torch.cdist(end.means, start.means).amin(1)  # cleaning may have dropped some
    assert (moved > 0).double().mean() > 0.9, "the prior's gradient reaches nearly every splat"
    assert moved.max() <= 2.1 * 3**0.5 * config.rates.means, "Adam's two steps, each at most the rate along every axis"
