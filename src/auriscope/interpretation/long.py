"""Interpretations of recordings of any length, in constant memory: window by window, cross-faded into each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.interpretation.interpreter import Interpreter
from auriscope.interpretation.listening import Heard, Hears, Separate, hear
from auriscope.signal.chunking import crossfade_window
from auriscope.signal.levels import is_silent

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class WindowsConfig:
    """How a long recording is cut: windows of at most ``window_seconds``, which share ``overlap_seconds``.

    By default as ``auriscope classify`` cuts it, so that both tell the same probabilities. What is shorter than a
    window is one. No window of a longer recording is shorter than half of one.
    """

    window_seconds: float = 5.0
    overlap_seconds: float = 2.5

    def __post_init__(self) -> None:
        if not 0.0 < self.overlap_seconds <= self.window_seconds / 2.0:
            raise ValueError(
                f"overlap_seconds must lie in (0, {self.window_seconds / 2.0}], not {self.overlap_seconds}"
            )

    def samples(self, sample_rate: int) -> tuple[int, int]:
        """The length and the overlap of windows in samples."""
        return round(self.window_seconds * sample_rate), max(1, round(self.overlap_seconds * sample_rate))


@dataclass(frozen=True)
class Piece:
    """What comes of a window: samples that no later window changes, and what was found out; None of silence.

    ``heard`` and ``left`` are (time,), and sum to the recording; ``num_frames`` is how many samples the window has.
    """

    heard: FloatArray
    left: FloatArray
    found: Heard | None
    num_frames: int


def windows(blocks: Iterable[FloatArray], size: int, overlap: int) -> Iterator[FloatArray]:
    """Cut a stream of blocks (time,) into windows of ``size`` samples, each of which shares ``overlap`` with the next.

    What is left at the end is one window, or two of half its length if it is longer than ``size``.

    >>> [len(window) for window in windows([np.zeros(25, np.float32)], 10, 2)]
    [10, 10, 9]
    >>> [len(window) for window in windows([np.zeros(3, np.float32)] * 4, 10, 2)]
    [7, 7]
    """
    hop = size - overlap
    waiting = np.zeros(0, np.float32)
    for block in blocks:
        waiting = np.concatenate((waiting, block))
        while len(waiting) >= size + hop:
            yield waiting[:size]
            waiting = waiting[hop:]
    if len(waiting) > size:
        half = (len(waiting) + overlap + 1) // 2
        yield waiting[:half]
        waiting = waiting[half - overlap :]
    if len(waiting):
        yield waiting


@torch.no_grad()
def probabilities_of(
    blocks: Iterable[FloatArray], classifier: Hears, config: WindowsConfig | None = None
) -> Tensor | None:
    """Classify a stream at the classifier's rate: (classes,), means over windows by their length; None of silence."""
    rate = int(classifier.config.sample_rate)
    total, weight = torch.zeros(len(classifier.labels), dtype=torch.float64), 0
    for window in windows(blocks, *(config or WindowsConfig()).samples(rate)):
        if not is_silent(window):
            magnitude = classifier.spectrogram(_tensor(window, classifier)).abs()
            probabilities = classifier.classify_maps(magnitude[:, None])[0].double().softmax(-1)
            total += len(window) * probabilities.cpu()
            weight += len(window)
    return total / weight if weight else None


def interpret_stream(
    blocks: Iterable[FloatArray],
    classifier: Hears,
    interpreter: Interpreter,
    label: int,
    config: WindowsConfig | None = None,
    *,
    separate: Separate | None = None,
) -> Iterator[Piece]:
    """Interpret a stream at the classifier's rate: the pieces together are as long as the stream.

    Args:
        blocks: (time,) float32 each, of any sizes.
        classifier: of sounds, in evaluation mode.
        interpreter: of that classifier.
        label: the number of the class that is explained, in every window.
        config: how the stream is cut.
        separate: as in :func:`~auriscope.interpretation.listening.hear`.

    Silent windows are left whole, and nothing is asked about them.
    """
    size, overlap = (config or WindowsConfig()).samples(int(classifier.config.sample_rate))
    rising = crossfade_window(2 * overlap, overlap)[:overlap].numpy()
    before: _Done | None = None
    for window in windows(blocks, size, overlap):
        done = _interpreted(window, classifier, interpreter, label, separate)
        if before is not None:
            done.heard[:overlap] = rising * done.heard[:overlap] + (1.0 - rising) * before.heard[-overlap:]
            yield before.piece(overlap)
        before = done
    if before is not None:
        yield before.piece(0)


@dataclass(frozen=True)
class _Done:
    """A window (time,), and what was heard in it."""

    window: FloatArray
    heard: FloatArray
    found: Heard | None

    def piece(self, overlap: int) -> Piece:
        """Leave off the end, which the next window has."""
        end = len(self.window) - overlap
        heard = self.heard[:end]
        return Piece(heard, self.window[:end] - heard, self.found, len(self.window))


def _interpreted(
    window: FloatArray, classifier: Hears, interpreter: Interpreter, label: int, separate: Separate | None
) -> _Done:
    if is_silent(window):
        return _Done(window, np.zeros_like(window), None)
    waveform = _tensor(window, classifier)
    chosen = torch.tensor([label], device=waveform.device)
    found = hear(classifier, interpreter, waveform, chosen, separate=separate)
    return _Done(window, found.heard[0].float().cpu().numpy().copy(), found)


def _tensor(window: FloatArray, classifier: Hears) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(window))[None].to(classifier.device)
