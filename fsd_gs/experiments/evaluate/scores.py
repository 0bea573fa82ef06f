"""From pictures to figures: one asset, then the assets of one prompt under one method.

Letters: prompt p has S seeds; n of them left pictures, the others ended in an error. What failed counts, and never in a method's favour:

    alignment     mean over assets of the mean over views; an errored asset counts 0, the scorers' lowest value
    category,     share of the S assets whose views show, by majority, the category or colour that the prompt asks for; errored ones do not.
    color         No value where the prompt asks for none, or where there is no judge
    IS            exp( 1/(S V) Σ_i KL(p_i ‖ p̄) ) over the views i that exist, p̄ their mean: a missing view adds nothing to the sum and
                  stays in the denominator
    CROSS-FID     FID between the views of the lower and the upper half of the seeds; 0 if one asset left no pictures, because FID of
                  fewer images is larger by bias alone, and a blank picture is unlike everything
    diversity,    mean over all S(S−1)/2 pairs of assets of 1 − cos, and of LPIPS view by view; 0 for a pair with a failed asset: wrecks
    LPIPS         differ from everything
    modes         number of different (design, colour) among the assets that did not fail and show the right category; what the prompt
                  itself fixes is no mode
    consistency,  mean over the n assets of the cosine of neighbouring views, and of the Janus score (``metrics.similarity``)
    Janus
    holes, tears, mean over the n assets of ``metrics.geometry``
    haze, floaters
    failure rate  share of the S assets that errored or whose geometry is unsound
    seconds       mean over the assets whose time is known

CROSS-FID, IS and alignment keep assets of unsound geometry as they are, since the paper's protocol knows no such judgement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from fsd_gs.config import Config
from fsd_gs.errors import FileFormatError
from fsd_gs.experiments.evaluate.assets import Record
from fsd_gs.experiments.evaluate.scorers import CATEGORY, COLOR, PictureScores, Scorers, Wanted, score_pictures
from fsd_gs.experiments.evaluate.suite import Protocol, Setting
from fsd_gs.experiments.evaluate.views import asset_geometry, asset_views
from fsd_gs.metrics.distribution import cross_fid, halves_of, inception_score
from fsd_gs.metrics.lpips import lpips_diversity
from fsd_gs.metrics.similarity import asset_features, cosine_distances, janus_check, majority_vote, mean_pairwise, view_consistency
from fsd_gs.train.checkpoint import load_state, save_state
from fsd_gs.train.identity import digest

NAN = float("nan")


@dataclass(frozen=True)
class Measure:
    """A column of the tables. higher_is_better None: neither, it describes."""

    heading: str
    digits: int
    higher_is_better: bool | None
    explanation: str


MEASURES: dict[str, Measure] = {
    "alignment": Measure("alignment", 2, True, "agreement of the views with the prompt"),
    "category": Measure("category right", 2, True, "share of assets that show the category asked for (majority of the views)"),
    "color": Measure("colour right", 2, True, "share of assets that show the colour asked for, over prompts that ask for one"),
    "inception_score": Measure("IS", 2, True, "Inception Score of the views of a prompt"),
    "cross_fid": Measure("CROSS-FID", 1, True, "FID between the views of one half of the seeds and the other: high is diverse"),
    "diversity": Measure("diversity", 3, True, "mean pairwise 1 − cos of the assets' features"),
    "lpips": Measure("LPIPS diversity", 3, True, "mean pairwise LPIPS of the assets, view by view"),
    "modes": Measure("modes", 2, True, "distinct designs and colours among the assets of a prompt"),
    "consistency": Measure("view consistency", 3, True, "mean cosine of neighbouring views"),
    "janus": Measure("Janus", 3, False, "front–back similarity beyond that of the sides; above 0 is suspicious"),
    "holes": Measure("holes", 4, False, "area of leaks, share of the silhouettes"),
    "tears": Measure("tears", 4, False, "area of openings that show the inside, share of the silhouettes"),
    "haze": Measure("haze", 3, False, "share of the visible pixels that are neither here nor there"),
    "floaters": Measure("floaters", 3, False, "share of the silhouettes outside their largest region; high for objects of several parts"),
    "failure_rate": Measure("failures", 3, False, "share of assets that ended in an error or whose geometry is unsound"),
    "seconds": Measure("s/asset", 1, None, "time of the optimisation"),
}


@dataclass(frozen=True)
class AssetScores:
    """One asset.

    Attributes:
        pictures: None where it left none.
        geometry: a flat ``GeometryReport``.
        values: the columns that one asset has.
    """

    record: Record
    pictures: PictureScores | None = None
    geometry: Mapping[str, Any] | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it counts as failed; () where it does not."""
        if self.record.error is not None:
            return (self.record.error,)
        return tuple(self.geometry["failures"]) if self.geometry else ()


