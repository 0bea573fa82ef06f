"""The splat-native prior (:mod:`fsd_gs.priors.splat`): folders of ``fsd-gs train-prior --network splat``'s making."""

from __future__ import annotations

import torch

from fsd_gs.core.device import multiplies_bfloat16
from fsd_gs.errors import ConfigError
from fsd_gs.priors import folders
from fsd_gs.priors.digests import CHECKSUMS, verify
from fsd_gs.priors.family import Family, Folder, Request
from fsd_gs.priors.reader import CatalogueReader
from fsd_gs.priors.splat.folder import NETWORK, load_network
from fsd_gs.priors.splat.network import SIZE
from fsd_gs.priors.splat.prior import SplatPrior


def load(request: Request) -> SplatPrior:
    """The latents are pixels: ``image_size`` sets their number, 64 unless it is given."""
    options = request.options
    if options.lora or options.tiny_vae:
        raise ConfigError(f"prior: {request.path} is a splat-native prior; it has no VAE to replace and takes no LoRA")
    if (request.path / CHECKSUMS).is_file():
        verify(request.path)
    folder = folders.open_folder(request.path)
    network = load_network(request.path, request.device)
    bfloat16 = multiplies_bfloat16(request.device) if request.auto else request.dtype == torch.bfloat16
    image_size = options.image_size or SIZE
    dtype = torch.bfloat16 if bfloat16 else None
    named = folder.index.get("vocabulary") == "catalogue"
    reader = CatalogueReader(tuple(folder.index.get("categories", ()))) if named else None
    return SplatPrior(network, image_size, reader, dtype)


def recognises(folder: Folder) -> bool:
    """A folder whose denoiser draws Gaussians."""
    return folder.transformer.get("_class_name") == NETWORK


FAMILY = Family(name="splat", load=load, recognises=recognises, network=NETWORK)
