"""What may be asked for by typing into a page: settings, but neither files, folders nor models that the command line did not name.

The page sits in a browser, perhaps another machine's, and the process behind it has the rights of whoever started it. So numbers and names
out of a closed list are free. Any other text is only taken where ``_NAMES`` lists it: a path, a hub id or a device cannot be typed, also
not for settings that are new here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fsd_gs.config import Config, config_names, load_config
from fsd_gs.core.quality import GOOD
from fsd_gs.errors import ConfigError
from fsd_gs.export.versions import versions_of
from fsd_gs.train.edit import PULL, STRENGTH
from fsd_gs.train.runs import SPLATS

DEFAULTS = "default"
MAKE, EDIT, REFINE = "make", "edit", "refine"
_WORDS = ("prompt", "negative_prompt")
_OWN = ("prompt", "seed", "count", "mode", "output", "resume", "overwrite", "viewer", "viewer_host", "viewer_port")
FIELDS = (*_OWN, "anyway", "keep", "quality")
"""Settings that have a field of their own on the pages, or none at all."""
_NAMES: dict[str, str] = {  # key → pattern of the texts that are taken; the priors of the presets are taken as well
    "prior.name": "nano|exact",
    "splats.init": "ball",
    "device": r"auto|cpu|cuda(:\d{1,2})?",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """The fields of the form.

    Attributes:
        preset: one of :func:`presets`.
        settings: ``key=value`` separated by spaces.
        anyway: go on without the words that the prior does not know.
        replace: existing assets.
        keep: of ``count`` assets, how many are wanted; the best come first.
        quality: one word for steps, views, sizes and splats; settings win.
        task: ``MAKE``, or ``EDIT`` or ``REFINE`` of the asset called ``source`` (``viewer.change``).
        strength: of an edit or a refinement, see ``train.edit``.
        pull: of an edit.
    """

    prompt: str
    preset: str = DEFAULTS
    seed: int = 0
    count: int = 1
    settings: str = ""
    anyway: bool = False
    replace: bool = False
    quality: str = GOOD
    keep: int = 0
    task: str = MAKE
    source: str = ""
    strength: float = STRENGTH
    pull: float = PULL


def presets() -> list[str]:
    """Names of the configurations of this folder and of the package that make 3D assets, the default first."""
    return [DEFAULTS, *(name for name in config_names("*.yaml", "methods/*.yaml") if name != "2d")]


def requested_config(request: Request, output: str, overrides: Sequence[str] = ()) -> Config:
    """The settings of a run that a page asked for. output, overrides: the command line's, which may name anything.

    Raises ConfigError for what the command line would refuse, and for what only the command line may say.
    """
    files, typed = preset_files(request), typed_settings(request)
    fields = [f"prompt={request.prompt}", f"seed={request.seed}", f"count={request.count}", f"output={output}", *own_fields(request)]
    fields += [f"keep={request.keep}"] if request.keep else []
    quality = f"quality={request.quality}"
    load = partial(load_config, files)
    trusted = load([quality, *overrides, *fields])
    config = load(words := [quality, *overrides, *typed, *fields])
    if config.mode != "3d":
        raise ConfigError(f"mode: this page makes 3D assets, got {config.mode}; use fsd-gs train")
    check_texts(config, trusted, Path(output), lambda word: load([*words, word]))
    return config


def preset_files(request: Request) -> list[str]:
    """The settings files below what is typed."""
    if request.preset not in presets():
        raise ConfigError(f"preset: unknown preset '{request.preset}'; choose one of the list")
    return [] if request.preset == DEFAULTS else [request.preset]


def typed_settings(request: Request) -> list[str]:
    """ "key=value" each, of the field for settings; ConfigError for what has a field of its own, or none."""
    typed = split_settings(request.settings)
    for word in typed:
        key, separator, _ = word.partition("=")
        if not separator:
            raise ConfigError(f"settings: '{word}': expected key=value pairs separated by spaces")
        if key.strip() in _OWN:
            raise ConfigError(f"settings: {key.strip()} cannot be typed here; use the fields above, or the command line")
        if "$" in word:
            raise ConfigError(f"settings: {key}: '$' is not taken")
    return typed


def own_fields(request: Request) -> list[str]:
    """What the boxes of the form say."""
    return [*(["anyway=true"] if request.anyway else []), "overwrite=true" if request.replace else "resume=true"]


def check_texts(config: Config, trusted: Config, outputs: Path, try_word: Callable[[str], object]) -> None:
    """ConfigError for a text in ``config`` that only the command line may say.

    Args:
        config: with what was typed.
        trusted: without.
        outputs: whose assets a run may begin with.
        try_word: makes ``config`` with one more "key=value"; ConfigError for a value that cannot be.
    """
    known = dict(_texts(trusted))
    for key, text in _texts(config):
        if known.get(key) == text or key in _WORDS or (key == "splats.init" and _is_asset(text, outputs)):
            continue
        _check_text(key, text, try_word)


def split_settings(text: str) -> list[str]:
    """ "key=value" each, separated by blanks, but for those in quotes or brackets; free text loses its quotes."""
    words = re.findall(r"""(?:(?<=[=,:\[{ ])"[^"]*"|(?<=[=,:\[{ ])'[^']*'|\{[^{}]*\}|\[[^\[\]]*\]|\S)+""", text)
    return [re.sub(r"""^(\w+)=(["'])(.*)\2$""", r"\1=\3", word) if word.partition("=")[0] in _WORDS else word for word in words]


def _check_text(key: str, text: str, try_word: Callable[[str], object]) -> None:
    if key in _NAMES:
        if re.fullmatch(_NAMES[key], text) or (key == "prior.name" and text in presets()):
            return
    elif _is_closed(key, try_word):  # then the configuration has checked it already
        return
    raise ConfigError(f"{key}: '{text}' cannot be chosen from a page; start it with this setting on the command line, or with a preset")


def _is_asset(text: str, outputs: Path) -> bool:
    """Whether a path is a version of an asset in ``outputs``: one that the pages show anyway."""
    place = Path(text).resolve()
    return any(place in map(Path.resolve, versions_of(run / SPLATS).values()) for run in outputs.glob("*/seed-*"))


def _is_closed(key: str, try_word: Callable[[str], object]) -> bool:
    """Whether only certain texts are values of a setting: then a senseless one is refused, alone and as a member."""
    name = key.partition("[")[0]
    for senseless in ("no such value", "[no such value]", "{none: no such value}"):
        try:
            try_word(f"{name}={senseless}")
        except ConfigError:
            continue
        return False
    return True


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of everything in a tree of settings that is text."""
    if isinstance(value, str):
        yield key, value
    elif dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            yield from _texts(getattr(value, f.name), f"{key}.{f.name}".strip("."))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{key}[{name}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{key}[{index}]")
