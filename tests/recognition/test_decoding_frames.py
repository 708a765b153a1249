"""The prefix beam search by frames: against all paths, pruned and not; words and hotwords in either search."""

from __future__ import annotations

import gc
import itertools
import math
import random

import numpy as np
import pytest
import torch

from auriscope.recognition.ctc import collapse
from auriscope.recognition.decoding import DecodingOptions, decode_encoded
from auriscope.recognition.decoding.frames import search_frames
from auriscope.recognition.decoding.hypothesis import repetition, warnings_of
from auriscope.recognition.decoding.scorers import TextScorer
from auriscope.text.tokenizer import BLANK, EOS, WORD_START, Tokenizer, characters, words

from .decoding_models import Bigram, encoded_of, given, peaks

WIDE = DecodingOptions(beam_size=500, num_best=500, token_min_log_prob=-math.inf, beam_margin=math.inf)
LETTERS = (BLANK, EOS, " ", "A", "C", "T", "U", "S")


def _log_probs(frames: int, classes: int, seed: int, scale: float = 2.0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(frames, classes, generator=generator)).double().log_softmax(-1).numpy()


def _all_paths(log_probs: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """The log-probability of every text: the sum over all paths that say it."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = tuple(collapse(list(path), blank))
        score = sum(log_probs[frame, token] for frame, token in enumerate(path))
        found[text] = float(np.logaddexp(found.get(text, -math.inf), score))
    return found


@pytest.mark.parametrize("blank", [0, 2])
def test_a_wide_beam_sums_all_paths_of_every_text(blank: int) -> None:
    log_probs = _log_probs(6, 3, seed=blank)
    expected = _all_paths(log_probs, blank)
    found = {tuple(tokens): score for tokens, score in search_frames(log_probs, blank, WIDE)}
    assert found.keys() == expected.keys()
    assert all(found[text] == pytest.approx(expected[text], abs=1e-9) for text in expected)
    scores = [score for _, score in search_frames(log_probs, blank, WIDE)]
    assert scores == sorted(scores, reverse=True)


def test_runs_of_blanks_change_nothing() -> None:
    log_probs = _log_probs(4, 3, seed=7)
    silence = np.log(np.array([[1.0 - 2e-9, 1e-9, 1e-9]]))
    quiet = np.concatenate((silence, silence, log_probs[:2], silence, silence, silence, log_probs[2:], silence))
    options = DecodingOptions(beam_size=500, num_best=500, beam_margin=math.inf, token_min_log_prob=-15.0)
    exact = {tuple(tokens): score for tokens, score in search_frames(quiet, 0, WIDE)}
    for tokens, score in search_frames(quiet, 0, options):
        assert score == pytest.approx(exact[tuple(tokens)], abs=1e-4)


def test_pruning_loses_little_and_never_adds() -> None:
    right = 0
    for seed in range(20):
        log_probs = _log_probs(6, 4, seed, scale=3.0)
        expected = _all_paths(log_probs, 0)
        found = search_frames(log_probs, 0, DecodingOptions(beam_size=8, num_best=3))
        assert all(score <= expected[tuple(tokens)] + 1e-9 for tokens, score in found)
        right += tuple(found[0][0]) == max(expected, key=lambda text: expected[text])
    assert right >= 18


def test_nothing_to_read_is_an_empty_text() -> None:
    assert search_frames(np.zeros((0, 3)), 0, DecodingOptions()) == [([], 0.0)]


def test_rubbish_collection_is_left_as_it_was() -> None:
    gc.disable()
    try:
        search_frames(_log_probs(4, 3, 0), 0, DecodingOptions())
        assert not gc.isenabled()
    finally:
        gc.enable()
    search_frames(_log_probs(4, 3, 0), 0, DecodingOptions())
    assert gc.isenabled()


def _ambiguous(likely: str, unlikely: str, odds: float = 2.0) -> torch.Tensor:
    """Logits of two texts of equal length, that differ in letters ``odds`` times as likely in one as in the other."""
    logits = peaks(likely, LETTERS)
    for place, letter in enumerate(unlikely):
        if letter != likely[place]:
            logits[0, 2 * place + 1, LETTERS.index(letter)] = 8.0 - math.log(odds)
    return logits


SEARCHES = ["frames", "tokens"]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    ("hotwords", "expected"),
    [
        ((), "A CAT SAT"),
        (("CUT",), "A CUT SAT"),
        (("A CUT",), "A CUT SAT"),
        (("CUT SAT",), "A CUT SAT"),
        # Begun and not completed: what was given for the beginning is taken back.
        (("CUTS",), "A CAT SAT"),
        (("CUT SUT",), "A CAT SAT"),
        (("UT",), "A CAT SAT"),
    ],
)
def test_hotwords_are_worth_it_only_when_complete(search: str, hotwords: tuple[str, ...], expected: str) -> None:
    encoded = encoded_of(_ambiguous("A CAT SAT", "A CUT SAT"))
    plain = DecodingOptions(search=search)  # type: ignore[arg-type]
    options = DecodingOptions(search=search, hotwords=hotwords, hotword_weight=3.0)  # type: ignore[arg-type]
    ((best,),) = decode_encoded(given(LETTERS), encoded, options=options)
    assert best.text == expected
    if hotwords:
        assert best.scores["hotwords"] == float(expected == "A CUT SAT")
    if expected == "A CAT SAT":
        ((without,),) = decode_encoded(given(LETTERS), encoded, options=plain)
        assert best.score == pytest.approx(without.score, abs=1e-9)


@pytest.mark.parametrize("search", SEARCHES)
def test_words_that_a_language_model_knows_win(search: str) -> None:
    encoded = encoded_of(_ambiguous("A CAT SAT", "A CUT SAT", odds=3.0))
    model = Bigram(
        {("<s>", "A"): 0.5, ("A", "CUT"): 0.3, ("CUT", "SAT"): 0.3, ("A", "CAT"): 0.01, ("SAT", "</s>"): 0.5}
    )
    for weight, expected in ((0.0, "A CAT SAT"), (0.1, "A CAT SAT"), (0.9, "A CUT SAT")):
        options = DecodingOptions(search=search, word_lm_weight=weight)  # type: ignore[arg-type]
        ((best,),) = decode_encoded(given(LETTERS), encoded, options=options, language_model=model)
        assert best.text == expected
    unknown = Bigram({("<s>", "A"): 0.5, ("A", "SAT"): 0.5, ("A", "CAT"): 0.01})
    options = DecodingOptions(search=search, word_lm_weight=0.5)  # type: ignore[arg-type]
    ((best,),) = decode_encoded(given(LETTERS), encoded, options=options, language_model=unknown)
    assert best.text == "A CAT SAT"
    assert "word_language_model" in best.scores


PIECES = Tokenizer(
    (BLANK, EOS, f"{WORD_START}A", f"{WORD_START}C", "AT", "U", "T", WORD_START, "A", "C"),
    kind="pieces",
    scores=(0.0,) * 10,
)


@pytest.mark.parametrize("tokenizer", [characters("ACTU "), PIECES, words(["A", "CAT", "CUT", "AT"])])
def test_words_are_scored_alike_whatever_they_are_made_of(tokenizer: Tokenizer) -> None:
    model = Bigram({("<s>", "A"): 0.5, ("A", "CAT"): 0.2, ("CAT", "AT"): 0.1, ("AT", "</s>"): 0.3, ("A", "A"): 0.2})
    options = DecodingOptions(
        word_lm_weight=0.7,
        word_bonus=0.4,
        unknown_word_score=-5.0,
        hotwords=("CAT", "A CAT", "CUT AT", "A A A"),
        hotword_weight=1.5,
    )
    scorer = TextScorer(tokenizer, options, model)
    generator = random.Random(0)
    for _ in range(200):
        numbers = [generator.randrange(len(tokenizer)) for _ in range(generator.randrange(9))]
        state, total = scorer.start(), 0.0
        for number in numbers:
            gain, state = scorer.extend(state, number)
            assert gain <= scorer.max_gains[number] <= scorer.max_gain
            total += gain
        parts = scorer.parts(tokenizer.decode(numbers))
        expected = 0.7 * parts["word_language_model"] + 0.4 * parts["words"] + 1.5 * parts["hotwords"]
        assert total + scorer.end(state) == pytest.approx(expected, abs=1e-9)


def test_beginnings_of_no_known_word_are_charged_in_advance() -> None:
    model = Bigram({("<s>", "CAT"): 0.5})
    scorer = TextScorer(characters("ACTU "), DecodingOptions(word_lm_weight=0.2, unknown_word_score=-10.0), model)
    state, gains = scorer.start(), []
    for number in characters("ACTU ").encode("CATUT"):
        gain, state = scorer.extend(state, number)
        gains.append(gain)
    assert gains == pytest.approx([0.0, 0.0, 0.0, -2.0, 0.0])


def test_repetitions_are_found() -> None:
    assert repetition([], 1) is None
    assert repetition(["the", "cat", "the", "dog", "the", "cat"], 1) is None
    assert repetition(["so", "the", "cat", "the", "cat", "the", "cat", "sat"], 2) == (("the", "cat"), 3)
    assert repetition(["a", "a", "b", "b", "b", "b"], 2) == (("b",), 4)
    assert repetition(["a", "a", "a"], 3) is None
    assert repetition(list("xabababab"), 3) == (("a", "b"), 4)


def test_a_single_endless_word_is_a_loop_too() -> None:
    assert warnings_of("BOO", list("BOO"), limit=2, at_bound=False) == ()
    assert warnings_of("", [], limit=1, at_bound=False) == ()
    (warning,) = warnings_of("HAHAHAHAHA", list("HAHAHAHAHA"), limit=2, at_bound=False)
    assert warning == "'HA' is repeated 5 times in a row: the recogniser may be in a loop"
    said = warnings_of("A A A A", list("A A A A"), limit=2, at_bound=True)
    assert said[0] == "'A' is repeated 4 times in a row: the recogniser may be in a loop"
    assert said[1] == "no end was found within 7 tokens: the transcript may run away"
