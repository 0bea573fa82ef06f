"""Noise functions ε(c): what distinguishes SDS, annealed SDS, constant noise, FSD and CFD. A new one is one file and one line here."""

from fsd_gs.noise.base import NoiseFunction
from fsd_gs.noise.constant import ConstantNoise
from fsd_gs.noise.gaussian import GaussianNoise
from fsd_gs.noise.surface import SurfaceNoise
from fsd_gs.noise.world_map import WorldMapNoise, matching_theta_deg, mix_world_maps

NOISES = {
    "gaussian": GaussianNoise,
    "constant": ConstantNoise,
    "world_map": WorldMapNoise,
    "surface": SurfaceNoise,
}

__all__ = [
    "NOISES",
    "ConstantNoise",
    "GaussianNoise",
    "NoiseFunction",
    "SurfaceNoise",
    "WorldMapNoise",
    "matching_theta_deg",
    "mix_world_maps",
]
