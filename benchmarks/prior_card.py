"""What the embedded prior can do, for its model card: python benchmarks/prior_card.py --prior FOLDER|nano --output DIR

    2d      samples of captions with combinations that training never saw, and of ones it did; does the judge find what was asked for?
    views   do the views of a sample agree? The object nearest to three of four predicts the fourth (card/identify.py); splats fitted to
            four of eight predict the other four (card/consistency.py)
    kinds   how many kinds of object are known: what does a sample of each look like most (card/kinds.py)? --meshes for those of meshes
    speed   milliseconds of one guidance step with the prior's number of views, float32 and bfloat16, early and late on the path

Writes DIR/prior_card.json (parts run later are added as long as the prior is the same) and pictures beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from card import consistency, identify, kinds, pictures
from card.agreement import Verdict, judge_samples, summary
from card.captions import Caption, categories_of, choose_captions
from card.consistency import FitSettings, Sampling
from card.speed import time_steps
from rich.progress import track
from torch import Tensor

import fsd_gs
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.core.rng import make_generator, stream_seed
from fsd_gs.core.types import Cameras
from fsd_gs.metrics.judge import Judge
from fsd_gs.pretrain.assets import MeshFolder
from fsd_gs.pretrain.folder import checksums
from fsd_gs.pretrain.views import picture_over
from fsd_gs.priors import LoadOptions, load
from fsd_gs.priors.backbones.nano import WEIGHTS
from fsd_gs.priors.backbones.sd import StableDiffusionPrior
from fsd_gs.priors.sampling import sample_views
from fsd_gs.train.words import vocabulary_of

CARD = "prior_card.json"
SPEED_TIMES = (0.8, 0.4)  # of which the embedded prior draws the first
REFERENCES = 16  # true renders of each kind in the part "kinds"
VIEWS_CAPTIONS = 24  # of the part "views", which takes a minute for each few captions


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", required=True, help="a folder, or nano for the one that ships with the package")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--part", choices=("2d", "views", "kinds", "speed", "all"), default="all")
    parser.add_argument("--captions", type=int, default=200, help=f"of the part 2d; views takes at most {VIEWS_CAPTIONS} of its own")
    parser.add_argument("--seeds", type=int, default=2, help="samples of each caption in the part 2d, of each kind in the part kinds")
    parser.add_argument("--meshes", default="", help="of the part kinds: the folder of meshes that the prior was trained with")
    parser.add_argument("--steps", type=int, default=30, help="DDIM steps")
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8, help="captions a forward pass")
    parser.add_argument("--rows", type=int, default=16, help="prompts in the picture of the part 2d, evenly spaced")
    parser.add_argument("--fit-steps", type=int, default=FitSettings.steps)
    parser.add_argument("--candidates", type=int, default=48, help="catalogue objects to find the nearest among, at least 2")
    parser.add_argument("--repetitions", type=int, default=20, help="of the part speed")
    parser.add_argument("--drawn-from", type=float, default=LoadOptions.drawn_from, help="prior.drawn_from of a splat-native prior")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's own number")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="of the parts 2d and views; auto is float32 on a CPU")
    return parser.parse_args(arguments)


def measure_2d(prior: StableDiffusionPrior, captions: list[Caption], given: argparse.Namespace) -> dict[str, Any]:
    """Agreement of samples with cameras, of single pictures without, and of true renders, which the judge errs on as well."""
    judge = Judge.load()
    numbers = [n for n in range(len(captions)) for _ in range(given.seeds)]
    turns = 360 * torch.rand(len(numbers), generator=make_generator(given.seed, "card/turns"))
    rigs = [consistency.ring(float(turn), prior.image_size, prior.views) for turn in turns]
    asked = [captions[n] for n in numbers]
    began = time.perf_counter()
    images = sample_all(prior, asked, rigs, given, "card/2d")
    seconds = time.perf_counter() - began
    single = sample_all(prior, asked, None, given, "card/2d-single")
    renders = true_renders(asked, rigs, given.seed)
    through = torch.cat([prior.decode(prior.encode(views.to(prior.device))).cpu()[None] for views in renders])
    sets = {"views": images, "single pictures": single, "catalogue renders": renders, "renders through the autoencoder": through}
    verdicts = {name: judge_samples(judge, captions, numbers, some) for name, some in sets.items()}
    draw_samples(given.output / "samples.png", captions, images.unflatten(0, (len(captions), given.seeds)), given.rows)
    draw_samples(given.output / "single.png", captions, single.unflatten(0, (len(captions), given.seeds)), given.rows)
    draw_worst(given.output / "mistakes.png", captions, verdicts["views"], images)
    return {
        "captions": len(captions),
        "seconds_per_sample": seconds / len(numbers),
        **{name: summary(captions, some) for name, some in verdicts.items()},
        "verdicts": [_row(captions, v) for v in verdicts["views"]],
    }


def _row(captions: Sequence[Caption], v: Verdict) -> dict[str, Any]:
    return {"prompt": captions[v.caption].prompt, "background": captions[v.caption].background} | asdict(v)


@torch.no_grad()
def sample_all(
    prior: StableDiffusionPrior,
    captions: Sequence[Caption | kinds.Question],
    rigs: Sequence[Cameras] | None,
    given: argparse.Namespace,
    stream: str,
) -> Tensor:
    """[S, V, 3, H, W]: one sample for each caption."""
    generator, images = make_generator(given.seed, stream), []
    for start in track(range(0, len(captions), given.batch), description=stream, transient=True):
        some = captions[start : start + given.batch]
        images.append(
            sample_views(
                prior,
                [c.prompt for c in some],
                None if rigs is None else rigs[start : start + given.batch],
                generator=generator,
                steps=given.steps,
                cfg_scale=given.cfg,
                background=torch.stack([c.color for c in some]),
                batch=given.batch,
            ).cpu()
        )
    return torch.cat(images)


def true_renders(captions: Sequence[Caption], rigs: Sequence[Cameras], seed: int) -> Tensor:
    """[S, V, 3, H, W] of catalogue objects that training never draws."""
    rng = np.random.default_rng(stream_seed(seed, "card/objects"))
    return torch.stack([picture_over(render_mesh(c.object(rng).mesh, rig), c.color) for c, rig in zip(captions, rigs, strict=True)])


def draw_samples(path: Path, captions: Sequence[Caption], images: Tensor, rows: int) -> None:
    """A row a caption, its seeds side by side; captions evenly spaced, not picked. images [P, S, V, 3, H, W]."""
    chosen = np.unique(np.linspace(0, len(captions) - 1, min(rows, len(captions))).round().astype(int))
    pictures.grid([(f"{captions[n].prompt}  ({captions[n].group})", list(images[n])) for n in chosen]).save(path, optimize=True)


def draw_worst(path: Path, captions: Sequence[Caption], verdicts: Sequence[Verdict], images: Tensor, most: int = 24) -> None:
    """The samples whose category or colour the judge did not find, with what it saw instead."""
    wrong = [n for n, v in enumerate(verdicts) if not v.right["category"] or not v.right.get("color", True)][:most]
    rows = []
    for n in wrong:
        caption, said = captions[verdicts[n].caption], verdicts[n].said
        rows.append((f"{caption.prompt}  → {said['color']} {said['category']}", [images[n]]))
    if rows:
        pictures.grid(rows).save(path, optimize=True)


def measure_views(prior: StableDiffusionPrior, captions: list[Caption], given: argparse.Namespace) -> dict[str, Any]:
    """Views predicted by the nearest catalogue object, and by splats; for samples and for true renders."""
    generator = make_generator(given.seed, "card/views")
    rng = np.random.default_rng(stream_seed(given.seed, "card/views-objects"))
    turns = (360 * torch.rand(len(captions), generator=generator)).tolist()
    sampling, settings = Sampling(given.steps, given.cfg, max(1, given.batch // 2)), FitSettings(steps=given.fit_steps)
    drawn, true = identify.lineups(prior, captions, turns, sampling, generator, given.candidates, rng)
    found = {"four views": drawn, "catalogue renders": true}
    cases = {
        "joint eight views": consistency.joint_cases(prior, captions, turns, sampling, generator),
        "catalogue renders": consistency.true_cases(captions, turns, prior.image_size, rng),
    }
    result: dict[str, Any] = {"captions": len(captions), "fit": asdict(settings)}
    result["identified"] = {name: identify.summarize([identify.identify(one) for one in some]) for name, some in found.items()}
    for name, some in cases.items():
        fitted = [consistency.predict_between(case, settings, generator) for case in track(some, description=name, transient=True)]
        result[name] = consistency.summarize([scores for _, scores in fitted])
        rows = [
            (f"{caption.prompt}: above as sampled, below splats fitted to views 1, 3, 5, 7", [case.own]) if above else ("", [seen])
            for caption, case, (seen, _) in list(zip(captions, some, fitted, strict=True))[:8]
            for above in (True, False)
        ]
        pictures.grid(rows).save(given.output / f"views-{name.replace(' ', '-')}.png", optimize=True)
    judge, numbers = Judge.load(), list(range(len(captions)))
    images = {name: torch.stack([case.own for case in some]) for name, some in cases.items()}
    verdicts = {name: judge_samples(judge, captions, numbers, some) for name, some in images.items()}
    result["judge"] = {name: summary(captions, some)["rates"]["all"] for name, some in verdicts.items()}
    return result


def measure_kinds(prior: StableDiffusionPrior, given: argparse.Namespace) -> dict[str, Any]:
    """Kinds that samples are recognised as, among all of them; the same of true renders."""
    judge, rng = Judge.load(), _rng(given, "kinds")
    vocabulary = vocabulary_of(prior)
    if vocabulary is None:
        sys.exit("--part kinds: expected a prior that puts prompts into words it was trained with, got one that takes any")
    meshes = MeshFolder(given.meshes).objects if given.meshes else ()
    draws = kinds.kinds_of(vocabulary, meshes, rng)
    names, renders = kinds.reference_renders(draws, REFERENCES, prior.image_size, prior.views, rng)
    references = kinds.embed(judge, renders)
    asked, true = kinds.questions(draws, vocabulary, given.seeds, prior.image_size, prior.views, rng)
    images = sample_all(prior, asked, [question.cameras for question in asked], given, "card/kinds")
    draw_kinds(given.output / "kinds.png", asked, images, given.seeds)
    sets = {"samples": images, "true renders": true}
    return {name: kinds.summarize(asked, kinds.nearest(references, names, kinds.embed(judge, some))) for name, some in sets.items()}


def draw_kinds(path: Path, asked: Sequence[kinds.Question], images: Tensor, seeds: int) -> None:
    """A row a kind: its samples side by side under the first prompt."""
    rows = [(asked[n].prompt, list(images[n : n + seeds])) for n in range(0, len(asked), seeds)]
    pictures.grid(rows, scale=1).save(path, optimize=True)


def measure_speed(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Median milliseconds of a guidance step in each precision, early on the path and late."""
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    for precision in ("float32", "bfloat16"):
        prior = _load(folder, given, precision)
        for t in SPEED_TIMES:
            result[f"{precision}, t = {t}"] = time_steps(prior, "a red chair", given.cfg, t, given.repetitions)
    return result


