"""The state of a training on disk: named tensors, a few numbers and the random stream, in one safetensors file written atomically."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsd_gs.errors import FileFormatError
from fsd_gs.io import atomic_write


def share_done(steps: int, seconds: float, limit_steps: int, limit_minutes: float) -> float:
    """How much of a training is done, in [0, 1]: by steps or by the clock, whichever is further. limit_minutes: 0 = no clock."""
    by_clock = seconds / (60 * limit_minutes) if limit_minutes > 0 else 0.0
    by_steps = steps / limit_steps if limit_steps > 0 else 1.0
    return min(1.0, max(by_steps, by_clock))


def save_state(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any], generator: torch.Generator) -> None:
    """facts: plain values; they and the generator's state go into the file's metadata."""
    from safetensors.torch import save_file

    metadata = {"facts": json.dumps(facts), "generator": generator_text(generator)}
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    metadata["sha256"] = digest_of(tensors, metadata)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_state(path: Path, generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, facts); the generator takes up its stream where it was."""
    from safetensors import safe_open

    with refusing_misfits(path), safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (not a dict)
        if "sha256" in metadata and metadata["sha256"] != digest_of(tensors, metadata):
            raise ValueError("its checksum is wrong")
        set_generator(generator, metadata["generator"])
        return tensors, json.loads(metadata["facts"])


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and values of the tensors and the texts beside them. Older states have none."""
    found = hashlib.sha256()
    for key in ("facts", "generator"):
        found.update(f"{key}={metadata[key]}\n".encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu()
        found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def generator_text(generator: torch.Generator) -> str:
    """A generator's state as text."""
    return base64.b64encode(generator.get_state().numpy().tobytes()).decode()


def set_generator(generator: torch.Generator, text: str) -> None:
    """Put a generator into the state of :func:`generator_text`."""
    generator.set_state(torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8))


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> dict[str, Tensor]:
    """``optimizer``'s state of the parameters of ``module``, as optimizer.PARAMETER.ENTRY."""
    names = {id(p): k for k, p in module.named_parameters()}
    return {f"optimizer.{names[id(p)]}.{k}": torch.as_tensor(v) for p, state in optimizer.state.items() for k, v in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, module: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """The optimizer's state of each parameter that has one in ``tensors``, in the parameter's own memory layout: fused optimizers walk
    through both in step, whatever their strides say."""
    names = {id(p): k for k, p in module.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = f"optimizer.{names[id(parameter)]}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if state:
                optimizer.state[parameter] = {key: _placed(value, parameter, bool(group.get("fused"))) for key, value in state.items()}


def _placed(value: Tensor, parameter: torch.nn.Parameter, fused: bool) -> Tensor:
    if value.shape == parameter.shape and value.ndim:
        return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
    return value.to(parameter.device) if fused else value  # the count of steps: beside the weights if fused, else on the CPU


@contextmanager
def refusing_misfits(path: Path) -> Iterator[None]:
    """Anything that goes wrong while a state is read becomes one FileFormatError."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise FileFormatError(f"{path} does not continue this training ({reason}); delete it to start this stage anew") from error
