"""Several assets for one prompt: seeds seed, seed + 1, …, each looked at when it is done, the failed ones made again, the set scored.

    slot k = 0 … count − 1 tries the seeds  s_kj = seed + k + stride · j,   j = 0 … reseed,   until nothing is found wrong

by geometry (empty, exploded, hazy, holes) or by the verdict on what an artist sees (unclear, ``metrics.verdict``).

stride = 1000 · ⌈count / 1000⌉, so that no two slots ever share a seed and the same command makes the same assets again. What was tried is
kept on disk and written to ``variants.json`` in the prompt's folder after every asset: whatever is finished has a valid gallery, also after
Ctrl-C. If every try of a slot fails, the one with the best verdict stands for it, with its note.

*More like this one* is not here: it is ``noise.like=SEED noise.like_mix=ρ``, which mixes the two seeds' noise maps as √ρ a + √(1−ρ) b. The
fixed noise decides where the flow ends, so the children move from a free choice (ρ = 0) to the parent (ρ = 1).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.config import Config
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.types import Cameras, Gaussians
from fsd_gs.errors import ConfigError, EmptyAssetError, FileFormatError, InputError
from fsd_gs.export.formats import load_splats
from fsd_gs.io import write_text
from fsd_gs.metrics import verdict
from fsd_gs.metrics.diversity import DiversitySettings, diversity
from fsd_gs.metrics.geometry import geometry_report
from fsd_gs.render import Rasterizer, make_rasterizer, render_frames
from fsd_gs.train import runs
from fsd_gs.train.result import orbit_of

VARIANTS = "variants.json"
STOPPED = 128  # an exit code from here on: somebody stopped the run
INSPECTION_VIEWS, INSPECTION_SIZE = 24, 96  # the views that the geometry thresholds were measured with
SCORE_VIEWS, SCORE_SIZE = 8, 64
SCORE_BACKGROUND = (0.5, 0.5, 0.5)  # black and white assets both leave ink on it

MakeAsset = Callable[[Config], int]
"""Trains ``config.seed`` into its run folder and returns an exit code, 0 when everything of the asset is written."""


@dataclass(frozen=True)
class Attempt:
    """One seed that was tried.

    Attributes:
        seed: of the run.
        failures: ⊆ ("empty", "exploded", "hazy", "holes"), or "unclear" where geometry finds nothing but the verdict is against it;
            () is a sound asset.
        score: p(keep) of the verdict in [0, 1], None where nobody looked.
    """

    seed: int
    failures: tuple[str, ...]
    score: float | None = None


@dataclass(frozen=True)
class Variant:
    """A slot of the set: the seeds tried, in order, but for the asset, which is the last one."""

    requested_seed: int
    attempts: tuple[Attempt, ...]

    @property
    def seed(self) -> int:
        return self.attempts[-1].seed

    @property
    def failures(self) -> tuple[str, ...]:
        return self.attempts[-1].failures

    @property
    def score(self) -> float | None:
        return self.attempts[-1].score

    @property
    def note(self) -> str:
        """What happened, in words; empty where the first seed was sound."""
        others = [f"seed {attempt.seed} was {_in_words(attempt.failures)}" for attempt in self.attempts[:-1]]
        outcome = "not better" if self.seed == self.requested_seed else f"made again as seed {self.seed}"
        notes = [f"{' and '.join(others)}: {outcome}"] if others else []
        if self.failures:
            notes.append(f"seed {self.seed} is {_in_words(self.failures)}")
        return "; ".join(notes)


@dataclass
class VariantSet:
    """All slots so far, and the diversity score of their assets (None below two)."""

    prompt: str
    variants: list[Variant] = field(default_factory=list)
    diversity: float | None = None

    @property
    def seeds(self) -> list[int]:
        return [variant.seed for variant in self.variants]


def train_variants(
    config: Config,
    make_asset: MakeAsset,
    rasterizer: Rasterizer | None = None,
    *,
    write_gallery: Callable[[Path], object] | None = None,
    say: Callable[[str], None] = print,
    prompt_folder: Path | None = None,
) -> tuple[VariantSet, int]:
    """``config.count`` assets from ``config.seed`` on, and the exit code.

    The code is that of the first run that did not finish, else the highest (an asset without its video does not stop the set); 2 where a
    slot stayed without splats. A run that was stopped and kept (128 or more, and finished) is recorded and is the last one.

    Args:
        config: Settings of the set; its runs differ in the seed.
        make_asset: trains one seed (sharing the prior is its business).
        rasterizer: for looking at the results, for splats on the CPU; None takes the CPU kernels.
        write_gallery: called with the prompt's folder after each finished slot.
        say: one line for people.
        prompt_folder: of the set; by default that of the settings.
    """
    if config.keep > config.count:
        raise ConfigError(f"keep: expected at most count ({config.count}), got {config.keep}; for example count=8 keep=3")
    rasterizer = rasterizer or make_rasterizer("cpu")
    folder = runs.run_folder(config).parent if prompt_folder is None else prompt_folder
    result = VariantSet(config.prompt)
    assets: list[Gaussians] = []
    worst = 0
    for slot in range(config.count):
        attempts: list[Attempt] = []
        splats, shown, code = None, None, 0
        for seed in seeds_of_slot(config, slot):
            asset_config = replace(config, seed=seed, count=1, keep=0)
            try:
                code = make_asset(asset_config)
            except EmptyAssetError as error:
                say(str(error))
                attempts.append(Attempt(seed, ("empty",)))
                continue
            run = folder / runs.seed_name(seed)
            if code and not runs.is_finished(run):
                return result, code
            attempts.append(attempt := look_at(made := load_splats(run / runs.SPLATS), seed, config, rasterizer))
            if shown is None or _rank(attempt) >= _rank(shown):
                splats, shown = made, attempt
            if not attempt.failures or code >= STOPPED:
                break
        worst = max(worst, code if code < STOPPED else 0, 2 if splats is None else 0)
        if splats is not None and shown is not None:
            assets.append(splats)
            attempts.sort(key=lambda attempt: attempt is shown)
        result.variants.append(Variant(config.seed + slot, tuple(attempts)))
        result.diversity = diversity_score(assets, config, rasterizer)
        if result.variants[-1].note:
            say(result.variants[-1].note)
        record(result, folder, write_gallery)
        if code >= STOPPED and slot + 1 < config.count:
            return result, code
    return result, worst


def record(new: VariantSet, folder: Path, write_gallery: Callable[[Path], object] | None = None) -> None:
    """Merge the slots of ``new`` into ``variants.json`` and write the gallery; other commands' slots keep their notes.

    One process at a time, reading what is there just before writing, so that two commands on one prompt lose nothing.
    """
    with runs.shared_files(folder):
        path = folder / VARIANTS
        try:
            before = load_variants(path)
        except FileFormatError as error:
            logging.getLogger(__name__).warning("%s: written anew; the notes of earlier assets are lost", error)
            before = None
        made = {variant.requested_seed for variant in new.variants}
        earlier = [] if before is None else [v for v in before.variants if v.requested_seed not in made]
        save_variants(replace(new, variants=earlier + new.variants), path)
        if write_gallery is not None and any(runs.is_finished(run) for run in folder.glob("seed-*")):
            write_gallery(folder)


def record_asset(run: Path, config: Config, *, write_gallery: Callable[[Path], object] | None = None) -> None:
    """Record the finished asset in ``run`` as one that was asked for by its own seed, unless a set has it already."""
    with suppress(FileFormatError):
        before = load_variants(run.parent / VARIANTS)
        if before is not None and config.seed in {a.seed for variant in before.variants for a in variant.attempts}:
            record(VariantSet(config.prompt, [], before.diversity), run.parent, write_gallery)
            return
    attempt = look_at(load_splats(run / runs.SPLATS), config.seed, config, make_rasterizer("cpu"))
    record(VariantSet(config.prompt, [Variant(config.seed, (attempt,))]), run.parent, write_gallery)


def seeds_of_slot(config: Config, slot: int) -> list[int]:
    """The seeds tried for one slot, in order; only the requested one where the set has a single asset."""
    stride = 1000 * math.ceil(config.count / 1000)
    tries = 1 + (config.reseed if config.count > 1 else 0)
    return [config.seed + slot + stride * j for j in range(tries)]


def look_at(splats: Gaussians, seed: int, config: Config, rasterizer: Rasterizer) -> Attempt:
    """What geometry and the verdict say of an asset."""
    failures, said = examine(splats, config, rasterizer)
    return Attempt(seed, failures or (() if said.keep else ("unclear",)), round(said.score, 3))


def examine(splats: Gaussians, config: Config, rasterizer: Rasterizer) -> tuple[tuple[str, ...], verdict.Verdict]:
    """(what geometry finds wrong with an asset, what an artist would say of it)."""
    cameras = orbit(config, verdict.VIEWS, verdict.SIZE, splats.means.device)
    return inspect(splats, config, rasterizer), verdict.judge_asset(splats, config.prompt, rasterizer, cameras)


def _rank(attempt: Attempt) -> tuple[bool, float]:
    """Which of two tries stands for the slot: the sound one, then the one with the better verdict."""
    return not attempt.failures, attempt.score or 0.0


def inspect(splats: Gaussians, config: Config, rasterizer: Rasterizer) -> tuple[str, ...]:
    """What geometry finds wrong with an asset: any of "empty", "exploded", "hazy", "holes"."""
    if not len(splats):
        return ("empty",)
    cameras = orbit(config, INSPECTION_VIEWS, INSPECTION_SIZE, splats.means.device)
    return geometry_report(splats, render_frames(rasterizer, splats, cameras).alpha, cameras).failures


def diversity_score(assets: Sequence[Gaussians], config: Config, rasterizer: Rasterizer) -> float | None:
    """Diversity in [0, 1] of assets seen from one orbit (``metrics.diversity``); None for fewer than two."""
    if len(assets) < 2:
        return None
    views = [asset_views(splats, config, rasterizer) for splats in assets]
    renders, alphas = torch.stack([rgb for rgb, _ in views]), torch.stack([alpha for _, alpha in views])
    return diversity(renders, alphas, DiversitySettings(background=SCORE_BACKGROUND))


def asset_views(splats: Gaussians, config: Config, rasterizer: Rasterizer) -> tuple[Tensor, Tensor]:
    """rgb [V, H, W, 3] on grey and alpha [V, H, W, 1] around an asset, on the CPU; zero splats are a grey nothing."""
    if not len(splats):
        shape = (SCORE_VIEWS, SCORE_SIZE, SCORE_SIZE)
        return torch.tensor(SCORE_BACKGROUND).expand(*shape, 3), torch.zeros(*shape, 1)
    cameras = orbit(config, SCORE_VIEWS, SCORE_SIZE, splats.means.device)
    view = render_frames(rasterizer, splats, cameras, background=splats.means.new_tensor(SCORE_BACKGROUND))
    return view.rgb.clamp(0, 1).cpu(), view.alpha.cpu()


def orbit(config: Config, views: int, size: int, device: torch.device) -> Cameras:
    """Cameras around an asset at the middle of the training cameras' ranges."""
    elevation, distance, fov_y = orbit_of(config)
    return evaluation_orbit(views, elevation_deg=elevation, distance=distance, fov_y_deg=fov_y, width=size, device=device)


