"""Who rates what: balanced, by seed, in a fair order, and right when fifty come at once or leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select

from auriscope.study import items
from auriscope.study.assign import assign, choose, has_work, release, spread, times_taken
from auriscope.study.ids import now
from auriscope.study.participants import Arrival, Refused, begin
from auriscope.study.schema import Assignment, Item, Session
from auriscope.study.study import Study

CAMPAIGN: dict[str, Any] = {
    "kind": "listening",
    "name": "how-good",
    "title": "How good",
    "instructions": "Listen.",
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": "We keep your votes."},
    "items_per_session": 6,
    "ratings_per_item": 5,
    "gold_per_session": 2,
    "traps_per_session": 1,
    "training_items": 2,
}


@pytest.fixture
def study(
    open_study: Callable[..., Study],
    database_url: str,
    write_items: Callable[..., Path],
    request: pytest.FixtureRequest,
) -> Study:
    """Ten mixtures by three systems, each to be rated five times, six by a session: 25 sessions."""
    study = open_study(CAMPAIGN, database=database_url)
    write_items(study, num_mixtures=10, systems=("a", "b", "c"), num_training=2, num_gold=4, num_traps=3, seconds=0.02)
    items.load_if_empty(study)
    return study


def come(study: Study, worker: str | None = None, seed: int | None = None) -> Session:
    with study.database.write() as session:
        visit, _ = begin(study, session, Arrival("prolific" if worker else "link", worker), "en")
        if seed is not None:
            visit.seed = seed
    return visit


def listed(study: Study, visit: Session) -> list[Assignment]:
    """Make the list of a session."""
    with study.database.write() as session:
        return assign(study, session, visit)


def answer(study: Study, visit: Session, state: str = "finished") -> None:
    with study.database.write() as session:
        for assignment in session.scalars(select(Assignment).where(Assignment.session_id == visit.id)):
            assignment.answered_at = now()
        session.get_one(Session, visit.id).state = state


def ratings(study: Study) -> Counter[str]:
    with study.database.read() as session:
        taken = times_taken(study, session)
        return Counter({item.id: taken[item.id] for item in session.scalars(select(Item).where(Item.role == "trial"))})


def roles(assignments: Sequence[Assignment]) -> list[str]:
    return [assignment.item.role for assignment in assignments]


def test_every_item_gets_its_ratings_and_none_more(study: Study) -> None:
    for number in range(25):
        visit = come(study)
        found = listed(study, visit)
        assert Counter(roles(found)) == {"trial": 6, "training": 2, "gold": 2, "trap": 1}
        assert [assignment.position for assignment in found] == list(range(11))
        # At any moment no item is more than one rating ahead of another.
        taken = ratings(study)
        assert max(taken.values()) - min(taken.values()) <= 1
        # Systems are heard equally often by everybody.
        systems = Counter(assignment.item.system for assignment in found if assignment.item.role == "trial")
        if number % 5 == 0:
            assert set(systems.values()) == {2}
        answer(study, visit)
    assert set(ratings(study).values()) == {5}
    with study.database.read() as session:
        assert not has_work(study, session)
    with pytest.raises(Refused, match="full"):
        come(study)


def test_fifty_who_come_at_once_share_what_there_is(study: Study) -> None:
    # Of fifty, only 25 can be given work; all have consented before anybody has a list.
    visits = [come(study) for _ in range(50)]

    def work(visit: Session) -> int:
        try:
            with study.database.write() as session:
                return sum(a.item.role == "trial" for a in assign(study, session, visit))
        except Refused:
            return 0

    with ThreadPoolExecutor(25) as pool:
        given = list(pool.map(work, visits))
    assert sorted(given) == [0] * 25 + [6] * 25
    assert set(ratings(study).values()) == {5}


def test_the_same_session_that_asks_twice_at_once_has_one_list(study: Study) -> None:
    visit = come(study)

    def names(_: int) -> list[str]:
        with study.database.write() as session:
            return [assignment.id for assignment in assign(study, session, visit)]

    with ThreadPoolExecutor(8) as pool:
        lists = list(pool.map(names, range(8)))
    assert all(found == lists[0] for found in lists)
    assert len(lists[0]) == 11


def test_what_was_left_undone_comes_back_when_the_session_has_ended(study: Study) -> None:
    left = [come(study) for _ in range(25)]
    for visit in left:
        listed(study, visit)
    with pytest.raises(Refused, match="full"):
        come(study)
    hours = study.campaign.limits.session_hours
    with study.database.write() as session:
        session.get_one(Session, left[0].id).started_at = now() - timedelta(hours=hours + 1)
    mine = {a.item_id for a in listed(study, come(study)) if a.item.role == "trial"}
    with study.database.read() as session:
        theirs = session.scalars(
            select(Item.id).join(Assignment).where(Assignment.session_id == left[0].id, Item.role == "trial")
        )
        assert mine == set(theirs)


def test_votes_of_an_ended_session_still_count(study: Study) -> None:
    visit = come(study)
    first = listed(study, visit)[2]
    with study.database.write() as session:
        session.get_one(Assignment, first.id).answered_at = now()
        session.get_one(Session, visit.id).started_at = now() - timedelta(days=9)
    assert sum(ratings(study).values()) == (1 if first.item.role == "trial" else 0)


def test_what_a_removed_session_rated_is_rated_again(study: Study) -> None:
    visit = come(study)
    listed(study, visit)
    answer(study, visit, "removed")
    assert sum(ratings(study).values()) == 0


def test_what_is_released_is_free_at_once(study: Study) -> None:
    visit = come(study)
    assert sum(ratings(study).values()) == 0
    listed(study, visit)
    assert sum(ratings(study).values()) == 6
    with study.database.write() as session:
        release(session, visit)
    assert sum(ratings(study).values()) == 0


def test_practice_comes_first_and_checks_are_anywhere_after(study: Study) -> None:
    places: Counter[int] = Counter()
    for _ in range(20):
        found = roles(listed(study, come(study)))
        assert found[:2] == ["training", "training"]
        places.update(place for place, role in enumerate(found) if role in ("gold", "trap"))
    assert len(places) >= 7
    assert min(places) >= 2


def test_the_order_and_the_parts_follow_from_the_seeds(study: Study) -> None:
    lists = []
    for seed in (5, 5, 6):
        visit = come(study, seed=seed)
        found = listed(study, visit)
        lists.append([(assignment.item.name, assignment.part_order) for assignment in found])
        with study.database.write() as session:
            release(session, visit)
            session.get_one(Session, visit.id).state = "removed"
    assert lists[0] == lists[1]
    assert lists[0] != lists[2]


def test_parts_are_shown_in_either_order(study: Study) -> None:
    orders = Counter(tuple(a.part_order) for _ in range(10) for a in listed(study, come(study)))
    assert orders.keys() == {(0, 1), (1, 0)}
    assert min(orders.values()) > 30


def test_nobody_hears_an_item_in_two_sessions(
    open_study: Callable[..., Study], database_url: str, write_items: Callable[..., Path]
) -> None:
    study = open_study({**CAMPAIGN, "limits": {"sessions_per_contributor": 10}}, database=database_url)
    write_items(study, num_mixtures=10, systems=("a", "b"), num_training=2, num_gold=4, num_traps=1, seconds=0.02)
    items.load_if_empty(study)
    heard: Counter[str] = Counter()
    for _ in range(4):
        visit = come(study, "W1")
        found = listed(study, visit)
        heard.update(a.item.name for a in found if a.item.role == "trial")
        answer(study, visit)
        # There is one trap only: it comes every time. Of four gold items, two are new the second time.
        assert Counter(roles(found))["trap"] == 1
        assert Counter(roles(found))["gold"] == 2
    assert set(heard.values()) == {1}
    assert len(heard) == 20
    with pytest.raises(Refused, match="full"):
        listed(study, come(study, "W1"))
    listed(study, come(study, "W2"))


def fake(name: str, mixture: str, system: str = "s") -> Item:
    return Item(id=name, name=name, mixture=mixture, system=system, parts=[])


@pytest.mark.parametrize("seed", range(20))
def test_versions_of_a_mixture_stand_apart(seed: int) -> None:
    random = Random(seed)
    sizes = [random.randint(1, 5) for _ in range(random.randint(2, 8))]
    given = [fake(f"{group}.{number}", str(group)) for group, size in enumerate(sizes) for number in range(size)]
    order = spread(given, random)
    assert sorted(item.id for item in order) == sorted(item.id for item in given)
    beside = sum(one.mixture == other.mixture for one, other in pairwise(order))
    # A mixture with more than half of the places cannot be kept apart from itself; all others can.
    unavoidable = max(0, 2 * max(sizes) - len(given) - 1)
    assert beside == unavoidable


def test_versions_of_a_mixture_are_far_apart_in_a_long_list() -> None:
    given = [fake(f"{group}.{number}", str(group)) for group in range(10) for number in range(3)]
    distances = []
    for seed in range(50):
        order = [item.mixture for item in spread(given, Random(seed))]
        for group in range(10):
            places = [place for place, mixture in enumerate(order) if mixture == str(group)]
            distances += [later - earlier for earlier, later in pairwise(places)]
    # In an order by chance alone, every seventh pair would be nearer than three places.
    assert sum(distance < 3 for distance in distances) < 0.02 * len(distances)


def test_every_item_may_stand_anywhere() -> None:
    given = [fake(str(number), str(number)) for number in range(5)]
    firsts = Counter(spread(given, Random(seed))[0].id for seed in range(500))
    assert all(60 < firsts[item.id] < 140 for item in given)


def test_the_least_rated_are_chosen_first_and_systems_take_turns() -> None:
    given = [fake(f"{system}{number}", str(number), system) for system in "ab" for number in range(6)]
    taken = Counter({item.id: 1 for item in given if item.id != "b3"})
    chosen = choose(given, taken, 5, Random(3))
    assert chosen[0].id == "b3"
    assert Counter(item.system for item in chosen) in (Counter("aaabb"), Counter("aabbb"))
    assert {item.id for item in choose(given, taken, 99, Random(3))} == {item.id for item in given}
