"""Whether the prior in use understands the prompt, asked before minutes are spent on the wrong thing.

The command line, ``generate`` and the start page ask here; the reading itself is ``catalogue.vocabulary``. A prior without a vocabulary of
its own (a real text encoder) takes any words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from fsd_gs.catalogue.kinds import Kind
from fsd_gs.catalogue.palette import COLORS
from fsd_gs.catalogue.vocabulary import CATALOGUE, COLOR_SYNONYMS, Finding, PromptError, Vocabulary, question
from fsd_gs.config import Config, load_config
from fsd_gs.core import commandline
from fsd_gs.errors import InputError, unknown_name
from fsd_gs.priors.base import Prior
from fsd_gs.priors.reader import trained_captions

DESCRIPTION = """What the prior in use understands: kinds of object, their designs and colours.

A prompt names a kind, and may name one of its colours and one of its designs: "a red chair with a tall back".

  {program}                    all kinds
  {program} chair house        these kinds
  {program} prior.name=FOLDER  those of another prior"""


def vocabulary_of(prior: Prior) -> Vocabulary | None:
    """The words that ``prior`` knows; None where any words will do."""
    return getattr(prior, "vocabulary", None)


@cache
def known_vocabulary(name: str) -> Vocabulary | None:
    """The words of a prior as far as they are known before it is loaded, by ``prior.name``; None where any may do.

    The kinds that the embedded prior was trained on stand in its index, which is read without its networks.
    """
    if name == "exact":
        return CATALOGUE
    if name != "nano":
        return None
    folder = resources.files("fsd_gs.priors.nano").joinpath("weights")
    index = json.loads(folder.joinpath("model_index.json").read_text(encoding="utf-8"))
    if index.get("vocabulary") != "catalogue":
        return None
    return Vocabulary(index.get("categories", ()), trained_captions(index, folder))


def find_words(prior: Prior, prompt: str) -> tuple[Finding, ...]:
    """What of the prompt the prior cannot take as it was said; those that ``asks`` should be answered before training.

    Raises:
        InputError: the subject itself is unknown to the prior; the message lists what it knows.
    """
    vocabulary = vocabulary_of(prior)
    return vocabulary.understand(prompt).findings if vocabulary is not None else ()


def require_words(prompt: str) -> None:
    """Refuse a prompt without words.

    Raises:
        InputError: there is nothing in it.
    """
    if not prompt.strip():
        raise InputError('prompt: expected words that say what to make, got nothing; for example prompt="a red chair"')


def check_words(prior: Prior, prompt: str, *, anyway: bool = False) -> None:
    """PromptError, one line with the nearest known words, if a word that decides the look is not understood; ``anyway`` goes on."""
    findings = find_words(prior, prompt)
    if not anyway and any(finding.asks for finding in findings):
        raise PromptError(question(findings), findings)


# -- fsd-gs words ------------------------------------------------------------------------------------------------------------


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs words``; what is not key=value among the arguments is a kind."""
    parser = commandline.make_parser(program, DESCRIPTION)
    commandline.add_settings(parser, Config, listed=False, metavar="KIND|key=value")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write a .png with one object of each kind")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write a .html with them all, to search, without a network")
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs words") -> int:
    """List what the prior of the settings knows, all of it or some kinds; ``--picture`` and ``--page`` draw them."""
    options = commandline.parse(make_parser(program), arguments)
    from fsd_gs.core.device import resolve_device
    from fsd_gs.train.backbones import load_prior

    config = load_config(options.config, [word for word in options.overrides if "=" in word])
    vocabulary = vocabulary_of(load_prior(config, resolve_device(config.device)))
    if vocabulary is None:
        print(f"prior {config.prior.name}: a text encoder reads the prompt; any words will do")
        return 0
    kinds, meshes = _chosen(vocabulary, [word for word in options.overrides if "=" not in word])
    print(f"prior {config.prior.name}: {len(vocabulary.kinds)} kinds of object; a prompt is a colour, a kind and a design of it\n")
    for kind in kinds:
        print(_described(kind))
    if meshes:
        print("\nand, from meshes, in any colour:")
    words = vocabulary.mesh_words()
    said = {name: words[name] for name in meshes}
    for name, endings in said.items():
        print("\n    ".join([name, *(ending for ending in endings if ending != name)]))
    print("\ncolours: " + ", ".join(f"{name} ({', '.join(COLOR_SYNONYMS[name])})" for name in COLORS))
    if options.picture:
        save_picture(kinds, options.picture)
        print(f"wrote {options.picture}")
    if options.page:
        save_page(kinds, options.page, said)
        print(f"wrote {options.page}")
    return 0


def _chosen(vocabulary: Vocabulary, words: Sequence[str]) -> tuple[list[Kind], list[str]]:
    """The kinds that the words name, by any of their names, and those that only captions of meshes know; all of them for no words."""
    if not words:
        return list(vocabulary.kinds.values()), list(vocabulary.meshes)
    kinds, meshes = [], []
    for word in words:
        parsed = vocabulary.read(word)
        if parsed.category is None or not vocabulary.knows(parsed):
            raise InputError(unknown_name("kind", word, (*vocabulary.kinds, *vocabulary.meshes)))
        if parsed.phrase is None:
            kinds.append(vocabulary.kinds[parsed.category])
        else:
            meshes.append(parsed.category)
    return kinds, meshes


def _described(kind: Kind) -> str:
    names = (*kind.synonyms, *(f"{noun} = {kind.name} {design}" for noun, design in kind.design_nouns.items()))
    also = f"\n    also     {'; '.join(names)}" if names else ""
    return f"{kind.name}\n    designs  {'; '.join(kind.designs)}\n    colours  {', '.join(kind.colors)}{also}"


def save_picture(kinds: Sequence[Kind], path: Path, size: int = 96, columns: int = 4) -> None:
    """A sheet with one object of each kind, from the front and from behind, under its name."""
    from fsd_gs.catalogue.contact_sheet import captioned_sheet
    from fsd_gs.catalogue.objects import make_object
    from fsd_gs.export.pictures import save_png

    if path.suffix.lower() != ".png":
        raise InputError(f"picture: expected a name that ends in .png, got '{path.name}'")
    if not kinds:
        raise InputError("picture: expected a kind of the catalogue among the words; meshes that a prior was trained with are not at hand")
    things = [(kind.name, make_object(kind.name, 0, design=kind.designs[0], color=kind.colors[0]).mesh) for kind in kinds]
    save_png(captioned_sheet(things, size, columns), path)


def save_page(kinds: Sequence[Kind], path: Path, meshes: Mapping[str, Sequence[str]] | None = None) -> None:
    """A page with a picture of each kind, its designs and colours, and what captions of meshes say, that works offline."""
    from fsd_gs.io import write_text
    from fsd_gs.train.words_page import words_page

    if path.suffix.lower() != ".html":
        raise InputError(f"page: expected a name that ends in .html, got '{path.name}'")
    write_text(path, words_page(kinds, meshes))
