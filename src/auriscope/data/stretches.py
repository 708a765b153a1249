"""Stretches of audio files, read and resampled when they are asked for, without a decoded copy."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

FloatArray = NDArray[np.float32]

# Of the file's own samples on both sides of a stretch: more than the resampler's filter reaches.
_MARGIN = 512


class FileStore:
    """Audio files as clips of one sample rate, read from disk each time.

    Large corpora are read like this: they would fill the disk a second time in the decoded cache of
    :mod:`auriscope.data.cache`. Any stretch is what the same stretch of the whole file, resampled, would be, as nearly
    as makes no difference. Reading is safe from any number of threads. ``file_frames`` are the files' lengths in
    samples of ``file_rate``.
    """

    def __init__(self, paths: Sequence[Path], file_frames: Sequence[int], file_rate: int, sample_rate: int) -> None:
        self.paths = paths
        self.file_frames = file_frames
        self.file_rate = file_rate
        self.sample_rate = sample_rate
        common = gcd(file_rate, sample_rate)
        # So many samples of the file last exactly as long as so many of what comes out.
        self._file_step, self._step = file_rate // common, sample_rate // common

    def __len__(self) -> int:
        return len(self.paths)

    def num_frames(self, clip: int) -> int:
        """Return the length of a clip in samples."""
        return self.file_frames[clip] * self.sample_rate // self.file_rate

    def read(self, clip: int, start_frame: int = 0, num_frames: int | None = None) -> FloatArray:
        """Return (time,) float32 of a clip, its channels mixed down; shorter than ``num_frames`` where it ends."""
        channels = self.read_channels(clip, start_frame, num_frames)
        mono: FloatArray = channels.mean(axis=0, dtype=np.float32) if len(channels) > 1 else channels[0]
        return mono

    def read_channels(self, clip: int, start_frame: int = 0, num_frames: int | None = None) -> FloatArray:
        """Return (channels, time) float32 of a clip, as :meth:`read` does.

        Raises :class:`~auriscope.errors.CorpusError` when the file is not there, damaged or shorter than was said.
        """
        left = max(0, self.num_frames(clip) - start_frame)
        num_frames = left if num_frames is None else min(left, num_frames)
        if self.file_rate == self.sample_rate:
            return self._read_file(clip, start_frame, num_frames)
        steps = _MARGIN // self._file_step + 1
        first = max(0, start_frame // self._step - steps)
        last = (start_frame + num_frames) // self._step + 1 + steps
        file_first = first * self._file_step
        file_last = min(last * self._file_step, self.file_frames[clip])
        raw = self._read_file(clip, file_first, file_last - file_first)
        resampled = soxr.resample(raw.T, self.file_rate, self.sample_rate, quality="HQ").T
        skipped = start_frame - first * self._step
        stretch: FloatArray = resampled[:, skipped : skipped + num_frames]
        return np.ascontiguousarray(np.pad(stretch, ((0, 0), (0, num_frames - stretch.shape[1]))))

    def _read_file(self, clip: int, start: int, count: int) -> FloatArray:
        path = self.paths[clip]
        try:
            waveform, rate = soundfile.read(path, count, start, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError, RuntimeError) as error:
            raise CorpusError(f"{path}: cannot be read ({reason(error)}); copy it again") from error
        if rate != self.file_rate or len(waveform) != count:
            raise CorpusError(f"{path}: is not what it was when the corpus was prepared; prepare the corpus again")
        return np.ascontiguousarray(waveform.T)
