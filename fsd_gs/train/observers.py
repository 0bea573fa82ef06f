"""What watches a run: progress bar, log, live previews, checkpoints, Ctrl-C. Each is small, and the loop knows none of them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import TaskID

from fsd_gs.core.sheets import Frame
from fsd_gs.core.terminal import duration, make_bar
from fsd_gs.core.types import Gaussians
from fsd_gs.export.pictures import save_png
from fsd_gs.interrupts import SignalWatch
from fsd_gs.io import output_error, write_text
from fsd_gs.train.checkpoint import save_checkpoint
from fsd_gs.train.loop import Observer, StopRun
from fsd_gs.train.session import Session
from fsd_gs.train.step import StepReport


class ProgressBar(Observer):
    """One line in the terminal: step, time left, loss, t, splats, views a second. Plain lines where there is no terminal."""

    def __init__(self, console: Console, title: str, plain_every: int = 50) -> None:
        self.console, self.title, self.plain_every = console, title, plain_every
        self._views_per_second = 0.0
        self._task: TaskID | None = None
        self._progress = make_bar(console)

    def started(self, session: Session) -> None:
        self._task = self._progress.add_task(self.title, total=session.steps, completed=session.step)
        self._progress.start()

    def stepped(self, session: Session, report: StepReport) -> None:
        rate = report.views / max(report.seconds, 1e-9)
        self._views_per_second = rate if self._views_per_second == 0 else 0.9 * self._views_per_second + 0.1 * rate
        details = (f"{self._views_per_second:.0f} views/s", f"{report.splats} splats", f"loss {report.loss:.4f}", f"t {report.t:.2f}")
        if self._task is not None:
            self._progress.update(self._task, completed=report.step, details=details)
        if not self.console.is_terminal and (report.step % self.plain_every == 0 or report.step == report.steps):
            left = (report.steps - report.step) * report.views / max(self._views_per_second, 1e-9)
            self._print(f"{self.title}  {report.step}/{report.steps}  {duration(left)} left  {'  '.join(details)}")

    def said(self, message: str) -> None:
        self._print(f"note: {message}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def closed(self) -> None:
        self._progress.stop()


class JsonLog(Observer):
    """``log.jsonl``: one line of JSON a step, and the notes. A resumed run drops the lines after its checkpoint first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def started(self, session: Session) -> None:
        kept = [line for line in _lines(self.path) if line.get("step", 0) <= session.step] if session.step else []
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", encoding="utf-8", buffering=1)

    def stepped(self, session: Session, report: StepReport) -> None:
        self._write(
            {
                "step": report.step,
                "t": round(report.t, 5),
                "loss": report.loss,
                "score_norm": report.score_norm,
                "splats": report.splats,
                "seconds": round(report.seconds, 5),
            }
        )

    def said(self, message: str) -> None:
        self._write({"note": message})

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            try:
                self._file.write(json.dumps(entry) + "\n")
            except OSError as error:
                self._give_up()
                raise output_error(self.path, error) from error

    def closed(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise output_error(self.path, error) from error

    def _give_up(self) -> None:
        """Close without writing what is left: the same error while cleaning up would hide the first one."""
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None:
                file.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The readable lines of a log; the last one may be cut off by a kill."""
    if not path.is_file():
        return []
    result = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            result.append(json.loads(line))
        except ValueError:
            continue
    return result


class Previews(Observer):
    """Live contact sheets: ``preview.png`` is always the newest, ``previews/000050.png`` keeps the time-lapse.

    Args:
        draw: splats → a picture, uint8 [H, W, 3].
    """

    def __init__(self, folder: Path, every: int, draw: Callable[[Gaussians], Frame]) -> None:
        self.folder, self.every, self.draw = folder, every, draw

    def stepped(self, session: Session, report: StepReport) -> None:
        if self.every and report.step % self.every == 0 and report.step < report.steps:
            self._save(session, report.step)

    def finished(self, session: Session, complete: bool) -> None:
        self._save(session, session.step)

    def _save(self, session: Session, step: int) -> None:
        picture = self.draw(session.gaussians())
        for path in (self.folder / "previews" / f"{step:06d}.png", self.folder / "preview.png"):
            save_png(picture, path)


class Checkpoints(Observer):
    """``checkpoint/state.safetensors`` every so many steps, and whenever the run stops before its end."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    def stepped(self, session: Session, report: StepReport) -> None:
        if self.every and report.step % self.every == 0:
            save_checkpoint(self.path, session.state_dict())

    def finished(self, session: Session, complete: bool) -> None:
        save_checkpoint(self.path, session.state_dict())


class Interrupts(SignalWatch, Observer):
    """Ctrl-C, ``kill`` and a closed terminal end the run after the current step, so that everything is saved.

    A second Ctrl-C keeps the asset as it is then, a third ends at once.

    Args:
        finish: a file whose appearance means *keep* (``fsd-gs finish`` makes it).
        grace: seconds to wait for the second Ctrl-C, where somebody sits at a terminal.
        say: one line for people.
    """

    def __init__(self, finish: Path | None = None, *, grace: float = 0.0, say: Callable[[str], None] = lambda _: None) -> None:
        super().__init__(patience=2)
        self.finish, self.grace, self.say = finish, grace, say
        self.asked_to_keep = False

    def started(self, session: Session) -> None:
        self.watch()

    def stepped(self, session: Session, report: StepReport) -> None:
        if self.received is not None:
            if self.count == 1 and self.received == signal.SIGINT and self.grace:
                self.say(f"stopping; Ctrl-C again within {self.grace:g} s keeps the asset as it is, third time ends at once")
                self._wait(self.grace)
            raise StopRun(keep=self.count > 1 and self.received == signal.SIGINT)
        if self.finish is not None and self.finish.exists():
            self.asked_to_keep = True
            raise StopRun(keep=True)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.count == 1 and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.05, left))

    def closed(self) -> None:
        self.unwatch()


class Callback(Observer):
    """A plain function called with the :class:`StepReport` after each step."""

    def __init__(self, function: Callable[[StepReport], object]) -> None:
        self.function = function

    def stepped(self, session: Session, report: StepReport) -> None:
        self.function(report)
