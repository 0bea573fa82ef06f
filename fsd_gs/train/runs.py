"""The folder of a run, ``OUTPUT/<prompt-slug>/seed-0000/``. What exists is never overwritten without being asked to.

    config.yaml                            the settings, from the start
    log.jsonl, previews/, checkpoint/      while it grows
    preview.png, *.mp4, splats.ply         when it is done, in this order
    finished.json                          last: steps done, and the SHA-256 of the files it stands for
    .lock                                  held by the process at work here

A killed process can leave any beginning of this order, never another run's files under this run's settings: overwriting takes
``finished.json`` and the splats away first and replaces ``config.yaml`` last.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fsd_gs import __version__
from fsd_gs.config import Config, config_from_dict, describe_settings, free_settings, to_yaml
from fsd_gs.core.configure import MADE_WITH, read_yaml
from fsd_gs.core.device import resolve_device
from fsd_gs.core.naming import seed_name, slug
from fsd_gs.errors import ConfigError, FileFormatError, FsdGsError, OutputError
from fsd_gs.export.provenance import Provenance
from fsd_gs.export.versions import versions_of
from fsd_gs.io import file_sha256, locked, make_folder, output_error, remove_temporaries, write_text
from fsd_gs.priors.backbones import published
from fsd_gs.train.identity import UNKNOWN, config_key, made_with, network_fingerprint, prior_names

CONFIG, SPLATS, PREVIEW, TURNTABLE, TIMELAPSE, LOG, CHECKPOINT, FINISHED, LOCK, FINISH = (
    "config.yaml",
    "splats.ply",
    "preview.png",
    "turntable.mp4",
    "timelapse.mp4",
    "log.jsonl",
    "checkpoint/state.safetensors",
    "finished.json",
    ".lock",
    ".finish",
)
_RESULTS = (SPLATS, PREVIEW, TURNTABLE, TIMELAPSE)

# What a run and what is made from it leave in folders of their own; anything else in them is somebody's.
_WRITTEN = {
    "checkpoint": r"state\.safetensors",
    "previews": r"\d{6,}\.png",
    "snapshots": r"step-\d{6,}\.ply",
    "export": r".+\.(ply|splat|spz|sog|html|glb|gltf|bin|obj|mtl|usd[acz]?|mp4|gif|png)",
}


def run_folder(config: Config) -> Path:
    """OUTPUT/<prompt>/seed-<n>."""
    return Path(config.output) / slug(config.prompt) / seed_name(config.seed)


# -- one process a folder --------------------------------------------------------------------------------------------------


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Hold the run's folder (created if missing) and clear away the half-written files of a killed run.

    Raises:
        OutputError: another process is at work in it.
    """
    make_folder(folder)
    with locked(folder / LOCK, f"{folder}: another process is making this asset; wait for it, or choose another seed or output"):
        for place in (folder, *(folder / name for name in ("checkpoint", "previews", "snapshots"))):
            remove_temporaries(place)
        (folder / FINISH).unlink(missing_ok=True)
        yield


@contextmanager
def shared_files(prompt_folder: Path) -> Iterator[None]:
    """Hold ``variants.json`` and the gallery, which all runs of a prompt write: one at a time, for moments."""
    make_folder(prompt_folder)
    busy = f"{prompt_folder / LOCK}: another process has held the gallery for ten minutes; end it and go on with resume=true"
    with locked(prompt_folder / LOCK, busy, wait_seconds=600.0):
        remove_temporaries(prompt_folder)
        yield


def ask_to_keep(folder: Path) -> None:
    """Ask the process at work in ``folder`` to stop after its step and to keep the asset as it is."""
    write_text(folder / FINISH, "")


# -- finished or not -------------------------------------------------------------------------------------------------------


def is_finished(folder: Path) -> bool:
    """Whether the asset in ``folder`` is all there. Its splats come last but for ``finished.json``, which older versions did not write."""
    return (folder / SPLATS).is_file()


def mark_finished(folder: Path, step: int, steps: int) -> None:
    """Write ``finished.json``: the asset in ``folder`` is complete as of ``step`` (below ``steps`` where it was kept early)."""
    files = {name: file_sha256(folder / name) for name in _RESULTS if (folder / name).is_file()}
    write_text(folder / FINISHED, json.dumps({"step": step, "steps": steps, "sha256": files}, indent=1) + "\n")


def finished_record(folder: Path) -> dict[str, Any]:
    """What ``finished.json`` says; {} where there is none or it is damaged."""
    try:
        record = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    sound = isinstance(record, dict) and isinstance(record.get("step"), int) and isinstance(record.get("sha256"), dict)
    return record if sound else {}


def changed_files(folder: Path) -> list[str]:
    """The results in ``folder`` that are no longer what ``finished.json`` was written for: edited, damaged or gone."""
    known = finished_record(folder).get("sha256", {})
    return [name for name, digest in known.items() if not (folder / name).is_file() or file_sha256(folder / name) != digest]


# -- beginning a run -------------------------------------------------------------------------------------------------------


