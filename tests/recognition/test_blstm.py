"""The BLSTM with CTC: its size, its frames, its padding, and that it learns to hear and to say when."""

from __future__ import annotations

import math

import pytest
import torch

from auriscope.recognition import BLSTMCTC, BLSTMCTCConfig
from auriscope.recognition.alignment import word_times
from auriscope.recognition.blstm import stack_frames
from auriscope.recognition.greedy import transcripts

from .tones import TONE_SECONDS, tone_texts, tones, trained_on_tones


def test_the_default_has_the_weights_of_the_paper() -> None:
    model = BLSTMCTC(BLSTMCTCConfig())
    assert model.num_parameters == pytest.approx(26.5e6, rel=0.005)  # section 4: about 26.5 million


@pytest.mark.parametrize("subsampling", [1, 3, 4])
def test_frames_are_counted_and_timed(subsampling: int) -> None:
    model = BLSTMCTC(BLSTMCTCConfig(num_mels=8, num_cells=4, num_layers=1, subsampling=subsampling)).eval()
    encoded = model.encode(torch.randn(2, 16_000), torch.tensor([16_000, 4_000]))
    expected = [math.ceil(101 / subsampling), math.ceil(26 / subsampling)]
    assert encoded.frame_lengths.tolist() == expected
    assert encoded.states.shape == (2, expected[0], 8)
    assert encoded.frame_seconds == pytest.approx(0.01 * subsampling)
    assert not encoded.states[1, expected[1] :].any()


def test_stacking_takes_nothing_from_behind_the_end() -> None:
    features = torch.arange(1.0, 15.0).reshape(1, 7, 2).repeat(2, 1, 1)
    stacked, lengths = stack_frames(features, torch.tensor([7, 4]), 3)
    assert lengths.tolist() == [3, 2]
    assert stacked[0].tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12], [13, 14, 0, 0, 0, 0]]
    assert stacked[1].tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    same, same_lengths = stack_frames(features, torch.tensor([7, 7]), 1)
    assert torch.equal(same, features)
    assert same_lengths.tolist() == [7, 7]


@pytest.mark.parametrize("subsampling", [1, 3])
def test_padding_changes_nothing(subsampling: int) -> None:
    torch.manual_seed(0)
    model = BLSTMCTC(BLSTMCTCConfig(num_mels=12, num_cells=6, num_layers=2, subsampling=subsampling)).eval()
    waveform, lengths = torch.randn(3, 8000), torch.tensor([8000, 4100, 5])
    with torch.no_grad():
        together = model(waveform, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(waveform[row : row + 1, :length])[0]
            torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("values", [{"num_cells": 0}, {"num_layers": 0}, {"subsampling": 0}])
def test_values_that_make_no_network_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BLSTMCTCConfig(**values)


def test_it_learns_which_tones_are_sung_and_when() -> None:
    model = trained_on_tones()
    generator = torch.Generator().manual_seed(1)
    texts = tone_texts(6, generator)
    waveform, starts = tones(texts, generator)
    assert transcripts(model, waveform) == texts
    with torch.no_grad():
        encoded = model.encode(waveform)
        log_probs = model.ctc_logits(encoded).log_softmax(-1)
    tokens = torch.tensor([model.tokenizer.encode(text) for text in texts])
    found = word_times(
        log_probs,
        tokens,
        encoded.frame_lengths,
        tokenizer=model.tokenizer,
        frame_seconds=encoded.frame_seconds,
    )
    for text, words, begins in zip(texts, found, starts, strict=True):
        assert [word.word for word in words] == text.split()
        for word, begin in zip(words, begins, strict=True):
            # A frame lasts 60 ms, and CTC may begin and end a letter a little off its sound.
            assert word.start_seconds == pytest.approx(begin, abs=0.1)
            assert word.end_seconds == pytest.approx(begin + 2 * TONE_SECONDS, abs=0.1)
            assert 0.5 < word.confidence <= 1.0
