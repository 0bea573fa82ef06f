"""Makes the assets that are not there yet, here or in several processes, and says what it found before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from fsd_gs.errors import FileFormatError, FsdGsError, InputError
from fsd_gs.experiments.evaluate.assets import CONFIG, FoundRuns, Record, asset_folder, load_record, make_asset, take_run
from fsd_gs.experiments.evaluate.suite import Asset
from fsd_gs.experiments.sweep.cells import PriorCache
from fsd_gs.experiments.sweep.pool import results_of_pool, watched
from fsd_gs.image2d import front_cameras
from fsd_gs.train.identity import config_key
from fsd_gs.train.words import check_words

_worker_cache = PriorCache()  # one a process; a worker lives as long as its pool


@dataclass
class Inventory:
    """What is there before anything is made.

    Attributes:
        finished: records by key.
        unfinished, damaged: one line each, naming the folder.
    """

    finished: dict[str, Record] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


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
            stock.damaged.append(f"{asset}: {error}")
            continue
        if record is not None:
            stock.finished[asset.key] = record
        elif (folder / CONFIG).is_file():
            stock.unfinished.append(f"{asset}: unfinished ({folder})")
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
    stock = take_stock(assets, output, found)
    for line in (*stock.unfinished, *(f"{line}; it is made again" for line in stock.damaged)):
        console.print(f"note: {line}", highlight=False, markup=False, soft_wrap=True)
    results = {key: r for key, r in stock.finished.items() if not (retry and r.error is not None)}
    waiting = list({asset.key: asset for asset in assets if asset.key not in results}.values())
    console.print(f"{len(results)} of {len(results) + len(waiting)} assets are finished already", highlight=False)
    labels = {asset.key: str(asset) for asset in waiting}
    made = _make(waiting, output, workers, cache)
    for record in watched(
        made,
        len(waiting),
        console,
        title="assets",
        describe=lambda r: f"{labels[r.key]}  {_outcome(r)}",
        failed=lambda r: r.error is not None,
    ):
        results[record.key] = record
    return results


def finished_assets(assets: Sequence[Asset], output: Path) -> dict[str, Record]:
    """The records of all assets, for a report of what is there; InputError names what is not, since fewer assets are another protocol."""
    stock = take_stock(assets, output)
    missing = [str(a) for a in {a.key: a for a in assets}.values() if a.key not in stock.finished]
    if missing:
        first = (stock.damaged + stock.unfinished or missing)[0]
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


def _make(waiting: Sequence[Asset], output: Path, workers: int, cache: PriorCache) -> Iterator[Record]:
    jobs = [(asset, asset_folder(output, asset)) for asset in waiting]
    if workers == 1 or len(waiting) < 2:
        return (make_asset(asset, folder, cache) for asset, folder in jobs)
    return results_of_pool(_work, jobs, workers)


def _work(asset: Asset, folder: Path) -> Record:
    return make_asset(asset, folder, _worker_cache)


def _outcome(record: Record) -> str:
    if record.error is not None:
        return f"error: {record.error}"
    time = "" if record.seconds is None else f"  {record.seconds:.1f} s"
    return f"{record.splats} splats{time}"
