"""Sample rates: tensors against soxr, streams against the whole, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auriscope.signal.rates import StreamResampler, resample_array, resampled_length
from auriscope.signal.resampling import resample

RATES = [8000, 11025, 16000, 44100, 48000]


def band_limited(num_frames: int, sample_rate: int) -> np.ndarray:
    """Tones below 3 kHz that fade in and out, so that converters that differ at the band's and signal's edges agree."""
    time = np.arange(num_frames) / sample_rate
    tones = sum(np.sin(2 * np.pi * hz * time + hz) for hz in (110.0, 700.0, 1333.0, 2900.0))
    return (0.2 * tones * np.hanning(num_frames)).astype(np.float32)


@pytest.mark.parametrize(("orig_rate", "new_rate"), [(44100, 16000), (48000, 8000), (8000, 16000), (16000, 44100)])
def test_tensors_as_soxr(orig_rate, new_rate):
    waveform = band_limited(orig_rate // 2 + 1, orig_rate)
    expected = soxr.resample(waveform.astype(np.float64), orig_rate, new_rate, quality="VHQ")
    got = resample(torch.from_numpy(waveform), orig_rate, new_rate).numpy()
    assert len(got) == resampled_length(len(waveform), orig_rate, new_rate)
    common = min(len(got), len(expected))
    assert common >= len(got) - 1
    assert np.abs(got[:common] - expected[:common]).max() < 2e-3


@pytest.mark.parametrize(("orig_rate", "new_rate"), [(44100, 16000), (8000, 16000)])
def test_tensors_keep_shape_gradient_and_identity(orig_rate, new_rate):
    waveform = torch.randn(2, 3, 1001, dtype=torch.float64, requires_grad=True)
    got = resample(waveform, orig_rate, new_rate)
    assert got.shape == (2, 3, resampled_length(1001, orig_rate, new_rate))
    torch.testing.assert_close(got[1, 2], resample(waveform[1, 2], orig_rate, new_rate))
    got.square().sum().backward()
    # The map is linear: the gradient of the energy, applied to the signal, is twice the energy.
    product = (waveform.grad * waveform).sum()
    torch.testing.assert_close(product, 2 * got.square().sum())
    assert resample(waveform, 16000, 16000) is waveform


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RATES), st.sampled_from(RATES), st.integers(1, 5000), st.integers(1, 3000))
def test_streams_equal_the_whole_at_the_promised_length(orig_rate, new_rate, num_frames, block):
    waveform = (0.1 * np.random.default_rng(num_frames).standard_normal(num_frames)).astype(np.float32)
    stream = StreamResampler(orig_rate, new_rate)
    pieces = [stream.push(waveform[begin : begin + block]) for begin in range(0, num_frames, block)]
    joined = np.concatenate([*pieces, stream.finish()])
    assert joined.dtype == np.float32
    assert len(joined) == resampled_length(num_frames, orig_rate, new_rate)
    np.testing.assert_allclose(joined, resample_array(waveform, orig_rate, new_rate), atol=1e-6)
    expected = soxr.resample(waveform, orig_rate, new_rate)
    np.testing.assert_allclose(joined[: len(expected)], expected[: len(joined)], atol=1e-6)


def test_arrays_of_the_same_rate_are_untouched():
    waveform = np.ones(5, dtype=np.float32)
    assert resample_array(waveform, 8000, 8000) is waveform
