"""Sample rate conversion of arrays by soxr, without torch: whole signals and streams."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

FloatArray = npt.NDArray[np.float32]


def resampled_length(num_frames: int, orig_rate: int, new_rate: int) -> int:
    """Number of frames that ``num_frames`` become, rounded up so that no signal becomes empty.

    Every converter of this package gives exactly this length, so that streams, arrays and tensors agree.

    >>> resampled_length(44100, 44100, 16000), resampled_length(10, 48000, 16000)
    (16000, 4)
    """
    return -(-num_frames * new_rate // orig_rate)


def resample_array(waveform: FloatArray, orig_rate: int, new_rate: int) -> FloatArray:
    """Convert the sample rate of a whole signal by soxr (high quality, linear phase).

    Args:
        waveform: (time,) float32.
        orig_rate: its rate in hertz.
        new_rate: the wanted rate in hertz.

    Returns:
        (resampled_length(time),) float32.
    """
    if orig_rate == new_rate:
        return waveform
    converter = StreamResampler(orig_rate, new_rate)
    return np.concatenate([converter.push(waveform), converter.finish()])


class StreamResampler:
    """Convert the sample rate of a stream by soxr, block by block, with the result of one whole conversion.

    Memory does not grow with the stream. The blocks that come out have other lengths than those that go in; their
    total is ``resampled_length`` of the total that went in.
    """

    def __init__(self, orig_rate: int, new_rate: int) -> None:
        self._orig_rate = orig_rate
        self._new_rate = new_rate
        self._stream = soxr.ResampleStream(orig_rate, new_rate, 1, dtype="float32", quality="HQ")
        self._frames_in = 0
        self._frames_out = 0

    def push(self, block: FloatArray) -> FloatArray:
        """Take the next block, (time,) float32, and return what is ready, (time',) float32, possibly empty."""
        self._frames_in += len(block)
        ready: FloatArray = self._stream.resample_chunk(np.ascontiguousarray(block, dtype=np.float32))
        self._frames_out += len(ready)
        return ready

    def finish(self) -> FloatArray:
        """Return what is still inside after the last block, (time',) float32."""
        # soxr rounds the total to the nearest frame. Two frames' worth of silence more, cut off again, give the length
        # that we promise, with the filter's own decay in it.
        silence = np.zeros(2 * -(-self._orig_rate // self._new_rate), dtype=np.float32)
        rest: FloatArray = self._stream.resample_chunk(silence, last=True)
        return rest[: resampled_length(self._frames_in, self._orig_rate, self._new_rate) - self._frames_out]
