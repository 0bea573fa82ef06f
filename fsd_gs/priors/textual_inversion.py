"""Textual inversion (arXiv 2208.01618): learned vectors that stand for a new word in prompts.

    learned_embeds.safetensors    {word: [n, D]}                 as diffusers saves them
    my-chair.safetensors          {"emb_params": [n, D]}         as A1111 does; the word is the file's name
    my-chair.safetensors          {"clip_l": …, "clip_g": …}     for SDXL's two encoders; the word is the file's name

A word of n > 1 vectors is n tokens: word, word_1, …, and "a word" reads "a word word_1 …". diffusers' own loader puts the vectors into
tokenizer and encoder and spells the prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fsd_gs.errors import FileFormatError
from fsd_gs.priors.hub import PICKLES

_ENCODERS = ("clip_l", "clip_g")
_UNNAMED = "emb_params"


@dataclass(frozen=True)
class LearnedWord:
    """A word and its vectors [n, D] for each text encoder.

    Attributes:
        word: As it is written in prompts.
        vectors: One entry a text encoder.
        file: For messages.
    """

    word: str
    vectors: tuple[Tensor, ...]
    file: Path


def read_words(files: Sequence[str], widths: Sequence[int]) -> tuple[LearnedWord, ...]:
    """The learned words of ``files``. FileFormatError for what is none or is of another model.

    Args:
        files: Paths of .safetensors files.
        widths: Of the tokens of each text encoder.
    """
    words = tuple(_read(Path(file).expanduser(), widths) for file in files)
    names = [word.word for word in words]
    for word in words:
        if names.count(word.word) > 1:
            raise FileFormatError(f"prior.embeddings: two files teach the word '{word.word}' ({word.file}); rename one")
    return words


def _read(file: Path, widths: Sequence[int]) -> LearnedWord:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file.suffix in PICKLES:
        raise FileFormatError(f"prior.embeddings: {file.name} is a pickle, which can run code; expected a .safetensors file")
    if not file.is_file():
        raise FileFormatError(f"prior.embeddings: no file '{file}'; expected a .safetensors file of textual inversion")
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"prior.embeddings: {file} is not a readable safetensors file; download it again") from error
    vectors = _vectors(file, state, len(widths))
    for found, wanted in zip(vectors, widths, strict=True):
        if found.ndim != 2 or found.shape[1] != wanted or not len(found):
            raise FileFormatError(
                f"prior.embeddings: {file}: its vectors have the shape {list(found.shape)}, this model's are [n, {wanted}] (768: SD 1.x, "
                "1024: SD 2.x, 768 and 1280: SDXL); take one that was trained for this model"
            )
    named = len(widths) == 1 and _UNNAMED not in state
    return LearnedWord(next(iter(state)) if named else file.stem, vectors, file)


def _vectors(file: Path, state: dict[str, Tensor], encoders: int) -> tuple[Tensor, ...]:
    wanted = _ENCODERS if encoders == 2 else None
    if wanted is not None and set(state) == set(wanted):
        found = [state[name] for name in wanted]
    elif wanted is None and len(state) == 1:
        found = list(state.values())
    else:
        expected = "the entries clip_l and clip_g" if wanted else "one entry"
        raise FileFormatError(
            f"prior.embeddings: {file}: expected {expected}, found {', '.join(sorted(state)[:3]) or 'nothing'}; take one that was made for "
            "this model"
        )
    return tuple(vectors[None] if vectors.ndim == 1 else vectors for vectors in found)


def teach(words: Sequence[LearnedWord], tokenizers: Sequence[Any], encoders: Sequence[Any]) -> None:
    """Put the vectors into the text encoders. FileFormatError where the tokenizer knows the word already."""
    if not words:
        return
    from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin

    class Holder(TextualInversionLoaderMixin):
        hf_device_map = None
        components: dict[str, Any] = {}  # noqa: RUF012  (as the mixin reads it from a pipeline)

    for word in words:
        for vectors, tokenizer, encoder in zip(word.vectors, tokenizers, encoders, strict=True):
            if word.word in tokenizer.get_vocab():
                raise FileFormatError(f"prior.embeddings: {word.file}: the tokenizer knows '{word.word}' already; rename the word")
            state = {word.word: vectors.to(encoder.device, encoder.dtype)}
            Holder().load_textual_inversion(state, tokenizer=tokenizer, text_encoder=encoder)
            encoder.requires_grad_(False)


def spelled(prompts: list[str], tokenizer: Any) -> list[str]:
    """The prompts with each word of several vectors written out, as diffusers' pipelines do for every prompt."""
    added = tokenizer.added_tokens_encoder
    if not any(f"{word}_1" in added for word in added):
        return prompts
    from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin

    return [str(prompt) for prompt in TextualInversionLoaderMixin().maybe_convert_prompt(prompts, tokenizer)]
