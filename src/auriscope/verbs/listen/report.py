"""The page: everything a result holds, with sound and pictures, in one file that opens offline."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined

from auriscope.recognition.words import Word
from auriscope.signal.files import AudioReader
from auriscope.signal.outputs import written_aside
from auriscope.verbs.listen import words
from auriscope.verbs.listen.pictures import (
    clock,
    frequency_ticks,
    loud_level_db,
    spectrogram_png,
    time_ticks,
    waveform_path,
)
from auriscope.verbs.listen.results import ListenResult, ListenTrack
from auriscope.verbs.listen.sound import data_uri, encode_opus
from auriscope.verbs.listen.survey import Survey, survey

MAX_TURN_ROWS = 500
"""So many rows has a table, of turns or of words."""
MAX_WORDS = 20_000
"""So many words are on the page, two hours of talk; all are in the record."""
LINE_PAUSE_SECONDS, LINE_WORDS = 1.0, 40
"""A line of the transcript ends with such a pause, or with so many words."""
NUM_HUES = 8
"""So many colours are in ``listen.css``."""
_BLOCK_FRAMES = 1 << 16


def write_page(
    result: ListenResult,
    recording: Path,
    surveys: Sequence[Survey],
    folder: Path,
    *,
    channel: int | None,
    on_progress: Callable[[float], None],
) -> None:
    """Write ``report.html`` into ``folder``, and beside it the sounds that ``result`` names.

    Args:
        result: what to show.
        recording: the file that was listened to.
        surveys: of the recording, then of every track, then of the enhanced recording if there is one.
        folder: where the tracks lie.
        channel: the channel of the recording that was used, ``None`` for all mixed down.
        on_progress: told the done fraction of the sounds, 0 to 1.
    """
    made = [*(track.path for track in result.tracks), *([result.enhanced] if result.enhanced else [])]
    sources = [(recording, channel), *((folder / Path(path).name, None) for path in made)]
    sounds = []
    for index, (path, which) in enumerate(sources):
        on_progress(index / len(sources))
        sounds.append(_sound(path, which, folder / result.sounds[index] if result.sounds else None))
    page = _page(result, surveys, sounds)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(_resource("listen.html.j2")).render(page=page)
    with written_aside(folder / "report.html") as aside:
        # A file name may hold bytes that are no characters: they are shown as the browser shows any such byte.
        aside.write_bytes(html.encode("utf-8", "replace"))
    on_progress(1.0)


def _resource(name: str) -> str:
    return resources.files("auriscope.verbs.listen").joinpath(name).read_text(encoding="utf-8")


def _sound(path: Path, channel: int | None, beside: Path | None) -> str:
    """Encode a sound and give its address: the name of the file beside the page, or all of it."""
    with AudioReader(path, channel=channel) as reader:
        # Tracks may go beyond full scale, where Opus would fold them.
        blocks = (np.clip(block, -1.0, 1.0) for block in reader.blocks(_BLOCK_FRAMES))
        if beside is not None:
            encode_opus(blocks, reader.sample_rate, beside)
            return beside.name
        with tempfile.TemporaryDirectory(prefix="auriscope-") as aside:
            encode_opus(blocks, reader.sample_rate, Path(aside) / "sound.opus")
            return data_uri((Path(aside) / "sound.opus").read_bytes(), "audio/ogg")


def _classified(result: ListenResult, top_db: float, full_scale: float) -> dict[str, Any]:
    """What a classifier hears, drawn in the scale of the recording."""
    found = result.classified
    assert found is not None
    path = Path(found.heard)
    with AudioReader(path) as reader:
        looked = survey(reader.blocks(_BLOCK_FRAMES), reader.sample_rate, reader.info.num_frames)
    sound = path.name if result.sounds else _sound(path, None, None)
    return _view(looked, sound, top_db, full_scale) | {
        "label": found.label,
        "classes": [
            (row.label, *map(words.percent, (row.input, row.interpretation, row.rest))) for row in found.classes
        ],
        "method": found.method,
        "classifier": found.classifier,
        "href": _href(path.name),
        "file": path.name,
        "page": _href(Path(found.page).name),
    }


def _page(result: ListenResult, surveys: Sequence[Survey], sounds: Sequence[str]) -> dict[str, Any]:
    script = _resource("listen.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    recording = surveys[0]
    # One scale for all pictures: a track that looks fainter than the recording is fainter.
    top_db = loud_level_db(recording.spectrogram_db)
    full_scale = float(np.max(np.abs(recording.envelope), initial=0.0))
    views = [_view(survey, sound, top_db, full_scale) for survey, sound in zip(surveys, sounds, strict=True)]
    rows = _turn_rows(result)
    lines, words_left_out = _lines(result)
    word_rows = _word_rows(result)
    return {
        "version": result.auriscope_version,
        "title": Path(result.input).name,
        "style": _resource("listen.css"),
        "script": script,
        "script_hash": f"sha256-{digest}",
        "facts": _facts(result),
        "headline": _headline(result, recording),
        "is_silent": recording.is_silent,
        "warnings": result.warnings,
        "duration_seconds": round(recording.duration_seconds, 3),
        "time_ticks": time_ticks(recording.duration_seconds),
        "recording": views[0] | {"facts": _recording_facts(result)},
        "tracks": [
            _track(index, track, view, recording.duration_seconds)
            for index, (track, view) in enumerate(zip(result.tracks, views[1 : 1 + len(result.tracks)], strict=True))
        ],
        "enhanced": _enhanced(result.enhanced, views[-1], surveys[-1]) if result.enhanced else None,
        "classified": None if result.classified is None else _classified(result, top_db, full_scale),
        "lines": lines,
        "transcribed": result.recognizer is not None,
        "words_left_out": words_left_out,
        "word_rows": word_rows[:MAX_TURN_ROWS],
        "word_rows_left_out": max(0, len(word_rows) - MAX_TURN_ROWS),
        "word_error": result.expected_word_error,
        "turn_rows": rows[:MAX_TURN_ROWS],
        "turns_left_out": max(0, len(rows) - MAX_TURN_ROWS),
        "gauge_low": words.decibels(words.GAUGE_LOW_DB, 0),
        "gauge_high": words.decibels(words.GAUGE_HIGH_DB, 0),
        "gauge_zones": [100 * width / (words.GAUGE_HIGH_DB - words.GAUGE_LOW_DB) for width in _zone_widths()],
        "gauge_marks": [(words.decibels(mark, 0), _gauge_place(mark)) for mark in (0.0, 7.0, 14.0)],
        "provenance": _provenance(result),
        "command": result.command,
        "sound_beside": bool(result.sounds),
    }


def _view(survey: Survey, sound: str, top_db: float, full_scale: float) -> dict[str, Any]:
    return {
        "sound": sound,
        "peak": words.level(survey.peak_dbfs),
        "top": words.frequency(survey.top_hertz),
        "waveform": waveform_path(survey.envelope, full_scale),
        "spectrogram": data_uri(spectrogram_png(survey.spectrogram_db, top_db), "image/png"),
        "frequency_ticks": frequency_ticks(survey.top_hertz, len(survey.spectrogram_db)),
    }


def _track(index: int, track: ListenTrack, view: dict[str, Any], total_seconds: float) -> dict[str, Any]:
    verdict, meaning = words.verdict(track.blind_si_snr_db)
    talk = words.share(sum(turn.end_seconds - turn.start_seconds for turn in track.turns), total_seconds)
    entry = view | {
        "name": talker(index),
        "hue": hue(index),
        "score": None,
        "verdict": verdict,
        "meaning": meaning,
        "warnings": track.warnings,
        "talk": talk,
        "turns": track.turns,
        "spans": _spans(track, total_seconds),
        "href": _href(Path(track.path).name),
        "file": Path(track.path).name,
        "facts": [
            ("Heard", talk),
            ("Level", words.level(track.rms_dbfs)),
            ("Peak", words.level(track.peak_dbfs)),
        ],
    }
    if track.blind_si_snr_db is not None:
        error = track.expected_error_db or 0.0
        low, high = _gauge_place(track.blind_si_snr_db - error), _gauge_place(track.blind_si_snr_db + error)
        entry |= {
            "score": words.decibels(track.blind_si_snr_db),
            "error": words.decibels(track.expected_error_db),
            "needle": _gauge_place(track.blind_si_snr_db),
            "band": (low, high - low),
        }
    return entry


def _enhanced(path: str, view: dict[str, Any], survey: Survey) -> dict[str, Any]:
    name = Path(path).name
    facts = [("Level", words.level(survey.rms_dbfs)), ("Peak", words.level(survey.peak_dbfs))]
    return view | {"facts": facts, "href": _href(name), "file": name}


def talker(index: int) -> str:
    """Name a track for people, from its place."""
    return f"Talker {index + 1}"


def hue(index: int) -> int:
    """Give the number of a talker's colour; those of ever more talkers begin again."""
    return index % NUM_HUES + 1


