"""The training of the splat-native denoiser: one step, its state on disk; stops and resumes anywhere, bit for bit.

The rates are constant after a short rise; the network that is used is the average of the weights, which does what a falling rate would
(and ``train.rate`` lowers it by hand for a last part). So the training has no planned end: it goes on while the held-out curve falls.

The state (weights, average, optimizers, generator, counts) is one safetensors file, written atomically.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fsd_gs.core.device import multiplies_bfloat16
from fsd_gs.pretrain.diffusion import WeightAverage
from fsd_gs.pretrain.muon import Muon
from fsd_gs.pretrain.splat.batches import draw_batch
from fsd_gs.pretrain.splat.loss import LossTerms, splat_loss
from fsd_gs.pretrain.splat.model import SplatModel, start_model
from fsd_gs.pretrain.splat.settings import SplatPretrainConfig
from fsd_gs.pretrain.splat.stream import Stream
from fsd_gs.pretrain.state import load_state, optimizer_tensors, refusing_misfits, restore_optimizer, save_state

STATE = "state.safetensors"


@dataclass
class SplatProgress:
    """How far a training is.

    Attributes:
        step: steps done.
        objects: seen.
        seconds: spent training over all sessions.
    """

    step: int = 0
    objects: int = 0
    seconds: float = 0.0


class SplatTrainer:
    """Model, optimizers, average and random stream of one training.

    Args:
        config: its settings.
        words: that the captions use.
        folder: of the training; holds the tokenizer.
        device: of the weights.
    """

    def __init__(self, config: SplatPretrainConfig, words: Sequence[str], folder: Path, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = start_model(config.init, words, config.network, config.data.seed, folder / "tokenizer", device)
        train = config.train
        groups = split_parameters(self.model)
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(groups.head_matrices, train.lr, weight_decay=train.weight_decay),
            torch.optim.AdamW(groups.head_others, lr=train.other_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
            Muon(groups.unet_matrices, train.unet_lr, weight_decay=train.weight_decay),
            torch.optim.AdamW(groups.unet_others, lr=train.unet_other_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self.average = WeightAverage(self.model, train.ema)
        self.generator = torch.Generator().manual_seed(config.data.seed)
        self.progress = SplatProgress()
        # Matrix units for bfloat16 are what autocast is for; without them it is many times slower than float32.
        self.dtype = torch.bfloat16 if device.type == "cuda" or multiplies_bfloat16(device) else torch.float32

    def step(self, stream: Stream) -> LossTerms:
        """One update."""
        began, train, progress = time.monotonic(), self.config.train, self.progress
        rise = min(1.0, (progress.step + 1) / max(train.warmup, 1)) * train.rate
        rates = (train.lr, train.other_lr, train.unet_lr, train.unet_other_lr)
        for optimizer, rate in zip(self.optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * rise
        used = progress.objects
        batch = draw_batch(lambda n: stream.example(n, used), stream.bounds(used), self.config.data, train, self.generator)
        batch = batch.to(self.device)
        terms = splat_loss(self.model, batch, train, self.dtype)
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model)
        progress.step += 1
        progress.objects += train.objects
        progress.seconds += time.monotonic() - began
        return terms

    def averaged(self) -> SplatModel:
        """A frozen copy with the averaged weights."""
        return self.average.copy_of(self.model)

    def save(self, folder: Path) -> None:
        tensors = {f"weights.{k}": v.detach() for k, v in self.model.named_parameters()}
        tensors |= {f"average.{k}": v for k, v in self.average.values.items()}
        for optimizer in self.optimizers:
            tensors |= optimizer_tensors(optimizer, self.model)
        facts = vars(self.progress) | {"updates": self.average.updates}
        save_state(folder / STATE, tensors, facts, self.generator)

    def load(self, folder: Path) -> None:
        """Continue where :meth:`save` left off; FileFormatError where the state does not fit these settings."""
        tensors, facts = load_state(folder / STATE, self.generator)
        with refusing_misfits(folder / STATE), torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"weights.{name}"])
                self.average.values[name].copy_(tensors[f"average.{name}"])
            for optimizer in self.optimizers:
                restore_optimizer(optimizer, self.model, tensors)
            self.average.updates = facts.pop("updates")
            self.progress = SplatProgress(**facts)


@dataclass(frozen=True)
class Parameters:
    """Muon takes the head's linear layers and the UNet's matrices and convolutions but its first and last; AdamW biases, norms, tables, the
    head's convolutions and the text encoder; each at the rates of its side."""

    head_matrices: list[torch.nn.Parameter]
    head_others: list[torch.nn.Parameter]
    unet_matrices: list[torch.nn.Parameter]
    unet_others: list[torch.nn.Parameter]


def split_parameters(model: SplatModel) -> Parameters:
    """Every parameter of the model, in one of four lists."""
    lists = Parameters([], [], [], [])
    for name, parameter in model.named_parameters():
        if name.startswith("head."):
            (lists.head_matrices if parameter.ndim == 2 else lists.head_others).append(parameter)
        else:
            inside = name.startswith("denoiser.unet.") and ".conv_in." not in name and ".conv_out." not in name and parameter.ndim >= 2
            (lists.unet_matrices if inside else lists.unet_others).append(parameter)
    return lists
