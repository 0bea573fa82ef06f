"""Every format in one table: name → exporter, suffix, kind.

An exporter is any function (gaussians, path, options) → None. A new format is one new file and one line in ``EXPORTERS``. How the files of
a format stand is one line in ``core.file_axes``: :func:`export` turns splats to it before the exporter sees them (kind "splats"), exporters
of meshes, pictures and pages get the splats of our world. ``--target`` replaces the frame where the format leaves a choice.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from fsd_gs.core.file_axes import FRAMES, MESH_AXES, SPLAT_AXES, FormatAxes, splat_axes
from fsd_gs.core.sheets import Frame, contact_sheet
from fsd_gs.core.types import Gaussians
from fsd_gs.errors import FileFormatError, InputError, unknown_name
from fsd_gs.export.axes import TARGETS, from_target, to_target, turn_up
from fsd_gs.export.compressed_ply import load_compressed_ply, save_compressed_ply
from fsd_gs.export.framing import framed
from fsd_gs.export.gate import MAX_SPLATS, describe, read_start, readable
from fsd_gs.export.html import save_html
from fsd_gs.export.ksplat import load_ksplat
from fsd_gs.export.mesh import collision_hulls, extract_mesh, save_mesh
from fsd_gs.export.options import ExportOptions
from fsd_gs.export.pictures import SplatRasterizer, TurntableSettings, save_gif, save_png, turntable_frames
from fsd_gs.export.ply import load_ply, save_ply
from fsd_gs.export.ply_file import read_header
from fsd_gs.export.provenance import Provenance, read_provenance
from fsd_gs.export.quantise import finite_splats
from fsd_gs.export.sog import save_sog
from fsd_gs.export.sog_read import is_sog_folder, load_sog
from fsd_gs.export.splat import load_splat, save_splat
from fsd_gs.export.splat_glb import load_splat_glb, save_splat_glb
from fsd_gs.export.spz import load_spz, save_spz
from fsd_gs.export.stored import pad_sh
from fsd_gs.export.usd import load_usd, save_usd
from fsd_gs.export.video import save_mp4

Kind = Literal["splats", "mesh", "picture", "page"]


class SplatWriter(Protocol):
    """Writes splats as they are; warnings, or with ``strict`` InputError, say what the format cannot hold."""

    def __call__(self, gaussians: Gaussians, path: Path, *, strict: bool) -> None: ...


class Loader(Protocol):
    """Reads splats as they are in the file."""

    def __call__(self, path: Path, *, max_splats: int) -> Gaussians: ...


class Exporter(Protocol):
    """Writes splats to ``path``, atomically."""

    def __call__(self, gaussians: Gaussians, path: Path, options: ExportOptions) -> None: ...


@dataclass(frozen=True)
class Format:
    """One line of the table.

    Args:
        export: the exporter.
        suffix: of its files; the longest that fits a name wins.
        description: for the help.
        kind: "splats" can be read again; "mesh" and "picture" need a rasterizer; "page" is a picture that moves.
    """

    export: Exporter
    suffix: str
    description: str
    kind: Kind

    @property
    def axes(self) -> FormatAxes | None:
        """How its files stand; None for pictures and pages, which have no axes."""
        table = {"splats": SPLAT_AXES, "mesh": MESH_AXES}.get(self.kind, {})
        return table.get(self.suffix) or table.get(Path(self.suffix).suffix)

    @property
    def targets(self) -> tuple[str, ...]:
        """The frames that can be chosen; () where the format leaves no choice."""
        return tuple(TARGETS) if self.kind == "splats" and not (self.axes and self.axes.fixed) else ()

    @property
    def needs_rasterizer(self) -> bool:
        return self.kind in ("mesh", "picture")


def _splats(write: SplatWriter) -> Exporter:
    """An exporter from a function that writes splats as they are and has no place for words."""
    return lambda gaussians, path, options: write(gaussians, path, strict=options.strict)


def _export_ply(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_ply(gaussians, path, comments=options.provenance.comments(), strict=options.strict)


def _export_compressed_ply(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_compressed_ply(gaussians, path, comments=options.provenance.comments(), strict=options.strict)


def _export_sog(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_sog(gaussians, path, provenance=options.provenance.known(), strict=options.strict)


def _export_splat_glb(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_splat_glb(gaussians, path, provenance=options.provenance, strict=options.strict)


def _export_usd(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_usd(gaussians, path, provenance=options.provenance, strict=options.strict)


def _export_html(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_html(gaussians, path, title=options.title, provenance=options.provenance.text())


def _export_mp4(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_mp4(_frames(gaussians, path, options), path, fps=options.turntable.fps, metadata={"comment": options.provenance.text()})


def _export_gif(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    save_gif(_frames(gaussians, path, options), path, fps=options.turntable.fps, comment=options.provenance.text())


def _frames(gaussians: Gaussians, path: Path, options: ExportOptions) -> Iterator[Frame]:
    return turntable_frames(framed(gaussians).gaussians, _rasterizer(options, path), options.turntable, options.progress)


def _export_png(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    views = options.sheet_views
    turntable = TurntableSettings(**{**vars(options.turntable), "frames": views})
    frames = list(turntable_frames(framed(gaussians).gaussians, _rasterizer(options, path), turntable, options.progress))
    sheet = contact_sheet(frames, options.sheet_columns, labels=[f"{360 * i / views:g}°" for i in range(views)])
    save_png(sheet, path, metadata=options.provenance.chunks())


def _export_mesh(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    mesh = extract_mesh(gaussians, _rasterizer(options, path), options.mesh, options.progress)
    save_mesh(mesh, path, file_type=path.suffix[1:].lower(), provenance=options.provenance)


def _export_mesh_ply(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    _export_mesh(gaussians, path, replace(options, mesh=replace(options.mesh, texture=0)))  # a .ply has no place for a texture


def _export_collision(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    settings = replace(options.mesh, texture=0)
    mesh = extract_mesh(gaussians, _rasterizer(options, path), settings, options.progress)
    save_mesh(collision_hulls(mesh), path, file_type="glb", provenance=options.provenance)


def _rasterizer(options: ExportOptions, path: Path) -> SplatRasterizer:
    if options.rasterizer is None:
        raise InputError(f"rasterizer: writing {path.name} renders the splats; pass one, such as fsd_gs.render.make_rasterizer('auto')")
    return options.rasterizer


EXPORTERS: dict[str, Format] = {
    "ply": Format(_export_ply, ".ply", "standard 3DGS splats, lossless", "splats"),
    "compressed-ply": Format(_export_compressed_ply, ".compressed.ply", "quantised splats, 4× smaller than ply", "splats"),
    "splat": Format(_splats(save_splat), ".splat", "32 bytes a splat, base colour only", "splats"),
    "spz": Format(_splats(save_spz), ".spz", "Niantic SPZ 3, 5 to 8× smaller than ply", "splats"),
    "sog": Format(_export_sog, ".sog", "PlayCanvas SOG, 4 to 5× smaller than ply", "splats"),
    "splat-glb": Format(_export_splat_glb, ".splat.glb", "splats in glTF (KHR_gaussian_splatting), lossless", "splats"),
    "usda": Format(_export_usd, ".usda", "splats in OpenUSD 26.3 (ParticleField3DGaussianSplat), text", "splats"),
    "usdc": Format(_export_usd, ".usdc", "the same, binary", "splats"),
    "usdz": Format(_export_usd, ".usdz", "the same in one package", "splats"),
    "glb": Format(_export_mesh, ".glb", "mesh with a baked texture or vertex colours (glTF)", "mesh"),
    "obj": Format(_export_mesh, ".obj", "the same as .obj, with .mtl and .png for the texture", "mesh"),
    "mesh-ply": Format(_export_mesh_ply, ".mesh.ply", "the same with vertex colours", "mesh"),
    "collision": Format(_export_collision, ".collision.glb", "a convex hull for each piece, for a physics engine", "mesh"),
    "html": Format(_export_html, ".html", "interactive viewer, one offline file", "page"),
    "mp4": Format(_export_mp4, ".mp4", "turntable video", "picture"),
    "gif": Format(_export_gif, ".gif", "turntable animation", "picture"),
    "png": Format(_export_png, ".png", "contact sheet", "picture"),
}


def known_format(name: str) -> Format:
    """The line of ``EXPORTERS``; InputError if there is none of that name."""
    if name not in EXPORTERS:
        raise InputError(unknown_name("format", name, EXPORTERS))
    return EXPORTERS[name]


def frame_for(chosen: Format, target: str | None) -> str:
    """The frame in which ``chosen`` is written for ``target``: the target where there is a choice, else the format's own."""
    if target is not None and target not in TARGETS:
        raise InputError(unknown_name("target", target, TARGETS))
    if target is not None and target in chosen.targets:
        return target
    return chosen.axes.frame if chosen.axes else "raw"


