from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auriscope.errors import AuriscopeError
from auriscope.text.tokenizer import BLANK, EOS, UNKNOWN, WORD_START, Tokenizer, characters, words

LETTERS = characters("ABC' ")
PIECES = Tokenizer(
    (BLANK, EOS, UNKNOWN, WORD_START, WORD_START + "THE", WORD_START + "CAT", "S", "A", "T"),
    "pieces",
    (0.0, 0.0, 0.0, -5.0, -1.0, -2.0, -3.0, -6.0, -6.0),
)


@given(st.text(alphabet="ABC' "))
def test_letters_come_back_with_single_spaces(text: str) -> None:
    assert LETTERS.decode(LETTERS.encode(text)) == " ".join(text.split())


@given(st.lists(st.integers(0, 6), max_size=20))
def test_the_words_of_letters_are_those_of_the_text(numbers: list[int]) -> None:
    found = LETTERS.words(numbers)
    assert [word for word, _, _ in found] == LETTERS.decode(numbers).split()
    for word, begin, end in found:
        assert LETTERS.decode(numbers[begin:end]) == word


@given(st.lists(st.integers(0, 8), max_size=20))
def test_the_words_of_pieces_are_those_of_the_text(numbers: list[int]) -> None:
    found = PIECES.words(numbers)
    assert [word for word, _, _ in found] == PIECES.decode(numbers).split()
    assert all(PIECES.decode(numbers[begin:end]) == word for word, begin, end in found)


def test_pieces_are_the_likeliest_ones() -> None:
    numbers = PIECES.encode("THE  CATS")
    assert [PIECES.tokens[number] for number in numbers] == [WORD_START + "THE", WORD_START + "CAT", "S"]
    assert PIECES.decode(numbers) == "THE CATS"
    assert PIECES.encode("") == []
    assert PIECES.decode(PIECES.encode("THE X")) == "THE"


def test_words_are_tokens() -> None:
    tokenizer = words(["ONE", "TWO"])
    assert tokenizer.encode("TWO ONE") == [3, 2]
    assert tokenizer.words([1, 3, 2, 1]) == [("TWO", 1, 2), ("ONE", 2, 3)]
    with pytest.raises(AuriscopeError, match="the word 'SIX' is none of the model's 4 tokens"):
        tokenizer.encode("SIX")


def test_what_cannot_be_written_is_named() -> None:
    with pytest.raises(AuriscopeError, match="the character 'É'"):
        LETTERS.encode("É")


def test_ends_and_blanks_are_no_text() -> None:
    assert LETTERS.decode([1, 0, 2, 0, 3, 1]) == "AB"
    assert LETTERS.special_ids == {0, 1}
    # A foreign tokenizer with one number for the blank and both ends.
    foreign = Tokenizer(("<s>", "A", " "), blank_id=0, bos_id=0, eos_id=0)
    assert foreign.decode([0, 1, 2, 1]) == "A A"


def test_pieces_without_scores_are_refused() -> None:
    with pytest.raises(AuriscopeError, match="3 pieces need as many scores, not 0"):
        Tokenizer((BLANK, EOS, "A"), "pieces").encode("A")
