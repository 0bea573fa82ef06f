"""The networks behind a prior, as far as the priors ask anything of them: structural types of diffusers' and transformers' classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """What every denoiser has. ``config`` holds the entries of its config.json as attributes."""

    @property
    def config(self) -> Any: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...


class UNet(Network, Protocol):
    """diffusers' UNet2DConditionModel."""

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None = None,
        *,
        timestep_cond: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        added_cond_kwargs: dict[str, Any] | None = None,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        return_dict: bool = True,
    ) -> tuple[Tensor, ...]:
        """sample [B, C, h, w], timestep [B], encoder_hidden_states [B, L, D] → (prediction [B, C, h, w],) with return_dict=False."""
        ...

    @property
    def attn_processors(self) -> dict[str, Any]: ...

    def set_attn_processor(self, processor: Any) -> None: ...


class Transformer(Network, Protocol):
    """diffusers' SD3Transformer2DModel and FluxTransformer2DModel."""

    def __call__(
        self,
        *,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor | None,
        return_dict: bool = True,
        **inputs: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """hidden_states [B, C, h, w] (SD3) or [B, tokens, 4C] (FLUX) → (velocity of the same shape,) with return_dict=False."""
        ...


class Autoencoder(Network, Protocol):
    """diffusers' AutoencoderKL and AutoencoderTiny."""

    def encode(self, x: Tensor) -> Any: ...

    def decode(self, z: Tensor) -> Any: ...


NetworkCall = Callable[..., tuple[Tensor, ...]]
"""A denoiser, or a compiled or adapted twin of it; what it takes is its family's own."""
