"""The training loop of the denoiser: one step, its state on disk, the falling rate; stops and resumes anywhere.

    rate(p) = peak · min(1, (step + 1) / warmup) · min(1, (1 − p) / cooldown),   p the share of the training done

The state (weights, their average, optimizer, generator, elapsed time) is one safetensors file with a checksum, written atomically
every few minutes and when the training is interrupted.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fsd_gs.io import write_text
from fsd_gs.pretrain.diffusion import Denoiser, LatentSet, WeightAverage, draw_batch, v_loss
from fsd_gs.pretrain.muon import Muon
from fsd_gs.pretrain.settings import DiffusionSettings
from fsd_gs.pretrain.state import load_state, optimizer_tensors, refusing_misfits, restore_optimizer, save_state, share_done

STATE, FACTS = "state.safetensors", "state.json"


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: steps done.
        seconds: time spent training, over all sessions.
        loss: its running mean over about 100 steps.
    """

    step: int = 0
    seconds: float = 0.0
    loss: float = float("nan")

    def share(self, settings: DiffusionSettings) -> float:
        """Of the training, in [0, 1]."""
        return share_done(self.step, self.seconds, settings.steps, settings.minutes)


def rate_factor(progress: Progress, settings: DiffusionSettings) -> float:
    """Of the peak rates, in [0, 1]."""
    left = 1 - progress.share(settings)
    return min(1.0, (progress.step + 1) / max(settings.warmup, 1)) * min(1.0, left / max(settings.cooldown, 1e-9))


class Trainer:
    """Denoiser, optimizer, average and random stream of one training; ``step`` is the whole algorithm."""

    def __init__(self, denoiser: Denoiser, alphas_cumprod: Tensor, settings: DiffusionSettings, *, seed: int) -> None:
        self.denoiser, self.settings, self.alphas_cumprod = denoiser, settings, alphas_cumprod
        matrices, others = split_parameters(denoiser)
        self.optimizers: list[tuple[float, torch.optim.Optimizer]] = [
            (settings.lr, Muon(matrices, settings.lr, weight_decay=settings.weight_decay)),
            (settings.other_lr, torch.optim.AdamW(others, lr=settings.other_lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)),
        ]
        self.average = WeightAverage(denoiser, settings.ema)
        self.generator = torch.Generator().manual_seed(seed)
        self.progress = Progress()

    def step(self, data: LatentSet) -> float:
        """One update; returns the loss."""
        started, settings = time.monotonic(), self.settings
        for rate, optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * rate_factor(self.progress, settings)
        batch = draw_batch(data, settings.objects, settings.drop_text, self.generator)
        cameras = torch.rand((), generator=self.generator).item() >= settings.drop_cameras
        loss = v_loss(self.denoiser, batch, self.alphas_cumprod, cameras=cameras, generator=self.generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        for _, optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.update(self.denoiser)
        return self._count(float(loss.detach()), time.monotonic() - started)

    def _count(self, loss: float, seconds: float) -> float:
        progress = self.progress
        progress.step += 1
        progress.seconds += seconds
        progress.loss = loss if progress.loss != progress.loss else progress.loss + (loss - progress.loss) / min(100, progress.step)
        return loss

    def averaged(self) -> Denoiser:
        """A frozen copy with the averaged weights."""
        return self.average.copy_of(self.denoiser)

    def save(self, folder: Path) -> None:
        tensors = {f"weights.{k}": v.detach() for k, v in self.denoiser.named_parameters()}
        tensors |= {f"average.{k}": v for k, v in self.average.values.items()}
        for _, optimizer in self.optimizers:
            tensors |= optimizer_tensors(optimizer, self.denoiser)
        facts = {
            "step": self.progress.step,
            "seconds": self.progress.seconds,
            "loss": self.progress.loss,
            "updates": self.average.updates,
        }
        save_state(folder / STATE, tensors, facts, self.generator)  # one file: a kill cannot leave weights of one step and facts of another
        write_text(folder / FACTS, json.dumps(facts))  # for people

    def load(self, folder: Path) -> None:
        """Continue where :meth:`save` left off; FileFormatError where the state does not fit these settings."""
        tensors, facts = load_state(folder / STATE, self.generator)
        with refusing_misfits(folder / STATE):
            for name, parameter in self.denoiser.named_parameters():
                parameter.data.copy_(tensors[f"weights.{name}"])
                self.average.values[name].copy_(tensors[f"average.{name}"])
            for _, optimizer in self.optimizers:
                restore_optimizer(optimizer, self.denoiser, tensors)
            self.average.updates = facts["updates"]
            self.progress = Progress(facts["step"], facts["seconds"], facts["loss"])


def split_parameters(denoiser: Denoiser) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """(the weight matrices inside, which Muon trains; everything else: biases, norms, embeddings, the first and the last layer)."""
    outer = ("embed", "conv_in", "conv_out")
    matrices, others = [], []
    for name, parameter in denoiser.named_parameters():
        (matrices if parameter.ndim >= 2 and not any(word in name for word in outer) else others).append(parameter)
    return matrices, others
