"""The page of what was found: one file that opens offline, with a player for every result."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from auriscope import __version__
from auriscope.errors import AuriscopeError
from auriscope.signal.files import AudioReader
from auriscope.signal.outputs import written_aside
from auriscope.verbs.listen import words
from auriscope.verbs.listen.pictures import frequency_ticks, loud_level_db, spectrogram_png, waveform_path
from auriscope.verbs.listen.sound import data_uri, encode_opus
from auriscope.verbs.listen.survey import survey
from auriscope.verbs.match.results import Match, MatchResult

FloatArray = NDArray[np.float32]

QUERY_SECONDS = 30.0
"""So much of a recording that is the query can be heard on the page."""

_BLOCK_FRAMES = 1 << 16


def write_page(result: MatchResult, path: Path, options: Sequence[str] = ()) -> None:
    """Write the page: the query first, then every result with its sound, its waveform and its spectrogram.

    A file that cannot be read any more is shown as such. ``options`` are those with which the command line finds the
    same again.
    """
    query = None
    if result.kind == "sound":
        query = _sound(Path(result.query), 0.0, QUERY_SECONDS)
    page = {
        "version": __version__,
        "style": _resource("auriscope.verbs.listen", "listen.css") + _resource("auriscope.verbs.match", "match.css"),
        "title": f"“{result.query}”" if result.kind == "text" else Path(result.query).name,
        "facts": _facts(result),
        "query": query,
        "rows": [_row(match, place) for place, match in enumerate(result.results)],
        "provenance": [
            ("Query", result.query),
            ("Index", ", ".join(result.index)),
            ("Model", result.model),
            ("Made with", f"auriscope {__version__}"),
        ],
        "command": _command(result, path.parent, options),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(_resource("auriscope.verbs.match", "match.html.j2")).render(page=page)
    with written_aside(path) as aside:
        # A file name may hold bytes that are no characters: they are shown as the browser shows any such byte.
        aside.write_bytes(html.encode("utf-8", "replace"))


def _command(result: MatchResult, out: Path, options: Sequence[str]) -> str:
    named = [result.query, *result.index]
    options = ["--out", str(out), *options]
    # What begins with a dash would be taken for an option.
    dashed = any(each.startswith("-") for each in named)
    return shlex.join(["auriscope", "match", *([*options, "--", *named] if dashed else [*named, *options])])


def clock(seconds: float) -> str:
    """Write a place in a recording.

    >>> clock(4.0), clock(65.25), clock(3725.0)
    ('0:04.0', '1:05.2', '1:02:05.0')
    """
    tenths = round(10.0 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    end = f"{rest / 10:04.1f}"
    return f"{hours}:{minutes:02d}:{end}" if hours else f"{minutes}:{end}"


def _facts(result: MatchResult) -> list[str]:
    found = words.count(len(result.results), "result")
    searched = f"{result.num_windows:,} windows searched" + (", approximately" if result.approximate else "")
    return [found, searched, f"by {result.model}"]


def _row(match: Match, place: int) -> dict[str, Any]:
    path = Path(match.path)
    return {
        "rank": place + 1,
        "name": path.name,
        "folder": str(path.parent),
        "link": path.as_uri(),
        "when": f"{clock(match.start_seconds)} to {clock(match.end_seconds)}",
        "score": f"{match.score:.3f}".replace("-", "−"),
        # Cosines below zero are no likeness at all.
        "width": f"{100 * max(0.0, match.score):.1f}",
        "sound": _sound(path, match.start_seconds, match.end_seconds - match.start_seconds),
    }


def _sound(path: Path, start_seconds: float, duration_seconds: float) -> dict[str, Any]:
    """What the page plays and draws of a stretch; only ``error`` where it cannot be read."""
    try:
        with AudioReader(path) as reader:
            rate = reader.sample_rate
            blocks = list(
                reader.blocks(_BLOCK_FRAMES, start_seconds=start_seconds, duration_seconds=max(0.01, duration_seconds))
            )
    except AuriscopeError as error:
        return {"error": str(error)}
    found = survey(blocks, rate, sum(map(len, blocks)))
    full_scale = float(np.max(np.abs(found.envelope), initial=0.0))
    picture = spectrogram_png(found.spectrogram_db, loud_level_db(found.spectrogram_db))
    return {
        "error": None,
        "address": _opus(blocks, rate),
        "peak": words.level(found.peak_dbfs),
        "top": words.frequency(found.top_hertz),
        "waveform": waveform_path(found.envelope, full_scale),
        "spectrogram": data_uri(picture, "image/png"),
        "frequency_ticks": frequency_ticks(found.top_hertz, len(found.spectrogram_db)),
    }


def _opus(blocks: list[FloatArray], sample_rate: int) -> str:
    def clipped() -> Iterator[FloatArray]:
        # Beyond full scale Opus would fold.
        return (np.clip(block, -1.0, 1.0) for block in blocks)

    with tempfile.TemporaryDirectory(prefix="auriscope-") as aside:
        encode_opus(clipped(), sample_rate, Path(aside) / "sound.opus")
        return data_uri((Path(aside) / "sound.opus").read_bytes(), "audio/ogg")


def _resource(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
