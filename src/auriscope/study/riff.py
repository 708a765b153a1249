"""The head of a WAV file, read without decoding anything: enough to refuse what is no recording of ours.

What it says is not trusted with memory: :mod:`auriscope.study.decode` decodes the samples, in a process of its own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEAD_BYTES = 1 << 16
"""The samples begin within so many bytes, or the file is refused."""

SAMPLE_RATES = (8_000, 192_000)
"""The lowest and the highest rate that is taken, in hertz."""

_PCM, _EXTENSIBLE = 1, 0xFFFE
# What follows the two bytes of the coding in an extensible format's identifier.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


class HeadError(ValueError):
    """The head is not that of a recording that can be taken; the message says why, in a few words."""


@dataclass(frozen=True)
class Head:
    """What the head of a WAV file says.

    ``sample_rate`` in hertz; ``sample_bits`` per channel; ``data_offset`` and ``data_bytes`` say where the samples lie.
    """

    sample_rate: int
    num_channels: int
    sample_bits: int
    data_offset: int
    data_bytes: int

    @property
    def num_frames(self) -> int:
        """Number of samples per channel."""
        return self.data_bytes // (self.num_channels * self.sample_bits // 8)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sample_rate


def read_head(data: bytes) -> Head | None:
    """Read the head of a WAV file from its first bytes; None if more of them are needed.

    Taken are RIFF files of integer PCM with 16 or 24 bits, one or two channels and a rate within
    ``SAMPLE_RATES``; ``HeadError`` for everything else. Releases keep every bit, and FLAC and our WAV have 24 at most.
    """
    if not b"RIFF".startswith(data[:4]):
        raise HeadError("is no WAV file")
    if len(data) < 12:
        return None
    if data[8:12] != b"WAVE":
        raise HeadError("is no WAV file")
    position, layout = 12, None
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if name == b"data":
            if layout is None:
                raise HeadError("does not say how its samples are coded")
            return _head(layout, body, size)
        # Chunks begin at even places.
        end = body + size + size % 2
        if end > HEAD_BYTES:
            raise HeadError("has no samples near its beginning")
        if name == b"fmt ":
            if layout is not None or not 16 <= size <= 64:
                raise HeadError("is damaged in its head")
            if end > len(data):
                return None
            layout = data[body : body + size]
        position = end
    if len(data) >= HEAD_BYTES:
        raise HeadError("has no samples near its beginning")
    return None


def _head(layout: bytes, data_offset: int, data_bytes: int) -> Head:
    tag, num_channels, sample_rate, bytes_per_second, frame_bytes, bits = struct.unpack_from("<HHIIHH", layout)
    if tag == _EXTENSIBLE and len(layout) >= 40 and layout[26:40] == _GUID_TAIL:
        (tag,) = struct.unpack_from("<H", layout, 24)
    if tag != _PCM or bits not in (16, 24):
        raise HeadError("is not coded as PCM of 16 or 24 bits")
    if num_channels not in (1, 2):
        raise HeadError(f"has {num_channels} channels instead of one or two")
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        raise HeadError(f"has a rate of {sample_rate} Hz, not {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]}")
    if frame_bytes != num_channels * bits // 8 or bytes_per_second != sample_rate * frame_bytes:
        raise HeadError("contradicts itself in its head")
    return Head(sample_rate, num_channels, bits, data_offset, data_bytes)
