"""Interpretations as sound: both parts are the recording, and windows join to what one pass would give."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.classification import CNN, CNNConfig
from auriscope.interpretation.interpreter import Interpretation, Interpreter
from auriscope.interpretation.listening import explained, hear, parts_of
from auriscope.interpretation.long import WindowsConfig, interpret_stream, probabilities_of, windows

RATE = 16_000


class LowBand(Interpreter):
    """Keeps the lower half of the frequencies, whatever is asked."""

    def interpret(self, classifier: object, x: Tensor, label: Tensor | None = None) -> Interpretation:
        mask = torch.zeros(len(x), 1, *x.shape[2:])
        mask[..., : x.shape[3] // 2] = 1.0
        return Interpretation(mask, classifier.classify_maps(x).argmax(1) if label is None else label)  # type: ignore[attr-defined]


class Everything(Interpreter):
    """Keeps all."""

    def interpret(self, classifier: object, x: Tensor, label: Tensor | None = None) -> Interpretation:
        chosen = classifier.classify_maps(x).argmax(1) if label is None else label  # type: ignore[attr-defined]
        return Interpretation(torch.ones(len(x), 1, *x.shape[2:]), chosen)


@pytest.fixture(scope="module")
def classifier() -> CNN:
    torch.manual_seed(0)
    return CNN(CNNConfig(labels=("low", "high"), **CNN.Tiny)).eval()


def tones(seconds: float, *hertz: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sum([0.2 * np.sin(2 * np.pi * each * time) for each in hertz], 0).astype(np.float32)


@pytest.mark.parametrize("length", [3 * 160, 3 * 160 + 1, 4000 + 159, 100])
def test_what_was_heard_and_what_was_left_are_the_recording(classifier: CNN, length: int) -> None:
    waveform = torch.from_numpy(np.random.default_rng(0).standard_normal((2, length)).astype(np.float32))
    found = hear(classifier, LowBand(), waveform)
    assert found.heard.shape == found.left.shape == waveform.shape
    torch.testing.assert_close(found.heard + found.left, waveform)
    whole = hear(classifier, Everything(), waveform)
    torch.testing.assert_close(whole.heard, waveform, atol=1e-5, rtol=0)
    assert whole.left.abs().max() < 1e-5


def test_a_mask_on_the_low_half_lets_the_low_tone_through(classifier: CNN) -> None:
    low, high = tones(1.0, 500.0), tones(1.0, 6000.0)
    found = hear(classifier, LowBand(), torch.from_numpy(low + high)[None])
    assert (found.heard[0] - torch.from_numpy(low)).square().mean() < 1e-4 * np.square(low).mean()
    assert (found.left[0] - torch.from_numpy(high)).square().mean() < 1e-4 * np.square(high).mean()


def test_the_classifier_is_asked_about_the_parts(classifier: CNN) -> None:
    x = classifier.spectrogram(torch.from_numpy(tones(0.5, 500.0, 6000.0))[None]).abs()[:, None]
    found = explained(classifier, LowBand(), x)
    inside, rest = parts_of(x, found.interpretation.mask)
    with torch.no_grad():
        for logits, part in ((found.logits, x), (found.logits_of_interpretation, inside), (found.logits_without, rest)):
            torch.testing.assert_close(logits, classifier.classify_maps(part))
    whole = explained(classifier, Everything(), x).values()
    assert whole["input_fidelity"].tolist() == [1.0]
    assert [whole[name].tolist() for name in ("average_drop", "average_increase", "average_gain")] == [[0.0]] * 3


@pytest.mark.parametrize("length", [1, 99, 100, 101, 150, 199, 200, 1234])
def test_windows_cover_the_stream_and_share_their_overlap(length: int) -> None:
    stream = np.arange(length, dtype=np.float32)
    for size in (7, 50, 2000):
        blocks = [stream[start : start + size] for start in range(0, length, size)]
        found = list(windows(blocks, 100, 20))
        assert np.array_equal(np.concatenate([found[0], *(window[20:] for window in found[1:])]), stream)
        for before, after in pairwise(found):
            assert np.array_equal(before[-20:], after[:20])
        assert all(len(window) <= 100 for window in found)
        assert len(found) == 1 or min(map(len, found)) >= 50


def test_a_long_recording_joins_to_what_one_pass_gives(classifier: CNN) -> None:
    """The mask is the same everywhere, so that nothing but seams could tell the two apart."""
    rng = np.random.default_rng(1)
    waveform = (tones(3.3, 400.0, 5000.0) + 0.01 * rng.standard_normal(round(3.3 * RATE))).astype(np.float32)
    config = WindowsConfig(window_seconds=1.0, overlap_seconds=0.1)
    pieces = list(interpret_stream([waveform[:777], waveform[777:]], classifier, LowBand(), 1, config))
    heard = np.concatenate([piece.heard for piece in pieces])
    left = np.concatenate([piece.left for piece in pieces])
    assert len(pieces) > 2
    np.testing.assert_allclose(heard + left, waveform, atol=1e-6)
    whole = hear(classifier, LowBand(), torch.from_numpy(waveform)[None]).heard[0].numpy()
    # The ends of a window are cut off from what lies beyond them; the fade leaves little of that.
    assert np.square(heard - whole).mean() < 1e-3 * np.square(whole).mean()
    assert all(piece.found is not None and piece.found.explained.interpretation.label == 1 for piece in pieces)


def test_silent_windows_are_left_and_nothing_is_asked_about_them(classifier: CNN) -> None:
    waveform = np.concatenate((tones(1.0, 500.0), np.zeros(3 * RATE, np.float32)))
    config = WindowsConfig(window_seconds=1.0, overlap_seconds=0.1)
    pieces = list(interpret_stream([waveform], classifier, Everything(), 0, config))
    assert [piece.found is None for piece in pieces][-1]
    assert pieces[0].found is not None
    np.testing.assert_allclose(np.concatenate([piece.heard for piece in pieces]), waveform, atol=1e-5)
    assert probabilities_of([np.zeros(2 * RATE, np.float32)], classifier) is None


def test_the_probabilities_of_a_short_recording_are_those_of_the_classifier(classifier: CNN) -> None:
    waveform = tones(1.0, 700.0)
    found = probabilities_of([waveform[:5000], waveform[5000:]], classifier)
    assert found is not None
    with torch.no_grad():
        expected = classifier.predict_proba(torch.from_numpy(waveform)[None])[0]
    torch.testing.assert_close(found.float(), expected)


def test_windows_that_overlap_by_more_than_half_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap_seconds"):
        WindowsConfig(window_seconds=1.0, overlap_seconds=0.6)
