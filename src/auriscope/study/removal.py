"""Removing a contributor or one session: every byte of what was sent, said and voted, and what others wrote about it.

Rows are deleted, and then the database is made to forget them: SQLite is rebuilt and its log emptied, PostgreSQL's
tables are rewritten. That is costly and keeps others waiting, so visitors who withdraw cannot bring it about: that it
is due is noted, and the server does it now and then. What lies outside the study stays: backups, published releases,
and PostgreSQL's own log of changes until the server reuses it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Select, delete, func, or_, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study.database import Database
from auriscope.study.ids import new_id, now
from auriscope.study.schema import (
    Assignment,
    Contributor,
    Release,
    Removal,
    Review,
    Score,
    Session,
    Setting,
    Stamp,
    Submission,
    Table,
    Task,
    Vote,
)
from auriscope.study.study import Study, audit

PURGE_DUE = "purge_due"
"""The setting that says that the database is to forget deleted rows; its ``token`` changes with every deletion."""

_LOCK_WAIT = "10s"
# Those that point to others come first.
_TABLES: tuple[type[Table], ...] = (Vote, Assignment, Review, Score, Stamp, Submission, Task, Session, Contributor)


@dataclass(frozen=True)
class Removed:
    """What was removed.

    ``is_purged`` says whether the database has forgotten it too: where other connections kept it busy, deleted rows may
    lie in its files until the removal is repeated or the server is stopped. ``releases`` names the versions that were
    made before and may hold what was removed.
    """

    contributor_id: str
    num_sessions: int
    num_submissions: int
    num_votes: int
    num_files: int
    is_purged: bool
    releases: tuple[str, ...]


def find_contributor(session: OrmSession, name: str) -> str:
    """Give the id of a contributor by that id, by the platform's name for them, or by the id of a session of theirs."""
    found = session.scalars(
        select(Contributor.id)
        .outerjoin(Session)
        .where(or_(Contributor.id == name, Contributor.external_id == name, Session.id == name))
        .distinct()
        .order_by(Contributor.id)
    ).all()
    if not found:
        raise AuriscopeError(
            f"{name}: nobody of that name has taken part; give a worker's, contributor's or session's id"
        )
    if len(found) > 1:
        raise AuriscopeError(f"{name}: names people on several platforms; give one of {', '.join(found)}")
    return found[0]


def remove_contributor(study: Study, contributor_id: str, actor: str) -> Removed:
    """Remove a contributor and all that is theirs, now and from the next release on.

    The removal itself is logged, without anything about the person. Broken off, it can be repeated. Raises
    ``AuriscopeError`` if there is no such contributor.
    """
    with study.database.write() as session:
        contributor = session.get(Contributor, contributor_id)
        if contributor is None:
            raise AuriscopeError(f"{contributor_id}: there is no such contributor")
        contributor.removed_at = contributor.removed_at or now()
        visits = list(session.scalars(_visits_of(contributor_id)))
        files = _close(session, visits)
    # Files go before the rows that name them: whatever breaks off in between can be repeated.
    num_files = _delete_files(study, files)
    with study.database.write() as session:
        # Who begins just now points to the contributor, and is waited for.
        session.scalars(select(Contributor.id).where(Contributor.id == contributor_id).with_for_update()).all()
        visits = list(session.scalars(_visits_of(contributor_id)))
        removal, later = _delete(study, session, visits, actor, "contributor.remove")
        session.execute(delete(Contributor).where(Contributor.id == contributor_id))
        releases = tuple(session.scalars(select(Release.version).order_by(Release.created_at)))
    # A worker may have separated a recording meanwhile, and an upload may just have ended.
    num_files += _delete_files(study, files | later)
    return Removed(
        contributor_id,
        removal.num_sessions,
        removal.num_submissions,
        removal.num_votes,
        num_files,
        purge(study),
        releases,
    )


def remove_session(study: Study, session_id: str, actor: str) -> None:
    """Remove one session and all that was sent in it; its contributor too, if they have no other session.

    Work of other sessions stays. The database forgets the rows later, when the server next purges it. Broken off, it
    can be repeated; nothing happens if there is no such session.
    """
    with study.database.write() as session:
        files = _close(session, [session_id])
    _delete_files(study, files)
    with study.database.write() as session:
        contributor_id = session.scalar(select(Session.contributor_id).where(Session.id == session_id))
        if contributor_id is None:
            return
        session.scalars(select(Contributor.id).where(Contributor.id == contributor_id).with_for_update()).all()
        _, later = _delete(study, session, [session_id], actor, "session.remove")
        if session.scalar(_visits_of(contributor_id).limit(1)) is None:
            session.execute(delete(Contributor).where(Contributor.id == contributor_id))
    _delete_files(study, files | later)


