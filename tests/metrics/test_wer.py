from __future__ import annotations

import functools
import math

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auriscope.errors import AuriscopeError
from auriscope.metrics import wer as module
from auriscope.metrics.wer import Operation, Weights, align, character_errors, three_lines, word_errors

REFERENCE = "i UM the PHONE IS i LEFT THE portable PHONE UPSTAIRS last night"
HYPOTHESIS = "i GOT IT TO the FULLEST i LOVE TO portable FORM OF STORES last night"
BOTH: list[Weights] = ["levenshtein", "sclite"]

# Few words, so that they meet, and some that are hard to tell apart or no ASCII.
TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "é", "日本", "A"]), max_size=9).map(" ".join)


def counts_by_hand(hypothesis: str, reference: str, weights: Weights) -> tuple[int, int, int]:
    """Try all alignments: the first of edits and sclite's cost, and then the other, least."""
    hyp, ref = hypothesis.split(), reference.split()

    @functools.cache
    def best(row: int, column: int) -> tuple[int, int, int, int, int]:
        ways = []
        if row == len(ref) and column == len(hyp):
            return 0, 0, 0, 0, 0
        if row < len(ref) and column < len(hyp):
            ways.append((best(row + 1, column + 1), int(ref[row] != hyp[column]), 0, 0))
        if column < len(hyp):
            ways.append((best(row, column + 1), 0, 1, 0))
        if row < len(ref):
            ways.append((best(row + 1, column), 0, 0, 1))
        found = []
        for rest, substitutions, insertions, deletions in ways:
            total = (rest[2] + substitutions, rest[3] + insertions, rest[4] + deletions)
            edits, cost = sum(total), 4 * total[0] + 3 * total[1] + 3 * total[2]
            found.append(((edits, cost) if weights == "levenshtein" else (cost, edits)) + total)
        return min(found)

    return best(0, 0)[2:]


@pytest.mark.parametrize("weights", BOTH)
def test_the_textbook_pair(weights: Weights) -> None:
    errors = word_errors([HYPOTHESIS], [REFERENCE], weights=weights)
    assert (errors.substitutions, errors.insertions, errors.deletions, errors.num_words) == (6, 3, 1, 13)
    assert f"{100 * errors.wer:.1f}" == "76.9"
    assert three_lines(align(HYPOTHESIS.split(), REFERENCE.split(), weights=weights)).splitlines() == [
        "REF:  i *** ** UM the PHONE IS      i LEFT THE portable **** PHONE UPSTAIRS last night",
        "HYP:  i GOT IT TO the ***** FULLEST i LOVE TO  portable FORM OF    STORES   last night",
        "Eval:   I   I  S      D     S         S    S            I    S     S",
    ]


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), st.sampled_from(BOTH))
def test_counts_are_those_of_the_best_of_all_alignments(pairs: list[tuple[str, str]], weights: Weights) -> None:
    hypotheses, references = [one for one, _ in pairs], [other for _, other in pairs]
    expected = [counts_by_hand(one, other, weights) for one, other in pairs]
    errors = word_errors(hypotheses, references, weights=weights)
    assert errors.per_utterance[:, :3].tolist() == [list(each) for each in expected]
    assert errors.per_utterance[:, 3].tolist() == [len(text.split()) for text in references]
    for (one, other), each in zip(pairs, expected, strict=True):
        kinds = [operation.kind for operation in align(one.split(), other.split(), weights=weights)]
        assert tuple(map(kinds.count, ("substitution", "insertion", "deletion"))) == each


@given(st.lists(st.tuples(TEXTS, TEXTS.filter(bool)), min_size=1, max_size=5))
def test_the_errors_are_those_of_jiwer(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = [one for one, _ in pairs], [other for _, other in pairs]
    assert word_errors(hypotheses, references).wer == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-12)
    assert character_errors(hypotheses, references).cer == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-12)


@given(TEXTS, TEXTS, st.sampled_from(BOTH))
def test_an_alignment_is_of_both_texts(hypothesis: str, reference: str, weights: Weights) -> None:
    operations = align(hypothesis.split(), reference.split(), weights=weights)
    assert [each.hypothesis for each in operations if each.hypothesis is not None] == hypothesis.split()
    assert [each.reference for each in operations if each.reference is not None] == reference.split()
    for kind, heard, said in operations:
        assert (kind == "correct") == (heard == said)
        assert (kind == "insertion") == (said is None)
        assert (kind == "deletion") == (heard is None)