def prepare_folder(config: Config, folder: Path | None = None) -> Path:
    """Create or reuse the run's folder (that of ``config`` by default) by ``resume`` and ``overwrite``; writes ``config.yaml``.

    Raises:
        OutputError: a run exists and neither was asked for, or the settings of a run to resume differ.
    """
    folder = run_folder(config) if folder is None else folder
    exists = any((folder / name).exists() for name in (CONFIG, SPLATS, CHECKPOINT, FINISHED))
    if exists and config.overwrite:
        _empty(folder)
    elif exists and config.resume:
        check_same_settings(folder, config)
        _tell_of_another_network(folder, config)
    elif exists:
        state = "a finished run" if is_finished(folder) else "an unfinished run"
        raise OutputError(
            f"{folder}: {state} exists; use resume=true to go on with it, overwrite=true to replace it, or another seed/output"
        )
    make_folder(folder)
    write_config(config, folder)
    return folder


def write_config(config: Config, folder: Path) -> None:
    """``config.yaml``: the run, not how it was asked for."""
    run = replace(config, resume=False, overwrite=False, output=portable(config.output))
    write_text(folder / CONFIG, to_yaml(run, made_with(config)))


def portable(output: str) -> str:
    """The output folder relative to where the run was started, if it lies below: a run's settings name no machine."""
    path, here = Path(output), Path.cwd()
    return (path.relative_to(here).as_posix() or ".") if path.is_absolute() and path.is_relative_to(here) else output


def load_run_config(folder: Path) -> Config:
    """The settings of an existing run."""
    try:
        return config_from_dict(_config_values(folder))
    except ConfigError as error:
        raise FileFormatError(f"{folder / CONFIG}: {str(error).removeprefix('config: ')}") from error


def _config_values(folder: Path) -> dict[str, Any]:
    """What stands in ``config.yaml``, settings and notes."""
    path = folder / CONFIG
    if not path.is_file():
        raise FileFormatError(f"{folder}: no run here (expected {CONFIG})")
    try:
        values, _ = read_yaml(path)
    except ConfigError as error:
        raise FileFormatError(str(error)) from error
    if not isinstance(values, dict):
        raise FileFormatError(f"{path}: expected settings, got {type(values).__name__}")
    return values


def check_same_settings(folder: Path, config: Config) -> None:
    """Raises OutputError naming every setting that differs from the run in ``folder`` and could change its splats."""
    differing = differing_settings(load_run_config(folder), config)
    if differing:
        doing = "is finished, and not with these settings" if is_finished(folder) else "cannot resume with other settings"
        raise OutputError(f"{folder}: {doing}: {', '.join(differing)}; keep them, or use overwrite=true")


def _tell_of_another_network(folder: Path, config: Config) -> None:
    """One line in the log if the files behind ``prior.name`` are not those that the run in ``folder`` was begun with."""
    noted, now = _config_values(folder).get(MADE_WITH), network_fingerprint(config)
    before = noted.get("prior") if isinstance(noted, dict) else None
    if not isinstance(before, str) or before == now or UNKNOWN in before + now:
        return
    names = " + ".join(prior_names(config))
    logging.getLogger(__name__).warning(
        "%s: begun with another network behind prior.name=%s (%s, now %s); going on with the present one. overwrite=true begins anew",
        *(folder, names, before, now),
    )


def differing_settings(before: Config, now: Config) -> list[str]:
    """ "steps (12 → 13)" for every setting that differs and is not free."""
    free = free_settings()
    differing = [
        f"{key} ({old} → {new})"
        for key, _, _ in describe_settings()
        if key not in free and (old := _value(before, key)) != (new := _value(now, key))
    ]
    with suppress(FsdGsError):  # a device that is not here is said when it is used
        if resolve_device(before.device) != resolve_device(now.device):
            differing.append(f"device ({before.device} → {now.device})")
    return differing


def _value(config: object, key: str) -> object:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def origin(config: Config) -> Provenance:
    """What files made from ``config`` say of where they come from."""
    names = prior_names(config)
    licences = [licence_of(name) for name in names]
    licence = None if None in licences else " + ".join(dict.fromkeys(filter(None, licences)))
    return Provenance(config.prompt, config.seed, config_key(config), " + ".join(names), licence, __version__)


def licence_of(prior: str) -> str | None:
    """Of a prior's weights, None where it is not known."""
    backbone = published().get(prior)
    return "Apache-2.0" if prior in ("nano", "exact") else backbone.licence if backbone else None


def _empty(folder: Path) -> None:
    """Remove what a run writes and what was made from it, but ``config.yaml``, and nothing that somebody else may have put there."""
    try:
        for name in (FINISHED, *_RESULTS, LOG, FINISH):
            (folder / name).unlink(missing_ok=True)
        for number, path in versions_of(folder / SPLATS).items():
            if number > 1:
                path.unlink(missing_ok=True)
        for name, pattern in _WRITTEN.items():
            place = folder / name
            remove_temporaries(place)
            for path in place.iterdir() if place.is_dir() else ():
                if path.is_file() and re.fullmatch(pattern, path.name):
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # not there, or not empty: then it is somebody's
                place.rmdir()
    except OSError as error:
        raise output_error(folder, error) from error
    remove_temporaries(folder)
