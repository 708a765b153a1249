"""Normalisers by name: what is taken for the same text when word error is counted, or what a model is taught to write.

Nothing is normalised unless a name is given, so that a word error says under which names it was found. Names apply in
the order in which they are given: ``"lower-case,no-punctuation"``. Those that know words know English; ``english`` is
in the manner of the normaliser of A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision"
(arXiv 2212.04356), appendix C, without its tables of British and American spellings.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable

from auriscope.errors import AuriscopeError

Normaliser = Callable[[str], str]

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_LARGE = ("thousand", "million", "billion", "trillion")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_CURRENCIES = {"$": ("dollar", "dollars"), "£": ("pound", "pounds"), "€": ("euro", "euros")}
_NUMBER = re.compile(
    r"""(?P<currency>[$£€])?(?<![\w.,:/])
        (?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<fraction>\d+))?(?P<ordinal>st|nd|rd|th)?
        (?P<percent>\ ?%)?(?![\w%]|[.,:/]\d)""",
    re.VERBOSE | re.IGNORECASE,
)
_CONTRACTIONS = (
    (r"\bwon't\b", "will not"),
    (r"\bcan't\b", "can not"),
    (r"\bshan't\b", "shall not"),
    (r"\bain't\b", "is not"),
    (r"\blet's\b", "let us"),
    (r"\by'all\b", "you all"),
    (r"\bgonna\b", "going to"),
    (r"\bwanna\b", "want to"),
    (r"\bgotta\b", "got to"),
    (r"\bcannot\b", "can not"),
    (r"n't\b", " not"),
    (r"'re\b", " are"),
    (r"'ve\b", " have"),
    (r"'ll\b", " will"),
    (r"'m\b", " am"),
    # Of nouns it may be a genitive, so it is left alone there.
    (r"\b(he|she|it|that|this|what|where|who|how|there|here|when)'s\b", r"\1 is"),
    (r"\b(i|you|he|she|it|we|they|who|there)'d\b", r"\1 would"),
)
_FILLER = "(?:h+m+|m+h+m+|m{2,}|u+h+|u+m+|e+r+m*)"
_FILLERS = re.compile(rf"(?<![\w'-]){_FILLER}(?:-{_FILLER})*(?![\w'-]),?", re.IGNORECASE)


def normaliser(names: str | Iterable[str]) -> Normaliser:
    """Give what normalises by these names, one after the other; a string may hold several, parted by commas.

    Raises ``AuriscopeError`` for a name that there is not.

    >>> normaliser("contractions,no-punctuation")("Well, I can't.")
    'Well I can not'
    """
    if isinstance(names, str):
        names = names.split(",")
    steps = []
    for name in names:
        if name.strip() not in NORMALISERS:
            near = difflib.get_close_matches(name.strip(), NORMALISERS, 1)
            advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NORMALISERS)}"
            raise AuriscopeError(f"there is no normaliser {name.strip()!r}; {advice}")
        steps.append(NORMALISERS[name.strip()])

    def run(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return run


def none(text: str) -> str:
    """Leave a text as it is."""
    return text


def lower_case(text: str) -> str:
    """Write a text in lower case."""
    return text.lower()


def no_punctuation(text: str) -> str:
    """Leave letters, digits, apostrophes within words, points within numbers, and single spaces.

    What joins words, such as a hyphen, parts them. Apostrophes become straight.

    >>> no_punctuation("“Well-known,” he said: ’tis 3.5 — isn’t it?")
    "Well known he said tis 3.5 isn't it"
    """
    text = re.sub(r"[\u2018\u2019\u02bc\uff07`´]", "'", text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    kept = [
        character
        if unicodedata.category(character)[0] in "LMN"
        or (character == "'" and _is_word(text, place - 1) and _is_word(text, place + 1))
        or (character == "." and _is_digit(text, place - 1) and _is_digit(text, place + 1))
        else " "
        for place, character in enumerate(text)
    ]
    return " ".join("".join(kept).split())


def number_words(text: str) -> str:
    """Write numbers in English words: cardinals, ordinals, decimals, amounts of money and per cent, below 10 ** 15.

    Digits that are part of something else, such as a date or a version, stay; years are read as cardinals.

    >>> number_words("On the 21st, 1,250 people paid $3.50: 45%.")
    'On the twenty first, one thousand two hundred fifty people paid three dollars fifty cents: forty five percent.'
    """
    return _NUMBER.sub(_spell, text)


def contractions(text: str) -> str:
    """Write out English contractions, in lower case where one is: "can't" is "can not", "we're" is "we are".

    >>> contractions("He's sure they'll come, isn't he? It's John's.")
    "He is sure they will come, is not he? It is John's."
    """
    text = text.replace("\u2019", "'")
    for pattern, replacement in _CONTRACTIONS:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    return text


def no_fillers(text: str) -> str:
    """Leave out the sounds of hesitation: uh, um, hmm, mm-hmm, er.

    >>> no_fillers("Um, I uh think so")
    'I think so'
    """
    return " ".join(_FILLERS.sub(" ", text).split())


def letters(text: str) -> str:
    """Write a text in the letters of the models: capitals, apostrophes within words, and spaces.

    >>> letters("Well-known: 'twas the dogs' tea—wasn't it?")
    "WELL KNOWN TWAS THE DOGS TEA WASN'T IT"
    """
    kept = re.sub(r"[^A-Z']+", " ", text.upper().replace("\u2019", "'"))
    return " ".join(word.strip("'") for word in kept.split() if word.strip("'"))


def english(text: str) -> str:
    """Leave the words alone: no case, punctuation, brackets with remarks, fillers, contractions or digits.

    >>> english("Mr. Smith [coughs] didn't pay the £20 -- um, I'm sure!")
    'mister smith did not pay the twenty pounds i am sure'
    """
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>", " ", text.lower())
    for short, long in (("mr", "mister"), ("mrs", "missus"), ("dr", "doctor"), ("st", "saint"), ("prof", "professor")):
        text = re.sub(rf"\b{short}\b\.?", long, text)
    return no_punctuation(number_words(contractions(no_fillers(text))))


NORMALISERS: dict[str, Normaliser] = {
    "none": none,
    "lower-case": lower_case,
    "no-punctuation": no_punctuation,
    "number-words": number_words,
    "contractions": contractions,
    "no-fillers": no_fillers,
    "letters": letters,
    "english": english,
}
"""All of them by name."""


def cardinal(number: int) -> str:
    """Write a whole number below 10 ** 15 in English words, without "and" or hyphens.

    >>> cardinal(1_000_342)
    'one million three hundred forty two'
    """
    if not 0 <= number < 10**15:
        raise ValueError(f"{number} is not from 0 to 10 ** 15")
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_ONES[rest]}" if rest else "")
    if number < 1000:
        unit, name = 100, "hundred"
    else:
        power = (len(str(number)) - 1) // 3
        unit, name = 1000**power, _LARGE[power - 1]
    many, rest = divmod(number, unit)
    return f"{cardinal(many)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """Write the ordinal of a whole number below 10 ** 15.

    >>> ordinal(112), ordinal(20), ordinal(3)
    ('one hundred twelfth', 'twentieth', 'third')
    """
    before, _, last = cardinal(number).rpartition(" ")
    last = _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return f"{before} {last}".strip()


def _is_word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and unicodedata.category(text[place])[0] in "LMN"


def _is_digit(text: str, place: int) -> bool:
    return 0 <= place < len(text) and text[place].isdigit()


def _spell(match: re.Match[str]) -> str:
    whole, fraction = match["whole"].replace(",", ""), match["fraction"]
    number = int(whole)
    if number >= 10**15 or (match["ordinal"] and (fraction or match["currency"] or match["percent"])):
        return match[0]
    if match["ordinal"]:
        return ordinal(number)
    if match["currency"]:
        one, many = _CURRENCIES[match["currency"]]
        said = f"{cardinal(number)} {one if number == 1 else many}"
        if fraction and len(fraction) == 2:
            if int(fraction) == 0:
                return said
            small = ("penny", "pence") if match["currency"] == "£" else ("cent", "cents")
            return f"{said} {cardinal(int(fraction))} {small[int(fraction) != 1]}"
        if fraction:
            return f"{_decimal(number, fraction)} {many}"
        return said
    # Digits one by one where they begin with a zero: 007.
    said = " ".join(_ONES[int(digit)] for digit in whole) if whole[0] == "0" and len(whole) > 1 else cardinal(number)
    if fraction:
        said = _decimal(number, fraction)
    return f"{said} percent" if match["percent"] else said


def _decimal(number: int, fraction: str) -> str:
    return f"{cardinal(number)} point {' '.join(_ONES[int(digit)] for digit in fraction)}"
