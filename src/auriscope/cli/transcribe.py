"""``auriscope transcribe``: recordings in, what is said in them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auriscope.cli.console import Outcome, complain, one_line_for, printable, progress_bar, say
from auriscope.cli.options import (
    Beam,
    Channel,
    CtcWeight,
    Force,
    Inputs,
    Json,
    LmWeight,
    Offline,
    Threads,
    decoding_options,
    use_threads,
)

if TYPE_CHECKING:
    from auriscope.verbs.transcribe import Format

_FORMATS = ("txt", "json", "srt", "vtt")


def transcribe(
    inputs: Inputs,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for transcripts; made if missing.",
            show_default="none: text is printed",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="ADDRESS",
            help="Recogniser: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
            show_default="the one that ships",
        ),
    ] = None,
    language_model: Annotated[
        str | None,
        typer.Option(
            "--language-model",
            "--lm",
            metavar="FILE|ADDRESS",
            help="Language model: an ARPA or KenLM file over words, a trained one, or `none`.",
            show_default="the one that ships with the recogniser",
        ),
    ] = None,
    lm_weight: LmWeight = None,
    beam: Beam = None,
    ctc_weight: CtcWeight = None,
    hotword: Annotated[
        list[str] | None,
        typer.Option(
            "--hotword", metavar="WORDS", help="A word, or several in a row, that are likely here; may be repeated."
        ),
    ] = None,
    num_best: Annotated[
        int | None,
        typer.Option(
            "--num-best",
            metavar="N",
            min=1,
            help="Hypotheses to give of every stretch; at most the beam.",
            show_default="1",
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option("--format", metavar="txt,json,srt,vtt", help="What to write into FOLDER, with commas between."),
    ] = ",".join(_FORMATS),
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Processes that share the files.")] = 1,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Stretches of a recording decoded together.")
    ] = 8,
    everything: Annotated[
        bool, typer.Option("--everything", help="Hear what seems to be no speech as well: whispers, singing, noise.")
    ] = False,
    channel: Channel = None,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Where the models run: cpu, cuda.")] = "cpu",
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Write down what is said in recordings, with the time of every word.

    The text is printed, or with --out each recording gets a folder in FOLDER with transcript.txt, transcript.srt,
    transcript.vtt (subtitles) and transcribe.json (all that is known, which is always written). Recordings may last for
    hours. What an earlier run has done is not done again. A recording that fails stops no other.
    """
    wanted = _formats(formats)
    use_threads(threads)
    try:
        options = decoding_options(
            beam_size=beam, ctc_weight=ctc_weight, hotwords=tuple(hotword) if hotword else None, num_best=num_best
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    from auriscope.recognition.long import LongConfig
    from auriscope.verbs.transcribe import transcribe as run

    config = LongConfig(batch_size=batch_size, voice=None) if everything else LongConfig(batch_size=batch_size)
    describe = _Describe(printed=out is None, several=len(inputs) > 1 or any(path.is_dir() for path in inputs))
    outcome = Outcome(describe, json=json)
    with one_line_for(inputs, json=json), progress_bar("transcribing") as update:
        run(
            list(inputs),
            out,
            model=model,
            language_model=language_model,
            lm_weight=lm_weight,
            options=options,
            formats=wanted,
            workers=workers,
            config=config,
            channel=channel,
            device=device,
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_start=complain,
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()


def _formats(given: str) -> tuple[Format, ...]:
    """Read ``--format``; wrong usage for what there is not."""
    names = [name.strip().lower() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in _FORMATS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(_FORMATS)}", param_hint="'--format'")
    return tuple(names)  # type: ignore[arg-type]  # just checked


class _Describe:
    """Tells people of a result: its text on stdout, or what was written; what to know of it on stderr."""

    def __init__(self, *, printed: bool, several: bool) -> None:
        self._printed, self._several = printed, several

    def __call__(self, result: Any) -> None:
        """Tell one."""
        for warning in result.warnings:
            complain(f"{printable(result.input)}: {warning}")
        if self._printed:
            # A line for each recording, so that `auriscope wer` and other tools can read them.
            say(f"{printable(result.input)}: {printable(result.text)}" if self._several else printable(result.text))
            return
        say(printable(result.input) + (" (done before)" if result.resumed else ""))
        for file in result.files:
            say(f"  {printable(file)}")