def purge(study: Study) -> bool:
    """Make the database forget what was deleted; say whether it could. If not, it stays due."""
    with study.database.read() as session:
        due = session.get(Setting, PURGE_DUE)
    database = study.database
    is_purged = _purge_sqlite(database) if database.is_sqlite else _purge_postgresql(database)
    if is_purged and due is not None:
        with database.write(alone=PURGE_DUE) as session:
            current = session.get(Setting, PURGE_DUE)
            # What was deleted since is not purged yet.
            if current is not None and current.value == due.value:
                session.delete(current)
    return is_purged


def note_purge(study: Study, session: OrmSession) -> None:
    """Note that the database is to forget what this transaction deletes; call it at its end."""
    study.database.alone(session, PURGE_DUE)
    session.merge(Setting(name=PURGE_DUE, value={"token": new_id("prg")}, changed_at=now()))


def is_purge_due(session: OrmSession) -> bool:
    """Whether rows were deleted that the database has not forgotten yet."""
    return session.get(Setting, PURGE_DUE) is not None


def _visits_of(contributor_id: str) -> Select[str]:
    return select(Session.id).where(Session.contributor_id == contributor_id)


def _close(session: OrmSession, visits: Sequence[str]) -> set[str]:
    """Let nothing more be taken of sessions, and give the keys and folders of their files."""
    for visit in session.scalars(select(Session).where(Session.id.in_(visits)).order_by(Session.id)):
        visit.state = "removed"
    return _files_of(session, visits)


def _files_of(session: OrmSession, visits: Sequence[str]) -> set[str]:
    """Give the keys of recordings, and the folders of their tracks, in which there may be some that no row names."""
    rows = session.execute(select(Submission.id, Submission.storage_key).where(Submission.session_id.in_(visits))).all()
    return {row.storage_key for row in rows} | {f"tracks/{row.id}/" for row in rows}


def _delete(
    study: Study, session: OrmSession, visits: Sequence[str], actor: str, action: str
) -> tuple[Removal, set[str]]:
    """Delete the rows of sessions, log that, note that the database is to be purged, and give what files there were."""
    _wait_for_others(session, visits)
    files = _files_of(session, visits)
    recordings = select(Submission.id).where(Submission.session_id.in_(visits))
    trials = select(Assignment.id).where(Assignment.session_id.in_(visits))
    removal = Removal(
        actor=actor,
        num_sessions=len(visits),
        num_submissions=session.scalar(select(func.count()).select_from(recordings.subquery())) or 0,
        num_votes=session.scalar(select(func.count()).select_from(Vote).where(Vote.assignment_id.in_(trials))) or 0,
    )
    theirs = {
        Vote: Vote.assignment_id.in_(trials),
        Assignment: Assignment.session_id.in_(visits),
        Review: Review.submission_id.in_(recordings),
        Score: Score.submission_id.in_(recordings),
        Stamp: Stamp.session_id.in_(visits),
        Submission: Submission.session_id.in_(visits),
        Task: Task.session_id.in_(visits),
        Session: Session.id.in_(visits),
    }
    for table, condition in theirs.items():
        session.execute(delete(table).where(condition).execution_options(synchronize_session=False))
    session.add(removal)
    session.flush()
    counts = {"sessions": removal.num_sessions, "submissions": removal.num_submissions, "votes": removal.num_votes}
    audit(session, actor, action, removal.id, counts)
    note_purge(study, session)
    return removal, files


def _wait_for_others(session: OrmSession, visits: Sequence[str]) -> None:
    """Lock the rows of sessions, in the order in which everybody does: what is being written goes with the rest.

    An upload holds its task and wants its session, a vote its trial and then its session; a review or a score holds
    its recording, and points to it.
    """
    for query in (
        select(Task.id).where(Task.session_id.in_(visits)).order_by(Task.id),
        select(Assignment.id).where(Assignment.session_id.in_(visits)).order_by(Assignment.id),
        select(Session.id).where(Session.id.in_(visits)).order_by(Session.id),
        select(Submission.id).where(Submission.session_id.in_(visits)).order_by(Submission.received_at, Submission.id),
    ):
        session.scalars(query.with_for_update()).all()


def _delete_files(study: Study, names: set[str]) -> int:
    """Delete files by their keys, and all files of folders, whose names end with a slash; count them."""
    count = 0
    for name in sorted(names):
        for key in list(study.storage.keys(name)) if name.endswith("/") else [name]:
            count += study.storage.exists(key)
            study.storage.delete(key)
    return count


def _purge_sqlite(database: Database) -> bool:
    with closing(database.engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        try:
            # Deleted cells were overwritten, but copies that moved between pages may be left: rebuilding drops them.
            cursor.execute("VACUUM")
            is_busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:
            return False
    return not is_busy


def _purge_postgresql(database: Database) -> bool:
    is_purged = True
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"SET lock_timeout = '{_LOCK_WAIT}'"))
        for table in _TABLES:
            try:
                # Also the planner's statistics hold values of rows.
                connection.execute(text(f"VACUUM (FULL, ANALYZE) {table.__tablename__}"))
            except OperationalError:
                is_purged = False
        connection.execute(text("RESET lock_timeout"))
    return is_purged
