"""A mark in synthetic speech that is not heard, but found again: a pattern in the loudness of its bands.

D. Kirovski and H. S. Malvar, "Spread-Spectrum Watermarking of Audio Signals" (IEEE Transactions on Signal Processing
51, 2003): the logarithm of the magnitudes is raised and lowered by a little, by a pattern of pseudo-random signs, and
found by its correlation. Signs stand for patches of time and frequency, so that the mark outlives coders, resampling,
noise and cuts. It says one thing: this was synthesised by auriscope. The pattern is public; who wants to take the mark
off can, so it is a label and no lock. Without torch.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope.signal.rates import StreamResampler

FloatArray = NDArray[np.float32]
Array = NDArray[np.float64]

STRENGTH_DB = 2.0
"""By how much a band is raised or lowered."""
THRESHOLD = 6.0
"""A score from which a recording counts as marked: standard deviations of chance."""

_RATE = 16_000
"""Where the mark is looked for."""
_HOP_SECONDS = 0.02
"""Half a frame; whole numbers of samples at all usual rates."""
_LOW_HZ, _BAND_HZ, _NUM_BANDS = 300.0, 200.0, 32
_FRAMES_PER_BLOCK = 4
_NUM_BLOCKS = 64
"""Blocks after which the pattern begins again: 5.12 s."""
_PHASES = 4
"""Places between two frames at which it is looked for."""
_QUIET_DB = 50.0
"""Patches so far below the loudest are left out: what is hardly there carries no mark."""
_CLIP_DB = 9.0


def _pattern() -> Array:
    """The signs (blocks, bands), the same for ever: only random() of Python's generator is promised to stay."""
    draw = random.Random("auriscope: this speech is synthetic").random
    return np.array([[1.0 if draw() < 0.5 else -1.0 for _ in range(_NUM_BANDS)] for _ in range(_NUM_BLOCKS)])


PATTERN = _pattern()


