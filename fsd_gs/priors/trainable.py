"""A second, trainable prediction of the same network: a twin that shares its weights and has LoRA adapters of its own (for VSD).

    W' = W + B A,   A ~ N(0, 1/r), B = 0 at the start, on the attention projections

The frozen network never learns of the adapters, so nothing has to be switched on and off between the two predictions.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch

from fsd_gs.errors import BackendError
from fsd_gs.priors.networks import Network

ADAPTER = "fsd_gs_trainable"
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def adapted_twin(network: Network, rank: int, generator: torch.Generator) -> tuple[Any, list[torch.nn.Parameter]]:
    """A twin of ``network`` with trainable adapters in float32, and their parameters in the network's order.

    Args:
        network: The frozen network; its tensors are shared, not copied.
        rank: Of the adapters.
        generator: A CPU one, for A.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise BackendError("vsd: training a LoRA needs the package peft; install fsd-gs[lora]") from error
    twin: Any = _sharing(network)
    twin.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), adapter_name=ADAPTER)
    parameters = []
    for name, parameter in twin.named_parameters():
        if ADAPTER not in name:
            continue
        parameter.requires_grad_(True)
        parameter.data = parameter.data.float()  # Adam's small steps would vanish in half precision
        values = torch.randn(parameter.shape, generator=generator) / rank if "lora_A" in name else torch.zeros(parameter.shape)
        parameter.data.copy_(values)
        parameters.append(parameter)
    return twin, parameters


def _sharing(network: Any) -> Any:
    """A copy of the modules around the same parameters and buffers."""
    tensors = {id(tensor): tensor for tensor in itertools.chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, tensors)
