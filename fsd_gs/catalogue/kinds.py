"""The kinds of object of the catalogue as words: names, designs, colours, and what people call them. Data only: no shapes, no kernels.

To add one: a row here, a builder in ``shapes/`` and its name in ``categories.py``. Designs are phrases that complete "a red chair …"; every
caption must read back through ``vocabulary.parse_prompt`` (a test walks all of them).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fsd_gs.catalogue.palette import BRIGHT, PAINTS


@dataclass(frozen=True)
class Kind:
    """A kind of object in words.

    Args:
        name: what it is called in captions.
        designs: phrases that complete "a red chair …".
        colors: names its main colour is drawn from.
        plural: where it is not name + s.
        synonyms: other names people use (singular).
        design_nouns: names of one design, such as "cupcake", noun → design.
        features: what every object of the kind has, so that asking for it asks for nothing more.
    """

    name: str
    designs: tuple[str, ...]
    colors: tuple[str, ...]
    plural: str = ""
    synonyms: tuple[str, ...] = ()
    design_nouns: dict[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()

    @property
    def plural_name(self) -> str:
        return self.plural or self.name + "s"


def article(phrase: str) -> str:
    """The phrase with "a" or "an" in front."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def plural_of(noun: str) -> str:
    """Regular English plural of the last word."""
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


_FABRIC = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown", "gray", "white")
_WOODEN = ("brown", "red", "yellow", "green", "turquoise", "blue", "purple", "pink", "white", "black")
_PETALS = ("red", "orange", "yellow", "pink", "purple", "blue", "white")

