"""The verb ``judge``: how good are separated tracks, estimated without references and, given some, measured."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.pretrained import list_shipped, load
from auriscope.quality import REASONS, Prediction, WindowScores
from auriscope.signal.files import AudioReader
from auriscope.signal.levels import LevelMeter
from auriscope.signal.outputs import printable
from auriscope.verbs.exact import ExactScore, ExactScorer

StrPath = str | os.PathLike[str]
FloatArray = npt.NDArray[np.float32]

PREFERRED_MODEL = "quality/sisnr.pooled"
"""The shipped estimator that is used when none is named; without it, the first that is shipped."""

_TOLERANCE_SECONDS = 0.1
"""Coders add or lose some milliseconds; a larger difference means that the files do not belong together."""

_MIN_SECONDS = 0.1
_BLOCK_FRAMES = 1 << 16

_OUTSIDE = {
    "score": "the estimate lies outside the range the estimator was trained for",
    "embedding": "the sound is unlike what the estimator was trained on",
    "level": "the recording's level is outside what the estimator was trained on",
    "balance": "the track's level against the recording is outside what the estimator was trained on",
    "duration": "the sound is shorter or longer than what the estimator was trained on",
    "silence": "the recording is silent for more of the time than what the estimator was trained on",
}


@dataclass(frozen=True)
class TrackJudgement:
    """What is known of one track.

    ``blind_si_snr_db`` is the SI-SNR estimated without a reference and ``expected_error_db`` its expected absolute
    error, both None where nothing can be judged (silence, a few samples). ``in_range`` is false where the estimator
    was asked about something unlike what it was trained on; ``warnings`` say what. With references, ``reference`` is
    the one that belongs to the track, and the other values are exact; None where they are not defined.
    """

    path: str
    blind_si_snr_db: float | None
    expected_error_db: float | None
    in_range: bool | None
    warnings: tuple[str, ...] = ()
    reference: str | None = None
    si_snr_db: float | None = None
    si_snri_db: float | None = None
    sdr_db: float | None = None


@dataclass(frozen=True)
class JudgeResult:
    """The tracks of one mixture in the order in which they were given, paths as they were given.

    ``model`` is the estimator's address; ``warnings`` concern the whole.
    """

    mixture: str
    tracks: tuple[TrackJudgement, ...]
    model: str
    has_references: bool = False
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints; the exact values only where there were references."""
        exact = {"reference", "si_snr_db", "si_snri_db", "sdr_db"}
        tracks = [
            {key: value for key, value in dataclasses.asdict(track).items() if self.has_references or key not in exact}
            for track in self.tracks
        ]
        return {"mixture": self.mixture, "model": self.model, "tracks": tracks, "warnings": list(self.warnings)}


