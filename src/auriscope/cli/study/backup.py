"""``auriscope study backup`` and ``restore``: a whole study in one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, printable, say, to_json
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened
from auriscope.errors import AuriscopeError


def backup(
    folder: Folder,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The backup, a tar file.", show_default=False)
    ],
    with_secret: Annotated[
        bool,
        typer.Option(
            "--with-secret", help="Put the secret in, so that stamps given out before hold in the restored study."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Back a study up into one file: database, campaign, settings and recordings. The server may run meanwhile.

    The file holds personal data; keep it accordingly. Jobs that wait are not in it: the worker finds them anew.
    """
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.backup import backup as run

        made = run(study, out, with_secret=with_secret)
    if json:
        emit({"input": folder, **to_json(made)})
        return
    say(f"{printable(made.path)}: {made.num_bytes / 1e6:.1f} MB, {made.num_files} files")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.", show_default=False)],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="An empty folder; it may hold server.yaml, which names an empty database and storage, and secret.key.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Restore a study from a backup into an empty folder, an empty database and an empty storage."""
    with one_line_for([file], json=json):
        try:
            from auriscope.study.backup import restore as run
        except ModuleNotFoundError as error:
            raise AuriscopeError(f"studies need the package {error.name}: pip install 'auriscope[study]'") from None
        made = run(file, folder)
    if not made.has_secret:
        complain("the backup holds no secret: stamps and links that were given out before do not hold here")
    for submission in made.incomplete:
        complain(f"{submission}: its recording is not in the backup as it was acknowledged")
    if json:
        emit({"input": file, **to_json(made)})
    else:
        say(f"{printable(made.folder)}: restored with {made.num_files} files")
    if made.incomplete:
        raise typer.Exit(1)
