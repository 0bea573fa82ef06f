"""The catalogue, the user's own meshes, or a mixture of both: what both networks' trainings draw their objects from."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fsd_gs.pretrain.sources import CaptionedObject, CatalogueSource, ObjectSource


class MeshSettings(Protocol):
    """What a training's data settings say of meshes; ``catalogue_share``: of the objects, where there are meshes."""

    seed: int
    meshes: str
    catalogue_share: float
    mesh_up: str
    mesh_lit: bool
    supersample: int


def beside_meshes(catalogue: CatalogueSource, data: MeshSettings) -> ObjectSource:
    """``catalogue`` itself, the meshes of the settings (which have no held-out side), or both."""
    if not data.meshes:
        return catalogue
    from fsd_gs.pretrain.asset_mesh import AssetSettings
    from fsd_gs.pretrain.assets import MeshFolder

    meshes = MeshFolder(data.meshes, AssetSettings(data.mesh_up, data.mesh_lit), seed=data.seed, supersample=data.supersample)
    return MixedSource(meshes, catalogue, data.catalogue_share) if data.catalogue_share else meshes


def vocabulary_name(data: MeshSettings) -> str:
    """How the trained prior reads prompts: "catalogue", or "" for one of meshes alone, which takes them as they are."""
    return "" if data.meshes and not data.catalogue_share else "catalogue"


class MixedSource:
    """Two sources as one :class:`ObjectSource`: new words are learned beside the old ones, not instead of them.

    Args:
        first, second: the sources.
        share: of the objects that come from the second; the index alone decides which.
    """

    def __init__(self, first: ObjectSource, second: ObjectSource, share: float) -> None:
        self.first, self.second, self.share = first, second, share
        self.captions = tuple(sorted({*first.captions, *second.captions}))
        self.words = tuple(sorted({*first.words, *second.words}))

    def draw(self, index: int) -> CaptionedObject:
        chance = np.random.default_rng([20, index]).random()
        return (self.second if chance < self.share else self.first).draw(index)
