"""Mel filterbanks and log-mel features, against librosa."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from auriscope.signal.mel import hz_to_mel, log_mel, mel_filterbank, mel_to_hz

SETTINGS = [
    (16000, 400, 160, 80, 0.0, None),
    (16000, 512, 128, 40, 60.0, 7600.0),
    (22050, 1024, 256, 80, 0.0, 8000.0),
    (44100, 1024, 320, 64, 50.0, 14000.0),
    (8000, 201, 77, 23, 20.0, 3800.0),
]


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize(("sample_rate", "fft_length", "hop_length", "num_mels", "min_hz", "max_hz"), SETTINGS)
def test_equals_librosa(sample_rate, fft_length, hop_length, num_mels, min_hz, max_hz, scale, norm):
    filters = mel_filterbank(
        sample_rate, fft_length, num_mels, min_hz=min_hz, max_hz=max_hz, scale=scale, norm=norm
    ).numpy()
    theirs = {"fmin": min_hz, "fmax": max_hz, "htk": scale == "htk", "norm": None if norm == "none" else norm}
    expected = librosa.filters.mel(sr=sample_rate, n_fft=fft_length, n_mels=num_mels, **theirs)
    np.testing.assert_allclose(filters, expected, atol=1e-6)

    waveform = 0.1 * np.random.default_rng(0).standard_normal((2, 12345)).astype(np.float32)
    features = log_mel(
        torch.from_numpy(waveform),
        sample_rate,
        num_mels=num_mels,
        window_length=fft_length,
        hop_length=hop_length,
        min_hz=min_hz,
        max_hz=max_hz,
        scale=scale,
        norm=norm,
    )
    power = librosa.feature.melspectrogram(
        y=waveform, sr=sample_rate, n_fft=fft_length, hop_length=hop_length, n_mels=num_mels, **theirs
    )
    expected = librosa.power_to_db(power, amin=1e-10, top_db=None)
    assert features.shape == (2, 1 + 12345 // hop_length, num_mels)
    np.testing.assert_allclose(features.numpy(), expected.transpose(0, 2, 1), atol=1e-4)


def test_a_window_shorter_than_the_transform_and_reflection():
    waveform = 0.1 * np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    features = log_mel(torch.from_numpy(waveform), 16000, window_length=400, fft_length=512, pad_mode="reflect")
    power = librosa.feature.melspectrogram(
        y=waveform, sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=80, pad_mode="reflect"
    )
    expected = librosa.power_to_db(power, amin=1e-10, top_db=None)
    np.testing.assert_allclose(features.numpy(), expected.T, atol=1e-4)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_scales_there_and_back(scale):
    frequency = torch.linspace(0.0, 20000.0, 500, dtype=torch.float64)
    mel = hz_to_mel(frequency, scale)
    np.testing.assert_allclose(mel.numpy(), librosa.hz_to_mel(frequency.numpy(), htk=scale == "htk"), atol=1e-9)
    torch.testing.assert_close(mel_to_hz(mel, scale), frequency)


def test_silence_is_at_the_floor_and_edges_must_be_in_order():
    assert log_mel(torch.zeros(1600), 16000).unique().tolist() == [-100.0]
    with pytest.raises(ValueError, match="min_hz < max_hz"):
        mel_filterbank(16000, 400, 80, min_hz=9000.0)
