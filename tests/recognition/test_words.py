"""Tokens with times, put together to words."""

from __future__ import annotations

import dataclasses

import pytest

from auriscope.recognition.words import TokenSpan, Word, words_of_spans
from auriscope.text.tokenizer import WORD_START, Tokenizer, characters, words


def _spans(*entries: tuple[int, int, int, float]) -> list[TokenSpan]:
    return [TokenSpan(*entry) for entry in entries]


def test_a_word_is_frozen() -> None:
    word = Word("one", 0.0, 0.5, 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        word.confidence = 0.0  # type: ignore[misc]


def test_letters_become_words_at_spaces() -> None:
    tokenizer = characters("AB ")
    spans = _spans((4, 0, 1, 0.1), (2, 1, 2, 0.8), (3, 4, 6, 0.5), (4, 6, 7, 0.1), (4, 8, 9, 0.1), (3, 9, 10, 1.0))
    first, second = words_of_spans(spans, tokenizer, 0.1, start_seconds=20.0)
    assert (first.word, second.word) == ("AB", "B")
    assert (first.start_seconds, first.end_seconds) == pytest.approx((20.1, 20.6))
    assert (second.start_seconds, second.end_seconds) == pytest.approx((20.9, 21.0))
    assert first.confidence == pytest.approx(0.8 * 0.5)  # the spaces count for nothing
    assert second.confidence == 1.0


def test_pieces_become_words_where_one_begins() -> None:
    tokenizer = Tokenizer(("<blank>", "<eos>", WORD_START + "din", "ner", WORD_START), kind="pieces")
    spans = _spans((2, 0, 1, 0.9), (3, 2, 4, 0.6), (4, 5, 6, 0.3), (3, 6, 7, 0.7), (2, 8, 9, 0.5))
    found = words_of_spans(spans, tokenizer, 1.0)
    assert [(word.word, word.start_seconds, word.end_seconds) for word in found] == [
        ("dinner", 0.0, 4.0),
        ("ner", 5.0, 7.0),
        ("din", 8.0, 9.0),
    ]
    assert found[0].confidence == pytest.approx(0.9 * 0.6)


def test_whole_words_are_words() -> None:
    tokenizer = words(["ONE", "TWO"])
    found = words_of_spans(_spans((3, 0, 2, 0.5), (3, 3, 4, 0.5), (2, 4, 5, 0.25)), tokenizer, 0.5)
    assert found == (Word("TWO", 0.0, 1.0, 0.5), Word("TWO", 1.5, 2.0, 0.5), Word("ONE", 2.0, 2.5, 0.25))


@pytest.mark.parametrize("spans", [[], _spans((4, 0, 1, 1.0), (4, 2, 3, 1.0)), _spans((1, 0, 1, 1.0))])
def test_nothing_said_is_no_words(spans: list[TokenSpan]) -> None:
    assert words_of_spans(spans, characters("AB "), 0.1) == ()


def test_tokens_that_are_no_text_are_left_out() -> None:
    spans = _spans((2, 3, 4, 0.5), (1, 7, 9, 1.0))
    assert words_of_spans(spans, characters("AB "), 1.0) == (Word("A", 3.0, 4.0, 0.5),)


def test_rounding_never_leaves_the_range_of_a_confidence() -> None:
    (word,) = words_of_spans(_spans((2, 0, 3, 1.0000001)), characters("AB "), 1.0)
    assert word.confidence == 1.0
