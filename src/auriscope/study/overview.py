"""How a study stands: the figures of the dashboard, of ``auriscope study status`` and of Prometheus."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session as OrmSession

from auriscope.study.campaign import Collection
from auriscope.study.exports import failed_checks
from auriscope.study.ids import now
from auriscope.study.jobs import MAX_ATTEMPTS, scores
from auriscope.study.review import tally, waiting
from auriscope.study.schema import Assignment, Item, Review, Score, Session, Submission, Vote
from auriscope.study.storage import FolderStorage
from auriscope.study.study import Study

DAYS = 30
_STATES = ("open", "finished", "removed")
_HISTOGRAM_DB = range(-10, 30, 2)


@dataclass(frozen=True)
class Figures:
    """How a study stands at one moment; counts unless the name says otherwise. Nothing in it tells who people are.

    ``completion`` is the share of sessions that were finished (None: nobody has begun). ``suggestions`` are those of
    the reviewers' votes. ``scores`` counts separated tracks by blind SI-SNR, in steps of 2 dB from the key on.
    ``bytes_free`` is None where files do not lie in a folder.
    """

    at: datetime
    is_paused: bool
    sessions: dict[str, int]
    completion: float | None
    sessions_by_day: dict[str, int]
    submissions: int = 0
    recorded_seconds: float = 0.0
    submissions_by_day: dict[str, int] = field(default_factory=dict)
    checks_failing: dict[str, int] = field(default_factory=dict)
    checks_passed: int = 0
    votes: dict[str, int] = field(default_factory=dict)
    suggestions: dict[str, int] = field(default_factory=dict)
    review_waiting: int = 0
    payment: dict[str, int] = field(default_factory=dict)
    use: dict[str, int] = field(default_factory=dict)
    scores: dict[int, int] = field(default_factory=dict)
    bytes_stored: int = 0
    bytes_free: int | None = None
    work_left: dict[str, int] = field(default_factory=dict)
    raters: int = 0
    items: int = 0
    items_complete: int = 0
    ratings_per_item: dict[int, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give all figures as plain values."""
        return {**asdict(self), "at": self.at.isoformat()}


def figures(study: Study, session: OrmSession) -> Figures:
    """Count everything, as it is at one moment."""
    states = _counts(session, Session.state, _STATES)
    begun = sum(states.values())
    common: dict[str, Any] = {
        "at": now(),
        "is_paused": study.is_paused(session),
        "sessions": states,
        "completion": states["finished"] / begun if begun else None,
        "sessions_by_day": _by_day(session, Session.started_at),
    }
    if isinstance(study.campaign, Collection):
        return Figures(**common, **_of_collection(study, session))
    return Figures(**common, **_of_listening(study, session))


def opinions(session: OrmSession) -> list[tuple[str, int, float]]:
    """Give the systems of a listening study, their numbers of votes and mean opinions (1 to 5) so far."""
    query = (
        select(Item.system, func.count(), func.avg(Vote.score))
        .join(Assignment, Assignment.item_id == Item.id)
        .join(Vote, Vote.assignment_id == Assignment.id)
        .where(Item.role == "trial")
        .group_by(Item.system)
        .order_by(Item.system)
    )
    return [(system, count, float(mean)) for system, count, mean in session.execute(query)]


