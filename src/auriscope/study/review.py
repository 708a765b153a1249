"""The review queue: reviewers listen to one submission at a time and vote; owners decide about payment and use.

Two reviewers vote on every submission. Two votes that agree are the suggestion; if they do not, a third reviewer is
asked, and two of three are the suggestion. Nobody hears a submission twice, and while somebody listens to one, others
are given others. Payment and use in the corpus are two decisions: bad luck with a microphone can be paid work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, case, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study.ids import now
from auriscope.study.schema import Review, Session, Submission
from auriscope.study.study import audit

VOTES = ("good", "bad", "unsure")
REASONS = {
    "silence": "Hardly anything is heard",
    "noise": "Noise covers the voices",
    "distortion": "Distorted or cut off",
    "one_voice": "Only one voice",
    "one_after_other": "One after the other, not at once",
    "wrong_text": "Other sentences",
    "playback": "From a loudspeaker, or synthetic",
    "other": "Something else",
}
DECISIONS = {"payment": ("pending", "approved", "rejected"), "use": ("pending", "included", "excluded")}
REASON_NEEDED = ("rejected", "excluded")
CLAIM_MINUTES = 20
MAX_NOTE_LETTERS = 1000

_ENOUGH = 2
_CANDIDATES = 20


@dataclass(frozen=True)
class Filter:
    """Which submissions are meant: by suggestion, checks, payment and use; None means any.

    ``suggestion`` is good, bad, unsure or open (votes are missing); ``checks`` is passed, failed or open.
    """

    suggestion: str | None = None
    checks: str | None = None
    payment: str | None = None
    use: str | None = None
    session: str | None = None


def tally() -> Subquery:
    """Count the votes of every submission that has any, with the ``suggestion`` they make (NULL: ask one more)."""
    counts = {vote: func.sum(case((Review.vote == vote, 1), else_=0)) for vote in VOTES}
    total = func.count()
    suggestion = case(*((counts[vote] >= _ENOUGH, vote) for vote in VOTES), (total > _ENOUGH, "unsure"), else_=None)
    return (
        select(
            Review.submission_id,
            total.label("num_votes"),
            suggestion.label("suggestion"),
            *(counts[vote].label(vote) for vote in VOTES),
        )
        .group_by(Review.submission_id)
        .subquery("tally")
    )


def _is_pending() -> ColumnElement[bool]:
    return or_(Submission.payment == "pending", Submission.use == "pending")


def waiting(votes: Subquery) -> Select[Submission]:
    """Select the submissions that want another vote, by :func:`tally`: undecided, and not being removed."""
    return (
        select(Submission)
        .join(Session, Session.id == Submission.session_id)
        .outerjoin(votes, votes.c.submission_id == Submission.id)
        .where(Session.state.in_(("open", "finished")), votes.c.suggestion.is_(None), _is_pending())
    )


def claim_next(session: OrmSession, account_id: str, *, skipped: str | None = None) -> Submission | None:
    """Give a reviewer the submission to listen to now, and keep it from others for a while; None if there is none.

    Who comes back without having voted gets the same one again. Those with a vote come first, then those whose checks
    have run, then the oldest. ``skipped`` is left to others. Needs a writing session.
    """
    moment = now()
    votes = tally()
    mine = select(Review.id).where(Review.submission_id == Submission.id, Review.account_id == account_id).exists()
    is_free = or_(
        Submission.claimed_until.is_(None), Submission.claimed_until <= moment, Submission.claimed_by == account_id
    )
    is_held = (Submission.claimed_by == account_id) & (Submission.claimed_until > moment)
    candidates = session.scalars(
        waiting(votes)
        .where(~mine, is_free, Submission.id != (skipped or ""))
        .order_by(
            case((is_held, 0), else_=1),
            func.coalesce(votes.c.num_votes, 0).desc(),
            case((Submission.checked_at.is_(None), 1), else_=0),
            Submission.received_at,
            Submission.id,
        )
        .limit(_CANDIDATES)
    ).all()
    for candidate in candidates:
        # The condition decides: on PostgreSQL another may have taken it since it was read.
        taken: CursorResult[Any] = session.execute(  # type: ignore[assignment]
            update(Submission)
            .where(Submission.id == candidate.id, is_free)
            .values(claimed_by=account_id, claimed_until=moment + timedelta(minutes=CLAIM_MINUTES))
            .execution_options(synchronize_session=False)
        )
        if taken.rowcount:
            return candidate
    return None


def release_claims(session: OrmSession, account_id: str) -> None:
    """Let others have whatever a reviewer was listening to."""
    session.execute(
        update(Submission).where(Submission.claimed_by == account_id).values(claimed_by=None, claimed_until=None)
    )


def release_claim(session: OrmSession, account_id: str, submission_id: str) -> None:
    """Let others have a submission that a reviewer does not want to judge."""
    session.execute(
        update(Submission)
        .where(Submission.id == submission_id, Submission.claimed_by == account_id)
        .values(claimed_by=None, claimed_until=None)
    )


def vote(
    session: OrmSession,
    account_id: str,
    submission_id: str,
    choice: str,
    reasons: list[str] | None = None,
    note: str | None = None,
) -> Review:
    """Keep a reviewer's vote; ``AuriscopeError`` if it is none, is their second, or comes after enough others."""
    reasons, note = reasons or [], (note or "").strip() or None
    if choice not in VOTES:
        raise AuriscopeError(f"{choice!r} is no vote; choose {', '.join(VOTES)}")
    if unknown := [reason for reason in reasons if reason not in REASONS]:
        raise AuriscopeError(f"{unknown[0]!r} is no reason; choose among {', '.join(REASONS)}")
    if note is not None and (len(note) > MAX_NOTE_LETTERS or "\x00" in note):
        raise AuriscopeError(f"a note has at most {MAX_NOTE_LETTERS} letters")
    submission = _locked(session, submission_id)
    given = session.scalars(select(Review).where(Review.submission_id == submission_id)).all()
    if any(review.account_id == account_id for review in given):
        raise AuriscopeError("you have voted on this submission before; a vote is not changed")
    if suggestion_of([review.vote for review in given]) is not None:
        raise AuriscopeError("this submission has got its votes meanwhile; go on with the next one")
    review = Review(submission_id=submission_id, account_id=account_id, vote=choice, reasons=reasons, note=note)
    session.add(review)
    if submission.claimed_by == account_id:
        submission.claimed_by = submission.claimed_until = None
    audit(session, account_id, "review.vote", submission_id, {"vote": choice})
    session.flush()
    return review


