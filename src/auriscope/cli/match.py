"""``auriscope match``: words or a recording in, the sounds of an index that are nearest out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import complain, emit, printable, say
from auriscope.cli.options import Device, Json, Offline, Threads, use_threads
from auriscope.errors import AuriscopeError


def match(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY", help="What to look for: words, or the path of a recording.", show_default=False
        ),
    ],
    indices: Annotated[
        list[Path],
        typer.Argument(
            metavar="INDEX", help="Folder that `auriscope index` wrote, or several of one model.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for a page with players, and a record of what was found; made if missing.",
            show_default="none",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="ADDRESS",
            help="Model of sounds and texts; it must be the one that made the index.",
            show_default="that of the index",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many results to give.")] = 10,
    text: Annotated[bool, typer.Option("--text", help="The query is words, even if a file has that name.")] = False,
    every_window: Annotated[
        bool, typer.Option("--every-window", help="Give several windows of one recording, not its best one alone.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Look at every window, even where the index has a graph.")
    ] = False,
    device: Device = "cpu",
    json: Json = False,
    offline: Offline = False,
    threads: Threads = None,
) -> None:
    """Find the sounds of an index that are nearest to words, such as "rain on a roof", or to a recording.

    Each result is a stretch of a recording, with the cosine of its and the query's embedding. With --out they can be
    heard in FOLDER/match.html.
    """
    use_threads(threads)
    from auriscope.verbs.match import match as run

    try:
        result = run(
            query,
            indices,
            out,
            model=model,
            top=top,
            text=text,
            every_window=every_window,
            exact=exact,
            device=device,
            offline=offline or None,
        )
    except AuriscopeError as error:
        complain(error)
        if json:
            emit({"query": query, "error": printable(error)})
        raise typer.Exit(1) from error
    if json:
        emit(result.to_dict())
    else:
        _describe(result)


def _describe(result: Any) -> None:
    for found in result.results:
        stretch = f"{found.start_seconds:8.1f} to {found.end_seconds:.1f} s"
        say(f"{found.score:7.3f}  {stretch}  {printable(found.path)}")
    for file in result.files:
        say(f"  {printable(file)}")
