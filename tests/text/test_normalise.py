from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auriscope.errors import AuriscopeError
from auriscope.text.normalise import NORMALISERS, cardinal, normaliser, ordinal


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", " As  it IS. ", " As  it IS. "),
        ("lower-case", "ÉTÉ Is", "été is"),
        ("no-punctuation", "rock'n'roll -- 'quoted' 1,000.5, end.", "rock'n'roll quoted 1000.5 end"),
        ("no-punctuation", "Ünïcode\u0301, naturally!", "Ünïcode\u0301 naturally"),
        ("number-words", "2 and 13, 40 and 105", "two and thirteen, forty and one hundred five"),
        ("number-words", "3.05% of 1,000,000", "three point zero five percent of one million"),
        ("number-words", "the 1st, 2nd, 3rd, 12th and 30th", "the first, second, third, twelfth and thirtieth"),
        ("number-words", "$1, £2.01 or £3.00", "one dollar, two pounds one penny or three pounds"),
        ("number-words", "€0.50, $2.5", "zero euros fifty cents, two point five dollars"),
        ("number-words", "agent 007 in room 0", "agent zero zero seven in room zero"),
        # What is no number stays.
        ("number-words", "v1.2.3, A4, 10:30pm, 1234567890123456", "v1.2.3, A4, 10:30pm, 1234567890123456"),
        ("contractions", "I’m sure you'd've said we won't", "I am sure you would have said we will not"),
        ("contractions", "John's dog, let's go, CAN'T", "John's dog, let us go, can not"),
        ("no-fillers", "mm-hmm, so Um hmm the umbrella errs, uh-huh", "so the umbrella errs, uh-huh"),
        ("letters", "naïve—café 'n' chips", "NA VE CAF N CHIPS"),
        ("english", "Dr. Who's (laughs) 21st \u2014 uh, well-known!", "doctor who is twenty first well known"),
    ],
)  # fmt: skip
def test_texts_by_name(name: str, text: str, expected: str) -> None:
    assert normaliser(name)(text) == expected


@pytest.mark.parametrize("name", sorted(set(NORMALISERS) - {"number-words", "contractions", "english"}))
@given(text=st.text(max_size=40))
def test_normalising_twice_is_normalising_once(name: str, text: str) -> None:
    once = NORMALISERS[name](text)
    assert NORMALISERS[name](once) == once


def test_names_apply_in_their_order() -> None:
    assert normaliser("number-words, lower-case,no-punctuation")("In 1,000 Years!") == "in one thousand years"
    assert normaliser(["no-punctuation", "letters"])("it's 5") == "IT'S"


def test_every_number_is_written_and_read_back() -> None:
    units = {cardinal(number): number for number in (*range(20), *range(20, 100, 10))}
    large = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

    def value(words: str) -> int:
        total = group = 0
        for word in words.split():
            if word == "hundred":
                group *= 100
            elif word in large:
                total, group = total + group * large[word], 0
            else:
                group += units[word]
        return total + group

    numbers = [*range(2000), 10**5 + 7, 999_999, 10**6, 10**9 + 10**3, 10**15 - 1]
    assert [value(cardinal(number)) for number in numbers] == numbers
    with pytest.raises(ValueError, match="is not from 0"):
        cardinal(10**15)
    assert [ordinal(number) for number in (0, 5, 8, 9, 21, 1000)] == [
        "zeroth",
        "fifth",
        "eighth",
        "ninth",
        "twenty first",
        "one thousandth",
    ]


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(AuriscopeError, match="no normaliser 'lowercase'; did you mean 'lower-case'"):
        normaliser("lowercase")
    with pytest.raises(AuriscopeError, match="no normaliser 'xyz'; there are none, lower-case"):
        normaliser("none,xyz")
