"""The command line of ``export.py`` and ``fsd-gs export``: read splats, clean them, write the formats asked for.

The rasterizer comes from the caller, and is only made if a format renders.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fsd_gs.core import commandline
from fsd_gs.core.file_axes import SPLAT_AXES
from fsd_gs.core.terminal import make_bar
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, FsdGsError, InputError, OutputError
from fsd_gs.export.axes import TARGETS, UP_PRESETS
from fsd_gs.export.filters import FilterSettings, apply_filters
from fsd_gs.export.formats import EXPORTERS, LOADERS, ExportOptions, export, frame_of, known_format, load_upright, untouched_by
from fsd_gs.export.mesh import MeshSettings
from fsd_gs.export.pictures import MODES, Progress, SplatRasterizer, TurntableSettings
from fsd_gs.export.provenance import Provenance, read_provenance
from fsd_gs.export.sog_read import is_sog_folder
from fsd_gs.export.versions import newest_version

TEXTURE = 512  # texels a side of a mesh's texture
MakeRasterizer = Callable[[], SplatRasterizer]


def main(argv: Sequence[str] | None = None, *, make_rasterizer: MakeRasterizer, program: str = "export.py") -> int:
    """Exit status: 0, or 2 with one line on stderr for anything a person can put right (a traceback too with ``--debug``)."""
    arguments = commandline.parse(make_parser(program), sys.argv[1:] if argv is None else argv)
    try:
        run(arguments, make_rasterizer)
    except (FsdGsError, OSError) as error:  # an OSError that slipped through names its file, and a person can put it right
        if isinstance(error, OSError) and error.filename is None:  # the terminal's own trouble
            raise
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def make_parser(program: str) -> commandline.Parser:
    """The options of ``export.py``."""
    formats = "\n".join(f"  {name:<15} {entry.suffix:<16} {entry.description}" for name, entry in EXPORTERS.items())
    example = "{program} outputs/a-red-chair/seed-0000 --format ply,spz,html --target supersplat"
    parser = commandline.make_parser(
        program, "Export splats to the files that other tools open.", epilog=f"formats:\n{formats}\n\nexample:\n  {example}"
    )
    sources = f"a run's folder, a prompt's for all its runs, or a file: {', '.join(LOADERS)}"
    parser.add_argument("source", metavar="RUN_OR_FILE", type=Path, help=sources)
    parser.add_argument("--format", default="ply", metavar="A,B,…", help="formats to write, separated by commas (default: ply)")
    parser.add_argument(
        "--target",
        choices=TARGETS,
        help="axes of this application, where the format leaves a choice (default: as most read it)",
    )
    parser.add_argument("--sh-pad", type=int, choices=(0, 1, 2, 3), metavar="N", help="pad SH with zeros to degree N; some viewers want 3")
    parser.add_argument(
        "--output", type=Path, metavar="PATH", help="a folder, or with one format a file (default: export/ beside the splats)"
    )
    parser.add_argument("--strict", action="store_true", help="refuse what a format cannot hold, instead of a warning that counts it")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    _add_input_options(parser.add_argument_group("cleaning up, in this order"))
    _add_picture_options(parser.add_argument_group("pictures and meshes"))
    return parser


def _add_input_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--up",
        choices=("auto", *UP_PRESETS),
        default="auto",
        help="the input's vertical axis; y-down for scans (default: as the file says)",
    )
    group.add_argument("--min-opacity", type=float, metavar="A", help="drop splats fainter than this, in [0, 1)")
    corners = ("X0", "Y0", "Z0", "X1", "Y1", "Z1")
    group.add_argument("--crop", type=float, nargs=6, metavar=corners, help="keep the splats in this box (z up)")
    group.add_argument("--largest-component", action="store_true", help="keep only the largest connected piece: drops floaters")
    group.add_argument("--max-splats", type=int, metavar="N", help="keep the N splats that cover the most")
    group.add_argument("--recentre", action="store_true", help="move the middle of the object to the origin")
    group.add_argument("--radius", type=float, metavar="R", help="scale the object to this radius")


def _add_picture_options(group: argparse._ArgumentGroup) -> None:
    turntable, mesh = TurntableSettings(), MeshSettings()
    group.add_argument("--mode", choices=MODES, default=turntable.mode, help="what mp4, gif and png show (default: rgb)")
    group.add_argument("--size", type=int, default=turntable.size, metavar="PX", help=f"side of a picture (default: {turntable.size})")
    group.add_argument("--frames", type=int, default=turntable.frames, metavar="N", help=f"of a turntable (default: {turntable.frames})")
    group.add_argument("--fps", type=int, default=turntable.fps, metavar="N", help=f"frames a second (default: {turntable.fps})")
    group.add_argument(
        "--mesh-resolution", type=int, default=mesh.resolution, metavar="N", help=f"voxels a side (default: {mesh.resolution})"
    )
    group.add_argument(
        "--max-faces",
        type=int,
        default=mesh.max_faces,
        metavar="N",
        help=f"of a mesh, at most; 0: no limit (default: {mesh.max_faces})",
    )
    group.add_argument(
        "--texture", type=int, default=TEXTURE, metavar="PX", help=f"side of a mesh's texture; 0: vertex colours (default: {TEXTURE})"
    )
    group.add_argument("--collision", action="store_true", help="write convex hulls for a physics engine as well (.collision.glb)")


@dataclass(frozen=True)
class Job:
    """One asset: its splats, its name, and the file of each format."""

    source: Path
    title: str
    outputs: dict[str, Path]


def run(arguments: argparse.Namespace, make_rasterizer: MakeRasterizer) -> list[Path]:
    """Do what the parsed arguments say; the files written. What stands in the way of one asset of a set is said before any is written."""
    formats = list(dict.fromkeys(name.strip() for name in arguments.format.split(",") if name.strip()))
    if arguments.collision and "collision" not in formats:
        formats.append("collision")
    if not formats:
        raise InputError(f"format: expected at least one of {', '.join(EXPORTERS)}")
    entries = {name: known_format(name) for name in formats}
    jobs = _jobs(arguments, formats)
    existing = [str(path) for job in jobs for path in job.outputs.values() if path.exists()]
    if existing and not arguments.overwrite:
        raise OutputError(f"already there: {', '.join(existing)}; add --overwrite or choose another --output")
    rasterizer = make_rasterizer() if any(entry.needs_rasterizer for entry in entries.values()) else None
    note = untouched_by(arguments.target, formats)
    for job in jobs:
        gaussians = read_and_clean(job.source, arguments)
        options = replace(_options(arguments, job.title, job.source), rasterizer=rasterizer)
        if note:
            print(f"note: {note}", file=sys.stderr)
            note = None  # once for all assets
        for name, path in job.outputs.items():
            # A target that the format leaves no room for has just been spoken of, once for all formats.
            fits = untouched_by(arguments.target, [name]) is None
            with _progress(name) as progress, warnings_as_lines():
                export(gaussians, path, name, replace(options, target=arguments.target if fits else None, progress=progress))
            print(f"wrote {path} ({_size(path)})")
    return [path for job in jobs for path in job.outputs.values()]


def _jobs(arguments: argparse.Namespace, formats: list[str]) -> list[Job]:
    """The asset that the source means, or the finished runs of a prompt's folder."""
    runs = find_set(arguments.source)
    if len(runs) > 1 and arguments.output is not None and arguments.output.suffix and not arguments.output.is_dir():
        raise InputError(f"output: '{arguments.output}' is one file for {len(runs)} assets; give a folder")
    found = [find_splats(source) for source in runs or [arguments.source]]
    return [Job(path, title, output_paths(formats, arguments.output, path, title, arguments.mode)) for path, title in found]


