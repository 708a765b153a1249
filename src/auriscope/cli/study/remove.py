"""``auriscope study remove``: everything of a contributor."""

from __future__ import annotations

from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, say, to_json
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened
from auriscope.errors import AuriscopeError


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
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    json: Json = False,
) -> None:
    """Remove a contributor: recordings, tracks, answers, scores, reviews and votes, every byte, for good.

    The next release is without them. Backups and releases made before still hold them until they are made anew.
    """
    if (contributor is None) is not purge:
        raise typer.BadParameter("give a contributor, or --purge", param_hint="'CONTRIBUTOR'")
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
        complain(
            "deleted rows may still lie in the database's files, which others keep busy; stop the server and purge"
        )
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
