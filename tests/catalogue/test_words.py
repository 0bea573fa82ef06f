"""Words of a prompt: what is not taken as it was said is a finding; what decides the look is asked about before minutes are spent."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fsd_gs.catalogue.kinds import KINDS
from fsd_gs.catalogue.vocabulary import PromptError, Vocabulary, note, parse_prompt, question
from fsd_gs.config import load_config
from fsd_gs.core.device import resolve_device
from fsd_gs.errors import InputError
from fsd_gs.priors.reader import CatalogueReader
from fsd_gs.train.asset import prepare
from fsd_gs.train.backbones import load_prior
from fsd_gs.train.words import check_words, find_words, known_vocabulary, vocabulary_of

ROOT = Path(__file__).parents[2]


def said(prompt):
    """(kind, colour, design) taken and (kind, words) of the findings."""
    parsed = parse_prompt(prompt)
    return (parsed.category, parsed.color, parsed.design), [(f.kind, f.words) for f in parsed.findings]


@pytest.mark.parametrize(
    ("prompt", "taken", "findings"),
    [
        ("two robots", ("robot", None, None), [("count", "two")]),
        ("robots", ("robot", None, None), [("count", "robots")]),
        ("2 ducks", ("duck", None, None), [("count", "2")]),
        ("a pair of ducks", ("duck", None, None), [("count", "pair")]),
        ("1 duck", ("duck", None, None), []),
        ("three fish", ("fish", None, None), [("count", "three")]),
        ("a small dark house", ("house", None, None), [("qualifier", "small dark")]),
        ("a small red shiny house", ("house", "red", None), [("qualifier", "small, shiny")]),
        ("a chair, not blue", ("chair", None, None), [("negation", "not blue")]),
        ("a chair that isn't blue", ("chair", None, None), [("negation", "not blue")]),
        ("a chair that isn’t blue", ("chair", None, None), [("negation", "not blue")]),
        ("a house without a chimney and with a porch", ("house", None, "with a porch"), [("negation", "without a chimney")]),
        ("not a chair but a red table", ("table", "red", None), [("negation", "not a chair")]),
        ("a duck with no hat, yellow", ("duck", "yellow", None), [("negation", "no hat")]),
        ("a yelow duck", ("duck", None, None), [("unknown", "yelow")]),
        ("a réd chair", ("chair", "red", None), []),
        ("A RÉD CHAIR", ("chair", "red", None), []),
        ("a chair with arms", ("chair", None, None), [("unknown", "arms")]),
        ("a red mushroom with white spots", ("mushroom", "red", None), []),
        ("a house with a red roof", ("house", None, None), [("part color", "red")]),
        ("a blue house with a red door", ("house", "blue", None), [("part color", "red")]),
        ("a red and white chair", ("chair", "red", None), [("second color", "white")]),
        ("a chair with a tall back and armrests", ("chair", None, "with a tall back"), [("second design", "armrests")]),
        ("a chair on a white background", ("chair", None, None), [("background", "white background")]),
        ("an ice cream with two scoops", ("ice cream", None, "with three scoops"), [("count", "two")]),
        ("an ice cream with three scoops", ("ice cream", None, "with three scoops"), []),
        ("a purple duck", ("duck", "purple", None), [("color", "purple")]),
        ("a cat beside a house", ("cat", None, None), [("unknown", "beside"), ("object", "house")]),
        ("ein roter Stuhl", (None, None, None), [("unknown", "ein"), ("unknown", "roter"), ("unknown", "stuhl")]),
        ("красный chair", ("chair", None, None), [("unknown", "красный")]),
        ("红色的椅子", (None, None, None), [("unknown", "红色的椅子")]),
    ],
)
def test_what_is_taken_and_what_is_found(prompt, taken, findings):
    assert said(prompt) == (taken, findings)


@pytest.mark.parametrize(
    ("prompt", "word", "suggestion"),
    [
        ("a yelow duck", "yelow", "yellow"),
        ("a bleu chair", "bleu", "blue"),
        ("a chiar", "chiar", "chair"),
        ("a chair with arms", "arms", "armrests"),
        ("a chair with rokers", "rokers", "rockers"),
        ("a sofa with arms", "arms", "with square arms"),
        ("a house with a thatched red roof", "thatched", "with a thatched roof"),
        ("a red chair with zorgl", "zorgl", None),
    ],
)
def test_suggestions_fit_the_kind(prompt, word, suggestion):
    finding = next(f for f in parse_prompt(prompt).findings if f.words == word)
    assert (finding.asks, finding.suggestion) == (True, suggestion)
    if suggestion:
        assert f"did you mean '{suggestion}'?" in finding.message


def test_no_suggestion_is_a_word_that_the_kind_does_not_know():
    for name, kind in KINDS.items():
        for word in ("arm", "hatt", "wheell", "gren", "cristal", "windos", "legs", "scoop", "flagg"):
            for suggestion in parse_prompt(f"a {name} with {word}").suggestions.values():
                reread = parse_prompt(f"a {name} with {suggestion}")
                assert reread.category == name
                assert not [f for f in reread.findings if f.kind in ("unknown", "object")], (name, word, suggestion)
        assert parse_prompt(f"a {name}").findings == ()
        for feature in kind.features:
            assert said(f"a {name} with {feature}")[1] == [], (name, feature)


def test_every_refusal_offers_only_what_the_prior_takes():
    vocabulary = Vocabulary(["duck", "chair"])
    for prompt in ("a stool", "ein roter Stuhl", "a ducj", "???", ""):
        with pytest.raises(InputError, match="it knows chair, duck") as refused:
            vocabulary.understand(prompt)
        assert "stool, " not in str(refused.value)
    with pytest.raises(InputError, match=r"not trained on 'stool'.*--config exact"):
        vocabulary.understand("a stool")
    with pytest.raises(InputError, match=r"did you mean 'ducj' → 'duck'\?"):
        vocabulary.understand("a ducj")


def test_one_line_about_everything():
    findings = parse_prompt("two small yelow ducks, not blue").findings
    assert question(findings).count("\n") == 0
    assert question(findings).startswith("prompt: 'yelow' is not known here (did you mean 'yellow'?). Change the words")
    assert note(findings) == (
        "prompt: left out: 'not blue' cannot be done: a negation is not understood; "
        "'two' cannot be done: numbers are not understood, and an asset is one object (count=2 makes two); 'small' is not understood here"
    )
    assert "yelow" in note(findings, anyway=True)
    assert note(parse_prompt("a red chair").findings) == ""


def test_a_reader_says_it_once_and_takes_no_negation(caplog):
    reader = CatalogueReader(("chair", "duck"))
    for _ in range(3):
        assert reader.caption("two small chairs, not blue") == "a chair"
        assert reader.negative("a blue qwertz") == ""
        assert reader.negative("a blue chair") == "a blue chair"
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("prompt: left out: 'not blue'")
    assert lines[1] == "negative_prompt: left out: 'a blue qwertz' names no kind of object that this prior knows"


TINY = [
    "steps=1",
    "splats.count=20",
    "densify.kind=none",
    "cameras.views=4",
    "render.sizes=[16]",
    "render.size_at=[0.0]",
    "prior.name=exact",
]


def test_training_asks_before_it_begins():
    config = load_config([], [*TINY, "prompt=a yelow duck"])
    prior = load_prior(config, resolve_device("cpu"))
    with pytest.raises(PromptError, match=r"'yelow' is not known here \(did you mean 'yellow'\?\).*anyway=true") as refused:
        prepare(config, prior)
    assert [f.suggestion for f in refused.value.findings] == ["yellow"]
    assert prepare(load_config([], [*TINY, "prompt=a yelow duck", "anyway=true"]), prior).step == 0
    assert [f.kind for f in find_words(prior, "two yelow ducks")] == ["count", "unknown"]
    check_words(prior, "two small ducks")  # notes do not stop
    assert vocabulary_of(prior) is not None
    assert vocabulary_of(object()) is None
    assert find_words(object(), "whatever words") == ()


def command(*words):
    done = subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.mark.long
def test_the_command_stops_with_one_line_and_goes_on_anyway(tmp_path):
    words = [*TINY, f"output={tmp_path}", "outputs.turntable_frames=0"]
    code, out, err = command("prompt=a yelow duck", *words)
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith("error: prompt: 'yelow' is not known here (did you mean 'yellow'?)")
    assert not list(tmp_path.iterdir())
    code, _, err = command("prompt=a yelow duck", *words, "--anyway")
    assert code == 0, err
    said = [line for line in err if "compiling kernels" not in line]  # said once where the kernels' cache is cold
    assert len(said) == 1
    assert "left out: 'yelow'" in said[0]
    assert list(tmp_path.glob("a-yelow-duck/seed-0000/splats.ply"))


def test_prompts_of_the_shipped_suites_ask_nothing():
    prompts = set()
    for path in [*ROOT.glob("configs/**/*.yaml")]:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and values.get("prior", "nano") in ("nano", "exact") and "prompts" in values:
            prompts.update(values["prompts"])
    assert prompts
    for prompt in prompts:
        assert parse_prompt(prompt).category, prompt
        assert parse_prompt(prompt).asking == (), prompt


def test_the_words_need_no_shapes_and_no_kernels():
    code = "import sys, fsd_gs.catalogue.vocabulary, fsd_gs.priors.reader, fsd_gs.priors.backbones.nano as n\n"
    code += "print([m for m in sys.modules if m == 'numba' or m.startswith(('fsd_gs.catalogue.shapes', 'fsd_gs.catalogue.mesh'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"


def test_the_words_command_lists_what_the_prior_in_use_knows(tmp_path, capsys):
    from PIL import Image

    from fsd_gs.train.words import main

    assert main(["prior.name=exact"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{kind.name}\n" in listed and all(design in listed for design in kind.designs) for kind in KINDS.values())
    assert main([]) == 0  # the embedded prior
    listed = capsys.readouterr().out
    trained = vocabulary_of(load_prior(load_config([], []), resolve_device("cpu")))
    assert f"{len(trained.kinds)} kinds" in listed
    assert known_vocabulary("nano").kinds == trained.kinds  # as read without loading it
    assert known_vocabulary("sd15") is None
    assert all((f"\n{name}\n" in listed) == (name in trained.kinds) for name in KINDS)
    assert main(["prior.name=exact", "cupcake", "duck", "--picture", str(tmp_path / "a.png")]) == 0
    listed = capsys.readouterr().out
    assert "\ncake\n" in listed
    assert "\nchair\n" not in listed
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (2 * 2 * 96, 96 + 14)
    assert main(["prior.name=exact", "cupcake", "--page", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text()
    assert page.count("<article") == page.count("data:image/webp;base64,UklGR") == 1
    with pytest.raises(InputError, match=r"page: expected a name that ends in \.html"):
        main(["prior.name=exact", "cupcake", "--page", str(tmp_path / "a.txt")])
    with pytest.raises(InputError, match="kind: unknown name 'duk'; did you mean 'duck'"):
        main(["prior.name=exact", "duk"])
