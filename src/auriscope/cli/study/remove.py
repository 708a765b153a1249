"""``auriscope study remove``: everything of a contributor, or only what platforms call people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, say, to_json
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened
from auriscope.errors import AuriscopeError

_NOT_PURGED = "deleted rows may still lie in the database's files, which others keep busy; stop the server and purge"


def remove(
    folder: Folder,
    contributor: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONTRIBUTOR]",
            help="The platform's id of the worker, or the id of the contributor or of a session.",
            show_default=False,
        ),
    ] = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove nobody, but make the database forget rows that were deleted before.")
    ] = False,
    platform_ids: Annotated[
        bool,
        typer.Option(
            "--platform-ids",
            help="Remove nobody, but what platforms call the people all of whose work is over and paid.",
        ),
    ] = False,
    older_than_days: Annotated[
        float | None,
        typer.Option(
            "--older-than-days", metavar="N", min=0, help="With --platform-ids: only if their work ended N days ago."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    json: Json = False,
) -> None:
    """Remove a contributor: recordings, tracks, answers, scores, reviews and votes, every byte, for good.

    The next release is without them. Backups and releases made before still hold them until they are made anew. With
    --platform-ids people's work stays, under random names, and nobody can tell any more which worker it was.
    """
    if (contributor is not None) + purge + platform_ids != 1:
        raise typer.BadParameter("give a contributor, --purge or --platform-ids", param_hint="'CONTRIBUTOR'")
    if older_than_days is not None and not platform_ids:
        raise typer.BadParameter("goes with --platform-ids", param_hint="'--older-than-days'")
    if platform_ids:
        _forget(folder, older_than_days or 0.0, yes=yes, json=json)
        return
    with one_line_for([contributor or folder], json=json), opened(folder) as study:
        from auriscope.study import removal

        if contributor is None:
            is_purged = removal.purge(study)
            if json:
                emit({"input": folder, "is_purged": is_purged})
            if not is_purged:
                raise AuriscopeError("the database is in use and was not purged; stop the server and try again")
            return
        with study.database.read() as session:
            contributor_id = removal.find_contributor(session, contributor)
        if not yes and not typer.confirm(f"Remove {contributor} and everything of theirs for good?", err=True):
            raise AuriscopeError("nothing was removed")
        removed = removal.remove_contributor(study, contributor_id, "command")
    if not removed.is_purged:
        complain(_NOT_PURGED)
    complain("backups made before still hold what was removed: delete them and make new ones")
    if removed.releases:
        complain(f"releases made before may hold it too ({', '.join(removed.releases)}): make and publish a new one")
    if json:
        emit({"input": contributor, **to_json(removed)})
        return
    say(
        f"removed {removed.num_sessions} sessions, {removed.num_submissions} recordings, {removed.num_votes} votes and "
        f"{removed.num_files} files"
    )


def _forget(folder: Path, older_than_days: float, *, yes: bool, json: bool) -> None:
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study import platform_ids

        question = "Has everybody been paid? Forget for good which workers did the work that is over and decided?"
        if not yes and not typer.confirm(question, err=True):
            raise AuriscopeError("nothing was forgotten")
        forgotten = platform_ids.forget(study, "command", older_than_days)
    if not forgotten.is_purged:
        complain(_NOT_PURGED)
    complain("backups made before still hold the platforms' names: delete them and make new ones")
    if json:
        emit({"input": folder, **to_json(forgotten)})
        return
    say(
        f"forgot the platforms' names of {forgotten.num_contributors} people in {forgotten.num_sessions} sessions; "
        f"{forgotten.num_kept} are still needed"
    )
