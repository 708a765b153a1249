"""The verb ``transcribe``: recordings in, what is said in them out, as text, subtitles and words with times."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from auriscope.errors import AuriscopeError
from auriscope.recognition.decoding import DecodingOptions
from auriscope.recognition.long import LongConfig, Segment
from auriscope.recognition.recognizer import Recognizer
from auriscope.recognition.words import Word
from auriscope.signal.outputs import printable
from auriscope.verbs.batch import (
    FileResult,
    Progress,
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
from auriscope.verbs.subtitles import paragraphs, srt, vtt
from auriscope.verbs.transcriber import Transcriber, TranscriberSettings, rounded_word

Format = Literal["txt", "json", "srt", "vtt"]
FORMATS: tuple[Format, ...] = get_args(Format)

RECORD = "transcribe.json"
"""Written for each recording: all that is known, and what it was made from and with."""

NAMES: dict[Format, str] = {
    "txt": "transcript.txt",
    "json": RECORD,
    "srt": "transcript.srt",
    "vtt": "transcript.vtt",
}
"""The file of each format."""

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class TranscribeResult(FileResult):
    """What is said in one recording.

    ``words`` have times in seconds of the recording and confidences from 0 to 1; ``segments`` are the stretches that
    were heard at once, with other hypotheses if they were asked for. ``speech_seconds`` is how much was taken for
    speech. ``files`` are what was written. ``resumed``: an earlier call had done it already. Where ``error`` is not
    None it says in one line why there is no text.
    """

    input: str
    model: str | None = None
    text: str = ""
    words: tuple[Word, ...] = ()
    segments: tuple[Segment, ...] = ()
    language_model: str | None = None
    duration_seconds: float | None = None
    speech_seconds: float | None = None
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    resumed: bool = False
    error: str | None = None


def transcribe(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath | None = None,
    *,
    model: StrPath | Recognizer | None = None,
    language_model: StrPath | None = None,
    lm_weight: float | None = None,
    options: DecodingOptions | None = None,
    formats: Sequence[Format] = FORMATS,
    workers: int = 1,
    config: LongConfig | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_start: Callable[[str], None] | None = None,
    on_result: Callable[[TranscribeResult], None] | None = None,
) -> list[TranscribeResult]:
    """Write down what is said in recordings; with ``out``, into ``out/<stem>/transcript.txt`` and so on.

    Recordings of hours run in constant memory: what may be speech is cut into windows at pauses, or into windows that
    overlap and are merged; see :mod:`auriscope.recognition.long`. A file that fails yields a result with an ``error``,
    leaves nothing behind and stops no other. A file done earlier with the same settings and weights is not done again,
    if the models are given by their addresses and there is an ``out``.

    Args:
        inputs: recordings and folders of them; see ``signal.files`` for the formats. Any rate, channels and length.
        out: folder for the results, made if missing; None: nothing is written.
        model: address of a recogniser, or the recogniser; by default the shipped one.
        language_model: what helps decoding: the file of an n-gram over words (ARPA, KenLM), the address of a language
            model, or "none"; by default the one that the shipped recogniser goes with.
        lm_weight: its weight in the score.
        options: of decoding: beam, hotwords, number of hypotheses, and so on.
        formats: what to write: "txt", "srt" and "vtt"; "json" is the record and always written.
        workers: processes that share the files; the results are the same for any number.
        config: how recordings are cut into windows, and how many of these are decoded together.
        channel: the channel to take, counted from 0; by default all are mixed down.
        device: where the models run.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_start: told in a line which model is used and what to expect of it.
        on_result: called with each result as soon as there is one, in the order of the inputs.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: a model cannot be loaded, the language model is another's, an
            unknown format, the output folder cannot be written, or an input folder holds no audio.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise AuriscopeError(f"there is no format {unknown[0]!r}; choose from {', '.join(FORMATS)}")
    if workers < 1:
        raise AuriscopeError(f"workers must be at least 1, not {workers}")
    paths = expand_inputs(inputs)
    folders = folders_if_written(paths, out)
    settings = TranscriberSettings(model, language_model, lm_weight, options, config, channel, device, offline)
    transcriber = Transcriber(settings)
    if workers > 1 and transcriber.nameless:
        raise AuriscopeError("several workers need the address of a model; save it in a folder first")
    if on_start is not None:
        on_start(transcriber.introduction())
    tasks = [_Task(path, folder, tuple(formats), force) for path, folder in zip(paths, folders, strict=True)]
    if workers > 1 and len(tasks) > 1:
        del transcriber
        found = _by_processes(tasks, settings, min(workers, len(tasks)), progress)
    else:
        found = _one_by_one(tasks, transcriber, progress)
    return collected(found, on_result)


