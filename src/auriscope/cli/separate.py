"""``auriscope separate``: recordings in, one track per talker out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    PrecisionOption,
    SeparationModel,
    Speakers,
    Threads,
    parse_speakers,
    use_threads,
)


def separate(
    inputs: Inputs,
    out: Out = Path("auriscope-out"),
    speakers: Speakers = None,
    model: SeparationModel = None,
    enhance: Enhance = False,
    embedder: Embedder = None,
    channel: Channel = None,
    precision: PrecisionOption = "fp32",
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Separate recordings into one track per talker.

    Each recording gets a folder in FOLDER with track1.wav and so on, at its own rate, length and level. What an
    earlier run has done is not done again. A recording that fails stops no other.
    """
    wanted = parse_speakers(speakers)
    use_threads(threads)
    from auriscope.verbs.separate import separate as run

    outcome = Outcome(describe, json=json)
    with one_line_for(inputs, json=json), progress_bar("separating") as update:
        run(
            list(inputs),
            out,
            model=model,
            speakers=wanted,
            enhancer=enhance,
            embedder=embedder,
            channel=channel,
            precision=precision,  # type: ignore[arg-type]  # checked where it is used
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()


def describe(result: Any) -> None:
    """Tell on the terminal which tracks were made of a recording."""
    say(printable(result.input) + (" (done before)" if result.resumed else ""))
    for track in result.tracks:
        say(f"  {printable(track)}")
    for warning in result.warnings:
        say(f"  note: {printable(warning)}")
