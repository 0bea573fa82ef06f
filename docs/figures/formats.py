"""docs/images/formats.png: one asset written in every format and read again, from the front and from the right.

    python docs/figures/formats.py [RUN_OR_FILE] [OUT.png]      without a run: a mushroom of the catalogue, as splats on its surface

Splats are drawn by the CPU rasterizer, meshes as 150 000 splats on their surface. .ksplat has no writer here:
``tests/splat_files.py`` makes it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from splat_files import ksplat

from fsd_gs.catalogue.objects import make_object
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.rng import make_generator
from fsd_gs.core.sheets import contact_sheet, to_uint8
from fsd_gs.core.types import Gaussians
from fsd_gs.export.formats import EXPORTERS, ExportOptions, export, load_splats
from fsd_gs.export.mesh import MeshSettings
from fsd_gs.export.pictures import save_png
from fsd_gs.render import make_rasterizer
from fsd_gs.splats.initialize import from_mesh_file

CAMERAS = orbit_cameras([20.0, 110.0], 15.0, distance=2.6, width=160)
RASTERIZER = make_rasterizer("cpu")


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    target = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images/formats.png")
    splats = catalogue_mushroom() if source is None else load_splats(source / "splats.ply" if source.is_dir() else source)
    frames, labels = splat_views(splats), ["original", ""]
    with tempfile.TemporaryDirectory() as folder:
        for name, entry in EXPORTERS.items():
            if entry.kind not in ("splats", "mesh") or name == "collision":
                continue
            for texture in (0, 512) if name == "glb" else (0,):
                path = Path(folder) / f"a{entry.suffix}"
                export(splats, path, name, ExportOptions(rasterizer=RASTERIZER, mesh=MeshSettings(96, 256, texture=texture)))
                # .splat says nothing of its axes: as export.py writes it, y down
                shown = mesh_views(path) if entry.kind == "mesh" else load_splats(path, target="supersplat" if name == "splat" else None)
                frames += shown if isinstance(shown, list) else splat_views(shown)
                labels += [f"{name}, {'texture' if texture else 'vertex colours'}" if entry.kind == "mesh" else name, ""]
        (Path(folder) / "a.ksplat").write_bytes(ksplat([splats], 1))
        frames, labels = frames + splat_views(load_splats(Path(folder) / "a.ksplat")), [*labels, "ksplat, read only", ""]
    save_png(contact_sheet(frames, 8, labels=labels), target)


def splat_views(splats: Gaussians) -> list[np.ndarray]:
    return [to_uint8(picture) for picture in RASTERIZER(splats, CAMERAS, background=torch.ones(3)).rgb]


def mesh_views(path: Path) -> list[np.ndarray]:
    """Of many small splats on the surface: each has the colour that the texture, or the corners, give its place."""
    return splat_views(from_mesh_file(path, 150_000, make_generator(0, "figure"), radius=0.9, opacity=0.95))


def catalogue_mushroom() -> Gaussians:
    """A mushroom of the procedural catalogue as small splats."""
    import trimesh

    mesh = make_object("mushroom", 3, color="red").mesh
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mushroom.ply"
        trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=(mesh.colors * 255).astype(np.uint8), process=False).export(path)
        return from_mesh_file(path, 20_000, make_generator(0, "figure"), radius=0.9, opacity=0.95)


if __name__ == "__main__":
    main()
