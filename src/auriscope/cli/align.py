"""``auriscope align``: recordings and their texts in, the time of every word out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import Outcome, one_line_for, printable, progress_bar, say
from auriscope.cli.options import Channel, Inputs, Json, Offline, Out, Threads, use_threads


def align(
    inputs: Inputs,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="TEXT|FILE",
            help="What is said in the one recording: the words themselves, or a file of them.",
            show_default="the file of the recording's name that ends in .txt",
        ),
    ] = None,
    out: Out = Path("auriscope-out"),
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="ADDRESS",
            help="Recogniser with CTC: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
            show_default="one that ships",
        ),
    ] = None,
    channel: Channel = None,
    json: Json = False,
    offline: Offline = False,
    threads: Threads = None,
) -> None:
    """Find when each word of a known text was said.

    Each recording gets a folder in FOLDER with align.json, words.TextGrid (for Praat) and words.srt (subtitles). A
    recording that fails stops no other.
    """
    use_threads(threads)
    from auriscope.verbs.align import align as run
    from auriscope.verbs.align import text_or_file

    outcome = Outcome(describe, json=json)
    with one_line_for(inputs, json=json), progress_bar("aligning") as update:
        run(
            list(inputs),
            out,
            text=None if text is None else text_or_file(text),
            model=model,
            channel=channel,
            offline=offline or None,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()


def describe(result: Any) -> None:
    """Tell on the terminal when the words of a recording were said."""
    say(printable(result.input))
    for word in result.words:
        say(f"  {word.start_seconds:9.2f} {word.end_seconds:9.2f}  {word.confidence:.2f}  {printable(word.word)}")
    for file in result.files:
        say(f"  {printable(file)}")
    for warning in result.warnings:
        say(f"  note: {printable(warning)}")
