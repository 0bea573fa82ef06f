"""``fsd-gs view`` without a file: write a prompt, choose a preset, press a button, watch the assets grow, pick one.

Training runs on a thread of this process, one set at a time. While it runs the page shows the live viewer of the current asset; then the
inspector of all assets that are finished.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fsd_gs.config import Config, load_config
from fsd_gs.core.device import resolve_device
from fsd_gs.errors import ConfigError, FsdGsError
from fsd_gs.priors.base import Prior
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset, prepare
from fsd_gs.train.backbones import load_prior
from fsd_gs.train.variants import train_variants
from fsd_gs.viewer.gallery import write_gallery
from fsd_gs.viewer.inspector import Inspector
from fsd_gs.viewer.live import LiveViewer, plain_markdown
from fsd_gs.viewer.painter import viewing_rasterizer

if TYPE_CHECKING:
    import viser

DEFAULTS = "default"


class StartPage:
    """The form on ``server``. output: folder for results. overrides: settings that every run gets, ``key=value``.

    ``close`` stops what is training after its current step.
    """

    def __init__(
        self, server: viser.ViserServer, *, output: str = "outputs", overrides: tuple[str, ...] = (), say: Callable[[str], None] = print
    ) -> None:
        self._server, self._output, self._overrides, self._say = server, output, overrides, say
        self._form = _Form(server)
        self._inspector: Inspector | None = None
        self._live: LiveViewer | None = None
        self._prior: tuple[object, Prior] | None = None
        self._stopping = threading.Event()
        self._running = threading.Lock()
        self._form.on_start(self._start)

    def close(self) -> None:
        self._stopping.set()
        if self._live is not None:
            self._live.stopping.set()
        with self._running:  # wait for the run to save itself
            pass
        if self._inspector is not None:
            self._inspector.close()

    # -- one set of assets ----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """The button: check the form, then train on a thread, so that the page stays alive."""
        if not self._running.acquire(blocking=False):
            return
        try:
            config = self._form.config(self._output, self._overrides)
        except FsdGsError as error:
            self._form.fail(str(error))
            self._running.release()
            return
        threading.Thread(target=self._work, args=(config,), name="training", daemon=True).start()

    def _work(self, config: Config) -> None:
        try:
            self._form.set_running(True)
            if self._inspector is not None:
                self._inspector.close()
                self._inspector = None
            self._train(config)
        except FsdGsError as error:
            self._form.fail(str(error))
        except Exception as error:  # a thread has nobody above it: the page is where a fault can be seen
            self._form.fail(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._form.set_running(False)
            self._running.release()

    def _train(self, config: Config) -> None:
        self._form.say("loading the prior …")
        prior = self._load_prior(config)
        prepare(config, prior)  # what is wrong with the settings is said before anything is written
        rasterizer = viewing_rasterizer(config.render.backend)
        self._form.say("")
        folder = runs.run_folder(config).parent
        _, code = train_variants(
            config,
            lambda asset: self._make_asset(asset, prior),
            rasterizer,
            write_gallery=write_gallery,
            say=self._say,
        )
        finished = finished_assets(folder)
        if finished and not self._stopping.is_set():
            self._inspector = Inspector(self._server, finished, rasterizer)
        self._form.say(f"{'Stopped' if code else 'Done'}: {folder}" + (" (press the button to go on)" if code else ""))

    def _load_prior(self, config: Config) -> Prior:
        """The prior, kept from one set to the next."""
        key = (vars(config.prior), config.device)
        if self._prior is None or self._prior[0] != key:
            self._prior = None  # free the old one first
            self._prior = (key, load_prior(config, resolve_device(config.device)))
        return self._prior[1]

    def _make_asset(self, config: Config, prior: Prior) -> int:
        """One seed, shown live; 130 (as after Ctrl-C) if somebody stopped it."""
        if self._stopping.is_set():
            return 130
        self._live = LiveViewer(self._server, f"{config.prompt} · seed {config.seed}", runs.run_folder(config))
        try:
            outcome = make_asset(config, prior, observers=[self._live])
        finally:
            self._live.node.remove()
            self._live = None
        if outcome.error:
            self._say(outcome.error)
        return 130 if outcome.state in ("stopped", "kept") else 0


def finished_assets(folder: Path) -> dict[str, Path]:
    """Name → splats of the finished runs in a prompt's folder, in the order of their seeds."""
    return {f"{folder.name}-{run.name}": run / runs.SPLATS for run in sorted(folder.glob("seed-*")) if runs.is_finished(run)}


def presets() -> list[str]:
    """Names of the configurations of this folder and of the source tree that make 3D assets, the default first."""
    roots = [Path("configs"), Path(__file__).resolve().parents[2] / "configs"]
    files = [(root, path) for root in roots for pattern in ("*.yaml", "methods/*.yaml") for path in root.glob(pattern)]
    names = {path.relative_to(root).with_suffix("").as_posix() for root, path in files}
    return [DEFAULTS, *sorted(names - {"2d"})]


class _Form:
    """Prompt, preset, seed, count and the button."""

    def __init__(self, server: viser.ViserServer) -> None:
        from viser import Icon

        gui = server.gui
        self._folder = gui.add_folder("Make assets", order=-1.0)
        with self._folder:
            self._prompt = gui.add_text("Prompt", "a red chair")
            self._preset = gui.add_dropdown("Preset", presets(), initial_value=DEFAULTS)
            self._seed = gui.add_number("Seed", 0, min=0, step=1, hint="another seed gives another asset")
            self._count = gui.add_number("Count", 4, min=1, max=100, step=1, hint="seeds seed, seed + 1, …")
            self._extra = gui.add_text("Settings", "", hint="more key=value settings separated by spaces, such as steps=200 noise.beta=0.5")
            self._replace = gui.add_checkbox("Replace existing", False, hint="otherwise finished assets are kept and unfinished ones go on")
            self._button = gui.add_button("Make assets", icon=Icon.PLAYER_PLAY)
            self._message = gui.add_markdown("")

    def on_start(self, act: Callable[[], None]) -> None:
        self._button.on_click(lambda _: act())

    def config(self, output: str, overrides: tuple[str, ...]) -> Config:
        """The settings that the form asks for; raises ConfigError."""
        files = [] if self._preset.value == DEFAULTS else [self._preset.value]
        chosen = [f"prompt={self._prompt.value}", f"seed={int(self._seed.value)}", f"count={int(self._count.value)}", f"output={output}"]
        existing = ["overwrite=true"] if self._replace.value else ["resume=true"]
        config = load_config(files, [*overrides, *self._extra.value.split(), *chosen, *existing])
        if config.mode != "3d":
            raise ConfigError(f"mode: this page makes 3D assets, got {config.mode}; use fsd-gs train")
        return config

    def say(self, message: str) -> None:
        self._message.content = plain_markdown(message)

    def fail(self, message: str) -> None:
        self._message.content = f"**{plain_markdown(message)}**"

    def set_running(self, running: bool) -> None:
        for control in (self._prompt, self._preset, self._seed, self._count, self._extra, self._replace, self._button):
            control.disabled = running
        if running:
            self._message.content = ""
