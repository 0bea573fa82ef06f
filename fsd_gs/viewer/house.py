"""The house of all assets: the finished runs of an output folder, what people noted on them, and the bin.

    OUTPUT/<prompt>/seed-0000/card.json          {"title": "the throne", "starred": true}, where somebody gave it one
    OUTPUT/.bin/<when>-<n>/<prompt>/seed-0000/   what was deleted, whole; undo moves it back. Emptying it is a person's, in a file manager

Assets and deletions are asked for by name and looked up among those that were found, so that no request holds a path. What lies behind a
link that leaves the output folder can be looked at and is not touched.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fsd_gs.errors import FileFormatError, FsdGsError, InputError, OutputError
from fsd_gs.io import locked, make_folder, output_error
from fsd_gs.train import runs
from fsd_gs.train.ranking import RANKING, load_ranking
from fsd_gs.train.variants import VARIANTS, load_variants
from fsd_gs.viewer.card import Card, read_card, write_card
from fsd_gs.viewer.gallery import GALLERY, REFINED, kind_of, write_gallery

BIN = ".bin"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A finished run.

    Attributes:
        steps: that were asked for.
        made: seconds since 1970.
        card: what people noted.
        score: in [0, 1], of the ranking, else of the verdict; None where nobody looked.
        kind: "refined" or "edited"; "" for what began with nothing.
    """

    run: Path
    prompt: str
    seed: int
    steps: int
    made: float
    card: Card = field(default_factory=Card)
    score: float | None = None
    kind: str = ""

    @property
    def name(self) -> str:
        return f"{self.run.parent.name}-{self.run.name}"

    @property
    def title(self) -> str:
        return self.card.title or self.prompt


@dataclass(frozen=True)
class Binned:
    """A deleted run: the name of the deletion, and the run as it lies in the bin."""

    name: str
    entry: Entry


def finished_runs(outputs: Path) -> list[Entry]:
    """The finished runs of all prompts in ``outputs``, the newest first; damaged ones are left out with a warning."""
    return House(outputs).entries()


