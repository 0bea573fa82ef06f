"""What readers of prompts share: colours and their synonyms, words that say nothing, numbers, negations; how a text is cut into words."""

from __future__ import annotations

import re
import unicodedata

from fsd_gs.catalogue.palette import COLORS

COLOR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet", "ruby", "reddish"),
    "orange": ("tangerine", "amber", "ginger"),
    "yellow": ("lemon", "blonde", "yellowish"),
    "green": ("emerald", "lime", "olive", "greenish"),
    "turquoise": ("teal", "cyan", "aqua", "mint"),
    "blue": ("navy", "azure", "cobalt", "indigo", "bluish"),
    "purple": ("violet", "lilac", "lavender", "mauve"),
    "pink": ("rosy", "magenta", "fuchsia"),
    "brown": ("chocolate", "chestnut", "tan", "beige"),
    "white": ("ivory", "snowy", "pearl"),
    "black": ("ebony", "jet"),
    "gray": ("grey", "silver", "silvery"),
    "gold": ("golden", "gilded"),
}
COLOR_WORDS: dict[str, str] = {word: name for name in COLORS for word in (name, *COLOR_SYNONYMS[name])}
# Words that say nothing about which object is meant. "of" and "the" would otherwise be reported in every sentence.
FILLER = frozenset(
    re.findall(
        r"\S+",
        """a an 1 the of in on at with and or its his her some one single this that is it which has having have made for by to as like from
        out there but please make me create draw
        photo photograph picture image render rendering rendered drawing illustration model asset object 3d cgi dslr hd uhd 4k 8k hdr
        beautiful pretty nice lovely high highly very ultra quality resolution detailed detail details sharp realistic photorealistic
        stylized stylised game ready isolated background studio lighting best masterpiece colored coloured color colour style design
        shape shaped view front side zoomed full professional octane unreal engine blender trending artstation art covered filled""",
    )
)
# Words everybody knows, and which change the look, but not the look of anything here: said, and left out.
QUALIFIERS = frozenset(
    re.findall(
        r"\S+",
        """cute simple small little big large tiny huge giant mini miniature old new modern classic vintage antique fancy elegant cartoon
        cartoonish low poly lowpoly light dark bright pale deep wooden wood metal metallic steel iron glass plastic stone marble ceramic
        shiny glossy matte colorful colourful""",
    )
)
NUMBERS: dict[str, int] = {
    word: number
    for number, word in enumerate(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2)
}
CROWDS = frozenset(("pair", "couple", "several", "many", "multiple", "few", "dozen", "dozens", "both", "various", "lots", "group", "set"))
NEGATIONS = frozenset(("not", "no", "non", "without", "never", "nor", "neither", "except", "instead", "minus"))


def fold(text: str) -> str:
    """Lower case, Latin letters without accents, so that "réd" is "red"; typographic apostrophes become plain ones."""
    letters = []
    for letter in unicodedata.normalize("NFC", text.replace("’", "'")):
        parts = unicodedata.normalize("NFKD", letter)
        letters.append("".join(c for c in parts if not unicodedata.combining(c)) if parts[0].isascii() else letter)
    return "".join(letters).lower()


def split_words(prompt: str) -> tuple[list[str], set[int]]:
    """The folded words of a prompt in any script, and the places before which a comma or a full stop stands."""
    text = re.sub(r"n't\b", " not", fold(prompt)).replace("'s", "")
    words: list[str] = []
    breaks: set[int] = set()
    for token in re.findall(r"[^\W_]+|[,;:.!?()\n]", text):
        if token[0].isalnum():
            words.append(token)
        else:
            breaks.add(len(words))
    return words, breaks


def is_number(word: str) -> bool:
    """Whether the word asks for more than one."""
    return word in NUMBERS or word in CROWDS or (word.isdecimal() and word != "1")
