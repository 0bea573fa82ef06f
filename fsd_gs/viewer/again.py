"""An asset once more: the form as it would have to be filled to make it, its siblings, its children, or what it can be changed into."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from fsd_gs.config import Config, describe_settings, load_config
from fsd_gs.core.configure import value_of
from fsd_gs.viewer.form import EDIT, FIELDS, REFINE, Request

CHILDREN = 4
MIX = 0.7
OF_A_PRIOR = ("prior.", "guidance.", "cameras.", "render.sizes", "render.size_at", "negative_prompt")


def same_again(config: Config) -> Request:
    """The form of the run itself, to be changed."""
    return Request(prompt=config.prompt, seed=config.seed, settings=settings_text(config), quality=config.quality)


def other_seeds(config: Config, first: int) -> Request:
    """The same settings with ``CHILDREN`` seeds from ``first`` on."""
    return replace(same_again(config), seed=first, count=CHILDREN)


def more_like(config: Config) -> Request:
    """``CHILDREN`` that share ``MIX`` of the run's noise (``noise.like``); without the fixed noise of a world map, other seeds."""
    first = config.seed + 1_000_000  # clear of the seeds of the set and of its reseeds
    if config.noise.kind != "world_map":
        return other_seeds(config, first)
    like = replace(config, noise=replace(config.noise, like=config.seed, like_mix=MIX))
    return replace(other_seeds(config, first), settings=settings_text(like))


def edit_of(config: Config, name: str) -> Request:
    """An edit of the asset called ``name``: its own words to be changed, and its prior."""
    return Request(prompt=config.prompt, seed=config.seed, settings=settings_text(config, OF_A_PRIOR), task=EDIT, source=name)


def refinement_of(config: Config, name: str) -> Request:
    """A refinement of the asset called ``name``; what the form does not say is as in its run."""
    return Request(prompt=config.prompt, seed=config.seed, settings=f"steps={config.steps}", task=REFINE, source=name)


def settings_text(config: Config, beginnings: tuple[str, ...] = ("",)) -> str:
    """What of a run's settings is not what its quality word alone would give, as ``key=value`` separated by spaces.

    beginnings: only settings whose names begin so.
    """
    usual = load_config(overrides=[f"quality={config.quality}"])
    words = []
    for key, _, _ in describe_settings():
        value = value_of(config, key)
        if key not in FIELDS and key.startswith(beginnings) and value != value_of(usual, key):
            words.append(f"{key}={_written(value)}")
    return " ".join(words)


def _written(value: Any) -> str:
    """YAML on one line; text in quotes where blanks stand in it."""
    if isinstance(value, str):
        return f'"{value}"' if any(sign.isspace() for sign in value) and '"' not in value else value
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).partition("\n")[0]
