"""``fsd-gs edit`` and ``fsd-gs refine``: an asset changed by other words, an asset finished at a higher resolution; the original stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fsd_gs.config import Config
from fsd_gs.core import commandline
from fsd_gs.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

EDIT = """Change an asset by other words, from any file of splats (.ply, .spz, .sog, .glb, …); the file stays as it is:

  {program} chair.ply "a blue chair"                               restyle it, hold its shape
  {program} scan.spz "a mossy stone" --strength 0.8 --pull 0.01     change more
  {program} chair.ply "a blue chair" --region 0,0,0.3,0.25          only in a ball: x,y,z,radius"""

REFINE = """Finish an asset at twice the resolution, from a later time on; the original stays, the new one stands beside it:

  {program} outputs/a-red-chair/seed-0000
  {program} outputs/a-red-chair/seed-0000 --config exact"""


def make_edit_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs edit``."""
    parser = commandline.make_parser(program, EDIT)
    parser.add_argument("file", type=Path, metavar="FILE", help="splats to begin with")
    parser.add_argument("prompt", help="what they shall be")
    _add_strength(parser)
    parser.add_argument(
        "--pull",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of the way back to the original's shape that each step takes (default: 0.05; 0: not held, 1: not changed)",
    )
    parser.add_argument("--keep", type=Path, metavar="FILE.npy", help="a truth value for each splat: true stays as it is, to the bit")
    parser.add_argument("--region", metavar="X,Y,Z,R", help="only splats in this ball may change, in the file's world")
    commandline.add_settings(parser, Config, listed=False)
    return parser


def make_refine_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs refine``."""
    parser = commandline.make_parser(program, REFINE)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of a finished run")
    _add_strength(parser)
    commandline.add_settings(parser, Config, listed=False)
    return parser


def _add_strength(parser: commandline.Parser) -> None:
    parser.add_argument(
        "--strength",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of the path of times that is gone, from its end; more changes more (default: 0.5)",
    )


def edit(arguments: Sequence[str], program: str = "fsd-gs edit", *, write_gallery: Callable[[Path], Path] | None = None) -> int:
    """Make the edit in OUTPUT/<prompt>/seed-0000/, and tell how much of the silhouette is the original's."""
    options = commandline.parse(make_edit_parser(program), arguments)
    from fsd_gs.train import runs
    from fsd_gs.train.edit import edit_settings, held_silhouette, write_back

    config = edit_settings(
        options.file,
        options.prompt,
        strength=options.strength,
        pull=options.pull,
        keep=options.keep,
        region=_ball(options.region),
        config_files=options.config,
        overrides=options.overrides,
    )
    folder = runs.run_folder(config)
    code, console = _make(config, folder, write_gallery)
    if runs.is_finished(folder):
        say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
        say(f"silhouette: IoU {held_silhouette(config, folder):.2f} with {options.file}")
        if place := write_back(config, folder):
            say(f"  {place}: at the place and in the size of {options.file.name}")
    return code


def refine(arguments: Sequence[str], program: str = "fsd-gs refine", *, write_gallery: Callable[[Path], Path] | None = None) -> int:
    """Make the refinement in a folder beside the original's."""
    options = commandline.parse(make_refine_parser(program), arguments)
    from fsd_gs.train.edit import refine_settings

    config, folder = refine_settings(options.folder, strength=options.strength, config_files=options.config, overrides=options.overrides)
    return _make(config, folder, write_gallery)[0]


def _make(config: Config, folder: Path, write_gallery: Callable[[Path], Path] | None) -> tuple[int, Console]:
    from rich.console import Console

    from fsd_gs.train import runs
    from fsd_gs.train.backbones import PriorCache
    from fsd_gs.train.command import train_one

    console = Console()
    code = train_one(config, PriorCache().prior, console, folder.parent, folder=folder)
    if write_gallery is not None and runs.is_finished(folder):
        console.print(f"gallery: {write_gallery(folder.parent)}", highlight=False, markup=False, soft_wrap=True)
    return code, console


def _ball(text: str | None) -> list[float]:
    if text is None:
        return []
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise InputError(f"--region: expected x,y,z,radius, such as 0,0,0.3,0.25, got '{text}'")
    return numbers
