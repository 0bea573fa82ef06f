"""Prompts about what only other training captions name: the caption that is handed to the network, and what is left out."""

import json
from unittest.mock import Mock

import pytest

from fsd_gs.catalogue.captions import TrainedCaptions
from fsd_gs.catalogue.cut_caption import key
from fsd_gs.catalogue.vocabulary import CATALOGUE, Vocabulary
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.priors.backbones.nano import WEIGHTS
from fsd_gs.priors.digests import CHECKSUMS, verify
from fsd_gs.priors.loading import load
from fsd_gs.priors.reader import CAPTIONS, CatalogueReader, trained_captions
from fsd_gs.viewer.completion import completions

CAPTURED = (  # from the captions of KayKit's meshes (CC0)
    "a barracks with blue roofs",
    "a beige jar",
    "a broken brown arrow",
    "a brown and red arrow",
    "a brown crate",
    "a brown crate lid",
    "a brown crate of carrots",
    "a brown crate of cheese",
    "a brown jar",
    "a brown shelf with candles",
    "a brown tree stump",
    "a bundle of arrows",
    "a church with a blue roof",
    "a church with a red roof",
    "a gray axe",
    "a gray crossbow",
    "a gray shield and two swords",
    "a gray traffic light",
    "a gray two-handed axe",
    "a hooded rogue",
    "a long brown crate",
    "a red banner",
    "a red barrel",
    "a slice of yellow cheese",
    "a stack of brown crates",
    "a white banner with a shield",
    "an orange carrot",
    "an orange jack-o-lantern pumpkin",
    "gray stairs",
    "three red banners",
    "two brown shelves",
)
VOCABULARY = Vocabulary((), CAPTURED)


def said(prompt):
    """What the network is told, and (kind, words) of the findings."""
    parsed = VOCABULARY.read(prompt)
    return parsed.caption(), [(f.kind, f.words) for f in parsed.findings]


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("axe", "a gray axe"),
        ("a photo of an axe, highly detailed", "a gray axe"),
        ("a red axe", "a red axe"),
        ("a crimson axe", "a red axe"),
        ("an axe that is orange", "an orange axe"),
        ("a TWO-HANDED axe", "a gray two-handed axe"),
        ("a crate of carrots", "a brown crate of carrots"),
        ("a carrot crate", "a brown crate of carrots"),
        ("a carrot", "an orange carrot"),
        ("a crate", "a brown crate"),
        ("a long crate", "a long brown crate"),
        ("a crate lid", "a brown crate lid"),
        ("a stack of crates", "a stack of brown crates"),
        ("an arrow", "a broken brown arrow"),
        ("a bundle of arrows", "a bundle of arrows"),
        ("a blue and brown arrow", "a broken brown and blue arrow"),
        ("cheese", "a slice of yellow cheese"),
        ("three banners", "three red banners"),
        ("a banner with a shield", "a white banner with a shield"),
        ("shelves", "two brown shelves"),
        ("a shelf with a candle", "a brown shelf with candles"),
        ("a church", "a church with a red roof"),
        ("a church with a blue roof", "a church with a blue roof"),
        ("a blue church", "a church with a blue roof"),
        ("a church with a purple roof", "a church with a purple roof"),
        ("a purple church with a red roof", "a purple church with a red roof"),
        ("a barracks", "a barracks with blue roofs"),
        ("a rogue", "a hooded rogue"),
        ("a green rogue", "a green hooded rogue"),
        ("a beige jar", "a beige jar"),
        ("a brown jar", "a brown jar"),
        ("a stair", "gray stairs"),
        ("a shield with swords", "a gray shield and two swords"),
        ("a tree stump", "a brown tree stump"),
        ("a traffic light", "a gray traffic light"),
    ],
)
def test_the_nearest_caption_in_the_colour_of_the_prompt(prompt, caption):
    assert said(prompt) == (caption, [])
    assert CatalogueReader((), CAPTURED).negative(prompt) == caption


@pytest.mark.parametrize(
    ("prompt", "caption", "findings"),
    [
        ("an axe with zorgl", "a gray axe", [("unknown", "zorgl")]),
        ("a small axe, not red", "a gray axe", [("negation", "not red"), ("qualifier", "small")]),
        ("a light blue crate", "a blue crate", [("qualifier", "light")]),
        ("a crate on a white background", "a brown crate", [("background", "white background")]),
        ("two crossbows", "a gray crossbow", [("count", "two")]),
        ("crossbows", "a gray crossbow", [("count", "crossbows")]),
        ("a red and green axe", "a red axe", [("second color", "green")]),
        ("a crate with a red lock", "a brown crate", [("part color", "red"), ("unknown", "lock")]),
        ("a crate and a shelf", "a brown crate", [("object", "shelf")]),
        ("a shield with a cat", "a gray shield and two swords", [("object", "cat")]),
    ],
)
def test_what_is_left_out_is_a_finding(prompt, caption, findings):
    assert said(prompt) == (caption, findings)


