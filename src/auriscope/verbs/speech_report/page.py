"""The page of a report on a voice, which opens offline."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from auriscope import __version__
from auriscope.metrics.wer import CharacterErrors, WordErrors, character_errors
from auriscope.signal.files import AudioReader
from auriscope.signal.outputs import written_aside
from auriscope.text.normalise import letters
from auriscope.verbs.listen.sound import data_uri, encode_opus
from auriscope.verbs.speech_report.results import SpeechItem, SpeechReport, interval

FloatArray = NDArray[np.float32]

_BLOCK_FRAMES = 1 << 16
_HEIGHT = 160
_COLOURS = ((255, 255, 255), (127, 176, 220), (53, 89, 159), (26, 22, 56))
"""Little to much attention, on a light page."""


def write_page(report: SpeechReport, attentions: Sequence[Sequence[FloatArray]], path: Path) -> None:
    """Write the page: totals first, then every sentence with its sounds, its attention and what was heard.

    ``attentions`` are, for each sentence, those (frames, tokens) of its parts.
    """
    rows = [_row(item, parts, path.parent) for item, parts in zip(report.items, attentions, strict=True)]
    page = {
        "version": __version__,
        "style": _resource("auriscope.verbs.listen", "listen.css")
        + _resource("auriscope.verbs.speech_report", "report.css"),
        "report": report,
        "facts": _facts(report),
        "figures": _figures(report),
        "rows": rows,
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(_resource("auriscope.verbs.speech_report", "report.html.j2")).render(page=page)
    with written_aside(path) as aside:
        aside.write_bytes(html.encode("utf-8", "replace"))


def attention_png(attention: FloatArray) -> bytes:
    """Draw an attention (frames, tokens) as PNG: time goes to the right, the text from top to bottom.

    A frame is a column; tokens are stretched to a picture that is easy to see.
    """
    from PIL import Image

    levels = np.clip(attention.T, 0.0, 1.0)
    picture = Image.fromarray(np.round(levels * 255).astype(np.uint8))
    steps = np.linspace(0.0, 1.0, len(_COLOURS))
    shades = np.linspace(0.0, 1.0, 256)
    palette = np.stack([np.interp(shades, steps, [colour[k] for colour in _COLOURS]) for k in range(3)], axis=1)
    picture.putpalette(np.round(palette).astype(np.uint8).tobytes())
    # Nearest: every token stays a stripe.
    picture = picture.resize((picture.width, max(_HEIGHT, picture.height)), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _resource(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _sound(path: Path) -> str:
    with AudioReader(path) as reader, tempfile.TemporaryDirectory(prefix="auriscope-") as aside:
        blocks = (np.clip(block, -1.0, 1.0) for block in reader.blocks(_BLOCK_FRAMES))
        encode_opus(blocks, reader.sample_rate, Path(aside) / "sound.opus")
        return data_uri((Path(aside) / "sound.opus").read_bytes(), "audio/ogg")


def _row(item: SpeechItem, parts: Sequence[FloatArray], folder: Path) -> dict[str, Any]:
    state = "read from beginning to end" if item.attention_ok else "failed"
    if item.attention_ok and not item.first_try:
        state += ", not at the first try"
    return {
        "item": item,
        "sound": _sound(folder / item.sound),
        "real": None if item.recording is None else _sound(folder / item.recording),
        "state": state,
        "facts": _row_facts(item),
        "pictures": [
            {
                "source": data_uri(attention_png(part), "image/png"),
                "description": f"Attention of {len(part)} frames over {part.shape[1]} letters: {state}, "
                f"{item.repeated} letters gone back, {item.skipped} left out",
            }
            for part in parts
        ],
    }


def _row_facts(item: SpeechItem) -> list[tuple[str, str]]:
    facts = [("length", f"{item.duration_seconds:.1f} s"), ("letters gone back", str(item.repeated))]
    facts.append(("letters left out", str(item.skipped)))
    if item.heard is not None:
        errors = character_errors([letters(item.heard)], [letters(item.spoken)])
        facts.append(("character error", f"{100 * errors.rate:.0f} %"))
    if item.similarity is not None:
        facts.append(("likeness of the voice", f"{item.similarity:.2f}"))
    return facts


def _facts(report: SpeechReport) -> list[str]:
    voice = f"the voice of {', '.join(Path(clip).name for clip in report.voice)}" if report.voice else "its own voice"
    return [
        f"{len(report.items)} sentences",
        voice,
        f"vocoder {report.vocoder}",
        f"{report.sample_rate} Hz",
        f"seed {report.seed}",
    ]


def _figures(report: SpeechReport) -> list[tuple[str, str, str]]:
    """Name, value and what it means, of every total that was measured."""
    figures = [
        (
            "attention in order",
            f"{100 * report.attention_share:.0f} %",
            f"of the sentences; {100 * report.first_try_share:.0f} % at the first try",
        ),
        ("speed", f"{report.speed:.1f}", "seconds of speech in a second of work"),
    ]
    if report.character_errors is not None:
        figures.append(("character error", _percent(report.character_errors), f"of {report.recognizer} on the speech"))
    if report.recording_character_errors is not None:
        figures.append(
            ("the same, real voice", _percent(report.recording_character_errors), "on recordings of these sentences")
        )
    if report.word_errors is not None:
        figures.append(("word error", _percent(report.word_errors), f"of {report.recognizer} on the speech"))
    if report.similarity is not None:
        real = report.recording_similarity
        beside = "" if real is None else f"; the real voice scores {real:.2f} with itself"
        figures.append(("likeness of the voice", f"{report.similarity:.2f}", f"by {report.embedder}, -1 to 1{beside}"))
    return figures


def _percent(errors: WordErrors | CharacterErrors) -> str:
    found = interval(errors)
    if found is None or found.low is None or found.high is None:
        return f"{100 * errors.rate:.1f} %"
    return f"{100 * errors.rate:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"
