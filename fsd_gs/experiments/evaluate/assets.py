"""Making one asset and keeping it, so that no evaluation ever makes it again.

OUTPUT/assets/<key>/   config.yaml, splats.ply, checkpoint/ while it grows, traceback.txt where a bug ended it, and last record.json: its
                       presence says that all is there. ``<key>`` is the hash of everything that decides the asset, so suites share assets.

An asset that ends in an error is a result too: it is recorded with its reason, counts in every denominator, and is only made again on
request. What is wrong with the machine (a full disk, a missing backend) is no property of the asset: it ends the evaluation at once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from fsd_gs.config import to_yaml
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import BackendError, FileFormatError, FsdGsError, OutputError
from fsd_gs.experiments.evaluate.suite import Asset
from fsd_gs.experiments.sweep.cells import PriorCache
from fsd_gs.export.ply import load_ply, save_ply
from fsd_gs.io import make_folder, write_text
from fsd_gs.train import runs
from fsd_gs.train.api import prepare, run
from fsd_gs.train.checkpoint import load_state
from fsd_gs.train.identity import config_key
from fsd_gs.train.observers import Checkpoints

RECORD, SPLATS, CONFIG, TRACEBACK = "record.json", "splats.ply", "config.yaml", "traceback.txt"


@dataclass(frozen=True)
class Record:
    """One finished asset. error: the line it ended with, or None; then the rest is there. digest: SHA-256 of ``splats.ply``. seconds: of
    the optimisation, None where it was not watched from start to end. source: the folder of the run that it was taken from."""

    key: str
    prompt: str
    seed: int
    error: str | None = None
    splats: int | None = None
    digest: str | None = None
    seconds: float | None = None
    source: str | None = None


def asset_folder(output: Path, asset: Asset) -> Path:
    return output / "assets" / asset.key


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
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_splats(folder: Path) -> Gaussians:
    """The splats of a finished asset."""
    return load_ply(folder / SPLATS)


def make_asset(asset: Asset, folder: Path, cache: PriorCache) -> Record:
    """Optimise one asset, or go on from its last checkpoint, and keep it. Whatever is wrong with *it* becomes the record's ``error``."""
    make_folder(folder)
    for leftover in (RECORD, TRACEBACK):
        (folder / leftover).unlink(missing_ok=True)
    write_text(folder / CONFIG, to_yaml(asset.config))
    try:
        splats, seconds = _optimise(asset, folder / runs.CHECKPOINT, cache)
        record = _keep(asset, folder, splats, seconds)
    except (OutputError, BackendError):
        raise
    except FsdGsError as error:
        record = _failed(asset, str(error))
    except Exception as error:  # a bug or a full GPU in one asset must neither stop the others nor vanish from the table
        write_text(folder / TRACEBACK, traceback.format_exc())
        record = _failed(asset, f"{type(error).__name__}: {error}")
    write_text(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")
    shutil.rmtree((folder / runs.CHECKPOINT).parent, ignore_errors=True)
    return record


def _optimise(asset: Asset, checkpoint: Path, cache: PriorCache) -> tuple[Gaussians, float | None]:
    """The splats, and the seconds they took if this call made them from the first step on."""
    config = asset.config
    session = prepare(config, cache.prior(config))
    resumed = _usable(checkpoint)
    every = config.outputs.checkpoint_every
    began = time.perf_counter()
    result = run(config, session, [Checkpoints(checkpoint, every)] if every else [], checkpoint if resumed else None)
    return result.splats, None if resumed else time.perf_counter() - began


def _usable(checkpoint: Path) -> bool:
    """Whether there is a checkpoint to go on from; a damaged one is removed, and the asset begins again."""
    if not checkpoint.is_file():
        return False
    try:
        load_state(checkpoint)
    except FileFormatError:
        checkpoint.unlink(missing_ok=True)
        return False
    return True


def _keep(asset: Asset, folder: Path, splats: Gaussians, seconds: float | None, source: Path | None = None) -> Record:
    if not len(splats):
        return _failed(asset, "no splats are left")
    save_ply(splats, folder / SPLATS)
    origin = None if source is None else str(source)
    config = asset.config
    return Record(asset.key, config.prompt, config.seed, None, len(splats), file_digest(folder / SPLATS), seconds, origin)


def _failed(asset: Asset, reason: str) -> Record:
    return Record(asset.key, asset.config.prompt, asset.config.seed, error=" ".join(reason.split()))


# -- finished runs of train.py ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundRuns:
    """finished: key of the settings → folder; unfinished, unreadable: one line each for people."""

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
    record = _keep(asset, folder, splats, None, source)
    write_text(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")
    return record
