"""Recordings of any length through windows: as if they were heard at once, whatever blocks they come in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.recognition import BLSTMCTC
from auriscope.recognition.alignment import word_times
from auriscope.recognition.greedy import greedy_ctc
from auriscope.recognition.posteriors import FloatArray, Windows, recording_log_probs

from .tones import RATE, TONE_SECONDS, tone_texts, tones, trained_on_tones

SHORT = Windows(window_seconds=1.5, margin_seconds=0.4)


def _blocks(waveform: Tensor, sizes: list[int]) -> list[FloatArray]:
    edges = np.cumsum([0, *sizes])
    return [waveform.numpy()[a:b] for a, b in pairwise([*edges[edges < len(waveform)].tolist(), len(waveform)])]


@pytest.fixture(scope="module")
def model() -> BLSTMCTC:
    return trained_on_tones()


@pytest.fixture(scope="module")
def long() -> tuple[Tensor, str, list[float]]:
    """Half a minute of words, what they are, and when they begin."""
    generator = torch.Generator().manual_seed(2)
    text = " ".join(tone_texts(30, generator))
    waveforms, starts = tones([text], generator)
    return waveforms[0], text, starts[0]


def test_words_of_a_long_recording_are_found_through_windows(
    model: BLSTMCTC, long: tuple[Tensor, str, list[float]]
) -> None:
    waveform, text, starts = long
    log_probs, seconds = recording_log_probs(model, [waveform.numpy()], SHORT)
    assert model.tokenizer.decode(greedy_ctc(log_probs[None], torch.tensor([len(log_probs)]), 0)[0]) == text
    tokens = torch.tensor([model.tokenizer.encode(text)])
    (words,) = word_times(log_probs[None], tokens, tokenizer=model.tokenizer, frame_seconds=seconds)
    assert [word.word for word in words] == text.split()
    for word, start in zip(words, starts, strict=True):
        assert word.start_seconds == pytest.approx(start, abs=0.1)
        assert word.end_seconds == pytest.approx(start + 2 * TONE_SECONDS, abs=0.1)


@pytest.mark.parametrize("sizes", [[100] * 3000, [1, 50_000, 7, 90_000], [12_000] * 30])
def test_the_blocks_that_it_comes_in_do_not_matter(
    model: BLSTMCTC, long: tuple[Tensor, str, list[float]], sizes: list[int]
) -> None:
    waveform = long[0]
    whole, _ = recording_log_probs(model, [waveform.numpy()], SHORT)
    assert torch.equal(recording_log_probs(model, _blocks(waveform, sizes), SHORT)[0], whole)


@pytest.mark.parametrize("samples", [5, 1919, 1920, 12_000, 12_480, 18_720, 18_721, 30_000, 54_321])
def test_there_are_as_many_frames_as_when_it_is_heard_at_once(model: BLSTMCTC, samples: int) -> None:
    waveform = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    whole = model.encode(waveform[None])
    log_probs, seconds = recording_log_probs(model, [waveform.numpy()], SHORT)
    assert len(log_probs) == whole.frame_lengths.item()
    assert seconds == whole.frame_seconds
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(len(log_probs)))


def test_a_short_recording_is_heard_at_once(model: BLSTMCTC, long: tuple[Tensor, str, list[float]]) -> None:
    waveform = long[0][: 10 * RATE]
    with torch.no_grad():
        whole = model(waveform[None]).log_softmax(-1)[0]
    assert torch.equal(recording_log_probs(model, [waveform.numpy()])[0], whole)


def test_nothing_is_no_recording(model: BLSTMCTC) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        recording_log_probs(model, [])
    with pytest.raises(ValueError, match="must be positive"):
        Windows(window_seconds=0.0)


def test_letters_lie_in_the_words_that_they_are_of(model: BLSTMCTC, long: tuple[Tensor, str, list[float]]) -> None:
    waveform, text, starts = long
    written = f"- {text.upper()}!"
    found = model.letter_times(waveform, written)
    assert [written[place] for place, _ in found] == list(text.upper().replace(" ", ""))
    seconds = [second for _, second in found]
    assert seconds == sorted(seconds)
    words = np.cumsum([sign == " " for sign in text])
    for place, second in found:
        start = starts[words[place - 2]]
        assert start - 0.1 <= second <= start + 2 * TONE_SECONDS + 0.1
    assert model.letter_times(waveform, "!") == []
    assert model.letter_times(waveform[: RATE // 2], text) == []
