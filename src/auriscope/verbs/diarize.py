"""The verb ``diarize``: recordings in, who speaks when out."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from auriscope.data.rttm import read_rttm, write_rttm
from auriscope.errors import AuriscopeError
from auriscope.metrics.der import DiarizationErrors, diarization_errors
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.separation.long import Separator
from auriscope.signal.outputs import printable
from auriscope.signal.turns import SpeakerTurn
from auriscope.speaker.diarization import DiarizationConfig
from auriscope.speaker.embedder import Embedder
from auriscope.verbs.batch import (
    FileResult,
    ProgressCallback,
    StrPath,
    collected,
    each,
    earlier_result,
    expand_inputs,
    folder_aside,
    folders_if_written,
    reporter,
    source_of,
    write_record,
)
from auriscope.verbs.defaults import require_separator
from auriscope.verbs.diarizer import Diarizer

RECORD = "diarize.json"
"""Written for each recording: all that is known, and what it was made from and with."""

RTTM = "diarization.rttm"
"""The turns as other tools read them."""

_FILES = (RTTM, RECORD)
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class DiarizeResult(FileResult):
    """Who speaks when in one recording.

    ``turns`` are in order of time, speakers named ``speaker1`` and so on in order of appearance; turns of two who speak
    at once overlap. ``speech_seconds`` is how much was taken for speech. ``separator`` told those apart who speak at
    once, None where nothing did. ``errors`` say how far the turns are from the true ones, if these were given.
    ``files`` are what was written. ``resumed``: an earlier call had done it already. Where ``error`` is not None it
    says in one line why there is nothing else.
    """

    input: str
    model: str | None = None
    turns: tuple[SpeakerTurn, ...] = ()
    num_speakers: int = 0
    separator: str | None = None
    duration_seconds: float | None = None
    speech_seconds: float | None = None
    errors: DiarizationErrors | None = None
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    resumed: bool = False
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints: every field, or ``input`` and ``error`` alone.

        With true turns there are ``diarization_error_rate``, a fraction, and what it is made of, in seconds.
        """
        if self.error is not None:
            return {"input": self.input, "error": self.error}
        values = {key: value for key, value in vars(self).items() if key not in ("error", "errors")}
        values["turns"] = [turn._asdict() for turn in self.turns]
        if self.errors is not None:
            values |= {"diarization_error_rate": self.errors.rate, **dataclasses.asdict(self.errors)}
        return values


def diarize(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath | None = None,
    *,
    model: StrPath | Embedder | None = None,
    separator: StrPath | Separator | None = None,
    speakers: int | Literal["auto"] = "auto",
    reference: StrPath | None = None,
    collar_seconds: float = 0.0,
    skip_overlap: bool = False,
    config: DiarizationConfig | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_result: Callable[[DiarizeResult], None] | None = None,
) -> list[DiarizeResult]:
    """Tell who speaks when in recordings; with ``out``, into ``out/<stem>/diarization.rttm`` and ``diarize.json``.

    Recordings of hours run in constant memory. A file that fails yields a result with an ``error``, leaves nothing
    behind and stops no other. A file done earlier with the same settings and weights is not done again, if the models
    are given by their addresses and there is an ``out``.

    Args:
        inputs: recordings and folders of them; see ``signal.files`` for the formats. Any rate, channels and length.
        out: folder for the results, made if missing; None: nothing is written.
        model: address of a speaker model, or the model; by default the shipped one.
        separator: what tells those apart who speak at once: address of a separation model, or the model; by default
            nothing does, and of two at once one is found.
        speakers: how many people speak in each recording; "auto" counts them.
        reference: an RTTM file of the true turns, of recordings named as the inputs are, without the ending.
        collar_seconds: what is not scored before and after the beginnings and ends of true turns.
        skip_overlap: score only where at most one person truly speaks.
        config: how recordings are cut, and how voices are told apart.
        channel: the channel to take, counted from 0; by default all are mixed down.
        device: where the models run.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one, in the order of the inputs.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: a model cannot be loaded, the reference cannot be read, the number
            of speakers is below 1, the output folder cannot be written, or an input folder holds no audio.
    """
    if speakers != "auto" and speakers < 1:
        raise AuriscopeError(f"speakers must be at least 1, or auto, not {speakers}")
    paths = expand_inputs(inputs)
    truth = None if reference is None else read_rttm(reference)
    folders = folders_if_written(paths, out)
    job = _Job(model, separator, speakers, config, channel, device, offline)

    def work(path: Path, index: int) -> DiarizeResult:
        report = reporter(progress, path, index, len(paths), "diarizing")
        result = job.run(path, folders[index], force, report)
        if truth is not None:
            turns = _true_turns(truth, path, reference)
            errors = diarization_errors(result.turns, turns, collar_seconds=collar_seconds, skip_overlap=skip_overlap)
            result = dataclasses.replace(result, errors=errors)
        report(1.0)
        return result

    return collected(each(paths, work, lambda path, line: DiarizeResult(os.fspath(path), error=line)), on_result)


