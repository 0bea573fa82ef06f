"""Training the splat-native prior: surfaces from views, the endless stream, the loss, and a trainer that resumes bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fsd_gs.catalogue.objects import make_object
from fsd_gs.catalogue.render import render_mesh, render_mesh_and_depth
from fsd_gs.core.backgrounds import composite
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.configure import decisive_values
from fsd_gs.errors import BusyError, ConfigError, FileFormatError
from fsd_gs.io import locked
from fsd_gs.pretrain.begin import begin
from fsd_gs.pretrain.splat import measure
from fsd_gs.pretrain.splat.batches import cameras_of, draw_batch, log_snr, shrink
from fsd_gs.pretrain.splat.command import main
from fsd_gs.pretrain.splat.loss import VoxelMap, noised, splat_loss
from fsd_gs.pretrain.splat.objects import draw_cameras, make_example, surface_voxels
from fsd_gs.pretrain.splat.settings import SplatPretrainConfig, load_splat_config
from fsd_gs.pretrain.splat.stream import MixedSource, Stream, load_examples, make_splat_source, save_examples, shard_path
from fsd_gs.pretrain.splat.trainer import SplatTrainer, split_parameters
from fsd_gs.priors.splat.network import NetworkSettings, SplatDenoiser
from fsd_gs.priors.splat.volume import RADIUS

SMALL = [
    *("data.categories=[mug,apple]", "data.image_size=64", "data.supersample=1", "data.free_views=2", "data.rigs=1", "data.captions=2"),
    *("data.shard=2", "data.window=4", "data.workers=0", "data.reuse=2"),
    *("network.cells=4", "network.lift_points=2", "network.emit_points=3", "network.kept=24", "network.early=1", "network.width=16"),
    *("network.depth=2", "network.heads=2", "network.view_features=3", "network.voxel_features=4", "network.head_width=8"),
    *(
        "network.text_rows=64",
        "network.text_width=8",
        "train.objects=2",
        "train.render_size=16",
        "train.log_every=1",
        "train.evaluate_every=0",
    ),
    *("train.preview_every_minutes=0", "train.warmup=1", "train.targets=[1,1]"),
]


def small(folder: Path, *extra: str) -> SplatPretrainConfig:
    return load_splat_config([], [*SMALL, f"output={folder}", *extra])


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


def test_the_surface_of_views_lies_on_the_mesh_and_has_its_colours():
    thing = make_splat_source(small(Path("x")).data).draw(0)
    cameras = orbit_cameras([40.0 * k for k in range(9)], [0.0, 30.0, 60.0] * 3, distance=2.2, width=64)
    views, depths = thing.render_with_depth(cameras)
    side = 24
    voxels, colors = surface_voxels(views, depths, cameras, side)
    assert len(voxels) > 100
    assert torch.equal(voxels, voxels.unique())
    index = torch.stack([voxels // side**2, voxels // side % side, voxels % side], dim=1)
    centers = (index + 0.5) / side * 2 * RADIUS - RADIUS
    vertices = torch.from_numpy(thing.object.mesh.vertices).float()
    assert torch.cdist(centers, vertices).amin(1).quantile(0.95) < 0.15
    assert ((colors >= 0) & (colors <= 1)).all()
    covered = views[views[..., 3] > 0.99][:, :3]
    assert torch.allclose(colors.mean(0), covered.mean(0), atol=0.12)


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


def test_examples_depend_on_seed_and_index_alone_and_survive_the_disk(tmp_path):
    config = small(tmp_path)
    source = make_splat_source(config.data)
    examples = [make_example(source, config.data, config.network, k) for k in range(2)]
    again = make_example(make_splat_source(config.data), config.data, config.network, 1)
    save_examples(examples, tmp_path / "s.safetensors")
    for one, other in zip([examples[1], examples[0]], [again, load_examples(tmp_path / "s.safetensors")[0]], strict=True):
        for name in ("views", "viewmats", "focal", "voxels", "colors"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.captions == other.captions
    (tmp_path / "s.safetensors").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="not a readable shard"):
        load_examples(tmp_path / "s.safetensors")


def test_the_window_slides_with_the_objects_used(tmp_path):
    config = small(tmp_path)
    stream = Stream(config.data, config.network, tmp_path / "objects", lambda: None)
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
    config = small(tmp_path)
    with Stream(config.data, config.network, tmp_path / "here", lambda: None) as here:
        expected = here.example(3, 0)
    data = replace(config.data, workers=2)
    with Stream(data, config.network, tmp_path / "there", lambda: None) as there:
        there.begin(0)
        found = there.example(3, 0)
    assert torch.equal(expected.views, found.views)
    assert torch.equal(expected.voxels, found.voxels)


def batch_of(config: SplatPretrainConfig, seed: int = 0, **changes: object):
    source = make_splat_source(config.data)
    examples = [make_example(source, config.data, config.network, k) for k in range(2)]
    train = replace(config.train, **changes)
    generator = torch.Generator().manual_seed(seed)
    return examples, draw_batch(lambda n: examples[n], (0, 2), config.data, train, config.network.text_rows, generator)


def test_a_batch_shows_what_its_cameras_see(tmp_path):
    config = small(tmp_path)
    examples, batch = batch_of(config, odd_views=0.0, drop_text=0.0, hide_background=0.0)
    assert batch.clean.shape == (2, 4, 3, 64, 64)
    assert batch.condition.words.present.any(1).all()
    assert torch.equal(batch.condition.background, 2 * batch.backgrounds - 1)
    assert 0 < batch.t[0] < 0.5 < batch.t[1] < 1  # stratified
    # The first object's rig over its background is what is in the batch.
    for b in range(2):
        candidates = [composite(shrink(e.views[:4], 64), batch.backgrounds[b][:, None, None]) * 2 - 1 for e in examples]
        assert min((batch.clean[b] - c).abs().max().item() for c in candidates) < 1e-6
    cameras, rays = cameras_of(examples[0], np.arange(4), 64)
    assert torch.allclose(rays.focal[:, 0] * 64, cameras.Ks[:, 0, 0])
    x_t = noised(batch)
    ratio = ((x_t - batch.clean * (batch.t * torch.pi / 2).cos().view(2, 1, 1, 1, 1)).square().mean((1, 2, 3, 4))).sqrt()
    assert torch.allclose(ratio, (batch.t * torch.pi / 2).sin(), atol=0.02)
    alpha2 = torch.sigmoid(batch.condition.log_snr)
    assert torch.allclose(alpha2.sqrt(), (batch.t * torch.pi / 2).cos(), atol=1e-5)
    assert log_snr(torch.tensor(0.5)).abs() < 1e-6


def test_dropped_words_and_hidden_backgrounds(tmp_path):
    _, batch = batch_of(small(tmp_path), drop_text=1.0, hide_background=1.0, odd_views=1.0)
    assert not batch.condition.words.present.any()
    assert not batch.condition.known.any()
    assert batch.clean.shape[1] in (1, 2, 3, 6)


def test_voxels_belong_to_their_cells():
    network = SplatDenoiser(small(Path("x")).network)
    voxel_map = VoxelMap(network)
    side = 12
    points = network.centers[:, None] + network.emit_offsets
    index = ((points + RADIUS) / (2 * RADIUS) * side).floor().long()
    flat = (index[..., 0] * side + index[..., 1]) * side + index[..., 2]
    assert torch.equal(voxel_map.of_cell, flat)
    assert len(flat.unique()) == flat.numel()  # every Gaussian has a voxel of its own
    holds, colors = voxel_map.truth(flat[5, :2].int(), torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    assert holds.sum() == 2
    assert holds[5, :2].all()
    assert colors[5, 1].tolist() == [0, 1, 0]


def test_every_part_of_the_loss_reaches_the_network(tmp_path):
    config = small(tmp_path)
    network = SplatDenoiser(config.network)
    _, batch = batch_of(config, hide_background=1.0)
    terms = splat_loss(network, batch, VoxelMap(network), torch.ones(2, dtype=torch.bool), config.train, None)
    terms.total.backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None]
    assert silent == []
    assert terms.pixels.shape == (2,)


@pytest.mark.long
def test_one_batch_is_learned(tmp_path):
    """The same two objects again and again at little noise: the error of the renders falls to a fraction."""
    config = small(tmp_path, "train.render_size=32", "train.targets=[2,0]")
    torch.manual_seed(0)
    network = SplatDenoiser(config.network)
    voxel_map = VoxelMap(network)
    _, batch = batch_of(config, odd_views=0.0, targets=[2, 0], render_size=32)
    batch = replace(batch, t=torch.full((2,), 0.1), condition=replace(batch.condition, log_snr=log_snr(torch.full((2,), 0.1))))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    show = torch.ones(2, dtype=torch.bool)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        terms = splat_loss(network, batch, voxel_map, show, config.train, None)
        terms.total.backward()
        optimizer.step()
        history.append(terms.pixels.mean().item())
    assert history[-1] < 0.4 * history[0]


def test_resuming_gives_the_same_bits(tmp_path):
    config = small(tmp_path)

    def run(trainer: SplatTrainer, steps: int, name: str) -> SplatTrainer:
        with Stream(config.data, config.network, tmp_path / name, lambda: None) as stream:
            for _ in range(steps):
                trainer.step(stream)
        return trainer

    straight = run(SplatTrainer(config, torch.device("cpu")), 4, "a")
    half = run(SplatTrainer(config, torch.device("cpu")), 2, "b")
    half.save(tmp_path)
    resumed = SplatTrainer(config, torch.device("cpu"))
    resumed.load(tmp_path)
    assert resumed.progress.objects == 4
    run(resumed, 2, "c")  # another folder: the shards are rendered again
    for (name, one), other in zip(straight.network.named_parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other), name
    for name, value in straight.average.values.items():
        assert torch.equal(value, resumed.average.values[name]), name
    assert straight.progress.step == resumed.progress.step == 4


def test_the_matrices_go_to_muon_and_everything_goes_somewhere():
    network = SplatDenoiser(NetworkSettings())
    matrices, others = split_parameters(network)
    assert {id(p) for p in (*matrices, *others)} == {id(p) for p in network.parameters()}
    assert len(matrices) + len(others) == len(list(network.parameters()))
    assert all(p.ndim == 2 for p in matrices)
    assert sum(p.numel() for p in matrices) > 0.7 * sum(p.numel() for p in network.parameters())


@pytest.mark.long
def test_the_command_trains_stops_goes_on_and_leaves_a_log(tmp_path, capsys):
    arguments = [*SMALL, f"output={tmp_path}", "train.evaluate_every=2"]
    assert main([*arguments, "train.steps=2"]) == 0
    assert main([*arguments, "train.steps=3"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "error" in row] == [1, 2, 3]
    (held_out,) = [row["held_out"] for row in rows if "held_out" in row]
    assert set(held_out) == {str(t) for t in measure.LEVELS}
    assert all(value > 0 for pair in held_out.values() for value in pair)
    assert "to use it" in capsys.readouterr().out


def test_one_training_a_folder(tmp_path):
    with locked(tmp_path / ".lock", "busy"), pytest.raises(BusyError, match="another process is training there"):
        main([*SMALL, f"output={tmp_path}", "train.steps=1"])
    assert not (tmp_path / "state.safetensors").exists()


def test_a_finished_prior_is_a_start(tmp_path):
    from fsd_gs.errors import InputError
    from fsd_gs.priors.splat.folder import load_network

    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*SMALL, f"output={first}", "train.steps=1"]) == 0
    finished = load_network(first / "prior", torch.device("cpu"))
    config = small(second)
    trainer = SplatTrainer(config, torch.device("cpu"))
    trainer.start_from(finished)
    for (name, one), other in zip(trainer.network.named_parameters(), finished.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert torch.equal(trainer.average.values[name], other), name
    with pytest.raises(ConfigError, match=r"network\.depth: the prior to start from has 2, the settings say 3"):
        SplatTrainer(small(second, "network.depth=3"), torch.device("cpu")).start_from(finished)
    assert main([*SMALL, f"output={second}", "train.steps=1", "--init", str(first / "prior")]) == 0
    for wrong in ("nano", str(tmp_path)):
        with pytest.raises(InputError, match="init: "):
            main([*SMALL, f"output={tmp_path / 'third'}", "train.steps=1", f"init={wrong}"])


def test_a_setting_newer_than_the_folder_had_its_default(tmp_path):
    begin(small(tmp_path))
    begun = json.loads((tmp_path / "begun.json").read_text())
    del begun["data.catalogue_share"]
    (tmp_path / "begun.json").write_text(json.dumps(begun))
    begin(small(tmp_path))
    (tmp_path / "begun.json").write_text(json.dumps(begun))
    with pytest.raises(ConfigError, match=r"data\.catalogue_share: .*was begun with 0\.0, now it is 0\.5"):
        begin(small(tmp_path, "data.catalogue_share=0.5"))


def test_a_mixture_draws_from_both_and_each_index_stays(tmp_path):
    mug, apple = (make_splat_source(small(tmp_path, f"data.categories=[{kind}]").data) for kind in ("mug", "apple"))
    mixed = MixedSource(mug, apple, 0.3)
    kinds = [mixed.draw(k).object.category for k in range(60)]
    assert 8 <= kinds.count("apple") <= 28
    assert [mixed.draw(k).object.category for k in (5, 6)] == kinds[5:7]
    assert {"mug", "apple"} <= set(mixed.words)


def test_a_folder_keeps_to_the_settings_it_was_begun_with(tmp_path):
    begin(small(tmp_path))
    begin(small(tmp_path, "train.lr=0.001", "train.steps=5"))  # free ones may change
    with pytest.raises(ConfigError, match=r"train\.objects: .*was begun with 2, now it is 3"):
        begin(small(tmp_path, "train.objects=3"))
    assert "train.lr" not in decisive_values(small(tmp_path))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image_size=96", "data.image_size: expected a multiple of 64"),
        ("train.render_size=48", "train.render_size: expected a divisor"),
        ("train.targets=[0,0]", "train.targets: expected two counts"),
        ("data.elevation_deg=[20,-20]", r"data.elevation_deg: expected \[low, high\]"),
        ("network.heads=3", "network.width: expected a multiple"),
        ("network.early=2", "network.early: expected a block"),
        ("data.window=1", "data.window: expected at least data.shard"),
        ("train.drop_text=2", r"train\.drop_text: expected"),
        ("train.wings=2", "wings"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        small(tmp_path, override)


def test_a_preview_is_a_picture_of_every_caption(tmp_path):
    network = SplatDenoiser(small(tmp_path).network).eval()
    picture = measure.preview(network, ("a mug", "an apple"), steps=2)
    assert picture.shape == (2 * 128, 6 * 128, 3)
    assert picture.min() < 255  # an untrained network draws fog, not nothing
