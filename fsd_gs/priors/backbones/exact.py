"""The ideal denoiser of a finite set of objects: a prior with no weights, in closed form.

Let object i of M look like x_i(c, b) = 2 [P_i(c) + (1 − A_i(c)) b] − 1 from camera c over the constant background colour b, where P_i is
the premultiplied render and A_i its alpha. With b ~ N(b̄, τ²) per channel and weights p(i | y) that the text sets, x_t = α x + σ ε is a
mixture of Gaussians, so the posterior mean, and with it the noise that an ideal network would predict, is known exactly:

    d_i    = x_t/α + 1 − 2 P_i − 2 b̄ (1 − A_i)              what is left of x_t/α for the background (and the noise) to explain
    m_i    = Σ 2 (1 − A_i) d_i,   q_i = Σ 4 (1 − A_i)²       per channel, over the pixels of all views of the set
    log w_i = log p(i | y) − Σ d_i²/2λ² + Σ_channels [ (m_i/λ²)²/2ρ_i − ½ log(ρ_i τ²) ],    ρ_i = q_i/λ² + 1/τ²
    x̂_0   = Σ_i w_i (2 P_i − 1 + 2 (1 − A_i) b̂_i),   b̂_i = b̄ + m_i/(λ² ρ_i)
    ε_φ    = (x_t − α x̂_0)/σ

"Latents" are the pixels themselves, in [−1, 1]. The views of a set share object and background: this is the joint, camera-conditioned
multi-view prior in its ideal form (the finite-set denoiser of Karras et al., arXiv 2206.00364, appendix B.3, with cameras).

When the background is known (``encode_text``), b̄ is that colour and τ → 0. Splatting tells it, as a prompt would with "on a white
background": a prior that must guess takes a cloud of splats around the object for a coloured backdrop, and keeps it.

λ reaches further than Stable Diffusion's own 14.6 ("simple diffusion", arXiv 2301.11093, shifts it for the same reason): V images of S²
strongly correlated pixels tell two objects apart at a noise level ∝ S √V; without the shift the choice would be made before the first step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fsd_gs.catalogue.vocabulary import Vocabulary
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Cameras, TextCondition
from fsd_gs.errors import InputError
from fsd_gs.priors.family import Family, Request
from fsd_gs.priors.object_set import ObjectSet, ObjectWeights
from fsd_gs.priors.schedule import DiscreteSchedule, ShiftedSchedule, combine_cfg

GUESSED_MEAN, GUESSED_STD = 0.5, 0.3  # b̄, τ in [0, 1] colours of an unknown background: black, grey and white are all likely
KNOWN_STD = 1e-3  # less than one 8-bit step
SHIFT = 4.0  # measured at 64 and 128 px: with 2 seeds reach fewer objects, with 8 they end farther from them


@dataclass(frozen=True)
class ExactText(TextCondition):
    """A text as the weights it gives to the objects of the set, and what its ``background`` (on the CPU) makes known: b̄ [3] and τ."""

    weights: ObjectWeights

    @property
    def background_mean(self) -> Tensor:
        return torch.full((3,), GUESSED_MEAN) if self.background is None else self.background

    @property
    def background_std(self) -> float:
        return GUESSED_STD if self.background is None else KNOWN_STD


@dataclass(frozen=True)
class Evidence:
    """What the likelihoods of m objects need, before the noise level: residual [m] = Σ d², projection [m, 3] = m_i, clear [m] = q_i."""

    residual: Tensor
    projection: Tensor
    clear: Tensor

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.residual + other.residual, self.projection + other.projection, self.clear + other.clear)


class ExactPrior:
    """The ideal denoiser over ``objects``, rendered at ``image_size`` pixels, ``views`` images jointly.

    Args:
        shift: λ is this many times Stable Diffusion's.
        cache_bytes: memory for renders (8 bits a channel); cameras from a grid are rendered once.
    """

    def __init__(
        self,
        objects: ObjectSet,
        *,
        image_size: int = 128,
        views: int = 4,
        shift: float = SHIFT,
        device: torch.device | str = "cpu",
        cache_bytes: int = 640 * 2**20,
    ) -> None:
        self.objects = objects
        self.image_size = image_size
        self.views = views
        self.latent_shape = (3, image_size, image_size)
        self.schedule = ShiftedSchedule(DiscreteSchedule.scaled_linear(), shift)
        self.device = torch.device(device)
        self.cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[tuple[int, ...], bytes], Tensor] = OrderedDict()
        self._texts: dict[tuple[str, str], ExactText] = {}

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words that name its objects, where they come from the catalogue."""
        return getattr(self.objects, "vocabulary", None)

    def encode_text(self, prompt: str, negative_prompt: str, cameras: Cameras | None, background: Tensor | None = None) -> ExactText:
        """The same for all cameras: the renders carry the views, the words do not. background: [3] in [0, 1], where it is known."""
        key = (prompt, negative_prompt)
        if key not in self._texts:
            self._texts[key] = ExactText(prompt, negative_prompt, self.objects.weights(prompt, negative_prompt))
        text = self._texts[key]
        return text if background is None else replace(text, background=background.detach().cpu().float())

    def encode(self, rgb: Tensor) -> Tensor:
        """rgb [B, 3, H, W] in [0, 1] → [B, 3, S, S] in [−1, 1]; other sizes are resized (area down, bilinear up)."""
        size = (self.image_size, self.image_size)
        if rgb.shape[-1] > self.image_size:
            rgb = torch.nn.functional.interpolate(rgb, size, mode="area")
        elif rgb.shape[-2:] != size:
            rgb = torch.nn.functional.interpolate(rgb, size, mode="bilinear", align_corners=False)
        return 2 * rgb - 1

    def decode(self, latents: Tensor) -> Tensor:
        """latents [B, 3, S, S] → rgb [B, 3, S, S] in [0, 1]."""
        return ((latents + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def predict_noise(self, latents_t: Tensor, t: Tensor, text: TextCondition, cameras: Cameras | None, cfg_scale: float) -> Tensor:
        """ε_φ [B, 3, S, S] after CFG; B must be a multiple of ``views`` and match ``cameras``. Without cameras: the front, and as many
        views as there are around the object."""
        text = _checked(text)
        batch = latents_t.shape[0]
        cameras = self._around(batch) if cameras is None else cameras
        if batch != len(cameras) or batch % self.views:
            raise InputError(
                f"latents_t: expected one latent a camera and a multiple of {self.views} (set cameras.views so), got {batch} latents for "
                f"{len(cameras)} cameras"
            )
        times = t.to(latents_t).expand(batch)
        sets = [slice(i, i + self.views) for i in range(0, batch, self.views)]
        return torch.cat([self._predict_set(latents_t[s], times[s.start], text, cameras[s], cfg_scale) for s in sets])

    def _predict_set(self, x_t: Tensor, t: Tensor, text: ExactText, cameras: Cameras, cfg_scale: float) -> Tensor:
        alpha, sigma, lambda_ = self.schedule.alpha(t), self.schedule.sigma(t), self.schedule.lambda_(t)
        if sigma == 0:
            return torch.zeros_like(x_t)
        weights, mean, std = text.weights, text.background_mean, text.background_std
        rgba = self._renders(weights.objects, cameras)
        evidence = measure(x_t / alpha + 1, rgba, mean)

        def noise(log_prior: Tensor) -> Tensor:
            return (x_t - alpha * posterior_mean(evidence, log_prior, lambda_, rgba, mean, std).to(x_t)) / sigma

        if cfg_scale == 1:
            return noise(weights.positive)
        if cfg_scale == 0:
            return noise(weights.negative)
        return combine_cfg(noise(weights.negative), noise(weights.positive), cfg_scale)

    def _around(self, batch: int) -> Cameras:
        """``views`` even azimuths from the front, as often as a batch has room for."""
        azimuths = [360.0 * view / self.views for view in range(self.views)] * max(1, batch // self.views)
        return orbit_cameras(azimuths, width=self.image_size)

    def _renders(self, objects: tuple[int, ...], cameras: Cameras) -> list[Tensor]:
        """For each view [m, 4, S, S] uint8, rendered once per camera."""
        cameras = cameras.to("cpu").resized(self.image_size, self.image_size)
        result = []
        for view in range(len(cameras)):
            camera = cameras[view]
            key = (objects, _fingerprint(camera))
            if key not in self._cache:
                self._cache[key] = self._render_set(objects, camera).to(self.device)
                while len(self._cache) > 1 and len(self._cache) * self._cache[key].numel() > self.cache_bytes:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(key)
            result.append(self._cache[key])
        return result

    def _render_set(self, objects: tuple[int, ...], camera: Cameras) -> Tensor:
        """[m, 4, S, S] uint8 from one camera."""
        images = torch.empty(len(objects), 4, self.image_size, self.image_size, dtype=torch.uint8)
        for image, index in zip(images, objects, strict=True):
            image.copy_((self.objects.render(index, camera)[0] * 255 + 0.5).permute(2, 0, 1))
        return images


def _checked(text: TextCondition) -> ExactText:
    if not isinstance(text, ExactText):
        raise InputError(f"text: expected the result of this prior's encode_text, got {type(text).__name__}")
    return text


def _fingerprint(camera: Cameras) -> bytes:
    """Equal for cameras that differ by rounding only."""
    return (camera.viewmats * 1e4).round().int().numpy().tobytes() + (camera.Ks * 1e2).round().int().numpy().tobytes()


def measure(z: Tensor, rgba: Sequence[Tensor], background_mean: Tensor) -> Evidence:
    """The evidence of all views, for z = x_t/α + 1 [V, 3, S, S], renders V × [m, 4, S, S] uint8 and b̄ [3]."""
    on_cpu = z.device.type == "cpu" and z.dtype == torch.float32
    measure_view = measure_view_numba if on_cpu else measure_view_torch
    parts = [measure_view(view, renders, background_mean) for view, renders in zip(z, rgba, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def measure_view_torch(z: Tensor, renders: Tensor, background_mean: Tensor) -> Evidence:
    """One view's evidence, readably: z [3, S, S], renders [m, 4, S, S] uint8."""
    foreground, clear = _split(renders, z.dtype)
    d = z - foreground - background_mean.to(z)[:, None, None] * clear[:, None]
    residual, projection = d.square().sum((1, 2, 3)), (d * clear[:, None]).sum((2, 3))
    return Evidence(residual.double(), projection.double(), clear.square().sum((1, 2)).double())


def measure_view_numba(z: Tensor, renders: Tensor, background_mean: Tensor) -> Evidence:
    """The same in one pass over the bytes."""
    from fsd_gs.priors._evidence import measure_view

    sums = measure_view(z.reshape(3, -1).numpy(), renders.reshape(len(renders), 4, -1).numpy(), background_mean.numpy())
    values = torch.from_numpy(sums)
    return Evidence(values[:, 0], values[:, 1:4], values[:, 4])


def posterior_mean(
    evidence: Evidence, log_prior: Tensor, lambda_: Tensor, rgba: Sequence[Tensor], background_mean: Tensor, background_std: float
) -> Tensor:
    """x̂_0 [V, 3, S, S] float32 under p(i | y) = softmax(log_prior) and b ~ N(background_mean, background_std²)."""
    noise_precision, background_precision = 1 / lambda_.double() ** 2, 1 / background_std**2
    rho = evidence.clear[:, None] * noise_precision + background_precision  # [m, 1], the same for each channel
    shift = evidence.projection * noise_precision / rho  # b̂ − b̄ [m, 3]
    log_background = (0.5 * rho * shift**2 - 0.5 * rho.log()).sum(1)  # [m, 3] → [m]
    log_likelihood = -0.5 * evidence.residual * noise_precision + log_background
    weights = torch.softmax(log_prior.to(log_likelihood) + log_likelihood, dim=0)

    heavy = torch.nonzero(weights > 1e-7).flatten()  # lighter objects change no 8-bit colour
    colours = (background_mean.to(shift) + shift[heavy]).float()
    blend_view = blend_view_numba if weights.device.type == "cpu" else blend_view_torch
    return torch.stack([blend_view(renders, heavy, weights[heavy].float(), colours) for renders in rgba])


def blend_view_torch(renders: Tensor, chosen: Tensor, weights: Tensor, colours: Tensor) -> Tensor:
    """One view's Σ_i w_i (2 P_i − 1 + 2 (1 − A_i) b_i) [3, S, S] over the ``chosen`` [c] of the renders [m, 4, S, S] uint8; weights [c],
    background colours [c, 3]."""
    foreground, clear = _split(renders[chosen], weights.dtype)
    images = foreground + clear[:, None] * colours[:, :, None, None] - 1
    return (weights[:, None, None, None] * images).sum(0)


def blend_view_numba(renders: Tensor, chosen: Tensor, weights: Tensor, colours: Tensor) -> Tensor:
    """The same in one pass over the bytes."""
    from fsd_gs.priors._evidence import blend_view

    pixels = renders.reshape(len(renders), 4, -1).numpy()
    return torch.from_numpy(blend_view(pixels, chosen.numpy(), weights.numpy(), colours.numpy())).reshape(3, *renders.shape[2:])


def _split(render: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """uint8 RGBA [..., 4, S, S] → 2 P [..., 3, S, S] and 2 (1 − A) [..., S, S]."""
    values = render.to(dtype) * (2 / 255)
    return values[..., :3, :, :], 2 - values[..., 3, :, :]


@dataclass(frozen=True)
class ImageObjects:
    """A set given by its images: renders [M, V, S, S, 4] premultiplied, from V even azimuths; labels [M] are the texts that name them."""

    renders: Tensor
    labels: Sequence[str]

    def render(self, index: int, cameras: Cameras) -> Tensor:
        count = self.renders.shape[1]
        nearest_view = (cameras.azimuths_deg / (360 / count)).round().long() % count
        return self.renders[index][nearest_view]

    def weights(self, prompt: str, negative_prompt: str) -> ObjectWeights:
        return ObjectWeights(tuple(range(len(self.labels))), self._matching(prompt), self._matching(negative_prompt))

    def _matching(self, text: str) -> Tensor:
        matches = torch.tensor([not text or text == label for label in self.labels])
        if not matches.any():
            raise InputError(f"prompt: no object is labelled '{text}' (known: {', '.join(sorted(set(self.labels)))})")
        return torch.where(matches, 0.0, -torch.inf).log_softmax(0)


def load(request: Request) -> ExactPrior:
    """The ideal denoiser over the procedural catalogue, at the views and the resolution of the run."""
    from fsd_gs.priors.finite_set import CatalogueObjects

    options, run = request.options, request.run
    objects = CatalogueObjects(options.objects, options.distractors, options.catalogue_seed)
    return ExactPrior(objects, image_size=options.image_size or run.image_size, views=run.views, device=request.device)


FAMILY = Family(name="exact", load=load, built_in="exact")
