"""Text encoders as functions prompts → embeddings, a cache in front of them, and what ``encode_text`` hands out.

A family says which encoders it has and what it makes of their outputs: its :class:`TextLayout`. Encoders are loaded when the first new
prompt comes and, by default, freed right after: a run needs a handful of embeddings once.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import TextCondition
from fsd_gs.errors import InputError
from fsd_gs.priors.options import TextPolicy
from fsd_gs.priors.prompts import PerpNeg, ViewMix, ViewPrompts
from fsd_gs.priors.textual_inversion import spelled


@dataclass(frozen=True)
class Embedding:
    """What the network is told, one row an image.

    Attributes:
        tokens: Of the text, [B, L, D].
        pooled: Of the text, [B, P], where the network wants it.
        image: Of an image prompt, [B, 1, E] or [B, 1, L, E], where there is one.
        control: What a ControlNet is shown, [B, 3, H, W], where there is one.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    image: Tensor | None = None
    control: Tensor | None = None

    def expand(self, batch: int) -> Embedding:
        """One row for all of ``batch``, or ``batch`` rows as they are."""
        if self.tokens.shape[0] == batch:
            return self
        rows: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: x.expand(batch, *x.shape[1:]) for name, x in rows.items() if x is not None})

    def mix(self, other: Embedding, weight: float) -> Embedding:
        """weight · self + (1 − weight) · other of the texts; what stands beside them is the same in both."""
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.lerp(other.pooled, self.pooled, weight)
        return replace(self, tokens=torch.lerp(other.tokens, self.tokens, weight), pooled=pooled)

    def zeros(self) -> Embedding:
        """A text that says nothing."""
        return Embedding(torch.zeros_like(self.tokens), None if self.pooled is None else torch.zeros_like(self.pooled))

    def beside(self, image: Tensor | None) -> Embedding:
        """The same text with ``image`` [1, 1, …] beside it."""
        return replace(self, image=None if image is None else image.expand(self.tokens.shape[0], *image.shape[1:]))


def concatenate(embeddings: Sequence[Embedding]) -> Embedding:
    """Stack along the batch."""
    rows: dict[str, list[Any]] = {f.name: [getattr(e, f.name) for e in embeddings] for f in fields(Embedding)}
    return replace(embeddings[0], **{name: torch.cat(parts) for name, parts in rows.items() if parts[0] is not None})


@dataclass(frozen=True)
class ImagePrompt:
    """What the network is told of a picture (:mod:`~fsd_gs.priors.image_prompt`): [1, 1, E], or [1, 1, L, E].

    Attributes:
        positive: Beside prompts.
        negative: Beside negative prompts.
    """

    positive: Tensor
    negative: Tensor


@dataclass(frozen=True)
class EmbeddedText(TextCondition):
    """What the networks receive.

    Attributes:
        positive: B rows, or 1 row for all views.
        negative: 1 row.
        repelled: n embeddings of B rows or 1 (Perp-Neg), with ``repel_weights`` [n, B] ≤ 0; empty without Perp-Neg.
    """

    positive: Embedding
    negative: Embedding
    repelled: tuple[Embedding, ...] = ()
    repel_weights: Tensor | None = None

    def with_control(self, pictures: Tensor) -> EmbeddedText:
        """The same texts for B images, each with its control picture [B, 3, H, W]."""

        def under(embedding: Embedding) -> Embedding:
            return replace(embedding.expand(len(pictures)), control=pictures)

        repelled = tuple(under(embedding) for embedding in self.repelled)
        return replace(self, positive=under(self.positive), negative=under(self.negative), repelled=repelled, control=pictures)


def embedded(text: TextCondition) -> EmbeddedText:
    """``text`` itself; InputError if another prior embedded it."""
    if not isinstance(text, EmbeddedText):
        raise InputError(f"text: expected what this prior's encode_text returns, got {type(text).__name__}")
    return text


@dataclass(frozen=True)
class TextPart:
    """One text encoder of a family, by its class in transformers.

    Attributes:
        encoder: Class of the network in text_encoder, text_encoder_2, …
        tokenizer: Class of the tokenizer beside it.
        tokenizer_files: Sets of files, any of which makes a tokenizer.
        optional: Whether the family can do without.
    """

    encoder: str
    tokenizer: str
    tokenizer_files: tuple[frozenset[str], ...]
    optional: bool = False


