"""The embedded prior at work: an MVDream-like network that reads prompts in the catalogue's words and is told the background.

    y = "a red chair with a tall back, on a white background"

The network comes from a diffusers folder like any other (:func:`fsd_gs.priors.mvdream.load_folder` builds this class when
model_index.json says ``names_background``); nothing here touches the denoising. The folder that ships with the package is ``weights``;
``prior.name=nano`` means it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fsd_gs.catalogue.objects import article
from fsd_gs.catalogue.vocabulary import parse_prompt
from fsd_gs.core.backgrounds import in_front_of, nearest_background
from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.priors.finite_set import understand
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.mvdream import VIEWS, MVDreamPrior
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.text import EmbeddedText, TextBank

WEIGHTS = Path(__file__).parent / "weights"
CHECKSUMS = "checksums.json"


class NanoPrior(MVDreamPrior):
    """``reader``: puts prompts into the words of the training captions; None hands them to the text encoder as they are."""

    def __init__(
        self,
        network: Any,
        codec: LatentCodec,
        bank: TextBank,
        schedule: DiscreteSchedule,
        options: LoadOptions,
        prediction: str,
        views: int = VIEWS,
        suffix: str = "",
        *,
        reader: CatalogueReader | None,
    ) -> None:
        super().__init__(network, codec, bank, schedule, options, prediction, views, suffix)
        self.reader = reader

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None) -> EmbeddedText:
        """InputError for a prompt that names nothing of the catalogue; unknown words are named in a log line, once, and left out."""
        if self.reader is not None:
            prompt, negative_prompt = self.reader.caption(prompt), self.reader.negative(negative_prompt)
        return super().encode_text(prompt, negative_prompt, cameras)

    def with_background(self, text: TextCondition, background: Tensor) -> EmbeddedText:
        """Both prompts in front of the named colour that is nearest to ``background`` [3]: guidance must not push against it."""
        name = nearest_background(background)
        said = MVDreamPrior.encode_text(self, in_front_of(text.prompt, name), in_front_of(text.negative_prompt, name), None)
        return replace(said, prompt=text.prompt, negative_prompt=text.negative_prompt, background=background)


class CatalogueReader:
    """Puts prompts into the words that most training captions use. categories: those that were trained; empty for all."""

    def __init__(self, categories: tuple[str, ...] = ()) -> None:
        self.categories = categories
        self._captions: dict[str, str] = {}  # so that a run is told once, not at every step, which words are left out

    def caption(self, prompt: str) -> str:
        """ "one cute crimson armchair" → "a red chair with armrests". InputError where the subject is unknown or was not trained."""
        if prompt not in self._captions:
            query = understand(prompt)
            if self.categories and query.category not in self.categories:
                raise InputError(
                    f"prompt: the embedded prior was not trained on '{query.category}'; it knows {', '.join(self.categories)}. "
                    "--config exact looks it up in the catalogue; --config mvdream or --config sd21, on a GPU, understand everything"
                )
            phrase = article(f"{query.color or ''} {query.category}".strip())
            self._captions[prompt] = f"{phrase} {query.design}" if query.design else phrase
        return self._captions[prompt]

    def negative(self, prompt: str) -> str:
        """What a negative prompt names of the catalogue; empty if nothing."""
        category = parse_prompt(prompt).category
        return self.caption(prompt) if category and (not self.categories or category in self.categories) else ""


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the folder but the list itself, by relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def verify(folder: Path) -> Path:
    """``folder`` itself; FileFormatError if a file differs from ``checksums.json``."""
    found = checksums(folder)
    for name, digest in json.loads((folder / CHECKSUMS).read_text()).items():
        if found.get(name) != digest:
            raise FileFormatError(
                f"prior: {folder / name} is missing or damaged (its SHA-256 differs from {CHECKSUMS}); install the package again"
            )
    return folder
