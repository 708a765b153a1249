"""Cutting long signals into overlapping chunks, and joining the chunks again with a window that sums to one."""

from __future__ import annotations

import torch
from torch import nn


def num_chunks(num_frames: int, chunk_frames: int, hop_frames: int) -> int:
    """Say how many chunks cover a signal: the last one reaches its end or lies beyond it by less than a hop.

    >>> num_chunks(10, 4, 2), num_chunks(11, 4, 2), num_chunks(3, 4, 2)
    (4, 5, 1)
    """
    return 1 + max(0, -(-(num_frames - chunk_frames) // hop_frames))


def chunk(waveform: torch.Tensor, chunk_frames: int, hop_frames: int) -> torch.Tensor:
    """Cut signals into chunks of ``chunk_frames`` samples that start every ``hop_frames`` samples.

    Args:
        waveform: (batch, channels, time); the end is filled with zeros up to a whole chunk.
        chunk_frames: length of a chunk in samples.
        hop_frames: step between chunks in samples, 1 to ``chunk_frames``.

    Returns:
        (batch, channels, chunks, chunk_frames), a view where nothing had to be filled.
    """
    _check_hop(chunk_frames, hop_frames)
    time = waveform.shape[-1]
    total = (num_chunks(time, chunk_frames, hop_frames) - 1) * hop_frames + chunk_frames
    if total > time:
        waveform = nn.functional.pad(waveform, (0, total - time))
    return waveform.unfold(-1, chunk_frames, hop_frames)


def crossfade_window(chunk_frames: int, hop_frames: int) -> torch.Tensor:
    """Make the weights of a chunk, (chunk_frames,) float32: rising over the overlap, level, and falling alike.

    All weights are positive, and over any overlap of up to half a chunk those of two neighbours sum to one.
    """
    _check_hop(chunk_frames, hop_frames)
    overlap = chunk_frames - hop_frames
    # Beyond half a chunk the rising and the falling part meet in the middle.
    position = torch.arange(1, chunk_frames + 1, dtype=torch.float64)
    rising = position / (overlap + 1)
    return torch.minimum(rising, rising.flip(0)).clamp_max(1.0).float()


def overlap_add(chunks: torch.Tensor, hop_frames: int, length: int, window: torch.Tensor | None = None) -> torch.Tensor:
    """Join overlapping chunks to signals, each sample the weighted mean of the chunks that hold it.

    Args:
        chunks: (batch, channels, chunks, chunk_frames), as ``chunk`` cuts them.
        hop_frames: step between chunks in samples, 1 to ``chunk_frames``.
        length: number of samples wanted, at most what the chunks cover.
        window: (chunk_frames,) positive weights of a chunk; by default ``crossfade_window``. Where they do not sum to
            one, at the ends above all, they are made to.

    Returns:
        (batch, channels, length). ``overlap_add(chunk(x, n, hop), hop, time)`` is x.
    """
    batch, channels, count, chunk_frames = chunks.shape
    _check_hop(chunk_frames, hop_frames)
    total = (count - 1) * hop_frames + chunk_frames
    if not 0 < length <= total:
        raise ValueError(f"{count} chunks cover {total} samples, not {length}")
    if window is None:
        window = crossfade_window(chunk_frames, hop_frames)
    window = window.to(chunks)
    weights = _fold(window.expand(1, count, chunk_frames), hop_frames)
    summed = _fold((chunks * window).reshape(batch * channels, count, chunk_frames), hop_frames)
    return (summed / weights)[:, :length].reshape(batch, channels, length)


def _fold(pieces: torch.Tensor, hop_frames: int) -> torch.Tensor:
    """Sum (batch, chunks, chunk_frames) at steps of ``hop_frames`` to (batch, time)."""
    count, chunk_frames = pieces.shape[1:]
    total = (count - 1) * hop_frames + chunk_frames
    return nn.functional.fold(pieces.transpose(1, 2), (1, total), (1, chunk_frames), stride=(1, hop_frames))[:, 0, 0]


def _check_hop(chunk_frames: int, hop_frames: int) -> None:
    if not 1 <= hop_frames <= chunk_frames:
        raise ValueError(f"the hop must be 1 to the chunk's {chunk_frames} samples, not {hop_frames}")
