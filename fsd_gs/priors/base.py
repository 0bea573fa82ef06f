"""The seam behind which every diffusion backbone stands: one small protocol.

A prior answers one question: what noise ε does a noisy latent x_t contain, given a text and the cameras? Everything else that
distillation needs (weights, noise, schedules, CFG scale) stays outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from fsd_gs.core.types import Cameras, Gaussians, Geometry, TextCondition
from fsd_gs.priors.schedule import NoiseSchedule


@runtime_checkable
class Prior(Protocol):
    """A frozen text-to-image (or multi-view) diffusion model.

    schedule: α(t), σ(t), λ(t) for t ∈ [0, 1].
    latent_shape: (C, h, w) of one latent.
    image_size: side in pixels of the square images that ``encode`` expects.
    views: images denoised jointly; 1 means independent images. Batches are multiples of it.
    """

    # Read-only members, so that plain attributes and properties both satisfy the protocol.
    @property
    def schedule(self) -> NoiseSchedule: ...

    @property
    def latent_shape(self) -> tuple[int, int, int]: ...

    @property
    def image_size(self) -> int: ...

    @property
    def views(self) -> int: ...

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None, background: Tensor | None = None) -> TextCondition:
        """The prompts as seen from each of B cameras. Cheap to call each step: embeddings are cached inside.

        Args:
            prompt: What to make.
            negative_prompt: What to push away from; empty for the unconditional prediction.
            cameras: B of them; None for a plain picture (2D): the prompt as it is typed.
            background: The colour [3] in [0, 1] behind the object, which a renderer knows for certain; None leaves it open. A prior that
                has no use for it ignores it, one that has keeps it as its condition's ``background``.
        """
        ...

    def encode(self, rgb: Tensor) -> Tensor:
        """rgb [B, 3, H, W] in [0, 1] → latents [B, C, h, w]; differentiable in rgb."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """latents [B, C, h, w] → rgb [B, 3, H, W] in [0, 1]."""
        ...

    def predict_noise(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor:
        """ε_φ [B, C, h, w] after CFG, ε_neg + s (ε_text − ε_neg), without gradient. s = 1 costs one forward pass (text only), s = 0
        one (negative only). t: [] or [B] in [0, 1]. cameras: those of ``text``, or None in 2D."""
        ...


@runtime_checkable
class FlowPrior(Prior, Protocol):
    """A prior trained by flow matching: it also gives its own velocity u = ε − x_0, which stays finite at t = 1."""

    def predict_velocity(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor: ...


@runtime_checkable
class PipelinePrior(Prior, Protocol):
    """A prior that came with a sampler: ``sampler`` is its config (scheduler_config.json), empty if there was none."""

    @property
    def sampler(self) -> Mapping[str, Any]: ...


@runtime_checkable
class CleanPrior(Prior, Protocol):
    """A prior that also gives its clean estimate x̂_0, from what its network predicts and not by way of ε: (x_t − σ ε)/α divides by zero
    at t = 1 of schedules with zero terminal SNR (arXiv 2305.08891), and loses digits near it."""

    def predict_clean_and_noise(
        self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float
    ) -> tuple[Tensor, Tensor]:
        """(x̂_0, ε_φ), each [B, C, h, w], of one prediction; arguments as in ``predict_noise``."""
        ...


@runtime_checkable
class ControlledPrior(Prior, Protocol):
    """A prior that may have a ControlNet, which is shown what is rendered."""

    @property
    def wants_geometry(self) -> bool:
        """Whether there is one: then every text that it is given has to be shown a picture."""
        ...

    def control_picture(self, geometry: Geometry) -> Tensor:
        """What the ControlNet is shown of V views: [V, 3, H, W] in [0, 1]."""
        ...

    def with_control(self, text: TextCondition, picture: Tensor) -> TextCondition:
        """``text`` for the B images whose control pictures [B, 3, H, W] these are."""
        ...


@runtime_checkable
class SplatNativePrior(CleanPrior, Protocol):
    """A multi-view prior whose clean views are renders of Gaussians that it draws itself."""

    def predict_splats(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras, cfg_scale: float = 1.0) -> Gaussians:
        """The Gaussians that it sees in V noisy views [V, C, h, w] of one object, t one time for all; guided by ``cfg_scale``."""
        ...
