"""The embedded prior: a small MVDream whose clean views are renders of one set of Gaussians (:mod:`fsd_gs.priors.splat`).

    x̂_0 = E(g(G_φ(x_t, t, y, c), c))  for t ≥ t_d,   x̂_0 = α x_t − σ v_φ  below;   ε_φ = (x_t − α x̂_0)/σ

G_φ: the UNet and :class:`~fsd_gs.priors.splat.network.SplatHead`; g: the rasterizer; E: the code of the latents, which is linear. Guidance
combines what the UNet says, v and features, of the prompt and of the negative prompt; one set of Gaussians is drawn from that.

What an object is like is decided at high noise, and there the views must not disagree. Later the splats that are distilled hold them
together, and each of them is finer as the UNet draws it than as a render of one Gaussian a pixel: an expert for each part of the path
(eDiff-I, arXiv 2211.01324), the later one at half the price. t_d is ``prior.drawn_from``, 0.65; its own samples, which nothing else holds
together, are drawn at all times (t_d = 0, ``--config direct``). Without cameras (2D) it is the UNet alone.

A folder of ``fsd-gs train-prior --network splat``'s making is a diffusers folder with one component more, ``splats``. The one that ships
with the package is what ``prior.name=nano`` means.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from fsd_gs.core.types import Cameras, Gaussians, TextCondition, check_shape
from fsd_gs.errors import ConfigError, FileFormatError, InputError
from fsd_gs.priors.backbones import nano
from fsd_gs.priors.backbones.nano import NanoPrior
from fsd_gs.priors.digests import CHECKSUMS, verify
from fsd_gs.priors.family import Family, Folder, Request
from fsd_gs.priors.splat.draw import asset, draw
from fsd_gs.priors.splat.folder import COMPONENT, HEAD, VERSION, load_head
from fsd_gs.priors.splat.network import SplatHead, WithFeatures
from fsd_gs.priors.splat.volume import RADIUS, Rays, stack_rays

FOV_RANGE_DEG = (15.0, 80.0)
FILL_RANGE = (0.5, 1.6)  # radius of the ball's image in half images


class SplatPrior(NanoPrior):
    """A :class:`NanoPrior` with a head: :meth:`attach` gives it one."""

    head: SplatHead

    def attach(self, head: SplatHead) -> None:
        """Let the network's predictions be renders of what ``head`` makes of them, at high noise."""
        network: Any = self.network
        network.conv_out = WithFeatures(network.conv_out)
        self.head, self.prediction = head, "sample"

    def _guided(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor:
        """x̂_0 [B, C, h, w] of B views, ``views`` of which belong together."""
        output = super()._guided(latents_t, t, text, cameras, cfg_scale)
        return self._clean(output, latents_t, t, cameras, text.background)

    def predict_noise_trainable(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None) -> Tensor:
        """ε_lora [B, C, h, w] for the text alone, drawn when the frozen prediction is."""
        output = self.trainable_output(latents_t, t, text, cameras)
        return self.noise_from_output(self._clean(output, latents_t, t, cameras, text.background), latents_t, t)

    @torch.no_grad()
    def predict_splats(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras, cfg_scale: float = 1.0) -> Gaussians:
        """The Gaussians that the network sees in V noisy views of one object: what no other prior can say.

        Args:
            latents_t: [V, C, h, w], V ≥ 1.
            t: [] or [V] in [0, 1], one time for all views.
            text: from :meth:`encode_text`.
            cameras: of the V views.
            cfg_scale: guidance, as in :meth:`predict_noise`.

        Returns:
            One asset of SH degree 0, in the world's frame.

        Raises:
            InputError: cameras outside the range that the network was trained for.
        """
        check_shape("latents_t", latents_t, (len(cameras), *self.latent_shape))
        check_cameras(cameras)
        rays = _rays([cameras], latents_t)
        together = copy.copy(self)
        together.views = len(cameras)
        output = super(SplatPrior, together)._guided(latents_t, t, text, cameras, cfg_scale)
        maps = self.head(output, latents_t, *self._alpha_sigma(latents_t, t), rays, self.dtype)
        return asset(self.head.gaussians(maps, 0, rays))

    def _clean(self, output: Tensor, latents_t: Tensor, t: Tensor, cameras: Cameras | None, background: Tensor | None) -> Tensor:
        """x̂_0 from what the UNet said, [B, C + F, h, w]; t [] or [B]. background: [3], where it is known."""
        alpha, sigma = self._alpha_sigma(latents_t, t)
        own = alpha * latents_t - sigma * output[:, : latents_t.shape[1]]
        if cameras is None:
            return own
        check_cameras(cameras)
        early = (t >= self.options.drawn_from).to(own.device)
        if not early.any():
            return own
        drawn = self._drawn(output, latents_t, alpha, sigma, cameras, background)
        return torch.where(early.view(-1, 1, 1, 1), drawn, own)

    def _drawn(
        self, output: Tensor, latents_t: Tensor, alpha: Tensor, sigma: Tensor, cameras: Cameras, background: Tensor | None
    ) -> Tensor:
        """The encoded renders of one set of Gaussians for each ``views`` views, [B, C, h, w]."""
        groups = [cameras[k : k + self.views] for k in range(0, len(cameras), self.views)]
        rays = _rays(groups, output)
        maps, renders = self.head(output, latents_t, alpha, sigma, rays, self.dtype), []
        for k, group in enumerate(groups):
            behind = self.head.backdrop(maps, k) if background is None else background.to(output.device, torch.float32)
            renders.append(draw(self.head.gaussians(maps, k, rays), _small(group, self.image_size, output), behind)[0])
        return self.codec.encode(torch.cat(renders)).to(latents_t.dtype)


def _small(cameras: Cameras, size: int, like: Tensor) -> Cameras:
    return cameras.to(like.device, torch.float32).resized(size, size)


def _rays(groups: list[Cameras], like: Tensor) -> Rays:
    """Of each object's cameras, [B, V, …]."""
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

FAMILY = Family(name="splat", load=load, recognises=recognises, built_in="nano", network=HEAD)
