"""The one way in which recordings of any length are heard: window by window, and so always the same.

Published models cut a random piece out of what is too long for them, so that a recording never has the same embedding
twice. Here windows follow each other without a gap, each heard by itself, and a recording is the mean of its windows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.crossmodal.clap import CrossModal, Fill

TOGETHER = 8
"""Windows of a recording that are computed at once."""


def embed_recording(model: CrossModal, waveform: Tensor) -> Tensor:
    """The embedding (dim,) of unit length of a waveform (time,) at the model's rate: the mean over its windows.

    Windows count by how much of them is sound: the last one, which is filled up, less than the others.
    """
    embedding, starts = embed_windows(model, waveform)
    ends = torch.tensor([*starts[1:], max(1, len(waveform))], device=embedding.device)
    weights = (ends - torch.tensor(starts, device=embedding.device)).to(embedding)
    return F.normalize(weights / weights.sum() @ embedding, dim=-1)


@torch.no_grad()
def embed_windows(model: CrossModal, waveform: Tensor) -> tuple[Tensor, list[int]]:
    """The embeddings (windows, dim) of unit length of a waveform (time,), and at which sample each window begins.

    A window begins where the one before ends; the last is filled up as the model's ``fill`` says. ``TOGETHER`` windows
    of a recording are computed at once, and never with those of another: how the sums of a matrix product are ordered
    depends on how many rows there are, so that an embedding would differ in its last digits from one batch to another.
    A long recording may be read in parts of as many windows, or a multiple of them.
    """
    size = window_frames(model)
    starts = list(range(0, max(1, len(waveform)), size))
    whole = waveform.float()[: len(waveform) // size * size].reshape(-1, size)
    rest = waveform.float()[len(whole) * size :]
    if len(whole) < len(starts):
        lengths = torch.tensor([len(rest)], device=waveform.device)
        whole = torch.cat((whole, fill_up(rest[None], lengths, size, model.fill)))
    parts = torch.split(whole.to(model.device), TOGETHER)
    return torch.cat([model.embed_audio(part) for part in parts]), starts


def window_frames(model: CrossModal) -> int:
    """How many samples a window of the model has."""
    return round(model.window_seconds * model.sample_rate)


def fill_up(waveform: Tensor, lengths: Tensor, num_frames: int, fill: Fill) -> Tensor:
    """Fill waveforms (batch, time), of which ``lengths`` (batch,) are valid, up to (batch, num_frames).

    "repeat": by themselves over and over; "repeat_whole": as often as they fit whole, and then by zeros; "zeros": by
    zeros alone. What is longer is cut; what is empty becomes silence.
    """
    if waveform.shape[1] == 0:
        return waveform.new_zeros(len(waveform), num_frames)
    places, own = torch.arange(num_frames, device=waveform.device), lengths.clamp_min(1)[:, None]
    filled = waveform.gather(1, (places % own).clamp_max(waveform.shape[1] - 1))
    if fill == "repeat":
        end = torch.full_like(own, num_frames)
    else:
        end = own if fill == "zeros" else (num_frames // own).clamp_min(1) * own
    return torch.where((places < end) & (lengths[:, None] > 0), filled, 0.0)
