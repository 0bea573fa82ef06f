"""Makes the assets that are not there yet, here or in several processes, and says what it found before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from fsd_gs.errors import FileFormatError, FsdGsError, InputError
from fsd_gs.experiments.evaluate.assets import FoundRuns, MakeRecord, Record, asset_folder, load_record, take_run, unit_of
from fsd_gs.experiments.evaluate.suite import Asset
from fsd_gs.experiments.sweep.cells import PriorCache
from fsd_gs.fleet.protocol import Claims
from fsd_gs.fleet.run import run_here
from fsd_gs.fleet.store import FLEET, FolderStore
from fsd_gs.fleet.unit import Unit
from fsd_gs.image2d import front_cameras
from fsd_gs.train.identity import config_key
from fsd_gs.train.words import check_words


@dataclass
class Inventory:
    """What is there before anything is made.

    Attributes:
        finished: records by key.
        unfinished: one line each, naming the folder.
        damaged: such a line by key.
    """

    finished: dict[str, Record] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)


def take_stock(assets: Sequence[Asset], output: Path, found: FoundRuns | None = None) -> Inventory:
    """Look for every asset in ``output``, and then among the runs of ``train.py`` that were ``found``."""
    stock = Inventory()
    for asset in {a.key: a for a in assets}.values():
        folder = asset_folder(output, asset)
        try:
            record = load_record(folder)
            if record is None and found is not None and (source := found.finished.get(config_key(asset.config))) is not None:
                record = take_run(asset, source, folder)
        except FileFormatError as error:
            stock.damaged[asset.key] = f"{asset}: {error}"
            continue
        if record is not None:
            stock.finished[asset.key] = record
        elif left := list((output / FLEET / "work").glob(f"{asset.key}.*")):
            stock.unfinished.append(f"{asset}: unfinished ({left[0]})")
    return stock


def run_assets(
    assets: Sequence[Asset],
    output: Path,
    *,
    cache: PriorCache,
    console: Console,
    workers: int = 1,
    retry: bool = False,
    found: FoundRuns | None = None,
) -> dict[str, Record]:
    """Records of all assets by key. Finished ones are not made again, except, with ``retry``, those that ended in an error; unfinished
    ones go on from their checkpoint, and damaged ones are made again: both are named first."""
    stock, claims = take_stock(assets, output, found), Claims(FolderStore(output))
    every = {asset.key: asset for asset in assets}
    for line in (*stock.unfinished, *(f"{line}; it is made again" for line in stock.damaged.values())):
        console.print(f"note: {line}", highlight=False, markup=False, soft_wrap=True)
    again = {*stock.damaged, *(key for key, record in stock.finished.items() if retry and record.error is not None)}
    for key in again:
        claims.withdraw(key, unit_of(every[key]).folder)
    results = {key: record for key, record in stock.finished.items() if key not in again}
    waiting = [asset for key, asset in every.items() if key not in results]
    console.print(f"{len(results)} of {len(every)} assets are finished already", highlight=False)

    def told(unit: Unit) -> str:
        record = load_record(output / unit.folder)
        return f"{unit.label}  {'no record' if record is None else _outcome(record)}"

    units = [unit_of(asset) for asset in waiting]
    run_here(units, MakeRecord(), output, workers=workers, console=console, done=told, cache={PriorCache: cache})
    made = {asset.key: load_record(asset_folder(output, asset)) for asset in waiting}
    return results | {key: record for key, record in made.items() if record is not None}


def finished_assets(assets: Sequence[Asset], output: Path) -> dict[str, Record]:
    """The records of all assets, for a report of what is there; InputError names what is not, since fewer assets are another protocol."""
    stock = take_stock(assets, output)
    missing = [str(a) for a in {a.key: a for a in assets}.values() if a.key not in stock.finished]
    if missing:
        first = [*stock.damaged.values(), *stock.unfinished, *missing][0]
        raise InputError(
            f"{len(missing)} of {len({a.key for a in assets})} assets are missing, unfinished or damaged, such as '{first}'; run the same "
            f"command without --report to make them (a table of the others would be another protocol)"
        )
    return stock.finished


def check_priors(assets: Sequence[Asset], cache: PriorCache) -> None:
    """Load the prior and have it read every prompt, so that what no asset can do without fails now, in one line, and not once an asset."""
    for asset in {a.config.prompt: a for a in assets}.values():
        prior = cache.prior(asset.config)
        try:
            check_words(prior, asset.config.prompt, anyway=asset.config.anyway)
            prior.encode_text(asset.config.prompt, asset.config.negative_prompt, front_cameras(prior, prior.views))
        except FsdGsError as error:
            raise InputError(f"prompt '{asset.config.prompt}': {error}") from error


def _outcome(record: Record) -> str:
    if record.error is not None:
        return f"error: {record.error}"
    time = "" if record.seconds is None else f"  {record.seconds:.1f} s"
    return f"{record.splats} splats{time}"
