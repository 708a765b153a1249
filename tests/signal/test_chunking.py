"""Chunk-and-overlap-add: exact for any length, hop and window."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auriscope.signal.chunking import chunk, crossfade_window, num_chunks, overlap_add


@settings(max_examples=150, deadline=None)
@given(time=st.integers(1, 700), chunk_frames=st.integers(1, 120), data=st.data(), own_window=st.booleans())
def test_joined_chunks_are_the_signal(time, chunk_frames, data, own_window):
    hop_frames = data.draw(st.integers(1, chunk_frames))
    waveform = torch.randn(2, 3, time, generator=torch.Generator().manual_seed(time))
    window = torch.rand(chunk_frames) + 0.1 if own_window else None
    chunks = chunk(waveform, chunk_frames, hop_frames)
    assert chunks.shape == (2, 3, num_chunks(time, chunk_frames, hop_frames), chunk_frames)
    joined = overlap_add(chunks, hop_frames, time, window)
    torch.testing.assert_close(joined, waveform, atol=1e-5, rtol=0)


@given(time=st.integers(1, 500), chunk_frames=st.integers(1, 60), data=st.data())
def test_chunks_start_every_hop_and_cover_the_end_without_waste(time, chunk_frames, data):
    hop_frames = data.draw(st.integers(1, chunk_frames))
    waveform = torch.arange(1.0, time + 1).reshape(1, 1, time)
    chunks = chunk(waveform, chunk_frames, hop_frames)[0, 0]
    assert chunks[:, 0].tolist() == [1.0 + hop_frames * index for index in range(len(chunks))]
    assert chunks.max() == time
    if len(chunks) > 1:
        assert chunks[:-1].max() < time


@given(chunk_frames=st.integers(1, 200), data=st.data())
def test_crossfade_sums_to_one_over_overlaps_of_up_to_half_a_chunk(chunk_frames, data):
    hop_frames = data.draw(st.integers((chunk_frames + 1) // 2, chunk_frames))
    window = crossfade_window(chunk_frames, hop_frames)
    overlap = chunk_frames - hop_frames
    assert window.min() > 0
    torch.testing.assert_close(window, window.flip(0))
    torch.testing.assert_close(window[hop_frames:] + window[:overlap], torch.ones(overlap))
    torch.testing.assert_close(window[overlap:hop_frames], torch.ones(max(0, hop_frames - overlap)))


def test_overlap_fades_from_one_chunk_to_the_next():
    chunks = torch.stack([torch.zeros(8), torch.ones(8)]).reshape(1, 1, 2, 8)
    joined = overlap_add(chunks, 4, 12)[0, 0]
    torch.testing.assert_close(joined, torch.tensor([0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1]))


def test_gradients_flow_through_both():
    waveform = torch.randn(1, 2, 23, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: overlap_add(chunk(x, 8, 3), 3, 23), (waveform,))


def test_what_cannot_be_chunked():
    for hop_frames in (0, 9):
        with pytest.raises(ValueError, match="hop"):
            chunk(torch.zeros(1, 1, 20), 8, hop_frames)
    with pytest.raises(ValueError, match="2 chunks cover 12 samples, not 13"):
        overlap_add(torch.zeros(1, 1, 2, 8), 4, 13)
