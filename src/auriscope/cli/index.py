"""``auriscope index``: folders of recordings in, an index for ``auriscope match`` out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import Outcome, complain, one_line_for, printable, progress_bar, say
from auriscope.cli.options import Device, Force, Inputs, Json, Offline, Threads, use_threads


def index(
    inputs: Inputs,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the index; made if missing.")
    ] = Path("auriscope-index"),
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="ADDRESS",
            help="Model of sounds and texts: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
            show_default="that of the index; of a new one, the one that ships",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Processes that share the files.", show_default="this one alone"
        ),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Share the files out over a Ray cluster, that of RAY_ADDRESS (extra scale).")
    ] = False,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate", help="Make a graph of neighbours, for millions of windows (extra search); it is kept up."
        ),
    ] = False,
    device: Device = "cpu",
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Index recordings, so that `auriscope match` finds what sounds like words or like another recording.

    Call it again to bring the index up to date: new, changed and removed files are found, all else is kept. A call
    that was stopped goes on where it was. Files that cannot be read are listed and left out.
    """
    use_threads(threads)
    from auriscope.verbs.index import index as run

    def tell(result: Any) -> None:
        for each in result.unreadable:
            complain(each.error)
        for warning in result.warnings:
            complain(f"{printable(result.index)}: {warning}")
        outcome.tell(result)

    outcome = Outcome(_describe, json=json)
    left_out = False
    with one_line_for(inputs, json=json), progress_bar("indexing") as update:
        results = run(
            list(inputs),
            out,
            model=model,
            workers=workers,
            ray=ray,
            approximate=approximate,
            device=device,
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=tell,
        )
        left_out = any(result.unreadable for result in results)
    outcome.exit_if_failed()
    if left_out:
        raise typer.Exit(1)


def _describe(result: Any) -> None:
    counts = [
        (result.num_new, "new"),
        (result.num_changed, "changed"),
        (result.num_unchanged, "as before"),
        (result.num_removed, "removed"),
        (len(result.unreadable), "left out"),
    ]
    told = ", ".join(f"{number} {word}" for number, word in counts if number) or "nothing"
    say(f"{printable(result.input)}: {told}")
    hours = result.duration_seconds / 3600.0
    graph = ", with a graph" if result.approximate else ""
    whole = f"{result.num_files} recordings, {hours:.2f} h, {result.num_windows} windows{graph}, by {result.model}"
    say(f"  {printable(result.index)}: {whole}")