def _href(name: str) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(name))


def _zone_widths() -> npt.NDArray[np.float64]:
    return np.diff([words.GAUGE_LOW_DB, *words.BOUNDARIES_DB, words.GAUGE_HIGH_DB])


def _gauge_place(value_db: float) -> float:
    place = 100.0 * (value_db - words.GAUGE_LOW_DB) / (words.GAUGE_HIGH_DB - words.GAUGE_LOW_DB)
    return min(max(place, 0.0), 100.0)


def _spans(track: ListenTrack, total_seconds: float) -> list[tuple[float, float]]:
    """Turns as places and widths in a thousandth of the recording; a turn too short to see gets a hairline."""
    scale = 1000.0 / total_seconds if total_seconds > 0 else 0.0
    spans: list[tuple[float, float]] = []
    for turn in track.turns:
        left, width = turn.start_seconds * scale, max((turn.end_seconds - turn.start_seconds) * scale, 1.0)
        # Hours hold thousands of turns: those that share a hairline are drawn as one.
        if spans and left - sum(spans[-1]) < 0.5:
            spans[-1] = (spans[-1][0], max(spans[-1][1], left + width - spans[-1][0]))
        else:
            spans.append((left, width))
    return spans


def _turn_rows(result: ListenResult) -> list[tuple[str, str, str]]:
    turns = sorted(
        (turn.start_seconds, turn.end_seconds, index)
        for index, track in enumerate(result.tracks)
        for turn in track.turns
    )
    return [(talker(i), clock(start, fractions=True), clock(end, fractions=True)) for start, end, i in turns]


