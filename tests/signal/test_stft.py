"""The STFT: against torch and librosa, and its inverse against the signal, for any length."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auriscope.signal.stft import STFT, istft, make_window, num_stft_frames, stft


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize(
    ("window_length", "hop_length", "fft_length"), [(400, 160, 512), (256, 64, 256), (100, 33, 101)]
)
def test_equals_torch_and_librosa(center, pad_mode, window_length, hop_length, fft_length):
    waveform = torch.randn(2, 3, 4321, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    window = make_window("hann", window_length).double()
    got = stft(waveform, window, hop_length, fft_length=fft_length, center=center, pad_mode=pad_mode)
    assert got.shape[-1] == num_stft_frames(4321, fft_length, hop_length, center)
    expected = torch.stft(
        waveform.reshape(6, -1),
        fft_length,
        hop_length,
        window_length,
        window,
        center=center,
        pad_mode=pad_mode,
        return_complex=True,
    ).reshape(2, 3, fft_length // 2 + 1, -1)
    count = expected.shape[-1]
    assert 0 <= got.shape[-1] - count <= int(center)
    torch.testing.assert_close(got[..., :count], expected)
    theirs = librosa.stft(
        waveform.numpy(),
        n_fft=fft_length,
        hop_length=hop_length,
        win_length=window_length,
        window="hann",
        center=center,
        pad_mode=pad_mode,
    )
    np.testing.assert_allclose(got[..., :count].numpy(), theirs[..., :count], atol=1e-4)


@settings(max_examples=80, deadline=None)
@given(
    time=st.integers(1, 2000),
    window_length=st.integers(2, 300),
    extra=st.integers(0, 50),
    data=st.data(),
    name=st.sampled_from(["hann", "sqrt_hann", "hamming", "rectangular"]),
)
def test_inverse_gives_back_any_signal(time, window_length, extra, data, name):
    hop_length = data.draw(st.integers(1, max(1, window_length // 2)))
    waveform = torch.randn(2, time, generator=torch.Generator().manual_seed(time))
    transform = STFT(window_length, hop_length, fft_length=window_length + extra, window=name)
    spectrum = transform(waveform)
    assert spectrum.shape == (2, transform.num_frequencies, num_stft_frames(time, transform.fft_length, hop_length))
    torch.testing.assert_close(transform.inverse(spectrum, time), waveform, atol=1e-4, rtol=0)


def test_inverse_without_centring_gives_back_what_the_window_weighs():
    waveform = torch.randn(1000)
    transform = STFT(200, 50, center=False)
    got = transform.inverse(transform(waveform), 1000)
    torch.testing.assert_close(got[50:950], waveform[50:950], atol=1e-4, rtol=0)
    assert got.shape == waveform.shape


def test_inverse_pads_beyond_the_last_frame_with_zeros():
    window = make_window("hann", 64)
    waveform = torch.randn(3, 320)
    got = istft(stft(waveform, window, 16), window, 16, length=2000)
    torch.testing.assert_close(got[:, :320], waveform, atol=1e-5, rtol=0)
    assert got.shape == (3, 2000)
    assert got[:, 400:].abs().max() == 0


def test_padding_a_batch_changes_no_valid_frame():
    transform = STFT(128, 32)
    short = torch.randn(701)
    batch = torch.stack([torch.cat([short, torch.zeros(299)]), torch.randn(1000)])
    frames = transform.frame_lengths(torch.tensor([701, 1000]))
    assert frames.tolist() == [transform(short).shape[-1], transform(batch).shape[-1]]
    torch.testing.assert_close(transform(batch)[0, :, : int(frames[0])], transform(short))
    uncentred = STFT(128, 32, center=False)
    assert uncentred.frame_lengths(torch.tensor([127, 128, 160, 701])).tolist() == [
        num_stft_frames(n, 128, 32, center=False) for n in (127, 128, 160, 701)
    ]


def test_gradients_and_state():
    transform = STFT(16, 4).double()
    waveform = torch.randn(1, 40, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: transform.inverse(transform(x) * 0.5, 40), (waveform,))
    assert transform.state_dict() == {}


def test_what_cannot_be_transformed():
    with pytest.raises(ValueError, match="longer than the transform"):
        stft(torch.zeros(100), torch.ones(64), 16, fft_length=32)
    with pytest.raises(ValueError, match="shorter than one frame"):
        stft(torch.zeros(10), torch.ones(64), 16, center=False)
    with pytest.raises(ValueError, match="unknown window"):
        make_window("square", 8)
