"""The embedded prior at work: an MVDream-like network that reads prompts in the catalogue's words and is told the background.

    y = "a red chair with a tall back, on a white background"

The network comes from a diffusers folder like any other (:func:`fsd_gs.priors.mvdream.load_folder` builds this class when
model_index.json says ``names_background``); nothing here touches the denoising. The folder that ships with the package is ``weights``;
``prior.name=nano`` means it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from fsd_gs.errors import FileFormatError
from fsd_gs.priors.backgrounds import in_front_of, nearest_background
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.mvdream import VIEWS, MVDreamPrior
from fsd_gs.priors.nano.catalogue import article
from fsd_gs.priors.nano.finite_set import understand
from fsd_gs.priors.nano.vocabulary import parse_prompt
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.text import EmbeddedText, TextBank
from fsd_gs.types import Cameras, TextCondition

WEIGHTS = Path(__file__).parent / "weights"
CHECKSUMS = "checksums.json"


class NanoPrior(MVDreamPrior):
    """``catalogue``: prompts are read by the catalogue's vocabulary; otherwise they go to the text encoder as they are."""

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
        catalogue: bool,
    ) -> None:
        super().__init__(network, codec, bank, schedule, options, prediction, views, suffix)
        self.catalogue = catalogue
        self._said: dict[tuple[str, str], tuple[str, str]] = {}

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None) -> EmbeddedText:
        """InputError for a prompt that names nothing of the catalogue; unknown words are named in a log line, once, and left out."""
        if self.catalogue:
            key = (prompt, negative_prompt)
            if key not in self._said:
                self._said[key] = (plain_caption(prompt), plain_negative(negative_prompt))
            prompt, negative_prompt = self._said[key]
        return super().encode_text(prompt, negative_prompt, cameras)

    def with_background(self, text: TextCondition, background: Tensor) -> EmbeddedText:
        """Both prompts in front of the named colour that is nearest to ``background`` [3]: guidance must not push against it."""
        name = nearest_background(background)
        return MVDreamPrior.encode_text(self, in_front_of(text.prompt, name), in_front_of(text.negative_prompt, name), None)


def plain_caption(prompt: str) -> str:
    """The prompt in the words that most training captions use: "one cute crimson armchair" → "a red chair with armrests"."""
    query = understand(prompt)
    phrase = article(f"{query.color or ''} {query.category}".strip())
    return f"{phrase} {query.design}" if query.design else phrase


def plain_negative(prompt: str) -> str:
    """What the catalogue understands of a negative prompt; empty if nothing."""
    return plain_caption(prompt) if parse_prompt(prompt).category else ""


def verify(folder: Path) -> Path:
    """``folder`` itself; FileFormatError if a file differs from ``checksums.json``."""
    expected = json.loads((folder / CHECKSUMS).read_text())
    for name, digest in expected.items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise FileFormatError(f"prior: {file} is missing or damaged (its SHA-256 differs from {CHECKSUMS}); install the package again")
    return folder
