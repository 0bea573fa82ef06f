"""The embedded judge: what ships with the package, its contracts, the prompts it reads, and its training."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from fsd_gs.catalogue.objects import CATEGORIES, CatalogueObject, article, make_object
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.catalogue.vocabulary import caption_variants, parse_prompt
from fsd_gs.core.backgrounds import composite
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.metrics import protocols
from fsd_gs.metrics.judge import RECORD, SHIPPED, WEIGHTS, Judge, JudgeOutput
from fsd_gs.metrics.judge.network import JudgeNetwork, JudgeSizes
from fsd_gs.metrics.judge.train import training
from fsd_gs.metrics.judge.train.augment import augment, gaussian_blur, quantize_blocks, to_float
from fsd_gs.metrics.judge.train.data import (
    CATEGORY_NAMES,
    COLOR_NAMES,
    DESIGN_NAMES,
    LAST_SEED,
    TEST_SEED,
    TRAIN_SEED,
    ViewSettings,
    label_arrays,
    load_or_render,
    recipes,
)
from fsd_gs.metrics.judge.train.export import clean_images, word_table
from fsd_gs.metrics.judge.words import WordTable

FRESH_SEED = TEST_SEED + 2**20  # beyond the objects that the card's scores are taken on
KINDS = ("chair", "mug", "teapot", "fish", "rocket", "windmill", "apple", "guitar", "umbrella", "cat")


@pytest.fixture(scope="module")
def judge():
    return Judge.load()


@pytest.fixture(scope="module")
def orbits():
    """(object, images [6, 3, 96, 96] on gray) of ten kinds, at another size than the judge's own."""
    cameras = evaluation_orbit(6, distance=2.2, width=96)
    built = [make_object(kind, FRESH_SEED + i) for i, kind in enumerate(KINDS)]
    views = [render_mesh(o.mesh, cameras, supersample=2).permute(0, 3, 1, 2) for o in built]
    return [(o, composite(v, torch.full((1, 3, 1, 1), 0.5))) for o, v in zip(built, views, strict=True)]


@pytest.fixture(scope="module")
def images(orbits):
    return torch.cat([views for _, views in orbits])


# What ships


def test_shipped_files_are_small_and_know_the_whole_catalogue(judge):
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) <= 2 * 2**20
    assert (judge.categories, judge.colors, judge.designs) == (CATEGORY_NAMES, COLOR_NAMES, DESIGN_NAMES)
    assert judge.words == word_table()
    assert judge.card["test_data"]["first_seed"] >= judge.card["data"]["first_seed"] + judge.card["data"]["objects"]


def test_it_recognises_fresh_objects(judge, orbits, images):
    """Held-out seeds, another size and background. Measured: 60 of 60 views in all three; the floors leave a margin."""
    output = judge(images)
    views = len(orbits[0][1])
    truth = {
        "category": [judge.categories.index(o.category) for o, _ in orbits for _ in range(views)],
        "color": [judge.colors.index(o.color) for o, _ in orbits for _ in range(views)],
        "design": [judge.designs.index(f"{o.category}/{o.design}") for o, _ in orbits for _ in range(views)],
    }
    found = {head: (getattr(output, head).argmax(1) == torch.tensor(labels)).float().mean().item() for head, labels in truth.items()}
    assert found["category"] >= 0.95, found
    assert found["color"] >= 0.9, found
    assert found["design"] >= 0.85, found


def test_majority_over_an_orbit_names_the_object(judge, orbits):
    right = 0
    for built, views in orbits:
        modes = judge.modes(judge(views))
        assert modes.design.split("/")[0] == modes.category
        assert 0 < modes.category_share <= 1
        right += modes.category == built.category
    assert right >= len(orbits) - 1


def test_damaged_weights_are_refused(tmp_path):
    folder = shutil.copytree(SHIPPED, tmp_path / "judge")
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(FileFormatError, match=r"judge\.safetensors: expected the checksum sha256 .* damaged"):
        Judge.load(folder)


def test_missing_or_odd_files_are_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"judge\.json: expected a file of the judge"):
        Judge.load(tmp_path)
    folder = shutil.copytree(SHIPPED, tmp_path / "judge")
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    (folder / RECORD).write_text(json.dumps({k: v for k, v in record.items() if k != "words"}), encoding="utf-8")
    with pytest.raises(FileFormatError, match="missing: words"):
        Judge.load(folder)
    (folder / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(FileFormatError, match="expected JSON"):
        Judge.load(folder)
    record["network"]["channels"][-1] += 8
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"expected weights that fit judge\.json"):
        Judge.load(folder)


# Contracts


def test_it_keeps_the_three_contracts(judge, images):
    assert isinstance(judge, protocols.ImageEmbedder)
    assert isinstance(judge, protocols.ImageClassifier)
    assert isinstance(judge, protocols.PromptScorer)
    some = images[:5].double().requires_grad_()
    features, probabilities, scores = judge.embed(some), judge.probabilities(some), judge.alignment(some, "a red chair")
    assert features.shape == (5, judge(some).features.shape[1])
    assert probabilities.shape == (5, len(judge.categories))
    assert scores.shape == (5,)
    assert not any(x.requires_grad for x in (features, probabilities, scores))
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))
    assert ((scores >= 0) & (scores <= 1)).all()