def _load(folder: Path, given: argparse.Namespace, dtype: str) -> StableDiffusionPrior:
    prior = load(folder, device=given.device, dtype=dtype, options=LoadOptions(text_encoder="keep", drawn_from=given.drawn_from))
    if not isinstance(prior, StableDiffusionPrior):
        sys.exit(f"--prior: expected a prior of the Stable Diffusion family, got {type(prior).__name__}")
    return prior


def read_card(path: Path, digest: dict[str, str]) -> dict[str, Any]:
    """The card so far, if it is about the same weights; else an empty one."""
    if path.is_file():
        card = json.loads(path.read_text())
        if card.get("checksums") == digest:
            return card
    return {"checksums": digest}


def main(arguments: Sequence[str] | None = None) -> None:
    given = parse(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    given.output.mkdir(parents=True, exist_ok=True)
    folder = WEIGHTS if given.prior == "nano" else Path(given.prior)
    prior, categories = _load(folder, given, given.dtype), categories_of(folder)
    card = read_card(given.output / CARD, checksums(folder))
    card["versions"] = {"fsd_gs": fsd_gs.__version__, "torch": torch.__version__, "python": platform.python_version()}
    settings = {k: v for k, v in vars(given).items() if k not in ("prior", "output", "part")} | {"judge": Judge.load().name}
    measures = {
        "2d": lambda: measure_2d(prior, choose_captions(given.captions, categories, _rng(given, "2d")), given),
        "views": lambda: measure_views(
            prior, choose_captions(min(given.captions, VIEWS_CAPTIONS), categories, _rng(given, "views"), full=True), given
        ),
        "kinds": lambda: measure_kinds(prior, given),
        "speed": lambda: measure_speed(folder, given),
    }
    everything = (part for part in measures if part != "kinds" or vocabulary_of(prior) is not None)  # which needs words that it knows
    parts = tuple(everything) if given.part == "all" else (given.part,)
    for part in parts:
        card[part] = {"settings": settings} | measures[part]()
        (given.output / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False))
    report({part: card[part] for part in parts})


