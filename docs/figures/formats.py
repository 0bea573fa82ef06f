"""docs/images/formats.png: one asset written in every format and read again, from the front and from the right.

python docs/figures/formats.py [RUN_OR_FILE] [OUT.png]      without a run: a red chair of the catalogue, as splats on its surface
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.rng import make_generator
from fsd_gs.core.sheets import contact_sheet, to_uint8
from fsd_gs.core.types import Gaussians
from fsd_gs.export.formats import EXPORTERS, ExportOptions, export, load_splats
from fsd_gs.export.mesh import MeshSettings
from fsd_gs.export.pictures import save_png
from fsd_gs.render import make_rasterizer
from fsd_gs.splats.initialize import from_mesh_file

SIZE = 160
MESHES = ("glb", "obj", "mesh-ply")


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    target = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images/formats.png")
    rasterizer = make_rasterizer("cpu")
    splats = catalogue_chair() if source is None else load_splats(source / "splats.ply" if source.is_dir() else source)
    frames, labels = views(splats, rasterizer), ["original", ""]
    with tempfile.TemporaryDirectory() as folder:
        for name, entry in EXPORTERS.items():
            if entry.kind not in ("splats", "mesh") or name == "collision":
                continue
            for texture in (0, 512) if name == "glb" else (0,):
                path = Path(folder) / f"a{entry.suffix}"
                export(splats, path, name, ExportOptions(rasterizer=rasterizer, mesh=MeshSettings(96, 256, texture=texture)))
                frames += views(read(path, name), rasterizer)
                labels += [f"{name}, texture" if texture else name, ""]
        # .splat says nothing of its axes: as export.py writes it, y down
    save_png(contact_sheet(frames, 8, labels=labels), target)


def read(path: Path, name: str) -> Gaussians:
    """Splats of a file; of a mesh, small splats on its surface."""
    if name not in MESHES:
        return load_splats(path, target="supersplat" if name == "splat" else None)
    start = from_mesh_file(path, 12_000, make_generator(0, "figure"), radius=0.9, opacity=0.95)
    return start


def views(splats: Gaussians, rasterizer: object) -> list[np.ndarray]:
    cameras = orbit_cameras([20.0, 110.0], 15.0, distance=2.6, width=SIZE)
    return [to_uint8(picture) for picture in rasterizer(splats, cameras, background=torch.ones(3)).rgb]  # type: ignore[operator]


def catalogue_chair() -> Gaussians:
    """A chair of the procedural catalogue as small splats."""
    import trimesh

    from fsd_gs.catalogue.objects import make_object

    mesh = make_object("chair", 3, color="red").mesh
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chair.ply"
        trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=(mesh.colors * 255).astype(np.uint8), process=False).export(path)
        return from_mesh_file(path, 12_000, make_generator(0, "figure"), radius=0.9, opacity=0.95)


if __name__ == "__main__":
    main()
