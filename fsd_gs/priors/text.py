"""Text encoders as functions prompts → embeddings, a cache in front of them, and what ``encode_text`` hands out.

    SD 1.x/2.x, MVDream   last hidden state of CLIP                                        tokens [L, D]
    SDXL                  penultimate states of two CLIPs side by side                     tokens [L, D1 + D2], pooled from the second
    SD3                   those of two CLIPs, padded to T5's width, then T5's states below  tokens [L + L', D], pooled from both
    FLUX                  T5's states                                                      tokens [L', D], pooled from CLIP

Encoders are loaded when the first new prompt comes and, by default, freed right after: a run needs a handful of embeddings once.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fsd_gs.core.types import TextCondition
from fsd_gs.priors.options import TextPolicy
from fsd_gs.priors.prompts import PerpNeg, ViewMix, ViewPrompts

TextKind = Literal["clip", "sdxl", "sd3", "flux"]
SD3_T5_TOKENS, FLUX_T5_TOKENS = 256, 512  # diffusers' own defaults


@dataclass(frozen=True)
class Embedding:
    """tokens [B, L, D] and, where the network wants it, pooled [B, P]."""

    tokens: Tensor
    pooled: Tensor | None = None

    def expand(self, batch: int) -> Embedding:
        """One row for all of ``batch``, or ``batch`` rows as they are."""
        if self.tokens.shape[0] == batch:
            return self
        pooled = None if self.pooled is None else self.pooled.expand(batch, -1)
        return Embedding(self.tokens.expand(batch, -1, -1), pooled)

    def mix(self, other: Embedding, weight: float) -> Embedding:
        """weight · self + (1 − weight) · other."""
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.lerp(other.pooled, self.pooled, weight)
        return Embedding(torch.lerp(other.tokens, self.tokens, weight), pooled)

    def zeros(self) -> Embedding:
        return Embedding(torch.zeros_like(self.tokens), None if self.pooled is None else torch.zeros_like(self.pooled))


def concatenate(embeddings: Sequence[Embedding]) -> Embedding:
    """Stack along the batch."""
    pooled = [e.pooled for e in embeddings if e.pooled is not None]
    return Embedding(torch.cat([e.tokens for e in embeddings]), torch.cat(pooled) if pooled else None)


@dataclass(frozen=True)
class EmbeddedText(TextCondition):
    """What the networks receive. positive: B rows, or 1 row for all views; negative: 1 row.

    repelled: n embeddings of B rows or 1 (Perp-Neg), with ``repel_weights`` [n, B] ≤ 0; empty without Perp-Neg.
    """

    positive: Embedding
    negative: Embedding
    repelled: tuple[Embedding, ...] = ()
    repel_weights: Tensor | None = None


@dataclass
class TextEncoders:
    """Tokenizers and text encoders of one family; an absent third encoder of SD3 (T5) is None in both lists."""

    kind: TextKind
    tokenizers: list[Any]
    encoders: list[Any]
    joint_width: int = 0  # SD3: D of the tokens when T5 is absent

    def to(self, device: torch.device) -> TextEncoders:
        for encoder in self.encoders:
            if encoder is not None:
                encoder.to(device)
        return self

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> Embedding:
        """Embeddings of B prompts."""
        return _EMBED[self.kind](self, prompts)


def _ids(tokenizer: Any, prompts: list[str], encoder: Any, length: int | None = None) -> Tensor:
    length = int(tokenizer.model_max_length) if length is None else length
    for prompt, whole in zip(prompts, tokenizer(prompts, truncation=False, verbose=False).input_ids, strict=True):
        if len(whole) > length:
            # View words come last, so a long prompt loses them first: never silently.
            message = f"prompt: only the first {length} of {len(whole)} tokens are used of '{prompt}'; shorten it"
            warnings.warn(message, UserWarning, stacklevel=2)
    ids = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    return ids.to(next(encoder.parameters()).device)


def _embed_clip(text: TextEncoders, prompts: list[str]) -> Embedding:
    return Embedding(text.encoders[0](_ids(text.tokenizers[0], prompts, text.encoders[0]))[0])


def _penultimate(text: TextEncoders, prompts: list[str], index: int) -> tuple[Tensor, Tensor]:
    """(hidden states before the last layer [B, L, D], projected pooled output [B, P]) of encoder ``index``."""
    encoder = text.encoders[index]
    output = encoder(_ids(text.tokenizers[index], prompts, encoder), output_hidden_states=True)
    return output.hidden_states[-2], output[0]


def _embed_sdxl(text: TextEncoders, prompts: list[str]) -> Embedding:
    states = [_penultimate(text, prompts, index) for index in range(len(text.encoders))]
    return Embedding(torch.cat([tokens for tokens, _ in states], dim=-1), states[-1][1])


def _embed_sd3(text: TextEncoders, prompts: list[str]) -> Embedding:
    clip = [_penultimate(text, prompts, index) for index in (0, 1)]
    tokens = torch.cat([state for state, _ in clip], dim=-1)
    if text.encoders[2] is None:
        t5 = tokens.new_zeros(len(prompts), SD3_T5_TOKENS, text.joint_width)
    else:
        t5 = text.encoders[2](_ids(text.tokenizers[2], prompts, text.encoders[2], SD3_T5_TOKENS))[0]
    tokens = torch.nn.functional.pad(tokens, (0, t5.shape[-1] - tokens.shape[-1]))
    return Embedding(torch.cat([tokens, t5.to(tokens)], dim=1), torch.cat([pooled for _, pooled in clip], dim=-1))


def _embed_flux(text: TextEncoders, prompts: list[str]) -> Embedding:
    pooled = text.encoders[0](_ids(text.tokenizers[0], prompts, text.encoders[0])).pooler_output
    return Embedding(text.encoders[1](_ids(text.tokenizers[1], prompts, text.encoders[1], FLUX_T5_TOKENS))[0], pooled)


_EMBED: dict[TextKind, Callable[[TextEncoders, list[str]], Embedding]] = {
    "clip": _embed_clip,
    "sdxl": _embed_sdxl,
    "sd3": _embed_sd3,
    "flux": _embed_flux,
}


class TextBank:
    """Embeddings, computed once per distinct prompt.

    load: gives the encoders (called at the first new prompt, and again after :meth:`release`).
    zero_empty_negative: the negative embedding of the empty prompt is zero instead of the embedding of "" (SDXL).
    """

    def __init__(
        self,
        load: Callable[[], TextEncoders],
        *,
        device: torch.device,
        dtype: torch.dtype,
        policy: TextPolicy = "free",
        zero_empty_negative: bool = False,
    ) -> None:
        self._load, self._device, self._dtype, self._policy = load, device, dtype, policy
        self._encoders: TextEncoders | None = None
        self._cache: dict[str, Embedding] = {}
        self.zero_empty_negative = zero_empty_negative

    @property
    def loaded(self) -> bool:
        """Whether the text encoders are in memory now."""
        return self._encoders is not None

    def embed(self, prompts: Sequence[str]) -> list[Embedding]:
        """One row [1, L, D] for each prompt; new prompts go through the encoders in one batch."""
        new = sorted({prompt for prompt in prompts if prompt not in self._cache})
        if new:
            rows = self._run(new)
            for index, prompt in enumerate(new):
                pooled = None if rows.pooled is None else rows.pooled[index : index + 1]
                self._cache[prompt] = Embedding(rows.tokens[index : index + 1], pooled)
        return [self._cache[prompt] for prompt in prompts]

    def negative(self, prompt: str) -> Embedding:
        """The row of a negative prompt."""
        embedding = self.embed([prompt])[0]
        return embedding.zeros() if self.zero_empty_negative and not prompt else embedding

    def _run(self, prompts: list[str]) -> Embedding:
        encoders = self.load_encoders().to(self._device)
        rows = encoders(prompts)
        if self._policy == "free":
            self.release()
        elif self._policy == "cpu":
            encoders.to(torch.device("cpu"))
        pooled = None if rows.pooled is None else rows.pooled.to(self._device, self._dtype)
        return Embedding(rows.tokens.to(self._device, self._dtype), pooled)

    def load_encoders(self) -> TextEncoders:
        """The encoders, loaded if they are not in memory."""
        if self._encoders is None:
            self._encoders = self._load()
        return self._encoders

    def release(self) -> None:
        """Free the encoders' memory; cached embeddings stay, a new prompt loads the encoders again."""
        self._encoders = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def embed_views(
    bank: TextBank,
    prompt: str,
    negative_prompt: str,
    mixes: Sequence[ViewMix] | None,
    views: ViewPrompts | None,
    perp_neg: PerpNeg | None,
) -> EmbeddedText:
    """The prompts as seen by each camera: ``mixes`` has one entry a camera, None (or no ``views``) means the plain prompt for all."""
    if views is None or mixes is None:
        positive, _ = bank.embed([prompt, negative_prompt])
        return EmbeddedText(prompt, negative_prompt, positive, bank.negative(negative_prompt))
    # All four views at once: the encoders can be freed before the first step, whichever cameras come later.
    said = {"front": prompt + views.front, "side": prompt + views.side, "back": prompt + views.back, "overhead": prompt + views.overhead}
    *rows, _ = bank.embed([*said.values(), negative_prompt])
    by_view = dict(zip(said, rows, strict=True))
    mixed = [by_view[m.first] if m.weight == 1.0 else by_view[m.first].mix(by_view[m.second], m.weight) for m in mixes]
    positive, negative = concatenate(mixed), bank.negative(negative_prompt)
    if perp_neg is None:
        return EmbeddedText(prompt, negative_prompt, positive, negative)
    weights = [perp_neg.weights(m) for m in mixes]
    table = torch.tensor([[w["front"] for w in weights], [w["side"] for w in weights]], device=positive.tokens.device)
    return EmbeddedText(prompt, negative_prompt, positive, negative, (by_view["front"], by_view["side"]), table)
