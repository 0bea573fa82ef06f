"""What people see in a terminal or in the log of a job: one line a message, one line of progress, and nothing of other libraries.

    a-red-chair #0  ━━━━━━━━━━╸━━━━━━━━━━━  120/300  0:42 left  95 views/s  1400 splats  loss 0.0123  t 0.61

Where the line is too long the details go first, the last one of them before the others, then the bar and the title get shorter; the step
and the time left stay. Where there is no terminal, lines are never broken: whoever reads them wants whole paths.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PACKAGE = "fsd_gs"
_ROOT = str(Path(__file__).resolve().parents[1])
_WORDS = {logging.INFO: "note", logging.WARNING: "warning"}
# Read when these libraries are imported. The user's own values win.
_QUIET = {
    "TRANSFORMERS_VERBOSITY": "critical",
    "DIFFUSERS_VERBOSITY": "critical",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def speak_for_ourselves(debug: bool = False) -> None:
    """Messages of this package go to stderr, one line each; those of other libraries only with ``debug``."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_Lines(debug))
        logging.getLogger(PACKAGE).setLevel(logging.INFO)
    if debug:
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    warnings.showwarning = _show_warning  # type: ignore[assignment]


class _Lines(logging.Handler):
    """Looks stderr up at each message: a progress bar puts its own in place while it is drawn."""

    def __init__(self, debug: bool) -> None:
        super().__init__()
        self.debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        if self.debug or record.name.split(".")[0] == PACKAGE:
            say(_WORDS.get(record.levelno, "error" if record.levelno > logging.WARNING else "note"), record.getMessage())


def _show_warning(message: Any, category: type, filename: str, lineno: int, file: TextIO | None = None, line: str | None = None) -> None:
    if filename.startswith(_ROOT):
        say("warning", str(message))


def say(kind: str, message: str) -> None:
    """``kind: message`` on stderr, on one line; a stderr that is gone cannot be told anything."""
    with contextlib.suppress(OSError):
        print(f"{kind}: {' '.join(message.split())}", file=sys.stderr)


def flush_stdout() -> None:
    """Raise now what the interpreter would print at its end: a full disk, a closed pipe."""
    if sys.stdout is not None:
        sys.stdout.flush()


def abandon_stdout() -> None:
    """Where standard output takes nothing any more, let it lead nowhere, so that the end of the process is silent."""
    try:
        flush_stdout()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


# -- progress ----------------------------------------------------------------------------------------------------------------


def progress_line(
    width: int, title: str, share: float, count: str, left: float | None, details: Sequence[str] = (), ascii_only: bool = False
) -> str:
    """One line of at most ``width`` columns.

    Args:
        width: of the terminal.
        title: what is being done.
        share: how much of it is done, in [0, 1].
        count: the same in words, such as "120/300".
        left: seconds to go, None where nobody knows yet.
        details: what else there is to say, the most useful first.
        ascii_only: for terminals without line drawing.
    """
    end = f"{count}  {duration(left)} left"[:width]
    room = width - len(end)
    title = title if len(title) + 16 <= room else title[: max(room - 17, 0)] + ("…" if room > 17 and not ascii_only else "")
    line = f"{title}  " if title else ""
    length = min(30, room - len(line) - 2)
    if length >= 5:
        done = round(min(max(share, 0.0), 1.0) * length)
        full, empty = ("#", "-") if ascii_only else ("━", "─")
        line += full * done + empty * (length - done) + "  "
    line += end
    for detail in details:
        if len(line) + 2 + len(detail) > width:
            break
        line += f"  {detail}"
    return line


def duration(seconds: float | None) -> str:
    """ "0:42", "1:02:03"; "-:--" for None."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def make_bar(
    console: Console, *, count: Callable[[float, float | None], str] | None = None, memory: float = 30.0, vanishes: bool = False
) -> Progress:
    """A rich Progress of :func:`progress_line` lines, silent where there is no terminal; ``fields["details"]`` of a task are its details.

    Args:
        console: where to draw.
        count: (completed, total) → words; "completed/total" by default.
        memory: seconds over which the speed is averaged.
        vanishes: leave nothing behind when done.
    """
    from rich.progress import Progress, ProgressColumn, Task
    from rich.text import Text

    words = count or (lambda done, total: f"{done:.0f}/{total or 0:.0f}")

    class Line(ProgressColumn):
        def render(self, task: Task) -> Text:
            share = task.completed / task.total if task.total else 0.0
            details = task.fields.get("details", ())
            ascii_only = not (console.encoding or "").lower().startswith("utf")
            text = progress_line(
                console.width - 1, task.description, share, words(task.completed, task.total), task.time_remaining, details, ascii_only
            )
            return Text(text, no_wrap=True, overflow="crop")

    return Progress(Line(), console=console, disable=not console.is_terminal, speed_estimate_period=memory, transient=vanishes)
