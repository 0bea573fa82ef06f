"""Words for a prompt while it is typed."""

import pytest

from fsd_gs.catalogue.vocabulary import CATALOGUE, Vocabulary
from fsd_gs.viewer.completion import MOST, completions, last_phrase, misunderstood


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("a red cha", "a red chair"),
        ("a Cha", "a chair"),
        ("a chair with a t", "a chair with a tall back"),
        ("a chair ", "a chair with armrests"),
        ("two chairs with ", "two chairs with a tall back"),
        ("a pur", "a purple"),
        ("an armch", "an armchair"),
    ],
)
def test_completions(typed, completed):
    assert completed in completions(typed, CATALOGUE)
    assert len(completions(typed, CATALOGUE)) <= MOST


@pytest.mark.parametrize("typed", ["", "a ", "a red chair with a tall back", "xyzzy", "a chair with a tall back "])
def test_nothing_to_complete(typed):
    assert completions(typed, CATALOGUE) == []


def test_only_what_the_prior_knows_is_offered():
    assert completions("a cha", Vocabulary(["duck"])) == []
    assert all("gold" not in prompt for prompt in completions("a chair g", CATALOGUE))  # no golden chairs there


def test_every_completion_is_understood():
    for typed in ("a", "b", "c", "a chair with", "a house ", "a s"):
        for prompt in completions(typed, CATALOGUE):
            assert not [f for f in CATALOGUE.read(prompt).findings if f.kind == "unknown"], prompt


def test_a_button_says_what_it_adds():
    assert last_phrase("a chair with a t", "a chair with a tall back") == "tall back"
    assert last_phrase("a chair ", "a chair with armrests") == "with armrests"


def test_warnings_come_while_typing_but_not_about_a_word_in_the_making():
    assert misunderstood("a red ch", CATALOGUE) == []
    assert ["two" in line for line in misunderstood("two red ch", CATALOGUE)] == [True]
    assert "did you mean 'yellow'?" in misunderstood("a yelow duck", CATALOGUE)[0]
    assert "negation" in misunderstood("a chair without armrests", CATALOGUE)[0]
