"""``auriscope study reconcile``: files and rows compared, and brought together again after a crash."""

from __future__ import annotations

from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, say
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened


def reconcile(
    folder: Folder,
    grace_minutes: Annotated[
        float,
        typer.Option(
            "--grace-minutes",
            metavar="N",
            min=0,
            help="Leave younger files alone: they may be about to be acknowledged.",
        ),
    ] = 60.0,
    verify: Annotated[bool, typer.Option("--verify", help="Read every recording and compare its digest too.")] = False,
    json: Json = False,
) -> None:
    """Compare the files of a study with its database; exit with 1 if a recording is missing or damaged."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study import reconcile as library
        from auriscope.study.campaign import Collection
        from auriscope.study.jobs import Jobs

        jobs = Jobs(study) if isinstance(study.campaign, Collection) else None
        found = library.reconcile(study, grace_seconds=60 * grace_minutes, verify=verify, jobs=jobs)
    if json:
        emit({"input": folder, "ok": found.ok, **vars(found)})
    else:
        say(
            f"{found.swept} unfinished and {len(found.orphans)} unacknowledged files removed, "
            f"{found.enqueued} forgotten jobs enqueued"
        )
    for kind, names in (("missing", found.missing), ("damaged", found.damaged)):
        for name in names:
            complain(f"{name}: the file of this recording is {kind}; restore it from a backup")
    if not found.ok:
        raise typer.Exit(1)
