"""Text in the characters that a voice knows: what stands in for the others, and which have to be left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

FALLBACKS: dict[str, tuple[str, ...]] = {
    **{"—": ("-", ", ", " "), "–": ("-", ", ", " "), "-": (" ",), "…": (".", ","), ";": (",", "."), ":": (",", ".")},
    **{"!": (".",), "?": (".",), "(": (", ", " "), ")": (", ", " "), "[": (", ", " "), "]": (", ", " "), "/": (" ",)},
    **{",": (" ",), ".": (" ",), "'": ("",), '"': ("",), "“": ('"', ""), "”": ('"', ""), "«": ('"', "")},
    **{"»": ('"', ""), "„": ('"', ""), "‚": ("",), "‘": ("'", ""), "’": ("'", ""), "¿": ("",), "¡": ("",), "%": ("",)},
    **{"ß": ("ss", "SS"), "æ": ("ae", "AE"), "œ": ("oe", "OE"), "ø": ("o", "O"), "ł": ("l", "L"), "đ": ("d", "D")},
    **{"ð": ("th", "TH"), "þ": ("th", "TH"), "ı": ("i", "I")},
}
"""What may stand for a character that a voice does not have, the best first."""


def in_alphabet(text: str, alphabet: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Write a text in the characters that there are, and tell which letters and signs had to be left out.

    The other case, the letter without its accent and the nearest sign stand in; signs without a sound just go.

    >>> in_alphabet("“Çafé” — 5 я!", frozenset("abcdef ,"))
    ('cafe,', ('5', 'я'))
    """
    written: list[str] = []
    left_out: dict[str, None] = {}
    for character in unicodedata.normalize("NFC", text):
        stand_in = next((each for each in _stand_ins(character) if set(each) <= alphabet), None)
        if stand_in is not None:
            written.append(stand_in)
        else:
            written.append(" ")
            # Marks, joiners and selectors belong to a letter or emoji that is named already.
            if unicodedata.category(character)[0] in "LNS" and character not in FALLBACKS:
                left_out[character] = None
    joined = " ".join("".join(written).split())
    joined = re.sub(r"\s+(?=[,.;:!?])", "", joined)
    return re.sub(r"([,.;:!?])(?:,)+", r"\1", joined).lstrip(" ,.;:!?"), tuple(left_out)


def _stand_ins(character: str) -> Iterable[str]:
    """What may be written for a character, the best first."""
    yield character
    yield character.lower()
    yield character.upper()
    yield from FALLBACKS.get(character.lower(), ())
    plain = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    if plain and plain != character:
        yield plain
        yield plain.lower()
        yield plain.upper()