def suggestion_of(votes: list[str]) -> str | None:
    """Say what votes suggest; None as long as another one is wanted.

    >>> suggestion_of(["good", "good"]), suggestion_of(["good", "bad"]), suggestion_of(["good", "bad", "bad"])
    ('good', None, 'bad')
    >>> suggestion_of(["good", "bad", "unsure"])
    'unsure'
    """
    for choice in VOTES:
        if votes.count(choice) >= _ENOUGH:
            return choice
    return "unsure" if len(votes) > _ENOUGH else None


def decide(
    session: OrmSession, account_id: str, submission_id: str, field: str, decision: str, reason: str | None = None
) -> Submission:
    """Decide about the ``payment`` or the ``use`` of a submission; ``AuriscopeError`` if a refusal has no reason."""
    reason = _checked_reason(field, decision, reason)
    submission = _locked(session, submission_id)
    before = getattr(submission, field)
    setattr(submission, field, decision)
    setattr(submission, f"{field}_reason", reason)
    audit(session, account_id, f"decision.{field}", submission_id, {"from": before, "to": decision})
    return submission


def matching(chosen: Filter) -> Select[Submission, str | None, int]:
    """Select the submissions of a filter, with their suggestion and number of votes, the oldest first."""
    votes = tally()
    query = (
        select(Submission, votes.c.suggestion, func.coalesce(votes.c.num_votes, 0))
        .outerjoin(votes, votes.c.submission_id == Submission.id)
        .order_by(Submission.received_at, Submission.id)
    )
    if chosen.suggestion == "open":
        query = query.where(votes.c.suggestion.is_(None))
    elif chosen.suggestion is not None:
        query = query.where(votes.c.suggestion == chosen.suggestion)
    if chosen.checks == "open":
        query = query.where(Submission.checked_at.is_(None))
    elif chosen.checks is not None:
        query = query.where(
            Submission.checked_at.is_not(None), Submission.checks["ok"].as_boolean() == (chosen.checks == "passed")
        )
    if chosen.payment is not None:
        query = query.where(Submission.payment == chosen.payment)
    if chosen.use is not None:
        query = query.where(Submission.use == chosen.use)
    if chosen.session is not None:
        query = query.where(Submission.session_id == chosen.session)
    return query


def count_matching(session: OrmSession, chosen: Filter) -> int:
    """Count the submissions of a filter."""
    return session.scalar(select(func.count()).select_from(matching(chosen).order_by(None).subquery())) or 0


def decide_all(
    session: OrmSession,
    account_id: str,
    chosen: Filter,
    field: str,
    decision: str,
    reason: str | None = None,
    *,
    expected: int,
) -> int:
    """Decide about all submissions of a filter that are not decided yet, and say how many there were.

    ``expected`` is how many undecided ones the owner saw; ``AuriscopeError`` if there are more or fewer by now, so that
    nobody decides about what they have not seen.
    """
    reason = _checked_reason(field, decision, reason)
    names = [row[0].id for row in session.execute(matching(undecided(chosen, field)).with_for_update(of=Submission))]
    if len(names) != expected:
        raise AuriscopeError(
            f"there are {len(names)} such submissions by now, not {expected}; look at them and decide again"
        )
    for start in range(0, len(names), 500):
        session.execute(
            update(Submission)
            .where(Submission.id.in_(names[start : start + 500]))
            .values({field: decision, f"{field}_reason": reason})
            .execution_options(synchronize_session=False)
        )
    for name in names:
        audit(session, account_id, f"decision.{field}", name, {"from": "pending", "to": decision, "bulk": True})
    return len(names)


def undecided(chosen: Filter, field: str) -> Filter:
    """Give the part of a filter about which a bulk decision would be made."""
    return replace(chosen, **{field: "pending"})


def _checked_reason(field: str, decision: str, reason: str | None) -> str | None:
    reason = (reason or "").strip() or None
    if field not in DECISIONS or decision not in DECISIONS[field]:
        raise AuriscopeError(f"{decision!r} is no decision about {field}")
    if decision in REASON_NEEDED and reason is None:
        raise AuriscopeError(f"say why it is {decision}: whoever worked for it may ask")
    if reason is not None and (len(reason) > MAX_NOTE_LETTERS or "\x00" in reason):
        raise AuriscopeError(f"a reason has at most {MAX_NOTE_LETTERS} letters")
    return reason


def _locked(session: OrmSession, submission_id: str) -> Submission:
    """Give a submission with its row locked, so that votes and decisions about it come one after the other."""
    submission = session.scalar(
        select(Submission)
        .where(Submission.id == submission_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if submission is None:
        raise AuriscopeError("there is no such submission; it may have been removed")
    return submission
