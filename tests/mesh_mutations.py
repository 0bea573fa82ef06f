"""Seeded damage to mesh files, and both readers of them: of training objects, and of the start of a run."""

import base64
import json
import logging
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from splat_mutations import damage, damage_glb, damage_json
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from fsd_gs.pretrain.asset_mesh import AssetSettings, load_asset
from fsd_gs.splats.initialize import from_mesh_file

FILES = Path(__file__).parent / "data" / "mesh"
MESHES = ["mesh.glb", "mesh.gltf", "mesh.obj", "mesh.ply", "mesh.stl", "mesh.off"]


class MeshMutator:
    """(seed, number) → a damaged file that ends like ``suffix``."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self.samples = _samples(suffix.removeprefix("mesh."))

    def __call__(self, seed: int, number: int) -> bytes:
        rng = np.random.default_rng([seed, number, MESHES.index(self.suffix)])
        sample = self.samples[int(rng.integers(len(self.samples)))]
        inside = {"mesh.glb": damage_glb, "mesh.gltf": damage_json}.get(self.suffix)
        return inside(sample, rng) if inside is not None and rng.random() < 0.7 else damage(sample, rng)

    def read_samples(self, load, folder: Path) -> None:
        """Every good file must be readable, or the damage says nothing."""
        for i, sample in enumerate(self.samples):
            path = folder / f"sample-{i}-{self.suffix}"
            path.write_bytes(sample)
            load(path)


def load_mesh(path: Path) -> None:
    """Both readers; the second is asked whatever the first says."""
    logging.getLogger("trimesh").setLevel(logging.CRITICAL)
    try:
        load_asset(path, path.parent, AssetSettings(lit=True, max_faces=500))
    finally:
        from_mesh_file(path, 50, torch.Generator().manual_seed(0))


def _samples(kind: str) -> list[bytes]:
    box, ball = trimesh.creation.box((1, 2, 1)), trimesh.creation.icosphere(1)
    box.visual.face_colors = [200, 30, 30, 255]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    material = PBRMaterial(baseColorTexture=picture)
    ball = trimesh.Trimesh(ball.vertices, ball.faces, visual=TextureVisuals(uv=ball.vertices[:, :2], material=material), process=False)
    if kind == "glb":
        return [ball.export(file_type="glb"), box.export(file_type="glb")]
    if kind == "gltf":
        files = ball.export(file_type="gltf")
        content = json.loads(files["model.gltf"])
        for entry in [*content["buffers"], *content["images"]]:
            if "uri" in entry:
                entry["uri"] = "data:;base64," + base64.b64encode(files[entry["uri"]]).decode()
        good = ["colours-and-material", "draco", "factor", "quantized", "texture-transform"]
        return [json.dumps(content).encode(), *((FILES / f"{name}.gltf").read_bytes() for name in good)]
    content = box.export(file_type=kind)
    return [content.encode() if isinstance(content, str) else content]
