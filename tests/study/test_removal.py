"""Removing a contributor: not a byte of theirs is left in the files of the storage or of the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text

from auriscope.errors import AuriscopeError
from auriscope.study import removal
from auriscope.study.crowd import payouts, record_bonuses
from auriscope.study.database import Database
from auriscope.study.reconcile import reconcile
from auriscope.study.removal import Removed, find_contributor, remove_contributor, remove_session
from auriscope.study.schema import (
    Account,
    Assignment,
    AuditEntry,
    Contributor,
    Item,
    Release,
    Removal,
    Review,
    Score,
    Session,
    Stamp,
    Submission,
    Task,
    Vote,
)
from auriscope.study.stamps import finish_if_complete, redeem_for_assignment, stamp_of
from auriscope.study.storage import put
from auriscope.study.study import Study

from .conftest import COLLECTION

ANSWERS = {"speakers": [{"gender": "female", "native": True, "native_language": "Plautdietsch-zq"}]}


def add_work_of_others(study: Study, session_id: str) -> None:
    """A score with tracks, and a review with a note, of each of a session's recordings."""
    with study.database.write() as session:
        account = session.scalar(select(Account)) or Account(name="ada", password_hash="x", role="owner")
        session.add(account)
        session.flush()
        for submission in session.scalars(select(Submission).where(Submission.session_id == session_id)):
            key = f"tracks/{submission.id}/track1.wav"
            put(study.storage, key, b"track-of-" + session_id.encode())
            session.add(Score(submission_id=submission.id, separator="s", estimator="e", tracks=[{"storage_key": key}]))
            note = f"note-about-{session_id}"
            session.add(Review(submission_id=submission.id, account_id=account.id, vote="good", note=note))
            submission.details = {"sampleRate": 44_100}


def pay(study: Study, session_id: str) -> None:
    """Everything that paying writes down."""
    with study.database.read() as session:
        text = str(stamp_of(study, session, session.get_one(Session, session_id)))
        due = [payout for payout in payouts(study, session) if payout.session_id == session_id]
    assert redeem_for_assignment(study, text, "WORKERZQ77", "ASSIGNMENTZQ88").ok
    record_bonuses(study, due, "command")


def id_of(study: Study, name: str) -> str:
    with study.database.read() as session:
        return find_contributor(session, name)


def remove(study: Study, name: str) -> Removed:
    return remove_contributor(study, id_of(study, name), "command")


def database_files(study: Study) -> list[Path]:
    if study.database.is_sqlite:
        assert study.database.engine.url.database
        path = Path(study.database.engine.url.database)
        return [file for file in path.parent.glob(path.name + "*") if file.is_file()]
    with study.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))
        folder = Path(str(connection.scalar(text("SHOW data_directory"))))
        number = connection.scalar(text("SELECT oid FROM pg_database WHERE datname = current_database()"))
    return [file for file in (folder / "base" / str(number)).iterdir() if file.is_file()]


def found_in(files: list[Path], needles: dict[str, bytes]) -> set[str]:
    contents = [file.read_bytes() for file in files]
    return {name for name, needle in needles.items() if any(needle in content for content in contents)}


def stored(study: Study) -> list[Path]:
    return [path for path in Path(study.settings.storage).rglob("*") if path.is_file()]


def needles_of(study: Study, session_id: str) -> dict[str, bytes]:
    with study.database.read() as session:
        visit = session.get_one(Session, session_id)
        submission = session.scalars(select(Submission).where(Submission.session_id == session_id)).first()
        assert submission is not None
        return {
            "worker": b"WORKERZQ77",
            "assignment": b"ASSIGNMENTZQ88",
            "answer": b"Plautdietsch-zq",
            "session": session_id.encode(),
            "contributor": visit.contributor_id.encode(),
            "cookie": visit.token_sha256.encode(),
            "sha256": submission.sha256.encode(),
            "note": f"note-about-{session_id}".encode(),
        }


