"""``fsd-gs train|view|export|sweep|evaluate|train-prior|doctor``; errors become one line and an exit code here, once."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler

from fsd_gs.errors import FsdGsError, unknown_name

if TYPE_CHECKING:
    from fsd_gs.render import Rasterizer

Command = Callable[[Sequence[str], str], int]

USAGE = """usage: fsd-gs COMMAND ...

  train    make assets from words            fsd-gs train prompt="a red chair" count=4
  finish   keep unfinished assets as they are  fsd-gs finish outputs/a-red-chair/seed-0000
  view     look at assets in the browser     fsd-gs view outputs/a-red-chair
  export   write an asset in another format  fsd-gs export outputs/a-red-chair/seed-0000 --format ply
  info     what a file holds, where from     fsd-gs info outputs/a-red-chair/seed-0000
  sweep    compare methods and settings      fsd-gs sweep configs/ablations/beta.yaml
  evaluate measure diversity and quality     fsd-gs evaluate --suite nano --quick
  doctor   check this machine                fsd-gs doctor
  train-prior  train a prior of your own     fsd-gs train-prior --config configs/nano/own.yaml data.meshes=my_assets

fsd-gs COMMAND --help says more."""


def train(arguments: Sequence[str], program: str) -> int:
    """``train.py`` and ``fsd-gs train``, with the gallery and the live viewer that training itself does not know."""
    from fsd_gs.train.command import main
    from fsd_gs.viewer.gallery import write_gallery
    from fsd_gs.viewer.training_page import TrainingPage

    return main(arguments, program, write_gallery=write_gallery, open_page=TrainingPage)


def _finish(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.train.command import finish
    from fsd_gs.viewer.gallery import write_gallery

    return finish(arguments, program, write_gallery=write_gallery)


def _view(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.viewer.command import main

    return main(arguments, program)


def _export(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.export.command import main

    return main(arguments, make_rasterizer=default_rasterizer, program=program)


def _info(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.export.info import main

    return main(arguments, program)


def _sweep(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.experiments.sweep.command import main

    return main(arguments, program)


def _evaluate(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.experiments.evaluate.command import main

    return main(arguments, program)


def _train_prior(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.pretrain.command import main

    return main(arguments, program)


def _doctor(arguments: Sequence[str], program: str) -> int:
    from fsd_gs.doctor import main

    return main(arguments, program)


def default_rasterizer() -> Rasterizer:
    """CUDA where it works, else the CPU kernels."""
    from fsd_gs.core.device import resolve_device
    from fsd_gs.render import make_rasterizer

    return make_rasterizer("auto", resolve_device("auto"))


COMMANDS: dict[str, Command] = {
    "train": train,
    "finish": _finish,
    "view": _view,
    "export": _export,
    "info": _info,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "train-prior": _train_prior,
    "doctor": _doctor,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``fsd-gs``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        from fsd_gs import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        print(f"error: {unknown_name('command', name, COMMANDS)}", file=sys.stderr)
        return 2
    return guarded(COMMANDS[name], rest, f"fsd-gs {name}")


def guarded(command: Command, arguments: Sequence[str], program: str) -> int:
    """Run a command; an error that a person can act on is one line and exit code 2, with a traceback only under ``--debug``."""
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console, show_time=False, show_path=False, markup=False)]
    )
    try:
        return command(arguments, program)
    except KeyboardInterrupt:
        return 130
    except FsdGsError as error:
        _explain(str(error), "--debug" in arguments)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or "out of memory" in str(error)):
            raise
        message = "out of memory; lower render.sizes, cameras.views or densify.cap, or choose a smaller prior"
        _explain(message, "--debug" in arguments)
    return 2


def _explain(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