def untouched_by(target: str | None, formats: Iterable[str]) -> str | None:
    """One line that says which of ``formats`` ``target`` does not change, and how their files stand; None if it fits all of them."""
    fixed: dict[str, list[str]] = {}
    for name in formats:
        chosen = known_format(name)
        if target is not None and frame_for(chosen, target) != target:
            axes = chosen.axes
            fixed.setdefault(f"keeps its own axes ({FRAMES[axes.frame].words})" if axes else "has no axes", []).append(name)
    if not fixed:
        return None
    parts = [
        f"{', '.join(names)} {words if len(names) == 1 else words.replace('keeps its', 'keep their').replace('has', 'have')}"
        for words, names in fixed.items()
    ]
    return f"target {target}: {'; '.join(parts)}"


def export(gaussians: Gaussians, path: str | os.PathLike[str], format_name: str, options: ExportOptions | None = None) -> None:
    """Write ``gaussians`` (our world) as ``format_name``, one of ``EXPORTERS``.

    A target that does not fit the format is left out with a warning. Raises InputError for an unknown format or target.
    """
    options = options or ExportOptions()
    chosen = known_format(format_name)
    frame = frame_for(chosen, options.target)
    ignored = untouched_by(options.target, [format_name])
    if ignored:
        warnings.warn(ignored, stacklevel=2)
    sh_pad = options.sh_pad
    if chosen.kind == "splats":
        # The Unity plugin reads rows of 62 floats and nothing else.
        sh_pad = 3 if sh_pad is None and frame == "unity" and chosen.suffix == ".ply" else sh_pad
        gaussians = pad_sh(to_target(gaussians, frame), sh_pad)
    else:
        gaussians = finite_splats(gaussians, path, options.strict)  # writers of splats do so themselves
    origin = replace(options.provenance, axes=frame if chosen.axes else None)
    chosen.export(gaussians, Path(path), replace(options, target=frame, sh_pad=sh_pad, provenance=origin))