_CLIP_FILES = (frozenset({"tokenizer.json"}), frozenset({"vocab.json", "merges.txt"}))
CLIP = TextPart("CLIPTextModel", "CLIPTokenizer", _CLIP_FILES)
CLIP_PROJECTED = TextPart("CLIPTextModelWithProjection", "CLIPTokenizer", _CLIP_FILES)
T5 = TextPart("T5EncoderModel", "T5TokenizerFast", (frozenset({"tokenizer.json"}), frozenset({"spiece.model"})))


@dataclass
class TextEncoders:
    """Tokenizers and text encoders of one family; those of an optional part that is absent are None in both lists."""

    embed: Callable[[TextEncoders, list[str]], Embedding]
    tokenizers: list[Any]
    encoders: list[Any]

    def to(self, device: torch.device) -> TextEncoders:
        for encoder in self.encoders:
            if encoder is not None:
                encoder.to(device)
        return self

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> Embedding:
        """Embeddings of B prompts."""
        return self.embed(self, prompts)

    def ids(self, index: int, prompts: list[str], length: int | None = None) -> Tensor:
        """Token ids [B, L] of tokenizer ``index``, padded to its own length (or ``length``), on the encoder's device. Warns of cuts."""
        tokenizer = self.tokenizers[index]
        prompts = spelled(prompts, tokenizer)
        length = int(tokenizer.model_max_length) if length is None else length
        for prompt, whole in zip(prompts, tokenizer(prompts, truncation=False, verbose=False).input_ids, strict=True):
            if len(whole) > length:
                # View words come last, so a long prompt loses them first: never silently.
                message = f"prompt: only the first {length} of {len(whole)} tokens are used of '{prompt}'; shorten it"
                warnings.warn(message, UserWarning, stacklevel=2)
        ids = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        return ids.to(next(self.encoders[index].parameters()).device)

    def penultimate(self, index: int, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """(hidden states before the last layer [B, L, D], projected pooled output [B, P]) of encoder ``index``."""
        output = self.encoders[index](self.ids(index, prompts), output_hidden_states=True)
        return output.hidden_states[-2], output[0]


@dataclass(frozen=True)
class TextLayout:
    """The text encoders of a family, in the order of their folders, and what becomes of their outputs."""

    parts: tuple[TextPart, ...]
    embed: Callable[[TextEncoders, list[str]], Embedding]


def last_hidden_state(text: TextEncoders, prompts: list[str]) -> Embedding:
    """The embedding of one CLIP: tokens [B, L, D]."""
    return Embedding(text.encoders[0](text.ids(0, prompts))[0])


ONE_CLIP = TextLayout((CLIP,), last_hidden_state)


class TextBank:
    """Embeddings, computed once per distinct prompt.

    Args:
        load: gives the encoders (called at the first new prompt, and again after :meth:`release`).
        zero_empty_negative: the negative embedding of the empty prompt is zero instead of the embedding of "" (SDXL).
        image: a picture that stands beside every prompt, and what stands beside negative ones.
    """

    def __init__(
        self,
        load: Callable[[], TextEncoders],
        *,
        device: torch.device,
        dtype: torch.dtype,
        policy: TextPolicy = "free",
        zero_empty_negative: bool = False,
        image: ImagePrompt | None = None,
    ) -> None:
        self._load, self._device, self._dtype, self._policy = load, device, dtype, policy
        self._encoders: TextEncoders | None = None
        self._cache: dict[str, Embedding] = {}
        self.zero_empty_negative, self.image = zero_empty_negative, image

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
        return [self._cache[prompt].beside(self.image and self.image.positive) for prompt in prompts]

    def negative(self, prompt: str) -> Embedding:
        """The row of a negative prompt."""
        embedding = self.embed([prompt])[0]
        text = embedding.zeros() if self.zero_empty_negative and not prompt else embedding
        return text.beside(self.image and self.image.negative)

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
