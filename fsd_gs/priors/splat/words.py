"""Words as bags of letter groups: an open vocabulary in a table of fixed size.

A word w is the word itself and its letter n-grams, n = 3 … 5, with its ends marked ("<chair>" → "<ch", "cha", …), each hashed to a row of
one table; its vector is their mean (fastText: Bojanowski et al. 2017, arXiv 1607.04606). A word that training never saw so starts near
those that are spelt alike ("armchairs" near "armchair"), and new words need no new table. CRC-32 is the hash: the same on every machine.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_WORDS = 16
MAX_GROUPS = 24
PADDING = 0  # row 0 of the table stays zero


@dataclass(frozen=True)
class Words:
    """A batch of B texts.

    Attributes:
        groups: [B, W, G] int64 rows of the table, 0 where there is none.
    """

    groups: Tensor

    @property
    def present(self) -> Tensor:
        """[B, W] bool: is there a word?"""
        return (self.groups != PADDING).any(-1)

    def __getitem__(self, index: slice | Tensor) -> Words:
        return Words(self.groups[index])


def split_words(text: str) -> list[str]:
    """Lower-case words and numbers in order, without punctuation."""
    return re.findall(r"[^\W_]+", text.lower())


def letter_groups(word: str, rows: int) -> list[int]:
    """Rows in [1, rows) of the word and its letter groups, at most MAX_GROUPS."""
    marked = f"<{word}>"
    groups = [marked, *(marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1))]
    distinct = list(dict.fromkeys(groups))[:MAX_GROUPS]
    return [1 + zlib.crc32(group.encode()) % (rows - 1) for group in distinct]


def encode_words(texts: list[str], rows: int) -> Words:
    """Texts to groups; what follows the first MAX_WORDS words is left out."""
    groups = torch.zeros(len(texts), MAX_WORDS, MAX_GROUPS, dtype=torch.int64)
    for b, text in enumerate(texts):
        for w, word in enumerate(split_words(text)[:MAX_WORDS]):
            found = letter_groups(word, rows)
            groups[b, w, : len(found)] = torch.tensor(found)
    return Words(groups)


class WordEncoder(torch.nn.Module):
    """Texts → word vectors and one vector of the whole, by a table and a layer of attention between the words.

    Args:
        rows: of the table.
        width: of the vectors.
    """

    def __init__(self, rows: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.rows = rows
        self.table = torch.nn.EmbeddingBag(rows, width, mode="mean", padding_idx=PADDING)
        torch.nn.init.normal_(self.table.weight, std=1.0)
        with torch.no_grad():
            self.table.weight[PADDING].zero_()
        self.places = torch.nn.Parameter(torch.randn(MAX_WORDS, width) * 0.1)
        self.layer = torch.nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self, words: Words) -> tuple[Tensor, Tensor]:
        """([B, W, width] zero where there is no word, [B, width] their mean)."""
        B, W, G = words.groups.shape
        present = words.present
        vectors = self.table(words.groups.reshape(B * W, G)).reshape(B, W, -1) * (G / MAX_GROUPS) + self.places
        nobody = ~present.any(1)  # an empty text: attention over nothing is undefined, so let it look at padding and drop the result
        hidden = ~present & ~nobody[:, None]
        vectors = self.layer(vectors, src_key_padding_mask=hidden) * present[..., None]
        return vectors, vectors.sum(1) / present.sum(1, keepdim=True).clamp_min(1)
