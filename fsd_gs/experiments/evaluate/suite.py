"""What an evaluation runs: a YAML file → a list of assets, each one complete, checked configuration.

    prompts: [a red chair, a lamp]
    stand_ins: [a lamp]                      # prompts that the paper is not known to have used
    seeds: [0, 1, 2, 3]
    views: 24                                # pictures an asset, evenly around
    methods: [sds, sds-annealed, fsd]        # files below configs/methods
    baselines: [sds, sds-annealed]           # what the others are compared with
    prior: nano                              # with its preset configs/<prior>.yaml, where there is one
    scorer: {kind: judge}                    # or clip: CLIP and Inception, as in the paper
    base: [steps=300]                        # settings of every asset, as on train.py's command line
    images: {per_seed: 4, steps: 50}         # the row of DDIM images; per_seed 0 leaves it out
    axes: {noise.beta: [0, 0.5, 1]}          # ablations: one factor at a time, around each method
    pairs: [{noise.beta: [0, 1], noise.gamma: [0, 0.1]}]     # and grids
    quick: {seeds: [0, 1], base: [steps=60]} # with --quick: ``base`` is added, mappings are merged, the rest is replaced

assets = prompts × seeds × settings, settings = methods × (the method itself + each value of each axis + each grid). Later lines win:
preset < configs < method < base < axis < command line. Keys are strict, and the views of all assets must be the same
(:class:`Protocol`): figures of different resolutions or cameras are not comparable.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fsd_gs.config import Config, config_files, load_config
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.core.configure import read_yaml, settings_from
from fsd_gs.core.setting import setting
from fsd_gs.core.types import Cameras
from fsd_gs.errors import ConfigError, InputError, unknown_name
from fsd_gs.experiments.sweep.spec import method_file, setting_label, value_text
from fsd_gs.train.identity import config_key
from fsd_gs.train.result import orbit_of

Setting = tuple[tuple[str, str], ...]
SUITES = ("paper", "nano", "ablation")
SCORER_KINDS = ("judge", "clip")
DDIM: Setting = (("method", "DDIM images"),)


@dataclass
class ImageSettings:
    """The row of DDIM images.

    Attributes:
        per_seed: images a seed (a multi-view prior makes whole sets, rounded up).
        steps: of the sampler.
        cfg_scale: null takes ``guidance.cfg_scale``, which for score distillation is often far above what a sampler wants.
    """

    per_seed: int = 4
    steps: int = 50
    cfg_scale: float | None = 7.5


@dataclass
class ScorerSettings:
    """Which networks judge.

    Attributes:
        kind: judge (ships with the package) or clip (CLIP and the FID Inception, as in the paper).
        clip, inception, lpips, judge: folders, files or hub ids; null is the usual place of each, and for lpips: not computed.
    """

    kind: str = "judge"
    clip: str | None = None
    inception: str | None = None
    lpips: str | None = None
    judge: str | None = None


@dataclass
class Suite:
    """The YAML file, see the module.

    Attributes:
        size: side of the evaluation pictures, null is the last of ``render.sizes``.
        elevation_deg: null is one third of the training range, which training with two or three fixed elevations does not use.
    """

    title: str = setting("", "of the report", text=True)
    about: str = setting("", "its introduction", text=True)
    prompts: list[str] = setting([], "what is made", text=True)
    stand_ins: list[str] = setting([], "prompts that the paper is not known to have used", text=True)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    views: int = 24
    size: int | None = None
    elevation_deg: float | None = None
    methods: list[str] = field(default_factory=lambda: ["sds", "sds-annealed", "fsd"])
    baselines: list[str] = field(default_factory=list)
    prior: str = "exact"
    scorer: ScorerSettings = field(default_factory=ScorerSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    configs: list[str] = field(default_factory=list)
    base: list[str] = field(default_factory=list)
    axes: dict[str, Any] = field(default_factory=dict)
    pairs: list[Any] = field(default_factory=list)
    quick: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """How an asset is looked at; the same for all assets of a suite."""

    views: int
    size: int
    elevation_deg: float
    distance: float
    fov_y_deg: float

    def cameras(self) -> Cameras:
        return evaluation_orbit(
            self.views, elevation_deg=self.elevation_deg, distance=self.distance, fov_y_deg=self.fov_y_deg, width=self.size
        )


@dataclass(frozen=True)
class Asset:
    """One asset to make.

    Attributes:
        setting: its row in the tables.
        config: everything that decides what it becomes.
        weights: a fingerprint of the prior's files, where they lie on this machine.
    """

    setting: Setting
    config: Config
    weights: str = ""

    @cached_property
    def key(self) -> str:
        """16 hex digits; assets of any suite with equal keys are the same asset."""
        return config_key(self.config, *([self.weights] if self.weights else []))

    @property
    def label(self) -> str:
        return setting_label(self.setting)

    def __str__(self) -> str:
        return f"{self.config.prompt} #{self.config.seed}  {self.label}"


# -- reading ---------------------------------------------------------------------------------------------------------------


def load_suite(name: str, *, quick: bool = False) -> Suite:
    """The suite that ``name`` means: one of ``SUITES``, or a YAML file. ConfigError, one line, for whatever is wrong with it."""
    try:
        path = config_files(f"evaluate/{name}")
    except ConfigError:
        try:
            path = config_files(name)
        except ConfigError:
            raise ConfigError(f"--suite: {unknown_name('suite', name, SUITES)}; or give the path of a YAML file") from None
    return suite_from_dict(read_yaml(path)[0], str(path), quick=quick)


def suite_from_dict(values: Mapping[str, Any], origin: str = "suite", *, quick: bool = False) -> Suite:
    """A checked :class:`Suite` from the content of a YAML file; ``origin`` begins the error messages."""
    suite = settings_from(Suite, values, origin)
    settings_from(Suite, suite.quick, f"{origin}: quick")  # mistakes in it are said without --quick, too
    if quick:
        suite = settings_from(Suite, _with_quick(values, suite.quick), origin)
    check_suite(suite, origin)
    return suite


def _with_quick(given: Mapping[str, Any], quick: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(given)
    for key, value in quick.items():
        if key == "base":
            values[key] = [*values.get(key, []), *value]
        elif isinstance(value, Mapping) and key != "axes":
            values[key] = {**values.get(key, {}), **value}
        else:
            values[key] = value
    return values


def check_suite(suite: Suite, origin: str = "suite") -> None:
    """ConfigError or InputError, one line, for what cannot be evaluated; called again after the command line had its say."""
    for key in ("prompts", "seeds", "methods"):
        entries = getattr(suite, key)
        if not entries or len(set(entries)) != len(entries):
            raise ConfigError(f"{origin}: {key}: expected at least one entry and none twice, got {entries}")
    if len(suite.seeds) < 2 or len(suite.seeds) % 2:
        raise InputError(
            f"{origin}: seeds: expected an even number of at least 2, because CROSS-FID sets one half of the seeds against the other, got "
            f"{suite.seeds}"
        )
    if suite.scorer.kind not in SCORER_KINDS:
        raise ConfigError(f"{origin}: {unknown_name('scorer.kind', suite.scorer.kind, SCORER_KINDS)}")
    if suite.views < 4 or suite.views % 4:
        raise ConfigError(f"{origin}: views: expected a multiple of 4 (the Janus check compares quarter turns), got {suite.views}")
    if suite.images.per_seed < 0 or suite.images.steps < 1:
        raise ConfigError(f"{origin}: images: expected per_seed ≥ 0 and steps ≥ 1, got {suite.images.per_seed} and {suite.images.steps}")
    labels = [Path(method).stem for method in suite.methods]
    for baseline in suite.baselines:
        if baseline not in labels:
            raise ConfigError(f"{origin}: {unknown_name('baselines', baseline, labels)}")
    for grid in (suite.axes, *suite.pairs):
        _check_grid(grid, origin)


def _check_grid(grid: Any, origin: str) -> None:
    if not isinstance(grid, Mapping):
        raise ConfigError(f"{origin}: axes, pairs: expected settings with lists of values, got {grid!r}")
    for key, choices in grid.items():
        if not isinstance(choices, list) or not choices:
            raise ConfigError(f"{origin}: axes.{key}: expected a list of values, got {choices!r}")
        if key in ("prompt", "seed"):
            raise ConfigError(f"{origin}: axes.{key}: give '{key}s: [...]' instead")


# -- expanding -------------------------------------------------------------------------------------------------------------


def expand(suite: Suite, overrides: Sequence[str] = (), *, weights: str = "") -> list[Asset]:
    """All assets, prompt by prompt, then seed by seed, then setting by setting: with every prompt that is done, a whole comparison is.

    overrides: "key=value" from the command line, last of all. weights: see :class:`Asset`.
    """
    varied = {key for grid in (suite.axes, *suite.pairs) for key in grid}
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in (*varied, "prompt", "seed", "prior.name"):
            hint = {"prompt": "use --prompts", "seed": "use --seeds", "prior.name": "use --prior"}.get(key, "the suite itself varies it")
            raise ConfigError(f"{override}: {hint}")
    rows = [
        (setting, load_config(_files(suite, method), [f"prior.name={suite.prior}", *suite.base, *values, *overrides]))
        for method in suite.methods
        for setting, values in _settings(suite, method)
    ]
    return [
        Asset(setting, replace(config, prompt=prompt, seed=seed, count=1, mode="3d"), weights)
        for prompt in suite.prompts
        for seed in suite.seeds
        for setting, config in rows
    ]


def _settings(suite: Suite, method: str) -> Iterator[tuple[Setting, list[str]]]:
    """The rows of a method with their overrides: itself, then along every axis, then over every grid."""
    named = ("method", Path(method).stem)
    seen = set()
    axes = [{key: value} for key, choices in suite.axes.items() for value in choices]
    grids = [dict(zip(grid, values, strict=True)) for grid in suite.pairs for values in itertools.product(*grid.values())]
    for choices in ({}, *axes, *grids):
        setting = (named, *((key, value_text(value)) for key, value in choices.items()))
        if setting not in seen:
            seen.add(setting)
            yield setting, [f"{key}={value_text(value)}" for key, value in choices.items()]


def _files(suite: Suite, method: str) -> list[str]:
    return [*_preset(suite.prior), *suite.configs, method_file(method)]


def _preset(prior: str) -> list[str]:
    """``configs/<prior>.yaml`` where there is one; a path or a hub id has none."""
    if not re.fullmatch(r"[\w-]+", prior):
        return []
    try:
        return [str(config_files(f"{prior}.yaml"))]
    except ConfigError:
        return []


def protocol_of(config: Config, suite: Suite) -> Protocol:
    """The views that an asset of ``config`` is judged from."""
    _, distance, fov_y = orbit_of(config)
    low, high = config.cameras.elevation_deg
    elevation = low + (high - low) / 3 if suite.elevation_deg is None else suite.elevation_deg
    return Protocol(suite.views, suite.size or max(config.render.sizes), elevation, distance, fov_y)


def common_protocol(assets: Sequence[Asset], suite: Suite) -> Protocol:
    """The one protocol of all assets; InputError where two of them would be looked at differently."""
    first = protocol_of(assets[0].config, suite)
    for asset in assets:
        other = protocol_of(asset.config, suite)
        differing = [
            f"{f.name} {getattr(first, f.name):g} and {getattr(other, f.name):g}"
            for f in fields(Protocol)
            if getattr(first, f.name) != getattr(other, f.name)
        ]
        if differing:
            raise InputError(
                f"mixed protocols: '{assets[0].label}' and '{asset.label}' differ in {', '.join(differing)}, so their figures could not be "
                f"compared; give all methods the same render.sizes and cameras, or set size and elevation_deg in the suite"
            )
    return first
