"""A unit of work: one prompt, one seed, one set of settings, one folder.

    key      16 hex digits of everything that decides the result (``train.identity``)
    folder   <name or slug of the prompt>/seed-0000-<first 8 digits of the key>

so changed settings are another unit in another folder, and the same command finds what it made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fsd_gs import __version__
from fsd_gs.config import Config
from fsd_gs.core.naming import file_stem, seed_name, slug
from fsd_gs.fleet.prompts import Row
from fsd_gs.train.identity import decisive_settings, digest


@dataclass(frozen=True)
class Unit:
    """One thing to make.

    Attributes:
        key: names it in the protocol.
        folder: of the finished result, relative to the output.
        label: for people.
        payload: what the task needs, a ``Config`` for an asset; it travels to other processes.
        columns: plain values for the manifest.
    """

    key: str
    folder: str
    label: str
    payload: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)


def units_of(rows: Sequence[Row], seeds: Sequence[int], rehearsal: bool = False) -> Iterator[Unit]:
    """The units of a prompt file, line by line and then seed by seed; lines with seeds of their own keep those.

    rehearsal: units of other keys, in a folder of their own: trying out must not pass for having made.
    """
    more = ["rehearsal"] if rehearsal else []
    above = "rehearsal/" if rehearsal else ""
    for row in rows:
        settings = decisive_settings(row.config)
        for seed in row.seeds or seeds:
            key = digest([__version__, {**settings, "seed": seed}, *more])  # config_key of the config with this seed, ten times as fast
            yield Unit(
                key,
                f"{above}{file_stem(row.name) if row.name else slug(row.config.prompt)}/{seed_name(seed)}-{key[:8]}",
                f"{row.name or row.config.prompt} #{seed}",
                replace(row.config, seed=seed),
                {"line": row.line, "name": row.name, "prompt": row.config.prompt, "seed": seed},
            )


def shard(units: Sequence[Unit], rank: int, world_size: int) -> list[Unit]:
    """The units of one of ``world_size`` drivers that share nothing: by key, so that they stay together when lines are added."""
    return [unit for unit in units if int(unit.key[:8], 16) % world_size == rank]


def run_config(config: Config) -> Config:
    """The settings as a worker runs them: one asset, in a folder that it is given, gone on with if it was begun."""
    return replace(config, count=1, output=".", resume=True, overwrite=False, viewer=False)
