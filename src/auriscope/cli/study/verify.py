"""``auriscope study verify``: whether a work stamp holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, printable, say, to_json
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened

if TYPE_CHECKING:
    from auriscope.study.stamps import Verdict

_MEANING = {
    "valid": "valid",
    "malformed": "no stamp, or cut off",
    "forged": "not issued by this study",
    "not_theirs": "issued to another worker or assignment",
    "redeemed": "used before",
}


def verify(
    folder: Folder,
    stamps: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STAMP]...", help="Stamps; - reads them from standard input, one a line."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="CSV",
            help="Take stamps from a table; WorkerId (or Participant id) and AssignmentId are compared too.",
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        str, typer.Option("--column", metavar="NAME", help="The table's column that holds the stamps.")
    ] = "Answer.surveycode",
    redeem: Annotated[
        bool, typer.Option("--redeem", help="Use the valid ones up: they are valid this once and never again.")
    ] = False,
    json: Json = False,
) -> None:
    """Say of work stamps whether they hold; exit with 1 if one of them does not."""
    given = [stamp for stamp in stamps or () if stamp != "-"]
    if "-" in (stamps or ()):
        given += [line.strip() for line in sys.stdin if line.strip()]
    if not given and file is None:
        raise typer.BadParameter("give stamps, - or --file", param_hint="'STAMP'")
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study import stamps as library
        from auriscope.study.payments import read_table

        asked: list[tuple[str, str | None, str | None]] = [(stamp, None, None) for stamp in given]
        if file is not None:
            for row in read_table(file, (column,))[1]:
                worker = row.get("WorkerId") or row.get("PROLIFIC_PID") or row.get("Participant id") or None
                asked.append((row[column], worker, row.get("AssignmentId") or None))
        failed = False
        for text, worker, assignment in asked:
            if redeem:
                verdict = library.redeem(study, text, "command", worker=worker, assignment=assignment)
            else:
                with study.database.read() as session:
                    verdict = library.verify(study, session, text, worker=worker, assignment=assignment)
            failed = failed or not verdict.ok
            _tell(text, verdict, json)
    if failed:
        raise typer.Exit(1)


def _tell(text: str, verdict: Verdict, json: bool) -> None:
    if json:
        emit({"input": text, "ok": verdict.ok, **to_json(verdict)})
        return
    line = f"{printable(text)}: {_MEANING[verdict.reason]}"
    if verdict.session_id is not None:
        who = f"{verdict.platform} {verdict.worker}" if verdict.worker else verdict.platform
        line += f" ({who}, session {verdict.session_id})"
    say(line) if verdict.ok else complain(line)
