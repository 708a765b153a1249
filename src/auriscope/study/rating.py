"""A rater at work: which trial comes next, and the votes on it, taken once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study import headphones, stamps
from auriscope.study.assign import assign, assignments_of, release
from auriscope.study.ids import now
from auriscope.study.items import listening_of
from auriscope.study.participants import require_open
from auriscope.study.schema import Assignment, Session, Vote
from auriscope.study.study import Study

# Browsers round what they have played, and clocks differ a little.
_HEARD_SHARE, _HEARD_SLACK_SECONDS = 0.95, 0.25


class RatingError(AuriscopeError):
    """A vote or an answer that is not taken; ``key`` says why in a word, ``status`` is HTTP's."""

    def __init__(self, key: str, status: int, message: str) -> None:
        super().__init__(message)
        self.key, self.status = key, status


@dataclass(frozen=True)
class Progress:
    """Where a rater is: the trial to be rated, None at the end, and how many of how many are rated.

    ``number`` and ``total`` count the practice trials apart from the others.
    """

    assignment: Assignment | None
    is_practice: bool
    number: int
    total: int
    num_answered: int
    num_trials: int


@dataclass(frozen=True)
class Sound:
    """A sound of a trial, in the order of the page: ``kind`` is mixture, reference or rated."""

    kind: str
    storage_key: str
    seconds: float


@dataclass(frozen=True)
class Ballot:
    """What a rater says of a trial, all in the order of the page.

    ``scores``: 1 to 5 by rated sound. ``heard``: by sound, the mixture first, how many seconds of it were played,
    stretches that were played twice counted once; ``plays``: how often it was begun.
    ``seconds_on_page``: while it was visible.
    """

    scores: Sequence[int]
    heard: Sequence[float]
    plays: Sequence[int]
    seconds_on_page: float


@dataclass(frozen=True)
class Receipt:
    """The votes are kept; ``finished``: they were the session's last."""

    assignment: str
    num_answered: int
    num_trials: int
    finished: bool


def sounds_of(assignment: Assignment) -> list[Sound]:
    """Give the sounds of a trial in the order of the page: what is heard beside, then what is rated."""
    item = assignment.item
    context = [Sound(sound["label"], sound["storage_key"], sound["seconds"]) for sound in item.context]
    rated = [item.parts[part] for part in assignment.part_order]
    return [*context, *(Sound("rated", part["storage_key"], part["seconds"]) for part in rated)]


def progress(study: Study, visit: Session, *, show: bool) -> Progress:
    """Say where a rater is; makes an open session's list of trials first, if it has none.

    With ``show``, note when the trial was shown first. Raises ``Refused`` (full) if nothing is left to be rated.
    """
    with study.database.read() as session:
        found = _progress(session, visit)
    if found.num_trials == 0 and visit.state == "open":
        with study.database.write() as session:
            assign(study, session, visit)
        with study.database.read() as session:
            found = _progress(session, visit)
    if show and found.assignment is not None and found.assignment.shown_at is None:
        with study.database.write() as session:
            session.execute(
                update(Assignment)
                .where(Assignment.id == found.assignment.id, Assignment.shown_at.is_(None))
                .values(shown_at=now())
            )
    return found


def _progress(session: OrmSession, visit: Session) -> Progress:
    mine = assignments_of(session, visit, with_items=True)
    num_answered = sum(assignment.answered_at is not None for assignment in mine)
    current = next((assignment for assignment in mine if assignment.answered_at is None), None)
    if current is None:
        return Progress(None, False, 0, 0, num_answered, len(mine))
    is_practice = current.item.role == "training"
    alike = [other for other in mine if (other.item.role == "training") == is_practice]
    return Progress(current, is_practice, alike.index(current) + 1, len(alike), num_answered, len(mine))


