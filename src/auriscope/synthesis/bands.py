"""How loud each band of a voice is, and how much it varies, given to speech that was synthesised.

What a synthesiser says is smoother than speech, as it is the mean of what could be said, and of an unheard voice it
takes the colour of those it has learnt. So each band of its mels is brought to the mean and to the spread that it has
in a clip of the voice: the global variance of T. Toda and K. Tokuda, "A speech parameter generation algorithm
considering global variance for HMM-based speech synthesis", IEICE Transactions E90-D(5), 2007, section 3.1, with the
variance of the clip in the place of a model of it. The clip's microphone colours its bands as its voice does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_HEARD = 5.0
"""Frames so much below the loudest, as a natural logarithm of the amplitude (43 dB), are pauses."""
_LEAST_FRAMES = 30
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class BandStatistics:
    """Mean and standard deviation of the log-mels of speech, each (mels,), over frames that are no pauses."""

    mean: Tensor
    spread: Tensor


class BandMeter:
    """Measures log-mels of one voice, piece by piece."""

    def __init__(self) -> None:
        self._sums: tuple[float, Tensor, Tensor] | None = None

    def update(self, mel: Tensor) -> None:
        """Take in log-mels (frames, mels)."""
        if not len(mel):
            return
        level = mel.logsumexp(1)
        speech = mel[level > level.max() - _HEARD].double()
        found = float(len(speech)), speech.sum(0), speech.square().sum(0)
        before = self._sums
        self._sums = found if before is None else (found[0] + before[0], found[1] + before[1], found[2] + before[2])

    @property
    def statistics(self) -> BandStatistics | None:
        """Of all that was heard; None while it is too little."""
        if self._sums is None or self._sums[0] < _LEAST_FRAMES:
            return None
        count, total, squares = self._sums
        mean = total / count
        spread = (squares / count - mean.square()).clamp_min(_LEAST_SPREAD**2).sqrt()
        return BandStatistics(mean.float(), spread.float())


class BandMatcher:
    """Gives the bands of speech, sentence by sentence, what is ``wanted``.

    What the synthesiser makes of a voice is measured over all that it has said so far, so that a sentence keeps what
    is its own.
    """

    def __init__(self, wanted: BandStatistics) -> None:
        self._wanted = wanted
        self._meter = BandMeter()

    def __call__(self, mel: Tensor) -> Tensor:
        """Match log-mels (frames, mels); the level over all bands stays. As it is while too little was heard."""
        self._meter.update(mel)
        found = self._meter.statistics
        if found is None:
            return mel
        shift = self._wanted.mean - found.mean
        return torch.addcmul(found.mean + shift - shift.mean(), mel - found.mean, self._wanted.spread / found.spread)
