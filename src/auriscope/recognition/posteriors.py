"""What CTC says at every frame of a recording of any length, heard through windows that overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.recognition.recognizer import Recognizer

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """How a recording is cut: stretches of ``window_seconds``, each heard with ``margin_seconds`` on both sides.

    What a network says of the margins is left to the neighbouring windows.
    """

    window_seconds: float = 16.0
    margin_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not (self.window_seconds > 0 and self.margin_seconds >= 0):
            raise ValueError("window_seconds must be positive and margin_seconds must not be negative")


@torch.no_grad()
def recording_log_probs(
    recognizer: Recognizer, blocks: Iterable[FloatArray], windows: Windows | None = None
) -> tuple[Tensor, float]:
    """Compute CTC's log-probabilities of a recording that comes in blocks.

    Args:
        recognizer: one with CTC, in evaluation mode.
        blocks: (time,) float32 at the recogniser's sample rate, of any lengths.
        windows: how the recording is cut; what is shorter than a window and its margins is heard at once.

    Returns:
        log-probabilities (frames, classes) float32, on the CPU, and the seconds from one frame to the next. Only they
        grow with the recording.
    """
    windows = windows or Windows()
    rate, device = recognizer.config.sample_rate, recognizer.device
    frame_seconds = recognizer.encode(torch.zeros(1, rate, device=device)).frame_seconds
    frame = round(frame_seconds * rate)
    core, margin = (
        max(least, round(seconds * rate / frame)) * frame
        for seconds, least in ((windows.window_seconds, 1), (windows.margin_seconds, 0))
    )
    parts = []
    for window, before, inside in _cut(blocks, core, margin):
        encoded = recognizer.encode(torch.from_numpy(window)[None].to(device))
        logits = recognizer.ctc_logits(encoded)[0, : int(encoded.frame_lengths[0])]
        first = before // frame
        last = None if inside is None else first + inside // frame
        parts.append(logits[first:last].float().log_softmax(-1).cpu())
    if not parts:
        raise ValueError("a recording needs at least one sample")
    return torch.cat(parts), frame_seconds


def _cut(blocks: Iterable[FloatArray], core: int, margin: int) -> Iterator[tuple[FloatArray, int, int | None]]:
    """Yield windows, how many samples of each are margin before it, and how many after those are its own.

    None: all that follows, at the end of the recording.
    """
    buffer, before = np.empty(0, dtype=np.float32), 0
    for block in blocks:
        buffer = np.concatenate((buffer, block))
        while len(buffer) > before + core + margin:
            yield buffer[: before + core + margin], before, core
            begin = max(0, before + core - margin)
            before, buffer = before + core - begin, buffer[begin:]
    if len(buffer) > before:
        yield buffer, before, None
