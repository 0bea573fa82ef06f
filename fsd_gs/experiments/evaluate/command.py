"""``fsd-gs evaluate``: run a suite, or go on with it, and leave tables, plots, contact sheets and a page."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from fsd_gs.config import Config
from fsd_gs.core import commandline
from fsd_gs.core.device import resolve_device
from fsd_gs.core.naming import file_stem
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.experiments.evaluate.ablation import Axis, axes_of
from fsd_gs.experiments.evaluate.assets import Record, find_runs
from fsd_gs.experiments.evaluate.evaluation import Evaluation, MadeAssets, evaluate
from fsd_gs.experiments.evaluate.images import ImageJob, MakeImages, image_folder, image_jobs, load_image_record, unit_of
from fsd_gs.experiments.evaluate.page import report_page
from fsd_gs.experiments.evaluate.pictures import save_plots
from fsd_gs.experiments.evaluate.runner import check_priors, finished_assets, run_assets
from fsd_gs.experiments.evaluate.scorers import Scorers, check_prompts, load_scorers
from fsd_gs.experiments.evaluate.suite import (
    SCORER_KINDS,
    SUITES,
    Asset,
    ScorerSettings,
    Suite,
    check_suite,
    common_protocol,
    expand,
    load_suite,
)
from fsd_gs.experiments.evaluate.tables import markdown, methods_csv, prompts_csv, results_json
from fsd_gs.experiments.sweep.cells import PriorCache
from fsd_gs.fleet.protocol import Claims
from fsd_gs.fleet.run import run_here
from fsd_gs.fleet.store import FolderStore
from fsd_gs.fleet.unit import Unit
from fsd_gs.io import make_folder, write_text
from fsd_gs.priors.backbones.nano import WEIGHTS
from fsd_gs.priors.loading import EMBEDDED
from fsd_gs.train.identity import digest, files_fingerprint

DESCRIPTION = """Compare methods on the same prompts and seeds, and write tables, plots and a page:
{program} --suite nano --quick

