"""A second, trainable prediction of the same network: LoRA adapters that are switched on only for that call (for VSD).

W' = W + B A,   A ~ N(0, 1/r), B = 0 at the start, on the attention projections
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fsd_gs.errors import BackendError

ADAPTER = "fsd_gs_trainable"
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def add_adapter(network: Any, rank: int, generator: torch.Generator) -> list[torch.nn.Parameter]:
    """Attach adapters of ``rank`` (replacing earlier ones), switched off, in float32; their parameters in the network's order."""
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise BackendError("vsd: training a LoRA needs the package peft; install fsd-gs[lora]") from error
    if ADAPTER in getattr(network, "peft_config", {}):
        network.delete_adapters([ADAPTER])
    network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), adapter_name=ADAPTER)
    parameters = []
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(ADAPTER in name)
        if ADAPTER not in name:
            continue
        parameter.data = parameter.data.float()  # Adam's small steps would vanish in half precision
        values = torch.randn(parameter.shape, generator=generator) / rank if "lora_A" in name else torch.zeros(parameter.shape)
        parameter.data.copy_(values)
        parameters.append(parameter)
    _switch_off(network)
    return parameters


@contextmanager
def adapter_on(network: Any) -> Iterator[None]:
    """The network with its adapters inside the block, and without them outside."""
    if ADAPTER not in getattr(network, "peft_config", {}):
        raise BackendError("vsd: no LoRA is attached; call add_lora first")
    network.enable_adapters()
    try:
        yield
    finally:
        _switch_off(network)


def _switch_off(network: Any) -> None:
    network.disable_adapters()
    for name, parameter in network.named_parameters():
        if ADAPTER in name:
            parameter.requires_grad_(True)  # peft freezes what it switches off, before the caller's backward pass has run