def format_of(path: str | os.PathLike[str]) -> str:
    """Name of the format that the suffix of ``path`` means."""
    name = Path(path).name.lower()
    matches = [key for key, entry in EXPORTERS.items() if name.endswith(entry.suffix)]
    if not matches:
        suffixes = ", ".join(entry.suffix for entry in EXPORTERS.values())
        raise InputError(f"path: no format has the suffix of '{Path(path).name}' (known: {suffixes})")
    return max(matches, key=lambda key: len(EXPORTERS[key].suffix))  # .compressed.ply before .ply


def save_splats(
    gaussians: Gaussians,
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    sh_pad: int | None = None,
    provenance: Provenance | None = None,
    strict: bool = False,
) -> None:
    """Write splats in the format of the suffix; ``load_splats`` gives the same splats back.

    Args:
        gaussians: splats of our world.
        path: its suffix is that of a format of kind "splats" or "page" in ``EXPORTERS``.
        target: frame of the file. None: the one the format's readers expect (``core.file_axes``), or our own where the file has no place to
            say which it is (.splat). "raw" is our own world (z up).
        sh_pad: zero SH coefficients up to this degree.
        provenance: written into the file where it has a place for it.
        strict: refuse values that the format cannot hold, instead of a warning that counts them.

    Raises:
        InputError: the suffix is of no such format, or there are no splats where the format needs one.
    """
    format_name = format_of(path)
    chosen = EXPORTERS[format_name]
    if chosen.needs_rasterizer:
        raise InputError(f"path: {chosen.suffix} is not a splat file; use fsd_gs.export.export with a rasterizer, or export.py")
    if target is None and chosen.axes and not (chosen.axes.fixed or chosen.axes.says):
        target = "raw"
    options = ExportOptions(target=target, sh_pad=sh_pad, provenance=provenance or Provenance(), strict=strict)
    export(gaussians, path, format_name, options)


