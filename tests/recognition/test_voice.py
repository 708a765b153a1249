"""Voice activity: voices are found, silence, noise and held tones are not, however the sound arrives."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from auriscope.data.synthetic import voice
from auriscope.recognition.voice import VoiceConfig, VoiceDetector, find_voice
from auriscope.signal.files import read

RATE = 16_000
FloatArray = NDArray[np.float32]


def spans(waveform: FloatArray, rate: int = RATE, config: VoiceConfig | None = None) -> list[tuple[float, float]]:
    return [(begin / rate, end / rate) for begin, end in find_voice([waveform], rate, config)]


def kept(waveform: FloatArray, rate: int = RATE) -> float:
    return sum(end - begin for begin, end in spans(waveform, rate)) * rate / len(waveform)


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> FloatArray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def silence(seconds: float) -> FloatArray:
    return np.zeros(round(seconds * RATE), np.float32)


def chord(seconds: float, pitches: tuple[float, ...] = (220.0,)) -> FloatArray:
    """A held chord of notes with eight overtones each."""
    moment = np.arange(round(seconds * RATE)) / RATE
    waves = [np.sin(2 * np.pi * pitch * number * moment) / number for pitch in pitches for number in range(1, 9)]
    return (0.1 * np.sum(waves, axis=0)).astype(np.float32)


@pytest.mark.parametrize("speaker", range(3))
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_voice_is_found_where_it_is(speaker: int, rate: int) -> None:
    own = voice(speaker, 0, seconds=3.0, sample_rate=rate)
    around = np.zeros(4 * rate, np.float32)
    ((begin, end),) = spans(np.concatenate([around, own, around]), rate)
    assert 3.3 < begin <= 4.3
    assert 6.5 <= end < 7.8


def test_quiet_voices_are_found_too() -> None:
    own = np.concatenate([silence(2.0), voice(1, 0, seconds=3.0, sample_rate=RATE)])
    assert kept(0.01 * own) == pytest.approx(kept(own), abs=0.02)


@pytest.mark.parametrize("ratio_db", [10.0, 5.0])
def test_a_voice_is_found_in_noise(ratio_db: float) -> None:
    own = voice(3, 1, seconds=6.0, sample_rate=RATE)
    around = noise(14.0, level=float(np.std(own)) * 10 ** (-ratio_db / 20))
    around[4 * RATE : 10 * RATE] += own
    found = spans(around)
    assert found[0][0] < 4.5
    assert found[-1][1] > 9.3
    assert sum(end - begin for begin, end in found) < 8.5


def test_silence_and_nothing_hold_no_voice() -> None:
    assert spans(silence(5.0)) == []
    assert spans(silence(0.0)) == []
    assert spans(noise(5.0, level=1e-5)) == []
    assert spans(noise(5 / RATE)) == []


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_voice_however_loud(seed: int) -> None:
    white = noise(10.0, level=0.3, seed=seed)
    assert spans(white) == []
    brown = np.cumsum(white - white.mean())
    assert spans((0.3 * brown / np.abs(brown).max()).astype(np.float32)) == []


@pytest.mark.parametrize("pitches", [(110.0,), (220.0,), (440.0,), (220.0, 275.0, 330.0)])
def test_held_tones_are_no_voice(pitches: tuple[float, ...]) -> None:
    assert kept(chord(6.0, pitches)) < 0.1


def test_notes_one_after_the_other_are_left_out_for_the_most_part() -> None:
    fading = np.exp(-np.arange(RATE // 2) / RATE * 4.0).astype(np.float32)
    pitches = np.random.default_rng(0).choice(np.arange(12), 24)
    melody = np.concatenate([fading * chord(0.5, (220.0 * 2 ** (pitch / 12),)) for pitch in pitches])
    assert kept(melody) < 0.4


def test_voices_with_pauses_between_them_are_told_apart() -> None:
    parts = [voice(number, 0, seconds=2.0, sample_rate=RATE) for number in range(3)]
    whole = np.concatenate([silence(1.0), parts[0], silence(4.0), parts[1], silence(0.8), parts[2], silence(3.0)])
    first, second = spans(whole)
    assert first == pytest.approx((0.6, 3.4), abs=0.4)
    assert second == pytest.approx((6.6, 12.2), abs=0.4)


@pytest.mark.parametrize("size", [160, 1_777, 48_000])
def test_the_blocks_sizes_change_nothing(size: int) -> None:
    parts = [voice(1, 0, seconds=3.0, sample_rate=RATE), silence(5.0), noise(4.0, 0.05), chord(3.0)]
    whole = np.concatenate([*parts, voice(2, 0, seconds=9.0, sample_rate=RATE)])
    blocks = [whole[begin : begin + size] for begin in range(0, len(whole), size)]
    assert list(find_voice(blocks, RATE)) == list(find_voice([whole], RATE))


def test_what_is_open_or_settled_is_told_on_the_way() -> None:
    detector = VoiceDetector(RATE)
    whole = np.concatenate([silence(6.0), voice(1, 0, seconds=3.0, sample_rate=RATE), silence(6.0)])
    ended: list[tuple[int, int]] = []
    waiting: tuple[int, int] | None = None
    for begin in range(0, len(whole), RATE // 4):
        settled = detector.settled
        new = detector.push(whole[begin : begin + RATE // 4])
        for span in new:
            # Nothing begins in what was settled, but for the stretch that was open then.
            assert span[0] >= settled or (waiting is not None and span[0] == waiting[0] and span[1] >= waiting[1])
        ended += new
        waiting = detector.open_span
        assert waiting is None or 5 * RATE <= waiting[0] < waiting[1] <= 10 * RATE
    assert len(ended) == 1
    assert detector.finish() == []


def test_memory_does_not_grow_with_the_recording() -> None:
    detector = VoiceDetector(RATE)
    sizes = []
    for number in range(12):
        detector.push(voice(number, 0, seconds=5.0, sample_rate=RATE))
        sizes.append(len(detector._frames.level_db) + len(detector._rest) / 160)
    assert max(sizes[4:]) <= max(sizes[:4]) + 1


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="hop_seconds"):
        VoiceConfig(hop_seconds=0.0)
    with pytest.raises(ValueError, match="min_pitch_hz"):
        VoiceConfig(min_pitch_hz=500.0)
    with pytest.raises(ValueError, match="2000 Hz"):
        VoiceDetector(2_000)


@pytest.mark.corpora
@pytest.mark.skipif("AURISCOPE_CORPORA" not in os.environ, reason="needs AURISCOPE_CORPORA")
def test_speech_is_kept_and_noise_is_not() -> None:
    root = Path(os.environ["AURISCOPE_CORPORA"])

    def shares(corpus: str, number: int) -> float:
        with (root / corpus / "manifest.csv").open(encoding="utf-8") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        chosen = paths[:: max(1, len(paths) // number)][:number]
        return float(np.mean([kept(read(root / corpus / path, sample_rate=RATE)[0]) for path in chosen]))

    assert shares("libri_eval50_flac", 10) > 0.95
    assert shares("noise", 30) < 0.15
    assert shares("piano_notes", 15) < 0.3
