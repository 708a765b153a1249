"""The page about an interpretation: one file that opens offline."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

import auriscope
from auriscope.signal.files import AudioReader
from auriscope.signal.outputs import written_aside
from auriscope.verbs.explain.results import ClassProbability, ExplainResult
from auriscope.verbs.listen import words
from auriscope.verbs.listen.pictures import frequency_ticks, loud_level_db, spectrogram_png, time_ticks, waveform_path
from auriscope.verbs.listen.sound import data_uri, encode_opus
from auriscope.verbs.listen.survey import survey

FloatArray = NDArray[np.float32]

EMBED_SECONDS = 600.0
"""Longest recording whose sound goes into the page; that of a longer one lies beside it."""

_BLOCK_FRAMES = 1 << 16

_METHODS = {
    "piq": "PIQ, which keeps what its class's own vectors can say",
    "l2i": "L2I, which keeps the parts of sounds that the class is told by",
    "vibi": "VIBI, which keeps the few chunks that tell the class",
    "flint": "FLINT, which keeps where the attributes of the class are",
    "lmac": "L-MAC, which keeps what the classifier needs, and leaves what it does not",
    "lime": "LIME, which leaves parts out, over and over, and sees what that does",
    "gradients": "gradients: where a small change would change the class most",
    "integrated-gradients": "integrated gradients, along the way from nothing to this",
    "occlusion": "occlusion: what the class loses when a patch is covered",
    "grad-cam": "Grad-CAM: where the last maps speak for the class",
}


@dataclass(frozen=True)
class Sounds:
    """What the page of a recording plays and draws: three files of one length, and the mask (rows, columns) in [0, 1].

    The rows of the mask are those of a survey's spectrogram, from low to high.
    """

    recording: Path
    heard: Path
    left: Path
    mask: FloatArray


@dataclass(frozen=True)
class Pictures:
    """What the page of a picture shows, as PNG: the picture as the classifier sees it, the parts, and the mask."""

    picture: bytes
    seen: bytes
    left: bytes
    mask: bytes


def method_words(method: str) -> str:
    """Say in a line what a method does."""
    return _METHODS.get(method, method)


def write_page(result: ExplainResult, shown: Sounds | Pictures, path: Path, *, command: str) -> None:
    """Write the page about a result to ``path``; the sounds of long recordings are the files beside it.

    ``command`` is the line that makes it again.
    """
    script = _resource("auriscope.verbs.listen", "listen.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    page = {
        "version": auriscope.__version__,
        "title": Path(result.input).name,
        "style": _resource("auriscope.verbs.listen", "listen.css")
        + _resource("auriscope.verbs.explain", "explain.css"),
        "script": script,
        "script_hash": f"sha256-{digest}",
        "result": result,
        "facts": _facts(result),
        "headline": headline(result),
        "heard_word": "heard" if isinstance(shown, Sounds) else "seen",
        "figures": figures(result),
        "rows": rows(result.probabilities),
        "method": method_words(result.method),
        "provenance": _provenance(result),
        "command": command,
        "sounds": sound_views(shown, result) if isinstance(shown, Sounds) else [],
        "time_ticks": time_ticks(result.duration_seconds or 0.0),
        "duration_seconds": round(result.duration_seconds or 0.0, 3),
        "pictures": _picture_views(shown, result) if isinstance(shown, Pictures) else [],
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(_resource("auriscope.verbs.explain", "explain.html.j2")).render(page=page)
    with written_aside(path) as aside:
        # A file name may hold bytes that are no characters: they are shown as the browser shows any such byte.
        aside.write_bytes(html.encode("utf-8", "replace"))


def headline(result: ExplainResult) -> str:
    """Say in a sentence what was decided, and what is explained if that is something else."""
    before = {row.label: row.input for row in result.probabilities}
    sense = "hears" if result.kind == "sound" else "sees"
    told = f"The classifier {sense} {result.decided} ({words.percent(before[result.decided])})."
    if result.label != result.decided:
        told += f" Explained is {result.label} ({words.percent(before[result.label])})."
    return told


def figures(result: ExplainResult) -> list[tuple[str, str, str]]:
    """Name, value and meaning of every figure of a result."""
    verb = "heard" if result.kind == "sound" else "seen"
    # A long recording has many windows, and a share of them.
    same = {1.0: "yes", 0.0: "no"}.get(-1.0 if result.fidelity is None else result.fidelity)
    found = [
        (
            "fidelity",
            same or words.percent(result.fidelity),
            f"whether what was {verb} alone is decided as the whole is",
        ),
        (
            "faithfulness",
            _number(result.faithfulness),
            f"by how much {result.label} is less probable without it, −1 to 1",
        ),
    ]
    more = (
        ("average_drop", "drop", "share of the probability that is lost with it alone; 0 is best"),
        ("sparseness", "sparseness", "0: the mask is alike everywhere; 1: it is one point"),
    )
    found += [(name, _number(result.figures.get(key)), meaning) for key, name, meaning in more]
    return found


def rows(probabilities: Sequence[ClassProbability]) -> list[dict[str, Any]]:
    """The table of the probabilities before and after: by class, three times what to write and the width of a bar."""
    return [
        {
            "label": row.label,
            "cells": [
                (words.percent(value), f"{100 * value:.1f}") for value in (row.input, row.interpretation, row.rest)
            ],
        }
        for row in probabilities
    ]


def sound_views(shown: Sounds, result: ExplainResult) -> list[dict[str, Any]]:
    """The recording, what was heard and what was left, as the page plays and draws them, in one scale."""
    beside = (result.duration_seconds or 0.0) > EMBED_SECONDS
    named = (
        ("Recording", "As the classifier hears it: one channel, at its own rate.", shown.recording),
        ("What was heard", f"What speaks for {result.label}: the recording through the mask below.", shown.heard),
        ("What was left", "The rest. Both together are the recording.", shown.left),
    )
    views: list[dict[str, Any]] = []
    top_db, full_scale = 0.0, 1.0
    for name, meaning, path in named:
        with AudioReader(path) as reader:
            found = survey(reader.blocks(_BLOCK_FRAMES), reader.sample_rate, reader.info.num_frames)
        if not views:
            top_db = loud_level_db(found.spectrogram_db)
            full_scale = float(np.max(np.abs(found.envelope), initial=0.0))
        views.append(
            {
                "name": name,
                "meaning": meaning,
                "file": path.name,
                "sound": path.name if beside else _opus(path),
                "facts": [("Level", words.level(found.rms_dbfs)), ("Peak", words.level(found.peak_dbfs))],
                "peak": words.level(found.peak_dbfs),
                "top": words.frequency(found.top_hertz),
                "waveform": waveform_path(found.envelope, full_scale),
                "spectrogram": data_uri(spectrogram_png(found.spectrogram_db, top_db), "image/png"),
                "frequency_ticks": frequency_ticks(found.top_hertz, len(found.spectrogram_db)),
                "mask": data_uri(mask_png(shown.mask), "image/png") if path == shown.heard else None,
            }
        )
    return views


def mask_png(mask: FloatArray) -> bytes:
    """Draw a mask (rows, columns) in [0, 1], rows from low to high, in the colours of spectrograms."""
    # From 70 dB under the strongest colour to it.
    return spectrogram_png(70.0 * (mask - 1.0), 0.0)


def _opus(path: Path) -> str:
    with AudioReader(path) as reader, tempfile.TemporaryDirectory(prefix="auriscope-") as aside:
        # A masked signal may go beyond full scale, where Opus would fold it.
        blocks = (np.clip(block, -1.0, 1.0) for block in reader.blocks(_BLOCK_FRAMES))
        encode_opus(blocks, reader.sample_rate, Path(aside) / "sound.opus")
        return data_uri((Path(aside) / "sound.opus").read_bytes(), "audio/ogg")


def _picture_views(shown: Pictures, result: ExplainResult) -> list[dict[str, str]]:
    named = (
        ("Picture", "As the classifier sees it.", shown.picture),
        ("What was seen", f"What speaks for {result.label}.", shown.seen),
        ("What was left", "The rest.", shown.left),
        ("Mask", "The stronger, the more of the picture is kept.", shown.mask),
    )
    return [
        {"name": name, "meaning": meaning, "source": data_uri(payload, "image/png")} for name, meaning, payload in named
    ]


def _facts(result: ExplainResult) -> list[str]:
    facts = [] if result.duration_seconds is None else [words.duration(result.duration_seconds)]
    return [*facts, f"explained by {result.method}", f"classifier {result.classifier}"]


def _provenance(result: ExplainResult) -> list[tuple[str, str]]:
    return [
        ("Input", result.input),
        ("Classifier", str(result.classifier)),
        ("Method", method_words(result.method)),
        *([("Interpreter", result.interpreter)] if result.interpreter else []),
        ("Made with", f"auriscope {auriscope.__version__}"),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value + 0.0:.2f}".replace("-", "−")


def _resource(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
