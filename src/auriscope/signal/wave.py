"""Writing WAV files as a stream whose length is not known before, beyond 4 GiB as RF64, without torch.

libsndfile's own WAV writer breaks beyond 4 GiB without a word, and its switch to RF64 on the way is out of soundfile's
reach; the format is small enough to write here.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

_LARGEST_RIFF = 0xFFFFFFFF
# subtype: (format tag, bytes per sample)
_CODINGS = {"PCM_16": (1, 2), "PCM_24": (1, 3), "FLOAT": (3, 4)}


class WaveWriter:
    """Write a WAV file block by block.

    Args:
        path: the file to write.
        sample_rate: in hertz.
        num_channels: at least 1.
        subtype: ``"FLOAT"`` (IEEE float32), ``"PCM_16"`` or ``"PCM_24"`` (rounded to nearest, saturating).
        comment: what the head says of the sound (a LIST chunk of INFO, its ICMT), if anything.

    Raises:
        ValueError: if the subtype is not known.
        OSError: if the file cannot be written.

    Space for the 64-bit sizes is reserved by a JUNK chunk at the start, which becomes ds64 if the file has grown beyond
    4 GiB (EBU Tech 3306, section 3.5).
    """

    def __init__(self, path: Path, sample_rate: int, num_channels: int, subtype: str, comment: str = "") -> None:
        if subtype not in _CODINGS:
            raise ValueError(f"WAV cannot be written as {subtype}; use {', '.join(_CODINGS)}")
        self._subtype = subtype
        self._tag, width = _CODINGS[subtype]
        self._sample_rate = sample_rate
        self._num_channels = num_channels
        self._frame_bytes = width * num_channels
        self._information = _information(comment)
        self._num_frames = 0
        self._file = path.open("wb")
        self._file.write(self._header())

    def write(self, frames: npt.NDArray[np.float32]) -> None:
        """Append (time, num_channels) float32."""
        if self._subtype == "FLOAT":
            data = frames.astype("<f4").tobytes()
        elif self._subtype == "PCM_16":
            data = _quantise(frames, 16).astype("<i2").tobytes()
        else:
            data = np.ascontiguousarray(_quantise(frames, 24).astype("<i4").reshape(-1, 1).view("u1")[:, :3]).tobytes()
        self._file.write(data)
        self._num_frames += len(frames)

    def close(self) -> None:
        """Complete the file: pad it to an even length and write the sizes into its head."""
        with self._file as file:
            if self._num_frames * self._frame_bytes % 2:
                file.write(b"\0")
            file.seek(0)
            file.write(self._header())

    def _header(self) -> bytes:
        data_bytes = self._num_frames * self._frame_bytes
        layout = struct.pack(
            "<HHIIHH", self._tag, self._num_channels, self._sample_rate, self._sample_rate * self._frame_bytes,
            self._frame_bytes, 8 * self._frame_bytes // self._num_channels,
        )  # fmt: skip
        chunks = _chunk(b"fmt ", layout)
        if self._tag != 1:
            # Everything but PCM has an extension, here of no bytes, and says its number of frames.
            chunks = _chunk(b"fmt ", layout + b"\0\0") + _chunk(
                b"fact", struct.pack("<I", min(self._num_frames, 0xFFFFFFFF))
            )
        chunks += self._information
        riff_bytes = 4 + (8 + 28) + len(chunks) + 8 + data_bytes + data_bytes % 2
        if riff_bytes <= _LARGEST_RIFF:
            head = b"RIFF" + struct.pack("<I", riff_bytes) + b"WAVE" + _chunk(b"JUNK", bytes(28))
            return head + chunks + b"data" + struct.pack("<I", data_bytes)
        sizes = struct.pack("<QQQI", riff_bytes, data_bytes, self._num_frames, 0)
        head = b"RF64" + b"\xff" * 4 + b"WAVE" + _chunk(b"ds64", sizes)
        return head + chunks + b"data" + b"\xff" * 4


class WaveStream:
    """Write a WAV file of 16 bits and one channel to a stream that cannot be wound back, such as a pipe.

    Its sizes say that nobody knows how long it will be, as players and converters understand. Arguments are those of
    :class:`WaveWriter`; ``stream`` takes bytes. Raises ``OSError`` if it does not.
    """

    def __init__(self, stream: BinaryIO, sample_rate: int, comment: str = "") -> None:
        self._stream = stream
        layout = struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16)
        open_end = b"\xff" * 4
        stream.write(
            b"RIFF" + open_end + b"WAVE" + _chunk(b"fmt ", layout) + _information(comment) + b"data" + open_end
        )

    def write(self, block: npt.NDArray[np.float32]) -> None:
        """Append (time,) float32, at once."""
        self._stream.write(_quantise(block, 16).astype("<i2").tobytes())
        self._stream.flush()


def _information(comment: str) -> bytes:
    if not comment:
        return b""
    text = comment.encode() + b"\0"
    return _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", text + b"\0" * (len(text) % 2)))


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body


def _quantise(frames: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float64]:
    scale = 2.0 ** (bits - 1)
    steps: npt.NDArray[np.float64] = np.clip(np.rint(frames.astype(np.float64) * scale), -scale, scale - 1)
    return steps