def find_set(source: Path) -> list[Path]:
    """The finished runs in a prompt's folder, by seed; none where ``source`` is something else."""
    if not source.is_dir() or (source / "splats.ply").is_file() or is_sog_folder(source):
        return []
    return sorted(splats.parent for splats in source.glob("seed-*/splats.ply"))


def find_splats(source: Path) -> tuple[Path, str]:
    """The splat file that ``source`` means, and a name for it: a run's folder and seed, or the file's stem."""
    if is_sog_folder(source) and not (source / "splats.ply").is_file():
        return source, (source if source.is_dir() else source.parent).resolve().name
    if source.is_dir():
        splats = source / "splats.ply"
        if not splats.is_file():
            raise FileFormatError(f"{source}: no splats.ply in this folder; give a finished run's folder, a prompt's, or a splat file")
        resolved = source.resolve()
        is_seed = resolved.name.startswith("seed-")
        splats = newest_version(splats)
        return splats, f"{resolved.parent.name}-{resolved.name}" if is_seed else resolved.name
    return source, stem(source.name)


def stem(name: str) -> str:
    """A file's name without the suffixes of any format that is read or written: x.compressed.ply and x.ksplat.ply are x."""
    suffixes = {*LOADERS, *SPLAT_AXES, *(entry.suffix for entry in EXPORTERS.values())}
    known = max((suffix for suffix in suffixes if name.lower().endswith(suffix) and len(name) > len(suffix)), key=len, default=None)
    return name if known is None else stem(name[: -len(known)])