KINDS: dict[str, Kind] = {
    k.name: k
    for k in (
        Kind(
            "chair",
            ("with a tall back", "with armrests", "with rockers", "with a round back"),
            _WOODEN,
            synonyms=("seat",),
            design_nouns={"armchair": "with armrests", "rocking chair": "with rockers"},
        ),
        Kind("stool", ("with three legs", "with a pedestal", "with a square seat"), _WOODEN, design_nouns={"bar stool": "with a pedestal"}),
        Kind(
            "table",
            ("with four legs", "with a round top", "with drawers", "with crossed legs"),
            _WOODEN,
            design_nouns={"round table": "with a round top", "folding table": "with crossed legs", "desk": "with drawers"},
        ),
        Kind(
            "lamp",
            ("with a wide shade", "with a tall stand", "with an arm", "with a round globe"),
            BRIGHT,
            design_nouns={
                "desk lamp": "with an arm",
                "floor lamp": "with a tall stand",
                "globe lamp": "with a round globe",
                "table lamp": "with a wide shade",
            },
        ),
        Kind(
            "bed",
            ("with low posts", "with a tall headboard", "with a canopy", "with bunks"),
            _FABRIC,
            design_nouns={"bunk bed": "with bunks", "four poster bed": "with a canopy"},
        ),
        Kind(
            "sofa",
            ("with square arms", "with round arms", "with a chaise", "with one seat"),
            _FABRIC,
            synonyms=("couch", "settee"),
            design_nouns={"loveseat": "with square arms"},
        ),
        Kind(
            "clock",
            ("with two bells", "with a pendulum", "with a cuckoo"),
            _WOODEN,
            design_nouns={"alarm clock": "with two bells", "grandfather clock": "with a pendulum", "cuckoo clock": "with a cuckoo"},
        ),
        Kind(
            "mug",
            ("with a straight wall", "with a wide rim", "with stripes", "with a saucer"),
            PAINTS,
            synonyms=("cup", "coffee mug"),
            design_nouns={"teacup": "with a saucer"},
        ),
        Kind("teapot", ("with a round belly", "with a tall body", "with a top handle"), PAINTS, synonyms=("kettle",)),
        Kind(
            "vase",
            ("with a long neck", "with two handles", "with flowers"),
            PAINTS,
            synonyms=("urn",),
            design_nouns={"amphora": "with two handles", "flower vase": "with flowers"},
        ),
        Kind(
            "bottle",
            ("with a label", "with a round body", "with a pump"),
            BRIGHT,
            synonyms=("flask",),
            design_nouns={"soap bottle": "with a pump", "potion": "with a round body", "wine bottle": "with a label"},
        ),
        Kind(
            "barrel",
            ("with a lid", "with a tap", "with apples"),
            ("brown", "red", "green", "blue", "black", "gray"),
            synonyms=("keg", "cask"),
        ),
        Kind(
            "basket",
            ("with a handle", "with eggs", "with yarn balls"),
            ("brown", "yellow", "white", "pink", "turquoise"),
            synonyms=("wicker basket",),
            design_nouns={"easter basket": "with eggs"},
        ),
        Kind(
            "tree",
            ("with a round crown", "with a pointed crown", "with palm leaves", "with fruits"),
            ("green", "yellow", "orange", "red", "pink"),
            design_nouns={
                "palm tree": "with palm leaves",
                "palm": "with palm leaves",
                "pine tree": "with a pointed crown",
                "fir tree": "with a pointed crown",
                "apple tree": "with fruits",
                "fruit tree": "with fruits",
            },
        ),
        Kind(
            "mushroom",
            ("with a flat cap", "with a pointed cap", "with little ones"),
            ("red", "orange", "yellow", "brown", "blue", "purple", "white"),
            synonyms=("toadstool",),
            features=("white spots", "spots", "white dots", "dots", "grass"),
        ),
        Kind(
            "flower",
            ("with wide petals", "with a bell head", "in a pot"),
            _PETALS,
            synonyms=("blossom", "bloom"),
            design_nouns={"daisy": "with wide petals", "tulip": "with a bell head", "potted flower": "in a pot"},
        ),
        Kind(
            "cactus",
            ("with arms", "with a round body", "with pups"),
            ("green", "turquoise"),
            plural="cacti",
            features=("pot", "flower", "pink flower"),
        ),
        Kind(
            "fish", ("with stripes", "with big fins", "with a long body"), BRIGHT, plural="fish", design_nouns={"clownfish": "with stripes"}
        ),
        Kind(
            "snowman",
            ("with a top hat", "with a bobble hat", "with earmuffs"),
            ("white", "blue", "pink", "turquoise", "yellow"),
            plural="snowmen",
            synonyms=("snow man",),
            features=("carrot nose", "scarf", "buttons", "stick arms"),
        ),
        Kind(
            "duck",
            ("with a hat", "with a bow tie", "with a swim ring"),
            ("yellow", "white", "orange", "pink", "blue", "green"),
            synonyms=("duckling",),
            features=("beak", "wings"),
        ),
        Kind(
            "cat",
            ("with stripes", "with a collar", "with a raised tail"),
            ("orange", "gray", "black", "white", "brown"),
            synonyms=("kitten",),
            design_nouns={"tabby cat": "with stripes"},
        ),
        Kind(
            "car",
            ("with an open top", "with a pickup bed", "with a taxi sign", "with a roof rack"),
            PAINTS,
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
        Kind(
            "bus",
            ("with two decks", "with a school hood", "with surfboards"),
            BRIGHT,
            plural="buses",
            synonyms=("van",),
            design_nouns={"double decker bus": "with two decks", "school bus": "with a school hood", "camper van": "with surfboards"},
        ),
        Kind(
            "plane",
            ("with a propeller", "with two wings", "with jet engines"),
            BRIGHT,
            synonyms=("airplane", "aeroplane", "aircraft"),
            design_nouns={"biplane": "with two wings", "jet": "with jet engines", "airliner": "with jet engines"},
        ),
        Kind("rocket", ("with three fins", "with boosters", "with a checkered body"), BRIGHT, synonyms=("spaceship", "rocket ship")),
        Kind(
            "boat",
            ("with a sail", "with a chimney", "with oars"),
            PAINTS,
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
        Kind(
            "train",
            ("with a funnel", "with a bullet nose", "with a wagon"),
            PAINTS,
            synonyms=("locomotive",),
            design_nouns={"steam train": "with a funnel", "bullet train": "with a bullet nose"},
        ),
        Kind("balloon", ("with vertical stripes", "with a wide band", "with a zigzag"), BRIGHT, synonyms=("hot air balloon",)),
        Kind(
            "house",
            ("with a chimney", "with a thatched roof", "with two floors", "with a porch"),
            ("white", "yellow", "red", "blue", "pink", "green", "turquoise", "orange"),
            synonyms=("cottage", "home", "cabin", "hut"),
            design_nouns={"two story house": "with two floors", "thatched cottage": "with a thatched roof"},
            features=("roof", "door", "windows", "lawn"),
        ),
        Kind(
            "castle tower",
            ("with a pointed roof", "with a flag", "with side turrets"),
            ("blue", "red", "green", "purple", "pink", "gray"),
            synonyms=("castle", "tower", "fortress"),
        ),
        Kind(
            "windmill",
            ("with cloth sails", "with a stone base", "with a wooden frame"),
            ("white", "red", "blue", "yellow", "brown", "turquoise"),
            synonyms=("mill",),
        ),
        Kind(
            "lighthouse",
            ("with rings", "with a spiral", "with a plain tower"),
            ("red", "blue", "green", "orange", "white", "black"),
            synonyms=("light house",),
            features=("windows", "door", "balcony", "rocks", "sea"),
        ),
        Kind("apple", ("with a bite", "with two leaves", "with a worm"), ("red", "green", "yellow")),
        Kind(
            "strawberry",
            ("with chocolate", "with a blossom", "with cream"),
            ("red", "pink", "white"),
            plural="strawberries",
            features=("seeds", "leaves", "green leaves", "stem"),
        ),
        Kind(
            "pineapple",
            ("with sunglasses", "with a straw", "on a plate"),
            ("yellow", "orange", "gold"),
            features=("leaves", "green leaves"),
        ),
        Kind(
            "pumpkin",
            ("with a carved face", "with a hat", "with a vine"),
            ("orange", "white", "yellow", "green"),
            design_nouns={"jack o lantern": "with a carved face"},
            features=("stem", "ribs"),
        ),
        Kind(
            "ice cream",
            ("with sprinkles", "with three scoops", "in a bowl", "on a stick"),
            ("pink", "white", "brown", "green", "yellow", "purple", "turquoise"),
            synonyms=("ice cream cone", "icecream"),
            design_nouns={"ice cream sundae": "in a bowl", "sundae": "in a bowl", "popsicle": "on a stick"},
        ),
        Kind(
            "cake",
            ("with candles", "with berries", "with tiers", "in a paper cup"),
            ("pink", "white", "brown", "yellow", "green", "blue", "purple", "red"),
            design_nouns={
                "cupcake": "in a paper cup",
                "muffin": "in a paper cup",
                "birthday cake": "with candles",
                "wedding cake": "with tiers",
                "strawberry cake": "with berries",
            },
        ),
        Kind(
            "donut",
            ("with sprinkles", "with a bite", "with drizzle"),
            ("pink", "brown", "white", "yellow", "blue", "purple", "green"),
            synonyms=("doughnut",),
        ),
        Kind(
            "burger",
            ("with cheese", "with two patties", "with a flag"),
            ("brown", "black", "pink"),
            synonyms=("hamburger",),
            design_nouns={"cheeseburger": "with cheese", "double burger": "with two patties"},
        ),
        Kind(
            "robot",
            ("with antennas", "with a round head", "with wheels"),
            PAINTS,
            synonyms=("android", "droid"),
            features=("arms", "claws", "buttons"),
        ),
        Kind(
            "teddy bear",
            ("with a bow tie", "with a party hat", "with a heart"),
            ("brown", "white", "pink", "blue", "gray", "yellow", "red", "purple"),
            synonyms=("teddy", "bear"),
        ),
        Kind(
            "treasure chest",
            ("with a closed lid", "with gold coins", "with jewels"),
            ("brown", "red", "blue", "green", "purple", "black"),
            synonyms=("chest", "treasure box"),
        ),
        Kind(
            "hat",
            ("with a tall crown", "with a wide brim", "with a pointed top", "with a pompom"),
            PAINTS,
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
        Kind(
            "crown",
            ("with pearls", "with a velvet cap", "with round arches"),
            ("gold", "red", "blue", "purple", "pink", "white"),
            synonyms=("tiara",),
        ),
        Kind(
            "guitar",
            ("with a sound hole", "with two horns", "with a pointed body"),
            ("red", "orange", "yellow", "blue", "green", "turquoise", "pink", "white", "black", "brown"),
            design_nouns={"acoustic guitar": "with a sound hole", "electric guitar": "with two horns"},
        ),
        Kind("key", ("with a ring bow", "with a heart bow", "with a clover bow"), ("gold", "gray", "red", "blue", "green", "pink")),
        Kind(
            "bell",
            ("with a wooden handle", "with a ribbon", "with a yoke"),
            ("gold", "gray", "red", "blue", "green"),
            design_nouns={"hand bell": "with a wooden handle"},
        ),
        Kind(
            "sword",
            ("with a straight blade", "with a curved blade", "with a wide blade"),
            ("red", "blue", "green", "purple", "brown", "black"),
            design_nouns={
                "saber": "with a curved blade",
                "sabre": "with a curved blade",
                "scimitar": "with a curved blade",
                "broadsword": "with a wide blade",
            },
        ),
        Kind("umbrella", ("with striped panels", "with dots", "with a deep dome"), PAINTS, synonyms=("parasol",)),
        Kind("gift", ("with a big bow", "with a round lid", "with a stack"), BRIGHT, synonyms=("present", "gift box")),
        Kind("sneaker", ("with a high top", "with wings", "with side stripes"), PAINTS, synonyms=("shoe", "trainer")),
        Kind(
            "lantern",
            ("with six panes", "with round paper", "on a post"),
            ("red", "black", "green", "blue", "orange", "white", "gold"),
            design_nouns={"paper lantern": "with round paper", "street lamp": "on a post", "lamp post": "on a post"},
        ),
    )
}
