"""The splat-native denoiser: V noisy views, cameras and words → one set of Gaussians, whose renders are the clean views x̂_0.

    views     a multi-view UNet (the embedded prior's, arXiv 2308.16512) denoises the latents of every view, x̃ = α x_t − σ v, and gives the
              features F that it did so with. The latents are principal components of 4 × 4 pixels, so x̃ is a picture at once
    patches   convolutions over (F, x̃, x_t) say of every pixel: is it covered by the object (A)? a correction of its colour, and a few
              numbers that its Gaussian will need
    volume    mean and deviation over the views of (x̃, A) in 32³ voxels, and of F in 16³, through 3³ convolutions: the opacity of each
              voxel. Where silhouettes and colours of all views agree, there is a surface
    march     every covered pixel follows its ray through that volume; where it stops is the depth of its Gaussian
    points    a small network looks at the views around that depth, a little before and behind it, too, and moves the Gaussian along its
              ray; it says how large and how opaque it is and corrects its colour

So each Gaussian is one pixel of one view, sharp as the view is (GS-LRM, arXiv 2404.19702; LGM, arXiv 2402.05054), and where it lies was
agreed upon by all of them. The views of one set of Gaussians cannot disagree: that is the point (DMV3D, arXiv 2311.09217).

Here is everything but the UNet, which stays what diffusers makes of it: see :class:`WithFeatures`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fsd_gs.core.setting import setting
from fsd_gs.priors.nano.patch_code import PatchCode
from fsd_gs.priors.splat.volume import (
    RADIUS,
    Rays,
    Stops,
    block_places,
    from_blocks,
    inside,
    march,
    mean_and_deviation,
    project,
    sample_views,
    voxel_centers,
)

OUTPUTS = 7  # of the points' network: step along the ray, opacity, log-size across and along the ray, colour 3
COVERED = -3.0  # logit of A above which a pixel has a Gaussian
FOOTPRINT = 0.35  # pixels: standard deviation of a Gaussian at first
REACH = 0.15  # farthest that a Gaussian moves along its ray
BORDER = 0.06  # around the ball within which voxels are looked at
SEEN = 4  # what is read of a view's pixel: x̃ and A


@dataclass(frozen=True)
class SplatSettings:
    """What the part beside the UNet is made of; written beside its weights."""

    voxels: int = setting(32, "voxels of the volume along an axis, even", low=4)
    volume_width: int = setting(64, "channels of its convolutions", low=1)
    volume_depth: int = setting(3, "of its convolutions", low=1)
    view_features: int = setting(24, "of the UNet's features, how many it reads", low=1)
    patch_width: int = setting(128, "channels of the convolutions over the views", low=1)
    pixel_features: int = setting(20, "numbers of a pixel, the first four being coverage and colour", low=4)
    samples: int = setting(32, "steps of a ray through the volume", low=2)
    looks: int = setting(5, "depths around the surface at which the views are read", low=1)
    look_step: float = setting(0.03, "distance between two of them, in world units", above=0)
    point_width: int = setting(64, "hidden units of the points' network", low=1)


class WithFeatures(torch.nn.Module):
    """In the place of a UNet's last convolution: its output, and behind it the features that it is made of, [B, C + F, h, w]."""

    def __init__(self, inner: torch.nn.Conv2d) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.inner(features), features], dim=1)


@dataclass(frozen=True)
class ViewMaps:
    """What is known of the V views of each of B objects before they are put together.

    Attributes:
        clean: [B, V, C, h, w] x̃, latents.
        colors: [B, V, 3, S, S] in [0, 1], about: x̃ as a picture, corrected.
        coverage: [B, V, S, S] logits of A.
        seen: [B, V, 4, S, S] the same in [−1, 1], and A.
        pixels: [B, V, pixel_features, S, S].
        logits: [B, s, s, s] of the voxels' opacities, by x, y, z.
        told: [B, 4] noise level and number of views, for the points.
    """

    clean: Tensor
    colors: Tensor
    coverage: Tensor
    seen: Tensor
    pixels: Tensor
    logits: Tensor
    told: Tensor


