from __future__ import annotations

import numpy as np
import pytest

from auriscope.data import synthetic

RATE = 16_000


def pitch_hertz(waveform: np.ndarray) -> float:
    """Median over frames of the lag of the strongest autocorrelation between 60 and 350 Hz."""
    found = []
    for start in range(0, len(waveform) - 1600, 800):
        frame = waveform[start : start + 1600].astype(np.float64)
        frame -= frame.mean()
        correlation = np.correlate(frame, frame, "full")[1599:]
        lags = np.arange(RATE // 350, RATE // 60)
        if correlation[0] > 1e-3 and correlation[lags].max() > 0.5 * correlation[0]:
            found.append(RATE / lags[np.argmax(correlation[lags])])
    return float(np.median(found))


def test_a_voice_is_the_same_every_time_and_another_for_others() -> None:
    one = synthetic.voice(3, 0, seconds=1.5, sample_rate=RATE)
    np.testing.assert_array_equal(one, synthetic.voice(3, 0, seconds=1.5, sample_rate=RATE))
    assert one.shape == (24_000,)
    assert one.dtype == np.float32
    assert np.abs(one).max() == pytest.approx(0.5)
    for speaker, utterance in ((3, 1), (4, 0)):
        other = synthetic.voice(speaker, utterance, seconds=1.5, sample_rate=RATE)
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.3


def test_a_voice_keeps_its_pitch_from_utterance_to_utterance() -> None:
    pitches = np.array(
        [
            [pitch_hertz(synthetic.voice(speaker, utterance, seconds=3.0, sample_rate=RATE)) for utterance in range(3)]
            for speaker in range(6)
        ]
    )
    logs = np.log(pitches)
    assert logs.std(axis=1).mean() < 0.5 * logs.mean(axis=1).std()


def test_splits_share_no_voice() -> None:
    speakers = [
        {utterance.speaker for utterance in synthetic.utterances(split)} for split in ("train", "valid", "test")
    ]
    assert [len(names) for names in speakers] == [24, 6, 6]
    assert len(set.union(*speakers)) == 36
