"""The embedded prior: a small MVDream whose clean views are renders of one set of Gaussians (:mod:`fsd_gs.priors.splat`).

    x̂_0 = E(g(G_φ(x_t, t, y, c), c)),   ε_φ = (x_t − α x̂_0)/σ

G_φ: the UNet and :class:`~fsd_gs.priors.splat.network.SplatHead`; g: the rasterizer; E: the code of the latents, which is linear. Guidance
combines x̂_0 of the prompt and of the negative prompt, each rendered from its own Gaussians. Without cameras (2D) it is the UNet alone.

A folder of ``fsd-gs train-prior --network splat``'s making is a diffusers folder with one component more, ``splats``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, Gaussians, TextCondition, check_shape
from fsd_gs.errors import ConfigError, FileFormatError, InputError
from fsd_gs.priors.backbones import nano
from fsd_gs.priors.backbones.mvdream import camera_numbers
from fsd_gs.priors.backbones.nano import NanoPrior
from fsd_gs.priors.digests import CHECKSUMS, verify
from fsd_gs.priors.family import Family, Folder, Request
from fsd_gs.priors.networks import NetworkCall
from fsd_gs.priors.splat.draw import asset, draw
from fsd_gs.priors.splat.folder import COMPONENT, HEAD, VERSION, load_head
from fsd_gs.priors.splat.network import SplatHead, ViewMaps, WithFeatures
from fsd_gs.priors.splat.volume import RADIUS, Rays, stack_rays
from fsd_gs.priors.text import Embedding, embedded

FOV_RANGE_DEG = (15.0, 80.0)
FILL_RANGE = (0.5, 1.6)  # radius of the ball's image in half images


class SplatPrior(NanoPrior):
    """A :class:`NanoPrior` with a head: :meth:`attach` gives it one."""

    head: SplatHead

    def attach(self, head: SplatHead) -> None:
        """Let the network's predictions be renders of what ``head`` makes of them."""
        network: Any = self.network
        network.conv_out = WithFeatures(network.conv_out)
        self.head, self.prediction = head, "sample"

    def network_output(
        self, call: NetworkCall, latents_t: Tensor, t: Tensor, embedding: Embedding, cameras: Cameras | None, guidance: float
    ) -> Tensor:
        """x̂_0 [k·B, C, h, w] for k copies of B views, ``views`` of which belong together."""
        output = super().network_output(call, latents_t, t, embedding, cameras, guidance).to(latents_t.dtype)
        alpha, sigma = self._alpha_sigma(latents_t, t)
        if cameras is None:
            return alpha * latents_t - sigma * output[:, : latents_t.shape[1]]
        copies = len(latents_t) // len(cameras)
        objects = len(cameras) // self.views
        groups = [cameras[self.views * k : self.views * (k + 1)] for k in range(objects)] * copies
        rays = _rays(groups, output)
        maps = self.head(output, latents_t, alpha, sigma, rays, self.dtype)
        renders = [self._render(maps, k, rays, group) for k, group in enumerate(groups)]
        return self.codec.encode(torch.cat(renders)).to(latents_t.dtype)

    @torch.no_grad()
    def predict_splats(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras) -> Gaussians:
        """The Gaussians that the network sees in V noisy views of one object: what no other prior can say.

        Args:
            latents_t: [V, C, h, w], V ≥ 1.
            t: [] or [V] in [0, 1], one time for all views.
            text: from :meth:`encode_text`; the prompt alone is followed.
            cameras: of the V views.

        Returns:
            One asset of SH degree 0, in the world's frame.

        Raises:
            InputError: cameras outside the range that the network was trained for.
        """
        check_shape("latents_t", latents_t, (len(cameras), *self.latent_shape))
        said, views = embedded(text).positive.expand(len(cameras)), len(cameras)
        time = t.to(latents_t.device).expand(views)
        output = self._forward(
            latents_t.to(self.dtype),
            self.timesteps(time),
            encoder_hidden_states=said.tokens,
            class_labels=camera_numbers(cameras).to(self.device, self.dtype),
            cross_attention_kwargs={"views": views},
            added_cond_kwargs=self.added_conditions(latents_t, said),
            return_dict=False,
        )[0]
        rays = _rays([cameras], latents_t)
        maps = self.head(output.to(latents_t.dtype), latents_t, *self._alpha_sigma(latents_t, t), rays, self.dtype)
        return asset(self.head.gaussians(maps, 0, rays))

    def _render(self, maps: ViewMaps, index: int, rays: Rays, cameras: Cameras) -> Tensor:
        splats = self.head.gaussians(maps, index, rays)
        small = cameras.to(splats.means.device, splats.means.dtype).resized(self.image_size, self.image_size)
        return draw(splats, small, self.head.backdrop(maps, index))[0]


def _rays(groups: list[Cameras], like: Tensor) -> Rays:
    """Of each object's cameras, [B, V, …]."""
    for cameras in groups:
        check_cameras(cameras)
    return stack_rays([Rays.of(cameras.to(like.device, torch.float32)) for cameras in groups])


def check_cameras(cameras: Cameras) -> None:
    """InputError for views that training never showed: the object must about fill them, and be seen whole from outside."""
    fov, distance = cameras.fov_y_deg, cameras.distances
    low, high = FOV_RANGE_DEG
    if (fov < low).any() or (fov > high).any():
        raise InputError(f"cameras.fov_y_deg: the embedded prior knows {low:g}° to {high:g}°, got {fov.min():g}° to {fov.max():g}°")
    fill = RADIUS / (distance * (fov.deg2rad() / 2).tan())
    low, high = FILL_RANGE
    if (fill < low).any() or (fill > high).any():
        near, far = (RADIUS / (share * (fov.deg2rad() / 2).tan()).mean() for share in (high, low))
        raise InputError(
            f"cameras.distance: at this field of view the embedded prior knows {near:.2f} to {far:.2f}, "
            f"got {distance.min():.2f} to {distance.max():.2f}"
        )


def load(request: Request) -> SplatPrior:
    """A folder with a ``splats`` component, its files whole."""
    if request.place is not None and not (request.path / COMPONENT).is_dir():
        raise FileFormatError(f"prior: {request.path} is a splat prior of a version before {VERSION}; train it again")
    if request.options.tiny_vae:
        raise ConfigError("prior.tiny_vae: this prior draws in the code of its own autoencoder; leave it false")
    if request.place is not None and (request.path / CHECKSUMS).is_file():
        verify(request.path)
    prior, folder = nano.load_as(SplatPrior, request)
    if prior.code is None:
        raise FileFormatError(f"prior: {folder.path}: its autoencoder is not the linear code that its splats were trained with")
    prior.attach(load_head(folder.path, prior.code, prior.network.config.block_out_channels[0], request.device))
    return prior


def recognises(folder: Folder) -> bool:
    """A folder of ``fsd-gs train-prior``'s making whose network draws splats; one of the first version, too, to be refused by name."""
    return (folder.path / COMPONENT).is_dir() or folder.transformer.get("_class_name") == FIRST_NETWORK


FIRST_NETWORK = "SplatDenoiser"  # until version 3 it had no UNet

FAMILY = Family(name="splat", load=load, recognises=recognises, network=HEAD)