def test_no_byte_is_left_in_the_database_or_the_storage(collection: Study, take_part: Callable[..., str]) -> None:
    details = {"assignmentId": "ASSIGNMENTZQ88", "hitId": "H1"}
    theirs = take_part(collection, "WORKERZQ77", platform="mturk", details=details, answers=ANSWERS)
    others = take_part(collection, "W2", platform="mturk")
    for session_id in (theirs, others):
        add_work_of_others(collection, session_id)
    pay(collection, theirs)
    needles = needles_of(collection, theirs)
    samples = {path.name: path.read_bytes()[2_000:2_200] for path in stored(collection)}
    before = len(stored(collection))
    assert found_in(database_files(collection), needles) == set(needles)

    removed = remove(collection, "WORKERZQ77")

    assert (removed.num_sessions, removed.num_submissions, removed.num_votes, removed.num_files) == (1, 2, 0, 4)
    assert removed.is_purged
    # The audit log still says that something was paid for a session; whose, nothing says.
    assert found_in(database_files(collection), needles) == {"session"}
    left = stored(collection)
    assert len(left) == before - 4
    kept = {path.name: samples[path.name] for path in left if path.name in samples and "sub_" in path.name}
    gone = {name: sample for name, sample in samples.items() if name.startswith("sub_") and name not in kept}
    assert len(kept) == len(gone) == 2
    assert found_in(left, gone) == set()
    assert found_in(left, {"track": b"track-of-" + theirs.encode()}) == set()
    with collection.database.read() as session:
        for table in (Contributor, Session, Stamp):
            assert session.scalar(select(func.count()).select_from(table)) == 1
        for table in (Submission, Task, Score, Review):
            assert session.scalar(select(func.count()).select_from(table)) == 2
        assert session.get(Session, others) is not None


def test_a_removal_is_logged_without_the_data(collection: Study, take_part: Callable[..., str]) -> None:
    session_id = take_part(collection, "WORKERZQ77")
    contributor = id_of(collection, "WORKERZQ77")
    with collection.database.write() as session:
        session.add(Release(version="1.0.0", sha256="0" * 64, num_submissions=2))
    removed = remove(collection, session_id)
    assert removed.releases == ("1.0.0",)
    with collection.database.read() as session:
        removal = session.scalars(select(Removal)).one()
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "contributor.remove")).one()
        assert (removal.actor, removal.num_sessions, removal.num_submissions) == ("command", 1, 2)
        assert (entry.actor, entry.subject) == ("command", removal.id)
        assert entry.details == {"sessions": 1, "submissions": 2, "votes": 0}
        written = f"{vars(removal)}{vars(entry)}"
    assert not any(name in written for name in ("WORKERZQ77", session_id, contributor))


def test_a_raters_votes_go_and_the_items_stay(listening: Study, take_part: Callable[..., str]) -> None:
    session_id = take_part(listening, "P1", num_recordings=0)
    with listening.database.write() as session:
        item = Item(name="one", mixture="m", system="s", parts=[])
        session.add(item)
        session.flush()
        trial = Assignment(session_id=session_id, item_id=item.id, position=0)
        session.add(trial)
        session.flush()
        session.add_all(Vote(assignment_id=trial.id, part=part, score=4) for part in (0, 1))
    assert remove(listening, "P1").num_votes == 2
    with listening.database.read() as session:
        for table, number in ((Vote, 0), (Assignment, 0), (Item, 1)):
            assert session.scalar(select(func.count()).select_from(table)) == number


