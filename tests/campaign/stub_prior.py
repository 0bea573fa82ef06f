"""A prior without weights for runs of a fraction of a second: its clean image is green everywhere."""

import torch

from fsd_gs.config import Config, load_config
from fsd_gs.core.types import TextCondition
from fsd_gs.priors.schedule import DiscreteSchedule

TINY = [
    "prompt=a green egg",
    "steps=16",
    "render.sizes=[16]",
    "splats.count=60",
    "densify.every=3",
    "densify.cap=80",
    "cameras.views=2",
    "outputs.turntable_frames=2",
    "outputs.turntable_size=16",
    "outputs.preview_every=6",
    "outputs.checkpoint_every=4",
    "outputs.clean=false",
    "device=cpu",
]


class GreenPrior:
    schedule = DiscreteSchedule.scaled_linear()
    latent_shape = (3, 16, 16)
    image_size = 16
    views = 1

    def encode_text(self, prompt, negative_prompt, cameras, background=None):
        return TextCondition(prompt, negative_prompt)

    def encode(self, rgb):
        return rgb * 2 - 1

    def decode(self, latents):
        return (latents + 1) / 2

    def predict_noise(self, latents_t, t, text, cameras, cfg_scale):
        clean = torch.tensor([-1.0, 1.0, -1.0])[:, None, None]
        return (latents_t - self.schedule.alpha(t) * clean) / self.schedule.sigma(t)


def tiny(output, *overrides: str) -> Config:
    return load_config(overrides=[*TINY, f"output={output}", *overrides])
