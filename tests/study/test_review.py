"""The review queue: two votes of different people, a third when they disagree, and decisions apart from votes."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import select

from auriscope.errors import AuriscopeError
from auriscope.study.ids import now
from auriscope.study.overview import figures
from auriscope.study.review import (
    Filter,
    claim_next,
    count_matching,
    decide,
    decide_all,
    matching,
    release_claim,
    release_claims,
    suggestion_of,
    tally,
    vote,
    waiting,
)
from auriscope.study.schema import AuditEntry, Review, Session, Submission
from auriscope.study.study import Study

from .filled import add_accounts, fill_collection


@pytest.fixture
def reviewers(collection: Study) -> list[str]:
    accounts = add_accounts(collection)
    return [accounts[name] for name in ("rita", "rolf", "ruth")]


def fill(study: Study, num_sessions: int = 2) -> list[str]:
    """Give the ids of recordings of people who have not withdrawn."""
    return fill_collection(study, num_sessions=num_sessions, per_session=1)


def claim(study: Study, account: str, skipped: str | None = None) -> str | None:
    with study.database.write() as session:
        submission = claim_next(session, account, skipped=skipped)
        return submission.id if submission is not None else None


def give(study: Study, account: str, submission: str, choice: str) -> None:
    with study.database.write() as session:
        vote(session, account, submission, choice)


def suggestions(study: Study) -> dict[str, tuple[str | None, int]]:
    with study.database.read() as session:
        return {row[0].id: (row[1], row[2]) for row in session.execute(matching(Filter()))}


def test_two_reviewers_get_different_recordings_and_each_its_own_again(collection: Study, reviewers: list[str]) -> None:
    ids = fill(collection)
    first, second = claim(collection, reviewers[0]), claim(collection, reviewers[1])
    assert {first, second} == set(ids)
    assert claim(collection, reviewers[0]) == first
    assert claim(collection, reviewers[2]) is None
    with collection.database.write() as session:
        held = session.get_one(Submission, first)
        held.claimed_until = now() - timedelta(seconds=1)
    assert claim(collection, reviewers[2]) == first


def test_nobody_hears_a_recording_twice(collection: Study, reviewers: list[str]) -> None:
    ids = fill(collection)
    for _ in ids:
        name = claim(collection, reviewers[0])
        assert name is not None
        give(collection, reviewers[0], name, "good")
    assert claim(collection, reviewers[0]) is None
    with pytest.raises(AuriscopeError, match="voted on this submission before"):
        give(collection, reviewers[0], ids[0], "bad")
    assert claim(collection, reviewers[1]) in ids


@pytest.mark.parametrize(
    ("votes", "suggestion"),
    [
        ([], None),
        (["good"], None),
        (["good", "good"], "good"),
        (["bad", "bad"], "bad"),
        (["unsure", "unsure"], "unsure"),
        (["good", "bad"], None),
        (["good", "unsure"], None),
        (["good", "bad", "good"], "good"),
        (["good", "bad", "bad"], "bad"),
        (["good", "bad", "unsure"], "unsure"),
    ],
)
def test_votes_that_agree_are_a_suggestion(
    collection: Study, reviewers: list[str], votes: list[str], suggestion: str | None
) -> None:
    (name,) = fill(collection, 1)
    for account, choice in zip(reviewers, votes, strict=False):
        assert claim(collection, account) == name
        give(collection, account, name, choice)
    assert suggestions(collection) == {name: (suggestion, len(votes))}
    assert suggestion_of(votes) == suggestion
    with collection.database.read() as session:
        left = session.scalars(waiting(tally())).all()
    assert [submission.id for submission in left] == ([name] if suggestion is None else [])
    if suggestion is not None and len(votes) < 3:
        with pytest.raises(AuriscopeError, match="has got its votes"):
            give(collection, reviewers[len(votes)], name, "good")


def test_what_was_begun_comes_first_and_what_was_skipped_waits(collection: Study, reviewers: list[str]) -> None:
    ids = fill(collection, 3)
    give(collection, reviewers[0], ids[2], "good")
    assert claim(collection, reviewers[1]) == ids[2]
    with collection.database.write() as session:
        release_claim(session, reviewers[1], ids[2])
    skipped = claim(collection, reviewers[1], skipped=ids[2])
    assert skipped in ids[:2]
    assert claim(collection, reviewers[2]) == ids[2]


def test_the_only_recording_can_be_left_to_others(collection: Study, reviewers: list[str]) -> None:
    (only,) = fill(collection, 1)
    assert claim(collection, reviewers[0]) == only
    assert claim(collection, reviewers[1]) is None
    with collection.database.write() as session:
        release_claim(session, reviewers[0], only)
    assert claim(collection, reviewers[0], skipped=only) is None
    assert claim(collection, reviewers[1]) == only
    with collection.database.write() as session:
        release_claims(session, reviewers[1])
    assert claim(collection, reviewers[0]) == only


def test_recordings_that_are_being_removed_and_decided_ones_are_not_offered(
    collection: Study, reviewers: list[str]
) -> None:
    ids = fill(collection, 2)
    with collection.database.write() as session:
        session.get_one(Session, session.get_one(Submission, ids[0]).session_id).state = "removed"
        decide(session, reviewers[0], ids[1], "payment", "approved")
        decide(session, reviewers[0], ids[1], "use", "included")
    assert claim(collection, reviewers[0]) is None


def test_reviewers_at_once_share_the_work_without_meeting(collection: Study, reviewers: list[str]) -> None:
    ids = fill(collection, 3)
    held: list[tuple[str, str]] = []
    problems: list[BaseException] = []
    barrier = threading.Barrier(len(reviewers))

    def review(account: str) -> None:
        try:
            barrier.wait(30)
            name = claim(collection, account)
            assert name is not None
            held.append((account, name))
            barrier.wait(30)
            while name is not None:
                # Held for longer than it was kept for them: that is said, and they go on with the next one.
                with suppress(AuriscopeError):
                    give(collection, account, name, "good")
                name = claim(collection, account)
        except BaseException as error:
            problems.append(error)
            barrier.abort()

    threads = [threading.Thread(target=review, args=(account,)) for account in reviewers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert len({name for _, name in held}) == 3
    # A reviewer may have gone home while the last one was held by another; whoever comes back gets it.
    for account in reviewers:
        while (name := claim(collection, account)) is not None:
            give(collection, account, name, "good")
    assert suggestions(collection) == dict.fromkeys(ids, ("good", 2))


def test_the_same_vote_sent_twice_at_once_counts_once(collection: Study, reviewers: list[str]) -> None:
    (name,) = fill(collection, 1)
    barrier, outcomes = threading.Barrier(4), Counter[str]()

    def send() -> None:
        barrier.wait(30)
        try:
            give(collection, reviewers[0], name, "good")
            outcomes["kept"] += 1
        except AuriscopeError:
            outcomes["refused"] += 1

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == {"kept": 1, "refused": 3}


@pytest.mark.parametrize(
    ("choice", "reasons", "note"),
    [("great", [], None), ("bad", ["ugly"], None), ("bad", [], "x" * 1001), ("bad", [], "a\x00b")],
)
def test_a_vote_that_is_none_is_refused(
    collection: Study, reviewers: list[str], choice: str, reasons: list[str], note: str | None
) -> None:
    (name,) = fill(collection, 1)
    with pytest.raises(AuriscopeError), collection.database.write() as session:
        vote(session, reviewers[0], name, choice, reasons, note)
    with collection.database.read() as session:
        assert session.scalars(select(Review)).all() == []


def test_payment_and_use_are_decided_apart_and_refusals_have_reasons(collection: Study, reviewers: list[str]) -> None:
    (name,) = fill(collection, 1)
    with collection.database.write() as session:
        decide(session, reviewers[0], name, "payment", "approved")
        decide(session, reviewers[0], name, "use", "excluded", " one voice only ")
    with collection.database.read() as session:
        submission = session.get_one(Submission, name)
        assert (submission.payment, submission.payment_reason) == ("approved", None)
        assert (submission.use, submission.use_reason) == ("excluded", "one voice only")
        entries = session.scalars(select(AuditEntry).where(AuditEntry.subject == name)).all()
        assert [(entry.action, entry.details) for entry in entries] == [
            ("decision.payment", {"from": "pending", "to": "approved"}),
            ("decision.use", {"from": "pending", "to": "excluded"}),
        ]
    for field, decision in (("payment", "rejected"), ("use", "excluded"), ("payment", "included"), ("id", "pending")):
        with pytest.raises(AuriscopeError), collection.database.write() as session:
            decide(session, reviewers[0], name, field, decision, "  ")
    with pytest.raises(AuriscopeError, match="no such submission"), collection.database.write() as session:
        decide(session, reviewers[0], "sub_none", "payment", "approved")


def test_a_decision_about_many_takes_those_that_were_seen_and_are_open(collection: Study, reviewers: list[str]) -> None:
    ids = fill_collection(collection, reviewers[:2], num_sessions=6, per_session=2)
    found = suggestions(collection)
    good = [name for name in ids if found[name][0] == "good"]
    assert len(good) >= 2
    chosen = Filter(suggestion="good")
    with collection.database.write() as session:
        assert count_matching(session, chosen) == len(good)
        decide(session, reviewers[0], good[0], "payment", "rejected", "noise only")
    with pytest.raises(AuriscopeError, match="decide again"), collection.database.write() as session:
        decide_all(session, reviewers[0], chosen, "payment", "approved", expected=len(good))
    with collection.database.write() as session:
        changed = decide_all(session, reviewers[0], chosen, "payment", "approved", expected=len(good) - 1)
        assert changed == len(good) - 1
    with collection.database.read() as session:
        states = {row.id: (row.payment, row.use) for row in session.scalars(select(Submission))}
        assert figures(collection, session).payment == {
            "pending": len(ids) - len(good),
            "approved": len(good) - 1,
            "rejected": 1,
        }
    expected = {**dict.fromkeys(ids, ("pending", "pending")), **dict.fromkeys(good, ("approved", "pending"))}
    assert states == {**expected, good[0]: ("rejected", "pending")}


def test_filters_divide_what_there_is(collection: Study, reviewers: list[str]) -> None:
    ids = fill_collection(collection, reviewers[:2], num_sessions=5, per_session=2)
    with collection.database.read() as session:
        rows = session.execute(matching(Filter())).all()
        for field, values in {
            "suggestion": ("good", "bad", "unsure", "open"),
            "checks": ("passed", "failed", "open"),
            "payment": ("pending", "approved", "rejected"),
            "use": ("pending", "included", "excluded"),
        }.items():
            parts = [count_matching(session, Filter(**{field: value})) for value in values]
            assert sum(parts) == len(rows) == len(ids)
        passed = {row[0].id for row in session.execute(matching(Filter(checks="passed")))}
        assert passed == {row[0].id for row in rows if row[0].checks["ok"]}
        assert 0 < len(passed) < len(ids)