def test_every_caption_of_a_kind_of_its_own_reads_back():
    for caption in CAPTURED:
        assert VOCABULARY.captions.match(caption).caption == caption
        parsed = VOCABULARY.read(caption)
        assert parsed.phrase is None or (parsed.caption(), parsed.findings) == (caption, ())


@pytest.mark.parametrize(
    "prompt",
    [
        *("a blue house", "a red barrel", "a jack-o-lantern", "two small yelow ducks, not blue", "a carrot cake", "a cat on a crate"),
        *("a snowman with a carrot nose", "a carrot nose snowman", "a light blue chair", "a house, no crate", "a purple duck", "", "zorgl"),
    ],
)
def test_what_the_catalogue_names_first_is_read_as_without_captions(prompt):
    assert VOCABULARY.read(prompt) == CATALOGUE.read(prompt)


def test_a_trained_caption_is_handed_on_whole_where_the_catalogue_would_leave_something_out():
    vocabulary = Vocabulary((), [*CAPTURED, "a castle with blue roofs", "a blue chair"])
    prompt = "The castle with blue roofs"
    assert CATALOGUE.read(prompt).findings
    assert vocabulary.read(prompt).caption() == "a castle with blue roofs"
    assert vocabulary.read(prompt).findings == ()
    assert vocabulary.read("a blue chair") == CATALOGUE.read("a blue chair")
    assert vocabulary.read("a castle with blue roofs and a flag").phrase is None


def test_every_word_of_the_catalogue_means_what_it_meant():
    for kind in CATALOGUE.kinds.values():
        for noun in (kind.name, kind.plural_name, *kind.synonyms, *kind.design_nouns):
            for prompt in (f"a red {noun}", *(f"a {noun} {design}" for design in kind.designs)):
                assert VOCABULARY.read(prompt) == CATALOGUE.read(prompt)


def test_a_kind_of_the_catalogue_that_was_not_trained_may_be_among_the_captions():
    vocabulary = Vocabulary(["duck"], CAPTURED)
    assert vocabulary.understand("a barrel").caption() == "a red barrel"
    with pytest.raises(InputError, match=r"not trained on 'chair'; it knows duck, .*crate.*, shield"):
        vocabulary.understand("a chair")
    with pytest.raises(InputError, match="did you mean 'crat' → 'crate'"):
        vocabulary.understand("a crat")


def test_the_kinds_in_one_number_and_without_what_the_catalogue_has():
    assert VOCABULARY.captions.kinds == (
        *("arrow", "axe", "banner", "barracks", "barrel", "carrot", "cheese", "church", "crate", "crate lid", "crossbow", "hooded rogue"),
        *("jack-o-lantern pumpkin", "jar", "shelf", "shield", "stairs", "traffic light", "tree stump", "two-handed axe"),
    )
    assert set(VOCABULARY.captions.kinds) - set(VOCABULARY.meshes) == {"barrel", "jack-o-lantern pumpkin"}
    assert VOCABULARY.describe().endswith(f"\nand, from meshes: {', '.join(VOCABULARY.meshes)}")
    assert {"crate", "tree stump"} <= set(VOCABULARY.words())


@pytest.mark.parametrize(
    ("caption", "kinds"),
    [("a lemon", ("lemon",)), ("chair red", ("chair",)), ("a chair, by a red sea", ("chair",)), ("pile of gold", ("gold",)), ("!?", ())],
)
def test_captions_of_any_wording_have_a_kind(caption, kinds):
    assert TrainedCaptions([caption]).kinds == kinds


@pytest.mark.parametrize(("one", "many"), [("box", "boxes"), ("knife", "knives"), ("cherry", "cherries"), ("axe", "axes"), ("key", "keys")])
def test_singular_and_plural_have_one_key(one, many):
    assert key(one) == key(many)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("a red cra", ["a red crate", "a red crate lid"]),
        ("a crate of c", ["a crate of cheese", "a crate of carrots"]),
        ("a crate pur", ["a crate purple"]),
        ("a crate of carrots ", []),
    ],
)
def test_completions_are_colours_and_captions_of_the_kind(typed, completed):
    assert completions(typed, VOCABULARY) == completed


