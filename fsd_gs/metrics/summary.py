"""The figures of one prompt's assets, from their turntables alone: what a notebook wants without a suite.

    views: seed s → x_s [V, 3, H, W], the same V cameras in orbit order for every seed

    alignment     mean over seeds and views of the scorer's agreement with the prompt
    IS            over all S·V views (Salimans et al. 2016)
    CROSS-FID     between the views of the lower and of the upper half of the seeds (arXiv 2405.10988)
    diversity     mean pairwise 1 − cos of the assets' features
    consistency,  mean over assets of the cosine of neighbouring views, and of the front–back similarity beyond that of the sides
    janus

``fsd-gs evaluate`` computes the same from runs on disk, counts what failed, and compares methods with intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from fsd_gs.errors import InputError
from fsd_gs.metrics.distribution import cross_fid, halves_of, inception_score
from fsd_gs.metrics.image_sets import classify_images, embed_images, score_images
from fsd_gs.metrics.protocols import ImageClassifier, ImageEmbedder, PromptScorer
from fsd_gs.metrics.similarity import cosine_diversity, janus_check, view_consistency


@dataclass(frozen=True)
class Summary:
    """The figures of the module.

    Attributes:
        scorers: the names of the networks behind them, which belong beside every figure.
    """

    alignment: float
    inception_score: float
    cross_fid: float
    diversity: float
    consistency: float
    janus: float
    scorers: tuple[str, ...]


def evaluate(
    views: Mapping[int, Tensor],
    prompt: str,
    *,
    embedder: ImageEmbedder | None = None,
    classifier: ImageClassifier | None = None,
    scorer: PromptScorer | None = None,
) -> Summary:
    """The figures of ``prompt``'s assets; what is None is the shipped judge.

    views: seed → images [V, 3, H, W] in [0, 1], V a multiple of 4, an even number of seeds (two at least).
    InputError for other numbers of seeds or views, or sizes that differ.
    """
    shapes = {tuple(images.shape) for images in views.values()}
    if len(shapes) != 1:
        raise InputError(f"views: expected the same number and size of images for every seed, got {sorted(shapes) or 'no seeds'}")
    halves = halves_of(list(views))
    embedder, classifier, scorer = _or_judge(embedder, classifier, scorer)
    features, probabilities, alignments = {}, [], []
    for seed in sorted(views):
        features[seed] = embed_images(embedder, [views[seed]])
        probabilities.append(classify_images(classifier, [views[seed]]))
        alignments.append(score_images(scorer, [views[seed]], prompt))
    return Summary(
        alignment=float(torch.cat(alignments).double().mean()),
        inception_score=inception_score(torch.cat(probabilities)),
        cross_fid=cross_fid(features, halves),
        diversity=cosine_diversity(torch.stack(list(features.values()))),
        consistency=fmean(view_consistency(values) for values in features.values()),
        janus=fmean(janus_check(values).score for values in features.values()),
        scorers=(embedder.name, classifier.name, scorer.name),
    )


def _or_judge(
    embedder: ImageEmbedder | None, classifier: ImageClassifier | None, scorer: PromptScorer | None
) -> tuple[ImageEmbedder, ImageClassifier, PromptScorer]:
    if embedder is not None and classifier is not None and scorer is not None:
        return embedder, classifier, scorer
    from fsd_gs.metrics.judge import Judge

    judge = Judge.load()
    return embedder or judge, classifier or judge, scorer or judge