def test_a_removal_that_broke_off_can_be_repeated(
    collection: Study, take_part: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_part(collection, "P1")
    delete, calls = collection.storage.delete, []

    def fail_once(key: str) -> None:
        calls.append(key)
        if len(calls) == 2:
            raise OSError("the disk is away")
        delete(key)

    monkeypatch.setattr(collection.storage, "delete", fail_once)
    with pytest.raises(OSError, match="the disk is away"):
        remove(collection, "P1")
    assert remove(collection, "P1").num_submissions == 2
    assert stored(collection) == []


def test_an_upload_that_is_being_committed_goes_with_the_rest(collection: Study, take_part: Callable[..., str]) -> None:
    session_id = take_part(collection, "P1", num_recordings=0)
    contributor = id_of(collection, "P1")
    removed: list[Removed] = []
    removal = threading.Thread(target=lambda: removed.append(remove_contributor(collection, contributor, "command")))

    def is_marked() -> bool:
        with collection.database.read() as session:
            return session.get_one(Session, session_id).state == "removed"

    with collection.database.write() as session:
        task = Task(session_id=session_id, position=0, pair_id="a", sentences=[])
        session.add(task)
        session.flush()
        submission = Submission(
            id="sub_late", session_id=session_id, task_id=task.id, key="k", sha256="", num_bytes=1, sample_rate=16_000,
            storage_key="recordings/sub_late.wav", num_channels=1, num_frames=1,
        )  # fmt: skip
        session.add(submission)
        session.flush()
        put(collection.storage, submission.storage_key, b"late")
        removal.start()
        deadline = time.monotonic() + 30
        # On SQLite the removal cannot begin before this is committed; on PostgreSQL it waits when it deletes.
        while not collection.database.is_sqlite and not is_marked():
            assert time.monotonic() < deadline
    removal.join(60)
    assert [one.num_submissions for one in removed] == [1]
    assert stored(collection) == []


def is_anybody_waiting(study: Study) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with study.database.engine.connect() as connection:
        return bool(connection.scalar(text(query)))


def remove_while(study: Study, contributor: str, begin: Callable[[Any], None], end: Callable[[Any], None]) -> None:
    """Remove a contributor while another transaction, which has begun before, still goes on."""
    results: list[Any] = []

    def removing() -> None:
        try:
            results.append(remove_contributor(study, contributor, "command"))
        except BaseException as error:
            results.append(error)

    remover = threading.Thread(target=removing)
    with study.database.write() as session:
        begin(session)
        remover.start()
        deadline = time.monotonic() + 30
        while not study.database.is_sqlite and not is_anybody_waiting(study):
            assert time.monotonic() < deadline
        end(session)
    remover.join(60)
    assert [type(result) for result in results] == [Removed]
    assert stored(study) == []
    with study.database.read() as session:
        for table in (Contributor, Session, Task, Submission, Review):
            assert session.scalar(select(func.count()).select_from(table)) == 0


def test_an_upload_and_a_removal_do_not_wait_for_each_other(collection: Study, take_part: Callable[..., str]) -> None:
    session_id = take_part(collection, "P1", num_recordings=1)
    with collection.database.write() as session:
        task = Task(session_id=session_id, position=9, pair_id="a", sentences=[])
        session.add(task)

    def begin(session: Any) -> None:
        session.scalars(select(Task).where(Task.id == task.id).with_for_update(key_share=True)).one()

    def end(session: Any) -> None:
        submission = Submission(
            session_id=session_id, task_id=task.id, key="k", sha256="", num_bytes=1, sample_rate=16_000,
            storage_key="recordings/sub_late.wav", num_channels=1, num_frames=1,
        )  # fmt: skip
        session.add(submission)
        session.flush()
        finish_if_complete(collection, session, session.get_one(Session, session_id), submission.id)

    remove_while(collection, id_of(collection, "P1"), begin, end)


def test_a_review_that_is_being_written_goes_with_the_rest(collection: Study, take_part: Callable[..., str]) -> None:
    session_id = take_part(collection, "P1")
    with collection.database.write() as session:
        account = Account(name="ada", password_hash="x", role="owner")
        session.add(account)

    def begin(session: Any) -> None:
        query = select(Submission).where(Submission.session_id == session_id).with_for_update()
        submission = session.scalars(query).first()
        session.add(Review(submission_id=submission.id, account_id=account.id, vote="good"))
        session.flush()

    remove_while(collection, id_of(collection, "P1"), begin, lambda _session: None)


def test_a_session_is_removed_and_the_contributors_other_work_stays(
    open_study: Callable[..., Study], database_url: str, take_part: Callable[..., str]
) -> None:
    study = open_study({**COLLECTION, "limits": {"sessions_per_contributor": 2}}, database=database_url)
    first = take_part(study, "WORKERZQ77", platform="mturk")
    second = take_part(study, "WORKERZQ77", platform="mturk", num_recordings=1, answers=ANSWERS)
    for session_id in (first, second):
        add_work_of_others(study, session_id)
    needles = needles_of(study, second)

    remove_session(study, second, "participant")
    assert len(stored(study)) == 4
    with study.database.read() as session:
        assert session.scalars(select(Session.id)).all() == [first]
        assert session.scalars(select(Contributor.external_id)).all() == ["WORKERZQ77"]
        removal = session.scalars(select(Removal)).one()
        assert (removal.actor, removal.num_sessions, removal.num_submissions) == ("participant", 1, 1)

    remove_session(study, second, "participant")
    remove_session(study, first, "participant")
    assert stored(study) == []
    with study.database.read() as session:
        for table in (Contributor, Session, Task, Submission, Stamp, Score, Review):
            assert session.scalar(select(func.count()).select_from(table)) == 0
        assert len(session.scalars(select(Removal)).all()) == 2
    assert reconcile(study).purged is True
    assert found_in(database_files(study), needles) == set()
    assert reconcile(study).purged is None


def test_withdrawals_are_purged_later_and_again_while_the_database_is_busy(
    collection: Study, take_part: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    purged: list[bool] = []
    purge = removal._purge_sqlite if collection.database.is_sqlite else removal._purge_postgresql

    def watched(database: Database) -> bool:
        purged.append(purge(database))
        return len(purged) > 1

    monkeypatch.setattr(removal, purge.__name__, watched)
    for name in ("P1", "P2"):
        remove_session(collection, take_part(collection, name), "participant")
    assert purged == []
    assert [reconcile(collection).purged for _ in range(3)] == [False, True, None]
    assert purged == [True, True]


def test_a_withdrawal_does_not_list_all_files(
    collection: Study, take_part: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = take_part(collection, "P1")
    add_work_of_others(collection, session_id)
    listed: list[str] = []
    keys = collection.storage.keys

    def watched(prefix: str = "") -> Iterator[str]:
        listed.append(prefix)
        return keys(prefix)

    monkeypatch.setattr(collection.storage, "keys", watched)
    remove_session(collection, session_id, "participant")
    assert stored(collection) == []
    assert all(prefix.startswith("tracks/sub_") for prefix in listed)


def test_tracks_that_no_row_names_go_too(collection: Study, take_part: Callable[..., str]) -> None:
    session_id = take_part(collection, "P1")
    with collection.database.read() as session:
        submission = session.scalars(select(Submission).where(Submission.session_id == session_id)).first()
    assert submission is not None
    put(collection.storage, f"tracks/{submission.id}/track2.wav", b"begun")
    assert remove(collection, "P1").num_files == 3
    assert stored(collection) == []


def test_a_database_that_others_keep_busy_is_said_to_be_so(
    collection: Study, take_part: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import event

    monkeypatch.setattr(removal, "_LOCK_WAIT", "10ms")

    @event.listens_for(collection.database.engine, "checkout")
    def hurry(connection: Any, _record: Any, _proxy: Any) -> None:
        if collection.database.is_sqlite:
            connection.execute("PRAGMA busy_timeout=10")

    take_part(collection, "P1")
    contributor = id_of(collection, "P1")
    with collection.database.read() as reader:
        reader.scalars(select(Session)).all()
        removed = remove_contributor(collection, contributor, "command")
    assert not removed.is_purged
    assert stored(collection) == []
    assert removal.purge(collection)


def test_names_that_fit_nobody_or_several_are_refused(collection: Study, take_part: Callable[..., str]) -> None:
    take_part(collection, "SAME")
    take_part(collection, "SAME", platform="mturk")
    with pytest.raises(AuriscopeError, match="nobody of that name has taken part"):
        id_of(collection, "W404")
    with pytest.raises(AuriscopeError, match="names people on several platforms; give one of con_"):
        id_of(collection, "SAME")
    with pytest.raises(AuriscopeError, match="there is no such contributor"):
        remove_contributor(collection, "con_404", "command")


def test_an_object_storage_is_emptied_too(open_study: Callable[..., Study], take_part: Callable[..., str]) -> None:
    definition = {
        "kind": "collection",
        "name": "two-at-once",
        "title": "Two voices at once",
        "instructions": "Two people read at the same time.",
        "contact": "lab@example.org",
        "consent": {"version": "1", "text": "We keep your recording."},
        "sentences": [{"id": "a", "text": "One."}, {"id": "b", "text": "Two."}],
        "submissions_per_session": 2,
    }
    study = open_study(definition, storage=f"memory://{uuid4().hex}/recordings")
    theirs, others = take_part(study, "P1"), take_part(study, "P2")
    for session_id in (theirs, others):
        add_work_of_others(study, session_id)
    assert len(list(study.storage.keys(""))) == 8
    assert remove(study, "P1").num_files == 4
    assert len(list(study.storage.keys(""))) == 4
