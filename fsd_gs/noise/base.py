"""What a noise function is, and the three pieces of arithmetic that all of them share.

    ε(c)      the noise that a camera c sees: N(0, 1) in every latent cell whatever the function, so that the prior always gets
              the x_t = α x + σ ε it was trained on. What the functions differ in is how ε depends on the camera and on the step.
    mixing    ε = √β · det + √(1−β) · rand      β = 1 is FSD, β = 0 is SDS (arXiv 2405.10988, §5)
    refresh   det ← √(1−γ) · det + √γ · randn   after each step; γ = 0 is the ODE, γ = 1 new noise at every step
    stages    a run whose prior changes keeps its noise: det on the grid of the new latents, its integrals over cells kept (``resample``)

Everything random is drawn in float32 on the CPU from explicit generators and only then moved, so that a run on CUDA sees the same
bits as one on the CPU, and so that ``state_dict`` (buffers and generator states, tensors only) makes a resumed run bit-identical.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fsd_gs.core.rng import make_generator
from fsd_gs.core.types import Cameras, check_shape
from fsd_gs.errors import ConfigError, InputError
from fsd_gs.noise.resample import resampled


@runtime_checkable
class NoiseFunction(Protocol):
    """ε(c) for a batch of cameras; one call an optimisation step, then one :meth:`step`."""

    needs_depth: bool

    def __call__(self, cameras: Cameras, alpha: Tensor | None = None, depth: Tensor | None = None) -> Tensor:
        """ε [V, C, h, w] on this function's device.

        alpha: rendered opacity [V, H, W, 1] in [0, 1], at any resolution; None counts as opaque everywhere.
        depth: rendered expected depth [V, H, W, 1] along z; only surface noise looks at it.
        """
        ...

    def step(self) -> None:
        """End of an optimisation step: refresh the fixed part by γ. The fixed part changes nowhere else."""
        ...

    def to(self, device: torch.device | str) -> NoiseFunction:
        """Send all later noise to ``device``; buffers and generators stay on the CPU. Returns self."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...

    def take_over(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the noise that ``state`` holds, which may be that of a function of the same kind for latents of another size."""
        ...


class NoiseState:
    """The buffers and random streams of a noise function: one named tensor or generator each, all on the CPU.

    Every stream has its own generator, so that, for example, changing β or the background does not change the map of a seed.
    """

    needs_depth = False  # whether it looks at the rendered depth, which costs time

    def __init__(self, latent_shape: tuple[int, int, int], seed: int) -> None:
        if len(latent_shape) != 3 or min(latent_shape) < 1:
            raise ConfigError(f"latent_shape: expected (channels, height, width), each at least 1, got {tuple(latent_shape)}")
        self.latent_shape = (int(latent_shape[0]), int(latent_shape[1]), int(latent_shape[2]))
        self.seed = int(seed)
        self.device = torch.device("cpu")
        self._buffers: dict[str, Tensor] = {}
        self._streams: dict[str, torch.Generator] = {}

    def step(self) -> None:
        """Nothing to refresh."""

    def to(self, device: torch.device | str) -> NoiseState:
        self.device = torch.device(device)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        buffers = {f"buffer.{name}": tensor.clone() for name, tensor in self._buffers.items()}
        return buffers | {f"generator.{name}": generator.get_state() for name, generator in self._streams.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        expected = self.state_dict()
        if state.keys() != expected.keys():
            raise InputError(f"noise state: expected the entries {sorted(expected)}, got {sorted(state)}; was it another noise function?")
        for name, tensor in expected.items():
            check_shape(f"noise state '{name}'", state[name], tuple(tensor.shape))
        self._buffers = {name: state[f"buffer.{name}"].to("cpu", torch.float32).clone() for name in self._buffers}
        for name, generator in self._streams.items():
            generator.set_state(state[f"generator.{name}"].cpu())

    def take_over(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the noise of ``state``: fixed parts on this function's grid (``resample``), random streams where they stand.

        Channels that only one of the two has are this function's own. Decided by the seed and the two grids, so that the same two stages
        always agree on what is finer than the coarser one.
        """
        for name, own in self._buffers.items():
            before = state.get(f"buffer.{name}")
            if before is None:
                continue
            grids = "→".join("×".join(map(str, buffer.shape)) for buffer in (before, own))
            carried = resampled(before.cpu(), own.shape[1], own.shape[2], make_generator(self.seed, f"noise/{name}/{grids}"))
            self._buffers[name] = torch.cat([carried[: len(own)], own[len(carried) :]])
        for name, generator in self._streams.items():
            if f"generator.{name}" in state:
                generator.set_state(state[f"generator.{name}"].cpu())

    def _stream(self, name: str) -> torch.Generator:
        if name not in self._streams:
            self._streams[name] = make_generator(self.seed, f"noise/{name}")
        return self._streams[name]

    def _randn(self, stream: str, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._stream(stream))

    def _refresh(self, gamma: float) -> None:
        """√(1−γ) · buffer + √γ · randn for every buffer."""
        if gamma == 0:
            return
        for name, buffer in self._buffers.items():
            self._buffers[name] = mix(self._randn("refresh", *buffer.shape), buffer, gamma)


def mix(a: Tensor, b: Tensor, share: float) -> Tensor:
    """√share · a + √(1 − share) · b: unit variance for independent a and b of unit variance."""
    if share == 1:
        return a
    if share == 0:
        return b
    return math.sqrt(share) * a + math.sqrt(1 - share) * b


def pooled(image: Tensor, height: int, width: int) -> Tensor:
    """The mean of each latent cell: [V, H, W, 1] → [V, 1, h, w], float32, without gradient."""
    check_shape("alpha", image, ("V", "H", "W", 1))
    image = image.detach().permute(0, 3, 1, 2).float()
    return image if image.shape[2:] == (height, width) else torch.nn.functional.adaptive_avg_pool2d(image, (height, width))


def check_fraction(name: str, value: float) -> float:
    """``value`` if it lies in [0, 1], else :class:`ConfigError`."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}: expected a number in [0, 1], got {value}")
    return float(value)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``, else :class:`ConfigError`."""
    if value not in choices:
        raise ConfigError(f"{name}: expected one of {', '.join(choices)}, got '{value}'")
    return value