# -- the folder ---------------------------------------------------------------------------------------------------------------


def index_of(folder, captions):
    """What a folder says that has ``captions`` as its file."""
    (folder / CAPTIONS).write_text(captions, encoding="utf-8")
    return {"captions": CAPTIONS}


def test_a_folder_says_its_captions(tmp_path):
    assert trained_captions({}, tmp_path) == ()
    assert trained_captions(index_of(tmp_path, '["a gray axe", "a red réd"]'), tmp_path) == ("a gray axe", "a red réd")


@pytest.mark.parametrize("content", ["", "{", "{}", '"a gray axe"', '["a gray axe", 3]', "[" * 100_000])
def test_damaged_captions_are_refused_in_one_line(tmp_path, content):
    with pytest.raises(FileFormatError, match=r"^prior: .*captions\.json.*prior again$"):
        trained_captions(index_of(tmp_path, content), tmp_path)


@pytest.mark.parametrize("name", ["../../secrets.json", "other.json", 3, ["captions.json"], ""])
def test_no_other_file_is_read(tmp_path, name):
    with pytest.raises(FileFormatError, match=r"captions of model_index\.json: expected 'captions\.json', got"):
        trained_captions({"captions": name}, tmp_path)
    with pytest.raises(FileFormatError, match=r"captions\.json is missing"):
        trained_captions({"captions": CAPTIONS}, tmp_path)


def test_a_saved_prior_reads_its_captions(tmp_path):
    from fsd_gs.pretrain.diffusion import Denoiser
    from fsd_gs.pretrain.folder import save_prior
    from fsd_gs.pretrain.start import load_parts

    parts = load_parts(WEIGHTS)
    denoiser = Denoiser(parts.unet, parts.text_encoder, parts.tokenizer)
    folder = save_prior(tmp_path / "prior", denoiser, parts.vae, views=4, vocabulary="catalogue", captions=["a gray axe"])
    assert json.loads((folder / CHECKSUMS).read_text()).keys() >= {CAPTIONS, "model_index.json"}
    prior = load(folder)
    assert prior.vocabulary.meshes == ("axe",)
    assert prior.encode_text("a red axe", "an axe", None).prompt == "a red axe"
    (folder / CAPTIONS).write_text('["a gray sword"]')
    with pytest.raises(FileFormatError, match=r"captions\.json is missing or damaged"):
        verify(folder)
    plain = save_prior(tmp_path / "plain", denoiser, parts.vae, views=4, vocabulary="catalogue")
    assert not (plain / CAPTIONS).exists()
    assert "captions" not in json.loads((plain / "model_index.json").read_text())


@pytest.mark.parametrize(
    ("meshes", "share", "vocabulary", "captions"),
    [(True, 0.8, "catalogue", ("a gray axe", "an axe")), (True, 0.0, "", ()), (False, 0.0, "catalogue", ())],
)
def test_a_training_hands_its_captions_to_the_prior(tmp_path, monkeypatch, meshes, share, vocabulary, captions):
    from fsd_gs.pretrain.splat import command
    from fsd_gs.pretrain.splat.settings import SplatPretrainConfig
    from fsd_gs.pretrain.splat.stream import make_splat_source

    (tmp_path / "axe.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    (tmp_path / "captions.json").write_text('{"axe.obj": ["an axe", "a gray axe", "an axe"]}')
    config = SplatPretrainConfig()
    config.data.meshes, config.data.catalogue_share = str(tmp_path) if meshes else "", share
    monkeypatch.setattr(command, "make_splat_card", lambda *_: {})
    trainer = Mock()
    session = command.Session(config, tmp_path, trainer, make_splat_source(config.data).captions)
    session.export()
    trainer.averaged().save.assert_called_once_with(tmp_path / "prior", vocabulary=vocabulary, categories=[], captions=captions, card={})


def test_the_page_of_words_has_what_captions_say():
    from fsd_gs.train.words_page import words_page

    kinds = [VOCABULARY.kinds["mug"]]
    said = {"crate": VOCABULARY.mesh_words()["crate"]}
    live, alone = words_page(kinds, said, live=True), words_page(kinds, said)
    assert 'href="/index.html?words=crate%20of%20carrots"' in live
    assert "<li>crate of carrots</li>" in alone
    for page in (live, alone):
        assert "<h1>2 kinds" in page
        assert page.count("<article") == 2
        assert page.count("<img") == 1
