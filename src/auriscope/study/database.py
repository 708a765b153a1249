"""The database: one way to read and one way to write, on SQLite and on PostgreSQL.

SQLite has one writer. Every writing transaction begins with ``BEGIN IMMEDIATE``, so that it waits for the writer
before it reads anything; one that began by reading would fail at once when another had written meanwhile. Threads of
one process queue at a lock of ours, which is fair; processes wait for each other in SQLite. The lock is held while
something is written, not while it is flushed to the disk.

PostgreSQL has many writers at once. What first looks and then writes by what it saw locks the rows it looked at; where
there is no row yet, or too many, it writes ``alone``: under a name that only one transaction at a time can have.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study.schema import Table

_WAIT_SECONDS = 30


class _Flush:
    """Flushes SQLite's log to the disk; threads that have committed meanwhile share one flush.

    SQLite itself would flush within every commit, while everybody else waits to write. Flushing is what costs most, so
    commits are only written (``synchronous=NORMAL``), and whoever made one flushes the log before they rely on it.
    """

    def __init__(self, database: Path) -> None:
        # SQLite follows links, and puts its log beside the file itself.
        database = database.resolve()
        self._log = database.with_name(database.name + "-wal")
        self._asked = itertools.count(1)
        self._newest = 0
        self._flushed = 0
        self._turn = threading.Lock()

    def __call__(self) -> None:
        """Return when everything that was committed before the call is on the disk."""
        mine = self._newest = next(self._asked)
        with self._turn:
            if self._flushed >= mine:
                return
            covered = self._newest
            # Where there is no log, the last connection has closed and SQLite has flushed all of it into the database.
            # The database itself must not be opened here: closing it again would drop this process's locks on it.
            with suppress(FileNotFoundError):
                handle = os.open(self._log, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            self._flushed = covered


class Database:
    """Sessions of SQLAlchemy on one database, by its URL: ``sqlite:///study.db`` or ``postgresql+psycopg://…``."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise AuriscopeError(
                f"{url!r} is no address of a database; write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
            ) from None
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.url = url
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()
        self._flush = _Flush(Path(parsed.database)) if self.is_sqlite and parsed.database else None
        try:
            if self.is_sqlite:
                if parsed.database:
                    _make_file(parsed.database)
                self.engine: Engine = create_engine(parsed, connect_args={"timeout": _WAIT_SECONDS}, pool_size=50)
                _configure_sqlite(self.engine)
            else:
                self.engine = create_engine(parsed, pool_size=20, max_overflow=30, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise AuriscopeError(
                f"this database needs the package {error.name}; pip install 'auriscope[study-scale]'"
            ) from None
        self._writing = self.engine.execution_options(auriscope_write=True)
        # SQLite's transactions see one moment by themselves.
        self._reading = self.engine
        if not self.is_sqlite:
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self) -> Iterator[OrmSession]:
        """Give a session whose reads all see the same moment; what is changed in it is not kept."""
        with OrmSession(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self, *, alone: str | None = None) -> Iterator[OrmSession]:
        """Give a session that may write; it is committed to the disk when the block ends well, else undone.

        On SQLite nobody else writes meanwhile. On PostgreSQL others do, except those that are ``alone`` under the same
        name: each of them begins when the one before has ended, and sees what that one wrote.
        """
        with self._turn, OrmSession(self._writing, expire_on_commit=False) as session, session.begin():
            if alone is not None:
                self.alone(session, alone)
            yield session
        self.flush()

    def alone(self, session: OrmSession, name: str) -> None:
        """Wait for the others of a name in the middle of a writing transaction; it is alone under it to its end."""
        if not self.is_sqlite:
            session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _number_of(name)})

    def flush(self) -> None:
        """Return when all that reads have seen so far is on the disk; call it before relying on what another wrote."""
        if self._flush is not None:
            self._flush()

    def prepare(self) -> None:
        """Bring the tables to the newest version; makes them in an empty database."""
        from auriscope.study.migrations import upgrade

        try:
            upgrade(self)
        except SQLAlchemyError as error:
            raise AuriscopeError(f"the database cannot be prepared: {_first_line(error)}") from None

    def check(self) -> None:
        """Raise ``AuriscopeError`` if the database does not answer."""
        try:
            with self.read() as session:
                session.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            raise AuriscopeError(f"the database does not answer: {_first_line(error)}") from None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def tables() -> list[str]:
    """Give the names of all tables, those that others point to first."""
    return [table.name for table in Table.metadata.sorted_tables]


def _number_of(name: str) -> int:
    """Give the number by which PostgreSQL knows a lock: 64 bits with a sign, the same in every process."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _make_file(database: str) -> None:
    """Make the file of a new database for its owner alone; SQLite gives its log the same permissions."""
    if database == ":memory:" or database.startswith("file:"):
        return
    path = Path(database)
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        # Transactions begin when we say so, and not when the driver thinks fit.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # What was acknowledged must outlive a power cut: ``write`` flushes the log after its commit.
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={1000 * _WAIT_SECONDS}")
        # Bytes of removed contributors do not stay behind in free pages.
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Any) -> None:
        writes = connection.get_execution_options().get("auriscope_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN DEFERRED")
