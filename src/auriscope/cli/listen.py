"""``auriscope listen``: separate, judge, and write a page about each recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import Outcome, one_line_for, printable, progress_bar, say
from auriscope.cli.options import (
    Channel,
    Embedder,
    Enhance,
    Force,
    Inputs,
    Json,
    Offline,
    Out,
    QualityModel,
    SeparationModel,
    Speakers,
    Threads,
    parse_speakers,
    use_threads,
)


def listen(
    inputs: Inputs,
    out: Out = Path("auriscope-out"),
    speakers: Speakers = None,
    model: SeparationModel = None,
    quality_model: QualityModel = None,
    enhance: Enhance = False,
    embedder: Embedder = None,
    transcribe: Annotated[
        bool, typer.Option("--transcribe/--no-transcribe", help="Write down what each talker says.")
    ] = True,
    recognizer: Annotated[
        str | None,
        typer.Option(
            "--recognizer",
            metavar="ADDRESS",
            help="Recogniser: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
            show_default="the shipped one, if there is one",
        ),
    ] = None,
    classify: Annotated[
        str | None,
        typer.Option(
            "--classify",
            metavar="ADDRESS",
            help="Tell what is heard by a classifier of sounds, or an interpreter of one, and what it goes by.",
            show_default="nothing does",
        ),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="METHOD",
            help="How to find what the classifier goes by, as in `auriscope explain`.",
            show_default="the interpreter's, or lime",
        ),
    ] = None,
    channel: Channel = None,
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Separate recordings, estimate how good each track is, write down what is said, and make a page about each.

    Each recording gets a folder in FOLDER with report.html (opens offline), report.json and a WAV file per talker.
    What an earlier run has done is not done again. A recording that fails stops no other.
    """
    wanted = parse_speakers(speakers)
    use_threads(threads)
    from auriscope.verbs.listen import listen as run

    outcome = Outcome(_describe, json=json)
    with one_line_for(inputs, json=json), progress_bar("listening") as update:
        run(
            list(inputs),
            out,
            model=model,
            quality_model=quality_model,
            speakers=wanted,
            enhancer=enhance,
            embedder=embedder,
            recognizer=recognizer if transcribe else False,
            classifier=classify,
            explain=explain,
            channel=channel,
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()


def _describe(result: Any) -> None:
    say(printable(result.input) + (" (done before)" if result.resumed else ""))
    for number, track in enumerate(result.tracks, start=1):
        score = "no estimate"
        if track.blind_si_snr_db is not None:
            score = f"{track.blind_si_snr_db:.1f} dB ± {track.expected_error_db or 0.0:.1f} dB"
        unsure = "" if track.in_range in (True, None) else ", outside the trained range"
        say(f"  talker {number}: {score}{unsure}")
        if track.text:
            say(f"    {printable(track.text)}")
    if result.classified is not None:
        first = result.classified.classes[0]
        say(f"  heard: {printable(first.label)}, {100 * first.input:.0f} %")
    for warning in result.warnings:
        say(f"  note: {printable(warning)}")
    say(f"  {printable(result.report)}")
