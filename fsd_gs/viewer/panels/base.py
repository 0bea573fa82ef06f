"""What a panel is, and the board of panels beside the splats."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from fsd_gs.viewer.panels import PANELS
from fsd_gs.viewer.scene import Scene
from fsd_gs.viewer.text import plain_markdown

if TYPE_CHECKING:
    from collections.abc import Callable

    import viser

    from fsd_gs.catalogue.vocabulary import Vocabulary
    from fsd_gs.core.types import Gaussians
    from fsd_gs.export.formats import ExportOptions
    from fsd_gs.viewer.editing import Editor
    from fsd_gs.viewer.form import Request
    from fsd_gs.viewer.moment import Update

LIVE, INSPECT, START = "live", "inspect", "start"
TABBED = (INSPECT,)  # elsewhere panels stand one below the other, all in sight


class Page(Protocol):
    """What every page offers its panels."""

    def refresh(self) -> None:
        """Show the scene again: a control has changed what :meth:`Panel.apply` makes of it. Returns at once."""


class ScenePage(Page, Protocol):
    """A page with splats.

    Attributes:
        renders: whether this machine draws them too, in the modes of ``export.pictures``.
    """

    renders: bool

    def look_home(self, client: viser.ClientHandle) -> None:
        """A browser's camera back to where it started."""


class RunPage(ScenePage, Protocol):
    """A run that is watched (``viewer.live``)."""

    title: str

    def toggle_pause(self) -> bool: ...
    def save(self) -> None: ...
    def stop(self, *, keep: bool = False) -> None: ...


class AssetsPage(ScenePage, Protocol):
    """Assets that are looked at (``viewer.inspector``).

    Attributes:
        links: Markdown of the ways to other pages.
        background: sRGB in [0, 1].
    """

    links: str

    @property
    def names(self) -> list[str]: ...
    @property
    def background(self) -> tuple[float, float, float]: ...
    def send(self, client: viser.ClientHandle | None, format_name: str, options: ExportOptions) -> None:
        """Write what the panels keep of the asset, and send it to the browser that asked."""


class EditPage(AssetsPage, Protocol):
    """An asset that is cleaned by hand (``viewer.editing``)."""

    @property
    def scene(self) -> viser.SceneApi: ...
    def edit(self, change: Callable[[Editor], object]) -> None:
        """Do one step; what is wrong with it is said on the page."""

    def shown(self, splats: Gaussians) -> Gaussians:
        """``splats`` where the scene shows them."""
        ...

    def show_region(self, tool: str, size: float) -> None:
        """The sphere or box to select with, or nothing."""

    def region_centre(self) -> tuple[float, float, float]: ...
    def save_version(self) -> None: ...


class FormPage(Page, Protocol):
    """Where assets are asked for (``viewer.start_page``)."""

    links: str

    def start(self) -> None: ...
    def propose(self, request: Request) -> None:
        """Fill the form."""

    def vocabulary(self) -> Vocabulary | None:
        """The words of the prior in use; None where any will do."""


class Panel:
    """Some widgets and what they do. A module of this package ends in ``PANEL =`` its class.

    Args:
        title: of its tab, on pages with tabs; without one it stands above them.
        pages: where it is shown, of ``LIVE``, ``INSPECT``, ``START``.
    """

    title: ClassVar[str] = ""
    pages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, page: Any) -> None:
        self.page = page

    def build(self, gui: viser.GuiApi) -> None:
        """Add the widgets; called once, inside the panel's tab."""

    def apply(self, scene: Scene) -> Scene:
        """The scene as the controls want it. Called on another thread than the widgets' own, often."""
        return scene

    def show(self, update: Update) -> None:
        """A run has gone on (on a live page, some times a second)."""

    def set_busy(self, busy: bool) -> None:
        """A file is being made, or is done: buttons that make files rest meanwhile."""

    def close(self) -> None:
        """The page goes. The widgets go with their board; release what else there is."""


P = TypeVar("P", bound=Panel)


class Board:
    """The panels of one kind of page, with a bar and a line for messages below them.

    It appears as a whole: a button that can be seen before somebody listens to it would lose its first click.

    Args:
        title: of a board that stays above the others.
    """

    def __init__(self, server: viser.ViserServer, kind: str, page: Page, *, title: str | None = None) -> None:
        self.panels = [panel(page) for panel in panels_of(kind)]
        gui = server.gui
        self._folder = gui.add_folder(title, order=None if title is None else -1.0)
        with server.atomic(), self._folder:
            in_tabs = [panel for panel in self.panels if panel.title and kind in TABBED]
            for panel in self.panels:
                if panel not in in_tabs:
                    panel.build(gui)
            if in_tabs:
                tabs = gui.add_tab_group()
                for panel in in_tabs:
                    with tabs.add_tab(panel.title):
                        panel.build(gui)
            self._bar = gui.add_progress_bar(0.0, visible=False)
            self._message = gui.add_markdown("")
            self._notes = gui.add_markdown("", visible=False)

    def __getitem__(self, kind: type[P]) -> P:
        return next(panel for panel in self.panels if isinstance(panel, kind))

    @property
    def message(self) -> str:
        """What :meth:`say` said last, as Markdown."""
        return self._message.content

    def apply(self, scene: Scene) -> Scene:
        for panel in self.panels:
            scene = panel.apply(scene)
        return scene

    def show(self, update: Update) -> None:
        for panel in self.panels:
            panel.show(update)

    def set_visible(self, visible: bool) -> None:
        self._folder.visible = visible

    def say(self, message: str, *, strong: bool = False) -> None:
        text = plain_markdown(message)
        self._message.content = f"**{text}**" if strong and text else text

    def show_notes(self, lines: list[str]) -> None:
        """Warnings, below the message."""
        self._notes.visible = bool(lines)
        self._notes.content = "\n".join(f"- ⚠ {plain_markdown(line)}" for line in lines)

    def set_busy(self, busy: bool) -> None:
        for panel in self.panels:
            panel.set_busy(busy)
        self._bar.visible, self._bar.value = False, 0.0

    def show_progress(self, done: int, total: int) -> None:
        self._bar.visible, self._bar.value = True, 100 * done / max(total, 1)

    def close(self) -> None:
        for panel in self.panels:
            panel.close()
        self._folder.remove()


def panels_of(kind: str) -> list[type[Panel]]:
    """The classes of ``PANELS`` that belong on a kind of page, in order."""
    classes: list[type[Panel]] = [import_module(f"fsd_gs.viewer.panels.{name}").PANEL for name in PANELS]
    return [panel for panel in classes if kind in panel.pages]


def chosen(dropdown: viser.GuiDropdownHandle[Any]) -> str:
    """Its value; the first option where a browser sent something that is none."""
    return dropdown.value if dropdown.value in dropdown.options else dropdown.options[0]
