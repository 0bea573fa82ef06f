"""Two processes at once: on one asset, and on two seeds of one set.

one asset    at least one of them ends it; the other is refused with one line or finds it finished
one set      both end theirs, and variants.json knows both
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from row import Ending, Row, in_child
from stub_prior import GreenPrior, tiny

from fsd_gs.config import Config
from fsd_gs.io import file_sha256
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset
from fsd_gs.train.variants import VARIANTS, load_variants, train_variants

QUICK = ("outputs.turntable_frames=0", "outputs.timelapse=false", "outputs.preview_every=0", "steps=8")


def at_once(*works: Callable[[], object]) -> list[Ending]:
    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(in_child, works))


def on_one_asset(times: int) -> Row:
    row = Row("two processes on one asset")
    with tempfile.TemporaryDirectory() as place:
        expected = file_sha256(make_asset(tiny(place, *QUICK), GreenPrior()).folder / runs.SPLATS)
    for _ in range(times):
        row.cases += 1
        with tempfile.TemporaryDirectory() as place:
            config = tiny(place, *QUICK, "resume=true")
            endings = at_once(*[lambda config=config: make_asset(config, GreenPrior())] * 2)
            folder = runs.run_folder(config)
            row.traceback += endings.count("traceback")
            row.lost += "good" not in endings
            row.silent += not runs.is_finished(folder) or file_sha256(folder / runs.SPLATS) != expected
    return row


def on_one_set(times: int) -> Row:
    row = Row("two processes on two seeds of a set")

    def train(config: Config) -> None:
        train_variants(config, lambda asset: make_asset(asset, GreenPrior()) and 0, say=lambda _: None)

    for _ in range(times):
        row.cases += 1
        with tempfile.TemporaryDirectory() as place:
            configs = [tiny(place, *QUICK, f"seed={seed}") for seed in (0, 1)]
            endings = at_once(*[lambda config=config: train(config) for config in configs])
            known = load_variants(runs.run_folder(configs[0]).parent / VARIANTS)
            row.traceback += endings.count("traceback")
            row.lost += endings.count("refused") + (known is None or sorted(known.seeds) != [0, 1])
    return row


def rows(long: bool) -> Iterator[Row]:
    times = 20 if long else 1
    yield on_one_asset(times)
    yield on_one_set(times)
