"""How loud, how clipped and how silent a recording is, on arrays and on streams, without torch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

SILENCE_DBFS = -90.0
"""A recording whose peak stays below this (about one step of 16 bit) holds nothing that can be worked on."""


def amplitude_to_db(amplitude: float) -> float:
    """Express an amplitude ratio in decibels; zero gives minus infinity.

    >>> amplitude_to_db(0.5) < -6, amplitude_to_db(0.0)
    (True, -inf)
    """
    return 20.0 * math.log10(amplitude) if amplitude > 0 else -math.inf


def db_to_amplitude(level_db: float) -> float:
    """Turn decibels into an amplitude ratio.

    >>> db_to_amplitude(-20.0)
    0.1
    """
    return float(10.0 ** (level_db / 20.0))


class LevelMeter:
    """Level, peak and clipping of a mono stream, measured block by block in constant memory.

    Args:
        full_scale: the amplitude at which the recording saturates.
        min_run: how many neighbouring samples must saturate on the same side to count as clipped.

    A sample is clipped when it belongs to a run of at least ``min_run`` neighbours on the same side whose magnitude is
    at least 0.999 of full scale: a signal that merely touches full scale for a sample, as a peak-normalised one does,
    is not clipped. Runs are followed across blocks, so that the blocks' sizes do not matter.
    """

    def __init__(self, *, full_scale: float = 1.0, min_run: int = 3) -> None:
        self._threshold = 0.999 * full_scale
        self._min_run = min_run
        self._num_samples = 0
        self._square_sum = 0.0
        self._peak = 0.0
        self._num_clipped = 0
        self._open_side = 0
        self._open_length = 0

    def update(self, block: FloatArray) -> None:
        """Take the next block, (time,)."""
        if len(block) == 0:
            return
        self._num_samples += len(block)
        self._square_sum += float(np.sum(np.square(block, dtype=np.float64)))
        self._peak = max(self._peak, float(np.max(np.abs(block))))
        self._follow_runs(block)

    def _follow_runs(self, block: FloatArray) -> None:
        sides = (block >= self._threshold).astype(np.int8) - (block <= -self._threshold).astype(np.int8)
        if self._open_side == 0 and not sides.any():
            return
        starts = np.flatnonzero(np.diff(sides, prepend=sides[0] + 1))
        lengths = np.diff(starts, append=len(sides))
        for side, length in zip(sides[starts].tolist(), lengths.tolist(), strict=True):
            if side != self._open_side:
                self._close_run()
                self._open_side = side
            self._open_length += length

    def _close_run(self) -> None:
        self._num_clipped = self._clipped_so_far
        self._open_side = 0
        self._open_length = 0

    @property
    def _clipped_so_far(self) -> int:
        counts = self._open_side != 0 and self._open_length >= self._min_run
        return self._num_clipped + (self._open_length if counts else 0)

    @property
    def num_samples(self) -> int:
        """Number of samples seen."""
        return self._num_samples

    @property
    def rms_dbfs(self) -> float:
        """Root mean square level in dB relative to full scale 1.0; minus infinity for digital silence or nothing."""
        return amplitude_to_db(math.sqrt(self._square_sum / self._num_samples)) if self._num_samples else -math.inf

    @property
    def peak_dbfs(self) -> float:
        """Largest magnitude in dB relative to full scale 1.0; minus infinity for digital silence or nothing."""
        return amplitude_to_db(self._peak)

    @property
    def clipped_fraction(self) -> float:
        """Share of the samples that are clipped, in [0, 1]."""
        return self._clipped_so_far / self._num_samples if self._num_samples else 0.0

    @property
    def is_silent(self) -> bool:
        """Whether nothing rose above ``SILENCE_DBFS``."""
        return self.peak_dbfs < SILENCE_DBFS


def _measure(waveform: FloatArray, *, full_scale: float = 1.0, min_run: int = 3) -> LevelMeter:
    meter = LevelMeter(full_scale=full_scale, min_run=min_run)
    meter.update(waveform)
    return meter


def rms_dbfs(waveform: FloatArray) -> float:
    """Root mean square level of (time,) in dB relative to an amplitude of 1.0; minus infinity for digital silence.

    A full-scale square wave has 0 dBFS, a full-scale sine -3.01 dBFS.

    >>> rms_dbfs(np.array([0.1, -0.1], dtype=np.float64))
    -20.0
    """
    return _measure(waveform).rms_dbfs


def peak_dbfs(waveform: FloatArray) -> float:
    """Largest magnitude of (time,) in dB relative to an amplitude of 1.0; minus infinity for digital silence."""
    return _measure(waveform).peak_dbfs


def clipped_fraction(waveform: FloatArray, *, full_scale: float = 1.0, min_run: int = 3) -> float:
    """Share of the samples of (time,) that are clipped, in [0, 1]; ``LevelMeter`` says what counts as clipped.

    >>> clipped_fraction(np.array([0.0, 1.0, 1.0, 1.0, 0.2, 1.0, 0.1, -0.3, -1.0, 1.0], dtype=np.float32))
    0.3
    """
    return _measure(waveform, full_scale=full_scale, min_run=min_run).clipped_fraction


def is_clipped(waveform: FloatArray, *, max_fraction: float = 1e-4) -> bool:
    """Whether more of (time,) is clipped than the fraction that goes unheard."""
    return clipped_fraction(waveform) > max_fraction


def is_silent(waveform: FloatArray) -> bool:
    """Whether (time,) never rises above ``SILENCE_DBFS``; an empty signal is silent."""
    return _measure(waveform).is_silent


def silences(
    waveform: FloatArray,
    sample_rate: int,
    *,
    threshold_dbfs: float = -50.0,
    min_seconds: float = 0.3,
    frame_seconds: float = 0.02,
) -> list[tuple[float, float]]:
    """Find the stretches in which a recording is quiet.

    Args:
        waveform: (time,).
        sample_rate: in hertz.
        threshold_dbfs: a frame whose root mean square level is below this is quiet.
        min_seconds: shorter stretches are left out.
        frame_seconds: length of the frames, which do not overlap; the last one may be shorter.

    Returns:
        (start_seconds, end_seconds) of every stretch, in order of time.
    """
    if len(waveform) == 0:
        return []
    frame = max(1, round(frame_seconds * sample_rate))
    starts = np.arange(0, len(waveform), frame)
    sizes = np.diff(starts, append=len(waveform))
    power = np.add.reduceat(np.square(waveform, dtype=np.float64), starts) / sizes
    quiet = power < 10.0 ** (threshold_dbfs / 10.0)
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False))
    bounds = np.append(starts, len(waveform)) / sample_rate
    spans = [(float(bounds[begin]), float(bounds[end])) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return [(start, end) for start, end in spans if end - start >= min_seconds]
