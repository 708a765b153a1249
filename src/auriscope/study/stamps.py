"""Work stamps: what a participant pastes into the crowd platform to show that the work was done, and who it was.

A stamp is one line of 68 letters, ``NONCE.SIGNATURE``. The nonce names a row that the server wrote in the transaction
of the last piece of work; the signature (HMAC with SHA-256, :meth:`auriscope.study.study.Study.signer`) binds it to
the campaign, the session and that piece of work. So a stamp cannot be made in a page, nor by somebody who reads the
database. It is redeemed once.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session as OrmSession

from auriscope.study.campaign import Collection
from auriscope.study.ids import now
from auriscope.study.schema import Assignment, Contributor, Session, Stamp, Submission
from auriscope.study.study import Study, audit

_PURPOSE = "stamp"
_FORM = re.compile(r"(?P<nonce>stp_[2-9a-z]{20})\.(?P<signature>[A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a text that claims to be a stamp.

    ``reason`` is ``valid``, ``malformed`` (no stamp at all, or cut off), ``forged`` (nobody was given this one, or
    its signature does not hold), ``not_theirs`` (issued to another worker, or assignment) or ``redeemed`` (used
    before). The other fields are None for stamps that were never issued.
    """

    reason: str
    session_id: str | None = None
    subject_id: str | None = None
    platform: str | None = None
    worker: str | None = None
    issued_at: datetime | None = None
    redeemed_at: datetime | None = None
    redeemed_by: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the stamp holds and was not used before."""
        return self.reason == "valid"


def is_complete(study: Study, session: OrmSession, visit: Session) -> bool:
    """Say whether a session has done all its work: its recordings are acknowledged, or its trials are answered."""
    if isinstance(study.campaign, Collection):
        count = select(func.count()).select_from(Submission).where(Submission.session_id == visit.id)
        return (session.scalar(count) or 0) >= study.campaign.submissions_per_session
    assignments = select(func.count()).select_from(Assignment).where(Assignment.session_id == visit.id)
    open_ones = session.scalar(assignments.where(Assignment.answered_at.is_(None))) or 0
    return open_ones == 0 and (session.scalar(assignments) or 0) > 0


def finish_if_complete(study: Study, session: OrmSession, visit: Session, subject_id: str) -> bool:
    """Finish a session and issue its stamp if its work is complete; say whether the session is finished.

    Call it in the writing transaction that stored ``subject_id``, the submission or the assignment that may be the
    last one. Doing it twice changes nothing.
    """
    # The row's lock makes simultaneous last pieces of work wait for each other; the one that comes second sees both.
    # It is the lock without the key: each has locked the session's key by pointing to it, and they would wait forever.
    current = session.scalars(
        select(Session)
        .where(Session.id == visit.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    if current.state == "open" and is_complete(study, session, current):
        current.state, current.finished_at = "finished", now()
        session.add(Stamp(session_id=current.id, subject_id=subject_id))
        session.flush()
    return current.state == "finished"


def stamp_of(study: Study, session: OrmSession, visit: Session) -> str | None:
    """Give the text of a session's stamp; None if none was issued."""
    stamp = session.scalar(select(Stamp).where(Stamp.session_id == visit.id))
    return None if stamp is None else _text(study, stamp)


def verify(
    study: Study, session: OrmSession, text: str, *, worker: str | None = None, assignment: str | None = None
) -> Verdict:
    """Judge a text that claims to be a stamp.

    ``worker`` and ``assignment`` are the platform's names for who handed it in (``WorkerId`` and ``AssignmentId``, or
    ``PROLIFIC_PID`` and ``SESSION_ID``), if they are known: a stamp that was issued to somebody else does not hold.
    The same worker may hand it in for another assignment, because a task can be returned and accepted again.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        return Verdict("malformed")
    stamp = session.get(Stamp, found["nonce"], populate_existing=True)
    # Texts are compared, not decoded bytes: base64 leaves bits of the last letter unused.
    if stamp is None or not hmac.compare_digest(_text(study, stamp), text.strip()):
        return Verdict("forged")
    visit = session.get_one(Session, stamp.session_id)
    contributor = session.get_one(Contributor, visit.contributor_id)
    facts: dict[str, Any] = {
        "session_id": visit.id,
        "subject_id": stamp.subject_id,
        "platform": contributor.platform,
        "worker": contributor.external_id,
        "issued_at": stamp.issued_at,
        "redeemed_at": stamp.redeemed_at,
        "redeemed_by": stamp.redeemed_by,
    }
    known = visit.arrival.get("assignmentId") or visit.arrival.get("SESSION_ID")
    if worker is not None and contributor.external_id is not None:
        is_theirs = contributor.external_id == worker
    else:
        is_theirs = assignment is None or known in (None, assignment)
    if not is_theirs:
        return Verdict("not_theirs", **facts)
    return Verdict("valid" if stamp.redeemed_at is None else "redeemed", **facts)


def redeem(
    study: Study,
    text: str,
    actor: str,
    *,
    worker: str | None = None,
    assignment: str | None = None,
    redeemed_by: str | None = None,
) -> Verdict:
    """Judge a stamp as :func:`verify` does and, if it is valid, use it up; of several at once, one succeeds.

    ``redeemed_by`` is kept with the stamp, by default the actor.
    """
    with study.database.write() as session:
        verdict = verify(study, session, text, worker=worker, assignment=assignment)
        if not verdict.ok:
            return verdict
        nonce = text.strip().partition(".")[0]
        # Its condition decides, because on PostgreSQL another may have redeemed it since it was read.
        used: CursorResult[Any] = session.execute(  # type: ignore[assignment]
            update(Stamp)
            .where(Stamp.nonce == nonce, Stamp.redeemed_at.is_(None))
            .values(redeemed_at=now(), redeemed_by=redeemed_by or actor)
        )
        if used.rowcount == 0:
            return verify(study, session, text, worker=worker, assignment=assignment)
        audit(session, actor, "stamp.redeem", verdict.session_id)
        return verdict


def redeem_for_assignment(study: Study, text: str, worker: str, assignment: str, *, dry_run: bool = False) -> Verdict:
    """Use up a stamp for a platform's assignment; the same assignment may ask again, and the stamp still holds.

    ``dry_run`` only judges.
    """
    # With the stamp, which goes when its owner goes; not in the audit log, which stays.
    mark = f"assignment:{assignment}"
    if dry_run:
        with study.database.read() as session:
            verdict = verify(study, session, text, worker=worker, assignment=assignment)
    else:
        verdict = redeem(study, text, "command", worker=worker, assignment=assignment, redeemed_by=mark)
    if verdict.reason == "redeemed" and verdict.redeemed_by == mark:
        return replace(verdict, reason="valid")
    return verdict


def _text(study: Study, stamp: Stamp) -> str:
    work = "|".join((study.campaign.name, stamp.session_id, stamp.subject_id, stamp.nonce))
    return f"{stamp.nonce}.{study.signer(_PURPOSE).get_signature(work).decode()}"
