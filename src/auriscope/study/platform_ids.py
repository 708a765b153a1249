"""Forgetting the platforms' names of people who have been paid, as consent texts promise; their work stays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session as OrmSession

from auriscope.study.crowd import Payout, payouts
from auriscope.study.ids import now
from auriscope.study.removal import note_purge, purge
from auriscope.study.schema import Contributor, Session, Stamp
from auriscope.study.study import Study, audit


@dataclass(frozen=True)
class Forgotten:
    """Whose names were forgotten.

    ``num_kept`` counts contributors whose names are still needed: they take part, wait for a decision or a bonus, or
    ended too short a time ago. ``is_purged`` says whether the names are gone from the database's files too.
    """

    num_contributors: int
    num_sessions: int
    num_kept: int
    is_purged: bool


def forget(study: Study, actor: str, older_than_days: float = 0.0) -> Forgotten:
    """Forget what the platform calls people all of whose sessions are over, decided and paid.

    A finished session is over when its payment is decided and a bonus that is due was handed out; one that was left,
    when it cannot go on. Both must have ended ``older_than_days`` ago. The platform's ids of the worker, the task and
    the assignment go; recordings, answers and votes stay under the contributor's random name. Whoever comes again is
    taken for somebody new, so it is best done when a study is closed.
    """
    with study.database.write() as session:
        # Nobody begins under a name that is being forgotten.
        study.database.alone(session, "begin")
        due = {payout.session_id: payout for payout in payouts(study, session)}
        before = now() - timedelta(days=older_than_days)
        query = select(Contributor).where(Contributor.external_id.is_not(None)).order_by(Contributor.id)
        # A removal locks the contributor before the sessions too.
        named = session.scalars(query.with_for_update()).all()
        num_contributors = num_sessions = 0
        for contributor in named:
            visits = _visits_of(session, contributor)
            if not all(_is_over(study, visit, due.get(visit.id), before) for visit in visits):
                continue
            contributor.external_id = None
            for visit in visits:
                visit.arrival = {}
                marked = Stamp.redeemed_by.startswith("assignment:", autoescape=True)
                session.execute(
                    update(Stamp).where(Stamp.session_id == visit.id, marked).values(redeemed_by="assignment")
                )
            num_contributors, num_sessions = num_contributors + 1, num_sessions + len(visits)
        if num_contributors:
            counts = {"contributors": num_contributors, "sessions": num_sessions}
            audit(session, actor, "platform_ids.forget", details=counts)
            note_purge(study, session)
    return Forgotten(num_contributors, num_sessions, len(named) - num_contributors, purge(study))


def _visits_of(session: OrmSession, contributor: Contributor) -> list[Session]:
    query = select(Session).where(Session.contributor_id == contributor.id).order_by(Session.id)
    # Locked, so that none is finished, and then due, meanwhile.
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


def _is_over(study: Study, visit: Session, payout: Payout | None, before: datetime) -> bool:
    if visit.state == "open":
        ended_at = visit.started_at + timedelta(hours=study.campaign.limits.session_hours)
        return ended_at <= min(now(), before)
    if visit.finished_at is None or payout is None:
        # It is being removed, or was finished since the payments were read.
        return False
    is_paid = payout.decision != "wait" and (payout.bonus == 0 or payout.bonus_is_handed_out)
    return is_paid and visit.finished_at <= before
