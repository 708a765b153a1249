"""The database: its tables are those of the migrations, and writers wait for each other instead of failing."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text

from auriscope.study.database import Database
from auriscope.study.heartbeat import beat, is_alive
from auriscope.study.schema import Setting, Table
from auriscope.study.study import Study


def test_the_migrations_give_the_tables_of_the_schema(collection: Study) -> None:
    with collection.database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_preparing_twice_changes_nothing(collection: Study) -> None:
    collection.database.prepare()
    collection.database.check()


def is_anybody_waiting(database: Database) -> bool:
    """Whether a transaction of PostgreSQL waits for another."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.engine.connect() as connection:
        return bool(connection.scalar(text(query)))


def test_two_hosts_that_start_at_once_make_the_tables_once(database_url: str) -> None:
    from alembic import command
    from alembic.config import Config

    from auriscope.study import migrations

    databases = [Database(database_url), Database(database_url)]
    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    failures: list[BaseException] = []

    def prepare() -> None:
        try:
            databases[1].prepare()
        except BaseException as error:
            failures.append(error)

    second = threading.Thread(target=prepare)
    with databases[0].write(alone="migrations") as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "head")
        second.start()
        deadline = time.monotonic() + 30
        while not databases[0].is_sqlite and not is_anybody_waiting(databases[0]):
            assert time.monotonic() < deadline
    second.join(60)
    for database in databases:
        database.check()
        database.close()
    assert failures == []


def test_a_read_sees_one_moment(collection: Study) -> None:
    with collection.database.read() as session:
        before = session.scalars(select(Setting.name)).all()
        with collection.database.write() as writer:
            writer.add(Setting(name="later", value={}))
        assert session.scalars(select(Setting.name)).all() == before == []
    with collection.database.read() as session:
        assert session.scalars(select(Setting.name)).all() == ["later"]


def test_workers_that_first_say_that_they_are_alive_at_once_all_can(collection: Study) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: beat(collection), range(8)))
    with collection.database.read() as session:
        assert is_alive(session)


def test_writers_that_read_first_all_get_through(collection: Study) -> None:
    # Two engines, as two processes have: the lock between them is the database's.
    databases = [collection.database, Database(collection.settings.database)]
    with collection.database.write() as session:
        session.add(Setting(name="count", value={"count": 0}))
    failures: list[BaseException] = []

    def count(database: Database) -> None:
        try:
            for _ in range(25):
                with database.write() as session:
                    setting = session.scalars(select(Setting).where(Setting.name == "count").with_for_update()).one()
                    setting.value = {"count": setting.value["count"] + 1}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=count, args=(database,)) for database in databases for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    databases[1].close()
    assert failures == []
    with collection.database.read() as session:
        assert session.get_one(Setting, "count").value == {"count": 100}


def test_a_failed_block_leaves_nothing(collection: Study) -> None:
    def fail() -> None:
        with collection.database.write() as session:
            session.add(Setting(name="paused", value={"paused": True}))
            session.flush()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    with collection.database.read() as session:
        assert session.get(Setting, "paused") is None


def test_what_was_written_is_flushed_before_write_returns_and_flushes_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'study.db'}")
    database.prepare()
    flushed: list[set[str]] = []
    gate = threading.Event()
    fsync = os.fsync

    def watched(handle: int) -> None:
        # What is committed when the flush begins is what it covers.
        with sqlite3.connect(tmp_path / "study.db") as connection:
            names = {row[0] for row in connection.execute("SELECT name FROM settings")}
        connection.close()
        if len(flushed) == 0:
            gate.wait(30)
        fsync(handle)
        flushed.append(names)

    monkeypatch.setattr(os, "fsync", watched)
    wrong: list[str] = []

    def write(name: str) -> None:
        with database.write() as session:
            session.add(Setting(name=name, value={}))
        if not any(name in names for names in flushed):
            wrong.append(name)

    threads = [threading.Thread(target=write, args=(f"n{number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        # Nobody waits for the flush to write: all commit while the first is still flushing.
        with database.read() as session:
            if len(session.scalars(select(Setting)).all()) == 20:
                break
    gate.set()
    for thread in threads:
        thread.join()
    database.close()
    assert wrong == []
    assert len(flushed) < 20


def test_a_database_behind_a_link_is_flushed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "study.db").symlink_to(tmp_path / "disk" / "study.db")
    database = Database(f"sqlite:///{tmp_path / 'study.db'}")
    database.prepare()
    flushed: list[Path] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    with database.write() as session:
        session.add(Setting(name="one", value={}))
    database.close()
    assert flushed == [tmp_path / "disk" / "study.db-wal"]
