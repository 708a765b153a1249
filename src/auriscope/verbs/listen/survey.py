"""One streaming pass over a sound that gathers all that the report shows of it, in memory bounded by its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auriscope.signal.levels import SILENCE_DBFS, LevelMeter

FloatArray = npt.NDArray[np.float32]

NUM_COLUMNS = 1000
"""Width of the pictures: more recording never makes a picture larger."""

ENVELOPE_COLUMNS = 600
NUM_ROWS = 160
TOP_HERTZ = 8000.0
ACTIVITY_SECONDS = 0.02
_FLOOR_DB = -140.0


@dataclass(frozen=True)
class Survey:
    """What one pass over a mono signal found.

    ``envelope`` is (ENVELOPE_COLUMNS or fewer, 2): the lowest and the highest sample of each column.
    ``spectrogram_db`` is (NUM_ROWS, NUM_COLUMNS or fewer): the mean power of each column in dB, rows from low to high
    on a mel scale up to ``top_hertz``. ``activity_db`` is (frames of ACTIVITY_SECONDS,): the level of each in dBFS.
    """

    sample_rate: int
    num_frames: int
    rms_dbfs: float
    peak_dbfs: float
    clipped_fraction: float
    envelope: FloatArray
    spectrogram_db: FloatArray
    top_hertz: float
    activity_db: FloatArray

    @property
    def duration_seconds(self) -> float:
        """Length of the signal."""
        return self.num_frames / self.sample_rate

    @property
    def is_silent(self) -> bool:
        """Whether nothing rose above one step of 16 bit."""
        return self.peak_dbfs < SILENCE_DBFS


def row_hertz(num_rows: int, top_hertz: float) -> npt.NDArray[np.float64]:
    """Frequencies of the rows of a spectrogram, evenly spaced in mel (O'Shaughnessy 1987) from 0 to ``top_hertz``."""
    top_mel = 2595.0 * np.log10(1.0 + top_hertz / 700.0)
    return np.asarray(700.0 * (10.0 ** (np.linspace(0.0, top_mel, num_rows) / 2595.0) - 1.0))


def survey(blocks: Iterable[FloatArray], sample_rate: int, num_frames: int) -> Survey:
    """Look at a mono signal once, block by block.

    Args:
        blocks: the signal, (time,) float32 each, of any sizes.
        sample_rate: its rate in hertz.
        num_frames: how many frames are expected; it only sets the width of a column, so a wrong one does no harm.

    The activity takes 4 bytes for every 20 ms (0.7 MB an hour); everything else has a fixed size.
    """
    meter = LevelMeter()
    envelope = _Envelope(num_frames)
    spectrogram = _Spectrogram(sample_rate, num_frames)
    activity = _Activity(sample_rate)
    for block in blocks:
        meter.update(block)
        envelope.update(block)
        spectrogram.update(block)
        activity.update(block)
    return Survey(
        sample_rate=sample_rate,
        num_frames=meter.num_samples,
        rms_dbfs=meter.rms_dbfs,
        peak_dbfs=meter.peak_dbfs,
        clipped_fraction=meter.clipped_fraction,
        envelope=envelope.finish(),
        spectrogram_db=spectrogram.finish(),
        top_hertz=spectrogram.top_hertz,
        activity_db=activity.finish(),
    )


def find_turns(
    activity_db: Sequence[FloatArray],
    *,
    below_peak_db: float = 30.0,
    below_loudest_db: float = 12.0,
    floor_dbfs: float = -65.0,
    min_seconds: float = 0.2,
    max_gap_seconds: float = 0.4,
) -> list[list[tuple[float, float]]]:
    """Find when each talker speaks, from the levels of the separated tracks.

    Args:
        activity_db: the level of each track in frames of ``ACTIVITY_SECONDS``, (frames,) dBFS each.
        below_peak_db: a frame this far under its track's loud frames (the 95th percentile) is quiet.
        below_loudest_db: a frame this far under the loudest track at that time is what leaked over from that track.
        floor_dbfs: a frame below this is quiet in any case.
        min_seconds: shorter turns are dropped.
        max_gap_seconds: shorter pauses do not end a turn.

    Returns:
        For each track the (start_seconds, end_seconds) of its turns, in order of time.
    """
    length = min((len(track) for track in activity_db), default=0)
    if length == 0:
        return [[] for _ in activity_db]
    # A tenth of a second evens out the gaps between syllables, in which the other track's leakage would win.
    smooth = np.stack([_smooth(track[:length], 5) for track in activity_db])
    loudest = smooth.max(axis=0)
    found: list[list[tuple[float, float]]] = []
    for track in smooth:
        loud = track[track > floor_dbfs]
        threshold = max(floor_dbfs, float(np.percentile(loud, 95.0)) - below_peak_db) if len(loud) else floor_dbfs
        found.append(_spans((track > threshold) & (track > loudest - below_loudest_db), min_seconds, max_gap_seconds))
    return found


def _smooth(levels_db: FloatArray, width: int) -> FloatArray:
    power = np.convolve(10.0 ** (levels_db / 10.0), np.ones(width) / width, mode="same")[: len(levels_db)]
    return np.asarray(10.0 * np.log10(power + 1e-14), dtype=np.float32)


def _spans(active: npt.NDArray[np.bool_], min_seconds: float, max_gap_seconds: float) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(active, prepend=False, append=False)) * ACTIVITY_SECONDS
    merged: list[tuple[float, float]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if merged and start - merged[-1][1] <= max_gap_seconds:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return [(round(start, 3), round(end, 3)) for start, end in merged if end - start >= min_seconds]


class _Envelope:
    """Lowest and highest sample per column."""

    def __init__(self, num_frames: int) -> None:
        self._width = max(1, -(-num_frames // ENVELOPE_COLUMNS))
        self._values = np.zeros((ENVELOPE_COLUMNS, 2), dtype=np.float32)
        self._position = 0

    def update(self, block: FloatArray) -> None:
        if len(block) == 0:
            return
        index = np.arange(self._position, self._position + len(block)) // self._width
        starts = np.flatnonzero(np.diff(index, prepend=-1))
        columns = np.minimum(index[starts], ENVELOPE_COLUMNS - 1)
        np.minimum.at(self._values[:, 0], columns, np.minimum.reduceat(block, starts))
        np.maximum.at(self._values[:, 1], columns, np.maximum.reduceat(block, starts))
        self._position += len(block)

    def finish(self) -> FloatArray:
        used = min(ENVELOPE_COLUMNS, max(1, -(-self._position // self._width)))
        return self._values[:used]


class _Spectrogram:
    """Mean power per column of a short-time spectrum; its phase is never needed."""

    def __init__(self, sample_rate: int, num_frames: int) -> None:
        # About 50 ms: long enough to show the harmonics of a voice.
        self._window = np.hanning(2 ** round(np.log2(0.05 * sample_rate))).astype(np.float32)
        size = len(self._window)
        # A long recording has many frames per column anyway: then they need not overlap.
        self._hop = size // 4 if num_frames // (size // 4) <= 4 * NUM_COLUMNS else size
        self._frames_per_column = max(1, -(-(num_frames // self._hop + 1) // NUM_COLUMNS))
        self.top_hertz = min(TOP_HERTZ, sample_rate / 2)
        self._num_bins = min(size // 2 + 1, int(np.ceil(self.top_hertz * size / sample_rate)) + 1)
        self._bin_hertz = np.arange(self._num_bins) * sample_rate / size
        self._power = np.zeros((NUM_COLUMNS, self._num_bins))
        self._counts = np.zeros(NUM_COLUMNS)
        self._frame = 0
        # Half a window of silence before and after, so that the first and the last samples are in the picture.
        self._rest: FloatArray = np.zeros(size // 2, dtype=np.float32)

    def update(self, block: FloatArray) -> None:
        size, hop = len(self._window), self._hop
        self._rest = np.concatenate([self._rest, block])
        num_frames = (len(self._rest) - size) // hop + 1 if len(self._rest) >= size else 0
        for start in range(0, num_frames, 256):
            stop = min(num_frames, start + 256)
            frames = np.lib.stride_tricks.sliding_window_view(self._rest, size)[
                start * hop : (stop - 1) * hop + 1 : hop
            ]
            power = np.square(np.abs(np.fft.rfft(frames * self._window, axis=1)[:, : self._num_bins]))
            columns = np.minimum((self._frame + np.arange(stop - start)) // self._frames_per_column, NUM_COLUMNS - 1)
            np.add.at(self._power, columns, power)
            np.add.at(self._counts, columns, 1)
            self._frame += stop - start
        self._rest = self._rest[num_frames * hop :]

    def finish(self) -> FloatArray:
        self.update(np.zeros(len(self._window) // 2, dtype=np.float32))
        used = max(1, int(np.count_nonzero(self._counts)))
        mean = self._power[:used] / np.maximum(self._counts[:used, None], 1)
        # Relative to a full-scale sine, whose window gathers a quarter of the window's squared sum.
        level_db = 10.0 * np.log10(mean / (np.sum(self._window) ** 2 / 4) + 10.0 ** (_FLOOR_DB / 10.0))
        # High rows span several bins: the strongest of each is shown, so that no tone falls between two rows.
        fine = row_hertz(8 * NUM_ROWS, self.top_hertz)
        rows = [np.interp(fine, self._bin_hertz, column).reshape(NUM_ROWS, 8).max(axis=1) for column in level_db]
        return np.stack(rows, axis=1).astype(np.float32)


class _Activity:
    """Level of every short frame."""

    def __init__(self, sample_rate: int) -> None:
        self._seconds_to_frames = sample_rate * ACTIVITY_SECONDS
        self._levels: list[FloatArray] = []
        self._rest: FloatArray = np.zeros(0, dtype=np.float32)
        self._frame = 0
        self._position = 0

    def update(self, block: FloatArray) -> None:
        self._rest = np.concatenate([self._rest, block])
        # Boundaries are rounded one by one, so that 11.025 kHz does not drift against the clock.
        end = int((self._position + len(self._rest)) / self._seconds_to_frames)
        bounds = np.round(np.arange(self._frame, end + 1) * self._seconds_to_frames).astype(int) - self._position
        if len(bounds) > 1:
            squares = np.square(self._rest[: bounds[-1]], dtype=np.float64)
            power = np.add.reduceat(squares, bounds[:-1]) / np.diff(bounds)
            self._levels.append((10.0 * np.log10(power + 10.0 ** (_FLOOR_DB / 10.0))).astype(np.float32))
            self._rest = self._rest[bounds[-1] :]
            self._position += int(bounds[-1])
            self._frame = end

    def finish(self) -> FloatArray:
        return np.concatenate(self._levels) if self._levels else np.zeros(0, dtype=np.float32)