@pytest.mark.parametrize("weights", BOTH)
def test_long_texts_are_aligned_in_halves_as_well(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    reference, hypothesis = (list(map(str, rng.integers(0, 30, size=size))) for size in (180, 200))

    def counts(operations: list[Operation]) -> list[int]:
        kinds = [operation.kind for operation in operations]
        return [kinds.count("substitution"), kinds.count("insertion"), kinds.count("deletion")]

    whole = counts(align(hypothesis, reference, weights=weights))
    monkeypatch.setattr(module, "_MOST_CELLS", 500)
    halves = align(hypothesis, reference, weights=weights)
    assert counts(halves) == whole
    assert [each.reference for each in halves if each.reference is not None] == reference
    assert (
        whole
        == word_errors([" ".join(hypothesis)], [" ".join(reference)], weights=weights).per_utterance[0, :3].tolist()
    )


def test_words_are_told_apart_across_blocks_and_in_crowded_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sentences = [
        " ".join(f"w{number}" for number in rng.integers(0, 4000, size=rng.integers(0, 40))) for _ in range(400)
    ]
    others = [" ".join(word for word in text.split() if word[-1] != "7") for text in sentences]
    sentences.append("x" * 70_000 + " y")
    others.append("x" * 69_999 + " y")
    expected = jiwer.process_words([text or "-" for text in sentences], [text or "-" for text in others])
    for block, bits in ((1 << 16, 14), (1000, 2)):
        monkeypatch.setattr(module, "_BLOCK", block)
        monkeypatch.setattr(module, "_SLOT_BITS", bits)
        errors = word_errors(others, sentences)
        assert errors.edits == expected.substitutions + expected.insertions + expected.deletions
        assert errors.deletions == expected.deletions


def test_white_space_is_that_of_python() -> None:
    text = "a\u00a0b\tc\x1cd\u3000e  f\n"
    assert word_errors([text], ["a b c d e f"]).edits == 0
    assert word_errors(["a\x01b"], ["a b"]).edits == 2
    assert character_errors([" a  b\n"], ["a b"]).edits == 0


def test_nothing_said_or_heard() -> None:
    errors = word_errors(["", "a b", ""], ["", "", "c"])
    assert errors.per_utterance.tolist() == [[0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1]]
    assert errors.rates.tolist() == [0.0, math.inf, 1.0]
    assert errors.wer == 3.0
    assert errors.utterance_error == pytest.approx(2 / 3)
    none = word_errors([], [])
    assert (none.wer, none.num_words, none.utterance_error) == (0.0, 0, 0.0)
    assert three_lines(align([], [])) == "REF:\nHYP:\nEval:"
    assert three_lines(align(["Oh"], [])) == "REF:  **\nHYP:  OH\nEval: I"


def test_case_counts_and_is_shown_where_it_is_all_that_differs() -> None:
    operations = align(["the", "Cat"], ["the", "cat"])
    assert three_lines(operations) == "REF:  the cat\nHYP:  the Cat\nEval:     S"


def test_the_interval_is_of_utterances_or_speakers() -> None:
    references = ["a b c d"] * 40
    hypotheses = ["a b c d"] * 20 + ["a b x y"] * 20
    errors = word_errors(hypotheses, references)
    summary = errors.interval()
    assert summary.mean == errors.wer == 0.25
    assert summary.low is not None
    assert summary.high is not None
    assert 0.1 < summary.low < 0.25 < summary.high < 0.4
    speakers = errors.interval([number // 10 for number in range(40)])
    assert speakers.low is not None
    assert speakers.low < summary.low


def test_texts_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(AuriscopeError, match="2 hypotheses do not go with 1 references"):
        word_errors(["a", "b"], ["a"])
    with pytest.raises(TypeError, match="lists of texts"):
        word_errors("a", "b")
    with pytest.raises(ValueError, match="must be one of levenshtein, sclite"):
        word_errors(["a"], ["b"], weights="equal")  # type: ignore[arg-type]
