"""The splat-native prior behind the seam of all priors: its x̂_0 are renders of one set of Gaussians.

    x̂_0 = g(G_φ(x_t, t, y, c), c),   ε_φ = (x_t − α x̂_0)/σ,   α = cos(π t/2), σ = sin(π t/2)

"Latents" are the pixels themselves in [−1, 1]: there is no autoencoder, and the gradient of distillation is exact. The network looks at
64 px. For an image of k · 64 px, means of k × k pixels keep the picture and divide the noise, which is independent, by k; so the network
is given x̄/√(α² + σ²/k²) and told log(k² α²/σ²). What it draws is rendered at any size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fsd_gs.catalogue.vocabulary import Vocabulary
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras, Gaussians, TextCondition, check_shape
from fsd_gs.errors import InputError
from fsd_gs.priors.latent import resize_antialiased
from fsd_gs.priors.reader import CatalogueReader
from fsd_gs.priors.schedule import combine_cfg
from fsd_gs.priors.splat.draw import draw, gaussians
from fsd_gs.priors.splat.network import SIZE, Condition, SplatDenoiser, SplatField
from fsd_gs.priors.splat.volume import RADIUS, Rays, stack_rays
from fsd_gs.priors.splat.words import encode_words

VIEWS = 4
FOV_RANGE_DEG = (15.0, 80.0)
FILL_RANGE = (0.5, 1.6)  # radius of the ball's image in half images
MIN_LAMBDA = 1e-3  # noisier times than 1/this are told as this, and likewise the cleanest


@dataclass(frozen=True)
class CosineSchedule:
    """α = cos(π t/2), σ = sin(π t/2) (arXiv 2102.09672 without its offset); λ(1) is infinite."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.where(t >= 1, torch.zeros_like(t), (t * (torch.pi / 2)).cos())

    def sigma(self, t: Tensor) -> Tensor:
        return (t * (torch.pi / 2)).sin()

    def lambda_(self, t: Tensor) -> Tensor:
        return self.sigma(t) / self.alpha(t)


@dataclass(frozen=True)
class CaptionText(TextCondition):
    """A prompt in the words of the training.

    Attributes:
        caption, negative: what the network reads.
    """

    caption: str = field(kw_only=True)
    negative: str = field(kw_only=True)


