"""Signals: audio files, levels, sample rates, STFT, mel, chunk-and-overlap-add, and rooms.

The names are imported on first use, because files and levels also serve parts that never load torch. The functions
``stft`` and ``istft`` are in ``auriscope.signal.stft``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auriscope.signal.files import AudioInfo, AudioReader, AudioWriter, find_audio, probe, read, write
    from auriscope.signal.levels import (
        LevelMeter,
        clipped_fraction,
        is_clipped,
        is_silent,
        peak_dbfs,
        rms_dbfs,
        silences,
    )
    from auriscope.signal.outputs import make_folder, written_aside
    from auriscope.signal.rates import StreamResampler, resample_array, resampled_length

__all__ = [
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "LevelMeter",
    "StreamResampler",
    "clipped_fraction",
    "find_audio",
    "is_clipped",
    "is_silent",
    "make_folder",
    "peak_dbfs",
    "probe",
    "read",
    "resample_array",
    "resampled_length",
    "rms_dbfs",
    "silences",
    "write",
    "written_aside",
]

_HOMES = {
    "files": "AudioInfo AudioReader AudioWriter find_audio probe read write",
    "levels": "LevelMeter clipped_fraction is_clipped is_silent peak_dbfs rms_dbfs silences",
    "outputs": "make_folder written_aside",
    "rates": "StreamResampler resample_array resampled_length",
}
_PUBLIC = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"auriscope.signal.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'auriscope.signal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
