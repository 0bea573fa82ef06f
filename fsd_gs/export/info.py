"""``fsd-gs info FILE``: what a file holds, and what it says of where it comes from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from fsd_gs.core import commandline
from fsd_gs.core.file_axes import FRAMES, MESH_AXES
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError
from fsd_gs.export.command import find_splats
from fsd_gs.export.formats import LOADERS, frame_of, load_splats
from fsd_gs.export.gate import file_size
from fsd_gs.export.provenance import Provenance, read_provenance
from fsd_gs.export.sog_read import is_sog_folder

_WORDS = {"prompt": "prompt", "seed": "seed", "config": "settings", "prior": "prior", "licence": "licence", "version": "made with fsd_gs"}


def make_parser(program: str) -> commandline.Parser:
    """The options of ``fsd-gs info``."""
    parser = commandline.make_parser(program, "Say what files hold and where they come from.")
    parser.add_argument("files", metavar="RUN_OR_FILE", nargs="+", type=Path, help="splats, meshes, pictures or videos, or a run's folder")
    return parser


def main(arguments: Sequence[str], program: str = "fsd-gs info") -> int:
    """Print it, one ``name: value`` a line, file by file; 0."""
    for path in commandline.parse(make_parser(program), arguments).files:
        for name, value in describe(path):
            print(f"{name}: {value}")
    return 0


def describe(path: Path) -> Iterator[tuple[str, str]]:
    """(name, value) of everything known of a file. Raises FileFormatError for a file that is missing or damaged."""
    if path.is_dir() and not (path / "meta.json").is_file():
        path, _ = find_splats(path)
    if not path.exists():
        raise FileFormatError(f"{path}: file not found; check the path")
    yield "file", str(path)
    yield "size", f"{sum(map(file_size, path.iterdir())) if path.is_dir() else file_size(path):,} bytes"
    origin = read_provenance(path / "meta.json" if path.is_dir() else path)
    if is_sog_folder(path) or path.suffix.lower() in LOADERS:
        yield from _contents(path)
    yield from _origin(origin)


def _contents(path: Path) -> Iterator[tuple[str, str]]:
    mesh = path.suffix.lower() in MESH_AXES
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            splats = load_splats(path)
        except FileFormatError as error:
            if not (mesh and any(words in str(error) for words in ("holds no splats", "this is a mesh", "this is a point cloud"))):
                raise
            yield from _mesh(path)
            return
    yield from _splats(splats)
    frame = frame_of(path)
    yield "axes", "not said; the extent is that of the numbers" if frame is None else f"{frame} ({FRAMES[frame].words})"
    for warning in caught:
        yield "warning", str(warning.message)


def _splats(splats: Gaussians) -> Iterator[tuple[str, str]]:
    yield "splats", f"{len(splats):,}"
    yield "SH degree", str(splats.sh_degree)
    if len(splats):
        yield "extent", _box(splats.means.amin(0).tolist(), splats.means.amax(0).tolist())


def _mesh(path: Path) -> Iterator[tuple[str, str]]:
    from fsd_gs.meshes.read import read_surfaces, to_world, up_of

    surfaces = read_surfaces(path)
    corners = [to_world(s.corners.reshape(-1, 3), up_of(path)) for s in surfaces]
    yield "faces", f"{sum(len(s.corners) for s in surfaces):,}"
    yield "colours", "texture" if any(s.texture is not None for s in surfaces) else "vertices or material"
    yield (
        "extent",
        _box(
            [min(float(c[:, i].min()) for c in corners) for i in range(3)], [max(float(c[:, i].max()) for c in corners) for i in range(3)]
        ),
    )
    frame = MESH_AXES[path.suffix.lower()].frame
    yield "axes", f"{frame} ({FRAMES[frame].words})"


def _box(low: Sequence[float], high: Sequence[float]) -> str:
    """Ranges along x, y and z of our world (z up)."""
    return ", ".join(f"{axis} {a:.4g} to {b:.4g}" for axis, a, b in zip("xyz", low, high, strict=True)) + " (z up)"


def _origin(origin: Provenance | None) -> Iterator[tuple[str, str]]:
    known = {} if origin is None else origin.known()
    if not any(name in known for name in _WORDS):
        yield "origin", "the file does not say"
    for name, words in _WORDS.items():
        if name in known:
            yield words, " ".join(str(known[name]).split())
