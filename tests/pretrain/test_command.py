"""``fsd-gs train-prior`` from end to end: stages, Ctrl-C and going on, refused changes, a warm start, and a run with the result."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image

from fsd_gs.cli import main as fsd_gs
from fsd_gs.core.configure import flatten, read_yaml, rows_of, walk_values
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.pretrain.settings import PretrainConfig, load_pretrain_config
from fsd_gs.pretrain.shards import load_shard
from fsd_gs.pretrain.start import load_finished
from fsd_gs.pretrain.trainer import Trainer
from fsd_gs.priors import load
from fsd_gs.priors.backbones.nano import NanoPrior
from fsd_gs.priors.digests import verify

CONFIGS = Path(__file__).parent.parent.parent / "configs" / "nano"
TINY = str(CONFIGS / "tiny.yaml")


def train_prior(folder, *more):
    return fsd_gs(["train-prior", "--config", TINY, f"output={folder}", *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(exit code of a run interrupted at step 5 of the denoiser, its state then, exit code of the same command again, folder)."""
    folder, step = tmp_path_factory.mktemp("trained") / "run", Trainer.step

    def interrupted(self, data):
        if self.progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        first = train_prior(folder)
    state = json.loads((folder / "denoiser" / "state.json").read_text())
    return first, state, train_prior(folder), folder


@pytest.mark.long
def test_ctrl_c_saves_and_the_same_command_goes_on(trained):
    first, state, second, folder = trained
    assert (first, state["step"], second) == (130, 5, 0)
    lines = [json.loads(line)["step"] for line in (folder / "denoiser" / "log.jsonl").read_text().splitlines()]
    assert lines == [2, 4, 6, 8, 10, 12]


