"""Every format in one table: name → exporter, suffix, and the axes it can be written in.

An exporter is any function (gaussians, path, options) → None. A new format is one new file and one line in ``EXPORTERS``. The
splats that an exporter gets are in our world; it turns them to ``options.target`` itself, because some formats fix their own axes:

* ply, compressed-ply, splat, sog carry no axes: the target says what the reader expects. By default y down, z forward (``supersplat``),
  as COLMAP and the reference code have it.
* spz is y up by specification (RUB), and a reader that keeps to it turns the splats for its own world: the numbers are the same
  for every such target.
* glb and obj are meshes, y up; importers turn them themselves.
* html, mp4, gif and png are pictures: there are no axes to choose.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError, unknown_name
from fsd_gs.export.antimatter import load_splat, save_splat
from fsd_gs.export.axes import TARGETS, from_target, to_target
from fsd_gs.export.compressed_ply import load_compressed_ply, save_compressed_ply
from fsd_gs.export.framing import framed
from fsd_gs.export.html import save_html
from fsd_gs.export.mesh import MeshSettings, extract_mesh, save_mesh
from fsd_gs.export.packed import load_packed, save_spz
from fsd_gs.export.pictures import (
    Progress,
    SplatRasterizer,
    TurntableSettings,
    contact_sheet,
    save_gif,
    save_png,
    turntable_frames,
)
from fsd_gs.export.ply import MAX_SPLATS, load_ply, pad_sh, read_header, save_ply
from fsd_gs.export.sog import save_sog
from fsd_gs.export.video import save_mp4


@dataclass
class ExportOptions:
    """target: axes (None: the format's own default). sh_pad: zero SH coefficients up to this degree. title: of the HTML page.
    rasterizer: for meshes and pictures. sheet_views, sheet_columns: layout of the png."""

    target: str | None = None
    sh_pad: int | None = None
    title: str = "splats"
    rasterizer: SplatRasterizer | None = None
    turntable: TurntableSettings = field(default_factory=TurntableSettings)
    mesh: MeshSettings = field(default_factory=MeshSettings)
    sheet_views: int = 8
    sheet_columns: int = 4
    progress: Progress | None = None


class Exporter(Protocol):
    """Writes splats of our world to ``path``, atomically."""

    def __call__(self, gaussians: Gaussians, path: Path, options: ExportOptions) -> None: ...


@dataclass(frozen=True)
class Format:
    """One line of the table. targets: those it can be combined with; () where the format leaves no choice of axes."""

    export: Exporter
    suffix: str
    description: str
    targets: tuple[str, ...] = ()
    needs_rasterizer: bool = False


def _splats(write: Callable[[Gaussians, Path], None], default_target: str) -> Exporter:
    """An exporter from a function that writes splats as they are."""

    def export(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
        write(pad_sh(to_target(gaussians, options.target or default_target), options.sh_pad), path)

    return export


def _export_ply(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    # The Unity plugin reads rows of 62 floats and nothing else.
    sh_pad = 3 if options.target == "unity" and options.sh_pad is None else options.sh_pad
    save_ply(to_target(gaussians, options.target or "supersplat"), path, sh_pad=sh_pad)


def _export_spz(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    # A reader for a y-down world (supersplat) turns RUB to it by itself.
    axes = "raw" if options.target == "raw" else "spark"
    save_spz(pad_sh(to_target(gaussians, axes), options.sh_pad), path)


def _export_html(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_html(gaussians, path, title=options.title)


def _export_mp4(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    frames = turntable_frames(framed(gaussians).gaussians, _rasterizer(options, path), options.turntable, options.progress)
    save_mp4(frames, path, fps=options.turntable.fps)


def _export_gif(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    frames = turntable_frames(framed(gaussians).gaussians, _rasterizer(options, path), options.turntable, options.progress)
    save_gif(frames, path, fps=options.turntable.fps)


def _export_png(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    views = options.sheet_views
    turntable = TurntableSettings(**{**vars(options.turntable), "frames": views})
    frames = list(turntable_frames(framed(gaussians).gaussians, _rasterizer(options, path), turntable, options.progress))
    save_png(contact_sheet(frames, options.sheet_columns, labels=[f"{360 * i / views:g}°" for i in range(views)]), path)


def _export_mesh(file_type: str) -> Exporter:
    def export(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
        mesh = extract_mesh(gaussians, _rasterizer(options, path), options.mesh, options.progress)
        save_mesh(mesh, path, file_type=file_type)

    return export


def _rasterizer(options: ExportOptions, path: Path) -> SplatRasterizer:
    if options.rasterizer is None:
        raise InputError(f"rasterizer: writing {path.name} renders the splats; pass one, such as fsd_gs.render.make_rasterizer('auto')")
    return options.rasterizer


_ANY = tuple(TARGETS)
_MESH = ("spark", "unity", "blender", "unreal")

EXPORTERS: dict[str, Format] = {
    "ply": Format(_export_ply, ".ply", "standard 3DGS splats, lossless", _ANY),
    "compressed-ply": Format(_splats(save_compressed_ply, "supersplat"), ".compressed.ply", "quantised splats, 4× smaller than ply", _ANY),
    "splat": Format(_splats(save_splat, "supersplat"), ".splat", "32 bytes a splat, base colour only", _ANY),
    "spz": Format(_export_spz, ".spz", "Niantic SPZ 3, 5 to 8× smaller than ply", ("raw", "supersplat", "spark")),
    "sog": Format(_splats(save_sog, "supersplat"), ".sog", "PlayCanvas SOG, 4 to 5× smaller than ply", ("raw", "supersplat", "spark")),
    "glb": Format(_export_mesh("glb"), ".glb", "watertight mesh with vertex colours (glTF)", _MESH, needs_rasterizer=True),
    "obj": Format(_export_mesh("obj"), ".obj", "watertight mesh with vertex colours", _MESH, needs_rasterizer=True),
    "html": Format(_export_html, ".html", "interactive viewer, one offline file"),
    "mp4": Format(_export_mp4, ".mp4", "turntable video", needs_rasterizer=True),
    "gif": Format(_export_gif, ".gif", "turntable animation", needs_rasterizer=True),
    "png": Format(_export_png, ".png", "contact sheet", needs_rasterizer=True),
}


def check_combination(format_name: str, target: str | None) -> Format:
    """The format, or InputError if there is none of that name or it cannot be written for ``target``."""
    if format_name not in EXPORTERS:
        raise InputError(unknown_name("format", format_name, EXPORTERS))
    if target is not None and target not in TARGETS:
        raise InputError(unknown_name("target", target, TARGETS))
    chosen = EXPORTERS[format_name]
    if target is not None and target not in chosen.targets:
        if not chosen.targets:
            raise InputError(f"target: {format_name} is a picture or page without axes of its own; leave --target out")
        raise InputError(f"target: {format_name} cannot be written for '{target}' (possible: {', '.join(chosen.targets)}); choose another")
    return chosen


def export(gaussians: Gaussians, path: str | os.PathLike[str], format_name: str, options: ExportOptions | None = None) -> None:
    """Write ``gaussians`` (our world) as ``format_name``, one of ``EXPORTERS``."""
    options = options or ExportOptions()
    check_combination(format_name, options.target).export(gaussians, Path(path), options)


def format_of(path: str | os.PathLike[str]) -> str:
    """Name of the format that the suffix of ``path`` means."""
    name = Path(path).name.lower()
    matches = [key for key, entry in EXPORTERS.items() if name.endswith(entry.suffix)]
    if not matches:
        suffixes = ", ".join(entry.suffix for entry in EXPORTERS.values())
        raise InputError(f"path: no format has the suffix of '{Path(path).name}' (known: {suffixes})")
    return max(matches, key=lambda key: len(EXPORTERS[key].suffix))  # .compressed.ply before .ply


def save_splats(gaussians: Gaussians, path: str | os.PathLike[str], *, target: str = "raw", sh_pad: int | None = None) -> None:
    """Write splats in the format of the suffix: .ply, .compressed.ply, .splat, .spz, .sog or .html.

    target: axes of the file; "raw" keeps our world (z up), so that ``load_splats`` gives the same splats back.
    """
    format_name = format_of(path)
    if EXPORTERS[format_name].needs_rasterizer:
        raise InputError(f"path: .{format_name} is not a splat file; use fsd_gs.export.export with a rasterizer, or export.py")
    export(gaussians, path, format_name, ExportOptions(target=None if format_name == "html" else target, sh_pad=sh_pad))


#: Suffix → reader of splats as they are in the file. ``.ply`` also covers the compressed kind: the header tells.
LOADERS: dict[str, Callable[[Path, int], Gaussians]] = {
    ".ply": lambda path, limit: (load_compressed_ply if read_header(path).is_compressed_splats else load_ply)(path, max_splats=limit),
    ".splat": lambda path, limit: load_splat(path, max_splats=limit),
    ".spz": lambda path, limit: load_packed(path, "spz", max_splats=limit),
    ".sog": lambda path, limit: load_packed(path, "sog", max_splats=limit),
    ".ksplat": lambda path, limit: load_packed(path, "ksplat", max_splats=limit),
}


def load_splats(path: str | os.PathLike[str], *, target: str = "raw", max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read .ply (standard or compressed), .splat, .spz, .sog or .ksplat: float32, CPU, in our world.

    target: the axes the file was written in ("raw": leave the numbers as they are). Raises FileFormatError for a file that is missing,
    truncated or not splats.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: {'this is a folder, not a file' if path.is_dir() else 'file not found'}; check the path")
    if path.suffix.lower() not in LOADERS:
        raise FileFormatError(f"{path}: unknown suffix '{path.suffix}' (can be read: {', '.join(LOADERS)})")
    if path.stat().st_size == 0 and path.suffix.lower() != ".splat":
        raise FileFormatError(f"{path}: the file is empty")
    return from_target(LOADERS[path.suffix.lower()](path, max_splats), target)
