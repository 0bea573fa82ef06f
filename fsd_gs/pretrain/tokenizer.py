"""A CLIPTokenizer whose vocabulary is the words of the training captions: byte-pair merges are learned until every word is one token.

Other words still tokenize, into pieces; whether to accept them is decided where prompts are read (``priors.nano``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 32  # the longest caption with its background has about 25


def make_tokenizer(words: Iterable[str], folder: Path) -> Any:
    """Learn the vocabulary of ``words`` (lower case), save vocab.json and merges.txt in ``folder`` and load them as a CLIPTokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = [*"abcdefghijklmnopqrstuvwxyz0123456789,.-'"]
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=50_000,
        min_frequency=1,
        special_tokens=[START, END],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted({*words, *alphabet}), trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    vocabulary = _with_final_letters(learned["vocab"], alphabet)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in learned["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    made = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=MAX_TOKENS)
    made.save_pretrained(folder)
    return made


def _with_final_letters(vocabulary: dict[str, int], alphabet: Iterable[str]) -> dict[str, int]:
    """Every letter also as the end of a word, so that no word is without tokens."""
    complete = dict(vocabulary)
    for letter in alphabet:
        for form in (letter, f"{letter}</w>"):
            complete.setdefault(form, len(complete))
    return complete
