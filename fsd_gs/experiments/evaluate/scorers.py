"""The networks that judge an evaluation, put together: any of them may be another that satisfies ``metrics.protocols``.

judge   the small classifier that ships with the package, for everything. Its figures compare methods with one another on the embedded
        catalogue; they are not comparable with CLIP or Inception figures, and tables say so.
clip    CLIP ViT-B/32 for alignment and cosines, the FID Inception for CROSS-FID and IS: the paper's networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.experiments.evaluate.suite import ScorerSettings
from fsd_gs.metrics.image_sets import classify_images, embed_images, score_images
from fsd_gs.metrics.judge import SHIPPED, Judge
from fsd_gs.metrics.lpips import Lpips, PairDistance
from fsd_gs.metrics.protocols import ImageClassifier, ImageEmbedder, PromptScorer
from fsd_gs.train.identity import files_fingerprint

CATEGORY, COLOR, DESIGN = range(3)  # columns of the labels
JUDGE_NOTE = "judge features, not comparable with CLIP/Inception"


class Labeller(Protocol):
    """Names what a picture shows: the embedded judge, or anything that answers the same questions."""

    @property
    def categories(self) -> tuple[str, ...]: ...
    @property
    def colors(self) -> tuple[str, ...]: ...
    @property
    def designs(self) -> tuple[str, ...]:
        """Each "category/design"."""
        ...

    def read(self, prompt: str) -> Any:
        """What a prompt asks for: an object with ``category``, ``color`` and ``design``, names of the labels or None."""
        ...

    def __call__(self, images: Tensor) -> Any:
        """[B, 3, H, W] → an object with logits ``category``, ``color`` and ``design``, each [B, K]."""
        ...


@dataclass(frozen=True)
class Scorers:
    """The networks that judge.

    Attributes:
        embedder: features of FID and CROSS-FID.
        similarity: features of the cosines.
        judge: labels, for accuracy and mode coverage; lpips: a second measure of diversity.
        note: printed beside every figure where the networks are not the paper's.
        identity: of the weights, where the names do not say it.
    """

    embedder: ImageEmbedder
    similarity: ImageEmbedder
    classifier: ImageClassifier
    prompt_scorer: PromptScorer
    judge: Labeller | None = None
    lpips: PairDistance | None = None
    note: str = ""
    identity: str = ""

    @property
    def comparable(self) -> bool:
        """Whether the networks are the paper's."""
        return not self.note

    @property
    def names(self) -> dict[str, str]:
        """Which network answers which question."""
        parts = {
            "CROSS-FID": self.embedder,
            "cosines": self.similarity,
            "inception score": self.classifier,
            "alignment": self.prompt_scorer,
            "labels": self.judge,
            "LPIPS": self.lpips,
        }
        return {question: getattr(network, "name", type(network).__name__) for question, network in parts.items() if network is not None}


def load_scorers(settings: ScorerSettings, device: torch.device) -> Scorers:
    """The networks that ``settings`` name; FileFormatError or BackendError says which weights are missing and where to get them."""
    lpips = None if settings.lpips is None else Lpips.load(settings.lpips, device=device)
    if settings.kind == "judge":
        judge = Judge.load(settings.judge, device=device)
        return Scorers(judge, judge, judge, judge, judge, lpips, JUDGE_NOTE, _fingerprint(settings.judge or SHIPPED))
    from fsd_gs.metrics.clip import DEFAULT_MODEL, ClipScorer
    from fsd_gs.metrics.inception import WEIGHTS, InceptionFeatures

    if settings.inception is None:
        advice = f"download {WEIGHTS.url} ({WEIGHTS.megabytes} MB) and name the file: --inception FILE"
        raise InputError(f"inception: no weights given; {advice}")
    inception = InceptionFeatures.load(settings.inception, device=device)
    clip = ClipScorer.load(settings.clip or DEFAULT_MODEL, device=device)
    return Scorers(inception, clip, inception, clip, None, lpips, identity=_fingerprint(settings.clip))