class Marker:
    """Mark a stream of synthetic speech; what comes out is as long as what went in, and one frame late.

    Args:
        sample_rate: in hertz, at least 8,000 and a multiple of 50.
        strength_db: by how much bands are raised and lowered.
    """

    def __init__(self, sample_rate: int, *, strength_db: float = STRENGTH_DB) -> None:
        hop = round(_HOP_SECONDS * sample_rate)
        if sample_rate < 8_000 or hop != _HOP_SECONDS * sample_rate:
            raise ValueError(f"a mark needs a rate of at least 8000 Hz that is a multiple of 50, not {sample_rate} Hz")
        self._hop = hop
        self._window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
        bands = _bands(np.fft.rfftfreq(2 * hop, 1.0 / sample_rate))
        signs = np.where(bands >= 0, PATTERN[:, np.maximum(bands, 0)], 0.0)
        self._gains = 10.0 ** (strength_db * signs / 20.0)
        self._frame = 0
        self._length = 0
        # A frame of silence before the first sample, whose second half is no output.
        self._rest: Array = np.zeros(hop)
        self._tail: Array = np.zeros(hop)
        self._skip = hop

    def push(self, block: FloatArray) -> FloatArray:
        """Take the next block (time,), and give what is marked so far."""
        self._length += len(block)
        self._rest = np.concatenate([self._rest, block])
        hop, done = self._hop, []
        while len(self._rest) >= 2 * hop:
            gains = self._gains[self._frame // _FRAMES_PER_BLOCK % _NUM_BLOCKS]
            spectrum = np.fft.rfft(self._window * self._rest[: 2 * hop])
            frame = self._window * np.fft.irfft(gains * spectrum, 2 * hop)
            done.append(self._tail + frame[:hop])
            self._tail, self._rest = frame[hop:], self._rest[hop:]
            self._frame += 1
        made = np.concatenate(done) if done else np.zeros(0)
        skipped = min(self._skip, len(made))
        self._skip -= skipped
        self._length -= len(made) - skipped
        return made[skipped:].astype(np.float32)

    def finish(self) -> FloatArray:
        """Give the rest."""
        left = self._length
        return self.push(np.zeros(3 * self._hop, dtype=np.float32))[:left]


def mark(waveform: FloatArray, sample_rate: int, *, strength_db: float = STRENGTH_DB) -> FloatArray:
    """Mark (time,) at once; arguments as of :class:`Marker`."""
    marker = Marker(sample_rate, strength_db=strength_db)
    return np.concatenate([marker.push(waveform), marker.finish()])


@dataclass(frozen=True)
class Detection:
    """How surely a recording is marked.

    ``score`` is the best correlation with the pattern, in standard deviations of what chance gives at one place;
    ``marked`` whether it reaches ``THRESHOLD``.
    """

    score: float

    @property
    def marked(self) -> bool:
        """Whether it is no chance."""
        return self.score >= THRESHOLD


def detect(waveform: FloatArray, sample_rate: int) -> Detection:
    """Look for the mark in (time,) of any rate, wherever it was cut out; silence and short sounds score 0."""
    if sample_rate != _RATE:
        resampler = StreamResampler(sample_rate, _RATE)
        waveform = np.concatenate([resampler.push(np.asarray(waveform, dtype=np.float32)), resampler.finish()])
    hop = round(_HOP_SECONDS * _RATE)
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
    bands = _bands(np.fft.rfftfreq(2 * hop, 1.0 / _RATE))
    best = 0.0
    for phase in range(_PHASES):
        signal = waveform[phase * hop // _PHASES :]
        if len(signal) < (_FRAMES_PER_BLOCK + 1) * hop:
            break
        frames = np.lib.stride_tricks.sliding_window_view(signal, 2 * hop)[::hop]
        magnitude = np.abs(np.fft.rfft(frames * window))
        energy = np.stack([np.square(magnitude[:, bands == band]).sum(1) for band in range(_NUM_BANDS)], axis=1)
        for first in range(_FRAMES_PER_BLOCK):
            best = max(best, _score(energy[first:]))
    return Detection(best)


def _score(energy: Array) -> float:
    """The best correlation of frames' energies (frames, bands), the first of which begins a block."""
    num_blocks = len(energy) // _FRAMES_PER_BLOCK
    if num_blocks < 8:
        return 0.0
    level = 10.0 * np.log10(energy[: num_blocks * _FRAMES_PER_BLOCK] + 1e-12)
    block = level.reshape(num_blocks, _FRAMES_PER_BLOCK, _NUM_BANDS)
    heard = block.max(1) > level.max() - _QUIET_DB
    # What stands out of its surroundings in time and frequency, as speech itself is smooth in both.
    residual = _apart(_apart(block.mean(1)).T).T
    residual = np.clip(residual, -_CLIP_DB, _CLIP_DB) * heard
    power = float(np.square(residual).sum())
    if power == 0.0:
        return 0.0
    folded = np.zeros((_NUM_BLOCKS, _NUM_BANDS))
    np.add.at(folded, np.arange(num_blocks) % _NUM_BLOCKS, residual)
    # Circular correlation over blocks: all places at which the pattern may begin.
    correlation = np.fft.irfft(
        (np.fft.rfft(folded, axis=0) * np.conj(np.fft.rfft(PATTERN, axis=0))).sum(1), _NUM_BLOCKS
    )
    return float(correlation.max() / np.sqrt(power))


def _apart(values: Array) -> Array:
    """Values (places, others) less the mean of their neighbours on both sides."""
    padded = np.pad(values, ((1, 1), (0, 0)), mode="reflect")
    apart: Array = values - (padded[:-2] + padded[2:]) / 2
    return apart


def _bands(hertz: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The band of each frequency, -1 where there is none."""
    bands = np.floor((hertz - _LOW_HZ) / _BAND_HZ).astype(np.int64)
    return np.where((bands >= 0) & (bands < _NUM_BANDS), bands, -1)