def work_left(study: Study, session: OrmSession) -> dict[str, int]:
    """Count the recordings that wait to be checked or scored, and those with which the worker has died too often."""

    def count(*conditions: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(Submission)
        return session.scalar(query.outerjoin(Score, Score.submission_id == Submission.id).where(*conditions)) or 0

    unchecked = Submission.checked_at.is_(None)
    gave_up = Submission.checks_failed >= MAX_ATTEMPTS
    counts = {"unchecked": count(unchecked, ~gave_up), "unscored": 0, "failed": count(unchecked, gave_up)}
    if scores(study):
        # What cannot be decoded is never scored.
        unscored = (
            Submission.checked_at.is_not(None),
            Score.submission_id.is_(None),
            Submission.checks[("decoding", "ok")].as_boolean().is_(None),
        )
        counts["unscored"] = count(*unscored, Submission.scoring_failed < MAX_ATTEMPTS)
        counts["failed"] += count(*unscored, Submission.scoring_failed >= MAX_ATTEMPTS)
    return counts


def _of_collection(study: Study, session: OrmSession) -> dict[str, Any]:
    failing: Counter[str] = Counter()
    passed = 0
    for checks in session.scalars(select(Submission.checks).where(Submission.checked_at.is_not(None))):
        failing.update(failed_checks(checks))
        passed += bool((checks or {}).get("ok"))
    seconds = select(Submission.sample_rate, func.sum(Submission.num_frames)).group_by(Submission.sample_rate)
    votes = tally()
    suggestions = select(votes.c.suggestion, func.count()).group_by(votes.c.suggestion)
    counted = {suggestion: count for suggestion, count in session.execute(suggestions) if suggestion}
    queue = select(func.count()).select_from(waiting(tally()).subquery())
    return {
        "submissions": session.scalar(select(func.count()).select_from(Submission)) or 0,
        "recorded_seconds": sum(float(frames) / rate for rate, frames in session.execute(seconds)),
        "submissions_by_day": _by_day(session, Submission.received_at),
        "checks_failing": dict(sorted(failing.items())),
        "checks_passed": passed,
        "votes": _counts(session, Review.vote, ("good", "bad", "unsure")),
        "suggestions": {name: counted.get(name, 0) for name in ("good", "bad", "unsure")},
        "review_waiting": session.scalar(queue) or 0,
        "payment": _counts(session, Submission.payment, ("pending", "approved", "rejected")),
        "use": _counts(session, Submission.use, ("pending", "included", "excluded")),
        "scores": _scores(session),
        "bytes_stored": int(session.scalar(select(func.sum(Submission.num_bytes))) or 0),
        "bytes_free": _bytes_free(study),
        "work_left": work_left(study, session),
    }


def _of_listening(study: Study, session: OrmSession) -> dict[str, Any]:
    answered = Assignment.answered_at.is_not(None)
    per_item = (
        select(Item.id, func.count(Assignment.id).label("ratings"))
        .outerjoin(Assignment, (Assignment.item_id == Item.id) & answered)
        .where(Item.role == "trial")
        .group_by(Item.id)
        .subquery()
    )
    spread = select(per_item.c.ratings, func.count()).group_by(per_item.c.ratings).order_by(per_item.c.ratings)
    ratings = {int(count): int(items) for count, items in session.execute(spread)}
    wanted = getattr(study.campaign, "ratings_per_item", 1)
    raters = select(func.count(Assignment.session_id.distinct())).where(answered)
    scores = {str(score): count for score, count in _counts(session, Vote.score, (1, 2, 3, 4, 5)).items()}
    return {
        "raters": session.scalar(raters) or 0,
        "items": sum(ratings.values()),
        "items_complete": sum(items for count, items in ratings.items() if count >= wanted),
        "ratings_per_item": ratings,
        "votes": scores,
        "bytes_free": _bytes_free(study),
    }


def _counts(session: OrmSession, column: Any, values: tuple[Any, ...]) -> dict[Any, int]:
    found = {row[0]: int(row[1]) for row in session.execute(select(column, func.count()).group_by(column))}
    return {value: found.get(value, 0) for value in values}


def _by_day(session: OrmSession, column: Any) -> dict[str, int]:
    """Count moments by day in UTC, over the last days, those without any too."""
    today = now().date()
    first = today - timedelta(days=DAYS - 1)
    midnight = datetime.combine(first, datetime.min.time(), tzinfo=now().tzinfo)
    counted: Counter[date] = Counter(
        moment.date() for moment in session.scalars(select(column).where(column >= midnight))
    )
    return {day.isoformat(): counted[day] for day in (first + timedelta(days=offset) for offset in range(DAYS))}


def _scores(session: OrmSession) -> dict[int, int]:
    counted: Counter[int] = Counter()
    for tracks in session.scalars(select(Score.tracks)):
        for track in tracks:
            value = track.get("blind_si_snr_db")
            if isinstance(value, int | float) and math.isfinite(value):
                step = int(value // 2 * 2)
                counted[min(max(step, _HISTOGRAM_DB[0]), _HISTOGRAM_DB[-1])] += 1
    return {step: counted[step] for step in _HISTOGRAM_DB} if counted else {}


def _bytes_free(study: Study) -> int | None:
    if not isinstance(study.storage, FolderStorage):
        return None
    folder = study.storage.root
    return shutil.disk_usage(folder if folder.exists() else study.folder).free
