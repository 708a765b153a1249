"""The tables of a study's database: who took part, what they sent or voted, and what was decided about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from auriscope.study.ids import new_id, now


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, with its time zone on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Take only moments that know their time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """What all tables share: constraints have names, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: Instant,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        str: String(200),
    }


class Definition(Table):
    """A version of the campaign's file as it was when somebody took part under it."""

    __tablename__ = "definitions"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    first_used_at: Mapped[datetime] = mapped_column(default=now)


class ConsentText(Table):
    """A consent text exactly as it was shown, named by its digest."""

    __tablename__ = "consent_texts"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    language: Mapped[str]
    text: Mapped[str] = mapped_column(Text)
    first_shown_at: Mapped[datetime] = mapped_column(default=now)


class Contributor(Table):
    """A person who takes part: a worker of a platform, or somebody who came by a link.

    ``external_id`` is the platform's name for the worker; None for people who came by a link, and after removal.
    """

    __tablename__ = "contributors"
    __table_args__ = (UniqueConstraint("platform", "external_id"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("con"))
    platform: Mapped[str]
    external_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    removed_at: Mapped[datetime | None]

    sessions: Mapped[list[Session]] = relationship(back_populates="contributor")


class Session(Table):
    """One visit of a contributor: consent, answers, equipment, and how far they came.

    ``token_sha256`` is the digest of the secret in the visitor's cookie. ``arrival`` is what the platform said of them
    (assignment, study, session). ``answers`` are those of the questionnaire, ``equipment`` what the browser told of the
    microphone or the headphones. ``state`` is open, finished or, while its rows and files are being
    deleted, removed.
    """

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_state", "state"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("ses"))
    token_sha256: Mapped[str] = mapped_column(unique=True)
    contributor_id: Mapped[str] = mapped_column(ForeignKey("contributors.id"), index=True)
    arrival: Mapped[dict[str, Any]] = mapped_column(default=dict)
    language: Mapped[str]
    definition_sha256: Mapped[str] = mapped_column(ForeignKey("definitions.sha256"))
    consent_sha256: Mapped[str | None] = mapped_column(ForeignKey("consent_texts.sha256"))
    consented_at: Mapped[datetime | None]
    answers: Mapped[dict[str, Any] | None]
    equipment: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    seed: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(default="open")
    started_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]

    contributor: Mapped[Contributor] = relationship(back_populates="sessions")


class Task(Table):
    """Two sentences that a session was asked to read at once."""

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("session_id", "position"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("tsk"))
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id"))
    position: Mapped[int]
    pair_id: Mapped[str]
    sentences: Mapped[list[Any]]
    shown_at: Mapped[datetime] = mapped_column(default=now)


class Submission(Table):
    """A recording that the server has acknowledged: it lies in the storage under ``storage_key``.

    ``key`` is the sender's idempotency key: sending it again gives the same submission. ``checks`` are the automatic
    checks' findings, None until they ran; ``checks_failed`` and ``scoring_failed`` count the attempts that died.
    ``fingerprint`` finds the same sound again (:mod:`auriscope.study.fingerprint`). ``payment`` (pending, approved,
    rejected) and ``use`` (pending, included, excluded) are decided apart from each other. ``claimed_by`` is the
    reviewer who listens to it at the moment.
    """

    __tablename__ = "submissions"
    __table_args__ = (UniqueConstraint("session_id", "key"), Index("ix_submissions_use", "use"))

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("sub"))
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id"), index=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), index=True)
    key: Mapped[str]
    sha256: Mapped[str] = mapped_column(index=True)
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    storage_key: Mapped[str]
    sample_rate: Mapped[int]
    num_channels: Mapped[int]
    num_frames: Mapped[int] = mapped_column(BigInteger)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    received_at: Mapped[datetime] = mapped_column(default=now)
    checks: Mapped[dict[str, Any] | None]
    checks_failed: Mapped[int] = mapped_column(Integer, default=0)
    checked_at: Mapped[datetime | None]
    scoring_failed: Mapped[int] = mapped_column(Integer, default=0)
    fingerprint: Mapped[str | None] = mapped_column(Text, deferred=True)
    payment: Mapped[str] = mapped_column(default="pending")
    payment_reason: Mapped[str | None] = mapped_column(Text)
    use: Mapped[str] = mapped_column(default="pending")
    use_reason: Mapped[str | None] = mapped_column(Text)
    claimed_by: Mapped[str | None] = mapped_column(ForeignKey("accounts.id"))
    claimed_until: Mapped[datetime | None]

    session: Mapped[Session] = relationship()
    task: Mapped[Task] = relationship()
    score: Mapped[Score | None] = relationship(back_populates="submission")


