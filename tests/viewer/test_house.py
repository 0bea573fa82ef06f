"""The house of all assets without a server: the bin's dangers, links, galleries that follow, forms that make the same run again."""

import os
from dataclasses import replace

import pytest

from fsd_gs.config import load_config
from fsd_gs.errors import InputError, OutputError
from fsd_gs.train import runs
from fsd_gs.viewer.again import more_like, same_again, settings_text
from fsd_gs.viewer.card import CARD
from fsd_gs.viewer.form import requested_config, split_settings
from fsd_gs.viewer.gallery import GALLERY
from fsd_gs.viewer.house import House, renew_prompt
from tests.viewer.test_overview import finished


def test_what_is_being_made_cannot_be_deleted(tmp_path):
    run = finished(tmp_path, "a red chair", 0)
    with runs.occupied(run), pytest.raises(OutputError, match="is being made"):
        House(tmp_path).delete("a-red-chair-seed-0000")
    assert run.is_dir()


def test_undo_refuses_where_another_asset_stands(tmp_path):
    finished(tmp_path, "a red chair", 0)
    house = House(tmp_path)
    gone = house.delete("a-red-chair-seed-0000")
    finished(tmp_path, "a red chair", 0)
    with pytest.raises(OutputError, match="another asset stands there now"):
        house.restore(gone.name)
    again = house.delete("a-red-chair-seed-0000")
    assert len(house.binned()) == 2
    house.restore(gone.name)
    assert [binned.name for binned in house.binned()] == [again.name]
    with pytest.raises(InputError, match=r"no '\.\./\.\./x' in it"):
        house.restore("../../x")


def test_undo_puts_what_was_begun_meanwhile_aside(tmp_path):
    """Replace, stop, undo: the old asset is back, and what was begun is whole in the bin."""
    run = finished(tmp_path, "a red chair", 0)
    house = House(tmp_path)
    assert house.make_room(run) is not None
    assert house.make_room(run) is None
    begun = runs.prepare_folder(load_config(overrides=["prompt=a red chair", f"output={tmp_path}", "steps=7"]))
    with runs.occupied(begun), pytest.raises(OutputError, match="is being made"):
        house.restore(house.binned()[0].name)
    house.restore(house.binned()[0].name)
    assert runs.is_finished(run)
    assert [runs.load_run_config(path.parent).steps for path in (tmp_path / ".bin").glob(f"*/*/*/{runs.CONFIG}")] == [7]


def test_links_out_of_the_folder_are_looked_at_only(tmp_path):
    elsewhere = finished(tmp_path / "elsewhere", "a red chair", 0)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    os.symlink(elsewhere.parent, outputs / "a-red-chair")
    house = House(outputs)
    assert [entry.seed for entry in house.entries()] == [0]
    name = "a-red-chair-seed-0000"
    for act in (lambda: house.delete(name), lambda: house.star(name, True), lambda: house.make_room(house.find(name).run)):
        with pytest.raises(OutputError, match="behind a link"):
            act()
    assert elsewhere.is_dir()
    assert not (elsewhere / CARD).exists()


def test_a_damaged_card_is_no_card(tmp_path, caplog):
    run = finished(tmp_path, "a red chair", 0)
    for text in ("{", "[]", '{"title": "' + "x" * 200 + '"}'):
        (run / CARD).write_text(text)
        assert House(tmp_path).find("a-red-chair-seed-0000").title == "a red chair"
    assert caplog.text.count("not a card") >= 3


def test_galleries_follow(tmp_path):
    finished(tmp_path, "a red chair", 0)
    house, folder = House(tmp_path), tmp_path / "a-red-chair"
    house.rename("a-red-chair-seed-0000", "the throne")
    renew_prompt(folder)
    assert "1 asset" in (folder / GALLERY).read_text()
    assert "the throne" in (folder / GALLERY).read_text()
    house.delete("a-red-chair-seed-0000")
    renew_prompt(folder)
    assert not (folder / GALLERY).exists()


SETTINGS = [
    "prompt=a red chair",
    "quality=draft",
    "render.sizes=[24,32]",
    "render.size_at=[0,0.5]",
    "negative_prompt=ugly, blurry",
    "seed=3",
]


def test_the_form_of_a_run_makes_the_run_again():
    config = load_config(["methods/sds"], [*SETTINGS, "count=4", "keep=2"])
    again = requested_config(same_again(config), "outputs")
    assert runs.differing_settings(config, again) == []
    assert (again.seed, again.count, again.keep) == (3, 1, 0)
    assert settings_text(load_config(overrides=["quality=best"])) == ""


def test_children_share_the_noise_where_there_is_a_fixed_one():
    config = load_config(overrides=["prompt=a red chair", "seed=3"])
    child = requested_config(more_like(config), "outputs")
    assert (child.noise.like, child.noise.like_mix, child.seed, child.count) == (3, 0.7, 1_000_003, 4)
    drawn = replace(config, noise=replace(config.noise, kind="gaussian"))
    assert "noise.like" not in more_like(drawn).settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps=7  noise.beta=0.5", ["steps=7", "noise.beta=0.5"]),
        ('negative_prompt="ugly, blurry" a=1', ["negative_prompt=ugly, blurry", "a=1"]),
        ("negative_prompt=don't x=2", ["negative_prompt=don't", "x=2"]),
        ("guidance.params={a: 4, b: [1, 2]} b=1", ["guidance.params={a: 4, b: [1, 2]}", "b=1"]),
        ('noise.theta="auto"', ['noise.theta="auto"']),
        ('{ a="b c', ["{", 'a="b', "c"]),
        ("", []),
    ],
)
def test_settings_are_parted_by_blanks_outside_of_quotes_and_brackets(text, words):
    assert split_settings(text) == words
