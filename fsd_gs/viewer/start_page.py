"""``fsd-gs view`` without a file: write a prompt, choose a preset, press a button, watch the assets grow, pick one.

Training runs on a thread of this process, one set at a time. While it runs the page shows the live viewer of the current asset; then the
inspector of all assets that are finished.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from fsd_gs.catalogue.vocabulary import PromptError, Vocabulary, note, question
from fsd_gs.config import Config, load_config
from fsd_gs.errors import FsdGsError
from fsd_gs.export.formats import load_splats
from fsd_gs.export.versions import newest_version
from fsd_gs.priors.base import Prior
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset, prepare
from fsd_gs.train.backbones import PriorCache, PriorSource
from fsd_gs.train.edit import held_silhouette, write_back
from fsd_gs.train.estimate import WORTH_IT, TimeBook, estimate_line
from fsd_gs.train.ranking import RANKING, load_ranking, rank
from fsd_gs.train.variants import STOPPED, train_variants
from fsd_gs.train.words import find_words, known_vocabulary, vocabulary_of
from fsd_gs.viewer.change import requested_change
from fsd_gs.viewer.form import DEFAULTS, MAKE, Request, requested_config
from fsd_gs.viewer.gallery import GALLERY, write_gallery
from fsd_gs.viewer.house import Entry, House
from fsd_gs.viewer.inspector import Inspector
from fsd_gs.viewer.live import LiveViewer
from fsd_gs.viewer.notes import Notes
from fsd_gs.viewer.painter import viewing_rasterizer
from fsd_gs.viewer.panels.base import START, Board
from fsd_gs.viewer.panels.make import MakePanel
from fsd_gs.viewer.splat_node import PREVIEW_CAP, SplatNode

if TYPE_CHECKING:
    import viser


LINKS = "[All assets](/assets) · [Make](/index.html?words=) · [Words](/words)"


class StartPage:
    """The form on ``server``.

    ``close`` stops what is training after its current step.

    Args:
        output: folder for results.
        overrides: settings that every run gets, ``key=value``.
        up, backend: of assets that are looked at, see :class:`Inspector`.
    """

    links = LINKS

    def __init__(
        self,
        server: viser.ViserServer,
        *,
        output: str = "outputs",
        overrides: tuple[str, ...] = (),
        say: Callable[[str], None] = print,
        up: str = "auto",
        backend: str = "auto",
    ) -> None:
        self._server, self._output, self._overrides, self._say = server, output, overrides, say
        self._up, self._backend = up, backend
        self.house = House(Path(output))
        self.board = Board(server, START, self, title="Make assets")
        self._notes = Notes(self.board.show_notes)
        self._inspector: Inspector | None = None
        self._original: SplatNode | None = None
        self._live: LiveViewer | None = None
        self._priors = PriorCache()  # kept from one set to the next
        self._words: tuple[str, Vocabulary | None] | None = None  # the name of the last one, and what it knows
        self._stopping = threading.Event()
        self._running = threading.Lock()
        self._switching = threading.Lock()
        self._worker: threading.Thread | None = None

    def close(self) -> None:
        self._stopping.set()
        if self._live is not None:
            self._live.stopping.set()
        with self._running:  # wait for the run to save itself
            pass
        if self._worker is not None:  # and for its last words
            self._worker.join()
        self._clear_scene()
        self._notes.close()
        self.board.close()

    def refresh(self) -> None:
        """Nothing here changes a scene."""

    def vocabulary(self) -> Vocabulary | None:
        """The words of the prior that the form names, as far as that is known before it is loaded; None where any will do."""
        name = _prior_of(self.board[MakePanel].preset.value, self._overrides)
        return self._words[1] if self._words is not None and self._words[0] == name else known_vocabulary(name)

    # -- what other pages ask for -----------------------------------------------------------------------------------------

    def show(self, name: str) -> None:
        """Show a finished asset of the output folder instead of the form. While something is being made, that stays in sight."""
        with self._switching:
            if self._running.locked():
                self.board.say(f"{name} can be looked at when this is done, or stopped", strong=True)
                return
            assets = self.house.splats()
            if self._inspector is None:
                self._clear_scene()
                self._inspector = Inspector(
                    self._server,
                    {name: assets[name], **assets},
                    viewing_rasterizer(self._backend),
                    up=self._up,
                    saved=renew_gallery,
                    links=LINKS,
                )
            else:
                self._inspector.offer(assets, name)
            self.board.set_visible(False)

    def propose(self, request: Request) -> None:
        """The form, filled for a person to change and to start."""
        with self._switching:
            if self._running.locked():
                self.board.say("the form can be filled when this is done, or stopped", strong=True)
                return
            self._clear_scene()
            self._notes.clear()
            self.board.say("")
            self.board[MakePanel].fill(request)
            self.board.set_visible(True)
            if request.task != MAKE:
                self._show_original(request.source)

    def _show_original(self, name: str) -> None:
        """What is to be changed, behind the form."""
        self._original = SplatNode(self._server)
        try:
            self._original.show(load_splats(newest_version(self.house.find(name).run / runs.SPLATS)), PREVIEW_CAP)
        except FsdGsError as error:
            self.board.say(str(error), strong=True)

    def _clear_scene(self) -> None:
        if self._inspector is not None:
            self._inspector.close()
            self._inspector = None
        if self._original is not None:
            self._original.remove()
            self._original = None

    # -- one set of assets ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The button: check the form, then train on a thread, so that the page stays alive."""
        if not self._running.acquire(blocking=False):
            return
        self._notes.clear()
        try:
            task = self._asked_for(self.board[MakePanel].request())
        except FsdGsError as error:
            self.board.say(str(error), strong=True)
            self._running.release()
            return
        self._worker = threading.Thread(target=self._work, args=(task,), name="training", daemon=True)
        self._worker.start()

    def _asked_for(self, request: Request) -> Callable[[], None]:
        """What the form means, to be done; what is wrong with its settings is raised at once."""
        if request.task == MAKE:
            return partial(self._train, requested_config(request, self._output, self._overrides))
        original = self.house.find(request.source)
        return partial(self._change, *requested_change(request, original.run, self._output, self._overrides), original)

    def _work(self, task: Callable[[], None]) -> None:
        problem = ""
        try:
            self.board.set_busy(True)
            self.board.say("")
            with self._switching:
                self._clear_scene()
            task()
        except PromptError as error:
            problem = question(error.findings, "the box Anyway")
        except FsdGsError as error:
            problem = str(error)
        except Exception as error:  # a thread has nobody above it: the page is where a fault can be seen
            problem = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._running.release()  # first: whoever sees the button, or reads the message, may press it at once and is heard
            self.board.set_busy(False)
            if problem:
                self.board.say(problem, strong=True)

    def _train(self, config: Config) -> None:
        priors = self._ready(config)
        rasterizer = viewing_rasterizer(config.render.backend)
        self.board.say(estimate_line(config, priors, config.count, self.board.say) or "")
        folder = runs.run_folder(config).parent
        variants, code = train_variants(
            config,
            lambda asset: self._make_asset(asset, runs.run_folder(asset)),
            rasterizer,
            write_gallery=write_gallery,
            say=self._tell,
        )
        best = ""
        if config.keep and variants.variants:
            ranking = rank(config, folder, variants.seeds, rasterizer)
            write_gallery(folder)
            best = f"seed {ranking.seeds[0]} is {ranking.note(ranking.seeds[0])}"
            self._say(best)
        finished = finished_assets(folder)
        if finished and not self._stopping.is_set():
            self._inspector = Inspector(self._server, finished, rasterizer, saved=renew_gallery)
        self._say_end(folder, code, f"; {best}" if best else "")

    def _change(self, config: Config, folder: Path, original: Entry) -> None:
        """An edit or a refinement: one asset, shown beside what it was made of."""
        self.board.say(estimate_line(config, self._ready(config), 1, self.board.say) or "")
        code = self._make_asset(config, folder)
        held = ""
        if runs.is_finished(folder):
            with runs.shared_files(folder.parent):
                write_gallery(folder.parent)
            if config.pull.active:
                held = f"; silhouette: IoU {held_silhouette(config, folder):.2f} with {original.name}"
                if place := write_back(config, folder):
                    held += f"; {place.name} is in the original's size and place"
            if not self._stopping.is_set():
                assets = {f"{folder.parent.name}-{folder.name}": folder / runs.SPLATS, original.name: original.run / runs.SPLATS}
                self._inspector = Inspector(self._server, assets, viewing_rasterizer(config.render.backend), saved=renew_gallery)
        self._say_end(folder, code, held)

    def _say_end(self, folder: Path, code: int, more: str) -> None:
        stopped = code >= STOPPED
        self.board.say(f"{'Stopped' if stopped else 'Done'}: {folder}{' (the button goes on with it)' if stopped else more}")

    def _ready(self, config: Config) -> PriorSource:
        """The priors of what is asked for; what is wrong with the settings is said before anything is written."""
        self.board.say("loading the prior …")
        self._priors.expect(config)
        source = self._priors.prior
        first = config.split()[0].settings
        self._words = (first.prior.name, vocabulary_of(source(first)))
        self._note_words(config, source(first))
        prepare(config, source)
        return source

    def _note_words(self, config: Config, prior: Prior) -> None:
        """What is left out of the prompt, each time it is asked for: the prior's own note comes once a prompt."""
        findings = find_words(prior, config.prompt)
        if line := note(findings, anyway=config.anyway):
            self._notes.add(line)

    def _tell(self, line: str) -> None:
        """What the terminal is told and the page must not miss."""
        self._say(line)
        self._notes.add(line)

    def _make_asset(self, config: Config, folder: Path) -> int:
        """One asset, shown live; 130 (as after Ctrl-C) if somebody stopped it."""
        if self._stopping.is_set():
            return STOPPED + 2
        if config.overwrite and (binned := self.house.make_room(folder)):
            self._tell(f"{folder}: what stood there is in the bin, {binned}; All assets restores it once the new one is deleted")
        self._live = LiveViewer(self._server, f"{config.prompt} · seed {config.seed}", folder)
        began = time.perf_counter()
        try:
            outcome = make_asset(config, self._priors.prior, folder, observers=[self._live])
        finally:
            self._live.node.remove()
            self._live = None
        if outcome.state == "finished" and outcome.seconds is not None and config.steps >= WORTH_IT:
            TimeBook().add(config, outcome.seconds, max(time.perf_counter() - began - outcome.seconds, 0.0))
        if outcome.error:
            self._tell(outcome.error)
        return STOPPED + 2 if outcome.state in ("stopped", "kept") else 2 if outcome.error else 0


@lru_cache(maxsize=64)
def _prior_of(preset: str, overrides: tuple[str, ...]) -> str:
    """The name of the prior that a preset means; "" where that cannot be told."""
    try:
        return load_config([] if preset == DEFAULTS else [preset], list(overrides)).prior.name
    except FsdGsError:
        return ""


def renew_gallery(splats: Path) -> None:
    """Show a new version of a run's splats in the gallery of its prompt, where there is one."""
    folder = splats.parent.parent
    if (splats.parent / runs.CONFIG).is_file() and (folder / GALLERY).is_file():
        with runs.shared_files(folder):
            write_gallery(folder)


def finished_assets(folder: Path) -> dict[str, Path]:
    """Name → splats of the finished runs in a prompt's folder: the best first where they were ranked, else in the order of their seeds."""
    ranking = load_ranking(folder / RANKING)
    places = {runs.seed_name(seed): place for place, seed in enumerate(ranking.seeds)} if ranking is not None else {}
    found = sorted(
        (run for run in folder.glob("seed-*") if runs.is_finished(run)), key=lambda run: (places.get(run.name, len(places)), run.name)
    )
    return {f"{folder.name}-{run.name}": run / runs.SPLATS for run in found}
