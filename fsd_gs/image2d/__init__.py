"""One image a sample: the 2D rule of Flow Score Distillation, and the comparison of methods drawn with it."""

from fsd_gs.image2d.rule import (
    AdamRule,
    Grid,
    Method2D,
    Result2D,
    flow_grid,
    front_cameras,
    generate,
    grid,
    save_picture,
    seed_noise,
    tile,
    timestep_grid,
)

__all__ = [
    "AdamRule",
    "Grid",
    "Method2D",
    "Result2D",
    "flow_grid",
    "front_cameras",
    "generate",
    "grid",
    "save_picture",
    "seed_noise",
    "tile",
    "timestep_grid",
]
