"""The training of the splat-native denoiser: one step, its state on disk; stops and resumes anywhere, bit for bit.

The rates are constant after a short rise; the network that is used is the average of the weights, which does what a falling rate would
(and ``train.rate`` lowers it by hand for a last part). So the training has no planned end: it goes on while the held-out curve falls.

The state (weights, average, optimizers, generator, counts) is one safetensors file, written atomically.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from fsd_gs.core.device import multiplies_bfloat16
from fsd_gs.errors import ConfigError
from fsd_gs.pretrain.diffusion import WeightAverage
from fsd_gs.pretrain.muon import Muon
from fsd_gs.pretrain.splat.batches import draw_batch
from fsd_gs.pretrain.splat.loss import LossTerms, VoxelMap, splat_loss
from fsd_gs.pretrain.splat.settings import SplatPretrainConfig
from fsd_gs.pretrain.splat.stream import Stream
from fsd_gs.pretrain.state import load_state, optimizer_tensors, restore_optimizer, save_state
from fsd_gs.priors.splat.network import SplatDenoiser

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
    """Network, optimizers, average and random stream of one training."""

    def __init__(self, config: SplatPretrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        with torch.random.fork_rng():
            torch.manual_seed(config.data.seed)  # modules draw their first weights from the global generator
            self.network = SplatDenoiser(config.network).to(device)
        self.voxel_map = VoxelMap(self.network)
        train = config.train
        matrices, others = split_parameters(self.network)
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, train.lr, weight_decay=train.weight_decay),
            torch.optim.AdamW(others, lr=train.other_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self.average = WeightAverage(self.network, train.ema)
        self.generator = torch.Generator().manual_seed(config.data.seed)
        self.progress = SplatProgress()
        # Matrix units for bfloat16 are what autocast is for; without them it is many times slower than float32.
        self.autocast = torch.bfloat16 if device.type == "cuda" or multiplies_bfloat16(device) else None

    def step(self, stream: Stream) -> LossTerms:
        """One update."""
        began, train, progress = time.monotonic(), self.config.train, self.progress
        rise = min(1.0, (progress.step + 1) / max(train.warmup, 1)) * train.rate
        for optimizer, rate in zip(self.optimizers, (train.lr, train.other_lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * rise
        used = progress.objects
        rows = self.config.network.text_rows
        batch = draw_batch(lambda n: stream.example(n, used), stream.bounds(used), self.config.data, train, rows, self.generator)
        show = torch.rand(train.objects, generator=self.generator) < train.show_cells
        terms = splat_loss(self.network, batch, self.voxel_map, show, train, self.autocast)
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network)
        progress.step += 1
        progress.objects += train.objects
        progress.seconds += time.monotonic() - began
        return terms

    def start_from(self, finished: SplatDenoiser) -> None:
        """Take over the weights of a finished prior; ConfigError where its network is another."""
        if finished.settings != self.config.network:
            ours, theirs = vars(self.config.network), vars(finished.settings)
            name = next(k for k in ours if ours[k] != theirs[k])
            raise ConfigError(f"network.{name}: the prior to start from has {theirs[name]}, the settings say {ours[name]}; take its value")
        self.network.load_state_dict(finished.state_dict())
        self.average = WeightAverage(self.network, self.config.train.ema)

    def averaged(self) -> SplatDenoiser:
        """A frozen copy with the averaged weights."""
        return self.average.copy_of(self.network)

    def save(self, folder: Path) -> None:
        tensors = {f"weights.{k}": v.detach() for k, v in self.network.named_parameters()}
        tensors |= {f"average.{k}": v for k, v in self.average.values.items()}
        for optimizer in self.optimizers:
            tensors |= optimizer_tensors(optimizer, self.network)
        facts = vars(self.progress) | {"updates": self.average.updates}
        save_state(folder / STATE, tensors, facts, self.generator)

    def load(self, folder: Path) -> None:
        """Continue where :meth:`save` left off; FileFormatError where the state does not fit these settings."""
        from fsd_gs.pretrain.state import refusing_misfits

        tensors, facts = load_state(folder / STATE, self.generator)
        with refusing_misfits(folder / STATE), torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(tensors[f"weights.{name}"])
                self.average.values[name].copy_(tensors[f"average.{name}"])
            for optimizer in self.optimizers:
                restore_optimizer(optimizer, self.network, tensors)
            self.average.updates = facts.pop("updates")
            self.progress = SplatProgress(**facts)


def split_parameters(network: SplatDenoiser) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """(the matrices inside, for Muon; everything else: biases, tables, convolutions, first and last layers)."""
    matrices, others = [], []
    for name, parameter in network.named_parameters():
        inside = name.startswith("blocks.") or name in ("lift.weight", "emit.weight")
        (matrices if inside and parameter.ndim == 2 and "offset" not in name else others).append(parameter)
    return matrices, others
