from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from auriscope.data.synthetic import voice
from auriscope.errors import CheckpointError
from auriscope.separation.fingerprint import NUM_MELS, SpectralFingerprint, voice_statistics

RATE = 16000


def speech(speaker: int, utterance: int, seconds: float = 4.0, sample_rate: int = RATE) -> np.ndarray:
    return voice(speaker, utterance, seconds=seconds, sample_rate=sample_rate)


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_the_pitch_is_found():
    time = np.arange(RATE) / RATE
    for frequency in (90.0, 120.0, 220.0, 330.0):
        tone = sum(np.cos(2 * np.pi * frequency * k * time) / k for k in range(1, 9)).astype(np.float32)
        median, spread, voiced = voice_statistics(tone, RATE)[-3:]
        assert 2.0**median == pytest.approx(frequency, rel=0.02)
        assert spread < 0.02
        assert voiced == 1.0
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert voice_statistics(noise, RATE)[-1] < 0.2


def test_level_and_silence_around_the_speech_do_not_matter():
    waveform = speech(1, 0)
    expected = voice_statistics(waveform, RATE)
    np.testing.assert_allclose(voice_statistics(0.01 * waveform, RATE), expected, atol=1e-2)
    padded = np.concatenate([np.zeros(128 * 40, np.float32), waveform, np.zeros(RATE, np.float32)])
    np.testing.assert_allclose(voice_statistics(padded, RATE), expected, atol=0.6)


@pytest.mark.parametrize("sample_rate", [8000, 22050, 48000])
def test_every_sample_rate_gives_nearly_the_same(sample_rate):
    from auriscope.signal.rates import resample_array

    waveform = speech(1, 0)
    other = resample_array(waveform, RATE, sample_rate)
    fingerprint = SpectralFingerprint()
    assert similarity(fingerprint(waveform, RATE), fingerprint(other, sample_rate)) > 0.97


def test_even_synthetic_voices_are_more_like_themselves_than_like_others():
    fingerprint = SpectralFingerprint()
    prints = {(s, u): fingerprint(speech(s, u), RATE) for s in range(6) for u in range(2)}
    likeness = np.array([[similarity(prints[a, 0], prints[b, 1]) for b in range(6)] for a in range(6)])
    others = likeness[~np.eye(6, dtype=bool)]
    assert np.diag(likeness).mean() > others.mean() + 0.08


@pytest.mark.parametrize("num_samples", [0, 1, 10, 200])
def test_silence_and_scraps_give_a_finite_embedding(num_samples):
    fingerprint = SpectralFingerprint()
    assert not fingerprint(np.zeros(num_samples, np.float32), RATE).any()
    scrap = np.random.default_rng(0).standard_normal(num_samples).astype(np.float32)
    assert np.isfinite(fingerprint(scrap, RATE)).all()


def test_fitting_finds_the_direction_in_which_speakers_differ():
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(20), 10)
    statistics = 5.0 * generator.standard_normal((200, 6))
    statistics[:, 2] = generator.standard_normal(20)[speakers] + 0.1 * generator.standard_normal(200)
    fitted = SpectralFingerprint.fit(statistics, speakers, dim=1)
    weights = np.abs(fitted.projection[:, 0]) * statistics.std(axis=0)
    assert weights.argmax() == 2
    assert weights[2] > 5.0 * np.delete(weights, 2).max()


def test_saved_and_loaded_is_the_same(tmp_path: Path):
    fingerprint = SpectralFingerprint()
    fingerprint.save(tmp_path / "voice.safetensors")
    loaded = SpectralFingerprint.load(tmp_path / "voice.safetensors")
    np.testing.assert_array_equal(loaded(speech(0, 0), RATE), fingerprint(speech(0, 0), RATE))
    assert loaded.mean.shape == (2 * NUM_MELS + 3,)


def test_a_damaged_fingerprint_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match="voice"):
        SpectralFingerprint.load(tmp_path / "voice.safetensors")
    (tmp_path / "voice.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(CheckpointError, match="voice"):
        SpectralFingerprint.load(tmp_path / "voice.safetensors")


@pytest.mark.corpora
@pytest.mark.skipif("AURISCOPE_CORPORA" not in os.environ, reason="AURISCOPE_CORPORA is not set")
def test_real_voices_that_were_never_heard_are_told_apart():
    from auriscope.data.corpora import utterances
    from auriscope.signal.files import read

    fingerprint = SpectralFingerprint()
    prints: dict[str, list[np.ndarray]] = {}
    for utterance in utterances("libri_other_10spk", "test", min_seconds=3.0):
        waveform, _ = read(utterance.path, sample_rate=RATE)
        embedding = fingerprint(waveform[: 4 * RATE], RATE)
        prints.setdefault(utterance.speaker, []).append(embedding / np.linalg.norm(embedding))
    right, total = 0, 0
    for speaker, own in prints.items():
        for index, embedding in enumerate(own):
            rest = np.mean(np.delete(own, index, axis=0), axis=0)
            for other in set(prints) - {speaker}:
                right += similarity(embedding, rest) > similarity(embedding, np.mean(prints[other], axis=0))
                total += 1
    assert total > 40
    assert right / total > 0.97
