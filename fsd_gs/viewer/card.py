"""What people noted on an asset: ``card.json`` in the folder of its run, which goes where the run goes.

{"title": "the throne", "starred": true}
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from fsd_gs.errors import InputError
from fsd_gs.io import write_text

CARD = "card.json"
LONGEST_TITLE = 80


@dataclass(frozen=True)
class Card:
    """What people noted on an asset.

    Attributes:
        title: what it is called instead of its prompt; "" where nobody named it.
    """

    title: str = ""
    starred: bool = False

    def __post_init__(self) -> None:
        if len(self.title) > LONGEST_TITLE or not self.title.isprintable():
            raise InputError(f"title: expected at most {LONGEST_TITLE} printable characters, got {len(self.title)}; choose a shorter name")


def read_card(run: Path) -> Card:
    """The card of a run; an empty one where there is none, or a damaged one, which a warning names."""
    path = run / CARD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Card(str(values.get("title", "")), values.get("starred") is True)
    except FileNotFoundError:
        return Card()
    except (OSError, ValueError, AttributeError, InputError) as error:
        logging.getLogger(__name__).warning("%s: not a card (%s); delete it, or name the asset again", path, error)
        return Card()


def write_card(run: Path, card: Card) -> None:
    """Put ``card`` into the folder of a run."""
    write_text(run / CARD, json.dumps(asdict(card), ensure_ascii=False) + "\n")