def _lines(result: ListenResult) -> tuple[list[dict[str, Any]], int]:
    """What the talkers say, in order of time, and how many words are left out."""
    runs: list[tuple[int, list[Word]]] = []
    for index, track in enumerate(result.tracks):
        before: Word | None = None
        for word in track.words:
            pause = before is None or word.start_seconds - before.end_seconds >= LINE_PAUSE_SECONDS
            if pause or len(runs[-1][1]) >= LINE_WORDS:
                runs.append((index, []))
            runs[-1][1].append(word)
            before = word
    runs.sort(key=lambda run: (run[1][0].start_seconds, run[0]))
    shown, lines = 0, []
    for index, run in runs:
        if shown + len(run) > MAX_WORDS:
            break
        shown += len(run)
        lines.append(
            {
                "track": index + 1,
                "hue": hue(index),
                "name": talker(index),
                "time": clock(run[0].start_seconds),
                "words": [
                    {
                        "text": words.readable(word.word),
                        "start": f"{word.start_seconds:.2f}",
                        "end": f"{word.end_seconds:.2f}",
                        "title": f"{clock(word.start_seconds, fractions=True)}, {_sure(word)} sure",
                        "mark": words.sureness(word.confidence),
                    }
                    for word in run
                ],
            }
        )
    return lines, sum(len(run) for _, run in runs) - shown


def _word_rows(result: ListenResult) -> list[tuple[str, ...]]:
    said = sorted(
        ((word, index) for index, track in enumerate(result.tracks) for word in track.words),
        key=lambda each: (each[0].start_seconds, each[1]),
    )
    return [
        (
            talker(index),
            words.readable(word.word),
            clock(word.start_seconds, fractions=True),
            clock(word.end_seconds, fractions=True),
            _sure(word),
        )
        for word, index in said
    ]


def _sure(word: Word) -> str:
    return f"{100 * word.confidence:.0f} %"


def _facts(result: ListenResult) -> list[str]:
    return [
        words.duration(result.duration_seconds),
        words.frequency(result.sample_rate),
        "mono" if result.num_channels == 1 else words.count(result.num_channels, "channel"),
    ]


def _headline(result: ListenResult, recording: Survey) -> str:
    if recording.is_silent:
        return "There is nothing to hear in this recording."
    if all(track.blind_si_snr_db is None for track in result.tracks):
        return "There is too little to hear in this recording to tell talkers apart."
    if result.num_speakers == 1 and not result.at_least:
        return "One talker: the recording is given back as one track."
    talkers = words.count(result.num_speakers, "talker")
    return f"{'At least ' if result.at_least else ''}{talkers}, each in a track of their own."


def _recording_facts(result: ListenResult) -> list[tuple[str, str]]:
    facts = [("Level", words.level(result.rms_dbfs)), ("Peak", words.level(result.peak_dbfs))]
    if result.clipped_fraction > 0:
        facts.append(("Clipped", f"{100 * result.clipped_fraction:.2g} %"))
    return facts


def _provenance(result: ListenResult) -> list[tuple[str, str]]:
    chosen = {"auto": "counted in the recording", None: "as many as the model separates"}
    heard = result.classified
    how = chosen.get(result.settings.get("speakers"), "as asked for")
    return [
        ("Recording", result.input),
        *([("Enhancement model", result.enhancer)] if result.enhancer else []),
        ("Separation model", result.model or "none: one talker needs no separation"),
        *([("Classifier", f"{heard.classifier}, explained by {heard.method}")] if heard else []),
        *([("Speaker model", f"{result.embedder}, which told the voices apart")] if result.embedder else []),
        ("Quality model", result.quality_model or "none"),
        *([("Transcription model", _written_by(result))] if result.recognizer else []),
        ("Talkers", f"{'at least ' if result.at_least else ''}{result.num_speakers}, {how}"),
        ("Made with", f"auriscope {result.auriscope_version}"),
    ]


def _written_by(result: ListenResult) -> str:
    beside = f", with the language model {result.language_model}" if result.language_model else ""
    return f"{result.recognizer}{beside}"