Finished assets are never made again: after Ctrl-C or a crash, give the same command. All suites of one --output share their assets."""

LoadScorers = Callable[[ScorerSettings, torch.device], Scorers]


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs evaluate``; settings and ``--config`` hold for every asset, below the methods' own."""
    parser = commandline.make_parser(program, DESCRIPTION)
    commandline.add_settings(parser, Config, listed=False)
    parser.add_argument("--suite", default="nano", metavar="NAME", help=f"{', '.join(SUITES)}, or a YAML file (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="the suite's small version")
    parser.add_argument("--prior", metavar="NAME", help="backbone, with its preset below configs/: a name, a folder or a hub id")
    parser.add_argument("--methods", metavar="A,B", help="files below configs/methods")
    parser.add_argument("--baselines", metavar="A,B", help="methods that the others are compared with")
    parser.add_argument("--prompts", action="append", metavar="TEXT", help="a prompt, or several with ; between; may be repeated")
    parser.add_argument("--seeds", metavar="0,1,2,3", help="an even number of seeds")
    parser.add_argument("--output", default="outputs/evaluate", metavar="FOLDER", help="where assets and reports go (default: %(default)s)")
    parser.add_argument("--reuse", action="append", default=[], metavar="FOLDER", help="look for finished runs of train.py there as well")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that make assets (default: %(default)s)")
    parser.add_argument(
        "--scorer", choices=SCORER_KINDS, help="judge (ships with the package) or clip (CLIP and Inception, as in the paper)"
    )
    parser.add_argument("--clip", metavar="PATH", help="CLIP: a folder or hub id")
    parser.add_argument("--inception", metavar="FILE", help="weights of the FID Inception")
    parser.add_argument("--judge", metavar="FOLDER", help="another judge than the one that ships with the package")
    parser.add_argument("--lpips", metavar="FILE", help="weights of LPIPS; without them LPIPS diversity is left out")
    parser.add_argument("--reference-only", action="store_true", help="only the row of DDIM images: a quick look at prior and scorers")
    parser.add_argument("--retry", action="store_true", help="make assets again that ended in an error")
    parser.add_argument("--report", action="store_true", help="make nothing, only report; refused while assets are missing")
    parser.add_argument("--no-plots", action="store_true", help="leave the plots out (they need matplotlib)")
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs evaluate", *, make_scorers: LoadScorers = load_scorers) -> int:
    """Run the command; the exit code is 0 where no asset ended in an error, else 1. make_scorers: for other networks than the usual."""
    options = commandline.parse(make_parser(program), arguments)
    if options.workers < 1:
        raise ConfigError(f"--workers: expected at least 1, got {options.workers}")
    console = Console()
    suite = suite_of(options)
    assets = expand(suite, options.overrides, weights=weights_of(suite.prior))
    scorers = make_scorers(suite.scorer, resolve_device(assets[0].config.device))  # missing weights: now, not after hours
    check_prompts(scorers, suite.prompts)
    made = make_all(suite, assets, options, console)
    console.print("scoring", highlight=False)
    evaluation = evaluate(made, scorers, console)
    folder = make_folder(Path(options.output) / report_name(options, suite, assets))
    for path in write_report(evaluation, folder, shlex.join([*program.split(), *arguments]), plots=not options.no_plots):
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    errors = [record for record in (*made.records.values(), *made.image_records.values()) if record.error is not None]
    if errors:
        console.print(
            f"{len(errors)} ended in an error, such as: {errors[0].error}; --retry makes them again", highlight=False, markup=False
        )
    return 1 if errors else 0


def suite_of(options: argparse.Namespace) -> Suite:
    """The suite with what the command line changes in it, checked again."""
    suite = load_suite(options.suite, quick=options.quick)
    changes = {
        "prior": options.prior,
        "methods": _words(options.methods),
        "baselines": _words(options.baselines),
        "prompts": [text.strip() for entry in options.prompts for text in entry.split(";") if text.strip()] if options.prompts else None,
        "seeds": _numbers(options.seeds),
    }
    suite = replace(suite, **{key: value for key, value in changes.items() if value is not None})
    scorer = {"kind": options.scorer, "clip": options.clip, "inception": options.inception, "lpips": options.lpips, "judge": options.judge}
    suite = replace(
        suite,
        configs=[*suite.configs, *options.config],
        baselines=suite.baselines if options.baselines else [b for b in suite.baselines if b in map(_stem, suite.methods)],
        stand_ins=[prompt for prompt in suite.stand_ins if prompt in suite.prompts],
        scorer=replace(suite.scorer, **{key: value for key, value in scorer.items() if value is not None}),
    )
    if options.reference_only and suite.images.per_seed == 0:
        raise InputError("--reference-only: this suite has no DDIM images; set images: {per_seed: 4} in its YAML file")
    check_suite(suite, "command line")
    return suite


def _stem(method: str) -> str:
    return Path(method).stem


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds: expected whole numbers with commas between, such as 0,1,2,3, got '{text}'") from None


def weights_of(prior: str) -> str:
    """A fingerprint of the prior's files where they lie on this machine, so that a retrained prior does not pass for the old one."""
    path = WEIGHTS if prior == EMBEDDED else Path(prior).expanduser()
    return files_fingerprint(path) if path.exists() else ""


def make_all(suite: Suite, assets: list[Asset], options: argparse.Namespace, console: Console) -> MadeAssets:
    """Everything that is to be scored, made now or found."""
    protocol = common_protocol(assets, suite)
    output, cache = make_folder(Path(options.output)), PriorCache()
    jobs, wanted = image_jobs(assets, suite), [] if options.reference_only else assets
    if options.report:
        return MadeAssets(suite, output, protocol, wanted, finished_assets(wanted, output), jobs, _finished_images(jobs, output))
    check_priors(assets, cache)
    images = make_image_rows(jobs, output, cache, console, retry=options.retry)
    found = find_runs([Path(folder) for folder in options.reuse])
    for line in (*found.unfinished, *found.unreadable):
        console.print(f"note: {line}", highlight=False, markup=False, soft_wrap=True)
    records: dict[str, Record] = {}
    if wanted:
        records = run_assets(wanted, output, cache=cache, console=console, workers=options.workers, retry=options.retry, found=found)
    return MadeAssets(suite, output, protocol, wanted, records, jobs, images)


def make_image_rows(
    jobs: Sequence[ImageJob], output: Path, cache: PriorCache, console: Console, *, retry: bool = False
) -> dict[str, Record]:
    """Records of all DDIM images by key; those that are there are not drawn again."""
    claims, every = Claims(FolderStore(output)), {job.key: job for job in jobs}
    stock = {key: load_image_record(image_folder(output, job)) for key, job in every.items()}
    results = {key: record for key, record in stock.items() if record is not None and not (retry and record.error is not None)}
    waiting = [job for key, job in every.items() if key not in results]
    for job in waiting:
        if image_folder(output, job).exists():
            claims.withdraw(job.key, unit_of(job).folder)

    def told(unit: Unit) -> str:
        record = load_image_record(output / unit.folder)
        return unit.label if record is None or record.error is None else f"{unit.label}  error: {record.error}"

    units = [unit_of(job) for job in waiting]
    run_here(units, MakeImages(), output, workers=1, console=console, done=told, cache={PriorCache: cache})
    made = {job.key: load_image_record(image_folder(output, job)) for job in waiting}
    return results | {key: record for key, record in made.items() if record is not None}


def _finished_images(jobs: Sequence[ImageJob], output: Path) -> dict[str, Record]:
    found = {job.key: load_image_record(image_folder(output, job)) for job in jobs}
    missing = [str(job) for job in jobs if found[job.key] is None]
    if missing:
        raise InputError(f"{len(missing)} sets of DDIM images are missing, such as '{missing[0]}'; run the command without --report")
    return {key: record for key, record in found.items() if record is not None}


def report_name(options: argparse.Namespace, suite: Suite, assets: Sequence[Asset]) -> str:
    """The report's folder: a changed suite gets a name of its own, so that a look at one prompt does not replace the whole table."""
    name = f"{file_stem(Path(options.suite).stem)}-{file_stem(suite.prior)}" + ("-quick" if options.quick else "")
    as_shipped = replace(load_suite(options.suite, quick=options.quick), prior=suite.prior)
    same = as_shipped == suite and not options.reference_only and expand(as_shipped, weights=assets[0].weights) == list(assets)
    return name if same else f"{name}-{digest([str(suite), options.overrides, options.reference_only])[:6]}"


def write_report(evaluation: Evaluation, folder: Path, command: str, *, plots: bool = True) -> list[Path]:
    """All files of the report in ``folder``; returns them."""
    axes: list[Axis] = axes_of(evaluation) if evaluation.made.suite.axes and evaluation.made.assets else []
    drawn = save_plots(evaluation, axes, folder) if plots else []
    texts = {
        "results.json": results_json(evaluation, command, axes),
        "table.md": markdown(evaluation, axes),
        "table.csv": methods_csv(evaluation.rows),
        "prompts.csv": prompts_csv(evaluation),
        "report.html": report_page(evaluation, command, axes, drawn),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*drawn, *(folder / name for name in texts)]
