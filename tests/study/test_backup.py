"""Backups: taken while people record, they come back whole, and never touch the study they were taken of."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from sqlalchemy import create_engine, make_url, select, text

from auriscope.errors import AuriscopeError
from auriscope.study import stamps
from auriscope.study.backup import Restored, backup, restore
from auriscope.study.schema import Session, Submission, Table
from auriscope.study.study import Study

from .conftest import SERVER

COLLECTION: dict[str, Any] = {
    "kind": "collection",
    "name": "two-at-once",
    "title": "Two voices at once",
    "instructions": "Two people read at the same time.",
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": "We keep your recording."},
    "sentences": [{"id": "a", "text": "One."}, {"id": "b", "text": "Two."}],
    "submissions_per_session": 2,
}


@pytest.fixture
def another_database(collection: Study) -> Iterator[dict[str, str]]:
    """The settings of an empty database of the study's kind; none on SQLite, where the folder gets its own."""
    if collection.database.is_sqlite:
        yield {}
        return
    url = make_url(collection.database.url)
    name = f"restored_{uuid4().hex}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    yield {"database": url.set(database=name).render_as_string(hide_password=False)}


def restored(file: Path, folder: Path, settings: dict[str, str]) -> Restored:
    folder.mkdir()
    if settings:
        (folder / "server.yaml").write_text(yaml.safe_dump(settings))
    return restore(file, folder)


def rows(study: Study) -> dict[str, list[tuple[Any, ...]]]:
    with study.database.read() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Table.metadata.sorted_tables
        }


def files(study: Study) -> dict[str, bytes]:
    found = {}
    for key in study.storage.keys(""):
        with study.storage.open(key) as file:
            found[key] = file.read()
    return found


def test_a_study_comes_back_whole(
    collection: Study, take_part: Callable[..., str], another_database: dict[str, str], tmp_path: Path
) -> None:
    session_id = take_part(collection, "P1")
    (collection.folder / "clips").mkdir()
    (collection.folder / "clips" / "example.wav").write_bytes(b"an example")
    made = backup(collection, tmp_path / "study.tar", with_secret=True)
    assert (made.num_files, made.num_bytes) == (2, made.path.stat().st_size)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    result = restored(made.path, tmp_path / "again", another_database)
    assert (result.num_files, result.has_secret, result.incomplete) == (2, True, ())
    again = Study.open(tmp_path / "again")
    assert again.database.url != collection.database.url
    assert again.settings.storage != collection.settings.storage
    assert rows(again) == rows(collection)
    assert files(again) == files(collection)
    assert (again.folder / "clips" / "example.wav").read_bytes() == b"an example"
    assert (again.folder / "campaign.yaml").read_bytes() == (collection.folder / "campaign.yaml").read_bytes()
    # With the secret, stamps that were given out hold.
    with collection.database.read() as session:
        stamp = stamps.stamp_of(collection, session, session.get_one(Session, session_id))
    with again.database.read() as session:
        assert stamps.verify(again, session, str(stamp)).ok
    again.close()


def test_the_secret_and_the_places_stay_behind(
    collection: Study, take_part: Callable[..., str], another_database: dict[str, str], tmp_path: Path
) -> None:
    session_id = take_part(collection, "P1")
    made = backup(collection, tmp_path / "study.tar")
    assert collection.settings.secret.encode() not in made.path.read_bytes()
    with tarfile.open(made.path) as tar:
        names = tar.getnames()
        server = tar.extractfile("folder/server.yaml")
        assert server is not None
        assert set(yaml.safe_load(server.read())) == set(SERVER)
    assert not [name for name in names if "secret" in name or name.startswith("folder/files")]
    assert not restored(made.path, tmp_path / "again", another_database).has_secret
    again = Study.open(tmp_path / "again")
    with collection.database.read() as session:
        stamp = stamps.stamp_of(collection, session, session.get_one(Session, session_id))
    with again.database.read() as session:
        assert stamps.verify(again, session, str(stamp)).reason == "forged"
    again.close()