class _Job:
    """The settings of one call, and the models it has loaded."""

    def __init__(
        self,
        model: StrPath | Embedder | None,
        separator: StrPath | Separator | None,
        speakers: int | Literal["auto"],
        config: DiarizationConfig | None,
        channel: int | None,
        device: Any,
        offline: bool | None,
    ) -> None:
        self._speakers, self._channel = speakers, channel
        self._separator: str | None = None
        weights: str | None = None
        if isinstance(separator, str | os.PathLike):
            self._separator = os.fspath(separator)
            loaded = load(self._separator, device=device, offline=offline)
            require_separator(loaded, self._separator)
            weights = weights_sha256(self._separator, offline=offline)
            separator = loaded
        elif separator is not None:
            self._separator = getattr(separator, "name", type(separator).__name__)
        if separator is not None and int(separator.config.num_sources) < 2:
            raise AuriscopeError(
                f"{self._separator} has one output and tells nobody apart; choose a model for two or three talkers"
            )
        self._diarizer = Diarizer(model, separator=separator, config=config, device=device, offline=offline)
        identity = self._diarizer.identity
        if identity is None or (separator is not None and weights is None):
            self._settings = None
        else:
            # As it will be read back: tuples become lists.
            self._settings = json.loads(
                json.dumps({**identity, "separator": weights, "speakers": speakers, "channel": channel})
            )

    def run(self, path: Path, folder: Path | None, force: bool, report: Callable[[float], None]) -> DiarizeResult:
        made = {"format_version": _FORMAT_VERSION, "source": source_of(path), "settings": self._settings}
        if folder is not None and self._settings is not None and not force:
            done = earlier_result(DiarizeResult, path, folder, RECORD, made, _FILES)
            if done is not None:
                return done
        number = None if self._speakers == "auto" else self._speakers
        found = self._diarizer.find(path, num_speakers=number, channel=self._channel, on_progress=report)
        result = DiarizeResult(
            input=os.fspath(path),
            model=self._diarizer.address,
            turns=found.diarization.turns,
            num_speakers=found.diarization.num_speakers,
            separator=self._separator,
            duration_seconds=round(found.duration_seconds, 6),
            speech_seconds=round(found.speech_seconds, 3),
            warnings=_warnings(found.diarization.num_speakers, number),
        )
        if folder is None:
            return result
        with folder_aside(folder) as aside:
            write_rttm(aside / RTTM, {path.stem: result.turns})
            write_record(aside / RECORD, {**made, **result.facts()})
        return dataclasses.replace(result, files=tuple(os.fspath(folder / name) for name in _FILES))


def _warnings(found: int, wanted: int | None) -> tuple[str, ...]:
    if found == 0:
        return ("nobody speaks in this recording",)
    if wanted is not None and found < wanted:
        return (f"only {found} of {wanted} speakers were found",)
    return ()


def _true_turns(truth: dict[str, list[SpeakerTurn]], path: Path, reference: StrPath | None) -> Sequence[SpeakerTurn]:
    # Names in RTTM hold no blanks.
    name = "_".join(path.stem.split())
    if name not in truth:
        there = ", ".join(list(truth)[:5]) or "none"
        raise AuriscopeError(
            f"{printable(path)}: the reference {printable(reference or '')} has no turns of a recording {name!r}; "
            f"it has {there}"
        )
    return truth[name]
