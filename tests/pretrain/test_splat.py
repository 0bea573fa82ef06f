"""Training the splat-native prior: its examples, the endless stream, batches, the loss, and a trainer that resumes bit for bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from fsd_gs import priors
from fsd_gs.catalogue.objects import make_object
from fsd_gs.catalogue.render import render_mesh, render_mesh_and_depth
from fsd_gs.core.backgrounds import composite
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.configure import decisive_values
from fsd_gs.errors import BusyError, ConfigError, FileFormatError, InputError
from fsd_gs.io import locked
from fsd_gs.pretrain.autoencoder import make_autoencoder
from fsd_gs.pretrain.begin import begin
from fsd_gs.pretrain.diffusion import Denoiser, make_text_encoder, make_unet
from fsd_gs.pretrain.folder import save_prior
from fsd_gs.pretrain.mixture import MixedSource
from fsd_gs.pretrain.patch_code import fit_patch_code, smallest_channels
from fsd_gs.pretrain.settings import AutoencoderSettings, DiffusionSettings
from fsd_gs.pretrain.splat import measure
from fsd_gs.pretrain.splat.batches import OTHER_COUNTS, SplatBatch, cameras_of, draw_batch, shrink
from fsd_gs.pretrain.splat.command import main
from fsd_gs.pretrain.splat.loss import noised, splat_loss
from fsd_gs.pretrain.splat.model import SplatModel, start_model
from fsd_gs.pretrain.splat.objects import SplatExample, draw_cameras, make_example, nearest_depths
from fsd_gs.pretrain.splat.settings import SIZE, SplatPretrainConfig, SplatTrainSettings, load_splat_config
from fsd_gs.pretrain.splat.stream import Stream, load_examples, make_splat_source, save_examples, shard_path
from fsd_gs.pretrain.splat.trainer import SplatTrainer, split_parameters
from fsd_gs.pretrain.start import learn_words, load_parts, start_tokenizer
from fsd_gs.priors.backbones.mvdream import camera_numbers
from fsd_gs.priors.backbones.splat import SplatPrior
from fsd_gs.priors.splat.draw import draw
from fsd_gs.priors.splat.folder import load_head
from fsd_gs.priors.splat.network import REACH, WithFeatures
from fsd_gs.priors.splat.volume import RADIUS, Rays

CPU = torch.device("cpu")
SMALL = (
    *("data.categories=[mug,apple]", "data.image_size=64", "data.supersample=1", "data.free_views=2", "data.rigs=1", "data.captions=2"),
    *("data.shard=2", "data.window=4", "data.workers=0", "data.reuse=2"),
    *("network.voxels=8", "network.volume_width=8", "network.volume_depth=1", "network.view_features=4", "network.patch_width=8"),
    *("network.samples=8", "network.looks=3", "network.look_step=0.05", "network.point_width=8"),
    *("train.objects=2", "train.log_every=1", "train.evaluate_every=0", "train.preview_every_minutes=0", "train.warmup=1"),
    *("train.targets=[1,1]", "train.odd_views=0", "train.fine=0"),
)


def small(folder: Path, *extra: str) -> SplatPretrainConfig:
    return load_splat_config([], [*SMALL, f"output={folder}", *extra])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """The folder of a prior with a tiny UNet that has learned nothing, of pictures of 64 pixels in patches of 4."""
    place = tmp_path_factory.mktemp("tiny")
    smooth = torch.rand(24, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    pictures = (torch.nn.functional.interpolate(smooth, size=16, mode="bilinear") * 255).round().byte()
    settings = DiffusionSettings(channels=[16, 32], head_width=16, text_width=32, text_layers=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = make_autoencoder(
            AutoencoderSettings(channels=smallest_channels(4), latent_channels=12), SIZE, fit_patch_code(pictures, 12, 4)
        )
        tokenizer = start_tokenizer(make_splat_source(small(place).data).words, place / "tokenizer", None)
        denoiser = Denoiser(make_unet(settings, 12, 16), make_text_encoder(settings, tokenizer), tokenizer)
    return save_prior(place / "prior", denoiser, vae, views=4, vocabulary="catalogue", categories=["mug", "apple"])


@pytest.fixture(scope="module")
def examples() -> list[SplatExample]:
    data = small(Path("x")).data
    source = make_splat_source(data)
    return [make_example(source, data, k) for k in range(2)]


def batch_of(examples: list[SplatExample], seed: int = 0, **changes: object) -> tuple[SplatBatch, SplatTrainSettings]:
    config = small(Path("x"))
    train = replace(config.train, **changes)
    return draw_batch(lambda n: examples[n], (0, 2), config.data, train, torch.Generator().manual_seed(seed)), train


def model_of(tiny: Path, tmp_path: Path) -> SplatModel:
    """One whose zero-initialised layers are not zero, so that everything matters."""
    model = start_model(str(tiny), make_splat_source(small(tmp_path).data).words, small(tmp_path).network, 0, tmp_path / "tokenizer", CPU)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in (model.head.volume.leave, model.head.points[4]):
            layer.weight.copy_(0.1 * torch.randn(layer.weight.shape, generator=generator))
        model.head.patches[2].bias[:16] -= 1.0  # the object covers a part of the pixels
    return model


def test_depth_is_that_of_the_surface_and_the_picture_is_unchanged():
    mesh = make_object("apple", 3).mesh
    cameras = orbit_cameras([0.0, 120.0], 20.0, distance=2.2, width=48)
    rgba, depth = render_mesh_and_depth(mesh, cameras)
    assert torch.equal(rgba, render_mesh(mesh, cameras))
    assert torch.equal(depth == 0, rgba[..., 3] == 0)
    # A full pixel's point lies on the mesh: no farther from the nearest vertex than its faces are large.
    full = rgba[0, ..., 3] == 1
    rows, columns = full.nonzero(as_tuple=True)
    z, K = depth[0][full], cameras.Ks[0]
    in_camera = torch.stack([(columns + 0.5 - K[0, 2]) / K[0, 0] * z, (rows + 0.5 - K[1, 2]) / K[1, 1] * z, z], dim=1)
    points = (in_camera - cameras.viewmats[0, :3, 3]) @ cameras.viewmats[0, :3, :3]
    nearest = torch.cdist(points, torch.from_numpy(mesh.vertices).float()).amin(1)
    assert nearest.max() < 0.15
    assert nearest.median() < 0.05


def test_the_nearest_depth_of_a_block_is_kept():
    depths = torch.zeros(1, 4, 4)
    depths[0, 0, 0], depths[0, 1, 1], depths[0, 0, 3] = 3.0, 2.0, 1.5
    assert nearest_depths(depths, 2).tolist() == [[[2.0, 1.5], [0.0, 0.0]]]
    assert torch.equal(nearest_depths(depths, 4), depths)


def test_cameras_keep_their_promises():
    data = small(Path("x"), "data.rigs=2", "data.free_views=40").data
    cameras = draw_cameras(data, np.random.default_rng(0))
    assert len(cameras) == 48
    azimuths = cameras.azimuths_deg[:8].view(2, 4)
    assert torch.allclose((azimuths - azimuths[:, :1]) % 360, torch.tensor([0.0, 90, 180, 270]), atol=1e-3)
    assert torch.allclose(cameras.distances[:4], torch.full((4,), 2.2), atol=1e-4)
    low, high = data.fov_y_deg
    assert ((cameras.fov_y_deg[8:] >= low - 1e-3) & (cameras.fov_y_deg[8:] <= high + 1e-3)).all()
    filled = RADIUS / (cameras.distances[8:] * (cameras.fov_y_deg[8:].deg2rad() / 2).sin())
    assert filled.min() > 0.79
    assert filled.max() < 1.11
    assert (cameras.distances > RADIUS).all()


def test_examples_depend_on_seed_and_index_alone_and_survive_the_disk(examples, tmp_path):
    data = small(tmp_path).data
    again = make_example(make_splat_source(data), data, 1)
    save_examples(examples, tmp_path / "s.safetensors")
    for one, other in zip([examples[1], examples[0]], [again, load_examples(tmp_path / "s.safetensors")[0]], strict=True):
        for name in ("views", "depths", "viewmats", "focal"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.captions == other.captions
    (tmp_path / "s.safetensors").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="not a readable shard"):
        load_examples(tmp_path / "s.safetensors")


def test_the_window_slides_with_the_objects_used(tmp_path):
    stream = Stream(small(tmp_path).data, tmp_path / "objects", lambda: None)
    assert stream.bounds(0) == (0, 4)
    assert stream.bounds(7) == (3, 7)  # reuse 2: seven objects used, three new ones
    with stream:
        first = stream.example(1, 0)
        assert stream.example(1, 1) is first  # loaded once
        stream.example(5, 4)
        assert shard_path(stream.folder, 0).is_file() is False  # [2, 6): the first shard is used up
        assert shard_path(stream.folder, 2).is_file()


@pytest.mark.long
def test_workers_render_the_same_shards(tmp_path):
    data = small(tmp_path).data
    with Stream(data, tmp_path / "here", lambda: None) as here:
        expected = here.example(3, 0)
    with Stream(replace(data, workers=2), tmp_path / "there", lambda: None) as there:
        there.begin(0)
        found = there.example(3, 0)
    assert torch.equal(expected.views, found.views)
    assert torch.equal(expected.depths, found.depths)


def source_of(thing: SplatExample, viewmat: Tensor) -> int:
    """Which of its cameras this is."""
    (places,) = (thing.viewmats == viewmat).all((1, 2)).nonzero(as_tuple=True)
    return int(places[0])


def test_a_batch_shows_what_its_cameras_see(examples):
    batch, _ = batch_of(examples, drop_text=0.0, targets=[2, 1])
    assert batch.clean.shape == (2, 4, 4, SIZE, SIZE)
    assert 0 <= batch.n[batch.n < 500] < 500 <= batch.n[batch.n >= 500] < 1000  # stratified
    for b, thing in enumerate(batch.captions):
        (shown,) = [e for e in examples if torch.equal(e.viewmats[:4], batch.rays.viewmats[b])]  # the rig
        assert any(thing.startswith(caption) for caption in shown.captions)
        assert torch.equal(batch.clean[b], shrink(shown.views[:4], SIZE))
        assert torch.equal(batch.depths[b], shown.depths[:4].float())
        cameras = cameras_of(shown, np.arange(4), SIZE)
        assert torch.allclose(batch.rays[b].focal, Rays.of(cameras).focal)
        assert torch.equal(batch.numbers[4 * b : 4 * b + 4], camera_numbers(cameras))
        assert torch.allclose(batch.views[b], composite(batch.clean[b], batch.backgrounds[b][:, None, None]))
        places = [source_of(shown, viewmat) for viewmat in batch.cameras[b].viewmats]
        assert sum(place < 4 for place in places[:2]) == 2
        assert places[2] >= 4
        assert torch.equal(batch.targets[b], shrink(shown.views[places], SIZE))
    full, near = batch.clean[:, :, 3] == 1, batch.depths
    assert (near[full] > 0).all()
    assert not near[batch.clean[:, :, 3] == 0].any()
    distances = batch.rays.positions.norm(dim=-1)[..., None, None].expand_as(near)
    assert ((near - distances)[full].abs() < RADIUS + 0.05).all()
    again, _ = batch_of(examples, drop_text=0.0, targets=[2, 1])
    assert torch.equal(again.clean, batch.clean)
    assert again.captions == batch.captions
    assert torch.equal(again.n, batch.n)


def test_fine_targets_are_stored_views_as_they_are(tmp_path):
    data = small(tmp_path, "data.image_size=128").data
    thing = make_example(make_splat_source(data), data, 0)
    train = small(tmp_path, "train.fine=1", "train.objects=1").train
    batch = draw_batch(lambda _: thing, (0, 1), data, train, torch.Generator().manual_seed(0))
    assert batch.clean.shape[-1] == SIZE
    assert batch.targets[0].shape == (2, 4, 128, 128)
    assert batch.cameras[0].width == 128
    place = source_of(thing, batch.cameras[0].viewmats[0])
    assert torch.equal(batch.targets[0][0], thing.views[place].permute(2, 0, 1).float() / 255)
    assert torch.allclose(batch.cameras[0].Ks[0, 0, 0], 128 * thing.focal[place])


def test_dropped_words_and_odd_numbers_of_views(examples):
    batches = [batch_of(examples, seed, drop_text=1.0, odd_views=1.0)[0] for seed in range(12)]
    assert {batch.clean.shape[1] for batch in batches} == set(OTHER_COUNTS)
    for batch in batches:
        assert all(caption == "" or caption.startswith(("on a ", "on an ")) for caption in batch.captions)
        assert batch.numbers.shape == (2 * batch.clean.shape[1], 16)


def test_views_are_noised_with_the_variances_of_the_schedule(tiny, tmp_path, examples):
    model = model_of(tiny, tmp_path)
    batch, _ = batch_of(examples)
    batch = replace(batch, n=torch.tensor([100, 999]))
    z, x_t, alpha, sigma = noised(model, batch)
    assert torch.allclose(alpha.square() + sigma.square(), torch.ones(8, 1, 1, 1))
    assert torch.allclose(alpha[:4].square(), model.alphas_cumprod[100])
    assert alpha[4:].max() < 1e-3  # the last step is nothing but noise
    left = (x_t - alpha * z).square().mean((1, 2, 3)).sqrt()
    assert torch.allclose(left, sigma.flatten(), atol=0.06)
    assert (model.head.code.decode(z) - (2 * batch.views.flatten(0, 1) - 1)).abs().mean() < 0.1
    assert not torch.equal(x_t, noised(model, batch)[1])  # the noise goes on


def test_the_errors_of_the_renders_are_those_of_what_is_drawn(tiny, tmp_path, examples):
    model = model_of(tiny, tmp_path)
    batch, train = batch_of(examples, targets=[2, 1])
    terms = splat_loss(model, replace(batch, noise=torch.Generator().manual_seed(5)), train, torch.float32)
    _, x_t, alpha, sigma = noised(model, replace(batch, noise=torch.Generator().manual_seed(5)))
    with torch.no_grad():
        maps = model(x_t, batch, alpha, sigma, torch.float32)
        errors = []
        for b in range(2):
            wanted = composite(batch.targets[b], batch.backgrounds[b][:, None, None])
            errors.append(
                4
                * (draw(model.head.gaussians(maps, b, batch.rays), batch.cameras[b], batch.backgrounds[b])[0] - wanted)
                .square()
                .mean((1, 2, 3))
            )
    found = torch.stack(errors)
    assert terms.seen == pytest.approx(found[:, :2].mean().item(), rel=1e-4)
    assert terms.new == pytest.approx(found[:, 2].mean().item(), rel=1e-4)
    assert terms.total.item() > found.mean().item()
    assert 0 < terms.depth <= 0.3


def test_every_part_of_the_network_learns(tiny, tmp_path, examples):
    model = model_of(tiny, tmp_path)
    batch, train = batch_of(examples)
    splat_loss(model, batch, train, torch.float32).total.backward()
    silent = {name.split(".", 1)[1] for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-8}
    # One number added to all keys of a query: softmax does not see it.
    assert silent == {"unet.add_embedding.pool.k_proj.bias", "text_encoder.encoder.layers.0.self_attn.k_proj.bias"}
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("weight", "reached", "not_reached"),
    [
        ("views", ["denoiser.unet.conv_out.inner"], ["head."]),
        ("coverage", ["denoiser.unet.conv_in", "head.patches"], ["head.volume", "head.points"]),
        ("rays", ["denoiser.unet.conv_in", "head.volume"], ["head.points"]),
        ("depth", ["denoiser.unet.conv_in", "head.volume", "head.points"], []),
    ],
)
def test_each_term_teaches_what_it_is_about(tiny, tmp_path, examples, weight: str, reached: list[str], not_reached: list[str]):
    model = model_of(tiny, tmp_path)
    parameters, gradients = dict(model.named_parameters()), []
    for value in (0.0, 1.0):
        batch, train = batch_of(examples, objects=1, **{weight: value})
        gradients.append(torch.autograd.grad(splat_loss(model, batch, train, torch.float32).total, list(parameters.values())))
    moved = {name: float((b - a).abs().max()) for name, a, b in zip(parameters, *gradients, strict=True)}
    for prefix in reached:
        assert all(change > 1e-7 for name, change in moved.items() if name.startswith(prefix)), (prefix, moved)
    for prefix in not_reached:
        assert all(change < 1e-7 for name, change in moved.items() if name.startswith(prefix)), (prefix, moved)


@pytest.mark.long
def test_one_batch_is_learned(tiny, tmp_path, examples):
    """The same two objects again and again at little noise: renders and depths come near to the truth."""
    model = model_of(tiny, tmp_path)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    history = []
    for _ in range(60):
        batch, train = batch_of(examples, drop_text=0.0)
        terms = splat_loss(model, replace(batch, n=torch.full((2,), 50)), train, torch.float32)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        history.append(terms)
    first, last = history[0], history[-1]
    assert last.total < 0.5 * first.total
    assert last.seen < 0.3 * first.seen
    assert last.depth < 0.7 * first.depth < REACH + 0.3


def test_resuming_gives_the_same_bits(tiny, tmp_path):
    config = small(tmp_path, f"init={tiny}", "train.objects=1", "train.odd_views=0.5")
    words = make_splat_source(config.data).words

    def run(trainer: SplatTrainer, steps: int, name: str) -> SplatTrainer:
        with Stream(config.data, tmp_path / name, lambda: None) as stream:
            for _ in range(steps):
                trainer.step(stream)
        return trainer

    straight = run(SplatTrainer(config, words, tmp_path, CPU), 3, "a")
    half = run(SplatTrainer(config, words, tmp_path, CPU), 2, "a")
    half.save(tmp_path)
    resumed = SplatTrainer(config, words, tmp_path, CPU)
    resumed.load(tmp_path)
    assert resumed.progress.objects == 2
    run(resumed, 1, "b")  # another folder: the shards are rendered again
    for (name, one), other in zip(straight.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    for name, value in straight.average.values.items():
        assert torch.equal(value, resumed.average.values[name]), name
    assert straight.progress.step == resumed.progress.step == 3
    last = SplatTrainer(small(tmp_path, f"init={tiny}", "train.objects=3", "train.ema=900"), words, tmp_path, CPU)
    last.load(tmp_path)
    run(last, 1, "c")
    assert (last.progress.objects, last.average.horizon) == (5, 900)
    other = SplatTrainer(small(tmp_path, f"init={tiny}", "network.point_width=16"), words, tmp_path, CPU)
    with pytest.raises(FileFormatError, match="does not continue this training"):
        other.load(tmp_path)


def test_without_rates_the_network_before_the_head_is_left_out_and_the_head_learns_the_same(tiny, tmp_path, examples):
    gradients = []
    for rate in (1e-3, 0.0):
        model = model_of(tiny, tmp_path)
        batch, train = batch_of(examples)
        splat_loss(model, batch, replace(train, unet_lr=rate, unet_other_lr=rate), torch.float32).total.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all((gradients[1][name] is not None) == name.startswith("head.") for name in gradients[1])
    for name, gradient in gradients[1].items():
        if gradient is not None:
            torch.testing.assert_close(gradient, gradients[0][name], msg=name)


def test_rates_of_zero_train_the_head_alone(tiny, tmp_path):
    config = small(tmp_path, f"init={tiny}", "train.objects=1", "train.warmup=0", "train.unet_lr=0", "train.unet_other_lr=0")
    trainer = SplatTrainer(config, make_splat_source(config.data).words, tmp_path, CPU)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    with Stream(config.data, tmp_path, lambda: None) as stream:
        trainer.step(stream)
    moved = {name: not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters()}
    assert not any(changed for name, changed in moved.items() if not name.startswith("head."))
    assert any(changed for name, changed in moved.items() if name.startswith("head."))


def test_the_average_is_a_frozen_model_of_its_own(tiny, tmp_path):
    config = small(tmp_path, f"init={tiny}")
    trainer = SplatTrainer(config, make_splat_source(config.data).words, tmp_path, CPU)
    for value in trainer.average.values.values():
        value.zero_()
    averaged = trainer.averaged()
    assert not any(p.any() or p.requires_grad for p in averaged.parameters())
    assert any(p.any() for p in trainer.model.parameters())
    assert torch.equal(averaged.head.basis, trainer.model.head.basis)


def test_every_parameter_is_in_one_of_four_groups(tiny, tmp_path):
    model = model_of(tiny, tmp_path)
    groups = vars(split_parameters(model))
    counted = [id(p) for group in groups.values() for p in group]
    assert len(counted) == len(set(counted))
    assert set(counted) == {id(p) for p in model.parameters()}
    assert all(groups.values())
    names = {id(p): name for name, p in model.named_parameters()}
    for kind, group in groups.items():
        assert all(names[id(p)].startswith("head.") == kind.startswith("head") for p in group)
        assert kind.endswith("others") or all(p.ndim >= 2 for p in group)
    others = {names[id(p)] for p in groups["unet_others"]}
    for name in ("unet.conv_in.weight", "unet.conv_out.inner.weight", "text_encoder.embeddings.token_embedding.weight"):
        assert any(other.endswith(name.split(".", 1)[1]) for other in others), name


def test_known_words_need_no_new_tokenizer(tiny, tmp_path):
    parts = load_parts(tiny)
    assert learn_words(parts, make_splat_source(small(tmp_path).data).words, tmp_path / "tokenizer") is parts.tokenizer
    assert learn_words(parts, ["a RED mug", "3"], tmp_path / "tokenizer") is parts.tokenizer
    assert not (tmp_path / "tokenizer").exists()


def test_new_words_are_learned_beside_the_known_ones(tiny, tmp_path):
    parts, before = load_parts(tiny), load_parts(tiny)
    made = learn_words(parts, ["zorp", "Quillix", "red"], tmp_path / "tokenizer")
    for word in ("zorp", "quillix", "red", "mug", "turquoise", "background"):
        assert len(made(word).input_ids) == 3, word
    table, old = (p.text_encoder.get_input_embeddings().weight for p in (parts, before))
    known, numbers = before.tokenizer.get_vocab(), made.get_vocab()
    assert len(table) == len(made) == parts.text_encoder.config.vocab_size
    for token in ("<|startoftext|>", "<|endoftext|>", "red</w>", "mug</w>", "apple</w>"):
        assert torch.equal(table[numbers[token]], old[known[token]]), token
    assert table[numbers["zorp</w>"]].std().item() == pytest.approx(old.std().item(), rel=0.5)
    with torch.no_grad():
        text = ["a red mug, on a white background", "an apple with two leaves"]
        answers = [
            p.text_encoder(t(text, padding="max_length", max_length=32, return_tensors="pt").input_ids)
            for p, t in ((parts, made), (before, before.tokenizer))
        ]
    assert torch.equal(answers[0][0], answers[1][0])
    assert torch.equal(answers[0].pooler_output, answers[1].pooler_output)
    again = learn_words(load_parts(tiny), ["zorp", "Quillix", "red"], tmp_path / "tokenizer")
    assert again.get_vocab() == numbers


def test_words_in_any_letters_stay_known(tiny, tmp_path):
    parts = load_parts(tiny)
    first = learn_words(parts, ["stühle", "bébé"], tmp_path / "first")
    assert learn_words(replace(parts, tokenizer=first), ["bébé"], tmp_path / "second") is first
    table = parts.text_encoder.get_input_embeddings().weight.detach().clone()
    second = learn_words(replace(parts, tokenizer=first), ["zorp"], tmp_path / "second")
    for word in ("stühle", "bébé", "mug"):
        (_, old, _), (_, new, _) = (made(word).input_ids for made in (first, second))
        assert torch.equal(table[old], parts.text_encoder.get_input_embeddings().weight[new]), word


def test_a_finished_prior_is_a_start_with_its_head(tiny, tmp_path):
    config, model = small(tmp_path), model_of(tiny, tmp_path)
    words = [*make_splat_source(config.data).words, "zorp"]
    model.save(tmp_path / "prior", vocabulary="catalogue", categories=["mug", "apple"], card={})
    assert isinstance(model.denoiser.unet.conv_out, WithFeatures)  # as it was
    again = start_model(str(tmp_path / "prior"), words, config.network, 7, tmp_path / "tokenizer", CPU)
    assert len(again.denoiser.tokenizer("zorp").input_ids) == 3
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        if "token_embedding" not in name:
            assert torch.allclose(one, other, atol=2e-3), name
    assert all(p.requires_grad for p in again.parameters())
    with pytest.raises(InputError, match=r"network\.volume_width: the prior to start from has 8, the settings say 16; take its value"):
        start_model(str(tmp_path / "prior"), words, replace(config.network, volume_width=16), 0, tmp_path / "tokenizer", CPU)
    new = start_model(str(tiny), words, config.network, 1, tmp_path / "tokenizer", CPU)
    assert not new.head.volume.leave.weight.any()
    assert not torch.equal(new.head.patches[0].weight, model.head.patches[0].weight)


def test_a_start_that_is_no_folder_is_refused_before_anything_is_written(tmp_path):
    for wrong in (str(tmp_path), "elsewhere"):
        with pytest.raises(InputError, match="init: expected nano or the folder of a finished prior"):
            start_model(wrong, [], small(tmp_path).network, 0, tmp_path / "tokenizer", CPU)
        with pytest.raises(InputError, match="init: expected nano or the folder of a finished prior"):
            main([*SMALL, f"output={tmp_path / 'out'}", "train.steps=1", "--init", wrong])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_a_start_that_lacks_a_part_is_refused_by_name(tiny, tmp_path, part: str):
    own = shutil.copytree(tiny, tmp_path / "own")
    shutil.rmtree(own / part)
    with pytest.raises(FileFormatError, match=part):
        start_model(str(own), [], small(tmp_path).network, 0, tmp_path / "tokenizer", CPU)


@pytest.mark.long
def test_the_command_trains_stops_goes_on_and_leaves_a_log_and_a_prior(tiny, tmp_path, capsys):
    first = tmp_path / "first"
    arguments = [*SMALL, f"output={first}", "train.evaluate_every=2", f"init={tiny}"]
    assert main([*arguments, "train.steps=2"]) == 0
    assert main([*arguments, "train.steps=3"]) == 0
    rows = [json.loads(line) for line in (first / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "seen" in row] == [1, 2, 3]
    (held_out,) = [row["held_out"] for row in rows if "held_out" in row]
    assert set(held_out) == {str(n) for n in measure.LEVELS}
    assert all(value > 0 for pair in held_out.values() for value in pair)
    assert "to use it" in capsys.readouterr().out
    card = json.loads((first / "prior" / "card.json").read_text())
    assert card["training"]["steps"] == 3
    assert str(tmp_path) not in json.dumps(card)
    assert main([*arguments, "train.steps=3"]) == 0  # nothing left to do
    assert json.loads((first / "prior" / "card.json").read_text())["training"]["error"] is None
    finished = priors.load(first / "prior")
    assert isinstance(finished, SplatPrior)
    assert main([*SMALL, f"output={tmp_path / 'second'}", "train.steps=1", "--init", str(first / "prior")]) == 0
    head = load_head(tmp_path / "second" / "prior", finished.code, 16, CPU)
    assert sum((a - b).abs().max() < 0.1 for a, b in zip(head.parameters(), finished.head.parameters(), strict=True)) > 10


def test_one_training_a_folder(tmp_path):
    with locked(tmp_path / ".lock", "busy"), pytest.raises(BusyError, match="another process is training there"):
        main([*SMALL, f"output={tmp_path}", "train.steps=1"])
    assert not (tmp_path / "state.safetensors").exists()


def test_a_setting_newer_than_the_folder_had_its_default(tmp_path):
    begin(small(tmp_path))
    begun = json.loads((tmp_path / "begun.json").read_text())
    del begun["data.catalogue_share"]
    (tmp_path / "begun.json").write_text(json.dumps(begun))
    begin(small(tmp_path))
    (tmp_path / "begun.json").write_text(json.dumps(begun))
    with pytest.raises(ConfigError, match=r"data\.catalogue_share: .*was begun with 0\.0, now it is 0\.5"):
        begin(small(tmp_path, "data.catalogue_share=0.5"))


def test_a_mixture_draws_from_both_and_each_index_stays():
    mug, apple = (
        SimpleNamespace(draw=lambda k, kind=kind: (kind, k), words=("a", kind), captions=(f"a {kind}",)) for kind in ("mug", "apple")
    )
    mixed = MixedSource(mug, apple, 0.3)
    drawn = [mixed.draw(k) for k in range(200)]
    assert [index for _, index in drawn] == list(range(200))
    assert 40 <= [kind for kind, _ in drawn].count("apple") <= 80
    assert [mixed.draw(k) for k in (5, 6)] == drawn[5:7]
    assert mixed.words == ("a", "apple", "mug")


def test_a_folder_keeps_to_the_settings_it_was_begun_with(tmp_path):
    begin(small(tmp_path))
    begin(small(tmp_path, "train.lr=0.001", "train.steps=5", "train.objects=3", "train.ema=900"))  # free ones may change
    with pytest.raises(ConfigError, match=r"train\.views: .*was begun with 0\.2, now it is 0\.3"):
        begin(small(tmp_path, "train.views=0.3"))
    with pytest.raises(ConfigError, match=r"init: .*was begun with 'nano', now it is 'other'"):
        begin(small(tmp_path, "init=other"))
    assert "train.lr" not in decisive_values(small(tmp_path))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image_size=96", "data.image_size: expected a multiple of 64"),
        ("train.targets=[0,0]", "train.targets: expected two counts"),
        ("data.elevation_deg=[20,-20]", r"data.elevation_deg: expected \[low, high\]"),
        ("network.voxels=7", "network.voxels: expected an even number, got 7"),
        ("network.looks=0", r"network\.looks: expected"),
        ("data.window=1", "data.window: expected at least data.shard"),
        ("train.drop_text=2", r"train\.drop_text: expected"),
        ("train.wings=2", "wings"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        small(tmp_path, override)


def test_errors_on_held_out_objects_are_the_same_each_time(tiny, tmp_path, examples, monkeypatch):
    monkeypatch.setattr(measure, "LEVELS", (200, 950))
    model, config = model_of(tiny, tmp_path), small(tmp_path)
    found = measure.errors(model, examples[:1], config, torch.float32)
    assert set(found) == {200, 950}
    assert all(value > 0 for pair in found.values() for value in pair)
    assert measure.errors(model, examples[:1], config, torch.float32) == found
    (held_out,), trained = measure.held_out_examples(config, 1), make_example(make_splat_source(config.data), config.data, 10**6)
    assert not torch.equal(held_out.views, trained.views)


def test_a_preview_is_a_picture_of_every_caption(tiny, tmp_path):
    model_of(tiny, tmp_path).save(tmp_path / "prior", vocabulary="catalogue", categories=["mug", "apple"], card={})
    prior = priors.load(tmp_path / "prior", options=priors.LoadOptions(text_encoder="keep"))
    assert isinstance(prior, SplatPrior)
    picture = measure.preview(prior, ("a mug", "an apple"), steps=2)
    assert picture.shape == (2 * 128, 6 * 128, 3)
    assert picture.min() < 255  # an untrained network draws fog, not nothing
