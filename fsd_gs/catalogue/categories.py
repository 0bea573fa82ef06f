"""The table of the catalogue: each kind of object of ``kinds.py`` with the builder that shapes it."""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.catalogue.kinds import KINDS, Kind
from fsd_gs.catalogue.shapes import buildings, food, furniture, nature, toys, vehicles, vessels
from fsd_gs.catalogue.shapes.common import Builder


@dataclass(frozen=True, kw_only=True)
class Category(Kind):
    """A kind of object that can be built."""

    build: Builder


BUILDERS: dict[str, Builder] = {
    "chair": furniture.chair,
    "stool": furniture.stool,
    "table": furniture.table,
    "lamp": furniture.lamp,
    "bed": furniture.bed,
    "sofa": furniture.sofa,
    "clock": furniture.clock,
    "mug": vessels.mug,
    "teapot": vessels.teapot,
    "vase": vessels.vase,
    "bottle": vessels.bottle,
    "barrel": vessels.barrel,
    "basket": vessels.basket,
    "tree": nature.tree,
    "mushroom": nature.mushroom,
    "flower": nature.flower,
    "cactus": nature.cactus,
    "fish": nature.fish,
    "snowman": nature.snowman,
    "duck": nature.duck,
    "cat": nature.cat,
    "car": vehicles.car,
    "bus": vehicles.bus,
    "plane": vehicles.plane,
    "rocket": vehicles.rocket,
    "boat": vehicles.boat,
    "train": vehicles.train,
    "balloon": vehicles.balloon,
    "house": buildings.house,
    "castle tower": buildings.castle_tower,
    "windmill": buildings.windmill,
    "lighthouse": buildings.lighthouse,
    "apple": food.apple,
    "strawberry": food.strawberry,
    "pineapple": food.pineapple,
    "pumpkin": food.pumpkin,
    "ice cream": food.ice_cream,
    "cake": food.cake,
    "donut": food.donut,
    "burger": food.burger,
    "robot": toys.robot,
    "teddy bear": toys.teddy_bear,
    "treasure chest": toys.treasure_chest,
    "hat": toys.hat,
    "crown": toys.crown,
    "guitar": toys.guitar,
    "key": toys.key,
    "bell": toys.bell,
    "sword": toys.sword,
    "umbrella": toys.umbrella,
    "gift": toys.gift,
    "sneaker": toys.sneaker,
    "lantern": toys.lantern,
}

CATEGORIES: dict[str, Category] = {name: Category(**vars(kind), build=BUILDERS[name]) for name, kind in KINDS.items()}