@pytest.mark.slow
def test_the_interrupted_training_ends_like_an_uninterrupted_one(trained, tmp_path):
    from safetensors.torch import load_file

    assert train_prior(tmp_path / "straight") == 0
    states = [load_file(path / "denoiser" / "state.safetensors") for path in (trained[3], tmp_path / "straight")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    assert json.loads((trained[3] / "prior" / "checksums.json").read_text())["unet/diffusion_pytorch_model.safetensors"]


@pytest.mark.long
def test_every_stage_left_its_result(trained):
    folder = trained[3]
    shard = load_shard(folder / "latents" / "shard-00001.safetensors")
    assert shard.pixels.shape == (6, 1, 2, 4, 16, 16)
    assert Image.open(folder / "preview.png").width > 100
    card = json.loads((verify(folder / "prior") / "card.json").read_text())
    assert card["data"] == {"source": "catalogue", "categories": ["mug", "key"], "objects": 12, "pictures": 24}
    assert (card["denoiser"]["steps"], card["autoencoder"]["steps"]) == (12, 12)
    assert card["autoencoder"]["psnr_db"] > 5
    weights = sum(p.stat().st_size for p in (folder / "prior").rglob("*.safetensors"))
    assert card["megabytes"] == pytest.approx(weights / 1e6, rel=0.25)  # headers weigh something where the tensors are tiny
    assert str(folder) not in json.dumps(card)


@pytest.mark.long
def test_a_finished_training_is_not_repeated(trained, capsys, monkeypatch):
    monkeypatch.setattr(Trainer, "step", None)
    before = (trained[3] / "prior" / "checksums.json").stat().st_mtime_ns
    assert train_prior(trained[3]) == 0
    assert (trained[3] / "prior" / "checksums.json").stat().st_mtime_ns == before
    assert "is there" in capsys.readouterr().out


@pytest.mark.slow
def test_more_steps_go_on_from_the_end(trained, tmp_path):
    import shutil

    folder = shutil.copytree(trained[3], tmp_path / "longer")
    assert train_prior(folder, "diffusion.steps=14") == 0
    assert json.loads((folder / "prior" / "card.json").read_text())["denoiser"]["steps"] == 14


@pytest.mark.long
@pytest.mark.parametrize("change", ["data.seed=1", "diffusion.channels=[32,32]", "data.categories=[mug]"])
def test_a_change_that_contradicts_the_folder_is_named(trained, capsys, change):
    assert train_prior(trained[3], change) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {change.split('=')[0]}: ")
    assert "was begun with" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_warm_start_begins_with_the_finished_weights(trained, tmp_path):
    finished = load_finished(load_pretrain_config([TINY], [f"init={trained[3] / 'prior'}"]))
    average = {}
    from safetensors.torch import load_file

    for name, value in load_file(trained[3] / "denoiser" / "state.safetensors").items():
        if name.startswith("average.unet."):
            average[name.removeprefix("average.unet.")] = value
    for name, value in finished.unet.named_parameters():
        torch.testing.assert_close(value, average[name], atol=1e-3, rtol=1e-3)  # half precision
    assert train_prior(tmp_path / "warm", "--init", str(trained[3] / "prior"), "diffusion.steps=2", "autoencoder.steps=2") == 0
    vocabularies = [(folder / "prior" / "tokenizer" / "tokenizer.json").read_text() for folder in (trained[3], tmp_path / "warm")]
    assert vocabularies[0] == vocabularies[1]


@pytest.mark.slow
def test_a_warm_start_on_meshes_learns_their_words_and_keeps_the_catalogue_decoder_and_head(trained, tmp_path):
    """Words, decoder and the part that draws: what ``--init`` brings along, and what it may learn beside it."""
    import shutil

    import trimesh

    start = shutil.copytree(trained[3] / "prior", tmp_path / "start")
    (start / "splats").mkdir()
    (start / "splats" / "config.json").write_text('{"kept": "as it is"}')
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    trimesh.creation.box().export(meshes / "zorp.obj")
    mixed = [f"data.meshes={meshes}", "data.catalogue_share=0.5", "data.often=[key]", "data.pictures=4", "diffusion.steps=2"]
    assert train_prior(tmp_path / "warm", "--init", str(start), *mixed, "autoencoder.steps=0") == 0
    made = tmp_path / "warm" / "prior"
    assert (made / "splats" / "config.json").read_text() == '{"kept": "as it is"}'
    assert (made / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() == (
        start / "vae" / "diffusion_pytorch_model.safetensors"
    ).read_bytes()
    assert "zorp</w>" in json.loads((made / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
    index = json.loads((made / "model_index.json").read_text())
    assert (index["vocabulary"], index["categories"]) == ("catalogue", ["mug", "key"])
    assert json.loads((made / "captions.json").read_text()) == ["zorp"]
    captions = {
        text
        for shard in (0, 1)
        for texts in load_shard(tmp_path / "warm" / "latents" / f"shard-0000{shard}.safetensors").captions
        for text in texts
    }
    assert "zorp" in captions
    assert any("mug" in text or "key" in text for text in captions)


def test_no_decoder_to_keep_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"autoencoder\.steps: expected at least 1 without init"):
        load_pretrain_config([TINY], ["autoencoder.steps=0"])


@pytest.mark.long
def test_a_warm_start_of_another_size_names_the_setting(trained):
    config = load_pretrain_config([TINY], [f"init={trained[3] / 'prior'}", "diffusion.channels=[32,32]"])
    with pytest.raises(InputError, match=r"diffusion\.channels: init=.* was trained with \[16, 32\], the settings say \[32, 32\]"):
        load_finished(config)
    with pytest.raises(InputError, match="init: expected the folder of a finished prior"):
        load_finished(load_pretrain_config([TINY], ["init=/nowhere"]))


@pytest.mark.slow
def test_splats_can_be_made_with_it(trained, tmp_path):
    assert (
        fsd_gs(
            [
                "train",
                "prompt=a red mug",
                f"prior.name={trained[3] / 'prior'}",
                f"output={tmp_path}",
                "steps=3",
                "device=cpu",
                "render.sizes=[32]",
                "splats.count=100",
                "outputs.turntable_frames=0",
                "outputs.timelapse=false",
                "guidance.cfg_scale=3",
            ]
        )
        == 0
    )
    assert list(tmp_path.rglob("splats.ply"))


@pytest.mark.slow
def test_several_processes_render_the_same_views(trained, tmp_path):
    from fsd_gs.pretrain.rendering import render_views
    from fsd_gs.pretrain.views import make_source

    data, seen = load_pretrain_config([TINY], ["data.workers=2"]).data, []
    render_views(make_source(data), data, tmp_path, seen.append)
    assert seen[-1] == 12
    for number in range(2):
        name = f"shard-{number:05d}.safetensors"
        assert torch.equal(load_shard(tmp_path / name).pixels, load_shard(trained[3] / "views" / name).pixels)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.sed=1", "unknown key 'data.sed'; did you mean 'data.seed'"),
        ("data.objects=0", r"data\.objects: expected a value of at least 1, got 0"),
        ("data.image_size=33", r"data\.image_size: expected a multiple of the autoencoder's factor 2"),
        ("data.elevation_deg=[40,0]", r"data\.elevation_deg: expected \[low, high\]"),
        ("data.pictures=100", r"data\.pictures: expected at most data\.objects \(12\), got 100"),
        ("data.mesh_up=x", r"data\.mesh_up: unknown name 'x'"),
        ("data.meshes=folder", r"data\.categories: expected none with data\.meshes"),
        ("autoencoder.channels=[16,24]", r"autoencoder\.channels: expected at least \[16, 32\]"),
        ("autoencoder.latent_channels=13", r"autoencoder\.latent_channels: expected at most the 12 numbers"),
        ("diffusion.channels=[24,32]", r"diffusion\.channels \(24\): expected a multiple of diffusion\.head_width 16"),
        ("diffusion.drop_text=1.0", r"diffusion\.drop_text: expected a value of at least 0 and below 1, got 1"),
        ("diffusion.lr=abc", "lr"),
    ],
)
def test_settings_that_cannot_work_are_named(override, message):
    with pytest.raises(ConfigError, match=message):
        load_pretrain_config([TINY], [override])


@pytest.mark.parametrize("name", ["default", "gpu", "own", "tiny"])
def test_the_shipped_settings_arrive(name):
    """Every value of the file, and what it does not say is the default."""
    written = flatten(*read_yaml(CONFIGS / f"{name}.yaml"), {row.key: row for row in rows_of(PretrainConfig)}, "")
    config = load_pretrain_config([CONFIGS / f"{name}.yaml"])
    assert dict(walk_values(config)) == dict(walk_values(PretrainConfig())) | written
    assert len(written) > 3 or name == "default"


@pytest.mark.parametrize("name", ["default", "gpu"])
def test_the_shipped_sizes_fit_the_package(name):
    from fsd_gs.pretrain.diffusion import make_text_encoder, make_unet

    config = load_pretrain_config([CONFIGS / f"{name}.yaml"])

    class Words:
        bos_token_id, eos_token_id, pad_token_id = 0, 1, 1

        def __len__(self):
            return 1100

    with torch.device("meta"):
        from diffusers import AutoencoderKL

        levels = len(config.autoencoder.channels)
        vae = AutoencoderKL(
            block_out_channels=tuple(config.autoencoder.channels),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=1,
            latent_channels=config.autoencoder.latent_channels,
            norm_num_groups=4,
            mid_block_add_attention=False,
        )
        parts = (make_unet(config.diffusion, 12, 16), make_text_encoder(config.diffusion, Words()), vae)
        assert sum(2 * p.numel() for part in parts for p in part.parameters()) <= 24e6


@pytest.mark.slow
def test_own_meshes_become_a_prior_with_free_prompts(tmp_path):
    import trimesh

    (tmp_path / "assets").mkdir()
    trimesh.creation.box().export(tmp_path / "assets" / "wooden_crate.ply")
    trimesh.creation.icosphere(1).export(tmp_path / "assets" / "glass_ball_02.ply")
    assert train_prior(tmp_path / "own", f"data.meshes={tmp_path / 'assets'}", "data.categories=[]", "diffusion.steps=2") == 0
    prior = load(tmp_path / "own" / "prior", dtype="float32")
    assert isinstance(prior, NanoPrior)
    assert prior.encode_text("a glass crate", "", None).prompt == "a glass crate"  # as it is: no vocabulary reads it
    index = json.loads((tmp_path / "own" / "prior" / "model_index.json").read_text())
    assert (index["vocabulary"], index["categories"]) == ("", [])
    card = (tmp_path / "own" / "prior" / "card.json").read_text()
    assert '"source": "assets"' in card
    assert str(tmp_path) not in card
