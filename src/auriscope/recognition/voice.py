"""Voice activity: where somebody may be speaking, found as the sound arrives, without a network and without training.

A frame counts for speech if it is well above the noise around it and repeats with the period of a voice, or if it
stands beside frames that do. Noise does not repeat, so it is left out however loud it is; what repeats for seconds with
a pitch that does not move (a held tone, most notes, hum) is left out too: a voice never holds its pitch so still. What
is in doubt is kept, since a recogniser can still find nothing in it, but no word in what was left out.

The period is found as P. Boersma does ("Accurate short-term analysis of the fundamental frequency", IFA Proceedings 17,
1993): the autocorrelation of the windowed frame over that of the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
_OCTAVE_COST = 0.02

Span = tuple[int, int]
"""Where a stretch begins, and where it ends (not included), in samples."""


@dataclass(frozen=True)
class VoiceConfig:
    """What counts for speech.

    Frames last ``frame_seconds``, one every ``hop_seconds``. ``least_dbfs``: anything quieter between 100 and 4,000 Hz
    is silence. ``above_noise_db``: speech is so much louder than the quietest frames of the ``noise_seconds`` on both
    sides. ``periodicity``: the least correlation, 0 to 1, of a voiced frame with itself a period later; ``flatness``:
    the most that its spectrum may resemble noise, as the geometric mean over the arithmetic one. ``min_pitch_hz`` and
    ``max_pitch_hz``: periods that are looked for. A voice's pitch moves by less than ``glide_semitones`` from frame to
    frame for at least ``min_voiced_seconds`` on end. One that moves by less than ``still_semitones`` in more than the
    share ``most_still`` of such frames of the ``still_seconds`` around is no voice's. ``margin_seconds`` are kept
    before and after, for consonants without voice. Voice that pauses for less than ``max_gap_seconds`` is one stretch.
    """

    frame_seconds: float = 0.032
    hop_seconds: float = 0.01
    least_dbfs: float = -65.0
    above_noise_db: float = 3.0
    noise_seconds: float = 3.0
    periodicity: float = 0.4
    flatness: float = 0.3
    min_pitch_hz: float = 65.0
    max_pitch_hz: float = 450.0
    glide_semitones: float = 1.0
    min_voiced_seconds: float = 0.05
    still_semitones: float = 0.05
    most_still: float = 0.5
    still_seconds: float = 1.5
    margin_seconds: float = 0.5
    max_gap_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.hop_seconds <= self.frame_seconds:
            raise ValueError("hop_seconds must lie above 0 and not above frame_seconds")
        if not 0.0 < self.min_pitch_hz < self.max_pitch_hz:
            raise ValueError("min_pitch_hz must lie above 0 and below max_pitch_hz")


@dataclass(frozen=True)
class Frames:
    """What is measured of frames, (frames,) each: level in dBFS, periodicity, flatness, and pitch in semitones."""

    level_db: NDArray[np.float64]
    periodicity: NDArray[np.float64]
    flatness: NDArray[np.float64]
    pitch: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Iterable[Frames]) -> Frames:
        """Put measurements one behind the other."""
        each = list(parts)
        names = ("level_db", "periodicity", "flatness", "pitch")
        return cls(*(np.concatenate([getattr(part, name) for part in each]) for name in names))

    def behind(self, number: int) -> Frames:
        """Leave out the first ``number`` frames."""
        return Frames(*(values[number:] for values in vars(self).values()))


class VoiceDetector:
    """Find the stretches of a recording in which somebody may be speaking, in constant memory.

    Args:
        sample_rate: in hertz, at least 4,000.
        config: what counts for speech.
    """

    def __init__(self, sample_rate: int, config: VoiceConfig | None = None) -> None:
        self.config = config = config or VoiceConfig()
        if sample_rate < 4_000:
            raise ValueError(f"a voice cannot be told at {sample_rate} Hz; at least 4000 Hz are needed")
        self.sample_rate = sample_rate
        self.hop = round(config.hop_seconds * sample_rate)
        size = round(config.frame_seconds * sample_rate)
        self._window = np.hanning(size + 2)[1:-1]
        self._fft = 1 << (2 * size - 1).bit_length()
        hertz = np.fft.rfftfreq(self._fft, 1.0 / sample_rate)
        self._band = slice(int(np.searchsorted(hertz, 100.0)), int(np.searchsorted(hertz, min(4_000.0, hertz[-1]))))
        spectrum = np.abs(np.fft.rfft(self._window, self._fft)) ** 2
        own = np.fft.irfft(spectrum)[: size // 2 + 1]
        self._window_correlation = own / own[0]
        self._lags = (int(sample_rate / config.max_pitch_hz), min(size // 2, round(sample_rate / config.min_pitch_hz)))
        # Decided late enough to know what is around, so that the blocks' sizes change nothing.
        around = max(config.noise_seconds, config.still_seconds)
        self._ahead = round(around / config.hop_seconds) + 10
        self._margin = round(config.margin_seconds * sample_rate)
        self._reach = max(0, round(config.max_gap_seconds * sample_rate) - 2 * self._margin)
        self._rest = np.zeros(0, dtype=np.float32)
        self._frames = Frames(*(np.zeros(0) for _ in range(4)))
        self._first = 0
        """Number of the first frame of ``_frames``."""
        self._decided = 0
        """Number of the first frame that is not decided yet."""
        self._open: Span | None = None
        self._num_samples = 0

    def push(self, block: FloatArray) -> list[Span]:
        """Take the next block, (time,), and give the stretches that have ended for certain."""
        self._num_samples += len(block)
        self._take(np.asarray(block, dtype=np.float32))
        return self._decide(self._first + len(self._frames.level_db) - self._ahead)

    def finish(self) -> list[Span]:
        """Give the stretches that are left after the last block."""
        # Silence behind the end, so that the last samples have a frame.
        self._take(np.zeros(len(self._window), dtype=np.float32))
        found = self._decide(self._first + len(self._frames.level_db))
        if self._open is not None:
            found.append(self._closed(self._open))
            self._open = None
        return found

    @property
    def settled(self) -> int:
        """Up to this sample all is decided, but for the stretch that is not over, :attr:`open_span`."""
        return max(0, self._decided * self.hop - self._margin)

    @property
    def open_span(self) -> Span | None:
        """The stretch that is not over yet, as far as it is known to reach; None if there is none."""
        return None if self._open is None else self._closed(self._open)

    def _take(self, block: FloatArray) -> None:
        waiting = np.concatenate((self._rest, block))
        size = len(self._window)
        number = (len(waiting) - size) // self.hop + 1 if len(waiting) >= size else 0
        parts = [self._frames]
        for begin in range(0, number, 512):
            end = min(number, begin + 512)
            views = np.lib.stride_tricks.sliding_window_view(waiting, size)
            parts.append(self._measure(views[begin * self.hop : (end - 1) * self.hop + 1 : self.hop]))
        self._frames = Frames.joined(parts)
        self._rest = waiting[number * self.hop :]

    def _measure(self, frames: FloatArray) -> Frames:
        centred = frames - frames.mean(axis=1, dtype=np.float64, keepdims=True)
        power = np.abs(np.fft.rfft(centred * self._window, self._fft, axis=1)) ** 2
        band = power[:, self._band]
        # By Parseval, with both halves of the spectrum and the window's own power.
        level = 2.0 * band.sum(axis=1) / self._fft / np.sum(self._window**2)
        quiet = 1e-12 * band.mean(axis=1, keepdims=True) + 1e-20
        flatness = np.exp(np.log(band + quiet).mean(axis=1)) / (band.mean(axis=1) + 1e-20)
        low, high = self._lags
        # Rumble repeats, but not like a voice, of which the overtones are enough.
        power[:, : self._band.start] = 0.0
        power[:, self._band.stop :] = 0.0
        correlation = np.fft.irfft(power, axis=1)[:, : high + 2]
        correlation = correlation / np.maximum(correlation[:, :1], 1e-20) / self._window_correlation[: high + 2]
        inside = correlation[:, low : high + 1]
        # What repeats after a period repeats after two as well: the shorter one is worth a little more.
        peak = np.argmax(inside - _OCTAVE_COST * np.log2(np.arange(low, high + 1) / low), axis=1)
        rows = np.arange(len(frames))
        value = inside[rows, peak]
        lag = low + peak
        before, after = correlation[rows, lag - 1], correlation[rows, lag + 1]
        # A parabola through the peak: steps of whole samples would hide how a voice glides.
        curve = before - 2.0 * value + after
        shift = np.where(curve < -1e-12, 0.5 * (before - after) / np.where(curve < -1e-12, curve, 1.0), 0.0)
        pitch = -12.0 * np.log2(lag + np.clip(shift, -0.5, 0.5))
        return Frames(10.0 * np.log10(level + 1e-14), value, flatness, pitch)

    def _decide(self, end: int) -> list[Span]:
        """Decide the frames up to number ``end``, and give the stretches that are over."""
        found: list[Span] = []
        if end <= self._decided:
            return found
        speech = self._speech()[self._decided - self._first : end - self._first]
        edges = np.flatnonzero(np.diff(speech, prepend=False, append=False)).reshape(-1, 2) + self._decided
        for first, last in edges.tolist():
            begin = max(0, first * self.hop - self._margin)
            stop = (last - 1) * self.hop + len(self._window) + self._margin
            if self._open is not None and begin - self._open[1] <= self._reach:
                self._open = self._open[0], stop
                continue
            if self._open is not None:
                found.append(self._closed(self._open))
            self._open = begin, stop
        self._decided = end
        # The next stretch begins no earlier than this.
        if self._open is not None and end * self.hop - self._margin - self._open[1] > self._reach:
            found.append(self._closed(self._open))
            self._open = None
        forget = max(0, self._decided - self._ahead - self._first)
        self._frames, self._first = self._frames.behind(forget), self._first + forget
        return found

    def _closed(self, span: Span) -> Span:
        return span[0], min(span[1], self._num_samples)

    def _speech(self) -> NDArray[np.bool_]:
        """Say of every frame that is kept whether it is part of speech."""
        config, frames = self.config, self._frames
        reach = round(config.noise_seconds / config.hop_seconds)
        level = _mean(frames.level_db, 2)
        noise = _least(level, reach)
        loud = level > np.maximum(config.least_dbfs, noise + config.above_noise_db)
        voiced = loud & (frames.periodicity > config.periodicity) & (frames.flatness < config.flatness)
        # An octave is a period counted twice, or half of one.
        moved = np.abs((np.diff(frames.pitch, prepend=frames.pitch[:1]) + 6.0) % 12.0 - 6.0)
        both = voiced & np.concatenate([voiced[:1], voiced[:-1]])
        glides = both & (moved < config.glide_semitones)
        half = round(config.still_seconds / config.hop_seconds / 2)
        still = _total(both & (moved < config.still_semitones), half)
        moving = still <= config.most_still * _total(glides, half)
        speech = _runs(glides, round(config.min_voiced_seconds / config.hop_seconds)) & moving
        return speech


def find_voice(blocks: Iterable[FloatArray], sample_rate: int, config: VoiceConfig | None = None) -> Iterator[Span]:
    """Find the stretches of a recording, blocks of (time,), in which somebody may be speaking.

    Yields (begin, end) in samples, in order; they do not overlap. See :class:`VoiceConfig`.
    """
    detector = VoiceDetector(sample_rate, config)
    for block in blocks:
        yield from detector.push(block)
    yield from detector.finish()


def _runs(values: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Keep what is true ``least`` times on end, or more often."""
    edges = np.flatnonzero(np.diff(values, prepend=False, append=False)).reshape(-1, 2)
    kept = np.zeros(len(values), dtype=bool)
    for first, last in edges[edges[:, 1] - edges[:, 0] >= least].tolist():
        kept[first:last] = True
    return kept


def _total(values: NDArray[np.bool_], reach: int) -> NDArray[np.float64]:
    """Sum over the frames within ``reach``."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    places = np.arange(len(values))
    total: NDArray[np.float64] = sums[np.minimum(places + reach + 1, len(values))] - sums[np.maximum(places - reach, 0)]
    return total


def _mean(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Average over the frames within ``reach``, of which there are fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    high, low = np.minimum(places + reach + 1, len(values)), np.maximum(places - reach, 0)
    mean: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return mean


def _least(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """The least value of the frames within ``reach``."""
    if not len(values):
        return values
    padded = np.pad(values, reach, constant_values=np.inf)
    # The minimum over a power of two, twice, covers any width.
    width, size = 2 * reach + 1, 1
    while 2 * size <= width:
        padded = np.minimum(padded[: len(padded) - size], padded[size:])
        size *= 2
    rest = width - size
    least: NDArray[np.float64] = np.minimum(padded[: len(values)], padded[rest : rest + len(values)])
    return least
