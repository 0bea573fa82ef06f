"""What a sweep runs: a small YAML file → a list of cells, each one complete, checked configuration.

    configs: [sweep/small]                # YAML files merged into every cell, first
    base: [steps=150]                     # settings of every cell, as on train.py's command line
    methods: [sds, fsd]                   # files below configs/methods; each departs from the defaults
    grid: {noise.beta: [0, 0.5, 1]}       # every combination of these values, for each method
    prompts: [a chair, a lamp]
    seeds: [0, 1, 2, 3]
    measure: {max_distance: 0.01}         # how assets are judged, see ``measures``

cells = methods × grid × prompts × seeds. Later lines win: configs < methods < base < grid. Keys are strict. A cell is known by the hash of
its whole configuration, so one that another sweep has finished already is not run again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fsd_gs.config import Config, config_files, load_config
from fsd_gs.core.configure import read_yaml, settings_from
from fsd_gs.core.setting import setting
from fsd_gs.errors import ConfigError
from fsd_gs.experiments.sweep.measures import MeasureSettings
from fsd_gs.train.identity import config_key


@dataclass
class SweepSpec:
    """The YAML file, see the module. An empty ``methods`` is the default configuration, FSD."""

    prompts: list[str] = setting([], "what is made", text=True)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    methods: list[str] = field(default_factory=list)
    grid: dict[str, Any] = field(default_factory=dict)
    configs: list[str] = field(default_factory=list)
    base: list[str] = field(default_factory=list)
    measure: MeasureSettings = field(default_factory=MeasureSettings)


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        setting: its row in the tables, the method and the values of the grid.
        config: everything that decides the result.
    """

    setting: tuple[tuple[str, str], ...]
    config: Config
    measure: MeasureSettings

    @property
    def label(self) -> str:
        return setting_label(self.setting)

    @property
    def key(self) -> str:
        """16 hex digits from the whole configuration, the views it is judged from and the version of the package."""
        return config_key(self.config, self.measure.views, self.measure.elevation_deg)


def setting_label(setting: Sequence[tuple[str, str]]) -> str:
    """'fsd, noise.beta=0.5'; 'default' where nothing varies."""
    return ", ".join(value if key == "method" else f"{key}={value}" for key, value in setting) or "default"


def load_spec(name: str) -> SweepSpec:
    """The sweep that ``name`` means: a path, or a name below ``configs/``. ConfigError, one line, for whatever is wrong with it."""
    path = config_files(name)
    return spec_from_dict(read_yaml(path)[0], str(path))


def spec_from_dict(values: Mapping[str, Any], origin: str = "sweep") -> SweepSpec:
    """A checked :class:`SweepSpec` from the content of a YAML file; ``origin`` begins the error messages."""
    spec = settings_from(SweepSpec, values, origin)
    for key in ("prompts", "seeds"):
        entries = getattr(spec, key)
        if not entries or len(set(entries)) != len(entries):
            raise ConfigError(f"{origin}: {key}: expected at least one entry and none twice, got {entries}")
    for key, choices in spec.grid.items():
        if not isinstance(choices, list) or not choices:
            raise ConfigError(f"{origin}: grid.{key}: expected a list of values, got {choices!r}")
        if key in ("prompt", "seed"):
            raise ConfigError(f"{origin}: grid.{key}: give '{key}s: [...]' instead")
    return spec


def expand(spec: SweepSpec, overrides: Sequence[str] = ()) -> list[Cell]:
    """All cells, prompt by prompt (so that a prior's renders are made once), then seed by seed, then setting by setting.

    overrides: "key=value", last of all; they may not name a key of the grid, which would then do nothing.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in (*spec.grid, "prompt", "seed"):
            raise ConfigError(f"{override}: the sweep itself varies {key}; change its YAML file instead")
    rows = []
    for method in spec.methods or [""]:
        for values in itertools.product(*spec.grid.values()):
            choices = dict(zip(spec.grid, values, strict=True))
            named = [("method", Path(method).stem)] if method else []
            setting = (*named, *((key, value_text(value)) for key, value in choices.items()))
            files = [*spec.configs, *([method_file(method)] if method else [])]
            config = load_config(files, [*spec.base, *(f"{key}={value_text(value)}" for key, value in choices.items()), *overrides])
            rows.append((setting, config))
    return [
        Cell(setting, replace(config, prompt=prompt, seed=seed, count=1), spec.measure)
        for prompt in spec.prompts
        for seed in spec.seeds
        for setting, config in rows
    ]


def method_file(method: str) -> str:
    """The file that ``method`` names: below ``configs/methods``, else the name itself."""
    try:
        return str(config_files(f"methods/{method}"))
    except ConfigError:
        return method  # a file of the user's own; load_config says what is wrong with it


def value_text(value: Any) -> str:
    """A YAML value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)