class House:
    """The assets below a folder. Everything may be called from any thread.

    Args:
        outputs: folder of the prompts' folders.
    """

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self._lock = threading.RLock()
        self._known: dict[Path, tuple[tuple[float, float], Entry]] = {}  # reading settings is slow; they are read again when they change

    # -- what there is --------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All finished runs as they are on the disk now, the newest first; damaged ones are left out with a warning."""
        with self._lock:
            scores: dict[Path, dict[int, float]] = {}
            found = []
            for run in self.outputs.glob("*/seed-*"):
                if (entry := self._entry(run)) is not None:
                    if run.parent not in scores:
                        scores[run.parent] = scores_of(run.parent)
                    score = None if entry.kind == REFINED else scores[run.parent].get(entry.seed)  # said of the original
                    found.append(replace(entry, card=read_card(run), score=score))
            return sorted(found, key=lambda entry: (-entry.made, entry.name))

    def find(self, name: str) -> Entry:
        """The asset of that name; InputError where there is none (any more)."""
        entry = next((entry for entry in self.entries() if entry.name == name), None)
        if entry is None:
            raise InputError(f"asset: there is no '{name[:100]}' here (any more); load the page again")
        return entry

    def binned(self) -> list[Binned]:
        """What lies in the bin, the last deletion first."""
        with self._lock:
            found = []
            for run in sorted((self.outputs / BIN).glob("*/*/seed-*"), reverse=True):
                if (entry := self._entry(run)) is not None:
                    found.append(Binned(run.parent.parent.name, replace(entry, card=read_card(run))))
            return found

    def _entry(self, run: Path) -> Entry | None:
        """A finished run without what others noted on it; None where it is none, or damaged."""
        if not runs.is_finished(run):
            return None
        try:
            stamp = ((run / runs.CONFIG).stat().st_mtime, (run / runs.SPLATS).stat().st_mtime)
            known = self._known.get(run)
            if known is None or known[0] != stamp:
                config = runs.load_run_config(run)
                entry = Entry(run, config.prompt, config.seed, config.steps, stamp[1], kind=kind_of(run, config))
                known = self._known[run] = (stamp, entry)
            return known[1]
        except (FsdGsError, OSError) as error:
            log.warning("%s; left out of the overview", error)
            return None

    # -- what is done to them -------------------------------------------------------------------------------------------

    def star(self, name: str, starred: bool) -> Entry:
        """Mark an asset, or take the mark away."""
        return self._note(name, lambda card: replace(card, starred=starred))

    def rename(self, name: str, title: str) -> Entry:
        """Call an asset something else than its prompt; "" is its prompt again. Its folder keeps its name."""
        return self._note(name, lambda card: replace(card, title=title.strip()))

    def _note(self, name: str, change: Callable[[Card], Card]) -> Entry:
        with self._lock:
            entry = self._own(self.find(name))
            card = change(entry.card)
            write_card(entry.run, card)
            return replace(entry, card=card)

    def delete(self, name: str) -> Binned:
        """Move an asset to the bin.

        Raises:
            OutputError: a process is at work in its folder, or the disk cannot move it.
        """
        with self._lock:
            entry = self._own(self.find(name))
            target = self._put_away(entry.run)
            return Binned(target.parent.parent.name, replace(entry, run=target))

    def make_room(self, run: Path) -> Path | None:
        """Move what is finished in ``run`` to the bin, where another asset is to stand there; its place in it, None where there is nothing.

        Raises:
            OutputError: as :meth:`delete`, or the folder lies outside of this house.
        """
        with self._lock:
            if not runs.is_finished(run):
                return None
            self._check_own(run)
            return self._put_away(run)

    def restore(self, name: str) -> Entry:
        """Bring a deletion back to where it was. What has been begun there since and is not finished takes its place in the bin.

        Raises:
            OutputError: there is another asset now, or one is being made.
        """
        with self._lock:
            found = next((binned for binned in self.binned() if binned.name == name), None)
            if found is None:
                raise InputError(f"bin: there is no '{name[:100]}' in it (any more); load the page again")
            run = found.entry.run
            target = make_folder(self.outputs / run.parent.name) / run.name
            if runs.is_finished(target):
                raise OutputError(f"{target}: another asset stands there now; delete that one first, or choose another seed for it")
            if target.exists():
                self._put_away(target)
            _move(run, target)
            for folder in (run.parent, run.parent.parent):
                folder.rmdir()
            return self.find(f"{target.parent.name}-{target.name}")

    def _own(self, entry: Entry) -> Entry:
        self._check_own(entry.run)
        return entry

    def _check_own(self, run: Path) -> None:
        if not run.resolve().is_relative_to(self.outputs.resolve()):
            raise OutputError(f"{run}: lies outside of {self.outputs}, behind a link; change it there")

    def _put_away(self, run: Path) -> Path:
        """Move a run's folder to a new place in the bin."""
        with locked(run / runs.LOCK, f"{run}: this asset is being made; stop that first"):
            pass
        target = make_folder(self._new_place() / run.parent.name) / run.name
        _move(run, target)
        return target

    def _new_place(self) -> Path:
        when = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        made = make_folder(self.outputs / BIN)
        number = 0
        while True:
            place = made / f"{when}-{number}"
            try:
                place.mkdir()
                return place
            except FileExistsError:
                number += 1
            except OSError as error:
                raise output_error(place, error) from error

    # -- what follows from it -------------------------------------------------------------------------------------------

    def splats(self) -> dict[str, Path]:
        """Name → splats of all assets, the newest first."""
        return {entry.name: entry.run / runs.SPLATS for entry in self.entries()}

    def free_seed(self, entry: Entry) -> int:
        """The first seed after all those of the prompt."""
        return max(other.seed for other in self.entries() if other.run.parent == entry.run.parent) + 1


def scores_of(folder: Path) -> dict[int, float]:
    """Seed → score of a prompt's assets: the ranking's where it knows them, else the verdict's."""
    scores: dict[int, float] = {}
    try:
        variants = load_variants(folder / VARIANTS)
    except FileFormatError as error:
        log.warning("%s", error)
        variants = None
    for variant in variants.variants if variants is not None else ():
        if variant.score is not None:
            scores[variant.seed] = variant.score
    ranking = load_ranking(folder / RANKING)
    return scores | ({} if ranking is None else {entry.seed: entry.score for entry in ranking.ranked})


def _move(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        raise output_error(target, error) from error


class Galleries:
    """Writes the galleries of prompts whose assets changed, one after the other on a thread of its own: a page must not wait for them."""

    def __init__(self) -> None:
        self._wanted: dict[Path, None] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def renew(self, folder: Path) -> None:
        """Have the gallery of a prompt's folder written again."""
        with self._lock:
            self._wanted[folder] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="galleries", daemon=True)
                self._thread.start()

    def wait(self, seconds: float = 60.0) -> None:
        """Until all that was asked for is written."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                folder = next(iter(self._wanted))
                del self._wanted[folder]
            try:
                renew_prompt(folder)
            except (FsdGsError, OSError) as error:
                log.warning("%s", error)


def renew_prompt(folder: Path) -> None:
    """Bring the gallery of a prompt's folder in line with its runs; without any it goes."""
    if not folder.is_dir():
        return
    with runs.shared_files(folder):
        if any(runs.is_finished(run) for run in folder.glob("seed-*")):
            write_gallery(folder)
        else:
            (folder / GALLERY).unlink(missing_ok=True)


def facts(entry: Entry) -> dict[str, Any]:
    """An asset as scripts of the pages see it."""
    return {"asset": entry.name, "title": entry.title, "prompt": entry.prompt, "seed": entry.seed, "starred": entry.card.starred}
