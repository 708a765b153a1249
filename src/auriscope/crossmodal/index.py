"""An index of recordings on disk: windows of sound as vectors, searched exactly or approximately, updated in place.

========================  ============================================================================================
``index.json``            format version, the model by its address and the checksum of its weights, and the dimensions
``files.sqlite``          every file: its size and time of change, where its vectors are, when its windows begin, or
                          why it could not be read
``vectors/000001.f16``    vectors (rows, dim) of 16 bits, of about a million windows; only ever appended to
``graph.usearch``         the approximate index, where there is one (:mod:`auriscope.crossmodal.graph`)
========================  ============================================================================================

Vectors are written and flushed before a transaction of SQLite says that they are there. So a process may be killed at
any moment, what was committed is kept, and others read the index while it grows. What a file had is marked dead when
the file is changed or removed; a file of vectors that is more than half dead is written anew.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from auriscope.crossmodal.search import PackedVectors, exact_search, merged
from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import cannot_write, make_folder, printable, written_aside

__all__ = ["FileState", "Hit", "IndexAbout", "IndexedFile", "Place", "Shard", "SoundIndex"]

ABOUT, FILES, VECTORS, LOCK = "index.json", "files.sqlite", "vectors", "writing.lock"
SHARD_ROWS = 1 << 20
"""A file of vectors takes no more files when it holds so many windows."""

_FORMAT_VERSION = 1
_PIECE = 1 << 12
_SCHEMA = """
CREATE TABLE IF NOT EXISTS shards (
    id INTEGER PRIMARY KEY AUTOINCREMENT, num_rows INTEGER NOT NULL, num_dead INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified_ns INTEGER NOT NULL, error TEXT,
    duration_seconds REAL, shard INTEGER, first INTEGER, num_windows INTEGER, starts BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_by_row ON files (shard, first);
CREATE TABLE IF NOT EXISTS dead (shard INTEGER NOT NULL, first INTEGER NOT NULL, num_windows INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS dead_by_shard ON dead (shard);
"""


@dataclass(frozen=True)
class IndexAbout:
    """What an index was made with: a model by its address and checksum, and how long its windows are in seconds."""

    model: str
    weights_sha256: str
    dim: int
    window_seconds: float


@dataclass(frozen=True)
class FileState:
    """What tells whether a file has changed, and why it could not be read if it could not."""

    size: int
    modified_ns: int
    error: str | None = None


@dataclass(frozen=True)
class IndexedFile:
    """A file to put into the index.

    ``embedding`` (windows, dim) are of unit length, ``starts_seconds`` (windows,) is when each begins.
    """

    path: Path
    state: FileState
    duration_seconds: float
    starts_seconds: NDArray[np.float64]
    embedding: NDArray[Any]


@dataclass(frozen=True)
class Place:
    """A window of an index: of which file it is, and when it is."""

    path: Path
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Hit(Place):
    """A window that was found, and its score: the cosine, -1 to 1."""

    score: float


@dataclass(frozen=True)
class Shard:
    """A file of vectors (rows, dim), mapped from the disk, and those of its rows that are dead."""

    number: int
    vectors: NDArray[np.float16]
    dead: NDArray[np.int64]


class SoundIndex:
    """An index of recordings in a folder, opened for reading; :meth:`writing` opens it for writing.

    Raises ``AuriscopeError``, one line, where the folder holds no index or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = _read_about(folder)
        self._database = _connect(folder)
        self._packed: dict[int, PackedVectors] = {}

    @classmethod
    @contextmanager
    def writing(cls, folder: Path, about: IndexAbout) -> Iterator[Self]:
        """Open the index in a folder for writing, and make it if there is none.

        ``AuriscopeError`` where another process is writing it, or it was made with another model or other weights.
        """
        make_folder(folder)
        if not (folder / ABOUT).exists() and any(folder.iterdir()) and not (folder / LOCK).exists():
            raise AuriscopeError(f"{printable(folder)}: holds other things, and no index; choose a new folder")
        with _lock(folder):
            if not (folder / ABOUT).exists():
                make_folder(folder / VECTORS)
                with written_aside(folder / ABOUT) as aside:
                    record = {"format_version": _FORMAT_VERSION, **asdict(about)}
                    aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            with cls(folder) as index:
                index.require(about.model, about.weights_sha256)
                index._tidy()
                yield index

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._database.close()
        self._packed.clear()

    def require(self, model: str, weights_sha256: str) -> None:
        """Raise ``AuriscopeError``, with both names, where the index was not made with these weights."""
        if self.about.weights_sha256 == weights_sha256:
            return
        made = self.about.model
        if made == model:
            checksums = f"{self.about.weights_sha256[:8]}, not {weights_sha256[:8]}"
            raise AuriscopeError(
                f"{printable(self.folder)}: was made with other weights of {made} ({checksums}); make a new index"
            )
        raise AuriscopeError(
            f"{printable(self.folder)}: was made with {made}, not with {model}; use --model {made}, or make a new index"
        )

    # What is in it

    @property
    def num_windows(self) -> int:
        """How many windows can be found."""
        (number,) = self._database.execute("SELECT COALESCE(SUM(num_rows - num_dead), 0) FROM shards").fetchone()
        return int(number)

    @property
    def num_files(self) -> int:
        """How many files are in it, those left out that could not be read."""
        (number,) = self._database.execute("SELECT COUNT(*) FROM files WHERE error IS NULL").fetchone()
        return int(number)

    @property
    def duration_seconds(self) -> float:
        """How long all recordings in it are together."""
        (number,) = self._database.execute("SELECT COALESCE(SUM(duration_seconds), 0) FROM files").fetchone()
        return float(number)

    def states(self) -> dict[Path, FileState]:
        """Every file by its absolute path, those that could not be read included."""
        rows = self._database.execute("SELECT path, size, modified_ns, error FROM files")
        return {Path(os.fsdecode(path)): FileState(size, changed, error) for path, size, changed, error in rows}

    def shards(self) -> list[Shard]:
        """Every file of vectors, as of now."""
        found = []
        with self._transaction("DEFERRED"):
            dead: dict[int, list[NDArray[np.int64]]] = {}
            for number, first, count in self._database.execute("SELECT shard, first, num_windows FROM dead"):
                dead.setdefault(number, []).append(np.arange(first, first + count))
            for number, rows in self._database.execute(
                "SELECT id, num_rows FROM shards WHERE num_rows > 0 ORDER BY id"
            ):
                gone = np.concatenate(dead[number]) if number in dead else np.zeros(0, dtype=np.int64)
                found.append(Shard(number, self._mapped(number, rows), gone))
        return found

    def place(self, shard: int, row: int) -> Place:
        """Which window a living row is."""
        path, first, starts, duration = self._database.execute(
            "SELECT path, first, starts, duration_seconds FROM files WHERE shard = ? AND first <= ? "
            "AND first + num_windows > ? ORDER BY first DESC LIMIT 1",
            (int(shard), int(row), int(row)),
        ).fetchone()
        start = float(np.frombuffer(starts, dtype="<f8")[row - first])
        end = min(start + self.about.window_seconds, duration)
        return Place(Path(os.fsdecode(path)), round(start, 6), round(end, 6))

    # Searching

    def search(
        self, queries: NDArray[Any], k: int, *, keep: bool = False, shards: Sequence[Shard] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Find the ``k`` nearest windows of each query (queries, dim), exactly.

        ``keep`` packs the vectors into memory, a byte a number, which is worth it for many searches
        (:class:`~auriscope.crossmodal.search.PackedVectors`). Returns scores (queries, k) from the highest on, and
        numbers of shards and rows for :meth:`place`; -inf and -1 where there are fewer windows.
        """
        shards = self.shards() if shards is None else shards
        found = []
        for shard in shards:
            if not keep:
                found.append(exact_search(queries, shard.vectors, k, dead=shard.dead))
                continue
            packed = self._packed.get(shard.number)
            if packed is None or len(packed) != len(shard.vectors) or packed.num_dead != len(shard.dead):
                packed = self._packed[shard.number] = PackedVectors(shard.vectors, dead=shard.dead)
            found.append(packed.search(queries, k))
        if not found:
            empty = np.full((len(queries), k), -1, dtype=np.int64)
            return np.full((len(queries), k), -np.inf, dtype=np.float32), empty, empty
        scores, rows, sources = merged(found, k)
        numbers = np.array([shard.number for shard in shards])
        return scores, np.where(sources < 0, -1, numbers[sources]), rows

    # Writing

    def add(self, files: Sequence[IndexedFile]) -> None:
        """Put files in, in the place of what the index has of the same paths; all of them, or none."""
        if not files:
            return
        vectors = np.concatenate([np.asarray(file.embedding, dtype="<f2") for file in files])
        with self._transaction():
            self._forget(file.path for file in files)
            shard, first = self._appended(vectors)
            for file in files:
                starts = np.ascontiguousarray(file.starts_seconds, dtype="<f8").tobytes()
                self._database.execute(
                    "INSERT INTO files VALUES (?, ?, ?, NULL, ?, ?, ?, ?, ?)",
                    (
                        os.fsencode(file.path),
                        file.state.size,
                        file.state.modified_ns,
                        file.duration_seconds,
                        shard,
                        first,
                        len(file.embedding),
                        starts,
                    ),
                )
                first += len(file.embedding)

    def note_unreadable(self, files: Iterable[tuple[Path, FileState]]) -> None:
        """Remember files that could not be read, so that they are tried again only when they have changed."""
        with self._transaction():
            for path, state in files:
                self._forget([path])
                self._database.execute(
                    "INSERT INTO files (path, size, modified_ns, error) VALUES (?, ?, ?, ?)",
                    (os.fsencode(path), state.size, state.modified_ns, state.error),
                )

    def remove(self, paths: Iterable[Path]) -> None:
        """Take files out."""
        with self._transaction():
            self._forget(paths)

    def compact(self) -> None:
        """Write files of vectors anew that are more than half dead."""
        query = "SELECT id FROM shards WHERE num_dead * 2 > num_rows"
        for (number,) in self._database.execute(query).fetchall():
            with self._transaction():
                (rows,) = self._database.execute("SELECT num_rows FROM shards WHERE id = ?", (number,)).fetchone()
                vectors = self._mapped(number, rows)
                living = self._database.execute(
                    "SELECT path, first, num_windows FROM files WHERE shard = ? ORDER BY first", (number,)
                ).fetchall()
                self._database.execute("DELETE FROM shards WHERE id = ?", (number,))
                self._database.execute("DELETE FROM dead WHERE shard = ?", (number,))
                for begin in range(0, len(living), _PIECE):
                    piece = living[begin : begin + _PIECE]
                    kept = [vectors[first : first + count] for _, first, count in piece]
                    shard, place = self._appended(np.concatenate(kept))
                    for path, _, count in piece:
                        self._database.execute(
                            "UPDATE files SET shard = ?, first = ? WHERE path = ?", (shard, place, path)
                        )
                        place += count
        self._tidy()

    def _forget(self, paths: Iterable[Path]) -> None:
        for path in paths:
            key = os.fsencode(path)
            found = self._database.execute("SELECT shard, first, num_windows FROM files WHERE path = ?", (key,))
            row = found.fetchone()
            if row is None:
                continue
            if row[0] is not None and row[2] > 0:
                self._database.execute("INSERT INTO dead VALUES (?, ?, ?)", row)
                self._database.execute("UPDATE shards SET num_dead = num_dead + ? WHERE id = ?", (row[2], row[0]))
            self._database.execute("DELETE FROM files WHERE path = ?", (key,))

    def _appended(self, vectors: NDArray[np.float16]) -> tuple[int, int]:
        """Append vectors to the last file of them; where they are, once the transaction is committed."""
        tail = self._database.execute("SELECT id, num_rows FROM shards ORDER BY id DESC LIMIT 1").fetchone()
        if tail is None or tail[1] >= SHARD_ROWS:
            cursor = self._database.execute("INSERT INTO shards (num_rows, num_dead) VALUES (0, 0)")
            tail = (int(cursor.lastrowid or 0), 0)
        number, rows = tail
        path = self._path(number)
        with path.open("r+b" if path.exists() else "w+b") as stream:
            # What a process that was killed left behind is written over.
            stream.seek(rows * self.about.dim * 2)
            stream.truncate()
            stream.write(vectors.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        self._database.execute("UPDATE shards SET num_rows = ? WHERE id = ?", (rows + len(vectors), number))
        return number, rows

    def _tidy(self) -> None:
        """Remove files of vectors that the index does not know any more."""
        known = {self._path(number) for (number,) in self._database.execute("SELECT id FROM shards")}
        for path in set((self.folder / VECTORS).glob("*.f16")) - known:
            with suppress(OSError):
                path.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / VECTORS / f"{number:06d}.f16"

    def _mapped(self, number: int, rows: int) -> NDArray[np.float16]:
        path, dim = self._path(number), self.about.dim
        try:
            return np.memmap(path, dtype="<f2", mode="r", shape=(rows, dim))
        except (OSError, ValueError):
            raise AuriscopeError(
                f"{printable(path)}: is missing or too short; the index is damaged: make a new one"
            ) from None

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        try:
            self._database.execute(f"BEGIN {kind}")
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, OSError):
                raise cannot_write(self.folder, error) from None
            if isinstance(error, sqlite3.Error):
                raise AuriscopeError(
                    f"{printable(self.folder)}: cannot be changed ({error}); free some space, or make a new index"
                ) from None
            raise


def _read_about(folder: Path) -> IndexAbout:
    shown = printable(folder)
    try:
        record = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AuriscopeError(f"{shown}: is no index; make one first: auriscope index FOLDER --out {shown}") from None
    except (OSError, ValueError, RecursionError):
        raise AuriscopeError(f"{shown}: its {ABOUT} cannot be read; make a new index") from None
    try:
        if record["format_version"] != _FORMAT_VERSION:
            raise AuriscopeError(
                f"{shown}: is an index of format {record['format_version']}; this auriscope knows {_FORMAT_VERSION}"
            )
        return IndexAbout(
            str(record["model"]), str(record["weights_sha256"]), int(record["dim"]), float(record["window_seconds"])
        )
    except (KeyError, TypeError, ValueError):
        raise AuriscopeError(f"{shown}: its {ABOUT} is damaged; make a new index") from None


def _connect(folder: Path) -> sqlite3.Connection:
    try:
        # A reader waits for the short moment of a writer's commit.
        database = sqlite3.connect(folder / FILES, timeout=60.0, isolation_level=None)
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_SCHEMA)
    except sqlite3.Error as error:
        raise AuriscopeError(f"{printable(folder)}: its {FILES} cannot be read ({error}); make a new index") from None
    return database


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep other writers out; the lock goes with the process, however that ends."""
    lock = sqlite3.connect(folder / LOCK, timeout=0.0, isolation_level=None)
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            raise AuriscopeError(
                f"{printable(folder)}: another process is writing this index; wait for its end"
            ) from None
        yield
    finally:
        lock.close()
