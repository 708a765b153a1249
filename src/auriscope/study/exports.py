"""Tables of a study as CSV at any moment: rows of one moment, a few at a time in memory, harmless in a spreadsheet.

A text that begins like a formula is written with an apostrophe before it (OWASP, "CSV Injection"). Whatever could tell
who a person is stands only in the tables for owners.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import IO, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session as OrmSession

from auriscope.study.cells import without_formula
from auriscope.study.review import tally
from auriscope.study.schema import (
    Account,
    Assignment,
    AuditEntry,
    ConsentText,
    Contributor,
    Item,
    Review,
    Score,
    Session,
    Submission,
    Task,
    Vote,
)
from auriscope.study.study import Study

READERS_TABLES = ("submissions", "sessions", "reviews")
"""The others are for owners: votes would tell the opinion so far, the audit log who works how much."""

_OF_KIND = {"collection": ("submissions", "sessions", "reviews", "audit"), "listening": ("sessions", "votes", "audit")}
_ROWS = 500


def write_csv(study: Study, table: str, file: IO[str], *, personal: bool) -> int:
    """Write a table and give the number of its rows; ``personal``: with what could tell who people are."""
    with study.database.read() as session:
        rows = _SOURCES[table](session, personal)
        header = next(rows)
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(header)
        count = 0
        for row in rows:
            writer.writerow([cell(value) for value in row])
            count += 1
    return count


def tables_for(study: Study, *, personal: bool) -> list[str]:
    """Name the tables that a study of this kind fills, those for owners (``personal``) or for readers."""
    return [table for table in _OF_KIND[study.campaign.kind] if personal or table in READERS_TABLES]


def cell(value: object) -> object:
    """Give what stands in a cell: numbers as they are, moments in ISO 8601, objects as JSON, texts never a formula.

    >>> cell("=HYPERLINK(1)"), cell(-3.5), cell(None), cell(True), cell("a@b")
    ("'=HYPERLINK(1)", -3.5, '', 'true', 'a@b')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return without_formula(text)


def failed_checks(checks: dict[str, Any] | None) -> list[str]:
    """Name the automatic checks that a submission has failed."""
    found = (checks or {}).items()
    return sorted(name for name, finding in found if isinstance(finding, dict) and finding.get("ok") is False)


def _submissions(session: OrmSession, personal: bool) -> Iterator[Iterable[Any]]:
    yield [
        "submission", "session", "contributor", "received_at", "pair", "sentence_1", "sentence_2", "sha256",
        "num_bytes", "sample_rate", "num_channels", "num_frames", "seconds", "checks_ok", "checks_failed", "checks",
        "num_votes", "suggestion", "payment", "use", "separator", "estimator", "blind_si_snr_db", "expected_error_db",
        *(["payment_reason", "use_reason", "platform", "external_id"] if personal else []),
    ]  # fmt: skip
    votes = tally()
    query = (
        select(Submission, Task, Contributor, Score, votes.c.num_votes, votes.c.suggestion)
        .join(Task, Task.id == Submission.task_id)
        .join(Session, Session.id == Submission.session_id)
        .join(Contributor, Contributor.id == Session.contributor_id)
        .outerjoin(Score, Score.submission_id == Submission.id)
        .outerjoin(votes, votes.c.submission_id == Submission.id)
        .order_by(Submission.received_at, Submission.id)
    )
    for sub, task, person, score, num_votes, suggestion in _rows(session, query):
        sentences = [_text_of(sentence) for sentence in task.sentences]
        tracks = score.tracks if score is not None else []
        yield [
            sub.id, sub.session_id, person.id, sub.received_at, task.pair_id, *[*sentences, "", ""][:2], sub.sha256,
            sub.num_bytes, sub.sample_rate, sub.num_channels, sub.num_frames,
            round(sub.num_frames / sub.sample_rate, 3),
            (sub.checks or {}).get("ok"), " ".join(failed_checks(sub.checks)), sub.checks, num_votes or 0, suggestion,
            sub.payment, sub.use, score.separator if score else None, score.estimator if score else None,
            *(" ".join(str(track.get(key)) for track in tracks) for key in ("blind_si_snr_db", "expected_error_db")),
            *([sub.payment_reason, sub.use_reason, person.platform, person.external_id] if personal else []),
        ]  # fmt: skip