def _rng(given: argparse.Namespace, part: str) -> np.random.Generator:
    return np.random.default_rng(stream_seed(given.seed, f"card/captions/{part}"))


def report(card: dict[str, Any]) -> None:
    """The figures that the model card quotes."""
    for name, rates in ((n, r["rates"]) for n, r in card.get("2d", {}).items() if isinstance(r, dict) and "rates" in r):
        for group, labels in (rates if name == "views" else {"all": rates["all"]}).items():
            line = "  ".join(f"{label} {_percent(values['majority'])}" for label, values in labels.items())
            print(f"2d     {name}, {group}: {line}")
    for name, regions in ((n, r) for n, r in card.get("views", {}).items() if isinstance(r, dict) and "object" in r):
        means = "  ".join(f"{key} {regions['object'][key]['mean']:.1f}" for key in ("own", "other", "neighbour"))
        gap, above = regions["object"]["own − other"], regions["object"]["own above other"]
        interval = "" if gap["low"] is None else f" [{gap['low']:.1f}, {gap['high']:.1f}]"
        print(f"views  {name}, PSNR of the object in dB: {means}  own − other {gap['mean']:.1f}{interval}, above in {100 * above:.0f} %")
    for name, row in card.get("views", {}).get("identified", {}).items():
        means = "  ".join(f"{key} {row[key]['mean']:.1f}" for key in ("own", "chance", "best"))
        print(f"views  {name}, by the object nearest to the others, dB: {means}  better than {_percent(row['beaten'])} of the objects")
    for name, row in card.get("kinds", {}).items():
        if "known" in row:
            missed = ", ".join(row["missed"]) or "none"
            print(f"kinds  {name}: {row['known']} of {row['kinds']} known, {100 * row['right']:.0f} % right; missed: {missed}")
    for name, timing in ((n, r) for n, r in card.get("speed", {}).items() if isinstance(r, dict) and "step_ms" in r):
        print(f"speed  {name}, {card['speed']['threads']} threads: {timing['step_ms']:.0f} ms a step")


def _percent(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return "–" if estimate["mean"] is None else f"{100 * estimate['mean']:.0f} %"
    return f"{100 * estimate['mean']:.1f} % [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


if __name__ == "__main__":
    main()
