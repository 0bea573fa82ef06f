"""Where an optimisation starts: a ball, a shell, points, the surface of a mesh, or splats made before.

Every splat starts round with the standard deviation of DreamGaussian and 3DGS,

    σ_i = sqrt( mean of |p_i − p_j|² over the 3 nearest neighbours j ),

so that neighbours overlap, and with a low opacity (0.1), so that gradients reach the splats behind.
Randomness comes from the ``torch.Generator`` that the caller passes, and from nowhere else.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fsd_gs.core.points import mean_squared_neighbour_distance
from fsd_gs.core.sh import sh0_from_rgb
from fsd_gs.core.types import Gaussians, check_shape
from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.meshes.read import SUFFIXES, read_surfaces_or_cloud, to_world, up_of
from fsd_gs.meshes.surface import Surface

MESH_SUFFIXES = SUFFIXES
GREY = 0.5


def ball(
    count: int,
    radius: float,
    generator: torch.Generator,
    *,
    shell: bool = False,
    color: Literal["grey", "random"] = "grey",
    opacity: float = 0.1,
    sh_degree: int = 0,
) -> Gaussians:
    """``count`` splats uniform in the ball of ``radius`` at the origin, or on its surface (``shell``), on the generator's device.

    color: "grey" gives every splat 0.5, "random" a colour uniform in [0, 1]³. opacity in (0, 1). sh_degree 0 to 3.
    Raises :class:`InputError` for count < 1 or radius ≤ 0.
    """
    _check_count(count)
    if not (radius > 0 and math.isfinite(radius)):
        raise InputError(f"radius: expected a finite number above 0, got {radius:g}")
    if color not in ("grey", "random"):
        raise InputError(f"color: expected 'grey' or 'random', got '{color}'")
    device = generator.device
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, device=device), dim=1)
    # P(|p| ≤ r) = (r/R)³ for a uniform ball, so r = R u^(1/3)
    radii = radius * (torch.ones(count, 1, device=device) if shell else torch.rand(count, 1, generator=generator, device=device) ** (1 / 3))
    colors = torch.rand(count, 3, generator=generator, device=device) if color == "random" else None
    return from_points(directions * radii, colors, opacity=opacity, sh_degree=sh_degree, lone_scale=radius)


def from_points(
    points: Tensor,
    colors: Tensor | None = None,
    *,
    opacity: float = 0.1,
    sh_degree: int = 0,
    lone_scale: float = 0.1,
) -> Gaussians:
    """Round splats at ``points`` [N, 3] in world units with ``colors`` [N, 3] in [0, 1] (None: grey).

    opacity in (0, 1); sh_degree 0 to 3 (degrees above 0 start at zero); lone_scale: σ of a single point, which has no neighbour.
    """
    check_shape("points", points, ("N", 3))
    _check_count(len(points), "points")
    if not bool(torch.isfinite(points).all()):
        raise InputError("points: expected finite coordinates, got NaN or infinity")
    if not 0 < opacity < 1:
        raise InputError(f"opacity: expected a number in (0, 1), got {opacity:g}")
    if sh_degree not in (0, 1, 2, 3):
        raise InputError(f"sh_degree: expected 0, 1, 2 or 3, got {sh_degree}")
    points = points.detach().float()
    colors = torch.full_like(points, GREY) if colors is None else colors.detach().to(points).clamp(0, 1)
    check_shape("colors", colors, (len(points), 3))
    sigma = mean_squared_neighbour_distance(points).sqrt()
    if len(points) == 1:
        sigma = torch.full_like(sigma, lone_scale)
    sh = points.new_zeros(len(points), (sh_degree + 1) ** 2, 3)
    sh[:, 0] = sh0_from_rgb(colors)
    return Gaussians(
        means=points,
        quats=points.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(points), 1),
        scales=sigma.clamp_min(1e-6)[:, None].repeat(1, 3),  # coincident points would give σ = 0
        opacities=points.new_full((len(points),), opacity),
        sh=sh,
    )


def from_mesh_file(
    path: str | Path,
    count: int,
    generator: torch.Generator,
    *,
    radius: float = 0.5,
    up_axis: Literal["auto", "y", "z"] = "auto",
    opacity: float = 0.1,
    sh_degree: int = 0,
) -> Gaussians:
    """``count`` splats uniform by area on the surface of a mesh file, coloured by its texture, vertex colours or material.

    The mesh is turned so that z is up, centred on its bounding box and scaled so that it just fits the ball of ``radius``.
    path: .glb, .gltf, .obj, .ply, .stl or .off; a .ply without faces is taken as a point cloud. up_axis: the file's own up;
    "auto" is what files of its kind have (``core.file_axes``): y for glTF and .obj, z for the rest. Result on the generator's device.
    Raises :class:`FileFormatError` for a file that is missing, unreadable or without a surface.
    """
    _check_count(count)
    if radius <= 0:
        raise InputError(f"radius: expected a number above 0, got {radius:g}")
    if up_axis not in ("auto", "y", "z"):
        raise InputError(f"up_axis: expected 'auto', 'y' or 'z', got '{up_axis}'")
    path = Path(path)
    # trimesh draws with numpy: seed its draw from the caller's generator
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
    points, colors = _sample_file(path, count, rng)
    points = fit_to_ball(torch.from_numpy(to_world(points, up_of(path, up_axis))), radius).float()
    colors = torch.from_numpy(colors).float()
    return from_points(points.to(generator.device), colors.to(generator.device), opacity=opacity, sh_degree=sh_degree)


def from_splats(
    gaussians: Gaussians, *, sh_degree: int | None = None, max_count: int | None = None, radius: float | None = None
) -> Gaussians:
    """Splats made before, as the start of a refinement.

    sh_degree: pads higher coefficients with 0 or drops them (None keeps). max_count: keeps the splats that cover most,
    by opacity × σ². radius: recentres and scales into this ball (None keeps the splats where they are).
    """
    _check_count(len(gaussians), "gaussians")
    if max_count is not None:
        _check_count(max_count, "max_count")
        if len(gaussians) > max_count:
            cover = gaussians.opacities * gaussians.scales.prod(dim=1) ** (2 / 3)
            kept = torch.topk(cover, max_count).indices.sort().values
            gaussians = gaussians.select(kept)
    means, scales, sh = gaussians.means, gaussians.scales, gaussians.sh
    if radius is not None:
        center, factor = fit_of(means, radius)
        means, scales = (means - center) * factor, scales * factor
    if sh_degree is not None:
        if sh_degree not in (0, 1, 2, 3):
            raise InputError(f"sh_degree: expected 0, 1, 2 or 3, got {sh_degree}")
        wanted = (sh_degree + 1) ** 2
        sh = torch.cat([sh[:, :wanted], sh.new_zeros(len(sh), max(0, wanted - sh.shape[1]), 3)], dim=1)
    return Gaussians(means, gaussians.quats, scales, gaussians.opacities, sh).detach()


def fit_to_ball(points: Tensor, radius: float) -> Tensor:
    """``points`` [N, 3] with the bounding box centred at the origin and the farthest one at ``radius``."""
    center, factor = fit_of(points, radius)
    return (points - center) * factor


def fit_of(points: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """(centre [3] of the bounding box, factor by which the farthest of ``points`` [N, 3] comes to ``radius`` from it)."""
    center = (points.amin(dim=0) + points.amax(dim=0)) / 2
    return center, radius / (points - center).norm(dim=1).amax().clamp_min(1e-12)


def _check_count(count: int, name: str = "count") -> None:
    if count < 1:
        raise InputError(f"{name}: expected at least 1 splat, got {count}")


def _sample_file(path: Path, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``count`` points [N, 3] in the file's axes and sRGB colours [N, 3], shared among its surfaces by their area."""
    if not path.is_file():
        raise FileFormatError(f"path: no mesh file at '{path}'; expected one of {', '.join(MESH_SUFFIXES)}")
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise FileFormatError(f"path: '{path.name}' is not a mesh; expected one of {', '.join(MESH_SUFFIXES)}")
    try:
        surfaces, cloud = read_surfaces_or_cloud(path)
    except FileFormatError as error:
        raise FileFormatError(f"path: '{path.name}'{str(error).removeprefix(path.name).removeprefix(':')}") from error
    areas = np.array([_area(surface) for surface in surfaces])
    if not areas.sum() > 0:
        if cloud is None:
            raise FileFormatError(f"path: '{path.name}' holds no surface and no points; expected at least one triangle with an area")
        chosen = rng.choice(len(cloud.points), size=count, replace=count > len(cloud.points))
        return cloud.points[chosen], cloud.colors[chosen]
    shares = rng.multinomial(count, areas / areas.sum())
    parts = [_sample_surface(surface, int(share), rng) for surface, share in zip(surfaces, shares, strict=True) if share]
    return np.concatenate([p for p, _ in parts]), np.concatenate([c for _, c in parts])


def _area(surface: Surface) -> float:
    a, b, c = np.moveaxis(surface.corners, 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _sample_surface(surface: Surface, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    import trimesh
    from trimesh.sample import sample_surface

    loose = trimesh.Trimesh(surface.corners.reshape(-1, 3), np.arange(3 * len(surface.corners)).reshape(-1, 3), process=False)
    points, faces, weights = sample_surface(loose, count, seed=int(rng.integers(2**31)), return_barycentric=True)  # type: ignore[misc]
    return np.asarray(points, dtype=np.float64), surface.at(np.asarray(faces), np.asarray(weights))[:, :3]
