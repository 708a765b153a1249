"""The database: one way to read and one way to write, on SQLite and on PostgreSQL.

SQLite has one writer. Every writing transaction begins with ``BEGIN IMMEDIATE``, so that it waits for the writer
before it reads anything; one that began by reading would fail at once when another had written meanwhile. Threads of
one process queue at a lock of ours, which is fair; processes wait for each other in SQLite.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study.schema import Table

_WAIT_SECONDS = 30
# So many small transactions share a flush to the disk at most.
_TOGETHER = 64

Result = TypeVar("Result")


class _Waiting(Generic[Result]):
    """A small transaction that waits for its turn, and what came of it."""

    def __init__(self, work: Callable[[OrmSession], Result]) -> None:
        self.work = work
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.is_done = False


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
        self._queue: deque[_Waiting[Any]] = deque()
        try:
            if self.is_sqlite:
                if parsed.database:
                    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
                self.engine: Engine = create_engine(parsed, connect_args={"timeout": _WAIT_SECONDS}, pool_size=50)
                _configure_sqlite(self.engine)
            else:
                self.engine = create_engine(parsed, pool_size=20, max_overflow=30, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise AuriscopeError(
                f"this database needs the package {error.name}; pip install 'auriscope[study-scale]'"
            ) from None
        self._writing = self.engine.execution_options(auriscope_write=True)

    @contextmanager
    def read(self) -> Iterator[OrmSession]:
        """Give a session whose reads all see the same moment; what is changed in it is not kept."""
        with OrmSession(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[OrmSession]:
        """Give a session that alone writes; it is committed to the disk when the block ends well, else undone."""
        with self._turn, OrmSession(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def together(self, work: Callable[[OrmSession], Result]) -> Result:
        """Do a small piece of work as ``write`` does, and share the flush to the disk with others that wait.

        Returns what ``work`` returns, when it is on the disk. If ``work`` raises, nothing of it stays, and the others'
        work is untouched. On SQLite flushing is what costs most: whoever has the writer's turn does all that has
        queued up meanwhile, each behind a savepoint, in one transaction. PostgreSQL groups commits itself.
        """
        if not self.is_sqlite:
            with self.write() as session:
                return work(session)
        mine = _Waiting(work)
        self._queue.append(mine)
        with self._turn:
            while not mine.is_done:
                self._do_queued()
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]

    def _do_queued(self) -> None:
        batch: list[_Waiting[Any]] = []
        while self._queue and len(batch) < _TOGETHER:
            batch.append(self._queue.popleft())
        try:
            with self._writing.begin() as connection:
                for waiting in batch:
                    _do_behind_savepoint(connection, waiting)
        except BaseException as error:
            # The commit failed, and with it everybody's work.
            for waiting in batch:
                waiting.error = waiting.error or error
        finally:
            for waiting in batch:
                waiting.is_done = True

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


def _do_behind_savepoint(connection: Connection, waiting: _Waiting[Any]) -> None:
    try:
        with (
            OrmSession(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as session,
            session.begin(),
        ):
            waiting.result = waiting.work(session)
    except Exception as error:
        waiting.error = error


def tables() -> list[str]:
    """Give the names of all tables, those that others point to first."""
    return [table.name for table in Table.metadata.sorted_tables]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        # Transactions begin when we say so, and not when the driver thinks fit.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # What was acknowledged must outlive a power cut: every commit is flushed to the disk.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={1000 * _WAIT_SECONDS}")
        # Bytes of removed contributors do not stay behind in free pages.
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Any) -> None:
        writes = connection.get_execution_options().get("auriscope_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN DEFERRED")
