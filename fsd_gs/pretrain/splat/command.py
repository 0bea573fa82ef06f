"""``fsd-gs train-prior --network splat``: the splat-native prior, for as long as one lets it; the same command goes on.

OUTPUT/state.safetensors       everything that the training needs to go on
OUTPUT/log.jsonl               loss, held-out errors
OUTPUT/previews/STEP.png       samples, from six sides
OUTPUT/objects/shard-*         the window of rendered objects
OUTPUT/tokenizer               of the words of the captions
OUTPUT/prior                   the prior as it stands, ready for prior.name=OUTPUT/prior
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fsd_gs.core import commandline
from fsd_gs.core.device import resolve_device
from fsd_gs.export.pictures import save_png
from fsd_gs.io import append_line
from fsd_gs.pretrain.begin import begin, occupied
from fsd_gs.pretrain.mixture import vocabulary_name
from fsd_gs.pretrain.splat.card import make_splat_card
from fsd_gs.pretrain.splat.measure import errors, held_out_examples, preview
from fsd_gs.pretrain.splat.model import starting_folder
from fsd_gs.pretrain.splat.objects import SplatExample
from fsd_gs.pretrain.splat.settings import SplatPretrainConfig, load_splat_config
from fsd_gs.pretrain.splat.stream import Stream, make_splat_source
from fsd_gs.pretrain.splat.trainer import STATE, SplatTrainer
from fsd_gs.pretrain.stages import Every, cut_log
from fsd_gs.pretrain.watching import Bar, Interrupts, Stopped
from fsd_gs.priors.base import SplatNativePrior
from fsd_gs.priors.loading import load

DESCRIPTION = """Train the splat-native prior, on the catalogue or on your own meshes:
{program} --network splat data.meshes=my_assets output=outputs/my_prior

After Ctrl-C the same command goes on. The result: fsd-gs train prior.name=outputs/my_prior/prior prompt="..." """
LOG = "log.jsonl"


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs train-prior --network splat``."""
    parser = commandline.make_parser(program, DESCRIPTION)
    commandline.add_settings(parser, SplatPretrainConfig)
    parser.add_argument("--init", metavar="NAME", help="the finished prior to start from: nano (default) or a folder")
    parser.add_argument("--network", choices=("splat",), default="splat", help="this network")
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs train-prior") -> int:
    """Run the command; 0 when a limit of steps or minutes is reached, 130 or 143 after Ctrl-C or kill."""
    options = commandline.parse(make_parser(program), arguments)
    config = load_splat_config(options.config, [*options.overrides, *([f"init={options.init}"] if options.init else [])])
    device = resolve_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    console = Console()
    with Interrupts() as interrupts:
        try:
            train(config, device, console, interrupts)
        except Stopped as stopped:
            again = shlex.join([*program.split(), *arguments])
            _say(console, f"stopped; everything is saved in {config.output}. To go on: {again}")
            return 128 + stopped.number
    _say(console, f'to use it: fsd-gs train prior.name={Path(config.output) / "prior"} prompt="..."')
    return 0


def train(config: SplatPretrainConfig, device: torch.device, console: Console, interrupts: Interrupts) -> None:
    """Until a limit of steps or minutes, or Stopped."""
    source = make_splat_source(config.data)  # says what is wrong with the data before anything is written
    words, captions = source.words, source.captions
    del source  # the stream reads its meshes itself
    starting_folder(config.init)  # likewise
    folder = begin(config)
    with occupied(folder):
        trainer = SplatTrainer(config, words, folder, device)
        _train(Session(config, folder, trainer, captions), console, interrupts)


def _train(session: Session, console: Console, interrupts: Interrupts) -> None:
    config, folder, trainer = session.config, session.folder, session.trainer
    if (folder / STATE).is_file():
        trainer.load(folder)
    cut_log(folder / LOG, trainer.progress.step)
    with Stream(config.data, folder / "objects", interrupts.check) as stream, Bar(console, "splat prior") as bar:
        stream.begin(trainer.progress.objects)
        try:
            while session.share() < 1.0:
                terms = trainer.step(stream)
                session.note(terms.seen, terms.new, terms.rays, terms.depth)
                bar.update(session.share(), session.status())
                session.chores()
                interrupts.check()
        finally:
            trainer.save(folder)
            session.export()


class Session:
    """What happens beside the steps: the log, saves, measurements, pictures.

    Args:
        config: of the training.
        folder: of the training.
        trainer: what it does.
        captions: of the user's meshes.
    """

    def __init__(self, config: SplatPretrainConfig, folder: Path, trainer: SplatTrainer, captions: Sequence[str] = ()) -> None:
        self.config, self.folder, self.trainer, self.captions = config, folder, trainer, captions
        self.began = time.monotonic()
        self.save_due = Every(config.train.save_every_minutes)
        self.preview_due = Every(config.train.preview_every_minutes)
        self.recent: list[tuple[float, ...]] = []
        self.mean = float("nan")
        self.held_out: dict[str, list[float]] = {}
        self._examples: list[SplatExample] = []

    def share(self) -> float:
        """Of what this session was asked for, in [0, 1]."""
        train = self.config.train
        by_clock = (time.monotonic() - self.began) / (60 * train.minutes) if train.minutes else 0.0
        return min(1.0, max(self.trainer.progress.step / train.steps, by_clock))

    def status(self) -> str:
        progress = self.trainer.progress
        speed = progress.seconds / max(progress.step, 1)
        return f"step {progress.step}  {progress.objects} objects  error {self.mean:.4f}  {speed:.2f} s/step"

    def note(self, *values: float) -> None:
        self.mean = values[0] if self.mean != self.mean else self.mean + (values[0] - self.mean) / 50
        self.recent.append(values)
        if self.trainer.progress.step % self.config.train.log_every == 0:
            means = (round(sum(column) / len(column), 5) for column in zip(*self.recent, strict=True))
            self._log(dict(zip(("seen", "new", "rays", "depth"), means, strict=True)))
            self.recent.clear()

    def chores(self) -> None:
        """Whatever is due."""
        step, every = self.trainer.progress.step, self.config.train.evaluate_every
        if every and step % every == 0:
            self._examples = self._examples or held_out_examples(self.config)
            found = errors(self.trainer.averaged(), self._examples, self.config, self.trainer.dtype)
            self.held_out = {str(n): list(pair) for n, pair in found.items()}
            self._log({"held_out": self.held_out})
        if self.preview_due():
            self._preview()
        if self.save_due():
            self.trainer.save(self.folder)

    def export(self) -> Path:
        """The prior as it stands: of meshes alone it takes prompts as they are, else it puts them into words that were trained."""
        data, folder = self.config.data, self.folder / "prior"
        card = make_splat_card(self.config, self.trainer, self.held_out, self.mean)
        vocabulary = vocabulary_name(data)
        captions = self.captions if vocabulary else ()
        self.trainer.averaged().save(folder, vocabulary=vocabulary, categories=data.categories, captions=captions, card=card)
        return folder

    def _preview(self) -> None:
        prior = load(self.export())
        assert isinstance(prior, SplatNativePrior)
        save_png(preview(prior), self.folder / "previews" / f"{self.trainer.progress.step:07d}.png")

    def _log(self, values: dict[str, Any]) -> None:
        progress = self.trainer.progress
        row = {"step": progress.step, "objects": progress.objects, "minutes": round(progress.seconds / 60, 2)} | values
        append_line(self.folder / LOG, json.dumps(row))


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
