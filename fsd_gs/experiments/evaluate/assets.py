"""Making one asset and keeping it, so that no evaluation ever makes it again.

OUTPUT/assets/<key>/   config.yaml, splats.ply, traceback.txt where a bug ended it, record.json, and the marker of ``fsd_gs.fleet``: an
                       asset is a unit of work, and its folder appears whole. ``<key>`` is the hash of everything that decides the asset,
                       so suites share assets.

An asset that ends in an error is a result too: it is recorded with its reason, counts in every denominator, and is only made again on
request. What is wrong with the machine (a full disk, a missing backend) is no property of the asset: it ends the evaluation at once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fsd_gs.config import to_yaml
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, FsdGsError
from fsd_gs.experiments.evaluate.suite import Asset
from fsd_gs.experiments.sweep.cells import PriorCache
from fsd_gs.export.ply import load_ply, save_ply
from fsd_gs.fleet.asset import Watched
from fsd_gs.fleet.task import Stopped, Tools
from fsd_gs.fleet.unit import Unit
from fsd_gs.io import make_folder, write_text
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset as train_asset
from fsd_gs.train.identity import config_key

RECORD, SPLATS, CONFIG = "record.json", "splats.ply", "config.yaml"


@dataclass(frozen=True)
class Record:
    """One finished asset.

    Attributes:
        error: the line it ended with, or None; then the rest is there.
        digest: SHA-256 of ``splats.ply``.
        seconds: of the optimisation, None where it was not watched from start to end.
        source: the folder of the run that it was taken from.
    """

    key: str
    prompt: str
    seed: int
    error: str | None = None
    splats: int | None = None
    digest: str | None = None
    seconds: float | None = None
    source: str | None = None


def unit_of(asset: Asset) -> Unit:
    """An asset as a unit of work."""
    columns = {"prompt": asset.config.prompt, "seed": asset.config.seed, "name": asset.label}
    return Unit(asset.key, f"assets/{asset.key}", str(asset), asset, columns)


def asset_folder(output: Path, asset: Asset) -> Path:
    """Where an asset of the evaluation lies."""
    return output / unit_of(asset).folder


def load_record(folder: Path) -> Record | None:
    """The record in ``folder``, None where there is none. FileFormatError where it, or the splats it tells of, cannot be trusted."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
        if record.error is None and file_digest(folder / SPLATS) != record.digest:
            raise ValueError(f"{SPLATS} is not the file that was written")
    except (OSError, ValueError, TypeError) as error:
        raise FileFormatError(f"{folder}: a damaged asset ({' '.join(str(error).split())})") from error
    return record


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_splats(folder: Path) -> Gaussians:
    """The splats of a finished asset."""
    return load_ply(folder / SPLATS)


@dataclass(frozen=True)
class MakeRecord:
    """The task of an evaluation: its units carry an :class:`Asset`."""

    def make(self, unit: Unit, place: Path, tools: Tools) -> dict[str, Any]:
        record = make_asset(unit.payload, place, tools.kept(PriorCache), tools)
        return {"error": record.error, "splats": record.splats, "verdict": "error" if record.error else ""}


def make_asset(asset: Asset, folder: Path, cache: PriorCache, tools: Tools | None = None) -> Record:
    """Optimise one asset, or go on from its last checkpoint, and keep it. Whatever is wrong with *it* becomes the record's ``error``.

    Raises:
        OutputError, BackendError: something is wrong with this machine.
        Stopped: it was asked to end early.
    """
    for untrusted in (RECORD, runs.FINISHED, SPLATS):
        (folder / untrusted).unlink(missing_ok=True)
    config = replace(asset.config, resume=True)
    watch = [Watched(tools)] if tools is not None else []
    outcome = train_asset(config, cache.prior, folder, observers=watch, only_splats=True, keep_errors=True)
    if outcome.state == "stopped":
        raise Stopped
    if outcome.result is None:
        record = _failed(asset, outcome.error or "not made")
        make_folder(folder)
        shutil.rmtree((folder / runs.CHECKPOINT).parent, ignore_errors=True)
    else:
        record = _record(asset, folder, len(outcome.result.splats), outcome.seconds)
    write_text(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")
    return record


def _record(asset: Asset, folder: Path, splats: int, seconds: float | None, source: Path | None = None) -> Record:
    origin = None if source is None else str(source)
    config = asset.config
    return Record(asset.key, config.prompt, config.seed, None, splats, file_digest(folder / SPLATS), seconds, origin)


def _failed(asset: Asset, reason: str) -> Record:
    return Record(asset.key, asset.config.prompt, asset.config.seed, error=" ".join(reason.split()))


# -- finished runs of train.py ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundRuns:
    """Runs of train.py that are there already.

    Attributes:
        finished: key of the settings → folder.
        unfinished, unreadable: one line each for people.
    """

    finished: dict[str, Path]
    unfinished: tuple[str, ...]
    unreadable: tuple[str, ...]


def find_runs(roots: list[Path]) -> FoundRuns:
    """The runs of ``train.py`` below ``roots`` by the hash of their settings."""
    finished, unfinished, unreadable = {}, [], []
    for folder in sorted({path.parent for root in roots for path in root.rglob(f"seed-*/{runs.CONFIG}")}):
        try:
            key = config_key(runs.load_run_config(folder))
        except FsdGsError as error:
            unreadable.append(f"{folder}: not a run of this version ({error})")
            continue
        if runs.is_finished(folder):
            finished[key] = folder
        else:
            unfinished.append(f"{folder}: an unfinished run; not used (go on with it by resume=true)")
    return FoundRuns(finished, tuple(unfinished), tuple(unreadable))


def take_run(asset: Asset, source: Path, folder: Path) -> Record:
    """Copy the splats of a finished run of ``train.py`` with the same settings; FileFormatError if they are damaged."""
    splats = load_ply(source / runs.SPLATS)
    write_text(make_folder(folder) / CONFIG, to_yaml(asset.config))
    save_ply(splats, folder / SPLATS)
    record = _record(asset, folder, len(splats), None, source) if len(splats) else _failed(asset, "no splats are left")
    write_text(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")
    return record