def last_suffix(format_name: str) -> str:
    """What a file of this format must end with: .glb for .splat.glb, for its name then is the user's."""
    suffix = EXPORTERS[format_name].suffix
    return Path(suffix.removeprefix(".")).suffix or suffix


def output_paths(formats: list[str], output: Path | None, source: Path, title: str, mode: str) -> dict[str, Path]:
    """Format → file. ``output`` is a file if it has the suffix of the only format, else a folder."""
    if output is not None and len(formats) == 1 and output.name.lower().endswith(last_suffix(formats[0])) and not output.is_dir():
        return {formats[0]: output}
    if output is not None and output.suffix and not output.is_dir() and any(output.name.endswith(e.suffix) for e in EXPORTERS.values()):
        raise InputError(f"output: '{output}' does not fit the format {', '.join(formats)}; give a folder, or a name with its suffix")
    folder = output or source.parent / "export"
    modes = {name: "" if mode == "rgb" or EXPORTERS[name].kind != "picture" else f"-{mode}" for name in formats}
    return {name: folder / f"{title}{modes[name]}{EXPORTERS[name].suffix}" for name in formats}


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Warnings become one line each on stderr, as errors are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)


def read_and_clean(source: Path, arguments: argparse.Namespace) -> Gaussians:
    """The splats of ``source``, turned upright and filtered; InputError if nothing is left."""
    with warnings_as_lines():
        gaussians = load_upright(source, arguments.up)
    before = len(gaussians)
    corners = arguments.crop
    settings = FilterSettings(
        min_opacity=arguments.min_opacity,
        crop=None if corners is None else ((corners[0], corners[1], corners[2]), (corners[3], corners[4], corners[5])),
        largest_component=arguments.largest_component,
        max_splats=arguments.max_splats,
        recentre=arguments.recentre,
        radius=arguments.radius,
    )
    gaussians = apply_filters(gaussians, settings)
    if not len(gaussians):
        reason = "the file has none" if not before else f"the filters dropped all {before:,}; loosen them"
        raise InputError(f"{source}: there are no splats to export ({reason})")
    kept = "" if len(gaussians) == before else f", {before - len(gaussians):,} filtered out"
    print(f"{source}: {len(gaussians):,} splats of SH degree {gaussians.sh_degree}{kept}")
    if arguments.up == "auto" and frame_of(source) is None:
        print(f"{source.name} does not say which way is up: z is taken (--up y-down for scans and files for SuperSplat)")
    return gaussians


def _options(arguments: argparse.Namespace, title: str, source: Path) -> ExportOptions:
    return ExportOptions(
        provenance=read_provenance(source) or Provenance(),
        sh_pad=arguments.sh_pad,
        strict=arguments.strict,
        title=title,
        turntable=TurntableSettings(frames=arguments.frames, size=arguments.size, fps=arguments.fps, mode=arguments.mode),
        mesh=MeshSettings(resolution=arguments.mesh_resolution, max_faces=arguments.max_faces or None, texture=arguments.texture),
    )


@contextmanager
def _progress(name: str) -> Iterator[Progress | None]:
    """A bar on stderr that vanishes when done; nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with make_bar(Console(stderr=True), vanishes=True) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