class SplatPrior:
    """A frozen :class:`SplatDenoiser`.

    Args:
        network: In evaluation mode.
        image_size: Side in pixels of the latents, a multiple of 64.
        reader: Puts prompts into the words of the training captions; None hands them to the network as they are.
        dtype: Of the network's transformer, by autocast; None for float32.
    """

    views = VIEWS

    def __init__(
        self,
        network: SplatDenoiser,
        image_size: int = SIZE,
        reader: CatalogueReader | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if image_size < SIZE or image_size % SIZE:
            raise InputError(f"image_size: expected a multiple of {SIZE}, got {image_size}")
        self.network, self.image_size, self.autocast = network, image_size, dtype
        self.reader = reader

    @property
    def schedule(self) -> CosineSchedule:
        return CosineSchedule()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return (3, self.image_size, self.image_size)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words it knows; None where prompts go to the network as they are."""
        return self.reader.vocabulary if self.reader else None

    @property
    def device(self) -> torch.device:
        return self.network.centers.device

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None, background: Tensor | None = None) -> CaptionText:
        """The prompts; the views have no words of their own. background: [3] in [0, 1], told to the network as it is."""
        caption, negative = prompt, negative_prompt
        if self.reader is not None:
            caption, negative = self.reader.caption(prompt), self.reader.negative(negative_prompt)
        return CaptionText(prompt, negative_prompt, background=background, caption=caption, negative=negative)

    def encode(self, rgb: Tensor) -> Tensor:
        """rgb [B, 3, H, W] in [0, 1], resized to ``image_size`` with anti-aliasing → [B, 3, S, S] in [−1, 1]; differentiable in rgb."""
        return 2 * resize_antialiased(rgb, self.image_size) - 1

    def decode(self, latents: Tensor) -> Tensor:
        """[B, 3, S, S] → rgb in [0, 1]."""
        return ((latents + 1) / 2).clamp(0, 1)

    def predict_noise(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor:
        """ε_φ [B, 3, S, S] after CFG; see :class:`fsd_gs.priors.base.Prior`. Without cameras each image is a view of its own object."""
        return self.predict_clean_and_noise(latents_t, t, text, cameras, cfg_scale)[1]

    @torch.no_grad()
    def predict_clean_and_noise(
        self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float
    ) -> tuple[Tensor, Tensor]:
        """(x̂_0, ε_φ) of one prediction, see :class:`fsd_gs.priors.base.CleanPrior`."""
        words = _caption_text(text)
        texts = [words.caption, words.negative]
        if cfg_scale == 1 or cfg_scale == 0:
            texts = [texts[0] if cfg_scale == 1 else texts[1]]
        objects = self._objects(latents_t, cameras)
        alpha, sigma = (f(t.to(latents_t)).expand(len(latents_t)).view(-1, 1, 1, 1) for f in (self.schedule.alpha, self.schedule.sigma))
        renders = []
        for caption in texts:
            told = [self._render(latents_t[i], t, caption, words.background, seen) for i, seen in objects]
            renders.append(torch.cat(told).to(latents_t))
        clean = renders[0] if len(renders) == 1 else combine_cfg(renders[1], renders[0], cfg_scale)
        return clean, (latents_t - alpha * clean) / sigma.clamp_min(1e-6)

    @torch.no_grad()
    def predict_splats(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras) -> Gaussians:
        """The Gaussians that the network sees in V noisy views of one object: what no other prior can say.

        Args:
            latents_t: [V, 3, S, S], V ≥ 1.
            t: [] or [V] in [0, 1], one time for all views.
            text: from :meth:`encode_text`.
            cameras: of the V views.

        Returns:
            One asset of SH degree 0, in the world's frame.

        Raises:
            InputError: cameras outside the range that the network was trained for.
        """
        words = _caption_text(text)
        check_shape("latents_t", latents_t, (len(cameras), *self.latent_shape))
        return gaussians(self._field(latents_t, t, words.caption, words.background, cameras), 0)

    def _objects(self, latents_t: Tensor, cameras: Cameras | None) -> list[tuple[slice, Cameras]]:
        """The images of each object, with their cameras."""
        check_shape("latents_t", latents_t, ("B", *self.latent_shape))
        count = len(latents_t)
        if cameras is None:
            front = orbit_cameras(20.0, 15.0, distance=2.2, width=self.image_size, device=latents_t.device)
            return [(slice(b, b + 1), front) for b in range(count)]
        if len(cameras) != count:
            raise InputError(f"cameras: expected one for each of the {count} latents, got {len(cameras)}")
        groups = [slice(b, min(b + self.views, count)) for b in range(0, count, self.views)]
        return [(group, cameras[group]) for group in groups]

    def _render(self, latents_t: Tensor, t: Tensor, caption: str, background: Tensor | None, cameras: Cameras) -> Tensor:
        """x̂_0 [V, 3, S, S] in [−1, 1] of one object."""
        field_ = self._field(latents_t, t, caption, background, cameras)
        behind = field_.background[0] if background is None else background.to(field_.background)
        rgb, _ = draw(field_, 0, cameras.resized(self.image_size, self.image_size), behind)
        return 2 * rgb - 1

    def _field(self, latents_t: Tensor, t: Tensor, caption: str, background: Tensor | None, cameras: Cameras) -> SplatField:
        check_cameras(cameras)
        device, k = self.device, self.image_size // SIZE
        time = t.detach().to(device, torch.float32).reshape(-1)[:1]
        lambda_ = (self.schedule.lambda_(time) / k).clamp(MIN_LAMBDA, 1 / MIN_LAMBDA)  # σ/α of the means over k × k pixels
        alpha, sigma = self.schedule.alpha(time), self.schedule.sigma(time) / k
        seen = F.avg_pool2d(latents_t.to(device, torch.float32), k) / (alpha**2 + sigma**2).sqrt()
        told = torch.zeros(1, 3, device=device) if background is None else 2 * background.to(device, torch.float32)[None] - 1
        known = torch.full((1,), 0.0 if background is None else 1.0, device=device)
        words = encode_words([caption], self.network.settings.text_rows)
        condition = Condition(-2 * lambda_.log(), replace(words, groups=words.groups.to(device)), told, known)
        with torch.autocast(device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None):
            return self.network(seen[None], stack_rays([Rays.of(cameras.to(device, torch.float32))]), condition)


def _caption_text(text: TextCondition) -> CaptionText:
    if not isinstance(text, CaptionText):
        raise InputError(f"text: expected what this prior's encode_text returns, got {type(text).__name__}")
    return text


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