def _sessions(session: OrmSession, personal: bool) -> Iterator[Iterable[Any]]:
    yield [
        "session", "contributor", "platform", "language", "state", "started_at", "finished_at",
        "consent_version", "consent_sha256", "consented_at", "num_submissions", "num_rated",
        *(["external_id", "arrival", "answers", "equipment"] if personal else []),
    ]  # fmt: skip
    sent = select(func.count()).where(Submission.session_id == Session.id).scalar_subquery()
    rated = (
        select(func.count())
        .where(Assignment.session_id == Session.id, Assignment.answered_at.is_not(None))
        .scalar_subquery()
    )
    query = (
        select(Session, Contributor, ConsentText.version, sent, rated)
        .join(Contributor, Contributor.id == Session.contributor_id)
        .outerjoin(ConsentText, ConsentText.sha256 == Session.consent_sha256)
        .order_by(Session.started_at, Session.id)
    )
    for visit, person, version, num_submissions, num_rated in _rows(session, query):
        yield [
            visit.id, person.id, person.platform, visit.language, visit.state, visit.started_at,
            visit.finished_at, version, visit.consent_sha256, visit.consented_at, num_submissions, num_rated,
            *([person.external_id, visit.arrival, visit.answers, visit.equipment] if personal else []),
        ]  # fmt: skip


def _reviews(session: OrmSession, personal: bool) -> Iterator[Iterable[Any]]:
    yield ["review", "submission", "reviewer", "vote", "reasons", "created_at", *(["note"] if personal else [])]
    query = (
        select(Review, Account.name)
        .join(Account, Account.id == Review.account_id)
        .order_by(Review.created_at, Review.id)
    )
    for review, name in _rows(session, query):
        yield [
            review.id, review.submission_id, name, review.vote, " ".join(map(str, review.reasons)), review.created_at,
            *([review.note] if personal else []),
        ]  # fmt: skip


def _votes(session: OrmSession, personal: bool) -> Iterator[Iterable[Any]]:
    yield [
        "vote", "assignment", "session", "rater", "item", "role", "mixture", "system", "part", "label", "score",
        "seconds_on_page", "created_at", *(["platform", "external_id"] if personal else []),
    ]  # fmt: skip
    query = (
        select(Vote, Assignment, Item, Contributor)
        .join(Assignment, Assignment.id == Vote.assignment_id)
        .join(Item, Item.id == Assignment.item_id)
        .join(Session, Session.id == Assignment.session_id)
        .join(Contributor, Contributor.id == Session.contributor_id)
        .order_by(Vote.created_at, Vote.id)
    )
    for vote, given, item, person in _rows(session, query):
        label = item.parts[vote.part].get("label") if vote.part < len(item.parts) else None
        yield [
            vote.id, given.id, given.session_id, person.id, item.name, item.role, item.mixture, item.system, vote.part,
            label, vote.score, given.seconds_on_page, vote.created_at,
            *([person.platform, person.external_id] if personal else []),
        ]  # fmt: skip


def _audit(session: OrmSession, personal: bool) -> Iterator[Iterable[Any]]:  # noqa: ARG001 - it holds no personal data
    yield ["entry", "at", "actor", "account", "action", "subject", "details"]
    query = select(AuditEntry, Account.name).outerjoin(Account, Account.id == AuditEntry.actor).order_by(AuditEntry.id)
    for entry, name in _rows(session, query):
        yield [entry.id, entry.at, entry.actor, name, entry.action, entry.subject, entry.details]


def _rows(session: OrmSession, query: Any) -> Iterator[Any]:
    # The session refers to what it has read by weak references: nothing stays in memory.
    for part in session.execute(query.execution_options(yield_per=_ROWS)).partitions():
        yield from part


def _text_of(sentence: Any) -> str:
    return str(sentence.get("text", "")) if isinstance(sentence, dict) else str(sentence)


_SOURCES = {"submissions": _submissions, "sessions": _sessions, "reviews": _reviews, "votes": _votes, "audit": _audit}
