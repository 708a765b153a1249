"""Written text to text that can be spoken: numbers, dates, abbreviations and initials in words, sentence by sentence.

It knows English. What a figure stands for is told by its neighbours, and where those leave it open, by what is usual:
four digits from 1100 to 2099 without a comma are a year, 3/5/2024 is March the fifth, unless that cannot be. After
P. Taylor, "Text-to-Speech Synthesis" (2009), chapter 5, in rules instead of trained decisions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from auriscope.errors import AuriscopeError
from auriscope.text.alphabet import in_alphabet
from auriscope.text.normalise import cardinal, number_words, ordinal
from auriscope.text.spoken_words import (
    ABBREVIATIONS,
    BEGINNINGS,
    CURRENCIES,
    LARGE,
    LETTER_NAMES,
    MONTHS,
    NUMBERED,
    SHORT_MONTHS,
    SHORT_WORDS,
    SYMBOLS,
    TITLES,
    UNITS,
)

MAX_CHARACTERS = 200
"""A longer sentence is cut at a comma or between words; a reader needs about fifteen seconds for this many."""
_SHOWN = 10
_DIGITS = r"\d{1,3}(?:,\d{3})+|\d+"
_AMOUNT = rf"(?:{_DIGITS})(?:\.\d+)?"
_MONTH = "|".join([*MONTHS, "Sept", *SHORT_MONTHS])
_END = r"(?![\w])"
_FOLLOWING = re.compile(r"[\"')\]]*(?:\s*$|\s+[\"'(]?(\w+))")
_STOP = re.compile(r"\s*(?:[.,:;)]|$)")
_NAMED_MONTH = rf"(?P<month>{_MONTH})\b\.?"
_DAY = r"(?P<day>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"


@dataclass(frozen=True)
class Spoken:
    """A text as a voice speaks it: ``sentences`` in the letters of the voice, and what of the text it cannot speak.

    ``left_out`` are the letters and signs that were left out, each once, in their order.
    """

    sentences: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """One line on what was left out, None if nothing was."""
        if not self.left_out:
            return None
        shown = " ".join(self.left_out[:_SHOWN])
        more = f" and {len(self.left_out) - _SHOWN} more" if len(self.left_out) > _SHOWN else ""
        return f"left out what this voice cannot speak: {shown}{more}"


def spoken(text: str, alphabet: Iterable[str] | None = None, *, max_characters: int = MAX_CHARACTERS) -> Spoken:
    """Make text ready to be spoken: in words, in sentences, in the letters of a voice.

    Args:
        text: in written English, of any length; an empty line ends a sentence.
        alphabet: the characters that the voice knows; None: all of them.
        max_characters: longer sentences are cut.

    Raises:
        AuriscopeError: nothing of the text can be spoken.

    >>> spoken("Dr. Smith paid $3.50 on 5 May 1984. Why? 🙂", "abcdefghijklmnopqrstuvwxyz ,.?")
    Spoken(sentences=('doctor smith paid three dollars fifty cents on the fifth of may, nineteen eighty four.', 'why?'), left_out=('🙂',))
    """  # noqa: E501
    if not text.strip():
        raise AuriscopeError("there is no text to speak; give at least one word")
    known = None if alphabet is None else frozenset(alphabet)
    found: list[str] = []
    left_out: dict[str, None] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in sentences(speakable(paragraph), max_characters):
            if known is not None:
                sentence, missing = in_alphabet(sentence, known)
                left_out |= dict.fromkeys(missing)
            if any(character.isalnum() for character in sentence):
                found.append(sentence)
    if not found:
        shown = " ".join(list(left_out)[:_SHOWN]) or " ".join(text.split())[:_SHOWN]
        raise AuriscopeError(f"this voice can speak nothing of the text ({shown}); write it in letters of English")
    return Spoken(tuple(found), tuple(left_out))


def speakable(text: str) -> str:
    """Write out in English words what is not spoken as it is written; case and punctuation stay.

    >>> speakable("At 7:05 p.m. on 3/5/2024, St. Mary's St. had -5 °C; 1/2 of the BBC's 1,250 staff left.")
    "At seven oh five pee em on March fifth, twenty twenty four, Saint Mary's Street had minus five degrees Celsius; \
one half of the bee bee see's one thousand two hundred fifty staff left."
    """
    text = _plain(text)
    for rule in _RULES:
        text = rule(text)
    return " ".join(re.sub(r"\s+([,.;:!?])", r"\1", text).split())


def sentences(text: str, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """Cut a text in which :func:`speakable` left points only at ends into sentences of at most ``max_characters``.

    >>> sentences('He said, "Go!" Then, one by one, they went...', 20)
    ['He said, "Go!"', 'Then, one by one,', 'they went...']
    """
    found: list[str] = []
    for sentence in _BOUNDARY.split(text):
        rest = sentence.strip()
        while len(rest) > max_characters:
            end = _cut(rest, max_characters)
            found.append(rest[:end].strip())
            rest = rest[end:].strip()
        if rest:
            found.append(rest)
    return found


def year(number: int) -> str:
    """Read a year from 1000 to 9999.

    >>> [year(number) for number in (1066, 1900, 1905, 1984, 2000, 2005, 2024)] # doctest: +NORMALIZE_WHITESPACE
    ['ten sixty six', 'nineteen hundred', 'nineteen oh five', 'nineteen eighty four', 'two thousand',
     'two thousand five', 'twenty twenty four']
    """
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


# A sentence ends with a point or mark, and what closes quotes, before a space.
_BOUNDARY = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))\s+")


def _cut(text: str, most: int) -> int:
    """Where to cut a sentence that is too long: after a stop, before a conjunction, between words, anywhere."""
    # A space behind the part is not part of it.
    head = text[: most + 1]
    # A part that is too short would sound chopped off.
    for pattern in (r"[;:]\s", r",\s", r"\s(?=(?:and|but|or|which|who|that|because|when|while|if)\s)", r"\s"):
        places = [match.end() for match in re.finditer(pattern, head) if match.end() > most // 4]
        if places:
            return places[-1]
    return most


def _plain(text: str) -> str:
    """One spelling for signs that have several, and no letters that are pictures of others."""
    text = unicodedata.normalize("NFC", text)
    # Capitals tell names and initials only where there are other letters too.
    capitals = text.isupper() and len(text.split()) > 1
    text = _romans(text)
    if capitals:
        text = text.lower()
    text = re.sub(r"[\u2018\u2019\u02bc\uff07`´]", "'", text)
    text = re.sub(r"[\u2010\u2011\u00ad]", lambda match: "" if match[0] == "\u00ad" else "-", text)
    text = re.sub(r"(?<=\d)\s*([½⅓⅔¼¾⅛⅜⅝⅞])", r" \1", text)
    text = re.sub(r"[½⅓⅔¼¾⅛⅜⅝⅞]", lambda match: unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/"), text)
    return text.replace("…", "...").replace("\u2212", "-").replace("\u2032", "'")


def _addresses(text: str) -> str:
    """Read addresses of mail and of pages: a@b.org is "a at b dot org"."""

    def read(match: re.Match[str]) -> str:
        parts = re.sub(r"^(?:https?://)?", "", match[0])
        end = re.search(r"[.,;:!?]*$", parts)
        tail = end[0] if end else ""
        parts = parts[: len(parts) - len(tail)].rstrip("/")
        for sign, word in (("@", "at"), (".", "dot"), ("/", "slash"), ("-", "dash"), ("_", "underscore")):
            parts = parts.replace(sign, f" {word} ")
        return parts.replace("www", "double you double you double you") + tail

    text = re.sub(r"\b(?:https?://|www\.)[^\s<>\"')\]]+", read, text)
    return re.sub(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", read, text)


def _abbreviations(text: str) -> str:
    """Write out abbreviations; the point of one at the end of a sentence stays."""

    def read(match: re.Match[str]) -> str:
        word = ABBREVIATIONS[match["short"].lower()]
        if match["short"][0].isupper():
            word = word[0].upper() + word[1:]
        return word + ("." if match["short"].lower() not in TITLES and _ends(text, match.end()) else "")

    text = re.sub(r"\bFt\.(?=\s+[A-Z])", "Fort", text)
    # Saint before a name, street behind one.
    text = re.sub(r"\bSt\.(?=\s+[A-Z])(?<![a-z]\sSt\.)", "Saint", text)
    text = re.sub(r"(?<=[a-z]\s)St\.(?=\s+[A-Z][a-z]+'?s?\b)(?!\s+(?:and|in|on)\b)", _street_or_saint, text)
    text = re.sub(r"(?<=[a-z]\s)St\.", lambda match: "Street" + ("." if _ends(text, match.end()) else ""), text)
    text = re.sub(r"\b(?P<short>[Nn]os?)\.(?=\s*\d)", read, text)
    names = "|".join(sorted((re.escape(name) for name in ABBREVIATIONS if name not in ("no", "nos")), key=len)[::-1])
    return re.sub(rf"(?<![\w.])(?P<short>{names})\.", read, text, flags=re.IGNORECASE)


def _street_or_saint(match: re.Match[str]) -> str:
    """Tell Baker St. from St. Paul where names stand on both sides: behind a capital it is a street."""
    before = match.string[: match.start()].split()
    return "Street" if before and before[-1][0].isupper() else "Saint"


def _ends(text: str, place: int) -> bool:
    """Whether a sentence seems to end there, just behind a point."""
    following = _FOLLOWING.match(text, place)
    return following is not None and (following[1] is None or following[1] in BEGINNINGS)


def _initials(text: str) -> str:
    """Name the letters of initials: J. R. Smith, U.S., p.m."""

    def read(match: re.Match[str]) -> str:
        letters = re.findall(r"[A-Za-z]", match[0])
        if len(letters) == 1 and not match[0][0].isupper():
            return match[0]
        name = " ".join(LETTER_NAMES[letter.lower()] for letter in letters)
        return name + ("." if _ends(text, match.end()) else "")

    text = re.sub(r"(?<![\w.'])(?:[A-Za-z]\.){2,}", read, text)
    return re.sub(r"(?<![\w.'])[A-HJ-Z]\.(?=\s+[A-Z])|(?<![\w.'])I\.(?=\s+[A-Z]\.)", read, text)


def _dates(text: str) -> str:
    def spoken_date(month: str, day: int, number: int | None, *, day_first: bool = False) -> str:
        said = f"the {ordinal(day)} of {month}" if day_first else f"{month} {ordinal(day)}"
        return said if number is None else f"{said}, {year(number)}"

    def iso(match: re.Match[str]) -> str:
        month, day = int(match[2]), int(match[3])
        if not (1 <= month <= 12 and 1 <= day <= 31):
            return match[0]
        return spoken_date(MONTHS[month - 1], day, int(match[1]))

    def numeric(match: re.Match[str]) -> str:
        month, day = int(match[1]), int(match[3])
        if month > 12 or match[2] == ".":
            month, day = day, month
        if not (1 <= month <= 12 and 1 <= day <= 31):
            return match[0]
        return spoken_date(MONTHS[month - 1], day, int(match[4]))

    def month_of(name: str) -> str:
        return MONTHS[SHORT_MONTHS.index(name[:3])]

    def american(match: re.Match[str]) -> str:
        number = match["year"]
        return spoken_date(month_of(match["month"]), int(match["day"]), int(number) if number else None)

    def british(match: re.Match[str]) -> str:
        number = match["year"]
        said = spoken_date(month_of(match["month"]), int(match["day"]), int(number) if number else None, day_first=True)
        return said[0].upper() + said[1:] if (match["the"] or "").startswith("T") else said

    text = re.sub(rf"\b([1-9]\d{{3}})-(\d\d)-(\d\d){_END}", iso, text)
    text = re.sub(rf"\b(\d{{1,2}})([/.])(\d{{1,2}})\2([12]\d{{3}}){_END}", numeric, text)
    text = re.sub(
        rf"(?P<the>\b[Tt]he\s+)?(?<![\d.,:/$£€-])\b{_DAY}\s+(?:of\s+)?{_NAMED_MONTH}(?:,?\s+(?P<year>[12]\d{{3}}){_END})?",
        british,
        text,
    )
    text = re.sub(rf"\b{_NAMED_MONTH}\s+{_DAY}{_END}(?!\.?,?\d)(?:,?\s+(?P<year>[12]\d{{3}}){_END})?", american, text)
    return re.sub(rf"\b(Sept|{'|'.join(SHORT_MONTHS)})\.(?=\s+[12]\d{{3}})", lambda match: month_of(match[1]), text)


def _times(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        hour, minute, second = int(match["hour"]), int(match["minute"] or 0), match["second"]
        half = match["half"]
        if hour > 24 or minute > 59 or (half and not 1 <= hour <= 12):
            return match[0]
        said = cardinal(hour)
        if minute:
            said += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
        elif not half and not second:
            said += " o'clock" if 1 <= hour <= 12 else " hundred hours"
        if second:
            said += f" and {cardinal(int(second))} second{'' if int(second) == 1 else 's'}"
        if half:
            point = "." if half.endswith(".") and _ends(text, match.end()) else ""
            said += f" {'ay' if half[0] in 'aA' else 'pee'} em{point}"
        return said

    half = r"(?:\s*(?P<half>[aApP](?:\.\s?[mM]\.|[mM]\b)))"
    clock = r"(?<![\d:.,])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?![\d:])"
    text = re.sub(rf"{clock}{half}?", read, text)
    return re.sub(rf"(?<![\d:.,])(?P<hour>1[0-2]|[1-9])(?P<minute>)(?P<second>){half}", read, text)


def _money(text: str) -> str:
    """Amounts that the plain rule of numbers does not know: large ones, and other currencies."""

    def large(match: re.Match[str]) -> str:
        scale = LARGE.get(match["scale"], match["scale"])
        return f"{match['amount']} {scale} {CURRENCIES[match['sign']][1]}"

    def other(match: re.Match[str]) -> str:
        one, many = CURRENCIES[match["sign"]]
        return f"{match['amount']} {one if match['amount'] == '1' else many}"

    def small(match: re.Match[str]) -> str:
        one, many = ("cent", "cents") if match[2] == "¢" else ("penny", "pence")
        return f"{match[1]} {one if match[1] == '1' else many}"

    signs = "".join(CURRENCIES)
    scales = "|".join([*LARGE, *sorted(set(LARGE.values()))])
    text = re.sub(
        rf"(?P<sign>[{signs}])\s?(?P<amount>{_AMOUNT})[\s-]?(?P<scale>(?i:{scales})){_END}",
        large,
        text,
    )
    text = re.sub(rf"(?P<sign>[¥₹₩])\s?(?P<amount>{_AMOUNT})", other, text)
    text = re.sub(rf"(?P<amount>{_AMOUNT})\s?(?P<sign>[€¥₹₩])", other, text)
    text = re.sub(rf"\b({_DIGITS})(¢|p{_END})", small, text)
    return re.sub(rf"([$£€])\s+(?={_DIGITS})", r"\1", text)


def _years(text: str) -> str:
    def decade(match: re.Match[str]) -> str:
        number = int(match["number"])
        if match["number"][-2:] == "00":
            return f"{year(number)}s" if number % 1000 else f"{cardinal(number)}s"
        said = year(number) if number >= 1000 else cardinal(number)
        return said[:-1] + "ies"

    text = re.sub(r"(?<![\w$£€.,])'?(?P<number>(?:1[1-9]|20)\d0|[2-9]0)'?s\b", decade, text)

    text = re.sub(r"(?i)(?<=\b(?:in|by) )(10\d\d)(?!\w|[.,:/-]\d|\s?[%°])", lambda match: year(int(match[1])), text)

    def pair(match: re.Match[str]) -> str:
        first, second = match[1], match[2]
        last = year(int(second)) if len(second) == 4 else cardinal(int(second))
        if len(second) == 2 and second[0] == "0":
            last = f"oh {last}"
        return f"{year(int(first))} to {last}"

    text = re.sub(r"(?<![\w$£€.,:/-])((?:1[1-9]|20)\d\d)\s?[-–]\s?((?:1[1-9]|20)?\d\d)(?![\w%]|[.,:/-]\d)", pair, text)
    units = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
    return re.sub(
        rf"(?<![\w$£€.,:/#+*=-])((?:1[1-9]|20)\d\d)(?!\w|[.,:/]\d|\s?[%°]|\s(?:{units}|percent|dollars|pounds|euros){_END})",
        lambda match: year(int(match[1])),
        text,
    )


def _units(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        one, many = UNITS[match["unit"]]
        return f"{match['amount']} {one if match['amount'] in ('1', '-1') else many}"

    text = re.sub(r"(?<![\w.,])(\d)'\s?(\d{1,2})(?:\"|'')", r"\1 feet \2", text)
    units = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
    return re.sub(rf"(?<![\w.,])(?P<amount>{_AMOUNT})(?:\s|-)?(?P<unit>{units})(?![\w²³/])", read, text)


def _fractions(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        above, below = int(match["above"]), int(match["below"])
        if not 0 < above < 100 or not 1 < below <= 100:
            return f"{match['whole'] or ''}{above} over {below}"
        if below in (2, 4):
            name = {2: ("half", "halves"), 4: ("quarter", "quarters")}[below][above > 1]
        else:
            name = ordinal(below) + ("s" if above > 1 else "")
        if not match["whole"]:
            return f"{cardinal(above)} {name}"
        many = "a" if above == 1 else cardinal(above)
        return f"{cardinal(int(match['whole']))} and {many} {name}"

    return re.sub(
        r"(?<![\w.,/:])(?:(?P<whole>\d{1,6})\s)?(?P<above>\d{1,3})/(?P<below>\d{1,3})(?![\w/]|[.,]\d)", read, text
    )


def _signs(text: str) -> str:
    """Signs between and before numbers: ranges, telephones, minus, and those that are words everywhere."""
    digits = " ".join
    text = re.sub(
        r"(?<![\w.,-])(?:\+?\d{1,3}[ -])?(?:\(\d{3}\)\s?|\d{3}[ -])?\d{3}-\d{4}(?![\w-])",
        lambda match: ", ".join(digits(cardinal(int(d)) for d in part) for part in re.findall(r"\d+", match[0])),
        text,
    )
    text = re.sub(r"(?<=\d)\s?[–]\s?(?=[$£€]?\d)|(?<=\d)-(?=\d)", " to ", text)
    text = re.sub(r"\d+(?:\.\d+){2,}", lambda match: match[0].replace(".", " point "), text)
    text = re.sub(r"(?<![\w)-])-(?=[$£€]?\.?\d)", "minus ", text)
    text = re.sub(r"(?<![\w.])\.(?=\d)", "0.", text)
    text = re.sub(r"#\s?(?=\d)|№\s?", "number ", text)
    text = re.sub(r"~\s?(?=\d)", "about ", text)
    text = re.sub(r"(?<=\d)\s?[x×]\s?(?=\d)", " by ", text)
    text = re.sub(r"(?<=\w)\+(?=\s|$)", " plus", text)
    text = re.sub(r"(?<=[A-Za-z])/(?=[A-Za-z])", " or ", text)
    for sign, word in SYMBOLS.items():
        text = text.replace(sign, f" {word} ")
    # Marks of writing that nobody reads: emphasis, headings, bullets.
    return re.sub(r"[*_#|\\^{}<>~]+", " ", text)


def _romans(text: str) -> str:
    """Roman numbers from two to thirty nine: chapter IV is four, Henry VIII the eighth."""

    def value(roman: str) -> int:
        values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in roman]
        return sum(-v if later > v else v for v, later in zip(values, [*values[1:], 0], strict=True))

    def read(match: re.Match[str]) -> str:
        number = value(match["roman"])
        if match["roman"] == "I" and not (match["before"][0].isupper() and _STOP.match(match.string, match.end())):
            return match[0]
        if match["before"].lower() in NUMBERED:
            return f"{match['before']} {cardinal(number)}"
        king = match["before"][0].isupper() and len(match["roman"]) > 1
        return f"{match['before']} the {ordinal(number)}" if king else match[0]

    roman = r"(?P<roman>(?=[IVX])X{0,3}(?:IX|IV|V?I{0,3}))"
    return re.sub(rf"\b(?P<before>[A-Za-z]+)\s+{roman}(?![\w.'-]*\w)", read, text)


def _acronyms(text: str) -> str:
    """Name the letters of words in capitals that are not spoken as words."""
    text = re.sub(r"(?<=[A-Za-z])-?(?=\d)|(?<=\d)-?(?=[A-Z])", " ", text)

    def read(match: re.Match[str]) -> str:
        word = match["word"]
        spoken_as_word = word in SHORT_WORDS or (len(word) > 3 and re.search("[AEIOUY]", word))
        if spoken_as_word or len(word) > 6:
            return match[0]
        return " ".join(LETTER_NAMES[letter.lower()] for letter in word) + (match["many"] or "")

    return re.sub(r"\b(?P<word>[A-Z]{2,}|(?<!\w)[B-HJ-NP-Z](?=[\s,;:.?!)]|$))(?P<many>s|'s)?\b", read, text)


def _numbers(text: str) -> str:
    """Read the numbers that are left, the longest ones digit by digit."""
    text = re.sub(r"(?<=\d)(?=(?:st|nd|rd|th)\b)\s", "", text)
    text = number_words(text)
    for sign, word in (("$", "dollars"), ("£", "pounds"), ("€", "euros"), ("%", "percent")):
        text = text.replace(sign, f" {word} ")
    text = re.sub(r"\b(\d{1,3})((?:,\d{3})+)\b", lambda match: match[0].replace(",", ""), text)
    return re.sub(r"\d", lambda match: f" {cardinal(int(match[0]))} ", text)


_RULES: tuple[Callable[[str], str], ...] = (
    _addresses,
    _dates,
    _times,
    _abbreviations,
    _initials,
    _money,
    _fractions,
    _years,
    _units,
    _signs,
    _acronyms,
    _numbers,
)
"""In their order: what knows its number by its neighbours goes before what takes any number."""
