"""``auriscope study work``: a worker that checks recordings, separates them, and estimates how good the tracks are."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auriscope.cli.console import emit, one_line_for, say
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened
from auriscope.errors import AuriscopeError

if TYPE_CHECKING:
    from auriscope.study.decode import Decoded
    from auriscope.study.jobs import ScoreFacts, Scorer, Transcriber


def work(
    folder: Folder,
    once: Annotated[
        bool, typer.Option("--once", help="Do what is waiting, and stop; by default until stopped.")
    ] = False,
    score: Annotated[bool, typer.Option("--score/--no-score", help="Separate and score recordings too.")] = True,
    json: Json = False,
) -> None:
    """Check and score the recordings of a study, until it is stopped with Ctrl-C; several workers share the work."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study import jobs, logs, serving

        jobs.require_collection(study)
        logs.configure()
        scorer = None
        if score and jobs.scores(study):
            scorer = make_scorer(study.settings.separator, study.settings.estimator)
        transcriber = None
        if study.settings.recognizer is not None:
            separator = study.settings.separator if jobs.scores(study) else "none"
            transcriber = make_transcriber(study.settings.recognizer, separator)
        queue = jobs.Jobs(study, scorer, transcriber)
        if not once:
            serving.work(queue)
            return
        count = queue.drain()
        emit({"input": folder, "num_jobs": count}) if json else say(f"{count} jobs done")


def make_scorer(separator: str | None, estimator: str | None) -> Scorer:
    """Give a function that separates a recording of two talkers and judges the tracks with models by address.

    None takes the shipped models. The models are loaded once, with the first recording.
    """
    loaded: list[tuple[object, str, object]] = []

    def load() -> tuple[object, str, object]:
        import torch

        from auriscope.pretrained import load as load_model
        from auriscope.verbs.defaults import default_separator

        # Several workers share the machine with the web processes.
        torch.set_num_threads(1)
        address = separator or default_separator(2)
        return load_model(address), address, None if estimator is None else load_model(estimator)

    def score(recording: Path, folder: Path) -> ScoreFacts:
        from auriscope.study.jobs import ScoreFacts, TrackScore
        from auriscope.verbs.judge import judge
        from auriscope.verbs.separate import separate

        if not loaded:
            loaded.append(load())
        model, address, judging = loaded[0]
        (result,) = separate(recording, folder, model=model)  # type: ignore[arg-type]
        if result.error is not None:
            raise AuriscopeError(result.error)
        judged = judge(recording, result.tracks, model=judging)
        tracks = [
            TrackScore(Path(track.path), track.blind_si_snr_db, track.expected_error_db, track.in_range)
            for track in judged.tracks
        ]
        return ScoreFacts(address, judged.model, tracks)

    return score


def make_transcriber(recognizer: str, separator: str | None) -> Transcriber:
    """Give a function that writes down what the talkers of a recording say, one after the other.

    Recognisers know one voice at a time, so the recording is separated first, as for its score; ``separator`` "none"
    leaves that. The models are loaded once, with the first recording; an address that cannot be loaded fails the check.
    """
    loaded: list[tuple[Any, Any]] = []

    def load() -> tuple[Any, Any]:
        import torch

        from auriscope.pretrained import load as load_model
        from auriscope.verbs.defaults import default_separator
        from auriscope.verbs.transcriber import Transcriber, TranscriberSettings

        torch.set_num_threads(1)
        model = None if separator == "none" else load_model(separator or default_separator(2))
        return Transcriber(TranscriberSettings(model=recognizer)), model

    def transcribe(decoded: Decoded) -> str:
        from auriscope.signal.files import write
        from auriscope.verbs.separate import separate

        if not loaded:
            loaded.append(load())
        transcriber, model = loaded[0]
        with tempfile.TemporaryDirectory(prefix="auriscope-words-") as name:
            recording = Path(name) / "recording.wav"
            write(recording, decoded.mono, decoded.sample_rate)
            tracks: Sequence[str | Path] = (recording,)
            if model is not None:
                (result,) = separate(recording, Path(name) / "tracks", model=model)
                if result.error is not None:
                    raise AuriscopeError(result.error)
                tracks = result.tracks
            return " ".join(transcriber.read(Path(track)).text for track in tracks)

    return transcribe