@dataclass(frozen=True)
class PixelGaussians:
    """The Gaussians of one object, one for each of P covered pixels.

    Attributes:
        means: [P, 3]; quats: [P, 4] wxyz; scales: [P, 3]; opacity_logits: [P]; colors: [P, 3] in [0, 1], about.
        depths: [P] of the means along their cameras' z axes; stops: where the rays end.
        view, row, column: [P] int64, the pixels.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacity_logits: Tensor
    colors: Tensor
    depths: Tensor
    stops: Stops
    view: Tensor
    row: Tensor
    column: Tensor


class Volume(torch.nn.Module):
    """Opacities of voxels from what all views show there."""

    fine: Tensor  # [n, 3] voxels in the ball
    places: Tensor  # [n] of them among the blocks
    coarse: Tensor  # [(side/2)³, 3]

    def __init__(self, settings: SplatSettings, features: int) -> None:
        super().__init__()
        s = settings
        centers = voxel_centers(s.voxels)
        near = (centers.norm(dim=1) < RADIUS + BORDER).nonzero()[:, 0]
        self.side = s.voxels
        self.register_buffer("fine", centers[near], persistent=False)
        self.register_buffer("places", block_places(near, s.voxels), persistent=False)
        self.register_buffer("coarse", voxel_centers(s.voxels // 2), persistent=False)
        self.reduce = torch.nn.Conv2d(features, s.view_features, 1)
        self.enter = torch.nn.Linear(8 * 2 * SEEN + 2 * s.view_features, s.volume_width)
        self.told = torch.nn.Linear(4, s.volume_width)
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv3d(s.volume_width, s.volume_width, 3, padding=1) for _ in range(s.volume_depth)
        )
        self.leave = torch.nn.Linear(s.volume_width, 8)
        torch.nn.init.zeros_(self.leave.weight)
        torch.nn.init.constant_(self.leave.bias, -3.0)

    def forward(self, features: Tensor, seen: Tensor, rays: Rays, told: Tensor, dtype: torch.dtype) -> Tensor:
        """features [B, V, F, h, w], seen [B, V, 4, S, S], told [B, 4] → logits [B, s, s, s]. dtype: of the convolutions."""
        B, V = features.shape[:2]
        read = self._read(seen, self.fine, rays)
        blocks = read.new_zeros(B, self.side**3, read.shape[2]).index_copy(1, self.places, read)
        reduced = self.reduce(features.flatten(0, 1)).unflatten(0, (B, V))
        both = torch.cat([blocks.view(B, (self.side // 2) ** 3, -1), self._read(reduced, self.coarse, rays)], dim=2)
        with torch.autocast(both.device.type, dtype, enabled=dtype == torch.bfloat16):
            x = (self.enter(both) + self.told(told)[:, None]).transpose(1, 2).unflatten(2, (self.side // 2,) * 3)
            for convolution in self.convolutions:
                x = x + convolution(F.silu(x))
        return from_blocks(self.leave(F.silu(x.float()).flatten(2).transpose(1, 2)))

    def _read(self, maps: Tensor, points: Tensor, rays: Rays) -> Tensor:
        """Mean and deviation over the views at points [N, 3]: [B, N, 2 C]."""
        places, depths = project(points.expand(len(maps), -1, -1), rays)
        mean, deviation = mean_and_deviation(sample_views(maps, places), inside(places, depths), maps.shape[2])
        return torch.cat([mean, deviation], dim=1).transpose(1, 2)


class SplatHead(torch.nn.Module):
    """Gaussians from what a multi-view UNet knows of the views.

    Args:
        settings: sizes.
        code: what the latents mean as pixels.
        features: channels of the UNet's features.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, settings: SplatSettings, code: PatchCode, features: int) -> None:
        super().__init__()
        self.settings = s = settings
        for name in ("mean", "basis", "scale"):
            self.register_buffer(name, getattr(code, name).float(), persistent=False)
        latents = len(code.scale)
        self.factor = code.factor
        self.volume = Volume(s, features)
        paint = torch.nn.Conv2d(s.patch_width, self.factor**2 * s.pixel_features, 1)
        enter = torch.nn.Conv2d(features + 2 * latents, s.patch_width, 3, padding=1)
        self.patches = torch.nn.Sequential(enter, torch.nn.SiLU(), paint)
        known = s.pixel_features + 3 + 3 + 4 + s.looks * (2 * SEEN + 1)
        wide, narrow = torch.nn.Linear(known, s.point_width), torch.nn.Linear(s.point_width, 3 * s.point_width // 4)
        place = torch.nn.Linear(3 * s.point_width // 4, OUTPUTS)
        self.points = torch.nn.Sequential(wide, torch.nn.SiLU(), narrow, torch.nn.SiLU(), place)
        with torch.no_grad():
            paint.weight.mul_(0.3)
            place.weight.zero_()
            place.bias.zero_()
            place.bias[1] = 2.0  # opaque

    @property
    def code(self) -> PatchCode:
        """What the latents mean as pixels."""
        return PatchCode(self.mean, self.basis, self.scale)

    def forward(self, output: Tensor, latents_t: Tensor, alpha: Tensor, sigma: Tensor, rays: Rays, dtype: torch.dtype) -> ViewMaps:
        """What a :class:`WithFeatures` UNet said of B · V views → everything that :meth:`gaussians` needs.

        Args:
            output: [B·V, C + F, h, w].
            latents_t: [B·V, C, h, w].
            alpha: [B·V, 1, 1, 1] of the views' noise.
            sigma: likewise.
            rays: of the views, [B, V, …].
            dtype: of the convolutions: float32 or bfloat16.
        """
        B, V = rays.viewmats.shape[:2]
        channels = latents_t.shape[1]
        output, latents_t, alpha, sigma = (x.float() for x in (output, latents_t, alpha, sigma))
        clean = alpha * latents_t - sigma * output[:, :channels]
        with torch.autocast(output.device.type, dtype, enabled=dtype == torch.bfloat16):
            said = self.patches(torch.cat([output[:, channels:], clean, latents_t], dim=1))
        features = output[:, channels:]
        pixels = F.pixel_shuffle(said.float(), self.factor)
        colors = (self.code.decode(clean) + 1) / 2 + 0.2 * pixels[:, 1:4]
        coverage = 3 * pixels[:, 0]
        a, s = (x.view(B, V)[:, :1] for x in (alpha, sigma))
        told = torch.cat([a, s, 0.3 * (s / (a + 0.02)).log(), torch.full_like(a, V / 4)], dim=1)
        seen = torch.cat([2 * colors - 1, coverage.sigmoid()[:, None]], dim=1).unflatten(0, (B, V))
        logits = self.volume(features.unflatten(0, (B, V)), seen, rays, told, dtype)
        clean, colors, coverage, pixels = (x.unflatten(0, (B, V)) for x in (clean, colors, coverage, pixels))
        return ViewMaps(clean, colors, coverage, seen, pixels, logits, told)

    def gaussians(self, maps: ViewMaps, index: int, rays: Rays) -> PixelGaussians:
        """The Gaussians of object ``index``; rays as for :meth:`forward`."""
        s, coverage = self.settings, maps.coverage[index]
        view, row, column = (coverage.detach() > COVERED).nonzero(as_tuple=True)
        own = rays[index]
        rotation, focal, size = own.viewmats[:, :3, :3], own.focal[view], coverage.shape[-1]
        x, y = (((n + 0.5) / size - own.center[view, k]) / focal[:, k] for k, n in enumerate((column, row)))
        directions = (rotation[view].transpose(1, 2) @ torch.stack([x, y, torch.ones_like(x)], dim=1)[..., None])[..., 0]
        origins, distances = own.positions[view], own.positions.norm(dim=1)[view]
        stops = march(maps.logits[index], origins, directions, distances, s.samples)
        depth, spread = surface(stops)
        colors, pixels = maps.colors[index][view, :, row, column], maps.pixels[index][view, :, row, column]
        told = [pixels, colors, stops.weights.sum(1)[:, None], (depth - distances)[:, None], spread[:, None]]
        told += [maps.told[index].expand(len(view), -1), self._look(maps, index, own, origins, directions, depth)]
        step, opacity, across, along, *tint = self.points(torch.cat(told, dim=1)).unbind(1)
        depth = depth + REACH * torch.tanh(step)
        size_across = FOOTPRINT * depth / (focal[:, 0] * size) * across.clamp(-3, 2).exp()
        size_along = FOOTPRINT * depth / (focal[:, 0] * size) * along.clamp(-3, 3).exp()
        return PixelGaussians(
            means=origins + directions * depth[:, None],
            quats=rotation_quats(rotation.transpose(1, 2))[view],
            scales=torch.stack([size_across, size_across, size_along], dim=1),
            opacity_logits=opacity + 0.5 * coverage[view, row, column],
            colors=colors + 0.3 * torch.stack(tint, dim=1),
            depths=depth,
            stops=stops,
            view=view,
            row=row,
            column=column,
        )

    def backdrop(self, maps: ViewMaps, index: int) -> Tensor:
        """The colour [3] behind object ``index``: the mean of what x̃ shows where the object is not."""
        pictures = (self.code.decode(maps.clean[index]) + 1) / 2
        beside = (1 - maps.coverage[index].sigmoid()).square()[:, None]
        return ((beside * pictures).sum((0, 2, 3)) / beside.sum().clamp_min(1e-6)).clamp(0, 1)

    def _look(self, maps: ViewMaps, index: int, rays: Rays, origins: Tensor, directions: Tensor, depth: Tensor) -> Tensor:
        """What all views show around the depth of each pixel, [P, looks · 9]: mean and deviation of x̃ and A, and the least A."""
        s = self.settings
        looks = (torch.arange(s.looks, device=depth.device) - (s.looks - 1) / 2) * s.look_step
        points = origins[:, None] + directions[:, None] * (depth[:, None] + looks)[..., None]
        one = Rays(rays.viewmats[None], rays.focal[None], rays.center[None])
        places, depths = project(points.flatten(0, 1)[None], one)
        read = sample_views(maps.seen[index][None], places)
        mean, deviation = mean_and_deviation(read, inside(places, depths), SEEN)
        least = read[0, :, 3].amin(0)[None]
        return torch.cat([mean[0], deviation[0], least]).view(2 * SEEN + 1, -1, len(looks)).permute(1, 2, 0).flatten(1)


def surface(stops: Stops) -> tuple[Tensor, Tensor]:
    """Where each ray most likely stops: mean depth [P] and its deviation, under the squares of the weights, which favour one surface over
    the middle between two."""
    weights = stops.weights.square() + 1e-6
    weights = weights / weights.sum(1, keepdim=True)
    depth = (weights * stops.depths).sum(1)
    return depth, ((weights * stops.depths.square()).sum(1) - depth.square()).clamp_min(1e-6).sqrt()


def rotation_quats(rotations: Tensor) -> Tensor:
    """[V, 3, 3] → unit quaternions [V, 4] wxyz."""
    import kornia

    return kornia.geometry.conversions.rotation_matrix_to_quaternion(rotations.contiguous())
