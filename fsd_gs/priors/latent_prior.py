"""What all latent backbones have in common: pictures ↔ latents, prompts → embeddings, one guided prediction.

A family adds one thing: how its network is called (:meth:`LatentPrior.network_output`) and how ε follows from what it predicts. Nothing
is switched on the network for a call: what differs from call to call is an argument, so that calls may overlap and compiled graphs stay.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, TextCondition, check_shape
from fsd_gs.errors import BackendError, InputError
from fsd_gs.priors.guided import guided_prediction
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.networks import Network, NetworkCall
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.schedule import NoiseSchedule
from fsd_gs.priors.text import EmbeddedText, Embedding, TextBank, embed_views, embedded
from fsd_gs.priors.trainable import adapted_twin

P = ParamSpec("P")
R = TypeVar("R")


class LatentPrior(ABC):
    """A frozen latent diffusion model. ``network`` runs in its own precision; latents, guidance and ε stay in the caller's.

    Attributes:
        views: Images denoised jointly.
        names_background: Whether ``encode_text`` makes use of the background.
        sampler: The config of the scheduler that came with the network (which timesteps its pipeline visits); empty if none did.
    """

    views: int = 1
    names_background: bool = False

    def __init__(self, network: Network, codec: LatentCodec, bank: TextBank, schedule: NoiseSchedule, options: LoadOptions) -> None:
        self.network, self.codec, self.bank, self.options = network, codec, bank, options
        self.sampler: Mapping[str, Any] = {}
        self._schedule = schedule
        self.cfg_rescale = options.cfg_rescale
        self.dtype: torch.dtype = network.dtype
        self._adapted: NetworkCall | None = None
        self._forward: NetworkCall = network  # pyright: ignore[reportAttributeAccessIssue]  (each family's network is callable)
        if options.compile:
            self._forward = compile_or_fall_back(self._forward, "network")
            codec.compile_encoder(compile_or_fall_back)

    @property
    def schedule(self) -> NoiseSchedule:
        return self._schedule

    @property
    def image_size(self) -> int:
        return self.codec.image_size

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.codec.latent_shape

    @property
    def device(self) -> torch.device:
        return self.network.device

    def encode(self, rgb: Tensor) -> Tensor:
        """rgb [B, 3, H, W] in [0, 1], resized to ``image_size`` with anti-aliasing → latents [B, C, h, w]; differentiable in rgb."""
        return self.codec.encode(rgb)

    def decode(self, latents: Tensor) -> Tensor:
        """latents [B, C, h, w] → rgb [B, 3, H, W] in [0, 1]."""
        return self.codec.decode(latents)

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None, background: Tensor | None = None) -> EmbeddedText:
        """The prompts as seen from each of B cameras; without cameras (2D) the plain prompt. Embeddings are cached by prompt.

        ``background`` is not used: what these models are trained on does not say what is behind the object.
        """
        options = self.options
        mixes = None
        if options.view_prompts is not None and cameras is not None:
            mixes = options.view_prompts.mixes(cameras)
        return embed_views(self.bank, prompt, negative_prompt, mixes, options.view_prompts, options.perp_neg)

    def release_text_encoder(self) -> None:
        """Free the text encoders' memory; cached prompts stay usable, a new one loads the encoders again."""
        self.bank.release()

    @abstractmethod
    def network_output(
        self, call: NetworkCall, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float
    ) -> Tensor:
        """The prediction of ``call`` in its own parametrisation.

        Args:
            call: The network: as it is, compiled, or with adapters.
            latents_t: [k·B, C, h, w].
            t: [k·B] in [0, 1].
            embedding: k·B rows of text.
            cameras: Of the B views, or None.
            guidance: For networks that take it as an input.
        """

    def raw_prediction(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor:
        """The guided prediction in the network's own parametrisation, [B, C, h, w], without gradient."""
        with torch.no_grad():
            return self._guided(latents_t, t, text, cameras, cfg_scale)

    def _guided(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor:
        text = embedded(text)
        batch = latents_t.shape[0]
        check_shape("latents_t", latents_t, ("B", self.latent_shape[0], "h", "w"))
        if cameras is not None and len(cameras) != batch:
            raise InputError(f"cameras: expected one for each of the {batch} latents, got {len(cameras)}")
        if text.positive.tokens.shape[0] not in (1, batch):
            raise InputError(f"text: embedded for {text.positive.tokens.shape[0]} cameras, but there are {batch} latents")
        time = t.to(latents_t.device).expand(batch)
        guidance_in_network, cfg_scale = self.split_guidance(cfg_scale)

        def network(embedding: Embedding, copies: int) -> Tensor:
            x, times = latents_t.repeat(copies, 1, 1, 1), time.repeat(copies)
            return self.network_output(self._forward, x, times, embedding, cameras, guidance_in_network).to(latents_t.dtype)

        views = self.views if cameras is not None else 1
        return guided_prediction(network, text, batch, cfg_scale, self.cfg_rescale, views, self.latent_shape[0])

    @abstractmethod
    def noise_from_output(self, output: Tensor, latents_t: Tensor, t: Tensor) -> Tensor:
        """ε [B, C, h, w] from the network's own parametrisation; t [] or [B]."""

    def predict_noise(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor:
        """ε_φ [B, C, h, w] after CFG; t [] or [B] in [0, 1]; both halves in one batch. Perp-Neg and rescale as the options say."""
        return self.noise_from_output(self.raw_prediction(latents_t, t, text, cameras, cfg_scale), latents_t, t)

    def predict_noise_differentiable(
        self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float
    ) -> Tensor:
        """:meth:`predict_noise` with its graph in ``latents_t``, at the memory of a network in training (Dive3D)."""
        return self.noise_from_output(self._guided(latents_t, t, text, cameras, cfg_scale), latents_t, t)

    @abstractmethod
    def clean_from_output(self, output: Tensor, latents_t: Tensor, t: Tensor) -> Tensor:
        """x̂_0 [B, C, h, w] from the network's own parametrisation; t [] or [B]."""

    def predict_clean_and_noise(
        self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float
    ) -> tuple[Tensor, Tensor]:
        """(x̂_0, ε_φ) of one prediction, see :class:`fsd_gs.priors.base.CleanPrior`; arguments as in :meth:`predict_noise`."""
        output = self.raw_prediction(latents_t, t, text, cameras, cfg_scale)
        return self.clean_from_output(output, latents_t, t), self.noise_from_output(output, latents_t, t)

    def add_lora(self, rank: int, generator: torch.Generator) -> list[torch.nn.Parameter]:
        """Attach trainable LoRA adapters that change nothing yet; ``predict_noise`` stays frozen (VSD)."""
        self._adapted, parameters = adapted_twin(self.network, rank, generator)
        return parameters

    def predict_noise_trainable(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None) -> Tensor:
        """ε_lora [B, C, h, w] for the text alone, differentiable in the parameters of :meth:`add_lora`."""
        return self.noise_from_output(self.trainable_output(latents_t, t, text, cameras), latents_t, t)

    def trainable_output(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None) -> Tensor:
        """What the network with the adapters of :meth:`add_lora` predicts, in its own parametrisation."""
        text = embedded(text)
        if self._adapted is None:
            raise BackendError("vsd: no LoRA is attached; call add_lora first")
        batch = latents_t.shape[0]
        time = t.to(latents_t.device).expand(batch)
        output = self.network_output(self._adapted, latents_t, time, text.positive.expand(batch), cameras, self.options.guidance)
        return output.to(latents_t.dtype)

    def split_guidance(self, cfg_scale: float) -> tuple[float, float]:
        """(guidance value given to the network, CFG scale applied outside): a guidance-distilled network takes the scale itself."""
        return self.options.guidance, cfg_scale


def compile_or_fall_back(function: Callable[P, R], name: str) -> Callable[P, R]:
    """torch.compile ``function``; the first failing call warns and goes on in eager mode for good."""
    compiled = torch.compile(function)
    state = {"failed": False}

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not state["failed"]:
            try:
                return compiled(*args, **kwargs)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # compilers fail in many ways, and the uncompiled network is always right
                state["failed"] = True
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                warnings.warn(f"torch.compile of the {name} failed ({reason}); going on without it", RuntimeWarning, stacklevel=2)
        return function(*args, **kwargs)

    return call


def place(module: Any, device: torch.device, options: LoadOptions) -> Any:
    """Move a network to its device, channels-last on CUDA if asked for."""
    module = module.to(device)
    if options.channels_last and device.type == "cuda":
        module = module.to(memory_format=torch.channels_last)
    return module