def test_a_backup_under_writes_is_of_one_moment(
    collection: Study, take_part: Callable[..., str], another_database: dict[str, str], tmp_path: Path
) -> None:
    before = {take_part(collection, f"before{number}") for number in range(3)}
    done, begun, problems = threading.Event(), threading.Event(), []

    def record(name: str) -> None:
        try:
            number = 0
            while not done.is_set() or number < 3:
                take_part(collection, f"{name}-{number}")
                number += 1
                begun.set()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=record, args=(f"w{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    made = [backup(collection, tmp_path / f"{number}.tar") for number in range(3)]
    done.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert restored(made[-1].path, tmp_path / "again", another_database).incomplete == ()
    again = Study.open(tmp_path / "again")
    with again.database.read() as session:
        sessions = {visit.id: visit.state for visit in session.scalars(select(Session))}
        counts: dict[str, int] = dict.fromkeys(sessions, 0)
        for session_id in session.scalars(select(Submission.session_id)):
            counts[session_id] += 1
        stamped = set(session.scalars(select(stamps.Stamp.session_id)))
    assert before <= set(sessions)
    # A session, its second recording and its stamp were committed together, and came along together.
    assert {name for name, count in counts.items() if count == 2} == stamped
    assert {name for name, state in sessions.items() if state == "finished"} == stamped
    again.close()


@pytest.fixture
def taken(collection: Study, take_part: Callable[..., str], tmp_path: Path) -> Path:
    take_part(collection, "P1")
    return backup(collection, tmp_path / "study.tar").path


def test_a_damaged_or_cut_backup_is_refused_before_anything_is_written(
    taken: Path, another_database: dict[str, str], tmp_path: Path
) -> None:
    whole = taken.read_bytes()
    half = len(whole) // 2
    broken = {
        "cut": whole[:half],
        "cut-late": whole[: whole.rindex(b"SHA256SUMS") - 100],
        "flipped": whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :],
        "text": b"no backup at all",
        "empty": b"",
    }
    for name, data in broken.items():
        (tmp_path / "broken.tar").write_bytes(data)
        with pytest.raises(AuriscopeError, match="damaged"):
            restored(tmp_path / "broken.tar", tmp_path / name, another_database)
        assert [path.name for path in (tmp_path / name).iterdir() if path.name != "server.yaml"] == []