def judge(
    mixture: StrPath,
    tracks: Sequence[StrPath],
    *,
    references: Sequence[StrPath] | None = None,
    model: StrPath | Any | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> JudgeResult:
    """Estimate how good separated tracks of a mixture are; with references, measure it too.

    The estimator sees windows of a few seconds, which count by how much of the track is in them: see
    :mod:`auriscope.quality.windows`. Memory does not grow with the recording.

    Exact values are computed over the whole of the files, at the lowest of their sample rates, with references and
    tracks matched in the order of the best sum of SI-SNR; definitions in :mod:`auriscope.metrics`.

    Args:
        mixture: the recording before separation; any rate, channels and length.
        tracks: the separated tracks, each mixed down if it has several channels.
        references: what the talkers truly said, in any order.
        model: address of a quality model, or the model; by default the shipped one.
        channel: the mixture's channel to take, counted from 0; by default all are mixed down.
        device: where the estimator runs.
        offline: forbid the network, which only a ``hf://`` address would use.
        on_progress: told the done fraction, 0 to 1.

    Raises:
        AuriscopeError: no tracks, a file that cannot be read or whose length differs from the mixture's by more than
            0.1 s, or a model that cannot be loaded or does not judge tracks.
    """
    tracks, references = list(tracks), list(references or [])
    if not tracks:
        raise AuriscopeError(f"{printable(mixture)}: give at least one separated track to judge")
    notify = on_progress or _nothing
    estimator, address = load_estimator(model, device=device, offline=offline)
    paths = [mixture, *tracks]
    channels = [channel, *[None] * (len(tracks) + len(references))]
    blind_part = 0.7 if references else 1.0
    with ExitStack() as stack:
        # All files are opened, and their lengths compared, before any work.
        readers = _open(stack, [*paths, *references], channels, None)
        rate = min(reader.info.sample_rate for reader in readers)
        readers = _open(stack, paths, channels, int(estimator.config.sample_rate))
        judgements, warnings = _judge_blindly(readers, tracks, estimator, lambda done: notify(blind_part * done))
    if references:
        with ExitStack() as stack:
            readers = _open(stack, [*paths, *references], channels, rate)
            scores = _measure(readers, len(tracks), lambda done: notify(blind_part + (1 - blind_part) * done))
        judgements = [
            _with_exact(judgement, score, references) for judgement, score in zip(judgements, scores, strict=True)
        ]
    notify(1.0)
    return JudgeResult(os.fspath(mixture), tuple(judgements), address, bool(references), tuple(warnings))


def _nothing(_: float) -> None:
    """Tell nobody."""


def load_estimator(model: StrPath | Any | None, *, device: Any = "cpu", offline: bool | None = None) -> tuple[Any, str]:
    """Give the quality model at an address (or the model itself; by default the shipped one) and its address.

    Raises ``AuriscopeError`` when it cannot be loaded, is not a quality model, or none is shipped.
    """
    if model is None:
        shipped = [found.address for found in list_shipped() if found.room == "quality"]
        if not shipped:
            raise AuriscopeError(
                "no quality model is installed; train one (auriscope train) and name its folder as the model"
            )
        model = PREFERRED_MODEL if PREFERRED_MODEL in shipped else shipped[0]
    if not isinstance(model, str | os.PathLike):
        return model, str(getattr(model, "name", type(model).__name__))
    loaded = load(os.fspath(model), device=device, offline=offline)
    if not loaded.name.startswith("quality/"):
        raise AuriscopeError(f"{printable(model)} is not a quality model; see `auriscope models`")
    return loaded, os.fspath(model)


def _open(
    stack: ExitStack, paths: Sequence[StrPath], channels: Sequence[int | None], sample_rate: int | None
) -> list[AudioReader]:
    readers = [
        stack.enter_context(AudioReader(path, sample_rate=sample_rate, channel=channel))
        for path, channel in zip(paths, channels, strict=False)
    ]
    expected = readers[0].info.duration_seconds
    for reader in readers[1:]:
        if abs(reader.info.duration_seconds - expected) > _TOLERANCE_SECONDS:
            raise _other_length(reader, reader.info.duration_seconds, readers[0], expected)
    return readers


def _other_length(reader: AudioReader, seconds: float, mixture: AudioReader, expected: float) -> AudioFileError:
    return AudioFileError(
        f"{printable(reader.info.path)}: lasts {seconds:.2f} s, but the mixture {printable(mixture.info.path)} "
        f"{expected:.2f} s; give files of the same recording"
    )


def _in_step(readers: Sequence[AudioReader], block_frames: int) -> Iterator[FloatArray]:
    """Yield (files, time) blocks of all files together, up to the end of the shortest.

    Raises ``AudioFileError`` when a file turns out to be shorter than the mixture, whatever its header says.
    """
    streams = [reader.blocks(block_frames) for reader in readers]
    counts = [0] * len(readers)
    while True:
        blocks = [next(stream, None) for stream in streams]
        sizes = [0 if block is None else len(block) for block in blocks]
        counts = [count + size for count, size in zip(counts, sizes, strict=True)]
        for reader, count in zip(readers, counts, strict=True):
            if abs(count - counts[0]) > _TOLERANCE_SECONDS * reader.sample_rate:
                rate = reader.sample_rate
                raise _other_length(reader, count / rate, readers[0], counts[0] / rate)
        size = min(sizes)
        if size > 0:
            yield np.stack([block[:size] for block in blocks if block is not None])
        if size < block_frames:
            return


def _windows(readers: Sequence[AudioReader], window_frames: int) -> Iterator[FloatArray]:
    """Yield windows (files, time); the last two share what is left evenly, so that none is short."""
    waiting: FloatArray | None = None
    for block in _in_step(readers, window_frames):
        if waiting is not None and block.shape[1] == window_frames:
            yield waiting
            waiting = block
        elif waiting is not None:
            waiting = np.concatenate([waiting, block], axis=1)
        else:
            waiting = block
    if waiting is not None and waiting.shape[1] > window_frames:
        half = waiting.shape[1] // 2
        yield waiting[:, :half]
        waiting = waiting[:, half:]
    if waiting is not None:
        yield waiting


def _judge_blindly(
    readers: Sequence[AudioReader], tracks: Sequence[StrPath], estimator: Any, notify: Callable[[float], None]
) -> tuple[list[TrackJudgement], list[str]]:
    scores = WindowScores(estimator, len(tracks))
    meters = [LevelMeter() for _ in readers]
    rate = readers[0].sample_rate
    total = max(1, round(readers[0].info.duration_seconds * rate))
    for window in _windows(readers, round(estimator.config.window_seconds * rate)):
        for meter, signal in zip(meters, window, strict=True):
            meter.update(signal)
        if window.shape[1] >= _MIN_SECONDS * rate and np.any(window[0]):
            signals = torch.from_numpy(window)
            scores.add(signals[0], signals[1:])
        notify(min(1.0, meters[0].num_samples / total))
    reason = None
    if meters[0].num_samples < _MIN_SECONDS * rate:
        reason = f"too short to be judged: {meters[0].num_samples / rate:.4f} s"
    elif meters[0].is_silent:
        reason = "the mixture is digital silence: nothing can be judged"
    prediction = scores.result()
    found = [
        _judgement(os.fspath(path), number, prediction, reason or _silence(meter))
        for number, (path, meter) in enumerate(zip(tracks, meters[1:], strict=True))
    ]
    return found, [reason] if reason is not None else []


def _silence(meter: LevelMeter) -> str | None:
    return "the track is digital silence: nothing can be judged" if meter.is_silent else None


def _judgement(path: str, number: int, prediction: Prediction, reason: str | None) -> TrackJudgement:
    score, expected = float(prediction.score_db[0, number]), float(prediction.expected_error_db[0, number])
    if reason is None and not (math.isfinite(score) and math.isfinite(expected)):
        reason = "the estimator gave no number for this track"
    if reason is not None:
        return TrackJudgement(path, None, None, None, (reason,))
    outside = prediction.outside[0, number].tolist()
    warnings = tuple(_OUTSIDE[name] for name, is_outside in zip(REASONS, outside, strict=True) if is_outside)
    return TrackJudgement(path, score, expected, not any(outside), warnings)


def _measure(
    readers: Sequence[AudioReader], num_tracks: int, notify: Callable[[float], None]
) -> list[ExactScore | None]:
    scorer = ExactScorer(num_tracks, len(readers) - 1 - num_tracks)
    rate = readers[0].sample_rate
    total = max(1, round(readers[0].info.duration_seconds * rate))
    done = 0
    for block in _in_step(readers, _BLOCK_FRAMES):
        scorer.update(block)
        done += block.shape[1]
        notify(min(1.0, done / total))
    return scorer.scores()


def _with_exact(judgement: TrackJudgement, score: ExactScore | None, references: Sequence[StrPath]) -> TrackJudgement:
    if score is None:
        warning = "there is no reference left for this track"
        return dataclasses.replace(judgement, warnings=(*judgement.warnings, warning))
    reference = os.fspath(references[score.reference])
    warnings = judgement.warnings
    if score.si_snr_db is None:
        warnings = (*warnings, f"the track or its reference {printable(reference)} is silent: no exact value")
    return dataclasses.replace(
        judgement,
        reference=reference,
        si_snr_db=score.si_snr_db,
        si_snri_db=score.si_snri_db,
        sdr_db=score.sdr_db,
        warnings=warnings,
    )