def test_images_are_judged_one_by_one(judge, images):
    """Neither the other images of a batch nor the chunk an image falls into matter, and the same images give the same bits."""
    many = torch.cat([images, images.flip(0)])
    together, alone = judge(many), judge(many[70:71])
    torch.testing.assert_close(together.category[70:71], alone.category, atol=1e-4, rtol=1e-4)
    assert torch.equal(together.features, judge(many).features)


@pytest.mark.parametrize("side", [40, 64, 200])
def test_any_size_is_read(judge, orbits, side):
    windmill = next(views for built, views in orbits if built.category == "windmill")
    resized = torch.nn.functional.interpolate(windmill, size=(side, side), mode="bilinear", antialias=True)
    assert judge.modes(judge(resized)).category == "windmill"


def test_wide_and_tall_images_are_padded_to_a_square(judge, images):
    """On a plain background, cutting rows or columns of background away changes nothing: the judge puts them back."""
    whole = images[:4].clone()
    whole[..., :6, :], whole[..., -6:, :] = 0.5, 0.5
    expected = judge(whole).features
    torch.testing.assert_close(judge(whole[..., 5:-5, :]).features, expected)
    torch.testing.assert_close(judge(whole.transpose(2, 3)[..., 5:-5]).features, judge(whole.transpose(2, 3)).features)