def vote(study: Study, visit: Session, assignment_id: str, ballot: Ballot) -> Receipt:
    """Keep a rater's votes on all parts of a trial.

    The same votes again give the same receipt. Raises ``RatingError``: ``not_found``, ``scores`` (too few or too
    many), ``changed`` (other votes than before), ``order`` (an earlier trial is not rated, or this one was not shown)
    or ``listening`` (not everything was heard, or it cannot have been in so short a time).
    """
    with study.database.write() as session:
        # On PostgreSQL, the lock makes the same votes, sent twice at once, wait for each other.
        assignment = session.scalar(
            select(Assignment)
            .where(Assignment.id == assignment_id, Assignment.session_id == visit.id)
            .with_for_update()
        )
        if assignment is None:
            raise RatingError("not_found", 404, "there is no such trial in this session")
        current, mine = session.get_one(Session, visit.id), assignments_of(session, visit)
        if len(ballot.scores) != len(assignment.part_order):
            raise RatingError("scores", 409, f"there are {len(assignment.part_order)} sounds to rate")
        scores = dict(zip(assignment.part_order, ballot.scores, strict=True))
        if assignment.answered_at is not None:
            if {given.part: given.score for given in assignment.votes} != scores:
                raise RatingError("changed", 409, "this trial is rated already")
            return _receipt(mine, assignment, current.state == "finished")
        require_open(current)
        first = next(other for other in mine if other.answered_at is None)
        if first.id != assignment.id or assignment.shown_at is None:
            raise RatingError("order", 409, "trials are rated one after the other, as they are shown")
        answered_at = now()
        elapsed = (answered_at - assignment.shown_at).total_seconds()
        if listening_of(study).complete_listening:
            _check_listening(sounds_of(assignment), ballot, elapsed)
        assignment.answered_at = answered_at
        assignment.seconds_on_page = round(min(ballot.seconds_on_page, elapsed), 3)
        assignment.listened = _listened(assignment, ballot)
        session.add_all(Vote(assignment_id=assignment.id, part=part, score=score) for part, score in scores.items())
        session.flush()
        finished = stamps.finish_if_complete(study, session, visit, assignment.id)
        return _receipt(mine, assignment, finished)


def _receipt(mine: Sequence[Assignment], assignment: Assignment, finished: bool) -> Receipt:
    return Receipt(assignment.id, sum(other.answered_at is not None for other in mine), len(mine), finished)


def _check_listening(sounds: list[Sound], ballot: Ballot, elapsed: float) -> None:
    """What the page says was played, and the time that has passed here, must both allow for having heard it all."""
    if len(ballot.heard) != len(sounds) or any(
        heard < _HEARD_SHARE * sound.seconds - _HEARD_SLACK_SECONDS
        for heard, sound in zip(ballot.heard, sounds, strict=False)
    ):
        raise RatingError("listening", 409, "every sound is to be heard to its end before it is rated")
    needed = _HEARD_SHARE * sum(sound.seconds for sound in sounds) - _HEARD_SLACK_SECONDS * len(sounds)
    if min(elapsed, ballot.seconds_on_page) < needed:
        raise RatingError("listening", 409, "the sounds cannot have been heard in so short a time")


def _listened(assignment: Assignment, ballot: Ballot) -> dict[str, Any]:
    """Give what was heard by the sounds' own order, not by that of the page."""
    num_context = len(assignment.item.context)
    places = [num_context + assignment.part_order.index(part) for part in range(len(assignment.part_order))]

    def sorted_out(values: Sequence[float]) -> dict[str, list[float]]:
        if len(values) != num_context + len(places):
            return {}
        return {"context": list(values[:num_context]), "parts": [values[place] for place in places]}

    return {"heard_seconds": sorted_out([round(value, 2) for value in ballot.heard]), "plays": sorted_out(ballot.plays)}


def check_headphones(study: Study, visit: Session, attempt: int, answers: Sequence[int]) -> tuple[bool, int]:
    """Keep the answers of a rater's attempt (0, 1, …) at the headphone check; give whether it was passed, and how
    many attempts are left.

    The same answers again give the same. Raises ``RatingError``: ``answers`` (too few or too many) or ``changed``.
    """
    campaign = listening_of(study)
    if len(answers) != campaign.headphone_trials:
        raise RatingError("answers", 409, f"there are {campaign.headphone_trials} trials to answer")
    with study.database.write() as session:
        current = session.scalars(select(Session).where(Session.id == visit.id).with_for_update()).one()
        made = headphones.attempts_of(current)
        if attempt < len(made):
            if made[attempt]["answers"] != list(answers):
                raise RatingError("changed", 409, "this attempt is judged already")
        elif attempt > len(made) or not headphones.is_due(campaign, current):
            raise RatingError("changed", 409, "no such attempt is due")
        else:
            require_open(current)
            made.append(headphones.judge(campaign, current, answers))
            current.equipment = headphones.with_attempt(campaign, current, made[-1])
            if headphones.is_screened_out(campaign, current):
                release(session, current)
        passed = bool(made[attempt]["passed"])
        return passed, 0 if passed else headphones.MAX_ATTEMPTS - attempt - 1


def is_introduced(visit: Session) -> bool:
    """Say whether a rater has read the introduction."""
    return "introduced_at" in visit.progress


def introduce(study: Study, visit: Session) -> None:
    """Note that a rater has read the introduction."""
    with study.database.write() as session:
        current = session.scalars(select(Session).where(Session.id == visit.id).with_for_update()).one()
        if not is_introduced(current):
            current.progress = {**current.progress, "introduced_at": now().isoformat(timespec="seconds")}