@dataclass(frozen=True)
class PromptScores:
    """All assets (one a seed) of one setting and prompt.

    Attributes:
        values: every one of ``MEASURES``, NaN where there is none.
    """

    setting: Setting
    prompt: str
    values: Mapping[str, float]
    assets: int
    errors: int
    failed: int


# -- one asset -------------------------------------------------------------------------------------------------------------


def score_asset(record: Record, config: Config, folder: Path, protocol: Protocol, scorers: Scorers, wanted: Wanted) -> AssetScores:
    """Score a finished asset, or read its scores from ``folder``; they belong to these splats, views and networks."""
    if record.error is not None:
        return AssetScores(record, values={"alignment": 0.0, **_label_values(None, wanted)})
    path = folder / f"scores-{digest([vars(protocol), record.digest, scorers.names, scorers.identity, config.prompt])}.safetensors"
    known = read_scores(path)
    if known is None:
        pictures = score_pictures(scorers, asset_views(folder, record, config, protocol), config.prompt)
        report = asset_geometry(folder, config)
        known = pictures, {**report.as_dict(), "failures": list(report.failures)}
        save_state(path, {**vars(pictures), "geometry": known[1]})
    pictures, geometry = known
    return AssetScores(record, pictures, geometry, _values(record, pictures, geometry, wanted))


def read_scores(path: Path) -> tuple[PictureScores, dict[str, Any]] | None:
    """What an earlier evaluation wrote to ``path``; None where there is nothing, or nothing readable: then it is measured again."""
    try:
        state = load_state(path)
        geometry = state.pop("geometry")
        return PictureScores(**state), geometry
    except (FileFormatError, KeyError, TypeError):
        return None


def _values(record: Record, pictures: PictureScores, geometry: Mapping[str, Any], wanted: Wanted) -> dict[str, float]:
    return {
        "alignment": float(pictures.alignment.double().mean()),
        **_label_values(pictures.labels, wanted),
        "consistency": view_consistency(pictures.similarity),
        "janus": janus_check(pictures.similarity).score,
        "holes": geometry["holes"],
        "tears": geometry["tears"],
        "haze": geometry["haze"],
        "floaters": geometry["image_floaters"],
        "seconds": NAN if record.seconds is None else record.seconds,
    }


def _label_values(labels: Tensor | None, wanted: Wanted) -> dict[str, float]:
    """Whether the majority of the views shows the category and colour asked for, as 0 or 1; labels None: an errored asset."""
    found = {}
    for name, column, target in (("category", CATEGORY, wanted.category), ("color", COLOR, wanted.color)):
        if target is None:
            found[name] = NAN
        else:
            found[name] = 0.0 if labels is None else float(majority_vote(labels[:, column]).mode[0] == target)
    return found


# -- one prompt ------------------------------------------------------------------------------------------------------------


