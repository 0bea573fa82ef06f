"""The table of the catalogue: each kind of object with its designs, colours and the words people use for it.

To add one: write a builder in ``shapes/`` and a row here. Designs are phrases that complete "a red chair …"; every caption must read
back through ``vocabulary.parse_prompt`` (a test walks all of them).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fsd_gs.catalogue.palette import BRIGHT, PAINTS
from fsd_gs.catalogue.shapes import buildings, food, furniture, nature, toys, vehicles, vessels
from fsd_gs.catalogue.shapes.common import Builder


@dataclass(frozen=True)
class Category:
    """A kind of object. designs: phrases that complete "a red chair …"; colors: names its main colour is drawn from;
    synonyms: other names people use (singular); design_nouns: names of one design, such as "cupcake", noun → design."""

    name: str
    designs: tuple[str, ...]
    colors: tuple[str, ...]
    build: Builder
    plural: str = ""
    synonyms: tuple[str, ...] = ()
    design_nouns: dict[str, str] = field(default_factory=dict)

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
            synonyms=("seat",),
            design_nouns={"armchair": "with armrests", "rocking chair": "with rockers"},
        ),
        Category(
            "stool",
            ("with three legs", "with a pedestal", "with a square seat"),
            _WOODEN,
            furniture.stool,
            design_nouns={"bar stool": "with a pedestal"},
        ),
        Category(
            "table",
            ("with four legs", "with a round top", "with drawers", "with crossed legs"),
            _WOODEN,
            furniture.table,
            design_nouns={"round table": "with a round top", "folding table": "with crossed legs", "desk": "with drawers"},
        ),
        Category(
            "lamp",
            ("with a wide shade", "with a tall stand", "with an arm", "with a round globe"),
            BRIGHT,
            furniture.lamp,
            design_nouns={
                "desk lamp": "with an arm",
                "floor lamp": "with a tall stand",
                "globe lamp": "with a round globe",
                "table lamp": "with a wide shade",
            },
        ),
        Category(
            "bed",
            ("with low posts", "with a tall headboard", "with a canopy", "with bunks"),
            _FABRIC,
            furniture.bed,
            design_nouns={"bunk bed": "with bunks", "four poster bed": "with a canopy"},
        ),
        Category(
            "sofa",
            ("with square arms", "with round arms", "with a chaise", "with one seat"),
            _FABRIC,
            furniture.sofa,
            synonyms=("couch", "settee"),
            design_nouns={"loveseat": "with square arms"},
        ),
        Category(
            "clock",
            ("with two bells", "with a pendulum", "with a cuckoo"),
            _WOODEN,
            furniture.clock,
            design_nouns={"alarm clock": "with two bells", "grandfather clock": "with a pendulum", "cuckoo clock": "with a cuckoo"},
        ),
        Category(
            "mug",
            ("with a straight wall", "with a wide rim", "with stripes", "with a saucer"),
            PAINTS,
            vessels.mug,
            synonyms=("cup", "coffee mug"),
            design_nouns={"teacup": "with a saucer"},
        ),
        Category("teapot", ("with a round belly", "with a tall body", "with a top handle"), PAINTS, vessels.teapot, synonyms=("kettle",)),
        Category(
            "vase",
            ("with a long neck", "with two handles", "with flowers"),
            PAINTS,
            vessels.vase,
            synonyms=("urn",),
            design_nouns={"amphora": "with two handles", "flower vase": "with flowers"},
        ),
        Category(
            "bottle",
            ("with a label", "with a round body", "with a pump"),
            BRIGHT,
            vessels.bottle,
            synonyms=("flask",),
            design_nouns={"soap bottle": "with a pump", "potion": "with a round body", "wine bottle": "with a label"},
        ),
        Category(
            "barrel",
            ("with a lid", "with a tap", "with apples"),
            ("brown", "red", "green", "blue", "black", "gray"),
            vessels.barrel,
            synonyms=("keg", "cask"),
        ),
        Category(
            "basket",
            ("with a handle", "with eggs", "with yarn balls"),
            ("brown", "yellow", "white", "pink", "turquoise"),
            vessels.basket,
            synonyms=("wicker basket",),
            design_nouns={"easter basket": "with eggs"},
        ),
        Category(
            "tree",
            ("with a round crown", "with a pointed crown", "with palm leaves", "with fruits"),
            ("green", "yellow", "orange", "red", "pink"),
            nature.tree,
            design_nouns={
                "palm tree": "with palm leaves",
                "palm": "with palm leaves",
                "pine tree": "with a pointed crown",
                "fir tree": "with a pointed crown",
                "apple tree": "with fruits",
                "fruit tree": "with fruits",
            },
        ),
        Category(
            "mushroom",
            ("with a flat cap", "with a pointed cap", "with little ones"),
            ("red", "orange", "yellow", "brown", "blue", "purple", "white"),
            nature.mushroom,
            synonyms=("toadstool",),
        ),
        Category(
            "flower",
            ("with wide petals", "with a bell head", "in a pot"),
            _PETALS,
            nature.flower,
            synonyms=("blossom", "bloom"),
            design_nouns={"daisy": "with wide petals", "tulip": "with a bell head", "potted flower": "in a pot"},
        ),
        Category("cactus", ("with arms", "with a round body", "with pups"), ("green", "turquoise"), nature.cactus, plural="cacti"),
        Category(
            "fish",
            ("with stripes", "with big fins", "with a long body"),
            BRIGHT,
            nature.fish,
            plural="fish",
            design_nouns={"clownfish": "with stripes"},
        ),
        Category(
            "snowman",
            ("with a top hat", "with a bobble hat", "with earmuffs"),
            ("white", "blue", "pink", "turquoise", "yellow"),
            nature.snowman,
            plural="snowmen",
            synonyms=("snow man",),
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
            design_nouns={"tabby cat": "with stripes"},
        ),
        Category(
            "car",
            ("with an open top", "with a pickup bed", "with a taxi sign", "with a roof rack"),
            PAINTS,
            vehicles.car,
            synonyms=("automobile", "motorcar"),
            design_nouns={
                "convertible": "with an open top",
                "cabriolet": "with an open top",
                "pickup": "with a pickup bed",
                "pickup truck": "with a pickup bed",
                "taxi": "with a taxi sign",
                "cab": "with a taxi sign",
                "jeep": "with a roof rack",
            },
        ),
        Category(
            "bus",
            ("with two decks", "with a school hood", "with surfboards"),
            BRIGHT,
            vehicles.bus,
            plural="buses",
            synonyms=("van",),
            design_nouns={"double decker bus": "with two decks", "school bus": "with a school hood", "camper van": "with surfboards"},
        ),
        Category(
            "plane",
            ("with a propeller", "with two wings", "with jet engines"),
            BRIGHT,
            vehicles.plane,
            synonyms=("airplane", "aeroplane", "aircraft"),
            design_nouns={"biplane": "with two wings", "jet": "with jet engines", "airliner": "with jet engines"},
        ),
        Category(
            "rocket",
            ("with three fins", "with boosters", "with a checkered body"),
            BRIGHT,
            vehicles.rocket,
            synonyms=("spaceship", "rocket ship"),
        ),
        Category(
            "boat",
            ("with a sail", "with a chimney", "with oars"),
            PAINTS,
            vehicles.boat,
            synonyms=("ship",),
            design_nouns={
                "sailboat": "with a sail",
                "sailing boat": "with a sail",
                "rowboat": "with oars",
                "rowing boat": "with oars",
                "steamboat": "with a chimney",
                "steamer": "with a chimney",
            },
        ),
        Category(
            "train",
            ("with a funnel", "with a bullet nose", "with a wagon"),
            PAINTS,
            vehicles.train,
            synonyms=("locomotive",),
            design_nouns={"steam train": "with a funnel", "bullet train": "with a bullet nose"},
        ),
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
            synonyms=("cottage", "home", "cabin", "hut"),
            design_nouns={"two story house": "with two floors", "thatched cottage": "with a thatched roof"},
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
            synonyms=("light house",),
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
        Category(
            "pumpkin",
            ("with a carved face", "with a hat", "with a vine"),
            ("orange", "white", "yellow", "green"),
            food.pumpkin,
            design_nouns={"jack o lantern": "with a carved face"},
        ),
        Category(
            "ice cream",
            ("with sprinkles", "with three scoops", "in a bowl", "on a stick"),
            ("pink", "white", "brown", "green", "yellow", "purple", "turquoise"),
            food.ice_cream,
            synonyms=("ice cream cone", "icecream"),
            design_nouns={"ice cream sundae": "in a bowl", "sundae": "in a bowl", "popsicle": "on a stick"},
        ),
        Category(
            "cake",
            ("with candles", "with berries", "with tiers", "in a paper cup"),
            ("pink", "white", "brown", "yellow", "green", "blue", "purple", "red"),
            food.cake,
            design_nouns={
                "cupcake": "in a paper cup",
                "muffin": "in a paper cup",
                "birthday cake": "with candles",
                "wedding cake": "with tiers",
                "strawberry cake": "with berries",
            },
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
            synonyms=("hamburger",),
            design_nouns={"cheeseburger": "with cheese", "double burger": "with two patties"},
        ),
        Category("robot", ("with antennas", "with a round head", "with wheels"), PAINTS, toys.robot, synonyms=("android", "droid")),
        Category(
            "teddy bear",
            ("with a bow tie", "with a party hat", "with a heart"),
            ("brown", "white", "pink", "blue", "gray", "yellow", "red", "purple"),
            toys.teddy_bear,
            synonyms=("teddy", "bear"),
        ),
        Category(
            "treasure chest",
            ("with a closed lid", "with gold coins", "with jewels"),
            ("brown", "red", "blue", "green", "purple", "black"),
            toys.treasure_chest,
            synonyms=("chest", "treasure box"),
        ),
        Category(
            "hat",
            ("with a tall crown", "with a wide brim", "with a pointed top", "with a pompom"),
            PAINTS,
            toys.hat,
            synonyms=("cap",),
            design_nouns={
                "top hat": "with a tall crown",
                "cowboy hat": "with a wide brim",
                "witch hat": "with a pointed top",
                "wizard hat": "with a pointed top",
                "beanie": "with a pompom",
                "bobble hat": "with a pompom",
            },
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
            design_nouns={"acoustic guitar": "with a sound hole", "electric guitar": "with two horns"},
        ),
        Category(
            "key", ("with a ring bow", "with a heart bow", "with a clover bow"), ("gold", "gray", "red", "blue", "green", "pink"), toys.key
        ),
        Category(
            "bell",
            ("with a wooden handle", "with a ribbon", "with a yoke"),
            ("gold", "gray", "red", "blue", "green"),
            toys.bell,
            design_nouns={"hand bell": "with a wooden handle"},
        ),
        Category(
            "sword",
            ("with a straight blade", "with a curved blade", "with a wide blade"),
            ("red", "blue", "green", "purple", "brown", "black"),
            toys.sword,
            design_nouns={
                "saber": "with a curved blade",
                "sabre": "with a curved blade",
                "scimitar": "with a curved blade",
                "broadsword": "with a wide blade",
            },
        ),
        Category("umbrella", ("with striped panels", "with dots", "with a deep dome"), PAINTS, toys.umbrella, synonyms=("parasol",)),
        Category("gift", ("with a big bow", "with a round lid", "with a stack"), BRIGHT, toys.gift, synonyms=("present", "gift box")),
        Category("sneaker", ("with a high top", "with wings", "with side stripes"), PAINTS, toys.sneaker, synonyms=("shoe", "trainer")),
        Category(
            "lantern",
            ("with six panes", "with round paper", "on a post"),
            ("red", "black", "green", "blue", "orange", "white", "gold"),
            toys.lantern,
            design_nouns={"paper lantern": "with round paper", "street lamp": "on a post", "lamp post": "on a post"},
        ),
    )
}
