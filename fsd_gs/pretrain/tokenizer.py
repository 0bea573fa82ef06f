"""A CLIPTokenizer whose vocabulary is the words of the training captions: byte-pair merges are learned until every word is one token.

Other words still tokenize, into pieces; whether to accept them is decided where prompts are read (``priors.nano``).

The same words always give the same numbers. (The trainer of the tokenizers library numbers letters at the ends of words in the order of
a hash table, another one at each start, so that a training that goes on would meet its embeddings under other words.)
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from fsd_gs.io import new_folder, write_text

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
MAX_TOKENS = 32  # the longest caption with its background has about 25


def make_tokenizer(words: Iterable[str], folder: Path) -> Any:
    """A CLIPTokenizer of ``words`` (lower case), saved in ``folder``. One that is there already and knows them all is kept: its numbers
    are those that weights were trained with."""
    from transformers import CLIPTokenizer

    pieces = pieces_of(words)
    if (folder / "tokenizer.json").is_file():
        kept = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        if knows(kept, pieces):
            return kept
    letters, merges = sorted(_byte_letters()), learn_merges([_as_bytes(piece) for piece in pieces])
    tokens = [START, END, *letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges)]
    with new_folder(folder) as place:
        return _written(tokens, merges, place)


def pieces_of(words: Iterable[str]) -> list[str]:
    """What CLIP's tokenizers take apart before anything else: runs of letters and single digits; sorted, each once, in lower case."""
    return sorted({piece for word in words for piece in re.findall(r"[^\W\d_]+|\d", word.lower())})


def knows(tokenizer: Any, words: Iterable[str]) -> bool:
    """Whether every piece of ``words`` is one token, between start and end."""
    return all(len(tokenizer(piece).input_ids) == 3 for piece in pieces_of(words))


def _written(tokens: list[str], merges: list[tuple[str, str]], folder: Path) -> Any:
    from transformers import CLIPTokenizer

    write_text(folder / "vocab.json", json.dumps({token: number for number, token in enumerate(dict.fromkeys(tokens))}))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    made = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=MAX_TOKENS)
    made.save_pretrained(folder)
    return made


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding (arXiv 1508.07909) of ``words``, each once: the most frequent pair, of several the first in the alphabet, until
    every word is one token."""
    split = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges: list[tuple[str, str]] = []
    while split := [symbols for symbols in split if len(symbols) > 1]:
        counts: Counter[tuple[str, str]] = Counter()
        for symbols in split:
            counts.update(pairwise(symbols))
        pair = min(counts, key=lambda p: (-counts[p], p))
        merges.append(pair)
        split = [_merged(symbols, pair) for symbols in split]
    return merges


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    if pair[0] not in symbols:
        return symbols
    result: list[str] = []
    place = 0
    while place < len(symbols):
        together = tuple(symbols[place : place + 2]) == pair
        result.append("".join(pair) if together else symbols[place])
        place += 2 if together else 1
    return result


def _byte_letters() -> list[str]:
    """The letters that stand for the 256 bytes of UTF-8 in CLIP's tokenizers; ASCII stands for itself."""
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


def _as_bytes(word: str) -> str:
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)[0][0]