class Score(Table):
    """What the worker found of a submission without ground truth, and the tracks it separated.

    ``tracks`` is a list of objects ``storage_key``, ``blind_si_snr_db``, ``expected_error_db``, ``in_range``.
    """

    __tablename__ = "scores"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    separator: Mapped[str]
    estimator: Mapped[str]
    tracks: Mapped[list[Any]]
    made_at: Mapped[datetime] = mapped_column(default=now)

    submission: Mapped[Submission] = relationship(back_populates="score")


class Review(Table):
    """One reviewer's vote (good, bad or unsure) on a submission."""

    __tablename__ = "reviews"
    __table_args__ = (UniqueConstraint("submission_id", "account_id"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("rev"))
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), index=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    vote: Mapped[str]
    reasons: Mapped[list[Any]] = mapped_column(default=list)
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Stamp(Table):
    """A work stamp that was issued; it is redeemed once.

    ``subject_id`` is the work it was issued for: the last submission of the session, or its last answered trial.
    """

    __tablename__ = "stamps"

    nonce: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("stp"))
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id"), unique=True)
    subject_id: Mapped[str]
    issued_at: Mapped[datetime] = mapped_column(default=now)
    redeemed_at: Mapped[datetime | None]
    redeemed_by: Mapped[str | None]


class Item(Table):
    """Something to be rated: a mixture with the tracks that one system made of it, or a clip.

    ``role`` is trial, training, gold or trap. ``parts`` lists what is rated: objects ``label`` and ``storage_key``, and
    for gold and trap items ``expected`` (the scores that count as right). ``context`` lists what is heard beside them
    (the mixture), ``facts`` what the analysis wants to know: ``blind_si_snr_db`` by part, ``epoch``, ``corpus``.
    """

    __tablename__ = "items"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("itm"))
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str] = mapped_column(default="trial")
    mixture: Mapped[str]
    system: Mapped[str]
    context: Mapped[list[Any]] = mapped_column(default=list)
    parts: Mapped[list[Any]]
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Assignment(Table):
    """An item on the list of a session's rater, and what came of it."""

    __tablename__ = "assignments"
    __table_args__ = (UniqueConstraint("session_id", "position"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("asg"))
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id"), index=True)
    item_id: Mapped[str] = mapped_column(ForeignKey("items.id"), index=True)
    position: Mapped[int]
    part_order: Mapped[list[Any]] = mapped_column(default=list)
    shown_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    seconds_on_page: Mapped[float | None]
    listened: Mapped[dict[str, Any] | None]

    item: Mapped[Item] = relationship()
    session: Mapped[Session] = relationship()
    votes: Mapped[list[Vote]] = relationship(back_populates="assignment")


class Vote(Table):
    """A rater's score, 1 to 5, of one part of an item."""

    __tablename__ = "votes"
    __table_args__ = (UniqueConstraint("assignment_id", "part"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("vot"))
    assignment_id: Mapped[str] = mapped_column(ForeignKey("assignments.id"), index=True)
    part: Mapped[int]
    score: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)

    assignment: Mapped[Assignment] = relationship(back_populates="votes")


class Account(Table):
    """Somebody who runs the study. ``role`` is owner, reviewer or reader; ``disabled_at`` ends their access."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("acc"))
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str] = mapped_column(String(400))
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    disabled_at: Mapped[datetime | None]


class Login(Table):
    """A browser in which an account is logged in, until it ends."""

    __tablename__ = "logins"

    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]

    account: Mapped[Account] = relationship()


class AuditEntry(Table):
    """Who did what when. Never holds personal data: subjects are named by their ids."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Setting(Table):
    """A switch that can be changed while the server runs, such as ``paused``."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
    changed_at: Mapped[datetime] = mapped_column(default=now)


class Release(Table):
    """A corpus that was released, and the digest of its list of checksums."""

    __tablename__ = "releases"

    version: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    num_submissions: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Removal(Table):
    """That a contributor was removed, without anything about them."""

    __tablename__ = "removals"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("rem"))
    at: Mapped[datetime] = mapped_column(default=now)
    actor: Mapped[str]
    num_sessions: Mapped[int]
    num_submissions: Mapped[int]
    num_votes: Mapped[int]
