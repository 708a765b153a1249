"""Who rates what: balanced, random by seed, and safe when many raters come at once.

An item counts as taken by every vote on it, and by every open session that may still vote on it. So the items of
somebody who left come back when their session has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from random import Random

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import joinedload

from auriscope.study.ids import now
from auriscope.study.items import listening_of
from auriscope.study.participants import Refused
from auriscope.study.schema import Assignment, Item, Session
from auriscope.study.study import Study


def assign(study: Study, session: OrmSession, visit: Session) -> list[Assignment]:
    """Give a session's list of trials in order; makes it when there is none yet.

    Call it in a writing transaction. The list depends on the campaign's seed, the session's seed and what others have
    taken. Raises ``Refused`` (full) when no item needs another rater.
    """
    # Assigning takes turns, on PostgreSQL by this lock on the rows, so that each sees what the one before has taken.
    trials = list(
        session.scalars(select(Item).where(Item.role == "trial").order_by(Item.name).with_for_update(key_share=True))
    )
    present = assignments_of(session, visit)
    if present:
        return present
    campaign = listening_of(study)
    heard = set(
        session.scalars(
            select(Assignment.item_id)
            .join(Session, Session.id == Assignment.session_id)
            .where(Session.contributor_id == visit.contributor_id)
        )
    )
    random = Random(f"{campaign.seed} {visit.seed}")
    taken = times_taken(study, session)
    wanting = [item for item in trials if taken[item.id] < campaign.ratings_per_item and item.id not in heard]
    rated = choose(wanting, taken, campaign.items_per_session, random)
    if not rated:
        raise Refused("full")
    others = session.scalars(select(Item).where(Item.role != "trial").order_by(Item.name)).all()
    practice = _drawn(others, heard, "training", campaign.training_items, random)
    practice.sort(key=lambda item: item.name)
    checks = [
        *_drawn(others, heard, "gold", campaign.gold_per_session, random),
        *_drawn(others, heard, "trap", campaign.traps_per_session, random),
    ]
    order = [*practice, *spread([*rated, *checks], random)]
    made = []
    for position, item in enumerate(order):
        parts = list(range(len(item.parts)))
        random.shuffle(parts)
        made.append(Assignment(session_id=visit.id, item_id=item.id, position=position, part_order=parts, item=item))
    session.add_all(made)
    session.flush()
    return made


def assignments_of(session: OrmSession, visit: Session, *, with_items: bool = False) -> list[Assignment]:
    """Give a session's list of trials in order, if asked with their items at once; empty before it was made."""
    mine = select(Assignment).where(Assignment.session_id == visit.id).order_by(Assignment.position)
    return list(session.scalars(mine.options(joinedload(Assignment.item)) if with_items else mine))


def times_taken(study: Study, session: OrmSession) -> Counter[str]:
    """Count by item the ratings that it has, and those that open sessions may still give."""
    oldest = now() - timedelta(hours=study.campaign.limits.session_hours)
    counts = (
        select(Assignment.item_id, func.count())
        .join(Session, Session.id == Assignment.session_id)
        .where(
            Session.state != "removed",
            or_(
                Assignment.answered_at.is_not(None),
                and_(Session.state == "open", Session.started_at >= oldest),
            ),
        )
        .group_by(Assignment.item_id)
    )
    return Counter({row[0]: row[1] for row in session.execute(counts)})


def has_work(study: Study, session: OrmSession) -> bool:
    """Say whether any item needs another rater; before there are items, that they will."""
    taken = times_taken(study, session)
    items = session.scalars(select(Item.id).where(Item.role == "trial")).all()
    return not items or any(taken[item] < listening_of(study).ratings_per_item for item in items)


def release(session: OrmSession, visit: Session) -> None:
    """Give back what a session has not rated, for one that will not go on."""
    for assignment in assignments_of(session, visit):
        if assignment.answered_at is None:
            session.delete(assignment)


def choose(items: Sequence[Item], taken: Counter[str], number: int, random: Random) -> list[Item]:
    """Choose the items that were taken least; among equals those of the systems chosen least so far, then by chance."""
    waiting = list(items)
    random.shuffle(waiting)
    chosen: list[Item] = []
    systems: Counter[str] = Counter()
    while waiting and len(chosen) < number:
        best = min(waiting, key=lambda item: (taken[item.id], systems[item.system]))
        waiting.remove(best)
        systems[best.system] += 1
        chosen.append(best)
    return chosen


def _drawn(items: Sequence[Item], heard: set[str], role: str, number: int, random: Random) -> list[Item]:
    """Draw items of a role, those first that the rater has not heard in an earlier session."""
    found = [item for item in items if item.role == role]
    random.shuffle(found)
    return sorted(found, key=lambda item: item.id in heard)[:number]


def spread(items: Sequence[Item], random: Random) -> list[Item]:
    """Put items in a random order with the versions of one mixture far apart; side by side only if it cannot be helped.

    Every mixture's versions are laid out evenly over the whole list, from a random start; then the list is filled in
    this order, passing over what would stand beside its like, or would leave too many of one mixture for the end.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.mixture, []).append(item)
    laid: list[tuple[float, float, Item]] = []
    for versions in groups.values():
        random.shuffle(versions)
        start = random.random()
        laid += [((place + start) / len(versions), random.random(), item) for place, item in enumerate(versions)]
    waiting = [item for _, _, item in sorted(laid, key=lambda entry: entry[:2])]
    left = Counter(item.mixture for item in waiting)
    order: list[Item] = []
    while waiting:
        last = order[-1].mixture if order else None
        apart = [item for item in waiting if item.mixture != last]
        best = next((item for item in apart if _can_go_on(left, item.mixture)), None)
        if best is None:
            best = max(apart or waiting, key=lambda item: left[item.mixture])
        waiting.remove(best)
        left[best.mixture] -= 1
        order.append(best)
    return order


def _can_go_on(left: Counter[str], mixture: str) -> bool:
    """Say whether, after one of ``mixture``, the rest can be put so that no two of a mixture stand side by side."""
    rest = left.total() - 1
    return all(2 * (number - 1) <= rest if name == mixture else 2 * number <= rest + 1 for name, number in left.items())
