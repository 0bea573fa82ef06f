"""One word for quality: what it multiplies, and that settings beside it win wherever they stand."""

import pytest

from fsd_gs.config import config_from_dict, load_config
from fsd_gs.core.quality import QUALITIES
from fsd_gs.errors import ConfigError
from fsd_gs.train.runs import check_same_settings, prepare_folder


def numbers(config):
    return config.steps, config.cameras.views, config.render.sizes, config.splats.count, config.densify.cap, config.densify.every


def test_good_is_the_preset():
    assert load_config(overrides=["quality=good"]) == load_config()


def test_words_multiply_the_preset():
    assert numbers(load_config(overrides=["quality=draft"])) == (120, 4, [48], 2000, 6000, 10)
    assert [load_config(overrides=[f"quality={word}"]).reseed for word in QUALITIES] == [0, 1, 1]
    assert numbers(load_config(overrides=["quality=best"])) == (600, 8, [96], 8000, 30000, 50)
    best = load_config(["sd15"], ["quality=best"])
    assert numbers(best) == (4000, 8, [192, 384, 768], 10000, 125000, 100)
    assert best.prior.name == "sd15"


def test_settings_beside_it_win_in_any_order():
    for overrides in (["quality=draft", "steps=7"], ["steps=7", "quality=draft"]):
        config = load_config(overrides=overrides)
        assert (config.steps, config.splats.count) == (7, 2000)


def test_a_file_may_say_it_and_the_command_line_has_the_last_word(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("quality: best\nsplats: {count: 100}\n")
    assert numbers(load_config([file]))[:4] == (600, 8, [96], 100)
    assert numbers(load_config([file], ["quality=draft"]))[:4] == (120, 4, [48], 50)  # of the file's 100, not of its 600 steps
    assert load_config([file], ["steps=5"]).steps == 5


def test_grids_stay_multiples_of_the_views():
    config = load_config(overrides=["quality=best", "cameras.views=8"])
    assert config.cameras.azimuth_grid == 32


def test_a_run_knows_its_numbers_and_is_gone_on_with(tmp_path):
    overrides = ["prompt=an egg", f"output={tmp_path}", "quality=draft"]
    folder = prepare_folder(load_config(overrides=overrides))
    again = load_config([folder / "config.yaml"], ["resume=true"])
    assert numbers(again) == numbers(load_config(overrides=overrides))
    check_same_settings(
        folder, load_config(overrides=["prompt=an egg", f"output={tmp_path}", *plain(again)])
    )  # the word itself decides nothing


def plain(config):
    return [
        f"steps={config.steps}",
        f"render.sizes={config.render.sizes}",
        f"splats.count={config.splats.count}",
        f"densify.cap={config.densify.cap}",
        f"densify.every={config.densify.every}",
    ]


@pytest.mark.parametrize("word", ["better", "", "[draft]", "3"])
def test_other_words_are_refused(word):
    with pytest.raises(ConfigError, match=r"^quality"):
        load_config(overrides=[f"quality={word}"])


def test_settings_read_back_are_not_multiplied_again():
    assert config_from_dict({"quality": "best", "steps": 10}).steps == 10