def score_prompt(
    setting: Setting, prompt: str, assets: Sequence[AssetScores], scorers: Scorers, wanted: Wanted, views: Callable[[Record], Tensor]
) -> PromptScores:
    """The figures of the assets that ``setting`` made for ``prompt``, by the rules of the module.

    views: [V, 3, H, W] of a record, for LPIPS.
    """
    values = {name: _mean([asset.values.get(name, NAN) for asset in assets]) for name in MEASURES}
    failed = [bool(asset.reasons) for asset in assets]
    values |= {
        "inception_score": _inception_score(assets),
        "cross_fid": _cross_fid(assets),
        "diversity": _diversity(assets, failed),
        "lpips": _lpips(assets, failed, scorers, views),
        "modes": _modes(assets, failed, wanted) if scorers.judge is not None else NAN,
        "failure_rate": sum(failed) / len(assets),
    }
    return PromptScores(setting, prompt, values, len(assets), sum(a.record.error is not None for a in assets), sum(failed))


def _inception_score(assets: Sequence[AssetScores]) -> float:
    present = [asset.pictures.probabilities for asset in assets if asset.pictures is not None]
    if not present:
        return 1.0
    return math.exp(math.log(inception_score(torch.cat(present))) * len(present) / len(assets))


def _cross_fid(assets: Sequence[AssetScores]) -> float:
    features = {asset.record.seed: asset.pictures.features for asset in assets if asset.pictures is not None}
    if len(features) < len(assets):
        return 0.0
    return cross_fid(features, halves_of(sorted(features)))


def _diversity(assets: Sequence[AssetScores], failed: Sequence[bool]) -> float:
    sound = [asset.pictures.similarity for asset, bad in zip(assets, failed, strict=True) if asset.pictures is not None and not bad]
    if len(sound) < 2:
        return 0.0
    return mean_pairwise(cosine_distances(asset_features(torch.stack(sound)))) * _share_of_pairs(len(sound), len(assets))


def _lpips(assets: Sequence[AssetScores], failed: Sequence[bool], scorers: Scorers, views: Callable[[Record], Tensor]) -> float:
    if scorers.lpips is None:
        return NAN
    sound = [asset.record for asset, bad in zip(assets, failed, strict=True) if not bad]
    if len(sound) < 2:
        return 0.0
    images = torch.stack([views(record) for record in sound])
    return lpips_diversity(images, scorers.lpips) * _share_of_pairs(len(sound), len(assets))


def _share_of_pairs(sound: int, assets: int) -> float:
    return math.comb(sound, 2) / math.comb(assets, 2)


def _modes(assets: Sequence[AssetScores], failed: Sequence[bool], wanted: Wanted) -> float:
    if not wanted.open:
        return NAN
    right = [
        asset.pictures.labels
        for asset, bad in zip(assets, failed, strict=True)
        if asset.pictures is not None and not bad and asset.values.get("category") != 0.0
    ]
    return float(len({majority_vote(labels[:, wanted.open]).mode for labels in right}))


# -- the row of DDIM images ------------------------------------------------------------------------------------------------


def score_images_of_prompt(setting: Setting, prompt: str, jobs: Sequence[AssetScores], scorers: Scorers, wanted: Wanted) -> PromptScores:
    """As :func:`score_prompt` where every image is an object of its own: no CROSS-FID (as in the paper), no views, no geometry."""
    values = dict.fromkeys(MEASURES, NAN)
    present = [job.pictures for job in jobs if job.pictures is not None]
    share = len(present) / len(jobs)  # jobs that failed have shown nothing
    if present:
        similarity, labels = (torch.cat([getattr(p, name) for p in present]) for name in ("similarity", "labels"))
        alignment = torch.cat([p.alignment for p in present])
        values |= {
            "alignment": float(alignment.double().mean()) * share,
            "inception_score": _inception_score(jobs),
            "diversity": mean_pairwise(cosine_distances(similarity)) * share**2 if len(similarity) > 1 else NAN,
        }
        for name, column, target in (("category", CATEGORY, wanted.category), ("color", COLOR, wanted.color)):
            if target is not None and scorers.judge is not None:
                values[name] = float((labels[:, column] == target).double().mean()) * share
    errors = sum(job.record.error is not None for job in jobs)
    values["failure_rate"] = errors / len(jobs)
    return PromptScores(setting, prompt, values, len(jobs), errors, errors)


def _mean(values: Sequence[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return fmean(kept) if kept else NAN
