from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auriscope.errors import AuriscopeError
from auriscope.text.alphabet import in_alphabet
from auriscope.text.spoken import sentences, speakable, spoken, year

LETTERS = frozenset(string.ascii_lowercase + " '.,?!-")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # Numbers, money, units.
        ("1,250 people, 3.14, 007", "one thousand two hundred fifty people, three point one four, zero zero seven"),
        ("-3 + 4 = 1", "minus three plus four equals one"),
        ("pages 5-10, R&D, #5", "pages five to ten, ar and dee, number five"),
        ("$3.50, £1,000.50, $1", "three dollars fifty cents, one thousand pounds fifty pence, one dollar"),
        ("$3.5 million, £5m, ¥100, 50p, 3 €",
         "three point five million dollars, five million pounds, one hundred yen, fifty pence, three euros"),
        ("1 kg, 5 km/h, 44.1 kHz, 20 °C, 2,000 km²",
         "one kilogram, five kilometers per hour, forty four point one kilohertz, twenty degrees Celsius, "
         "two thousand square kilometers"),
        ("10% of 1/2, 3/4 and 2½", "ten percent of one half, three quarters and two and a half"),
        ("5'10\" tall, v 1.2.3", "five feet ten tall, v one point two point three"),
        ("Call (212) 555-1234", "Call two one two, five five five, one two three four"),
        # Times, dates, years.
        ("at 7:05 p.m., 10:00, 7pm, 23:15", "at seven oh five pee em, ten o'clock, seven pee em, twenty three fifteen"),
        ("at 5 p.m. He left", "at five pee em. He left"),
        ("2024-03-05", "March fifth, twenty twenty four"),
        ("3/5/2024 and 25/12/1999", "March fifth, twenty twenty four and December twenty fifth, nineteen ninety nine"),
        ("Sept. 5th, 2005", "September fifth, two thousand five"),
        ("The 21st of March 2020", "The twenty first of March, twenty twenty"),
        ("on 5 May 1984", "on the fifth of May, nineteen eighty four"),
        ("in 1066, the 1990s, the '80s, 1914-18",
         "in ten sixty six, the nineteen nineties, the eighties, nineteen fourteen to eighteen"),
        ("1500 kg in 1500", "one thousand five hundred kilograms in fifteen hundred"),
        # Abbreviations, initials, Roman numbers, capitals.
        ("Mr. and Mrs. Jones, Jr., etc. The end", "Mister and Missus Jones, Junior, et cetera. The end"),
        ("Baker St. in St. Louis, e.g. No. 5", "Baker Street in Saint Louis, for example Number five"),
        ("J. R. R. Tolkien in the U.S. He left", "jay ar ar Tolkien in the you ess. He left"),
        ("Henry VIII, Chapter IV, World War II", "Henry the eighth, Chapter four, World War two"),
        ("In case I go, NASA and the FBI do NOT", "In case I go, NASA and the eff bee eye do NOT"),
        ("CHAPTER IV. MR. DARCY WAS NOT SO BAD", "chapter four. mister darcy was not so bad"),
        ("an MP3, A4, COVID-19", "an em pee three, A four, COVID nineteen"),
        # Addresses.
        ("bob.x@mail.org, www.example.com/a-b.",
         "bob dot x at mail dot org, double you double you double you dot example dot com slash a dash b."),
        # Plain text stays.
        ("It's “well-known”; isn't it? Yes!", "It's “well-known”; isn't it? Yes!"),
    ],
)  # fmt: skip
def test_written_text_is_spoken(text: str, said: str) -> None:
    assert speakable(text) == said


@given(text=st.text(max_size=60) | st.text("0123456789.,:/-$%° kmIVX'pPaA", max_size=30))
def test_no_figure_is_left_and_twice_is_once(text: str) -> None:
    once = speakable(text)
    assert not re.search(r"\d", once)
    assert "  " not in once


@given(text=st.text(string.ascii_letters + " .,;:!?'\"-", max_size=400), most=st.integers(20, 80))
def test_sentences_lose_no_letter_and_are_short(text: str, most: int) -> None:
    found = sentences(text, most)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(sentence) <= most for sentence in found)


def test_a_long_sentence_is_cut_where_a_reader_breathes() -> None:
    text = "The first part goes on for a while, then comes a second part and a third one that ends here."
    assert sentences(text, 50) == [
        "The first part goes on for a while,",
        "then comes a second part and a third one",
        "that ends here.",
    ]
    assert [len(part) for part in sentences("a" * 25, 10)] == [10, 10, 5]


def test_letters_that_a_voice_lacks_are_replaced_or_named_once() -> None:
    assert in_alphabet("Crème Brûlée — ÆSIR: “straße”", LETTERS) == ("creme brulee - aesir, strasse", ())
    assert in_alphabet("я 你你 🙂\u200d👍🏽 ok", LETTERS) == ("ok", ("я", "你", "🙂", "👍", "🏽"))
    assert in_alphabet("it's", frozenset("ITS"))[0] == "ITS"
    result = spoken("Hello 🙂 Мир. Ok.", LETTERS)
    assert result.sentences == ("hello.", "ok.")
    assert result.warning == "left out what this voice cannot speak: 🙂 М и р"
    assert spoken("Hello.", LETTERS).warning is None
    many = spoken("ok " + "".join(map(chr, range(0x4E00, 0x4E20))), LETTERS).warning
    assert many is not None
    assert many.endswith("and 22 more")
    assert "\n" not in many


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "there is no text to speak"),
        (" \n ", "there is no text to speak"),
        ("🙂 🙂", "can speak nothing of the text (🙂)"),
        ("...", "can speak nothing of the text (...)"),
        ("Привет", "can speak nothing of the text (П р и в е т)"),
    ],
)
def test_what_cannot_be_spoken_is_one_line(text: str, line: str) -> None:
    with pytest.raises(AuriscopeError, match=re.escape(line)):
        spoken(text, LETTERS)


def test_ten_thousand_words() -> None:
    text = "It was the best of times, it was the worst of times, in 1775. " * 770
    found = spoken(text, LETTERS)
    assert len(found.sentences) == 770
    assert set(found.sentences) == {"it was the best of times, it was the worst of times, in seventeen seventy five."}


def test_paragraphs_end_sentences() -> None:
    assert spoken("A heading\n\nAnd text\nthat goes on.").sentences == ("A heading", "And text that goes on.")


@pytest.mark.parametrize("number", [*range(1000, 2100, 7), 2000, 2100, 9999])
def test_years_are_read_in_hundreds(number: int) -> None:
    words = year(number)
    assert re.fullmatch(r"[a-z ]+", words)
    assert ("thousand" in words) == (number // 100 % 10 == 0 and number % 100 < 10)
