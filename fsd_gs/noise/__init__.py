"""Noise functions ε(c): what distinguishes SDS, annealed SDS, constant noise, FSD and CFD.

A new one is one file and one line in ``NOISES``: its constructor takes whichever of the shared settings it knows (:func:`make_noise` lists
them), and parameters of its own, which are then ``noise.params.NAME``. Classes are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsd_gs.core.lazy import Table, exports
from fsd_gs.core.setting import make

if TYPE_CHECKING:
    from fsd_gs.noise.base import NoiseFunction
    from fsd_gs.noise.constant import ConstantNoise
    from fsd_gs.noise.gaussian import GaussianNoise
    from fsd_gs.noise.settings import NoiseSettings
    from fsd_gs.noise.surface import SurfaceNoise
    from fsd_gs.noise.world_map import WorldMapNoise, matching_theta_deg, mix_world_maps

NOISES = Table(
    {
        "gaussian": "fsd_gs.noise.gaussian:GaussianNoise",
        "constant": "fsd_gs.noise.constant:ConstantNoise",
        "world_map": "fsd_gs.noise.world_map:WorldMapNoise",
        "surface": "fsd_gs.noise.surface:SurfaceNoise",
    }
)


def make_noise(
    settings: NoiseSettings, latent_shape: tuple[int, int, int], seed: int, *, fov_y_deg: float, distance: float, radius: float
) -> NoiseFunction:
    """The noise function that ``settings`` name.

    Args:
        settings: kind and parameters.
        latent_shape: (C, h, w) of the prior.
        seed: of the noise, not of the run.
        fov_y_deg: vertical field of view of the nominal camera in degrees, for ``theta=auto``.
        distance: of the nominal camera from the origin in world units, likewise.
        radius: of the object in world units, likewise.

    Raises:
        ConfigError: a parameter that the kind does not have, or a value that it cannot take.
    """
    shared = {
        "latent_shape": latent_shape,
        "seed": seed,
        "theta_deg": settings.theta if isinstance(settings.theta, str) else float(settings.theta),
        "beta": settings.beta,
        "gamma": settings.gamma,
        "background": settings.background,
        "subcell": "fourier" if settings.subcell else "off",
        "fov_y_deg": fov_y_deg,
        "distance": distance,
        "radius": radius,
    }
    return make(NOISES[settings.kind], shared, settings.params, "noise.params")


__getattr__ = exports(
    __name__,
    {
        "ConstantNoise": "constant",
        "GaussianNoise": "gaussian",
        "NoiseFunction": "base",
        "SurfaceNoise": "surface",
        "WorldMapNoise": "world_map",
        "matching_theta_deg": "world_map",
        "mix_world_maps": "world_map",
    },
)

__all__ = [
    "NOISES",
    "ConstantNoise",
    "GaussianNoise",
    "NoiseFunction",
    "SurfaceNoise",
    "WorldMapNoise",
    "make_noise",
    "matching_theta_deg",
    "mix_world_maps",
]
