"""The best of N: the score, the order, diversity among equals, what is written and shown."""

from dataclasses import replace

import pytest
import torch
from export_scenes import egg

from fsd_gs.config import load_config
from fsd_gs.errors import ConfigError
from fsd_gs.export.ply import save_ply
from fsd_gs.render import make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.ranking import EQUAL, RANKING, load_ranking, measure, ordered, rank
from fsd_gs.train.variants import train_variants
from fsd_gs.viewer.gallery import read_assets, write_gallery
from fsd_gs.viewer.start_page import finished_assets

CPU = make_rasterizer("cpu")


def test_equals_are_ordered_by_how_different_they_are():
    distances = torch.tensor([[0.0, 0.1, 0.9, 0.5], [0.1, 0.0, 0.9, 0.5], [0.9, 0.9, 0.0, 0.5], [0.5, 0.5, 0.5, 0.0]])
    assert ordered([0.9, 0.89, 0.88, 0.1], distances) == [0, 2, 1, 3]  # 1 is nearly 0 again: 2 goes first
    assert ordered([0.9, 0.89, 0.89 - EQUAL - 0.01, 0.1], distances) == [0, 1, 2, 3]  # no equal any more
    assert ordered([], torch.zeros(0, 0)) == []


def config_in(folder, *overrides):
    return load_config(overrides=["prompt=a thing of no kind", f"output={folder}", *overrides])


def test_failed_geometry_halves_the_score(tmp_path):
    config = config_in(tmp_path)
    sound, hazy = egg(1500), replace(egg(1500), opacities=torch.full((1500,), 0.02))
    (good, _), (bad, reason) = (measure(splats, config, CPU) for splats in (sound, hazy))
    assert 1 >= good > bad >= 0
    assert reason.endswith("hazy")
    assert measure(sound.select(torch.arange(0)), config, CPU)[0] < bad + 0.01


def test_a_set_is_ranked_and_shown_the_best_first(tmp_path):
    assets = {0: replace(egg(1500), opacities=torch.full((1500,), 0.02)), 1: egg(1500)}
    config = config_in(tmp_path, "count=2", "keep=1", "reseed=0")

    def train(asset):
        folder = runs.prepare_folder(asset)
        save_ply(assets[asset.seed], folder / runs.SPLATS)
        return 0

    variants, code = train_variants(config, train, CPU, say=lambda _: None)
    assert code == 0
    folder = tmp_path / runs.slug(config.prompt)
    ranking = rank(config, folder, variants.seeds, CPU)
    assert ranking.seeds == [1, 0]
    assert ranking.note(1).startswith("1 of 2, kept: score ")
    assert ranking.note(0).startswith("2 of 2: score ")
    assert load_ranking(folder / RANKING) == ranking
    assert [asset.config.seed for asset in read_assets(folder)] == [1, 0]
    assert [name[-4:] for name in finished_assets(folder)] == ["0001", "0000"]
    page = write_gallery(folder, CPU).read_text()
    assert page.index("1 of 2, kept") < page.index("2 of 2: score")
    assert all((folder / runs.seed_name(seed) / runs.SPLATS).is_file() for seed in (0, 1))


@pytest.mark.parametrize("content", ["", "[]", '{"keep": 1}', '{"keep": 1, "ranked": [{"seed": 1}]}'])
def test_a_damaged_ranking_costs_the_order_only(tmp_path, content, caplog):
    (tmp_path / RANKING).write_text(content)
    assert load_ranking(tmp_path / RANKING) is None
    assert "not a ranking" in caplog.text
    assert load_ranking(tmp_path / "none.json") is None


def test_more_than_are_made_cannot_be_kept(tmp_path):
    with pytest.raises(ConfigError, match=r"keep: expected at most count \(2\), got 3"):
        train_variants(config_in(tmp_path, "count=2", "keep=3"), lambda _: 0, CPU)
