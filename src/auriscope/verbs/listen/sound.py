"""Sound for the page: Ogg Opus, inside the page when short and beside it when long."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from auriscope.signal.files import AudioWriter
from auriscope.signal.rates import StreamResampler

FloatArray = npt.NDArray[np.float32]

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


def opus_rate(sample_rate: int) -> int:
    """Rate at which Opus keeps all of a signal, or 48 kHz, its highest.

    >>> opus_rate(16000), opus_rate(22050), opus_rate(192000)
    (16000, 24000, 48000)
    """
    return next((rate for rate in _OPUS_RATES if rate >= sample_rate), _OPUS_RATES[-1])


def encode_opus(blocks: Iterable[FloatArray], sample_rate: int, path: Path) -> None:
    """Write a mono signal as Ogg Opus, about 25 kbit/s for 16 kHz speech, block by block.

    Args:
        blocks: (time,) float32 each.
        sample_rate: their rate in hertz; rates that Opus does not know are converted.
        path: file to write, with the suffix ``.opus``; whole or not at all.
    """
    rate = opus_rate(sample_rate)
    with AudioWriter(path, rate) as writer:
        if rate == sample_rate:
            for block in blocks:
                writer.write(block)
            return
        converter = StreamResampler(sample_rate, rate)
        for block in blocks:
            writer.write(converter.push(block))
        writer.write(converter.finish())


def data_uri(payload: bytes, kind: str) -> str:
    """Bytes as a ``data:`` address, so that a page needs no second file."""
    return f"data:{kind};base64,{base64.b64encode(payload).decode('ascii')}"
