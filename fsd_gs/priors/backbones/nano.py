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

from fsd_gs.catalogue.vocabulary import Vocabulary
from fsd_gs.core.backgrounds import in_front_of, nearest_background
from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import FileFormatError
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.mvdream import VIEWS, MVDreamPrior
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.reader import CatalogueReader
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

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words it knows; None where prompts go to the text encoder as they are."""
        return self.reader.vocabulary if self.reader else None

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