def test_bad_images_are_refused(judge):
    with pytest.raises(InputError, match=r"images: expected shape \[B, 3, H, W\]"):
        judge(torch.zeros(3, 64, 64))
    with pytest.raises(InputError, match="divide by 255"):
        judge(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(InputError, match="at least 1 image"):
        judge(torch.zeros(0, 3, 64, 64))


# Prompts


def test_alignment_prefers_the_right_words(judge, orbits):
    built, views = orbits[0]
    other_color = next(c for c in CATEGORIES[built.category].colors if c != built.color)
    right = judge.alignment(views, f"a {built.color} {built.category}").mean()
    assert right > judge.alignment(views, f"a {other_color} {built.category}").mean() + 0.3
    assert right > judge.alignment(views, f"a {built.color} windmill").mean() + 0.3
    torch.testing.assert_close(judge.alignment(views, "a chair"), judge.probabilities(views)[:, judge.categories.index("chair")])


def test_design_scores_add_up_to_the_category(judge, orbits):
    """Σ_d P(category) P(d | category) = P(category): the design head is conditioned on the category."""
    built, views = orbits[0]
    total = sum(judge.alignment(views, f"a {built.category} {design}") for design in CATEGORIES[built.category].designs)
    torch.testing.assert_close(total, judge.alignment(views, f"a {built.category}"))


def test_it_reads_captions_as_the_prior_does(judge):
    rng, mesh = np.random.default_rng(0), make_object("apple", FRESH_SEED).mesh  # captions do not look at the mesh
    for recipe in recipes(2 * len(CATEGORIES), FRESH_SEED):
        caption = f"{article(f'{recipe.color} {recipe.category}')} {recipe.design}"
        built = CatalogueObject(recipe.category, recipe.design, recipe.color, caption, recipe.seed, mesh)
        for caption in caption_variants(built, rng, 4):
            parsed, asked = parse_prompt(caption), judge.read(caption)
            assert asked.category == parsed.category, caption
            assert asked.color == parsed.color, caption
            assert asked.design == (f"{parsed.category}/{parsed.design}" if parsed.design else None), caption


def test_the_word_table_survives_json():
    table = word_table()
    assert WordTable.from_json(json.loads(json.dumps(table.to_json()))) == table
    with pytest.raises(FileFormatError, match="word table"):
        WordTable.from_json({"categories": {}})


def test_prompts_without_a_known_object_are_refused(judge, images):
    with pytest.raises(InputError, match=r"expected one of the judge.s 53 kinds of object, got .a red chiar.; did you mean 'chair'"):
        judge.alignment(images[:1], "a red chiar")
    with pytest.raises(InputError, match="use CLIP"):
        judge.alignment(images[:1], "qqq")


def test_equal_votes_go_to_the_larger_probability(judge):
    category = torch.full((2, len(judge.categories)), -9.0)
    category[0, 3], category[1, 5] = 1.0, 9.0
    color, design = torch.zeros(2, len(judge.colors)), torch.zeros(2, len(judge.designs))
    modes = judge.modes(JudgeOutput(category, color, design, torch.zeros(2, 4)))
    assert (modes.category, modes.category_share) == (judge.categories[5], 0.5)


# Data


def test_seeds_are_the_judges_own_and_splits_never_meet():
    train, test = ([r.seed for r in recipes(500, first)] for first in (TRAIN_SEED, TEST_SEED))
    assert min(train) >= 2**30
    assert set(train).isdisjoint(test)
    assert ViewSettings().first_seed + ViewSettings().objects <= TEST_SEED
    for first_seed in (0, TRAIN_SEED - 1, LAST_SEED - 5):
        with pytest.raises(InputError, match="first_seed: expected the judge's own seeds"):
            ViewSettings(objects=10, first_seed=first_seed)


def test_every_design_and_colour_is_drawn():
    pairs = {k.name: len(k.designs) * len(k.colors) for k in CATEGORIES.values()}
    drawn = list(recipes(len(CATEGORIES) * max(pairs.values()), TRAIN_SEED))
    for name, count in pairs.items():
        assert len({(r.design, r.color) for r in drawn if r.category == name}) == count
    labels = label_arrays(drawn)
    assert DESIGN_NAMES[labels.design[7]] == f"{drawn[7].category}/{drawn[7].design}"


@pytest.fixture(scope="module")
def tiny_views(tmp_path_factory):
    return load_or_render(tmp_path_factory.mktemp("views"), TINY_VIEWS)


TINY_VIEWS = ViewSettings(objects=12, views=4, size=32, supersample=1)
TINY = training.JudgeTraining(
    steps=10,
    batch=16,
    checkpoint_every=5,
    sizes=JudgeSizes(channels=(8, 16), blocks=(1, 1), categories=len(CATEGORY_NAMES), colors=len(COLOR_NAMES), designs=len(DESIGN_NAMES)),
)


def test_a_stopped_render_goes_on(tmp_path, tiny_views):
    load_or_render(tmp_path, TINY_VIEWS)
    record = json.loads((tmp_path / "views.json").read_text())
    stored = np.load(tmp_path / "views.npy", mmap_mode="r+")
    stored[5:] = 0
    stored.flush()
    (tmp_path / "views.json").write_text(json.dumps(record | {"done": 5}))
    assert np.array_equal(load_or_render(tmp_path, TINY_VIEWS).images, tiny_views.images)


def test_augmentation_is_bounded_and_repeatable(tiny_views):
    rgba = torch.from_numpy(tiny_views.images[:, 0].copy())
    first, second = (augment(rgba, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(rgba, torch.Generator().manual_seed(4)))
    assert first.shape == (len(rgba), 3, 32, 32)
    assert first.min() >= 0
    assert first.max() <= 1


def test_degradations_keep_what_they_should(tiny_views):
    image = composite(to_float(torch.from_numpy(tiny_views.images[0].copy())), torch.ones(1, 3, 1, 1))
    constant = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(gaussian_blur(constant, 1.2), constant)
    assert gaussian_blur(image, 1.2).var() < image.var()
    assert (quantize_blocks(image, 1e-6) - image).abs().max() < 1e-4  # an orthonormal transform there and back
    assert 1e-3 < (quantize_blocks(image, 0.1) - image).abs().max() < 0.6
    assert torch.equal(clean_images(torch.zeros(1, 8, 8, 4, dtype=torch.uint8)), torch.ones(1, 3, 8, 8))


# Training


def trained(views, steps):
    trainer = training.JudgeTrainer(TINY)
    return trainer, [trainer.update(views) for _ in range(steps)]


def test_loss_falls(tiny_views):
    _, losses = trained(tiny_views, 10)
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.3


def test_a_resumed_run_ends_with_the_same_bits(tiny_views, tmp_path):
    straight, _ = trained(tiny_views, 6)
    half, _ = trained(tiny_views, 3)
    half.save(tmp_path / "state.pt")
    resumed = training.JudgeTrainer(TINY)
    resumed.load(tmp_path / "state.pt")
    for _ in range(3):
        resumed.update(tiny_views)
    for name, value in straight.average.items():
        assert torch.equal(value, resumed.average[name]), name
    other = training.JudgeTrainer(dataclasses.replace(TINY, seed=1))
    with pytest.raises(InputError, match="settings of this run"):
        other.load(tmp_path / "state.pt")


def test_initialisation_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    training.JudgeTrainer(TINY)
    assert torch.equal(before, torch.get_rng_state())


def test_a_whole_run_writes_a_judge_that_loads(tmp_path, tiny_views):
    test = dataclasses.replace(TINY_VIEWS, objects=3, first_seed=TEST_SEED)
    settings = training.JudgeRun(tmp_path, tmp_path / "weights", dataclasses.replace(TINY, steps=2), TINY_VIEWS, test)
    lines = []
    card = training.run(settings, lines.append)
    assert Judge.load(tmp_path / "weights").card["scores"]["clean"]["assets"] == 3
    assert set(card["scores"]["degraded"]["majority"]) == {"category", "color", "design"}
    training.run(settings, lines.append)
    assert any("going on at step 2 of 2" in line for line in lines)


def test_wrong_settings_are_named(capsys, tmp_path):
    assert training.main(["--minutes", "-1", "--work", str(tmp_path)]) == 2
    assert "--minutes: expected a time above 0" in capsys.readouterr().err
    with pytest.raises(InputError, match="one entry a stage"):
        JudgeNetwork(JudgeSizes(channels=(8,), blocks=(1, 1)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees_with_the_cpu(judge, images):
    on_gpu = Judge.load(device="cuda")(images.cuda())
    torch.testing.assert_close(on_gpu.category.cpu(), judge(images).category, atol=2e-2, rtol=2e-2)
