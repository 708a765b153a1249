"""``auriscope study init``: a new study."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import emit, one_line_for, say
from auriscope.cli.options import Json
from auriscope.cli.study.options import needs_study


class Kind(StrEnum):
    """What people are asked to do."""

    COLLECTION = "collection"
    LISTENING = "listening"


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the new study; made if missing.", show_default=False)
    ],
    kind: Annotated[
        Kind, typer.Option("--kind", help="Collect recordings, or have results rated.", show_default=False)
    ],
    from_sentences: Annotated[
        list[Path] | None,
        typer.Option(
            "--from-sentences",
            metavar="FILE",
            help="What is read aloud, one sentence a line; once for each --language, in their order.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language",
            metavar="en|fr",
            help="A language of the pages; may be given twice. [default: en]",
            show_default=False,
        ),
    ] = None,
    contact: Annotated[
        str, typer.Option("--contact", metavar="ADDRESS", help="Where participants write to.")
    ] = "lab@example.org",
    json: Json = False,
) -> None:
    """Write a new study: campaign.yaml and server.yaml, with remarks on everything in them, and secret.key.

    It works at once; read campaign.yaml, above all the consent, before anybody takes part. Nothing is overwritten.
    """
    with one_line_for([folder], json=json):
        with needs_study():
            from auriscope.study.init import init as write

        written = write(
            folder, kind.value, languages=language or ["en"], sentences=from_sentences or [], contact=contact
        )
    if json:
        emit({"folder": folder, "kind": kind.value, "files": written})
        return
    for path in written:
        say(f"wrote {path}")
    if kind is Kind.LISTENING:
        say(f"next: say in {folder / 'items.csv'} what is to be heard, then auriscope study items {folder}")
    else:
        say(f"next: read {written[0]}, then auriscope study serve {folder}")
