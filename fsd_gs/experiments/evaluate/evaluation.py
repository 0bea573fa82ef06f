"""From finished assets to everything that a report says: scores, rows, comparisons, failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from fsd_gs.experiments.evaluate.assets import Record, asset_folder
from fsd_gs.experiments.evaluate.images import ImageJob, image_folder, load_images
from fsd_gs.experiments.evaluate.scorers import Scorers, score_pictures, wanted_of
from fsd_gs.experiments.evaluate.scores import MEASURES, AssetScores, PromptScores, score_asset, score_images_of_prompt, score_prompt
from fsd_gs.experiments.evaluate.suite import DDIM, Asset, Protocol, Setting, Suite
from fsd_gs.experiments.evaluate.views import asset_views
from fsd_gs.experiments.sweep.spec import setting_label
from fsd_gs.experiments.watching import watched
from fsd_gs.metrics.statistics import Comparison, Estimate, compare, estimate
from fsd_gs.train.identity import digest


@dataclass(frozen=True)
class MadeAssets:
    """What an evaluation is computed from.

    Attributes:
        records, image_records: by the keys of assets and images.
    """

    suite: Suite
    output: Path
    protocol: Protocol
    assets: Sequence[Asset]
    records: Mapping[str, Record]
    images: Sequence[ImageJob]
    image_records: Mapping[str, Record]


@dataclass(frozen=True)
class Row:
    """One setting over all prompts: an :class:`Estimate` for each of ``MEASURES``."""

    setting: Setting
    estimates: Mapping[str, Estimate]
    assets: int
    errors: int
    failed: int

    @property
    def label(self) -> str:
        return setting_label(self.setting)


@dataclass(frozen=True)
class Failure:
    """An asset (or a set of images) that counts as failed, and why."""

    label: str
    prompt: str
    seed: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything that is reported.

    Attributes:
        asset_scores: by key.
        comparisons: (setting, baseline) → measure → comparison.
    """

    made: MadeAssets
    scorers: Scorers
    asset_scores: Mapping[str, AssetScores]
    prompts: Sequence[PromptScores]
    rows: Sequence[Row]
    comparisons: Mapping[tuple[Setting, Setting], Mapping[str, Comparison]]
    failures: Sequence[Failure]


def evaluate(made: MadeAssets, scorers: Scorers, console: Console, *, seed: int = 0) -> Evaluation:
    """Score all assets and images and compare the methods. seed: of the bootstrap."""
    asset_scores = _score_assets(made, scorers, console)
    image_scores = {job.key: _score_images(job, made, scorers) for job in made.images}
    prompts = [*_image_rows(made, image_scores, scorers), *_asset_rows(made, asset_scores, scorers)]
    return Evaluation(
        made=made,
        scorers=scorers,
        asset_scores=asset_scores,
        prompts=prompts,
        rows=rows_of(prompts, seed),
        comparisons=comparisons_of(prompts, made.suite.baselines, seed),
        failures=[*_failures(made.images, image_scores, "DDIM images"), *_failures(made.assets, asset_scores)],
    )


def _score_assets(made: MadeAssets, scorers: Scorers, console: Console) -> dict[str, AssetScores]:
    assets = list({asset.key: asset for asset in made.assets}.values())

    def scored() -> Iterator[tuple[str, AssetScores]]:
        for asset in assets:
            folder, wanted = asset_folder(made.output, asset), wanted_of(asset.config.prompt, scorers.judge)
            yield asset.key, score_asset(made.records[asset.key], asset.config, folder, made.protocol, scorers, wanted)

    quiet = Console(quiet=True) if not console.is_terminal else console  # a line an asset was printed already when it was made
    return dict(watched(scored(), len(assets), quiet, title="scores", describe=lambda r: r[0], failed=lambda r: False))


def _score_images(job: ImageJob, made: MadeAssets, scorers: Scorers) -> AssetScores:
    record = made.image_records[job.key]
    if record.error is not None:
        return AssetScores(record)
    return AssetScores(record, score_pictures(scorers, load_images(image_folder(made.output, job)), job.config.prompt))


def _asset_rows(made: MadeAssets, scores: Mapping[str, AssetScores], scorers: Scorers) -> Iterator[PromptScores]:
    groups: dict[tuple[Setting, str], list[Asset]] = {}
    for asset in made.assets:
        groups.setdefault((asset.setting, asset.config.prompt), []).append(asset)
    for (setting, prompt), group in groups.items():
        configs = {asset.key: asset.config for asset in group}
        folders = {asset.key: asset_folder(made.output, asset) for asset in group}
        yield score_prompt(
            setting,
            prompt,
            [scores[asset.key] for asset in group],
            scorers,
            wanted_of(prompt, scorers.judge),
            lambda record, c=configs, f=folders: asset_views(f[record.key], record, c[record.key], made.protocol),
        )


def _image_rows(made: MadeAssets, scores: Mapping[str, AssetScores], scorers: Scorers) -> Iterator[PromptScores]:
    for prompt in dict.fromkeys(job.config.prompt for job in made.images):
        group = [scores[job.key] for job in made.images if job.config.prompt == prompt]
        yield score_images_of_prompt(DDIM, prompt, group, scorers, wanted_of(prompt, scorers.judge))


def rows_of(prompts: Sequence[PromptScores], seed: int = 0) -> list[Row]:
    """One row a setting, in the order of first appearance."""
    groups: dict[Setting, list[PromptScores]] = {}
    for scores in prompts:
        groups.setdefault(scores.setting, []).append(scores)
    return [_row(setting, group, seed) for setting, group in groups.items()]


def _row(setting: Setting, group: Sequence[PromptScores], seed: int) -> Row:
    def over_prompts(name: str) -> Estimate:
        return estimate({s.prompt: s.values[name] for s in group}, generator(seed, setting_label(setting), name))

    return Row(
        setting=setting,
        estimates={name: over_prompts(name) for name in MEASURES},
        assets=sum(s.assets for s in group),
        errors=sum(s.errors for s in group),
        failed=sum(s.failed for s in group),
    )


def comparisons_of(
    prompts: Sequence[PromptScores], baselines: Sequence[str], seed: int = 0
) -> dict[tuple[Setting, Setting], dict[str, Comparison]]:
    """Every setting against every baseline that is there (named by its label), paired by prompt; two baselines once."""
    settings = list(dict.fromkeys(scores.setting for scores in prompts if scores.setting != DDIM))
    values = {(s.setting, name): {} for s in prompts for name in MEASURES}
    for s in prompts:
        for name in MEASURES:
            values[s.setting, name][s.prompt] = s.values[name]
    found = [setting for setting in settings if setting_label(setting) in baselines]
    return {
        (setting, baseline): {
            name: compare(
                values[setting, name],
                values[baseline, name],
                generator(seed, f"{setting_label(setting)} / {setting_label(baseline)}", name),
            )
            for name in MEASURES
        }
        for i, baseline in enumerate(found)
        for setting in settings
        if setting not in found[: i + 1]  # of two baselines, the later against the earlier
    }


def generator(seed: int, *names: str) -> np.random.Generator:
    """A stream of its own for every figure, so that another method in the table does not change the intervals of this one."""
    return np.random.default_rng(int(digest([seed, *names]), 16))


def _failures(jobs: Sequence[Asset] | Sequence[ImageJob], scores: Mapping[str, AssetScores], label: str | None = None) -> list[Failure]:
    return [
        Failure(label or getattr(job, "label", ""), job.config.prompt, job.config.seed, scores[job.key].reasons)
        for job in jobs
        if scores[job.key].reasons
    ]
