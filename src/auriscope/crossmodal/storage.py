"""What an index needs of the disk: SQLite whose errors are one line each, a lock for one writer, and flushed files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import cannot_write, printable

__all__ = ["FileDatabase", "flush", "locked"]

_WAIT_SECONDS = 60.0
"""A reader waits for the short moment of a writer's commit, and a writer for its readers."""


class FileDatabase:
    """A database of SQLite that exists, opened for reading or ``writing``; every error is an ``AuriscopeError``.

    ``schema`` makes it where there is none: nothing else ever does.
    """

    def __init__(self, path: Path, *, writing: bool = False, schema: str | None = None) -> None:
        self.path = path
        # A reader, too, is let write where it may: what a writer that was killed left half-done has to be undone first.
        mode = "rw" if schema is None else "rwc"
        with _one_line(path):
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_WAIT_SECONDS, isolation_level=None
            )
            try:
                if writing or schema is not None:
                    self._connection.execute("PRAGMA synchronous = FULL")
                    self._connection.executescript(schema or "")
                else:
                    self._connection.execute("PRAGMA query_only = ON")
                # The file is not looked at before it is asked for something.
                self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute a statement that changes something."""
        with _one_line(self.path):
            return self._connection.execute(statement, values)

    def rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """Give the rows of a query, one by one."""
        with _one_line(self.path):
            yield from self._connection.execute(query, values)

    def row(self, query: str, values: Sequence[Any] = ()) -> Any:
        """Give the first row of a query, None where there is none."""
        with _one_line(self.path):
            return self._connection.execute(query, values).fetchone()

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """Do all of what is in the block, or nothing; errors of the system become one line too."""
        try:
            self.execute(f"BEGIN {kind}")
            yield
            self.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self.execute("ROLLBACK")
            if isinstance(error, OSError):
                raise cannot_write(self.path.parent, error) from None
            raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other writers out of the folder of a lock; it goes with the process, however that ends."""
    with _one_line(path):
        lock = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    try:
        with _one_line(path, busy="another process is writing this index; wait for its end"):
            lock.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        lock.close()


def flush(path: Path) -> None:
    """Bring a file, or what a folder lists, from the system's memory to the disk."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _one_line(
    path: Path, *, busy: str = "another process is writing at this moment; nothing is lost: try again"
) -> Iterator[None]:
    """Turn an error of SQLite into one line that says whether to wait, to make room, or to begin anew."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte: the others say more of the same.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        folder, name = printable(path.parent), printable(path.name)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            line = f"{folder}: {busy}"
        elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            line = f"{folder}: its {name} is damaged ({error}); make a new index"
        elif code == sqlite3.SQLITE_FULL:
            line = f"{folder}: its {name} cannot be written ({error}); free some space"
        elif code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH):
            line = f"{folder}: its {name} is missing, or may not be read or changed ({error}); see to its permissions"
        elif code == sqlite3.SQLITE_IOERR:
            line = f"{folder}: its {name} cannot be read or written ({error}); see to the disk"
        else:
            line = f"{folder}: its {name} cannot be changed so ({error})"
        raise AuriscopeError(line) from None
