"""Work stamps: issued with the last piece of work, bound to it, and good for one use; nothing else holds."""

from __future__ import annotations

import multiprocessing
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from auriscope.study.ids import new_id
from auriscope.study.participants import Arrival, begin
from auriscope.study.schema import Assignment, AuditEntry, Item, Session, Stamp
from auriscope.study.stamps import Verdict, finish_if_complete, redeem, redeem_for_assignment, stamp_of, verify
from auriscope.study.study import Study

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def stamp_for(study: Study, session_id: str) -> str:
    with study.database.read() as session:
        text = stamp_of(study, session, session.get_one(Session, session_id))
    assert text is not None
    return text


def judged(study: Study, text: str, **handed_in: str) -> Verdict:
    with study.database.read() as session:
        return verify(study, session, text, **handed_in)


def test_a_stamp_is_issued_with_the_last_recording_and_names_the_work(
    collection: Study, take_part: Callable[..., str]
) -> None:
    begun = take_part(collection, "P1", num_recordings=1)
    with collection.database.read() as session:
        visit = session.get_one(Session, begun)
        assert (visit.state, stamp_of(collection, session, visit)) == ("open", None)
    finished = take_part(collection, "P2")
    text = stamp_for(collection, finished)
    assert re.fullmatch(r"[A-Za-z0-9._-]{68}", text)
    verdict = judged(collection, f"  {text}\n")
    assert (verdict.ok, verdict.reason) == (True, "valid")
    assert (verdict.session_id, verdict.platform, verdict.worker) == (finished, "prolific", "P2")
    with collection.database.read() as session:
        visit = session.get_one(Session, finished)
        stamp = session.scalars(select(Stamp)).one()
        assert visit.state == "finished"
        assert visit.finished_at is not None
        assert verdict.subject_id == stamp.subject_id
        assert stamp.subject_id.startswith("sub_")


def test_finishing_twice_issues_one_stamp(collection: Study, take_part: Callable[..., str]) -> None:
    finished = take_part(collection, "P1")
    text = stamp_for(collection, finished)
    with collection.database.write() as session:
        assert finish_if_complete(collection, session, session.get_one(Session, finished), "sub_again")
    assert stamp_for(collection, finished) == text


