"""Removing a contributor: every byte of what they sent, said and voted, and of what others wrote about it.

Rows are deleted, and then the database is made to forget them: SQLite is rebuilt and its log emptied, PostgreSQL's
tables are rewritten. What lies outside the study stays: backups, published releases, and PostgreSQL's own log of
changes until the server reuses it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Select, delete, func, or_, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study.database import Database
from auriscope.study.ids import now
from auriscope.study.schema import (
    Assignment,
    Contributor,
    Release,
    Removal,
    Review,
    Score,
    Session,
    Stamp,
    Submission,
    Table,
    Task,
    Vote,
)
from auriscope.study.study import Study, audit

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
        # From here on nothing more is taken of them.
        for visit in session.scalars(select(Session).where(Session.contributor_id == contributor_id)):
            visit.state = "removed"
        submissions = set(session.scalars(_submissions(contributor_id)))
    # Files go before the rows that name them: whatever breaks off in between can be repeated.
    num_files = _delete_files(study, submissions)
    with study.database.write() as session:
        # An upload that is being committed holds on to its session: it is waited for, and goes with the rest.
        session.scalars(select(Session.id).where(Session.contributor_id == contributor_id).with_for_update()).all()
        later = set(session.scalars(_submissions(contributor_id)))
        removal = _delete_rows(session, contributor_id, actor)
        session.add(removal)
        session.flush()
        counts = {"sessions": removal.num_sessions, "submissions": removal.num_submissions, "votes": removal.num_votes}
        audit(session, actor, "contributor.remove", removal.id, counts)
        releases = tuple(session.scalars(select(Release.version).order_by(Release.created_at)))
    # A worker may have separated a recording meanwhile, and an upload may just have ended.
    num_files += _delete_files(study, submissions | later)
    return Removed(
        contributor_id,
        removal.num_sessions,
        removal.num_submissions,
        removal.num_votes,
        num_files,
        purge(study.database),
        releases,
    )


def purge(database: Database) -> bool:
    """Make the database forget what was deleted; say whether it could."""
    return _purge_sqlite(database) if database.is_sqlite else _purge_postgresql(database)


def _submissions(contributor_id: str) -> Select[str]:
    return select(Submission.id).join(Session).where(Session.contributor_id == contributor_id)


def _delete_rows(session: OrmSession, contributor_id: str, actor: str) -> Removal:
    visits = select(Session.id).where(Session.contributor_id == contributor_id)
    recordings = select(Submission.id).where(Submission.session_id.in_(visits))
    trials = select(Assignment.id).where(Assignment.session_id.in_(visits))
    removal = Removal(
        actor=actor,
        num_sessions=session.scalar(select(func.count()).select_from(visits.subquery())) or 0,
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
        Session: Session.contributor_id == contributor_id,
        Contributor: Contributor.id == contributor_id,
    }
    for table in _TABLES:
        session.execute(delete(table).where(theirs[table]).execution_options(synchronize_session=False))
    return removal


def _delete_files(study: Study, submissions: set[str]) -> int:
    """Delete the recordings and tracks of submissions, also tracks that no row names, and count them."""
    keys = list(_keys_of(study.storage.keys("recordings/"), submissions))
    keys += _keys_of(study.storage.keys("tracks/"), submissions)
    for key in keys:
        study.storage.delete(key)
    return len(keys)


def _keys_of(keys: Iterable[str], submissions: set[str]) -> Iterator[str]:
    return (key for key in keys if key.split("/")[1].partition(".")[0] in submissions)


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
