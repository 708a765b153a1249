"""The options that several commands share, so that one name means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from auriscope.recognition.decoding import DecodingOptions


def parse_speakers(value: str | None) -> Literal["auto"] | int | None:
    """Read ``--speakers``: ``auto`` or a number from 1 on; anything else is wrong usage.

    Left out (``None``), it is for the verb to say: two, or as many as a given model separates.

    >>> parse_speakers("auto"), parse_speakers("12"), parse_speakers(None)
    ('auto', 12, None)
    """
    if value is None or value == "auto":
        return "auto" if value else None
    if value.isascii() and value.isdigit() and int(value) >= 1:
        return int(value)
    raise typer.BadParameter(f"{value!r} is not a number from 1 on, or auto", param_hint="'--speakers'")


Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT",
        help="Recordings (WAV, FLAC, Ogg, Opus, MP3; any rate, any number of channels, any length) or folders of them.",
        show_default=False,
    ),
]

Out = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the results; made if missing.")]

Speakers = Annotated[
    str | None,
    typer.Option(
        "--speakers",
        "-n",
        metavar="N|auto",
        help="Number of talkers; auto counts them in each recording. More than three need a speaker model.",
        show_default="2; with --model, as many as it separates",
    ),
]

SeparationModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="ADDRESS",
        help="Separation model: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
        show_default="the best that ships for the number of talkers",
    ),
]

EnhancementModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="ADDRESS",
        help="Enhancement model: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
        show_default="the shipped one",
    ),
]

Enhance = Annotated[
    bool,
    typer.Option("--enhance", help="Take noise and late reverberation off first, and keep that as enhanced.wav."),
]

QualityModel = Annotated[
    str | None,
    typer.Option(
        "--quality-model",
        metavar="ADDRESS",
        help="Quality model: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
        show_default="the shipped one",
    ),
]

SpeakerModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="ADDRESS",
        help="Speaker model: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
        show_default="the one that ships",
    ),
]

Embedder = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="ADDRESS",
        help="Speaker model that keeps talkers on their tracks, counts them, and tells more than three apart.",
        show_default="the one that ships",
    ),
]

Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Where the models run: cpu, cuda.")]

Channel = Annotated[
    int | None,
    typer.Option("--channel", metavar="INDEX", min=0, help="Use one channel, from 0.", show_default="mix all down"),
]

PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="fp32|bf16|int8",
        help="What the model computes in: bf16 is faster where the CPU has it, int8 for large transformers.",
    ),
]

Beam = Annotated[
    int | None,
    typer.Option("--beam", metavar="N", min=1, help="Hypotheses that decoding keeps.", show_default="10"),
]

CtcWeight = Annotated[
    float | None,
    typer.Option(
        "--ctc-weight",
        metavar="0…1",
        min=0.0,
        max=1.0,
        help="Weight of CTC beside a decoder: 0 is the decoder alone, 1 CTC alone.",
        show_default="0.3 for models that have both",
    ),
]

LanguageModel = Annotated[
    str | None,
    typer.Option(
        "--lm", metavar="FILE|ADDRESS", help="Language model: an ARPA or KenLM file over words, or a trained one."
    ),
]

LmWeight = Annotated[
    float | None,
    typer.Option("--lm-weight", metavar="WEIGHT", min=0.0, help="Its weight in the score.", show_default="0.5"),
]

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per input on stdout; everything else goes to stderr.")
]

Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network, not even for an hf:// address.")]

Force = Annotated[bool, typer.Option("--force", help="Do again what is already done.")]

Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Number of CPU threads.", show_default="all cores"),
]


def decoding_options(**chosen: Any) -> DecodingOptions | None:
    """Make the options of decoding from those that were given, not ``None``; ``None`` if none was."""
    given = {name: value for name, value in chosen.items() if value is not None}
    if not given:
        return None
    from auriscope.recognition.decoding import DecodingOptions

    return DecodingOptions(**given)


def use_threads(threads: int | None) -> None:
    """Limit the number of CPU threads that torch uses; ``None`` leaves its choice."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
