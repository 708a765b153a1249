"""Who takes part: sessions begin with a cookie, a contributor and what the crowd platform said of them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study.campaign import Listening
from auriscope.study.ids import new_token, now, sha256_of
from auriscope.study.schema import ConsentText, Contributor, Session, Submission
from auriscope.study.study import Study


class Refused(AuriscopeError):  # noqa: N818 - it is no failure
    """A participant cannot go on; ``key`` names the words (``refused.KEY``) that tell them why."""

    def __init__(self, key: str) -> None:
        super().__init__(f"participation refused: {key}")
        self.key = key


@dataclass(frozen=True)
class Arrival:
    """Where a participant comes from: ``link``, ``mturk`` or ``prolific``, with the platform's names for them."""

    platform: str = "link"
    worker: str | None = None
    details: Mapping[str, str] | None = None


def arrival_from(parameters: Mapping[str, str]) -> Arrival:
    """Read the platforms' parameters of an address.

    Prolific sends ``PROLIFIC_PID``, ``STUDY_ID`` and ``SESSION_ID``; Mechanical Turk's survey link carries
    ``workerId``, ``assignmentId`` and ``hitId``. In Mechanical Turk's preview ``assignmentId`` is
    ``ASSIGNMENT_ID_NOT_AVAILABLE``: see :func:`is_preview`.
    """

    def clean(name: str) -> str | None:
        value = parameters.get(name, "").strip()
        return value if value and len(value) <= 100 and value.isascii() and value.isprintable() else None

    if worker := clean("PROLIFIC_PID"):
        names = ("STUDY_ID", "SESSION_ID")
        return Arrival("prolific", worker, {name: value for name in names if (value := clean(name))})
    if worker := clean("workerId"):
        names = ("assignmentId", "hitId")
        return Arrival("mturk", worker, {name: value for name in names if (value := clean(name))})
    return Arrival()


def is_preview(parameters: Mapping[str, str]) -> bool:
    """Whether Mechanical Turk shows the page to somebody who has not accepted the task."""
    return parameters.get("assignmentId") == "ASSIGNMENT_ID_NOT_AVAILABLE"


def begin(study: Study, session: OrmSession, arrival: Arrival, language: str) -> tuple[Session, str]:
    """Begin a session with consent given now, and give it with the secret for its cookie.

    Call it in a transaction of ``write(alone="begin")``, so that each who begins sees all who have begun before.
    Raises ``Refused`` when the study is paused or full, or the person has taken part as often as they may. Sessions
    that were not finished in time do not count.
    """
    from auriscope.study import assign  # it needs this module

    if study.is_paused(session):
        raise Refused("paused")
    limits = study.campaign.limits
    # Whoever left in the middle does not keep a place for ever.
    counted = (
        select(func.count())
        .select_from(Session)
        .where(or_(Session.state == "finished", and_(Session.state == "open", Session.started_at >= _oldest(study))))
    )
    if limits.max_sessions is not None and (session.scalar(counted) or 0) >= limits.max_sessions:
        raise Refused("full")
    if limits.max_submissions is not None:
        # Whoever has begun may finish: they are not sent away in the middle of paid work.
        submissions = session.scalar(select(func.count()).select_from(Submission)) or 0
        if submissions >= limits.max_submissions:
            raise Refused("full")
    if isinstance(study.campaign, Listening) and not assign.has_work(study, session):
        raise Refused("full")
    contributor = None
    if arrival.worker is not None:
        contributor = session.scalar(
            select(Contributor).where(
                Contributor.platform == arrival.platform, Contributor.external_id == arrival.worker
            )
        )
    if contributor is None:
        contributor = Contributor(platform=arrival.platform, external_id=arrival.worker)
        session.add(contributor)
        session.flush()
    elif (
        session.scalar(counted.where(Session.contributor_id == contributor.id)) or 0
    ) >= limits.sessions_per_contributor:
        raise Refused("again")
    text = study.campaign.consent_text(language)
    consent = session.get(ConsentText, sha256_of(text))
    if consent is None:
        consent = ConsentText(
            sha256=sha256_of(text), version=study.campaign.consent.version, language=language, text=text
        )
        session.add(consent)
        session.flush()
    token = new_token()
    visit = Session(
        token_sha256=sha256_of(token),
        contributor_id=contributor.id,
        arrival=dict(arrival.details or {}),
        language=language,
        definition_sha256=study.definition_sha256(session),
        consent_sha256=consent.sha256,
        consented_at=now(),
        seed=secrets.randbits(48),
    )
    session.add(visit)
    session.flush()
    return visit, token


def resume(study: Study, session: OrmSession, token: str) -> Session | None:
    """Give the session of a cookie; None if there is none, it is being removed, or it is too old to go on."""
    visit = session.scalar(select(Session).where(Session.token_sha256 == sha256_of(token)))
    if visit is None or visit.state == "removed":
        return None
    if visit.state == "open" and visit.started_at < _oldest(study):
        return None
    return visit


def _oldest(study: Study) -> datetime:
    """Give the moment before which sessions that are still open have begun too long ago to go on."""
    return now() - timedelta(hours=study.campaign.limits.session_hours)


def require_open(visit: Session) -> Session:
    """Give the session back if work may still be added to it; ``Refused`` otherwise."""
    if visit.state != "open":
        raise Refused("finished")
    return visit


def answers_of(visit: Session) -> dict[str, Any]:
    """Give the questionnaire's answers; empty before it was answered."""
    return dict(visit.answers or {})