def test_last_pieces_of_work_that_come_at_once_finish_the_session(collection: Study) -> None:
    # On PostgreSQL neither transaction sees the other's recording before it is committed.
    with collection.database.write() as session:
        visit, _ = begin(collection, session, Arrival(), "en")
    barrier, finished = threading.Barrier(2), []

    def submit(position: int) -> None:
        from auriscope.study.schema import Submission, Task

        barrier.wait()
        with collection.database.write() as session:
            task = Task(session_id=visit.id, position=position, pair_id="a", sentences=[])
            session.add(task)
            session.flush()
            submission = Submission(
                session_id=visit.id, task_id=task.id, key=str(position), sha256="", num_bytes=1, storage_key="",
                sample_rate=16_000, num_channels=1, num_frames=1,
            )  # fmt: skip
            session.add(submission)
            session.flush()
            finished.append(finish_if_complete(collection, session, visit, submission.id))

    threads = [threading.Thread(target=submit, args=(position,)) for position in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(finished) == [False, True]
    assert judged(collection, stamp_for(collection, visit.id)).ok


def test_a_listening_session_is_finished_by_its_last_answered_trial(listening: Study) -> None:
    with listening.database.write() as session:
        visit, _ = begin(listening, session, Arrival(), "en")
        assert not finish_if_complete(listening, session, visit, "asg_none")
        for name in ("one", "two"):
            item = Item(id=new_id("itm"), name=name, mixture="m", system="s", parts=[])
            session.add(item)
            session.flush()
            session.add(Assignment(session_id=visit.id, item_id=item.id, position=len(name) + (name == "two")))
        session.flush()
        first, last = session.scalars(select(Assignment).order_by(Assignment.position))
        first.answered_at = visit.started_at
        assert not finish_if_complete(listening, session, visit, first.id)
        last.answered_at = visit.started_at
        assert finish_if_complete(listening, session, visit, last.id)
    assert judged(listening, stamp_for(listening, visit.id)).subject_id == last.id


def test_every_altered_letter_is_refused(collection: Study, take_part: Callable[..., str]) -> None:
    # The last letter of a signature has bits that base64 does not use: decoded bytes would be the same.
    text = stamp_for(collection, take_part(collection, "P1"))
    for place, letter in enumerate(text):
        for other in _LETTERS if place == len(text) - 1 else {"A", "z", "7", "."}:
            if other != letter:
                assert not judged(collection, text[:place] + other + text[place + 1 :]).ok
    assert judged(collection, text).ok


@pytest.mark.parametrize("cut", [0, 1, 24, 25, 40, 67])
def test_a_truncated_stamp_is_refused(collection: Study, take_part: Callable[..., str], cut: int) -> None:
    text = stamp_for(collection, take_part(collection, "P1"))
    assert judged(collection, text[:cut]).reason == "malformed"
    assert judged(collection, text + text[:cut] + "A").reason == "malformed"


def test_a_signature_of_another_session_is_refused(collection: Study, take_part: Callable[..., str]) -> None:
    first, second = (stamp_for(collection, take_part(collection, worker)) for worker in ("P1", "P2"))
    mixed = first.partition(".")[0] + "." + second.partition(".")[2]
    assert judged(collection, mixed).reason == "forged"


def test_a_stamp_holds_for_nothing_but_its_row(collection: Study, take_part: Callable[..., str]) -> None:
    text = stamp_for(collection, take_part(collection, "P1"))
    with collection.database.write() as session:
        session.scalars(select(Stamp)).one().subject_id = "sub_other"
    assert judged(collection, text).reason == "forged"


def test_a_stamp_of_another_campaign_is_refused(
    collection: Study, take_part: Callable[..., str], open_study: Callable[..., Study]
) -> None:
    text = stamp_for(collection, take_part(collection, "P1"))
    # The worst case: another campaign with the same secret on the same database.
    definition = collection.campaign.model_dump(mode="json") | {"name": "another"}
    settings = {"database": collection.settings.database, "secret": collection.settings.secret}
    other = open_study(definition, **settings)
    assert judged(other, text).reason == "forged"
    assert judged(open_study(definition), text).reason == "forged"


def test_a_stamp_that_somebody_else_hands_in_is_not_theirs(collection: Study, take_part: Callable[..., str]) -> None:
    worked = take_part(collection, "W1", platform="mturk", details={"assignmentId": "A1", "hitId": "H1"})
    text = stamp_for(collection, worked)
    assert judged(collection, text, worker="W1", assignment="A1").ok
    assert judged(collection, text, worker="W2").reason == "not_theirs"
    assert judged(collection, text, assignment="A2").reason == "not_theirs"
    assert redeem(collection, text, "command", worker="W2").reason == "not_theirs"
    assert judged(collection, text).ok


def test_a_worker_may_return_an_assignment_and_accept_another(collection: Study, take_part: Callable[..., str]) -> None:
    text = stamp_for(collection, take_part(collection, "W1", platform="mturk", details={"assignmentId": "A1"}))
    assert judged(collection, text, worker="W1", assignment="A2").ok
    assert redeem_for_assignment(collection, text, "W1", "A2").ok
    assert redeem_for_assignment(collection, text, "W1", "A2").ok
    # Work is paid once all the same.
    assert redeem_for_assignment(collection, text, "W1", "A3").reason == "redeemed"


def test_a_stamp_is_redeemed_once_and_that_is_written_down(collection: Study, take_part: Callable[..., str]) -> None:
    text = stamp_for(collection, take_part(collection, "P1"))
    assert redeem(collection, text, "command").ok
    replay = redeem(collection, text, "command")
    assert (replay.ok, replay.reason) == (False, "redeemed")
    assert replay.redeemed_at is not None
    assert judged(collection, text).reason == "redeemed"
    with collection.database.read() as session:
        assert session.scalars(select(Stamp)).one().redeemed_by == "command"
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == 1


def test_a_removed_contributors_stamp_is_refused(collection: Study, take_part: Callable[..., str]) -> None:
    text = stamp_for(collection, take_part(collection, "P1"))
    with collection.database.write() as session:
        session.delete(session.scalars(select(Stamp)).one())
    assert redeem(collection, text, "command").reason == "forged"


def _redeem_in_a_process(folder: Path, texts: list[str], barrier: Any, results: Any) -> None:
    study = Study.open(folder)
    barrier.wait(60)
    results.put([redeem(study, text, "command").reason for text in texts])
    study.close()


def test_of_processes_and_threads_that_redeem_at_once_one_succeeds(
    collection: Study, take_part: Callable[..., str]
) -> None:
    texts = [stamp_for(collection, take_part(collection, f"P{number}")) for number in range(8)]
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_redeem_in_a_process, args=(collection.folder, texts, barrier, results)) for _ in "ab"
    ]
    for process in processes:
        process.start()
    barrier.wait(120)
    own: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: own.append([redeem(collection, text, "command").reason for text in texts]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = [*own, *(results.get(timeout=60) for _ in processes)]
    for process in processes:
        process.join(60)
    for number in range(len(texts)):
        reasons = [answer[number] for answer in answers]
        assert sorted(reasons) == ["redeemed"] * 4 + ["valid"]
