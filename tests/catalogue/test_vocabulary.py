"""Prompts in the catalogue's words: captions read back, synonyms and plurals, unknown words named with a suggestion."""

from __future__ import annotations

import numpy as np
import pytest

from fsd_gs.catalogue.mesh import Mesh
from fsd_gs.catalogue.objects import CATEGORIES, CatalogueObject, article
from fsd_gs.catalogue.vocabulary import caption_variants, describe_vocabulary, parse_prompt, plural_of

EMPTY = Mesh(np.zeros((3, 3)), np.zeros((0, 3)), np.zeros((3, 3)))


def label(category: str, design: str, color: str) -> CatalogueObject:
    return CatalogueObject(category, design, color, f"{article(f'{color} {category}')} {design}", 0, EMPTY)


@pytest.mark.parametrize("name", sorted(CATEGORIES))
def test_every_caption_reads_back(name: str) -> None:
    category = CATEGORIES[name]
    for design in category.designs:
        for color in category.colors:
            parsed = parse_prompt(label(name, design, color).caption)
            assert (parsed.category, parsed.color, parsed.design, parsed.unknown) == (name, color, design, ())


@pytest.mark.parametrize("name", sorted(CATEGORIES))
def test_synonyms_plurals_and_nouns_of_a_design_read_back(name: str) -> None:
    category = CATEGORIES[name]
    for noun in (name, *category.synonyms):
        assert parse_prompt(f"a photo of {noun}").category == name
        assert parse_prompt(f"many {plural_of(noun)}").category == name
    assert parse_prompt(category.plural_name).category == name
    for noun, design in category.design_nouns.items():
        parsed = parse_prompt(f"{article(noun)}, highly detailed")
        assert (parsed.category, parsed.design, parsed.unknown) == (name, design, ())


@pytest.mark.parametrize(
    ("prompt", "category", "color", "design"),
    [
        ("A photo of a crimson cottage", "house", "red", None),
        ("grey automobile, highly detailed, 8k", "car", "gray", None),
        ("an ice cream cone with three scoops", "ice cream", None, "with three scoops"),
        ("a treasure chest full of gold coins and jewels, high resolution, sharp", "treasure chest", None, "with gold coins"),
        ("a chair with tall backs, light blue", "chair", "blue", "with a tall back"),
        ("a red armchair", "chair", "red", "with armrests"),
        ("an armchair with a tall back", "chair", None, "with a tall back"),
        ("two cacti", "cactus", None, None),
        ("cute strawberries", "strawberry", None, None),
        ("castle tower, purple", "castle tower", "purple", None),
        ("a jack-o'-lantern", "pumpkin", None, "with a carved face"),
        ("the baker's yellow cupcake", "cake", "yellow", "in a paper cup"),
        ("a guitar with horns", "guitar", None, "with two horns"),
        ("", None, None, None),
    ],
)
def test_everyday_prompts(prompt: str, category: str | None, color: str | None, design: str | None) -> None:
    parsed = parse_prompt(prompt)
    assert (parsed.category, parsed.color, parsed.design) == (category, color, design)


def test_unknown_words_are_named_once_with_the_nearest_known_word() -> None:
    parsed = parse_prompt("a bleu teapott with zorgl zorgl")
    assert parsed.category is None
    assert parsed.unknown == ("bleu", "teapott", "zorgl")
    assert parsed.suggestions == {"bleu": "blue", "teapott": "teapot"}


def test_a_second_object_is_reported_not_silently_dropped() -> None:
    parsed = parse_prompt("a gray cat next to a house")
    assert parsed.category == "cat"
    assert "house" in parsed.unknown
    assert "house" not in parsed.suggestions


@pytest.mark.parametrize("name", sorted(CATEGORIES))
def test_caption_variants_mean_the_same_object(name: str) -> None:
    category = CATEGORIES[name]
    obj = label(name, category.designs[-1], category.colors[-1])
    captions = caption_variants(obj, np.random.default_rng(0), count=6)
    assert captions[0] == obj.caption
    assert len(set(captions)) == len(captions) == 6
    assert captions == caption_variants(obj, np.random.default_rng(0), count=6)
    for caption in captions:
        parsed = parse_prompt(caption)
        assert parsed.category == name, caption
        assert {parsed.color, parsed.design} <= {None, obj.color, obj.design}, caption
        assert parsed.unknown == (), caption


def test_no_noun_belongs_to_two_categories() -> None:
    owners: dict[str, str] = {}
    for category in CATEGORIES.values():
        for noun in (category.name, *category.synonyms, *category.design_nouns):
            assert owners.setdefault(noun, category.name) == category.name, noun


def test_the_vocabulary_is_described_for_people() -> None:
    text = describe_vocabulary()
    for category in CATEGORIES.values():
        assert category.name in text
        assert all(design in text for design in category.designs)
