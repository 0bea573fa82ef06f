"""Sets of assets: seeds, reseeding, the record on disk; and 'more like this one' on the exact prior."""

import json
from dataclasses import replace

import pytest
import torch
from export_scenes import egg

from fsd_gs.config import load_config
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.export.ply import save_ply
from fsd_gs.metrics import verdict
from fsd_gs.metrics.verdict import Signs, Verdict
from fsd_gs.render import make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.api import generate
from fsd_gs.train.variants import (
    VARIANTS,
    Attempt,
    Variant,
    VariantSet,
    asset_views,
    diversity_score,
    inspect,
    load_variants,
    more_like_this,
    save_variants,
    seeds_of_slot,
    train_variants,
)

CPU = make_rasterizer("cpu")


def hazy(splats):
    return replace(splats, opacities=torch.full_like(splats.opacities, 0.02))


def narrow(splats):
    return replace(splats, means=splats.means * torch.tensor([0.4, 0.4, 1.0]))


class FakeTraining:
    """Writes an asset per seed as a run would; remembers the order."""

    def __init__(self, assets, stop_at=None):
        self.assets, self.stop_at, self.seeds = assets, stop_at, []

    def __call__(self, config):
        self.seeds.append(config.seed)
        if config.seed == self.stop_at:
            return 130
        runs.prepare_folder(config)
        save_ply(self.assets.get(config.seed, egg(1500)), runs.run_folder(config) / runs.SPLATS)
        return 0


@pytest.fixture(autouse=True)
def opinions(monkeypatch):
    """p(keep) by number of splats, 0.9 where none is set: these eggs are about sets, the verdict has tests of its own."""
    scores = {}

    def judge(splats, prompt, rasterizer, cameras):
        score = scores.get(len(splats), 0.9) if len(splats) else 0.0
        return Verdict(score, score >= 0.5, Signs(0, 0, 0, 0, 0), "haze")

    monkeypatch.setattr(verdict, "judge_asset", judge)
    return scores


def config_in(folder, *overrides):
    return load_config(overrides=["prompt=an egg", f"output={folder}", *overrides])


def test_geometry_separates_sound_from_failed_assets(tmp_path):
    config = config_in(tmp_path)
    assert inspect(egg(1500), config, CPU) == ()
    assert inspect(hazy(egg(1500)), config, CPU) == ("hazy",)
    assert "exploded" in inspect(replace(egg(1500), means=egg(1500).means * 6), config, CPU)
    assert inspect(egg(1500).select(torch.arange(0)), config, CPU) == ("empty",)


def test_failed_assets_are_made_again(tmp_path):
    train = FakeTraining({1: hazy(egg(1500)), 1001: hazy(egg(1500)), 2: narrow(egg(1500))})
    said, galleries = [], []
    config = config_in(tmp_path, "count=3", "reseed=2")
    variants, code = train_variants(
        config, train, CPU, write_gallery=lambda folder: galleries.append(load_variants(folder / VARIANTS)), say=said.append
    )
    assert code == 0
    assert train.seeds == [0, 1, 1001, 2001, 2]
    assert variants.seeds == [0, 2001, 2]
    assert said == ["seed 1 was hazy and seed 1001 was hazy: made again as seed 2001"]
    assert [len(g.variants) for g in galleries] == [1, 2, 3]  # a gallery after each asset
    assert galleries[0].diversity is None
    assert galleries[1].diversity == pytest.approx(0, abs=1e-6)  # the same egg twice
    assert 0.05 < galleries[2].diversity == variants.diversity < 1


def test_the_last_try_stays_with_its_note(tmp_path):
    train = FakeTraining({0: hazy(egg(1500)), 1000: hazy(egg(1500))})
    variants, _ = train_variants(config_in(tmp_path, "count=2"), train, CPU, say=lambda _: None)
    assert train.seeds == [0, 1000, 1]
    assert variants.variants[0].note == "seed 0 was hazy: made again as seed 1000; seed 1000 is hazy"
    assert variants.variants[1].note == ""


def test_an_asset_that_no_artist_keeps_is_made_again(tmp_path, opinions):
    opinions |= {1400: 0.2, 1300: 0.3, 1200: 0.1}
    train = FakeTraining({0: egg(1400), 1: egg(1300), 1001: egg(1200)})
    variants, _ = train_variants(config_in(tmp_path, "count=2"), train, CPU, say=lambda _: None)
    assert train.seeds == [0, 1000, 1, 1001]
    assert variants.variants[0].attempts == (Attempt(0, ("unclear",), 0.2), Attempt(1000, (), 0.9))
    assert variants.variants[1].attempts == (Attempt(1001, ("unclear",), 0.1), Attempt(1, ("unclear",), 0.3))  # the better one stands
    assert variants.variants[1].note == "seed 1001 was unclear: not better; seed 1 is unclear"
    assert load_variants(tmp_path / "an-egg" / VARIANTS) == variants


