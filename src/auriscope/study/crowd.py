"""Crowd platforms: where participants are sent at the end, and who is to be paid what.

A session is paid or not by what reviewers decided of its recordings' *payment*; whether a recording is *used* in the
corpus plays no part in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study.campaign import Collection
from auriscope.study.schema import AuditEntry, Contributor, Session, Stamp, Submission
from auriscope.study.study import Study, audit

PROLIFIC_COMPLETE = "https://app.prolific.com/submissions/complete?cc="
BONUS_HANDED_OUT = "payments.bonus"
"""The audit log's action for a bonus that was written into a file or sent; a session gets one once."""

Decision = Literal["approve", "reject", "wait"]


def completion_link(study: Study, visit: Session) -> str | None:
    """Give where a Prolific participant who has finished goes to hand in the completion code; None for all others."""
    prolific = study.campaign.prolific
    if prolific is None or visit.state != "finished" or not _comes_from_prolific(study, visit):
        return None
    return PROLIFIC_COMPLETE + prolific.completion_code


def screen_out_link(study: Study, visit: Session) -> str | None:
    """Give where a Prolific participant goes who cannot take part; None for all others, or if there is no code."""
    prolific = study.campaign.prolific
    if prolific is None or prolific.screen_out_code is None or not _comes_from_prolific(study, visit):
        return None
    return PROLIFIC_COMPLETE + prolific.screen_out_code


def _comes_from_prolific(study: Study, visit: Session) -> bool:
    with study.database.read() as session:
        contributor = session.get(Contributor, visit.contributor_id)
        return contributor is not None and contributor.platform == "prolific"


@dataclass(frozen=True)
class Override:
    """What somebody decided about a session by hand, or by the analysis of its votes."""

    decision: Decision | None = None
    bonus: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Payout:
    """What a session is due: ``amount`` and ``bonus`` in the campaign's currency, zero unless it is approved.

    ``assignment`` is Mechanical Turk's AssignmentId or Prolific's SESSION_ID, ``batch`` its HITId or STUDY_ID.
    """

    session_id: str
    contributor_id: str
    platform: str
    worker: str | None
    assignment: str | None
    batch: str | None
    state: str
    has_stamp: bool
    decision: Decision
    reason: str
    amount: float
    bonus: float
    bonus_is_handed_out: bool
    num_approved: int = 0
    num_rejected: int = 0
    num_pending: int = 0


def payouts(
    study: Study, session: OrmSession, overrides: Mapping[str, Override] | None = None, min_approved: float = 0.5
) -> list[Payout]:
    """Say of every session, in the order in which they began, what it is due.

    A finished collection session waits until all of its recordings are decided; it is approved when at least the share
    ``min_approved`` of them is, and gets the campaign's bonus when all are. A finished listening session is approved,
    with a bonus only by an override. ``overrides`` are by session or contributor; one that names neither is an error.
    One of a contributor is about their finished sessions, and its bonus is paid once: with the first of them that is
    approved, or with the one that a bonus was handed out for before.
    """
    overrides = dict(overrides or {})
    visits = session.execute(
        select(Session, Contributor)
        .join(Contributor)
        .where(Session.state != "removed")
        .order_by(Session.started_at, Session.id)
    ).all()
    known = {name for visit, contributor in visits for name in (visit.id, contributor.id)}
    if strangers := sorted(set(overrides) - known):
        raise AuriscopeError(
            f"{strangers[0]}: there is no such session or contributor; decisions name them by their id"
        )
    counts = _payments_by_session(session)
    reasons = _rejection_reasons(session)
    stamped = set(session.scalars(select(Stamp.session_id)))
    handed_out = set(session.scalars(select(AuditEntry.subject).where(AuditEntry.action == BONUS_HANDED_OUT)))
    has_bonus = {contributor.id for visit, contributor in visits if visit.id in handed_out}
    found = []
    for visit, contributor in visits:
        count = counts.get(visit.id, Counter())
        decision, reason, bonus = _decide(study, visit, count, reasons.get(visit.id, ""), min_approved)
        payout = Payout(
            session_id=visit.id,
            contributor_id=contributor.id,
            platform=contributor.platform,
            worker=contributor.external_id,
            assignment=visit.arrival.get("assignmentId") or visit.arrival.get("SESSION_ID"),
            batch=visit.arrival.get("hitId") or visit.arrival.get("STUDY_ID"),
            state=visit.state,
            has_stamp=visit.id in stamped,
            decision=decision,
            reason=reason,
            amount=0.0,
            bonus=bonus,
            bonus_is_handed_out=visit.id in handed_out,
            num_approved=count["approved"],
            num_rejected=count["rejected"],
            num_pending=count["pending"],
        )
        override = overrides.get(visit.id)
        if override is None and visit.state == "finished" and (of_person := overrides.get(contributor.id)) is not None:
            goes_elsewhere = contributor.id in has_bonus and visit.id not in handed_out
            override = replace(of_person, bonus=0.0) if of_person.bonus is not None and goes_elsewhere else of_person
            if of_person.bonus is not None and _with_amounts(study, payout, override).bonus > 0:
                overrides[contributor.id] = replace(of_person, bonus=0.0)
        found.append(_with_amounts(study, payout, override))
    return found


def _decide(
    study: Study, visit: Session, count: Counter[str], reasons: str, min_approved: float
) -> tuple[Decision, str, float]:
    if visit.state != "finished":
        return "wait", f"the session is {visit.state}", 0.0
    if not isinstance(study.campaign, Collection):
        return "approve", "", 0.0
    if count["pending"]:
        return "wait", f"{count['pending']} recordings are not decided", 0.0
    total = count["approved"] + count["rejected"]
    if total and count["approved"] / total < min_approved:
        return "reject", reasons or "The recordings do not follow the instructions.", 0.0
    return "approve", "", study.campaign.payment.bonus if not count["rejected"] else 0.0


def _with_amounts(study: Study, payout: Payout, override: Override | None) -> Payout:
    if override is not None:
        if override.decision is not None:
            payout = replace(payout, decision=override.decision, reason=override.reason)
        if override.bonus is not None:
            payout = replace(payout, bonus=override.bonus)
    if payout.decision != "approve":
        return replace(payout, bonus=0.0)
    return replace(payout, amount=study.campaign.payment.amount)


def _payments_by_session(session: OrmSession) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    rows = session.execute(
        select(Submission.session_id, Submission.payment, func.count()).group_by(
            Submission.session_id, Submission.payment
        )
    )
    for session_id, payment, number in rows:
        counts.setdefault(session_id, Counter())[payment] = number
    return counts


def _rejection_reasons(session: OrmSession) -> dict[str, str]:
    """Join the reasons for which recordings of a session were not paid, each once, in the order of the recordings."""
    reasons: dict[str, dict[str, None]] = {}
    rows = session.execute(
        select(Submission.session_id, Submission.payment_reason)
        .where(Submission.payment == "rejected", Submission.payment_reason.is_not(None))
        .order_by(Submission.received_at, Submission.id)
    )
    for session_id, reason in rows:
        reasons.setdefault(session_id, {})[" ".join((reason or "").split())] = None
    return {session_id: "; ".join(filter(None, found)) for session_id, found in reasons.items()}


def record_bonuses(study: Study, payouts: Iterable[Payout], actor: str) -> None:
    """Write down that the bonuses of sessions were handed out, so that nobody is paid one twice."""
    with study.database.write() as session:
        for payout in payouts:
            details = {"amount": payout.bonus, "currency": study.campaign.payment.currency}
            audit(session, actor, BONUS_HANDED_OUT, payout.session_id, details)
