"""``fsd-gs COMMAND``: the table of commands; errors become one line and an exit code here, once."""

from __future__ import annotations

import importlib
import io
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fsd_gs.core.terminal import abandon_stdout, flush_stdout, say, speak_for_ourselves
from fsd_gs.errors import FsdGsError, InputError, unknown_name

if TYPE_CHECKING:
    from fsd_gs.config import Config
    from fsd_gs.render import Rasterizer
    from fsd_gs.viewer.training_page import TrainingPage

Command = Callable[[Sequence[str], str], int]


@dataclass(frozen=True)
class Entry:
    """A command of ``fsd-gs``.

    Attributes:
        meaning: What it does, in a few words.
        example: Arguments that show it.
        run: (arguments, program) → exit code.
        parser: "module:function" of (program) → parser, which completion reads; imported on first use.
    """

    meaning: str
    example: str
    run: Command
    parser: str


def _main(module: str) -> Command:
    """``main`` of a module, imported when the command runs."""
    return lambda arguments, program: importlib.import_module(module).main(arguments, program)


def train(arguments: Sequence[str], program: str) -> int:
    """``train.py`` and ``fsd-gs train``, with the gallery and the live viewer that training itself does not know."""
    from fsd_gs.train.command import main

    return main(arguments, program, write_gallery=_write_gallery, open_page=_open_page)


def _write_gallery(folder: Path) -> Path:
    from fsd_gs.viewer.gallery import write_gallery

    return write_gallery(folder)


def _open_page(config: Config, say: Callable[[str], None]) -> TrainingPage:
    from fsd_gs.viewer.training_page import TrainingPage

    return TrainingPage(config, say)


def _finish(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.train.command import finish

    return finish(arguments, program, write_gallery=_write_gallery)


def _edit(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.train.edit_command import edit

    return edit(arguments, program, write_gallery=_write_gallery)


def _refine(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.train.edit_command import refine

    return refine(arguments, program, write_gallery=_write_gallery)


def export(arguments: Sequence[str], program: str) -> int:
    """``export.py`` and ``fsd-gs export``."""
    from fsd_gs.export.command import main

    return main(arguments, make_rasterizer=default_rasterizer, program=program)


def default_rasterizer() -> Rasterizer:
    """CUDA where it works, else the CPU kernels."""
    from fsd_gs.core.device import resolve_device
    from fsd_gs.render import make_rasterizer

    return make_rasterizer("auto", resolve_device("auto"))


def _completion(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.completion import main

    return main(arguments, program, {name: entry.parser for name, entry in COMMANDS.items()})


COMMANDS = {
    "train": Entry("make assets from words", 'prompt="a red chair" count=4', train, "fsd_gs.train.command:make_parser"),
    "batch": Entry(
        "make the assets of a file of prompts",
        "prompts.csv --seeds 0-3 --workers 2",
        _main("fsd_gs.fleet.command"),
        "fsd_gs.fleet.command:make_parser",
    ),
    "fleet": Entry("look after batches", "status outputs/night", _main("fsd_gs.fleet.manage"), "fsd_gs.fleet.manage:make_parser"),
    "finish": Entry(
        "keep unfinished assets as they are", "outputs/a-red-chair/seed-0000", _finish, "fsd_gs.train.command:make_finish_parser"
    ),
    "edit": Entry(
        "change an asset by other words", 'chair.ply "a blue chair" --strength 0.5', _edit, "fsd_gs.train.edit_command:make_edit_parser"
    ),
    "refine": Entry(
        "finish an asset at a higher resolution", "outputs/a-red-chair/seed-0000", _refine, "fsd_gs.train.edit_command:make_refine_parser"
    ),
    "view": Entry(
        "look at assets in the browser", "outputs/a-red-chair", _main("fsd_gs.viewer.command"), "fsd_gs.viewer.command:make_parser"
    ),
    "export": Entry(
        "write an asset in another format", "outputs/a-red-chair/seed-0000 --format ply", export, "fsd_gs.export.command:make_parser"
    ),
    "info": Entry(
        "what a file holds, where from", "outputs/a-red-chair/seed-0000", _main("fsd_gs.export.info"), "fsd_gs.export.info:make_parser"
    ),
    "app": Entry("a queue and a page for several people", "--host 0.0.0.0", _main("fsd_gs.app.command"), "fsd_gs.app.command:make_parser"),
    "words": Entry("what the prior understands", "chair", _main("fsd_gs.train.words"), "fsd_gs.train.words:make_parser"),
    "sweep": Entry(
        "compare methods and settings",
        "configs/ablations/beta.yaml",
        _main("fsd_gs.experiments.sweep.command"),
        "fsd_gs.experiments.sweep.command:make_parser",
    ),
    "evaluate": Entry(
        "measure diversity and quality",
        "--suite nano --quick",
        _main("fsd_gs.experiments.evaluate.command"),
        "fsd_gs.experiments.evaluate.command:make_parser",
    ),
    "doctor": Entry("check this machine", "", _main("fsd_gs.doctor"), "fsd_gs.doctor:make_parser"),
    "completion": Entry("for your shell", "bash", _completion, "fsd_gs.completion:make_parser"),
    "train-prior": Entry(
        "train a prior of your own",
        "--config configs/nano/own.yaml data.meshes=my_assets",
        _main("fsd_gs.pretrain.command"),
        "fsd_gs.pretrain.command:make_parser",
    ),
}


def usage() -> str:
    """All commands, one a line."""
    names, meanings = max(map(len, COMMANDS)), max(len(entry.meaning) for entry in COMMANDS.values())
    lines = [f"  {name:<{names}}  {entry.meaning:<{meanings}}  fsd-gs {name} {entry.example}".rstrip() for name, entry in COMMANDS.items()]
    return "\n".join(["usage: fsd-gs COMMAND ...", "", *lines, "", "fsd-gs COMMAND --help says more."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``fsd-gs``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        return guarded(COMMANDS[arguments[0]].run, arguments[1:], f"fsd-gs {arguments[0]}")
    return guarded(_without_command, arguments, "fsd-gs")


def _without_command(arguments: Sequence[str], program: str) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    raise InputError(unknown_name("command", arguments[0], COMMANDS))


def guarded(command: Command, arguments: Sequence[str], program: str) -> int:
    """Run a command; an error that a person can act on is one line and exit code 2, with a traceback only under ``--debug``."""
    if "--version" in arguments:
        command = _version
    _speak_any_encoding()
    debug = "--debug" in arguments
    speak_for_ourselves(debug)
    try:
        code = _run(command, arguments, program)
        flush_stdout()  # what a full disk did not take is an error of this command, not of the interpreter's end
        return code
    except KeyboardInterrupt:
        return 130
    except FsdGsError as error:
        _explain(str(error), debug)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            abandon_stdout()
            return 128 + 13  # as for any program whose reader has gone: there is nobody to tell
        _explain(f"cannot use {error.filename or 'standard output, or a file'}: {error.strerror or error}", debug)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or "out of memory" in str(error)):
            raise
        _explain("out of memory; lower render.sizes, cameras.views or densify.cap, or choose a smaller prior", debug)
    abandon_stdout()
    return 2


def _version(arguments: Sequence[str], program: str) -> int:
    from fsd_gs import __version__

    print(__version__)
    return 0


def _speak_any_encoding() -> None:
    """Signs that the terminal's encoding lacks are replaced instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _run(command: Command, arguments: Sequence[str], program: str) -> int:
    try:
        return command(arguments, program)
    except SystemExit:  # argparse's help and usage errors
        flush_stdout()
        raise


def _explain(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    say("error", message)
