"""The catalogue: every category of everyday object, its designs and colours, and how to draw samples with captions.

An object is (category, design, colour, seed). Its proportions come from a numpy Generator seeded by SHA-256 of the category and the
seed, so they are the same in every process and on every platform; design and colour are drawn from a second stream, so asking for a
colour does not change the shape.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from fsd_gs.errors import InputError, unknown_name
from fsd_gs.priors.nano.bake import finish
from fsd_gs.priors.nano.mesh import Mesh
from fsd_gs.priors.nano.palette import BRIGHT, PAINTS, make_palette
from fsd_gs.priors.nano.shapes import buildings, food, furniture, nature, toys, vehicles, vessels
from fsd_gs.priors.nano.shapes.common import Builder


@dataclass(frozen=True)
class Category:
    """A kind of object. designs: phrases that complete "a red chair …"; colors: names its main colour is drawn from;
    synonyms: other names people use (singular); design_words: other ways to say a design, phrase → design."""

    name: str
    designs: tuple[str, ...]
    colors: tuple[str, ...]
    build: Builder
    plural: str = ""
    synonyms: tuple[str, ...] = ()
    design_words: dict[str, str] = field(default_factory=dict)

    @property
    def plural_name(self) -> str:
        return self.plural or self.name + "s"


_FABRIC = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown", "gray", "white")
_WOODEN = ("brown", "red", "yellow", "green", "turquoise", "blue", "purple", "pink", "white", "black")
_PETALS = ("red", "orange", "yellow", "pink", "purple", "blue", "white")

CATEGORIES: dict[str, Category] = {
    c.name: c
    for c in (
        Category(
            "chair",
            ("with a tall back", "with armrests", "with rockers", "with a round back"),
            _WOODEN,
            furniture.chair,
            synonyms=("seat", "armchair", "rocking chair"),
        ),
        Category("stool", ("with three legs", "with a pedestal", "with a square seat"), _WOODEN, furniture.stool),
        Category(
            "table",
            ("with four legs", "with a round top", "with drawers", "with crossed legs"),
            _WOODEN,
            furniture.table,
            synonyms=("desk",),
        ),
        Category(
            "lamp",
            ("with a wide shade", "with a tall stand", "with an arm", "with a round globe"),
            BRIGHT,
            furniture.lamp,
            synonyms=("desk lamp", "floor lamp"),
        ),
        Category("bed", ("with low posts", "with a tall headboard", "with a canopy", "with bunks"), _FABRIC, furniture.bed),
        Category(
            "sofa",
            ("with square arms", "with round arms", "with a chaise", "with one seat"),
            _FABRIC,
            furniture.sofa,
            synonyms=("couch", "settee"),
        ),
        Category("clock", ("with two bells", "with a pendulum", "with a cuckoo"), _WOODEN, furniture.clock),
        Category(
            "mug", ("with a straight wall", "with a wide rim", "with stripes", "with a saucer"), PAINTS, vessels.mug, synonyms=("cup",)
        ),
        Category("teapot", ("with a round belly", "with a tall body", "with a top handle"), PAINTS, vessels.teapot, synonyms=("kettle",)),
        Category("vase", ("with a long neck", "with two handles", "with flowers"), PAINTS, vessels.vase, synonyms=("urn",)),
        Category("bottle", ("with a label", "with a round body", "with a pump"), BRIGHT, vessels.bottle, synonyms=("flask",)),
        Category("barrel", ("with a lid", "with a tap", "with apples"), ("brown", "red", "green", "blue", "black", "gray"), vessels.barrel),
        Category(
            "basket", ("with a handle", "with eggs", "with yarn balls"), ("brown", "yellow", "white", "pink", "turquoise"), vessels.basket
        ),
        Category(
            "tree",
            ("with a round crown", "with a pointed crown", "with palm leaves", "with fruits"),
            ("green", "yellow", "orange", "red", "pink"),
            nature.tree,
        ),
        Category(
            "mushroom",
            ("with a flat cap", "with a pointed cap", "with little ones"),
            ("red", "orange", "yellow", "brown", "blue", "purple", "white"),
            nature.mushroom,
            synonyms=("toadstool",),
        ),
        Category("flower", ("with wide petals", "with a bell head", "in a pot"), _PETALS, nature.flower),
        Category("cactus", ("with arms", "with a round body", "with pups"), ("green", "turquoise"), nature.cactus, plural="cacti"),
        Category("fish", ("with stripes", "with big fins", "with a long body"), BRIGHT, nature.fish, plural="fish"),
        Category(
            "snowman",
            ("with a top hat", "with a bobble hat", "with earmuffs"),
            ("white", "blue", "pink", "turquoise", "yellow"),
            nature.snowman,
            plural="snowmen",
        ),
        Category(
            "duck",
            ("with a hat", "with a bow tie", "with a swim ring"),
            ("yellow", "white", "orange", "pink", "blue", "green"),
            nature.duck,
            synonyms=("duckling",),
        ),
        Category(
            "cat",
            ("with stripes", "with a collar", "with a raised tail"),
            ("orange", "gray", "black", "white", "brown"),
            nature.cat,
            synonyms=("kitten",),
        ),
        Category(
            "car",
            ("with an open top", "with a pickup bed", "with a taxi sign", "with a roof rack"),
            PAINTS,
            vehicles.car,
            synonyms=("automobile", "vehicle"),
        ),
        Category(
            "bus", ("with two decks", "with a school hood", "with surfboards"), BRIGHT, vehicles.bus, plural="buses", synonyms=("van",)
        ),
        Category(
            "plane",
            ("with a propeller", "with two wings", "with jet engines"),
            BRIGHT,
            vehicles.plane,
            synonyms=("airplane", "aeroplane", "aircraft"),
        ),
        Category(
            "rocket",
            ("with three fins", "with boosters", "with a checkered body"),
            BRIGHT,
            vehicles.rocket,
            synonyms=("spaceship", "rocket ship"),
        ),
        Category("boat", ("with a sail", "with a chimney", "with oars"), PAINTS, vehicles.boat, synonyms=("ship",)),
        Category("train", ("with a funnel", "with a bullet nose", "with a wagon"), PAINTS, vehicles.train, synonyms=("locomotive",)),
        Category(
            "balloon",
            ("with vertical stripes", "with a wide band", "with a zigzag"),
            BRIGHT,
            vehicles.balloon,
            synonyms=("hot air balloon",),
        ),
        Category(
            "house",
            ("with a chimney", "with a thatched roof", "with two floors", "with a porch"),
            ("white", "yellow", "red", "blue", "pink", "green", "turquoise", "orange"),
            buildings.house,
            synonyms=("cottage", "home", "cabin"),
        ),
        Category(
            "castle tower",
            ("with a pointed roof", "with a flag", "with side turrets"),
            ("blue", "red", "green", "purple", "pink", "gray"),
            buildings.castle_tower,
            synonyms=("castle", "tower", "fortress"),
        ),
        Category(
            "windmill",
            ("with cloth sails", "with a stone base", "with a wooden frame"),
            ("white", "red", "blue", "yellow", "brown", "turquoise"),
            buildings.windmill,
            synonyms=("mill",),
        ),
        Category(
            "lighthouse",
            ("with rings", "with a spiral", "with a plain tower"),
            ("red", "blue", "green", "orange", "white", "black"),
            buildings.lighthouse,
        ),
        Category("apple", ("with a bite", "with two leaves", "with a worm"), ("red", "green", "yellow"), food.apple),
        Category(
            "strawberry",
            ("with chocolate", "with a blossom", "with cream"),
            ("red", "pink", "white"),
            food.strawberry,
            plural="strawberries",
        ),
        Category("pineapple", ("with sunglasses", "with a straw", "on a plate"), ("yellow", "orange", "gold"), food.pineapple),
        Category("pumpkin", ("with a carved face", "with a hat", "with a vine"), ("orange", "white", "yellow", "green"), food.pumpkin),
        Category(
            "ice cream",
            ("with sprinkles", "with three scoops", "in a bowl", "on a stick"),
            ("pink", "white", "brown", "green", "yellow", "purple", "turquoise"),
            food.ice_cream,
            synonyms=("ice cream cone", "icecream", "ice cream sundae", "sundae", "popsicle"),
        ),
        Category(
            "cake",
            ("with candles", "with berries", "with tiers", "in a paper cup"),
            ("pink", "white", "brown", "yellow", "green", "blue", "purple", "red"),
            food.cake,
            synonyms=("cupcake", "birthday cake"),
        ),
        Category(
            "donut",
            ("with sprinkles", "with a bite", "with drizzle"),
            ("pink", "brown", "white", "yellow", "blue", "purple", "green"),
            food.donut,
            synonyms=("doughnut",),
        ),
        Category(
            "burger",
            ("with cheese", "with two patties", "with a flag"),
            ("brown", "black", "pink"),
            food.burger,
            synonyms=("hamburger", "cheeseburger"),
        ),
        Category("robot", ("with antennas", "with a round head", "with wheels"), PAINTS, toys.robot, synonyms=("android", "droid")),
        Category(
            "teddy bear",
            ("with a bow tie", "with a scarf", "with a heart"),
            ("brown", "white", "pink", "blue", "gray", "yellow", "red", "purple"),
            toys.teddy_bear,
            synonyms=("teddy", "bear"),
        ),
        Category(
            "treasure chest",
            ("with a closed lid", "with gold coins", "with jewels"),
            ("brown", "red", "blue", "green", "purple", "black"),
            toys.treasure_chest,
            synonyms=("chest", "treasure"),
        ),
        Category(
            "hat", ("with a tall crown", "with a wide brim", "with a pointed top", "with a pompom"), PAINTS, toys.hat, synonyms=("cap",)
        ),
        Category(
            "crown",
            ("with pearls", "with a velvet cap", "with round arches"),
            ("gold", "red", "blue", "purple", "pink", "white"),
            toys.crown,
            synonyms=("tiara",),
        ),
        Category(
            "guitar",
            ("with a sound hole", "with two horns", "with a pointed body"),
            ("red", "orange", "yellow", "blue", "green", "turquoise", "pink", "white", "black", "brown"),
            toys.guitar,
        ),
        Category(
            "key", ("with a ring bow", "with a heart bow", "with a clover bow"), ("gold", "gray", "red", "blue", "green", "pink"), toys.key
        ),
        Category("bell", ("with a wooden handle", "with a ribbon", "with a yoke"), ("gold", "gray", "red", "blue", "green"), toys.bell),
        Category(
            "sword",
            ("with a straight blade", "with a curved blade", "with a wide blade"),
            ("red", "blue", "green", "purple", "brown", "black"),
            toys.sword,
            synonyms=("saber", "sabre"),
        ),
        Category("umbrella", ("with striped panels", "with dots", "with a deep dome"), PAINTS, toys.umbrella, synonyms=("parasol",)),
        Category("gift", ("with a big bow", "with a round lid", "with a stack"), BRIGHT, toys.gift, synonyms=("present", "gift box")),
        Category("sneaker", ("with a high top", "with wings", "with side stripes"), PAINTS, toys.sneaker, synonyms=("shoe", "trainer")),
        Category(
            "lantern",
            ("with six panes", "with round paper", "on a post"),
            ("red", "black", "green", "blue", "orange", "white", "gold"),
            toys.lantern,
            synonyms=("street lamp",),
        ),
    )
}


@dataclass(frozen=True)
class CatalogueObject:
    """One object of the catalogue with its plain caption, such as "a red chair with a tall back"."""

    category: str
    design: str
    color: str
    caption: str
    seed: int
    mesh: Mesh


def _generator(category: str, seed: int, stream: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{category}\0{seed}\0{stream}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def get_category(name: str) -> Category:
    """The category of that exact name; :class:`InputError` names the nearest otherwise."""
    if name not in CATEGORIES:
        raise InputError(unknown_name("category", name, CATEGORIES))
    return CATEGORIES[name]


def article(phrase: str) -> str:
    """The phrase with "a" or "an" in front."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def make_object(category: str, seed: int, *, design: str | None = None, color: str | None = None) -> CatalogueObject:
    """Build one object. design, color: one of the category's, or None to let the seed choose."""
    kind = get_category(category)
    if design is not None and design not in kind.designs:
        raise InputError(unknown_name("design", design, kind.designs))
    if color is not None and color not in kind.colors:
        raise InputError(unknown_name("color", color, kind.colors))
    choice = _generator(category, seed, "choice")
    picked_design, picked_color = choice.integers(len(kind.designs)), choice.integers(len(kind.colors))
    design = design or kind.designs[picked_design]
    color = color or kind.colors[picked_color]
    palette = make_palette(color, choice)
    parts = kind.build(_generator(category, seed, "shape"), design, palette)
    return CatalogueObject(category, design, color, f"{article(f'{color} {kind.name}')} {design}", seed, finish(parts))


def sample_objects(category: str, count: int, seed: int, *, design: str | None = None, color: str | None = None) -> list[CatalogueObject]:
    """``count`` objects spread evenly over designs and colours (each round of designs is shuffled, colours likewise), each with its
    own proportions. design, color: hold that one fixed."""
    kind = get_category(category)
    if count < 1:
        raise InputError(f"count: expected at least 1, got {count}")
    order = _generator(category, seed, "order")
    designs = [design] * count if design else _rounds(kind.designs, count, order)
    colors = [color] * count if color else _rounds(kind.colors, count, order)
    seeds = order.integers(2**31, size=count)
    return [make_object(category, int(s), design=d, color=c) for s, d, c in zip(seeds, designs, colors, strict=True)]


def _rounds(names: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    """``count`` names: shuffled rounds of all of them."""
    picked: list[str] = []
    while len(picked) < count:
        picked += [names[k] for k in rng.permutation(len(names))]
    return picked[:count]