@pytest.mark.parametrize(
    "name", ["folder/../../evil", "/etc/evil", "elsewhere/evil", "folder//{outside}", "folder/./e"]
)
def test_a_backup_that_reaches_out_is_refused(tmp_path: Path, name: str) -> None:
    members = {
        "backup.json": json.dumps({"format": 1, "database": "sqlite"}).encode(),
        name.format(outside=str(tmp_path / "outside")): b"evil",
    }
    members["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {key}\n" for key, data in members.items()
    ).encode()
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for key, data in members.items():
            entry = tarfile.TarInfo(key)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with pytest.raises(AuriscopeError, match="is no backup, or damaged"):
        restore(tmp_path / "evil.tar", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_member_never_leaves_the_folder_by_a_link_that_lies_there(
    collection: Study, taken: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (collection.folder / "clips").mkdir()
    (collection.folder / "clips" / "example.wav").write_bytes(b"an example")
    made = backup(collection, tmp_path / "with-clips.tar")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "clips").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuriscopeError, match=r"clips/example\.wav: lies outside"):
        restore(made.path, tmp_path / "again")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_storage_that_fails_leaves_a_database_that_can_be_filled_again(
    collection: Study, taken: Path, another_database: dict[str, str], tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    # A file in the place of a folder: listed as empty, and nothing can be written into it.
    (blocked / "recordings").symlink_to(tmp_path / "nowhere" / "at-all")
    settings = {**another_database, "storage": str(blocked)}
    with pytest.raises(AuriscopeError, match="cannot be written"):
        restored(taken, tmp_path / "first", settings)
    (blocked / "recordings").unlink()
    assert restored(taken, tmp_path / "second", settings).incomplete == ()


def test_what_is_removed_while_it_is_saved_does_not_break_the_backup(
    collection: Study, take_part: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_part(collection, "P1")
    finding, gone = collection.storage.local, []

    @contextmanager
    def find_and_delete(key: str) -> Iterator[Path]:
        with finding(key) as path:
            if not gone:
                gone.append(key)
                collection.storage.delete(key)
            yield path

    monkeypatch.setattr(collection.storage, "local", find_and_delete)
    made = backup(collection, tmp_path / "study.tar")
    assert (made.num_files, len(gone)) == (1, 1)


def test_only_the_owner_reads_what_is_restored(
    collection: Study, taken: Path, another_database: dict[str, str], tmp_path: Path
) -> None:
    before = os.umask(0o022)
    try:
        restored(taken, tmp_path / "again", another_database)
    finally:
        os.umask(before)
    lying = [path for path in (tmp_path / "again").rglob("*") if path.is_file() and path.name != "server.yaml"]
    assert lying
    assert {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in lying} == {path.name: 0 for path in lying}


def test_nothing_is_overwritten(
    collection: Study, taken: Path, another_database: dict[str, str], tmp_path: Path
) -> None:
    before, lying = rows(collection), files(collection)
    with pytest.raises(AuriscopeError, match=r"study\.tar: is there already"):
        backup(collection, taken)
    with pytest.raises(AuriscopeError, match="is not empty"):
        restore(taken, collection.folder)
    database = {"database": collection.database.url}
    with pytest.raises(AuriscopeError, match=r"is there already; give the address|has tables already"):
        restored(taken, tmp_path / "same-database", database)
    storage = {"storage": collection.settings.storage, **another_database}
    with pytest.raises(AuriscopeError, match="holds files already"):
        restored(taken, tmp_path / "same-storage", storage)
    assert rows(collection) == before
    assert files(collection) == lying
    for name in ("same-database", "same-storage"):
        assert [path.name for path in (tmp_path / name).iterdir()] == ["server.yaml"]


def test_a_backup_of_another_kind_of_database_is_refused(collection: Study, taken: Path, tmp_path: Path) -> None:
    other = "postgresql+psycopg://study@127.0.0.1:1/none" if collection.database.is_sqlite else "sqlite:///other.db"
    with pytest.raises(AuriscopeError, match="the settings name"):
        restored(taken, tmp_path / "again", {"database": other})


def test_a_recording_that_is_gone_is_named(
    collection: Study, take_part: Callable[..., str], another_database: dict[str, str], tmp_path: Path
) -> None:
    take_part(collection, "P1")
    with collection.database.read() as session:
        gone = session.scalars(select(Submission)).first()
    assert gone is not None
    collection.storage.delete(gone.storage_key)
    made = backup(collection, tmp_path / "study.tar")
    assert restored(made.path, tmp_path / "again", another_database).incomplete == (gone.id,)


def test_backups_lying_in_the_folder_are_not_backed_up(
    collection: Study, take_part: Callable[..., str], another_database: dict[str, str]
) -> None:
    take_part(collection, "P1")
    first = backup(collection, collection.folder / "first.tar")
    second = backup(collection, collection.folder / "second.tar")
    with tarfile.open(second.path) as tar:
        names = {name for name in tar.getnames() if name.startswith("folder/")}
    assert names == {"folder/campaign.yaml", "folder/server.yaml"}
    assert second.num_bytes < 2 * first.num_bytes


def test_what_lies_in_the_folder_by_default_comes_along_once(
    open_study: Callable[..., Study], take_part: Callable[..., str], tmp_path: Path
) -> None:
    study = open_study(COLLECTION)
    take_part(study, "P1")
    (study.folder / "jobs.db").write_bytes(b"jobs")
    (study.folder / "jobs.db-wal").write_bytes(b"jobs")
    assert (study.folder / "study.db-wal").exists()
    made = backup(study, tmp_path / "study.tar")
    with tarfile.open(made.path) as tar:
        names = tar.getnames()
    assert sorted(name for name in names if not name.startswith("files/recordings/sub_")) == [
        "SHA256SUMS", "backup.json", "database/study.db", "folder/campaign.yaml", "folder/server.yaml",
    ]  # fmt: skip
    assert restored(made.path, tmp_path / "again", {}).incomplete == ()
    again = Study.open(tmp_path / "again")
    assert rows(again) == rows(study)
    again.close()


def test_an_object_storage_is_backed_up_and_filled_again(
    open_study: Callable[..., Study], take_part: Callable[..., str], tmp_path: Path
) -> None:
    first, second = (f"memory://{uuid4().hex}/recordings" for _ in "ab")
    study = open_study(COLLECTION, storage=first)
    take_part(study, "P1")
    made = backup(study, tmp_path / "study.tar")
    assert made.num_files == 2
    assert restored(made.path, tmp_path / "again", {"storage": second}).incomplete == ()
    again = Study.open(tmp_path / "again")
    assert files(again) == files(study)
    again.close()