def _fingerprint(path: str | Path | None) -> str:
    """Of local files; a hub id says itself what it is."""
    return files_fingerprint(Path(path)) if path is not None and Path(path).exists() else ""


@dataclass(frozen=True)
class Wanted:
    """What a prompt asks for, as numbers of the judge's labels; None where it leaves it open."""

    category: int | None = None
    color: int | None = None
    design: int | None = None

    @property
    def open(self) -> list[int]:
        """The columns of the labels that may vary: colour and design, unless the prompt fixes them."""
        return [column for column, fixed in ((COLOR, self.color), (DESIGN, self.design)) if fixed is None]


@dataclass(frozen=True)
class PictureScores:
    """What the networks say about N pictures of one prompt. features [N, D], similarity [N, E], probabilities [N, K], alignment [N]; labels
    [N, 3] category, colour and design, or [N, 0] without a judge."""

    features: Tensor
    similarity: Tensor
    probabilities: Tensor
    alignment: Tensor
    labels: Tensor


def score_pictures(scorers: Scorers, pictures: Tensor, prompt: str) -> PictureScores:
    """Ask all networks about ``pictures`` [N, 3, H, W] in [0, 1]."""
    judge, networks = scorers.judge, (scorers.embedder, scorers.similarity, scorers.classifier, scorers.prompt_scorer)
    if isinstance(judge, Judge) and all(network is judge for network in networks):
        return _judged(judge, pictures, prompt)
    features = embed_images(scorers.embedder, [pictures])
    same = scorers.similarity is scorers.embedder
    return PictureScores(
        features=features,
        similarity=features.clone() if same else embed_images(scorers.similarity, [pictures]),
        probabilities=classify_images(scorers.classifier, [pictures]),
        alignment=score_images(scorers.prompt_scorer, [pictures], prompt),
        labels=_labels(scorers.judge, pictures),
    )


def _judged(judge: Judge, pictures: Tensor, prompt: str) -> PictureScores:
    """The same answers from one pass of the judge instead of four."""
    output = judge(pictures)
    features = output.features.cpu()
    alignment = judge.agreement(output, judge.read(prompt)).cpu()
    return PictureScores(features, features.clone(), output.category.softmax(dim=1).cpu(), alignment, _labels_of(judge, output))


def wanted_of(prompt: str, judge: Labeller | None) -> Wanted:
    """What ``prompt`` asks for in the judge's labels; nothing without a judge or in words that it does not know."""
    try:
        asked = None if judge is None else judge.read(prompt)
    except InputError:
        asked = None
    if judge is None or asked is None:
        return Wanted()
    return Wanted(_index(judge.categories, asked.category), _index(judge.colors, asked.color), _index(judge.designs, asked.design))


def check_prompts(scorers: Scorers, prompts: Sequence[str]) -> None:
    """InputError for a prompt that the networks cannot judge: now, not after hours of work."""
    for prompt in prompts:
        try:
            scorers.prompt_scorer.alignment(torch.ones(1, 3, 64, 64), prompt)
        except FsdGsError as error:
            raise InputError(f"prompt '{prompt}' cannot be scored: {error}") from error


def _index(names: Sequence[str], name: str | None) -> int | None:
    return names.index(name) if name in names else None


def _labels(judge: Labeller | None, pictures: Tensor) -> Tensor:
    if judge is None:
        return torch.zeros(len(pictures), 0, dtype=torch.int64)
    return _labels_of(judge, judge(pictures))


def _labels_of(judge: Labeller, output: Any) -> Tensor:
    category, color = output.category.argmax(1).cpu(), output.color.argmax(1).cpu()
    owner = torch.tensor([judge.categories.index(design.split("/")[0]) for design in judge.designs])
    foreign = owner[None] != category[:, None]  # the designs of other categories
    design = output.design.cpu().masked_fill(foreign, -torch.inf).argmax(1)
    return torch.stack([category, color, design], dim=1)
