"""An edit or a refinement of an asset of the house, as the form asks for it: settings of ``train.edit``, typed ones checked as everywhere.

The page names an asset that is there and never a path. An edit whose place is taken by another asset takes the next free seed; a
refinement stands beside its original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fsd_gs.config import Config
from fsd_gs.errors import ConfigError, FsdGsError
from fsd_gs.export.versions import newest_version
from fsd_gs.train import runs
from fsd_gs.train.edit import edit_settings, refine_settings
from fsd_gs.viewer.form import EDIT, Request, check_texts, own_fields, preset_files, typed_settings

Build = Callable[[Sequence[str]], tuple[Config, Path]]


def requested_change(request: Request, original: Path, output: str, overrides: Sequence[str] = ()) -> tuple[Config, Path]:
    """The settings of what a page asked for, and the folder for it.

    Args:
        request: with the task ``EDIT`` or ``REFINE``.
        original: folder of the run that it begins with.
        output: the command line's.
        overrides: the command line's, which may name anything.

    Raises:
        ConfigError: what the command line would refuse, and what only the command line may say.
        FsdGsError: the original cannot be changed.
    """
    files, typed, fields = preset_files(request), typed_settings(request), own_fields(request)
    build = _edit(request, original, output, files) if request.task == EDIT else _refinement(request, original, files)
    trusted, _ = build([*overrides, *fields])
    config, folder = build(words := [*overrides, *typed, *fields])
    if config.mode != "3d" or config.stages:
        raise ConfigError(f"preset: {request.preset} has stages or makes no 3D asset; choose another one to {request.task} with")
    check_texts(config, trusted, Path(output), lambda word: build([*words, word]))
    return config, folder


def _edit(request: Request, original: Path, output: str, files: Sequence[str]) -> Build:
    own = [f"quality={request.quality}", "count=1", f"seed={request.seed}", f"output={output}"]

    def build(words: Sequence[str]) -> tuple[Config, Path]:
        config = edit_settings(
            newest_version(original / runs.SPLATS),
            request.prompt,
            strength=request.strength,
            pull=request.pull,
            config_files=files,
            overrides=[own[0], *words, *own[1:]],
        )
        config = config if request.replace else _beside_others(config)
        return config, runs.run_folder(config)

    return build


def _refinement(request: Request, original: Path, files: Sequence[str]) -> Build:
    return lambda words: refine_settings(original, strength=request.strength, config_files=files, overrides=words)


def _beside_others(config: Config) -> Config:
    """The same with the first seed from its own on whose place is free, or holds this very run."""
    while _is_taken(config):
        config = replace(config, seed=config.seed + 1)
    return config


def _is_taken(config: Config) -> bool:
    folder = runs.run_folder(config)
    if not (folder / runs.CONFIG).is_file() and not runs.is_finished(folder):
        return False
    try:
        return bool(runs.differing_settings(runs.load_run_config(folder), config))
    except FsdGsError:
        return True