def _load_any_ply(path: Path, *, max_splats: int) -> Gaussians:
    header = read_header(path)
    if header.is_compressed_splats:
        return load_compressed_ply(path, max_splats=max_splats, header=header)
    return load_ply(path, max_splats=max_splats, as_stored=True, header=header)


#: Suffix → reader. ``.ply`` also covers the compressed kind: the header tells. A folder with a meta.json, or that file, is unbundled SOG.
LOADERS: dict[str, Loader] = {
    ".ply": _load_any_ply,
    ".splat": load_splat,
    ".spz": load_spz,
    ".sog": load_sog,
    ".ksplat": load_ksplat,
    ".glb": load_splat_glb,
    ".gltf": load_splat_glb,
    ".usda": load_usd,
    ".usdc": load_usd,
    ".usdz": load_usd,
}


def loader_of(path: Path) -> Loader:
    """The reader of the suffix of ``path``; FileFormatError if there is none."""
    if is_sog_folder(path):
        return load_sog
    if path.suffix.lower() not in LOADERS:
        kind = describe(read_start(path))
        known = f"can be read: {', '.join(LOADERS)}, or the meta.json of SOG"
        raise FileFormatError(f"{path}: unknown suffix '{path.suffix}' ({known})" + (f"; this is {kind}" if kind else ""))
    return LOADERS[path.suffix.lower()]


def load_splats(path: str | os.PathLike[str], *, target: str | None = None, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Read .ply (standard or compressed), .splat, .spz, .sog (also unbundled), .ksplat, .glb, .gltf or USD: float32, CPU, in our world.

    Args:
        path: the file; its suffix says what it is. A folder with the meta.json of SOG, or that file, will do as well.
        target: the frame the file was written in. None: the one its specification fixes, or that the file names, or else our own, so that
            the numbers stay as they are. "raw" leaves them in any case.
        max_splats: more are refused before anything is decoded.

    Raises:
        FileFormatError: the file is missing, truncated, damaged, too large, or holds no splats.
    """
    path = Path(path)
    with readable(path):
        splats = loader_of(path)(path, max_splats=max_splats)
        return from_target(splats, frame_of(path) or "raw" if target is None else target)


def holds_splats(path: Path) -> bool:
    """Whether a file is to be read as splats: its suffix says so, and of those that meshes have as well, its beginning does."""
    suffix = path.suffix.lower()
    if suffix not in MESH_AXES:
        return suffix in LOADERS or is_sog_folder(path)
    if not path.is_file():
        return suffix == ".ply"  # whose reader says best what is missing
    with readable(path), path.open("rb") as stream:
        start = stream.read(1 << 20)
    return any(words in start for words in (b"f_dc_0", b"packed_position", b"KHR_gaussian_splatting"))


def frame_of(path: Path) -> str | None:
    """The frame of a splat file, by its specification or its own words; None where neither says."""
    axes = splat_axes(path)
    if axes.fixed:
        return axes.frame
    origin = read_provenance(path / "meta.json" if path.is_dir() else path)
    return origin.axes if origin is not None and origin.axes in FRAMES else None


def load_upright(path: str | os.PathLike[str], up: str = "auto", *, max_splats: int = MAX_SPLATS) -> Gaussians:
    """Splats of a file with ``up``, one of ``UP_PRESETS``, turned to z; "auto" as :func:`load_splats` without a target."""
    if up == "auto":
        return load_splats(path, max_splats=max_splats)
    return turn_up(load_splats(path, target="raw", max_splats=max_splats), up)