@dataclass(frozen=True)
class _Task:
    """A file, the folder of its results if there are any, and what to write there."""

    path: Path
    folder: Path | None
    formats: tuple[Format, ...]
    force: bool

    @property
    def written(self) -> list[Format]:
        """The formats in order; the record is always among them."""
        return [name for name in FORMATS if name in self.formats or name == "json"]

    def failed(self, line: str) -> TranscribeResult:
        return TranscribeResult(os.fspath(self.path), error=line)

    def run(self, transcriber: Transcriber, report: Callable[[float], None] | None = None) -> TranscribeResult:
        """Transcribe the file and write what is asked for; what goes wrong is the result's ``error``."""
        (result,) = each([self.path], lambda *_: self._run(transcriber, report), lambda _, line: self.failed(line))
        return result

    def _run(self, transcriber: Transcriber, report: Callable[[float], None] | None) -> TranscribeResult:
        settings = transcriber.identity
        made = {"format_version": _FORMAT_VERSION, "source": source_of(self.path), "settings": settings}
        if self.folder is not None and settings is not None and not self.force:
            names = [NAMES[name] for name in self.written]
            done = earlier_result(TranscribeResult, self.path, self.folder, RECORD, made, names)
            if done is not None:
                return done
        found = transcriber.read(self.path, on_progress=report)
        result = TranscribeResult(
            input=os.fspath(self.path),
            model=transcriber.address,
            text=found.text,
            words=tuple(rounded_word(word) for word in found.words),
            segments=tuple(_rounded_segment(segment) for segment in found.segments),
            language_model=transcriber.language_model_address,
            duration_seconds=round(found.duration_seconds, 6),
            speech_seconds=round(found.speech_seconds, 3),
            warnings=found.warnings,
        )
        return result if self.folder is None else self._write(result, self.folder, made)

    def _write(self, result: TranscribeResult, folder: Path, made: dict[str, Any]) -> TranscribeResult:
        texts: dict[Format, Callable[[], str]] = {
            "txt": lambda: paragraphs(result.words),
            "srt": lambda: srt(result.words),
            "vtt": lambda: vtt(result.words),
        }
        with folder_aside(folder) as aside:
            for name in self.written:
                if name in texts:
                    (aside / NAMES[name]).write_text(texts[name](), encoding="utf-8")
            write_record(aside / RECORD, {**made, **result.facts()})
        return dataclasses.replace(result, files=tuple(os.fspath(folder / NAMES[name]) for name in self.written))


def _one_by_one(
    tasks: Sequence[_Task], transcriber: Transcriber, progress: ProgressCallback | None
) -> Iterator[TranscribeResult]:
    for index, task in enumerate(tasks):
        report = reporter(progress, task.path, index, len(tasks), "transcribing")
        yield task.run(transcriber, report)
        report(1.0)


_transcriber: Transcriber | None = None
"""The one of a worker process."""


def _begin(settings: TranscriberSettings, num_threads: int) -> None:
    """Prepare a worker process."""
    global _transcriber
    # Ctrl-C reaches every process of the terminal: workers end at once, and the parent says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(num_threads)
    _transcriber = Transcriber(settings)


def _work(task: _Task) -> TranscribeResult:
    assert _transcriber is not None
    return task.run(_transcriber)


def _by_processes(
    tasks: Sequence[_Task], settings: TranscriberSettings, num_workers: int, progress: ProgressCallback | None
) -> Iterator[TranscribeResult]:
    """Share files out over processes; results come in order."""
    num_threads = max(1, torch.get_num_threads() // num_workers)
    # Started anew: a process that is forked while torch's threads run may hang.
    pool = ProcessPoolExecutor(num_workers, get_context("spawn"), _begin, (settings, num_threads))
    try:
        waiting: list[Future[TranscribeResult]] = [pool.submit(_work, task) for task in tasks]
        for index, (task, future) in enumerate(zip(tasks, waiting, strict=True)):
            if progress is not None:
                progress(Progress(os.fspath(task.path), index, len(tasks), "transcribing", 0.0))
            try:
                yield future.result()
            except BrokenProcessPool:
                reason = "a worker process ended, perhaps for want of memory; try fewer workers"
                yield task.failed(f"{printable(task.path)}: {reason}")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _rounded_segment(segment: Segment) -> Segment:
    start, end = round(segment.start_seconds, 3), round(segment.end_seconds, 3)
    alternatives = tuple(dataclasses.replace(each, score=round(each.score, 3)) for each in segment.alternatives)
    return dataclasses.replace(segment, start_seconds=start, end_seconds=end, alternatives=alternatives)
