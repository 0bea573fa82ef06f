"""Generated settings by the thousand: each is accepted and comes back from YAML the same, or is refused in one line that names its key.

Every key with every kind of value, misspelt keys, random signs: for ``train`` and both networks of ``train-prior``.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml
from row import Row, is_one_line

from fsd_gs.config import Config, config_from_dict, load_config, rows_of, to_yaml
from fsd_gs.errors import ConfigError
from fsd_gs.pretrain.settings import PretrainConfig, load_pretrain_config
from fsd_gs.pretrain.splat.settings import SplatPretrainConfig, load_splat_config

VALUES = [
    "", " ", "???", "${seed}", "${oc.env:HOME}", "${", "$", "null", "~", "true", "no", "-1", "0", "1", "3.5", "1e9", "1e400", "-.inf",
    ".nan", "nan", "[1, 2]", "[]", "[[1], 2]", "[1", "{a: 1}", "{a: [1, {b: 2}]}", "{", "a: b", "- a", "&a [*a]", "*a",
    "!!python/object:os.system x", "!!binary x", "2024-13-45", "12:30:45", "0x1f", "0b2", "9" * 4400, "\udce9", "\0", "é", "🪑", "'", '"',
    "|", ">", "%", "@x", "`", "a\tb", "a=b", "=", "auto", "random", "world_map", "x" * 300,
]  # fmt: skip
MORE_KEYS = (
    "guidance.params.steps",
    "noise.params.samples",
    "schedule.params.m1",
    "noise",
    "noise.",
    ".steps",
    "",
    "stepz",
    "made_with",
    "a.b.c",
)


def generated(count: int, seed: int = 0, settings: type = Config) -> Iterator[str]:
    """Overrides as nobody should write them."""
    rng = random.Random(seed)
    keys = [row.key for row in rows_of(settings)] + list(MORE_KEYS)
    for _ in range(count):
        key, value = rng.choice(keys), rng.choice(VALUES)
        if rng.random() < 0.2:
            value = "".join(rng.choice(string.printable) for _ in range(rng.randrange(12)))
        if rng.random() < 0.1:
            key = "".join(rng.sample(key, len(key)))
        yield f"{key}={value}" if rng.random() < 0.97 else rng.choice([key, value])


def try_override(row: Row, load: Callable[[Sequence[str]], Any], override: str, known: frozenset[str]) -> None:
    row.cases += 1
    try:
        config = load([override])
    except ConfigError as error:
        key = override.partition("=")[0]
        row.traceback += not is_one_line(str(error))
        row.silent += key in known and key not in str(error)
        return
    except Exception:
        row.traceback += 1
        return
    if isinstance(config, Config):
        try:
            row.silent += config_from_dict(yaml.safe_load(to_yaml(config))) != config
        except Exception:
            row.traceback += 1


def rows(long: bool) -> Iterator[Row]:
    commands: list[tuple[str, type, Callable[[Sequence[str]], Any], int]] = [
        ("train", Config, lambda overrides: load_config(overrides=overrides), 5000),
        ("train-prior", PretrainConfig, lambda overrides: load_pretrain_config([], overrides), 1000),
        ("train-prior --network splat", SplatPretrainConfig, lambda overrides: load_splat_config([], overrides), 1000),
    ]
    for name, settings, load, count in commands:
        row, known = Row(f"generated settings, {name}"), frozenset(entry.key for entry in rows_of(settings))
        for override in generated(count if long else count // 12, 3, settings):
            try_override(row, load, override, known)
        yield row
