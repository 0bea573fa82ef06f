"""The rules of scores: hand-worked cases, and that a failure never looks like an advantage."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from stand_in_scorers import stand_ins

from fsd_gs.experiments.evaluate.assets import Record
from fsd_gs.experiments.evaluate.scorers import PictureScores, Scorers, Wanted, score_pictures, wanted_of
from fsd_gs.experiments.evaluate.scores import MEASURES, AssetScores, score_images_of_prompt, score_prompt
from fsd_gs.metrics.distribution import cross_fid, inception_score
from fsd_gs.metrics.judge import Judge

SCORERS = stand_ins()
SETTING = (("method", "fsd"),)
SOUND = {"failures": [], "holes": 0.0, "tears": 0.0, "haze": 0.1, "image_floaters": 0.0}


def record(seed, error=None):
    return Record(f"key{seed}", "a chair", seed, error, splats=None if error else 10)


def asset(seed, *, labels=(0, 0, 0), failures=(), views=4, features=None, probabilities=None, alignment=50.0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(views, 5, generator=generator) + 0.1 if features is None else features
    probabilities = torch.rand(views, 3, generator=generator).softmax(1) if probabilities is None else probabilities
    pictures = PictureScores(features, features.clone(), probabilities, torch.full((views,), alignment), torch.tensor([labels] * views))
    values = {"alignment": alignment, "category": float(labels[0] == 0), "color": math.nan, "seconds": 2.0}
    return AssetScores(record(seed), pictures, {**SOUND, "failures": list(failures)}, values)


def errored(seed):
    return AssetScores(record(seed, "it broke"), values={"alignment": 0.0, "category": 0.0, "color": math.nan})


CHAIR = Wanted(category=0)


def score(assets, wanted=CHAIR, scorers=SCORERS, views=lambda r: pytest.fail("views were read without LPIPS")):
    return score_prompt(SETTING, "a chair", assets, scorers, wanted, views)


def test_all_sound_is_the_plain_protocol():
    assets = [asset(s) for s in range(4)]
    values = score(assets).values
    assert set(values) == set(MEASURES)
    assert values["cross_fid"] == cross_fid({a.record.seed: a.pictures.features for a in assets})
    assert values["inception_score"] == pytest.approx(inception_score(torch.cat([a.pictures.probabilities for a in assets])))
    directions = [torch.nn.functional.normalize(a.pictures.similarity.double(), dim=1).mean(0) for a in assets]
    pairs = [1 - torch.cosine_similarity(directions[a], directions[b], dim=0) for a in range(4) for b in range(a)]
    assert values["diversity"] == pytest.approx(float(sum(pairs) / 6))
    assert (values["failure_rate"], values["seconds"], values["alignment"]) == (0, 2, 50)
    assert math.isnan(values["lpips"])


def test_the_halves_are_the_lower_and_the_upper_seeds_whatever_the_order():
    assets = [asset(s) for s in (3, 0, 2, 1)]
    assert score(assets).values["cross_fid"] == score(sorted(assets, key=lambda a: a.record.seed)).values["cross_fid"]


def test_an_error_stays_in_every_denominator():
    whole, broken = [asset(s) for s in range(4)], [*(asset(s) for s in range(3)), errored(3)]
    before, after = score(whole), score(broken)
    assert (after.assets, after.errors, after.failed) == (4, 1, 1)
    assert after.values["alignment"] == pytest.approx(50 * 3 / 4)
    assert after.values["category"] == pytest.approx(3 / 4)
    assert after.values["failure_rate"] == 1 / 4
    assert after.values["cross_fid"] == 0
    three = score(whole[:2] + whole[2:3] + [replace(whole[2], record=record(3))])
    assert after.values["diversity"] <= before.values["diversity"] or after.values["diversity"] <= three.values["diversity"] * 2
    present = inception_score(torch.cat([a.pictures.probabilities for a in broken[:3]]))
    assert math.log(after.values["inception_score"]) == pytest.approx(0.75 * math.log(present))
    assert after.values["seconds"] == 2


def test_breaking_an_asset_never_raises_a_figure():
    """Over many sets: replacing any asset by an error lowers or keeps every figure of which more is better, the mean of pairs excepted only
    where the broken one was a copy of the others."""
    for start in range(0, 40, 4):
        whole = [asset(s) for s in range(start, start + 4)]
        for i in range(4):
            broken = [*whole[:i], errored(start + i), *whole[i + 1 :]]
            before, after = score(whole).values, score(broken).values
            for name in ("alignment", "category", "cross_fid", "modes"):
                assert after[name] <= before[name], name
            assert after["failure_rate"] > before["failure_rate"]
            sound = [a for j, a in enumerate(whole) if j != i]
            pairs = score(sound[:2]).values["diversity"] + score(sound[1:]).values["diversity"] + score(sound[::2]).values["diversity"]
            assert after["diversity"] == pytest.approx(pairs / 6)


def test_wrecks_are_no_diversity_but_their_pictures_count_where_the_paper_counts_them():
    far = torch.eye(5)[:4] * 9 + 0.1
    wreck = asset(3, failures=("hazy",), features=far, labels=(0, 7, 7))
    assets = [asset(0), asset(1), asset(2), wreck]
    values = score(assets).values
    sound = [asset(s) for s in range(3)]
    assert values["diversity"] == pytest.approx(score(sound[:2]).values["diversity"] / 6 + score(sound[1:]).values["diversity"] / 6
                                                + score(sound[::2]).values["diversity"] / 6)  # fmt: skip
    assert values["modes"] == 1
    assert values["cross_fid"] == cross_fid({a.record.seed: a.pictures.features for a in assets})
    assert values["failure_rate"] == 0.25


def test_nothing_but_errors():
    values = score([errored(0), errored(1)]).values
    assert (values["inception_score"], values["cross_fid"], values["diversity"], values["modes"], values["failure_rate"]) == (1, 0, 0, 0, 1)
    assert math.isnan(values["holes"])


def test_modes_are_of_the_right_category_and_only_of_what_the_prompt_leaves_open():
    assets = [asset(0, labels=(0, 1, 1)), asset(1, labels=(0, 1, 2)), asset(2, labels=(0, 2, 2)), asset(3, labels=(4, 3, 3))]
    assert score(assets).values["modes"] == 3  # the fourth shows something else
    assert score(assets, Wanted(category=0, color=1)).values["modes"] == 2  # designs 1 and 2
    assert score(assets, Wanted()).values["modes"] == 3  # "category" of the fourth is still 0.0: it was asked for when it was scored
    assert math.isnan(score(assets, Wanted(0, 1, 1)).values["modes"])
    assert math.isnan(score(assets, scorers=stand_ins(judge=False)).values["modes"])


def test_lpips_of_a_known_distance():
    levels = {0: 0.0, 1: 0.5, 2: 1.0, 3: 0.9}
    mean = stand_ins(lpips=lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    views = lambda r: torch.full((4, 3, 2, 2), levels[r.seed])  # noqa: E731
    assets = [asset(0), asset(1), asset(2), asset(3, failures=("holes",))]
    assert score(assets, scorers=mean, views=views).values["lpips"] == pytest.approx((0.5 + 1.0 + 0.5) / 6)


def test_what_a_prompt_asks_for():
    judge = SCORERS.judge
    assert wanted_of("a red chair", judge) == Wanted(judge.categories.index("chair"), 0, None)
    assert wanted_of("a chair", judge).open == [1, 2]
    assert wanted_of("a red chair", judge).open == [2]
    assert wanted_of("an astronaut", judge) == Wanted(None, None, None)
    assert wanted_of("a red chair", None) == Wanted()


def test_pictures_are_scored_alike_whatever_their_number():
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, part = score_pictures(SCORERS, images, "a chair"), score_pictures(SCORERS, images[33:], "a chair")
    for name in ("features", "similarity", "probabilities", "alignment", "labels"):
        torch.testing.assert_close(getattr(whole, name)[33:], getattr(part, name))
    assert whole.labels.shape == (40, 3)
    assert score_pictures(stand_ins(judge=False), images, "a chair").labels.shape == (40, 0)


def test_the_row_of_images_has_no_cross_fid_and_counts_its_errors():
    jobs = [asset(s, views=6) for s in range(3)]
    row = score_images_of_prompt(SETTING, "a chair", jobs, SCORERS, Wanted(category=0))
    assert math.isnan(row.values["cross_fid"])
    assert math.isnan(row.values["janus"])
    assert (row.values["alignment"], row.values["category"], row.values["failure_rate"]) == (50, 1, 0)
    broken = score_images_of_prompt(SETTING, "a chair", [*jobs[:2], errored(2)], SCORERS, Wanted(category=0))
    assert broken.values["alignment"] == pytest.approx(50 * 2 / 3)
    assert broken.values["category"] == pytest.approx(2 / 3)
    assert (broken.errors, broken.values["failure_rate"]) == (1, pytest.approx(1 / 3))
    nothing = score_images_of_prompt(SETTING, "a chair", [errored(0)], SCORERS, Wanted(category=0))
    assert nothing.values["failure_rate"] == 1


def test_the_judge_answers_the_same_in_one_pass_as_in_four():
    judge = Judge.load()
    images = torch.rand(5, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    once = score_pictures(Scorers(judge, judge, judge, judge, judge), images, "a red chair")
    classifier = SimpleNamespace(name="the same, by another name", probabilities=judge.probabilities)
    apart = score_pictures(Scorers(judge, judge, classifier, judge, judge), images, "a red chair")
    for name in ("features", "similarity", "probabilities", "alignment", "labels"):
        torch.testing.assert_close(getattr(once, name), getattr(apart, name))