# -- variants.json ---------------------------------------------------------------------------------------------------------


def save_variants(variants: VariantSet, path: Path) -> None:
    """Write the set as JSON, atomically."""
    write_text(path, json.dumps(asdict(variants), indent=1, ensure_ascii=False) + "\n")


def load_variants(path: Path) -> VariantSet | None:
    """The set that was written to ``path``; None where there is none. FileFormatError for anything else."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        slots = [Variant(int(v["requested_seed"]), tuple(_attempt(a) for a in v["attempts"])) for v in values["variants"]]
        if not all(slot.attempts for slot in slots):
            raise ValueError("a variant without attempts")
        score = values["diversity"]
        return VariantSet(str(values["prompt"]), slots, None if score is None else float(score))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{path}: not a list of variants ({error}); delete it, the gallery works without") from error


def _attempt(values: dict[str, Any]) -> Attempt:
    score = values.get("score")  # sets of before the verdict have none
    return Attempt(int(values["seed"]), tuple(map(str, values["failures"])), None if score is None else float(score))


def more_like_this(config: Config, *, seed: int, mix: float = 0.7, count: int = 4) -> Config:
    """Settings of ``count`` children that share ``mix`` ∈ [0, 1] of the noise of ``seed``, with fresh seeds of their own."""
    if config.noise.kind != "world_map":
        raise InputError(f"noise.kind: 'more like this one' needs the fixed noise of world_map, got {config.noise.kind}")
    first_child = seed + 1_000_000  # clear of the seeds of the set and of its reseeds
    return replace(config, seed=first_child, count=count, noise=replace(config.noise, like=seed, like_mix=mix))


def _in_words(failures: tuple[str, ...]) -> str:
    words = {"holes": "full of holes"}
    return " and ".join(words.get(failure, failure) for failure in failures)
