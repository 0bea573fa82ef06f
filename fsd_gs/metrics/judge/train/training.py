"""Trains the judge: a small classifier of catalogue renders that scores what the embedded prior makes.

    python -m fsd_gs.metrics.judge.train --minutes 12 --work runs/judge --output runs/judge/weights

loss = CE(category) + CE(colour) + CE(design), each with label smoothing 0.02, on augmented views; AdamW, one-cycle learning rate, weights
averaged by an EMA. The batch of a step depends on (seed, step) alone, so a stopped run that goes on ends with the same bits on the same
machine and number of threads.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsd_gs.core.device import multiplies_bfloat16
from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.metrics.judge import Judge
from fsd_gs.metrics.judge.network import JudgeNetwork, JudgeSizes
from fsd_gs.metrics.judge.train.augment import augment
from fsd_gs.metrics.judge.train.data import CATEGORY_NAMES, COLOR_NAMES, DESIGN_NAMES, TEST_SEED, Views, ViewSettings, load_or_render
from fsd_gs.metrics.judge.train.export import MEAN, STD, add_to_card, clean_images, degraded_images, export, scores

_TIMED_STEPS = 10


def default_sizes() -> JudgeSizes:
    """The shipped network, sized for the catalogue of this version."""
    return JudgeSizes(categories=len(CATEGORY_NAMES), colors=len(COLOR_NAMES), designs=len(DESIGN_NAMES))


@dataclass(frozen=True)
class JudgeTraining:
    """How the judge learns.

    Attributes:
        steps: updates.
        batch: images a step.
        rate: highest learning rate.
        ema: decay of the averaged weights (it warms up).
        checkpoint_every: steps between two saves of the state.
    """

    steps: int = 2200
    batch: int = 128
    rate: float = 4e-3
    weight_decay: float = 0.02
    ema: float = 0.997
    smoothing: float = 0.02
    seed: int = 0
    checkpoint_every: int = 200
    sizes: JudgeSizes = field(default_factory=default_sizes)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or self.checkpoint_every < 1:
            given = (self.steps, self.batch, self.checkpoint_every)
            raise InputError(f"steps, batch, checkpoint_every: expected at least 1, 2 and 1, got {given}")


class JudgeTrainer:
    """The running state of one training: network, EMA copy, optimiser and the number of steps done."""

    def __init__(self, settings: JudgeTraining, device: torch.device | str = "cpu") -> None:
        self.settings, self.device, self.step = settings, torch.device(device), 0
        with torch.random.fork_rng(devices=[]):  # nn layers initialise from the global generator: seed it, then give it back
            torch.manual_seed(settings.seed)
            network = JudgeNetwork(settings.sizes)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay, fused=True
        )
        self.bf16 = self.device.type == "cuda" or (torch.backends.mkldnn.is_available() and multiplies_bfloat16(self.device))

    def update(self, views: Views) -> float:
        """One step on the batch that belongs to the current step; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * one_cycle(self.step / self.settings.steps)
        images, labels = batch_at(views, self.settings, self.step, self.device)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            category, color, design, _ = self.network(((images - MEAN) / STD).to(memory_format=torch.channels_last))
        losses = [
            F.cross_entropy(logits.float(), target, label_smoothing=self.settings.smoothing)
            for logits, target in zip((category, color, design), labels, strict=True)
        ]
        loss = torch.stack(losses).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return float(loss.detach())

    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def save(self, path: Path) -> None:
        """Everything needed to go on, written whole or not at all."""
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from ``path``; :class:`InputError` if it was trained with other settings."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if state["settings"] != asdict(self.settings):
            raise InputError(f"{path}: expected the settings of this run, got those of another; choose another --work folder")
        self.step, self.average = int(state["step"]), state["average"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def averaged_network(self) -> JudgeNetwork:
        """A copy in eval mode with the EMA weights."""
        network = JudgeNetwork(self.settings.sizes).to(self.device)
        network.load_state_dict(self.average)
        return network.eval()


def one_cycle(progress: float, warmup: float = 0.08) -> float:
    """Linear up from 0 over ``warmup``, then a half cosine down to 0 (Smith & Topin 2017, arXiv 1708.07120)."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def batch_at(views: Views, settings: JudgeTraining, step: int, device: torch.device) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Augmented images [B, 3, S, S] and (category, colour, design) labels [B] of a step: shuffled epochs over all views."""
    objects, per_object = views.images.shape[:2]
    total = objects * per_object
    places = np.arange(step * settings.batch, (step + 1) * settings.batch)
    picked = np.concatenate(
        [_epoch_order(settings.seed, int(epoch), total)[places[places // total == epoch] % total] for epoch in np.unique(places // total)]
    )
    which, view = picked // per_object, picked % per_object
    order = np.argsort(picked)  # the file is read front to back; which image has which place in the batch does not matter
    rgba = torch.from_numpy(np.ascontiguousarray(views.images[which[order], view[order]])).to(device)
    generator = torch.Generator(device).manual_seed(settings.seed * 2**32 + step)
    shuffled = torch.randperm(len(picked), generator=generator, device=device)  # neighbours share a degradation: mix the categories
    label = [torch.from_numpy(names[which[order]]).to(device)[shuffled] for names in views.labels]
    return augment(rgba[shuffled], generator), (label[0], label[1], label[2])


_ORDER: dict[tuple[int, int, int], np.ndarray] = {}


def _epoch_order(seed: int, epoch: int, total: int) -> np.ndarray:
    """The permutation of an epoch; the last two are kept, as a batch may span two."""
    key = (seed, epoch, total)
    if key not in _ORDER:
        while len(_ORDER) > 1:
            _ORDER.pop(next(iter(_ORDER)))
        _ORDER[key] = np.random.default_rng((seed, epoch)).permutation(total)
    return _ORDER[key]


def train(trainer: JudgeTrainer, views: Views, checkpoint: Path, report: Callable[[str], None]) -> JudgeNetwork:
    """Run to the last step, saving on the way; returns the averaged network."""
    settings, started, first, mean = trainer.settings, time.monotonic(), trainer.step, 0.0
    while trainer.step < settings.steps:
        loss = trainer.update(views)
        mean = loss if trainer.step == first + 1 else 0.98 * mean + 0.02 * loss
        if trainer.step % 50 == 0:
            seconds = (time.monotonic() - started) / (trainer.step - first)
            report(f"step {trainer.step}/{settings.steps}  loss {mean:.3f}  {seconds * 1e3:.0f} ms a step")
        if trainer.step % settings.checkpoint_every == 0 or trainer.step == settings.steps:
            trainer.save(checkpoint)
    return trainer.averaged_network()


def steps_for(minutes: float, settings: JudgeTraining, views: Views, device: torch.device | str) -> int:
    """How many steps fit into ``minutes`` here, by timing a few on a throw-away trainer."""
    probe = JudgeTrainer(settings, device)
    probe.update(views)
    started = time.monotonic()
    for _ in range(_TIMED_STEPS):
        probe.update(views)
    return max(1, int(minutes * 60 * _TIMED_STEPS / (time.monotonic() - started)))


@dataclass(frozen=True)
class JudgeRun:
    """Where and how to train.

    Attributes:
        work: cache of renders and state of the training (a stopped run goes on from there).
        output: the folder of the finished judge.
        minutes: choose the steps that fit, by timing a few, instead of ``training.steps``.
    """

    work: Path
    output: Path
    training: JudgeTraining = field(default_factory=JudgeTraining)
    data: ViewSettings = field(default_factory=ViewSettings)
    test: ViewSettings = field(default_factory=lambda: ViewSettings(objects=212, views=24, first_seed=TEST_SEED))
    minutes: float | None = None
    device: str = "cpu"


def run(settings: JudgeRun, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Render what is missing, train (or go on), export and score; returns the card."""
    started = time.monotonic()
    report(f"views: {settings.data.objects} objects × {settings.data.views} into {settings.work / 'train'}")
    views = load_or_render(settings.work / "train", settings.data)
    training, checkpoint = settings.training, settings.work / "state.pt"
    if checkpoint.exists():
        training = replace(training, steps=stored_steps(checkpoint))
    elif settings.minutes is not None:
        training = replace(training, steps=steps_for(settings.minutes, training, views, settings.device))
    trainer = JudgeTrainer(training, settings.device)
    if checkpoint.exists():
        trainer.load(checkpoint)
        report(f"going on at step {trainer.step} of {training.steps} ({checkpoint})")
    network = train(trainer, views, checkpoint, report)
    return finish(network, settings, training, (time.monotonic() - started) / 60, report)


def stored_steps(checkpoint: Path) -> int:
    """The length that a stopped training was planned for."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["settings"]["steps"])


def finish(
    network: JudgeNetwork, settings: JudgeRun, training: JudgeTraining, minutes: float, report: Callable[[str], None]
) -> dict[str, Any]:
    """Export the network and score what was written on the held-out objects, clean and degraded."""
    card: dict[str, Any] = {
        "data": asdict(settings.data),
        "training": asdict(training),
        "parameters": sum(p.numel() for p in network.parameters()),
        "minutes": round(minutes, 1),
        "device": settings.device,
        "torch": torch.__version__,
        "comparable_with": "figures of this judge only; not with CLIP or Inception figures",
    }
    export(network, training.sizes, settings.output, card)
    judge, held_out = Judge.load(settings.output, settings.device), load_or_render(settings.work / "test", settings.test)
    found = {"clean": scores(judge, held_out, clean_images), "degraded": scores(judge, held_out, degraded_images(0))}
    card |= {"test_data": asdict(settings.test), "scores": found}
    add_to_card(settings.output, {"test_data": card["test_data"], "scores": found})
    for condition, result in found.items():
        report(f"{condition}: a view {result['view']}, {result['views_per_asset']} views {result['majority']}")
    return card


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fsd_gs.metrics.judge.train", description="Train the judge of catalogue objects.")
    parser.add_argument("--work", type=Path, default=Path("runs/judge"), help="cache of renders (1 GB) and state of the training")
    parser.add_argument("--output", type=Path, default=None, help="folder of the finished judge (default: WORK/weights)")
    parser.add_argument("--minutes", type=float, default=None, help="choose as many steps as fit into this time here")
    parser.add_argument("--steps", type=int, default=JudgeTraining.steps, help="updates (default %(default)s)")
    parser.add_argument("--objects", type=int, default=ViewSettings.objects, help="training objects (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the order and the augmentation")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    try:
        if given.minutes is not None and given.minutes <= 0:
            raise InputError(f"--minutes: expected a time above 0, got {given.minutes:g}")
        training = JudgeTraining(steps=given.steps, seed=given.seed)
        output = given.output or given.work / "weights"
        data = ViewSettings(objects=given.objects)
        run(JudgeRun(given.work, output, training, data, minutes=given.minutes, device=given.device), lambda text: print(text, flush=True))
    except FsdGsError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0
