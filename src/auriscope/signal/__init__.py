"""Signals: audio files, levels, sample rates, STFT, mel, chunk-and-overlap-add, and rooms.

The names are imported on first use, because files and levels also serve parts that never load torch. The functions
``stft`` and ``istft`` are in ``auriscope.signal.stft``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auriscope.signal.chunking import chunk, crossfade_window, num_chunks, overlap_add
    from auriscope.signal.features import FeatureConfig, Features, LogMel, RawWaveform, make_features, spec_augment
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
    from auriscope.signal.mel import log_mel, mel_filterbank
    from auriscope.signal.outputs import make_folder, written_aside
    from auriscope.signal.rates import StreamResampler, resample_array, resampled_length
    from auriscope.signal.resampling import resample
    from auriscope.signal.rooms import (
        ImpulseResponses,
        Room,
        RoomConfig,
        convolve,
        sample_room,
        simulate,
        split_early_late,
    )
    from auriscope.signal.stft import STFT, make_window
    from auriscope.signal.turns import SpeakerTurn
    from auriscope.signal.vocoding import MEL_16K, MEL_22K, MelConfig, check_same_mel, speech_mel

__all__ = [
    "MEL_16K",
    "MEL_22K",
    "STFT",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "FeatureConfig",
    "Features",
    "ImpulseResponses",
    "LevelMeter",
    "LogMel",
    "MelConfig",
    "RawWaveform",
    "Room",
    "RoomConfig",
    "SpeakerTurn",
    "StreamResampler",
    "check_same_mel",
    "chunk",
    "clipped_fraction",
    "convolve",
    "crossfade_window",
    "find_audio",
    "is_clipped",
    "is_silent",
    "log_mel",
    "make_features",
    "make_folder",
    "make_window",
    "mel_filterbank",
    "num_chunks",
    "overlap_add",
    "peak_dbfs",
    "probe",
    "read",
    "resample",
    "resample_array",
    "resampled_length",
    "rms_dbfs",
    "sample_room",
    "silences",
    "simulate",
    "spec_augment",
    "speech_mel",
    "split_early_late",
    "write",
    "written_aside",
]

_HOMES = {
    "chunking": "chunk crossfade_window num_chunks overlap_add",
    "features": "FeatureConfig Features LogMel RawWaveform make_features spec_augment",
    "files": "AudioInfo AudioReader AudioWriter find_audio probe read write",
    "levels": "LevelMeter clipped_fraction is_clipped is_silent peak_dbfs rms_dbfs silences",
    "mel": "log_mel mel_filterbank",
    "outputs": "make_folder written_aside",
    "rates": "StreamResampler resample_array resampled_length",
    "resampling": "resample",
    "rooms": "ImpulseResponses Room RoomConfig convolve sample_room simulate split_early_late",
    "stft": "STFT make_window",
    "turns": "SpeakerTurn",
    "vocoding": "MEL_16K MEL_22K MelConfig check_same_mel speech_mel",
}
_PUBLIC = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"auriscope.signal.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'auriscope.signal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
