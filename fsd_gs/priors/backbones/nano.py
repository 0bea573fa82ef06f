"""An MVDream-like network that reads prompts in the catalogue's words and is told the background: what ``fsd-gs train-prior`` makes.

    y = "a red chair with a tall back, on a white background"

The network comes from a diffusers folder like any other, whose model_index.json says ``names_background``; nothing here touches the
denoising. With a head that draws splats it is the embedded prior (``backbones/splat.py``), whose folder is :data:`WEIGHTS`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from fsd_gs.catalogue.vocabulary import Vocabulary
from fsd_gs.core.backgrounds import in_front_of, nearest_background
from fsd_gs.core.device import multiplies_bfloat16
from fsd_gs.core.types import Cameras
from fsd_gs.priors import folders, supported
from fsd_gs.priors.backbones.mvdream import VIEWS, MVDreamPrior, load_multi_view_parts, prompt_habits
from fsd_gs.priors.digests import verify
from fsd_gs.priors.family import Family, Folder, Request
from fsd_gs.priors.latent import LatentCodec
from fsd_gs.priors.nano.patch_code import PatchCode, read_encoder
from fsd_gs.priors.networks import UNet
from fsd_gs.priors.options import LoadOptions
from fsd_gs.priors.reader import CatalogueReader, trained_captions
from fsd_gs.priors.schedule import DiscreteSchedule
from fsd_gs.priors.text import EmbeddedText, TextBank

WEIGHTS = Path(__file__).parent.parent / "nano" / "weights"


class NanoPrior(MVDreamPrior):
    """``reader``: puts prompts into the words of the training captions; None hands them to the text encoder as they are."""

    names_background = True

    def __init__(
        self,
        network: UNet,
        codec: LatentCodec,
        bank: TextBank,
        schedule: DiscreteSchedule,
        options: LoadOptions,
        prediction: str,
        views: int = VIEWS,
        suffix: str = "",
        *,
        reader: CatalogueReader | None,
    ) -> None:
        super().__init__(network, codec, bank, schedule, options, prediction, views, suffix)
        self.reader = reader
        self.code: PatchCode | None = None  # what its autoencoder computes, where that is linear

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words it knows; None where prompts go to the text encoder as they are."""
        return self.reader.vocabulary if self.reader else None

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None, background: Tensor | None = None) -> EmbeddedText:
        """Both prompts in front of the named colour that is nearest to ``background`` [3]: guidance must not push against it.

        InputError for a prompt that names nothing that was trained; unknown words are named in a log line, once, and left out.
        """
        if self.reader is not None:
            prompt, negative_prompt = self.reader.caption(prompt), self.reader.negative(negative_prompt)
        if background is None:
            return super().encode_text(prompt, negative_prompt, cameras)
        name = nearest_background(background)
        said = super().encode_text(in_front_of(prompt, name), in_front_of(negative_prompt, name), cameras)
        return replace(said, prompt=prompt, negative_prompt=negative_prompt, background=background)


P = TypeVar("P", bound=NanoPrior)


def load(request: Request) -> NanoPrior:
    """A folder of ``fsd-gs train-prior``'s making."""
    return load_as(NanoPrior, request)[0]


def load_as(kind: type[P], request: Request) -> tuple[P, Folder]:
    """The prior that ships with the package, or a folder, as a ``kind``. Small: on CPUs with matrix units for it bfloat16 is faster, and
    there is no memory to be saved by checkpointing."""
    folder = folders.open_folder(verify(WEIGHTS) if request.place is None else request.path)
    options = replace(request.options, vae_checkpointing=False)
    if request.auto and multiplies_bfloat16(request.device):
        request = replace(request, dtype=torch.bfloat16)
    reader = _reader(folder) if folder.index.get("vocabulary") == "catalogue" else None
    parts = load_multi_view_parts(folder, replace(request, options=options), RULES)
    prior = kind(*parts, *prompt_habits(folder), reader=reader)
    # Forty layers that are one matrix were two fifths of a step. Asked in float32, for bfloat16 would not hold the matrix.
    code = None if options.tiny_vae else read_encoder(folders.load_vae(folder, torch.float32))
    if code is not None:
        prior.code = code.to(request.device)
        prior.codec.encode_by(prior.code.encode)
    prior.sampler = folder.configs["scheduler"]
    return prior, folder


def _reader(folder: Folder) -> CatalogueReader:
    return CatalogueReader(tuple(folder.index.get("categories", ())), trained_captions(folder.index, folder.path))


def recognises(folder: Folder) -> bool:
    """A folder of ``fsd-gs train-prior``'s making: a small network that is told the colour behind the object."""
    return bool(folder.index.get("names_background"))


# The caption as a whole joins the time embedding, too.
RULES = supported.UNET.allow(class_embed_type=("projection",), addition_embed_type=(None, "text"))

FAMILY = Family(name="nano", load=load, recognises=recognises, network="UNet2DConditionModel")
