"""Scores a trained judge on held-out objects and writes the folder that ``metrics.judge.Judge.load`` reads.

The folder holds judge.safetensors (float16) and judge.json: labels, sizes, preprocessing, the word table, the SHA-256 of the weights and
the training card. The scores are those of the weights as written, after rounding to float16.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from fsd_gs.catalogue import vocabulary
from fsd_gs.catalogue.categories import CATEGORIES
from fsd_gs.core.backgrounds import composite
from fsd_gs.errors import OutputError
from fsd_gs.metrics.judge import RECORD, WEIGHTS, Judge, JudgeOutput
from fsd_gs.metrics.judge.network import JudgeNetwork, JudgeSizes
from fsd_gs.metrics.judge.train.augment import augment, to_float
from fsd_gs.metrics.judge.train.data import CATEGORY_NAMES, COLOR_NAMES, DESIGN_NAMES, Views
from fsd_gs.metrics.judge.words import WordTable

NAME = "fsd-gs judge 1"
MEAN, STD, SIZE = 0.5, 0.25, 64  # the network reads (x − MEAN) / STD at SIZE × SIZE
_LISTED_CONFUSIONS = 12


def word_table() -> WordTable:
    """The catalogue's vocabulary as phrases, so that the judge can read prompts without importing the prior."""
    return WordTable(
        vocabulary._category_phrases(),  # the phrase tables of parse_prompt itself: one truth for both readers
        vocabulary._color_phrases(),
        {name: vocabulary._design_phrases(name) for name in CATEGORIES},
        {name: vocabulary._design_nouns(name) for name in CATEGORIES},
    )


def export(network: JudgeNetwork, sizes: JudgeSizes, folder: Path, card: dict[str, Any]) -> None:
    """Write the judge with ``card`` into ``folder``; :class:`OutputError` if that cannot be written."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    data = safetensors.torch.save(tensors)
    record = {
        "name": NAME,
        "sha256": hashlib.sha256(data).hexdigest(),
        "network": asdict(sizes),
        "preprocessing": {"size": SIZE, "mean": MEAN, "std": STD},
        "card": card,
        "labels": {"categories": CATEGORY_NAMES, "colors": COLOR_NAMES, "designs": DESIGN_NAMES},
        "words": word_table().to_json(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(data)
        (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as problem:
        raise OutputError(f"{folder}: expected a folder to write the judge to, got {problem.strerror or problem}") from problem


def add_to_card(folder: Path, entries: dict[str, Any]) -> None:
    """Put ``entries`` into the card of a judge that was written to ``folder``."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["card"] |= entries
    (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def clean_images(rgba: Tensor) -> Tensor:
    """[V, H, W, 4] uint8 → [V, 3, H, W] on white."""
    return composite(to_float(rgba), torch.ones(1, 3, 1, 1, device=rgba.device))


def degraded_images(seed: int) -> Callable[[Tensor], Tensor]:
    """The training augmentation, with draws that training does not use (its seeds stay below 2⁶²)."""
    generator = torch.Generator().manual_seed(2**62 + seed)
    return lambda rgba: augment(rgba, generator)


def scores(judge: Judge, views: Views, prepare: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Shares of views, and of assets by majority over their views, whose labels are right; and what is taken for what, most often first."""
    seen: list[JudgeOutput] = [judge(prepare(torch.from_numpy(asset))) for asset in views.images]
    names = {"category": judge.categories, "color": judge.colors, "design": judge.designs}
    result: dict[str, Any] = {"assets": len(seen), "views_per_asset": views.images.shape[1], "view": {}, "majority": {}, "confusions": {}}
    modes = [judge.modes(output) for output in seen]
    for head, labels in zip(names, views.labels, strict=True):
        found = torch.stack([getattr(output, head).argmax(dim=1) for output in seen]).cpu()  # [N, V]
        truth = torch.from_numpy(labels)[:, None].expand_as(found)
        right = found == truth
        result["view"][head] = round(float(right.float().mean()), 4)
        majority = [getattr(mode, head) == names[head][label] for mode, label in zip(modes, labels, strict=True)]
        result["majority"][head] = round(sum(majority) / len(majority), 4)
        result["confusions"][head] = _confusions(truth[~right], found[~right], names[head])
    return result


def _confusions(truth: Tensor, found: Tensor, names: Sequence[str]) -> list[str]:
    """ "truth → found (count)" of the most frequent mistakes."""
    pairs = Counter(zip(truth.tolist(), found.tolist(), strict=True)).most_common(_LISTED_CONFUSIONS)
    return [f"{names[t]} → {names[f]} ({count})" for (t, f), count in pairs]
