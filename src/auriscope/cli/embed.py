"""``auriscope embed``: recordings in, one vector a voice out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import Outcome, complain, one_line_for, printable, progress_bar, say
from auriscope.cli.options import Channel, Device, Force, Inputs, Json, Offline, SpeakerModel, Threads, use_threads


def embed(
    inputs: Inputs,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Folder for embeddings; made if missing.", show_default="none"
        ),
    ] = None,
    model: SpeakerModel = None,
    channel: Channel = None,
    device: Device = "cpu",
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Turn the voice in each recording into a vector: near for one speaker, far for two.

    Vectors are of unit length, and the product of two is their score in `auriscope verify`. With --json they are
    printed, with --out written into FOLDER/NAME/embed.json. What an earlier run has done is not done again.
    """
    use_threads(threads)
    from auriscope.verbs.embed import embed as run

    def describe(result: Any) -> None:
        for warning in result.warnings:
            complain(f"{printable(result.input)}: {warning}")
        before = ", done before" if result.resumed else ""
        told = f"{len(result.embedding)} numbers from {result.duration_seconds:.1f} s{before}"
        say(f"{printable(result.input)}: {told}")
        for file in result.files:
            say(f"  {printable(file)}")

    outcome = Outcome(describe, json=json)
    with one_line_for(inputs, json=json), progress_bar("embedding") as update:
        run(
            list(inputs),
            out,
            model=model,
            channel=channel,
            device=device,
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()