def test_sets_of_before_the_verdict_have_no_scores(tmp_path):
    path = tmp_path / VARIANTS
    old = {"prompt": "x", "variants": [{"requested_seed": 0, "attempts": [{"seed": 0, "failures": []}]}], "diversity": None}
    path.write_text(json.dumps(old))
    assert load_variants(path) == VariantSet("x", [Variant(0, (Attempt(0, ()),))])


def test_an_interrupted_set_keeps_what_is_finished(tmp_path):
    config = config_in(tmp_path, "count=3")
    variants, code = train_variants(config, FakeTraining({}, stop_at=1), CPU)
    assert code == 130
    assert variants.seeds == [0]
    assert load_variants(runs.run_folder(config).parent / VARIANTS) == variants


def test_a_second_command_keeps_the_notes_of_the_first(tmp_path):
    train_variants(config_in(tmp_path, "count=2"), FakeTraining({0: hazy(egg(1500))}), CPU, say=lambda _: None)
    variants, _ = train_variants(config_in(tmp_path, "seed=5"), FakeTraining({}), CPU)
    kept = load_variants(tmp_path / "an-egg" / VARIANTS)
    assert variants.seeds == [5]
    assert kept is not None
    assert kept.seeds == [1000, 1, 5]


def test_seeds_never_collide_and_a_single_asset_keeps_its_seed(tmp_path):
    config = config_in(tmp_path, "count=1500", "reseed=3", "seed=7")
    tried = [seed for slot in range(config.count) for seed in seeds_of_slot(config, slot)]
    assert len(set(tried)) == 1500 * 4
    assert seeds_of_slot(config, 2) == [9, 2009, 4009, 6009]
    assert seeds_of_slot(config_in(tmp_path, "seed=5", "reseed=3"), 0) == [5]


def test_the_score_is_that_of_the_pictures(tmp_path):
    config = config_in(tmp_path)
    assert diversity_score([egg(800)], config, CPU) is None
    same, other = (diversity_score([egg(800), second], config, CPU) for second in (egg(800, seed=3), narrow(egg(800))))
    assert same < 0.1 < other  # another sampling of one surface is no other asset
    assert diversity_score([egg(800), egg(800).select(torch.arange(0))], config, CPU) == pytest.approx(1)


def test_record_round_trip_and_damage(tmp_path):
    path = tmp_path / VARIANTS
    assert load_variants(path) is None
    variants = VariantSet("a “red” chair", [Variant(0, (Attempt(0, ("hazy", "holes")), Attempt(1000, ())))], 0.25)
    save_variants(variants, path)
    assert load_variants(path) == variants
    assert variants.variants[0].note == "seed 0 was hazy and full of holes: made again as seed 1000"
    slots = (
        '{"requested_seed": 0, "attempts": []}',
        '{"requested_seed": 1e999, "attempts": [{}]}',
        '{"requested_seed": 0, "attempts": ["x"]}',
    )
    sets = [f'{{"prompt": "x", "variants": [{slot}], "diversity": null}}' for slot in slots]
    for damaged in ("{", "[]", "[" * 100_000, *sets):
        path.write_text(damaged)
        with pytest.raises(FileFormatError, match="not a list of variants"):
            load_variants(path)


def test_more_like_this_settings(tmp_path):
    child = more_like_this(config_in(tmp_path, "seed=3"), seed=3, mix=0.6, count=5)
    assert (child.noise.like, child.noise.like_mix, child.count) == (3, 0.6, 5)
    assert child.seed > 100_000
    with pytest.raises(InputError, match="world_map, got gaussian"):
        more_like_this(config_in(tmp_path, "noise.kind=gaussian"), seed=3)


TINY = ["steps=60", "render.sizes=[32]", "render.size_at=[0.0]", "splats.count=300", "densify.kind=none", "prior.objects=8"]
TINY += ["prior.name=exact", "guidance.cfg_scale=1.0", "prior.distractors=4", "cameras.azimuth_grid=8", "cameras.elevation_grid=1"]


@pytest.mark.long
def test_more_like_this_one_approaches_the_parent():
    """Children with all of the parent's noise land nearer to it than children with none of it, on average over children."""
    config = load_config(overrides=["prompt=a chair", *TINY])
    parent_seed, child_seeds = 0, (1, 2, 3)

    def asset(seed, mix=None):
        like = [] if mix is None else [f"noise.like={parent_seed}", f"noise.like_mix={mix}"]
        return asset_views(generate("a chair", seed=seed, overrides=[*TINY, *like]).splats, config, CPU)[0]

    parent = asset(parent_seed)
    near, far = (torch.stack([(asset(seed, mix) - parent).square().mean() for seed in child_seeds]).mean() for mix in (1.0, 0.0))
    assert near < 0.6 * far
