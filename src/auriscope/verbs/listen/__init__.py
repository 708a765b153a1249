"""The verb ``listen``: separate a recording, estimate how good each track is, write down what is said in it, and make
a page of all that.

Everything on the page comes from files that were streamed: an hour of sound takes no more memory than a minute.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.pretrained.addresses import weights_sha256
from auriscope.recognition.long import Transcript
from auriscope.recognition.recognizer import Recognizer
from auriscope.separation.long import Separator
from auriscope.signal.files import AudioReader, probe
from auriscope.signal.outputs import written_aside
from auriscope.speaker.embedder import Embedder
from auriscope.verbs.batch import Progress, ProgressCallback, StrPath, each, source_of
from auriscope.verbs.defaults import default_recognizer
from auriscope.verbs.judge import judge, load_estimator
from auriscope.verbs.listen.report import write_page
from auriscope.verbs.listen.results import ClassHeard, Classified, ListenResult, ListenTrack, Turn, finite
from auriscope.verbs.listen.survey import Survey, find_turns, survey
from auriscope.verbs.separate import RECORD as SEPARATE_RECORD
from auriscope.verbs.separate import SeparateResult, separate
from auriscope.verbs.tracks import ENHANCED
from auriscope.verbs.transcriber import Transcriber, TranscriberSettings, rounded_word

if TYPE_CHECKING:
    from auriscope.verbs.explain.job import Job

__all__ = ["ListenResult", "ListenTrack", "Turn", "listen"]

RECORD = "report.json"
PAGE = "report.html"
EMBED_SECONDS = 600.0
"""Longest recording whose sound goes into the page: ten minutes of three sounds are about 8 MB."""

_BLOCK_FRAMES = 1 << 16
# Where in a file's progress each stage begins; they only make the bar even.
_JUDGING, _LOOKING, _TRANSCRIBING, _EXPLAINING, _WRITING = 0.5, 0.6, 0.65, 0.88, 0.94


def listen(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    model: StrPath | Separator | None = None,
    quality_model: StrPath | Any | None = None,
    speakers: int | Literal["auto"] | None = None,
    enhancer: StrPath | Separator | bool = False,
    embedder: StrPath | Embedder | None = None,
    recognizer: StrPath | Recognizer | Literal[False] | None = None,
    classifier: StrPath | Any | None = None,
    explain: str | None = None,
    channel: int | None = None,
    embed_seconds: float = EMBED_SECONDS,
    device: Any = "cpu",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_result: Callable[[ListenResult], None] | None = None,
) -> list[ListenResult]:
    """Separate recordings, estimate how good each track is, and write a page about each: ``out/<stem>/report.html``.

    Beside the page lie ``report.json`` with the same facts and the tracks, ``track1.wav`` and so on, as ``separate``
    writes them. The page is one file that opens offline; the sound of a recording longer than ``embed_seconds`` lies
    beside it. A file that fails yields a result with an ``error``, leaves nothing behind and stops no other. A file
    done earlier with the same settings and weights is not done again, if the models are given by their addresses.

    Args:
        inputs: recordings and folders of them; see ``signal.files`` for the formats. Any rate, channels and length.
        out: folder for the results; made if missing.
        model: address of a separation model, or the model; by default the one shipped for the number of talkers.
        quality_model: address of a quality model, or the model; by default the shipped one.
        speakers: how many talk in each recording, or "auto" to count them; by default as many as ``model`` separates,
            or 2. A track is a talker: more than three share the streams of the separator, piece by piece.
        enhancer: what takes noise and late reverberation off before the talkers are separated, as in ``separate``; the
            page then has the enhanced recording as well. Tracks are judged against the recording itself.
        embedder: what tells voices apart where there are more than three talkers, and counts them, as in ``separate``.
        recognizer: what writes down what each talker says: address of a recogniser, or the recogniser; by default the
            shipped one, if there is one. False: nothing does.
        classifier: what tells the classes of the recording: address of a classifier of sounds, or of an interpreter
            that was trained for one, or the model; the page then has the most probable classes, and the part of the
            recording that speaks for the first. None: nothing does, unless ``explain`` is given.
        explain: the method that finds that part, as in ``explain``; by default the interpreter's, or "lime".
        channel: the channel to take, counted from 0; by default all are mixed down.
        embed_seconds: the longest recording whose sound goes into the page.
        device: where the models run.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: a model cannot be loaded or does not separate that many talkers,
            the output folder cannot be written, or an input folder holds no audio.
    """
    listener = _Listener(
        quality_model,
        recognizer,
        _explainer(classifier, explain, channel, device, offline, force, out),
        speakers,
        channel,
        embed_seconds,
        device,
        offline,
        force,
        os.fspath(out),
    )
    results: list[ListenResult] = []
    last = Progress("", 0, 1, "", 0.0)

    def follow(state: Progress) -> None:
        nonlocal last
        last = state
        if progress is not None:
            progress(dataclasses.replace(state, fraction=_JUDGING * state.fraction))

    def report(stage: str, fraction: float) -> None:
        if progress is not None:
            progress(dataclasses.replace(last, stage=stage, fraction=fraction))

    def go_on(separated: SeparateResult) -> None:
        (result,) = each(
            [Path(separated.input)],
            lambda path, _: listener.run(path, separated, report),
            lambda path, line: ListenResult(os.fspath(path), error=line),
        )
        if result.error is not None and separated.error is None and not separated.resumed:
            _clear(separated)
        results.append(result)
        if on_result is not None:
            on_result(result)

    separate(
        inputs,
        out,
        model=model,
        speakers=speakers,
        enhancer=enhancer,
        embedder=embedder,
        channel=channel,
        device=device,
        offline=offline,
        force=force,
        progress=follow,
        on_result=go_on,
    )
    return results


class _Listener:
    """The settings of one call, and what is done with each recording once it is separated."""

    def __init__(
        self,
        quality_model: StrPath | Any | None,
        recognizer: StrPath | Recognizer | Literal[False] | None,
        explainer: Job | None,
        speakers: int | Literal["auto"] | None,
        channel: int | None,
        embed_seconds: float,
        device: Any,
        offline: bool | None,
        force: bool,
        out: str,
    ) -> None:
        # Loaded before any work, so that a mistake in its address costs nothing.
        self._estimator, self._quality_address = load_estimator(quality_model, device=device, offline=offline)
        # The address may later stand for other weights; a model that was handed in cannot be told from others at all.
        given = quality_model is not None and not isinstance(quality_model, str | os.PathLike)
        self._quality_weights = None if given else weights_sha256(self._quality_address, offline=offline)
        self._transcriber = _transcriber(recognizer, device, offline)
        self._explainer = explainer
        self._speakers, self._channel, self._embed_seconds = speakers, channel, embed_seconds
        self._device, self._force, self._out = device, force, out

    def run(self, path: Path, separated: SeparateResult, report: Callable[[str, float], None]) -> ListenResult:
        """Judge the tracks of a recording and write its page and its record."""
        if separated.error is not None:
            return ListenResult(os.fspath(path), error=separated.error)
        folder = Path(separated.tracks[0]).parent
        source = source_of(path, channel=self._channel)
        settings = {
            "speakers": self._speakers,
            "model": separated.model,
            "enhancer": separated.enhancer,
            "embedder": separated.embedder,
            "quality_weights": self._quality_weights,
            "embed_seconds": self._embed_seconds,
            "transcription": None if self._transcriber is None else self._transcriber.identity,
        }
        if self._explainer is not None:
            settings["classified"] = self._explainer.method.settings()
        nameless = self._quality_weights is None or (self._transcriber is not None and self._transcriber.nameless)
        nameless |= self._explainer is not None and self._explainer.method.nameless
        if separated.resumed and not nameless and not self._force:
            done = _resumed(path, folder, source, settings)
            if done is not None:
                return done
        return self._listen(path, folder, separated, source, settings, report)

    def _listen(
        self,
        path: Path,
        folder: Path,
        separated: SeparateResult,
        source: dict[str, Any],
        settings: dict[str, Any],
        report: Callable[[str, float], None],
    ) -> ListenResult:
        report("judging", _JUDGING)
        judged = judge(
            path,
            separated.tracks,
            model=self._estimator,
            channel=self._channel,
            device=self._device,
            on_progress=lambda done: report("judging", _JUDGING + (_LOOKING - _JUDGING) * done),
        )
        report("looking", _LOOKING)
        enhanced = os.fspath(folder / ENHANCED) if separated.enhancer is not None else None
        surveys = [_look(path, self._channel), *(_look(Path(track), None) for track in separated.tracks)]
        turns = find_turns([found.activity_db for found in surveys[1:]])
        transcripts = self._transcribe(separated.tracks, turns, report)
        classified, unclassified = self._classify(path, folder, report)
        made = (*separated.tracks, *([enhanced] if enhanced else []))
        tracks = tuple(
            ListenTrack(
                path=track,
                blind_si_snr_db=finite(verdict.blind_si_snr_db),
                expected_error_db=finite(verdict.expected_error_db),
                in_range=verdict.in_range,
                text=None if said is None else said.text,
                turns=tuple(Turn(start, end) for start, end in spans),
                rms_dbfs=finite(found.rms_dbfs),
                peak_dbfs=finite(found.peak_dbfs),
                warnings=tuple(map(_sentence, (*verdict.warnings, *_said_warnings(said)))),
                words=() if said is None else tuple(map(rounded_word, said.words)),
            )
            for track, verdict, spans, found, said in zip(
                separated.tracks, judged.tracks, turns, surveys[1:], transcripts, strict=True
            )
        )
        info = probe(path)
        recording = surveys[0]
        beside = recording.duration_seconds > self._embed_seconds
        result = ListenResult(
            input=os.fspath(path),
            report=os.fspath(folder / PAGE),
            num_speakers=separated.num_speakers or len(tracks),
            at_least=separated.at_least,
            tracks=tracks,
            warnings=(
                *_warnings(separated, info.num_channels, self._channel),
                *map(_sentence, (*judged.warnings, *unclassified)),
            ),
            sample_rate=info.sample_rate,
            num_channels=info.num_channels,
            duration_seconds=recording.duration_seconds,
            rms_dbfs=finite(recording.rms_dbfs),
            peak_dbfs=finite(recording.peak_dbfs),
            clipped_fraction=recording.clipped_fraction,
            model=separated.model,
            quality_model=self._quality_address,
            settings=settings,
            source=source,
            enhanced=enhanced,
            enhancer=separated.enhancer,
            embedder=separated.embedder,
            recognizer=None if self._transcriber is None else self._transcriber.address,
            language_model=None if self._transcriber is None else self._transcriber.language_model_address,
            expected_word_error=None if self._transcriber is None else self._transcriber.expected,
            classified=classified,
            sounds=("recording.opus", *(f"{Path(track).stem}.opus" for track in made)) if beside else (),
            command=self._command(path, separated),
        )
        report("writing the page", _WRITING)
        try:
            write_page(
                result,
                path,
                [*surveys, *([_look(Path(enhanced), None)] if enhanced else [])],
                folder,
                channel=self._channel,
                on_progress=lambda fraction: report("writing the page", _WRITING + (1 - _WRITING) * fraction),
            )
            with written_aside(folder / RECORD) as aside:
                aside.write_text(result.to_json(), encoding="utf-8")
        except BaseException:
            for name in (PAGE, RECORD, *result.sounds, *(() if classified is None else classified.files)):
                with suppress(OSError):
                    (folder / name).unlink()
            raise
        return result

    def _transcribe(
        self,
        tracks: Sequence[str],
        turns: Sequence[Sequence[tuple[float, float]]],
        report: Callable[[str, float], None],
    ) -> list[Transcript | None]:
        """Write down what is said in each track while its talker is heard: the rest is what leaked over."""
        if self._transcriber is None:
            return [None for _ in tracks]
        found: list[Transcript | None] = []
        share = (_EXPLAINING - _TRANSCRIBING) / len(tracks)
        for number, (track, spans) in enumerate(zip(tracks, turns, strict=True)):

            def follow(fraction: float, start: float = _TRANSCRIBING + number * share) -> None:
                report("transcribing", start + share * fraction)

            follow(0.0)
            found.append(self._transcriber.read(Path(track), spans=spans, on_progress=follow))
        return found

    def _classify(
        self, path: Path, folder: Path, report: Callable[[str, float], None]
    ) -> tuple[Classified | None, tuple[str, ...]]:
        """Tell the classes of the recording and what speaks for the first, or why that cannot be."""
        if self._explainer is None:
            return None, ()
        report("explaining", _EXPLAINING)
        try:
            found = self._explainer.run(
                path, folder, lambda done: report("explaining", _EXPLAINING + (_WRITING - _EXPLAINING) * done)
            )
        except AudioFileError as error:
            return None, (str(error),)
        classified = Classified(
            label=found.label,
            classes=tuple(ClassHeard(**dataclasses.asdict(row)) for row in found.probabilities),
            heard=found.outputs[1],
            page=found.page,
            method=found.method,
            classifier=str(found.classifier),
            interpreter=found.interpreter,
            fidelity=found.fidelity,
            faithfulness=found.faithfulness,
            files=(self._explainer.record, *(Path(name).name for name in found.outputs)),
        )
        return classified, found.warnings

    def _command(self, path: Path, separated: SeparateResult) -> str:
        """Give the command line that makes the same page again, with what was counted and chosen spelled out."""
        words = ["auriscope", "listen", os.fspath(path), "--out", self._out]
        words += ["--speakers", str(separated.num_speakers)]
        words += ["--model", separated.model] if separated.model is not None else []
        words += ["--quality-model", self._quality_address]
        words += ["--embedder", separated.embedder] if separated.embedder is not None else []
        words += ["--enhance"] if separated.enhancer is not None else []
        words += ["--no-transcribe"] if self._transcriber is None else ["--recognizer", self._transcriber.address]
        if self._explainer is not None:
            method = self._explainer.method
            words += ["--classify", method.interpreter_address or method.classifier_address, "--explain", method.name]
        words += ["--channel", str(self._channel)] if self._channel is not None else []
        return shlex.join(words)


def _explainer(
    classifier: StrPath | Any | None,
    explain: str | None,
    channel: int | None,
    device: Any,
    offline: bool | None,
    force: bool,
    out: StrPath,
) -> Job | None:
    if classifier is None and explain is None:
        return None
    # Only here: the page of an explanation is made with the means of this package.
    from auriscope.verbs.explain.job import Job
    from auriscope.verbs.explain.methods import load_method

    method = load_method(explain, model=classifier, device=device, offline=offline)
    if not hasattr(method.classifier.config, "sample_rate"):
        raise AuriscopeError(f"{method.classifier_address} sees pictures; give a classifier of sounds")
    return Job(method, out, channel=channel, force=force)


def _transcriber(
    recognizer: StrPath | Recognizer | Literal[False] | None, device: Any, offline: bool | None
) -> Transcriber | None:
    if recognizer is None:
        recognizer = default_recognizer() or False
    if recognizer is False:
        return None
    return Transcriber(TranscriberSettings(model=recognizer, device=device, offline=offline))


def _said_warnings(said: Transcript | None) -> tuple[str, ...]:
    """What to know of a transcript; that there is nothing to hear has been said by others."""
    return said.warnings if said is not None and said.segments else ()


def _look(path: Path, channel: int | None) -> Survey:
    with AudioReader(path, channel=channel) as reader:
        return survey(reader.blocks(_BLOCK_FRAMES), reader.info.sample_rate, reader.info.num_frames)


def _warnings(separated: SeparateResult, num_channels: int, channel: int | None) -> list[str]:
    """Say what a listener should know before relying on the page; one sentence each."""
    found = [_sentence(warning) for warning in separated.warnings]
    if num_channels > 1 and channel is None:
        found.append(
            f"{num_channels} channels were mixed down to one; if one microphone is better than the others, "
            "choose it with --channel."
        )
    if num_channels > 1 and channel is not None:
        found.append(f"Only channel {channel} of {num_channels} was used (counted from 0).")
    if separated.num_speakers == 1:
        same = "recording itself" if separated.enhancer is None else "enhanced recording"
        found.append(f"There is a single talker: nothing was separated, and the track is the {same}.")
    return found


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}{'' if line.endswith('.') else '.'}"


def _resumed(path: Path, folder: Path, source: dict[str, Any], settings: dict[str, Any]) -> ListenResult | None:
    """Give the result of an earlier call, if it was made from this file with these settings and is still there."""
    try:
        result = ListenResult.read(folder / RECORD)
    except AuriscopeError:
        return None
    names = [PAGE, *(Path(track.path).name for track in result.tracks), *result.sounds]
    names += [Path(result.enhanced).name] if result.enhanced else []
    names += result.classified.files if result.classified is not None else ()
    if result.source != source or result.settings != settings or not all((folder / name).is_file() for name in names):
        return None
    return dataclasses.replace(result, input=os.fspath(path), resumed=True)


def _clear(separated: SeparateResult) -> None:
    """Take back what separating a recording has just written, because the rest could not be done."""
    folder = Path(separated.tracks[0]).parent
    made = [folder / ENHANCED] if separated.enhancer is not None else []
    for path in (*map(Path, separated.tracks), *made, folder / SEPARATE_RECORD):
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):
        folder.rmdir()
