"""An index of recordings on disk: windows of sound as vectors, searched exactly or approximately, updated in place.

========================  ============================================================================================
``index.json``            format version, the model by its address and its checksum, and the dimensions
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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from auriscope.crossmodal.search import PackedVectors, exact_search, merged
from auriscope.crossmodal.storage import FileDatabase, flush, locked
from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import make_folder, printable, written_aside

__all__ = ["FileState", "Hit", "IndexAbout", "IndexedFile", "Place", "Shard", "SoundIndex"]

ABOUT, FILES, VECTORS, LOCK = "index.json", "files.sqlite", "vectors", "writing.lock"
SHARD_ROWS = 1 << 20
"""A file of vectors takes no more files when it holds so many windows."""

_FORMAT_VERSION = 1
_PIECE_ROWS = 1 << 16
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
    """What an index was made with: a model by its address and checksum, and how long its windows are in seconds.

    Of a ``nameless`` model only the architecture is known, and no address from which it could be loaded.
    """

    model: str
    model_sha256: str
    dim: int
    window_seconds: float
    nameless: bool = False


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

    def __init__(self, folder: Path, *, writing: bool = False) -> None:
        self.folder = folder
        self.about = _read_about(folder)
        self._database = FileDatabase(folder / FILES, writing=writing)
        self._packed: dict[int, PackedVectors] = {}

    @classmethod
    @contextmanager
    def writing(cls, folder: Path, about: IndexAbout) -> Iterator[Self]:
        """Open the index in a folder for writing, and make it if there is none.

        ``AuriscopeError`` where another process is writing it, or it was made with another model.
        """
        make_folder(folder)
        if not (folder / ABOUT).exists() and any(folder.iterdir()) and not (folder / LOCK).exists():
            raise AuriscopeError(f"{printable(folder)}: holds other things, and no index; choose a new folder")
        with locked(folder / LOCK):
            if not (folder / ABOUT).exists():
                _make(folder, about)
            with cls(folder, writing=True) as index:
                index.require(about.model, about.model_sha256)
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

    @property
    def model_address(self) -> str:
        """The address of the model that made it; ``AuriscopeError`` where that has none."""
        if self.about.nameless:
            raise AuriscopeError(
                f"{printable(self.folder)}: was made with a {self.about.model} that has no address; "
                "give the model itself, or the folder that it was saved in"
            )
        return self.about.model

    def require(self, model: str, model_sha256: str) -> None:
        """Raise ``AuriscopeError``, with both names, where the index was not made with this model."""
        if self.about.model_sha256 == model_sha256:
            return
        made, shown = self.about.model, printable(self.folder)
        if made == model:
            checksums = f"{self.about.model_sha256[:8]}, not {model_sha256[:8]}"
            raise AuriscopeError(
                f"{shown}: was made with other weights or settings of {made} ({checksums}); make a new index"
            )
        if self.about.nameless:
            raise AuriscopeError(
                f"{shown}: was made with a {made} that has no address, not with {model}; give that, or make a new index"
            )
        raise AuriscopeError(
            f"{shown}: was made with {made}, not with {model}; use --model {made}, or make a new index"
        )

    # What is in it

    @property
    def num_windows(self) -> int:
        """How many windows can be found."""
        (number,) = self._database.row("SELECT COALESCE(SUM(num_rows - num_dead), 0) FROM shards")
        return int(number)

    @property
    def num_files(self) -> int:
        """How many files are in it, those left out that could not be read."""
        (number,) = self._database.row("SELECT COUNT(*) FROM files WHERE error IS NULL")
        return int(number)

    @property
    def duration_seconds(self) -> float:
        """How long all recordings in it are together."""
        (number,) = self._database.row("SELECT COALESCE(SUM(duration_seconds), 0) FROM files")
        return float(number)

    def state(self, path: Path) -> FileState | None:
        """What the index knows of a file, by its absolute path, also of one that could not be read."""
        row = self._database.row("SELECT size, modified_ns, error FROM files WHERE path = ?", (os.fsencode(path),))
        return None if row is None else FileState(*row)

    def states(self, below: Path | None = None) -> Iterator[tuple[Path, FileState]]:
        """Give every file, or every one below a folder, in the order of the paths, and what is known of it."""
        query = "SELECT path, size, modified_ns, error FROM files"
        values: tuple[bytes, ...] = ()
        if below is not None:
            begin = os.path.join(os.fsencode(below), b"")  # noqa: PTH118  # a path of bytes
            query, values = f"{query} WHERE path > ? AND path < ?", (begin, begin[:-1] + bytes([begin[-1] + 1]))
        for path, size, modified_ns, error in self._database.rows(f"{query} ORDER BY path", values):
            yield Path(os.fsdecode(path)), FileState(size, modified_ns, error)

    @property
    def version(self) -> int:
        """Another number whenever another process has changed the index."""
        (number,) = self._database.row("PRAGMA data_version")
        return int(number)

    def shards(self) -> list[Shard]:
        """Every file of vectors, as of now."""
        found = []
        with self._database.transaction("DEFERRED"):
            dead: dict[int, list[NDArray[np.int64]]] = {}
            for number, first, count in self._database.rows("SELECT shard, first, num_windows FROM dead"):
                dead.setdefault(number, []).append(np.arange(first, first + count))
            for number, rows in self._database.rows("SELECT id, num_rows FROM shards WHERE num_rows > 0 ORDER BY id"):
                gone = np.concatenate(dead[number]) if number in dead else np.zeros(0, dtype=np.int64)
                found.append(Shard(number, self._mapped(number, rows), gone))
        return found

    def place(self, shard: int, row: int) -> Place | None:
        """Which window a row is; None where it is dead, as it may be since :meth:`shards` was asked."""
        found = self._database.row(
            "SELECT path, first, starts, duration_seconds FROM files WHERE shard = ? AND first <= ? "
            "AND first + num_windows > ? ORDER BY first DESC LIMIT 1",
            (int(shard), int(row), int(row)),
        )
        if found is None:
            return None
        path, first, starts, duration = found
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
        for number in self._packed.keys() - {shard.number for shard in shards}:
            del self._packed[number]
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
        tail = self._tail()
        with self._database.transaction():
            self._forget(file.path for file in files)
            shard, first = self._appended(vectors, tail)
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
        with self._database.transaction():
            for path, state in files:
                self._forget([path])
                self._database.execute(
                    "INSERT INTO files (path, size, modified_ns, error) VALUES (?, ?, ?, ?)",
                    (os.fsencode(path), state.size, state.modified_ns, state.error),
                )

    def remove(self, paths: Iterable[Path]) -> None:
        """Take files out."""
        with self._database.transaction():
            self._forget(paths)

    def compact(self) -> None:
        """Write files of vectors anew that are more than half dead, a part at a time."""
        query = "SELECT id, num_rows FROM shards WHERE num_dead * 2 > num_rows"
        for number, rows in list(self._database.rows(query)):
            vectors = self._mapped(number, rows)
            for piece in self._living(number):
                kept = np.concatenate([vectors[first : first + count] for _, first, count in piece])
                tail = self._tail()
                with self._database.transaction():
                    shard, place = self._appended(kept, tail)
                    for path, first, count in piece:
                        self._bury(number, first, count)
                        values = (shard, place, path)
                        self._database.execute("UPDATE files SET shard = ?, first = ? WHERE path = ?", values)
                        place += count
            with self._database.transaction():
                self._database.execute("DELETE FROM shards WHERE id = ?", (number,))
                self._database.execute("DELETE FROM dead WHERE shard = ?", (number,))
        self._tidy()

    def _living(self, shard: int) -> Iterator[list[tuple[bytes, int, int]]]:
        """Give the path, the first row and the number of rows of the files of a shard, in pieces that fit in memory."""
        query = "SELECT path, first, num_windows FROM files WHERE shard = ? AND num_windows > 0 ORDER BY first"
        files = list(self._database.rows(query, (shard,)))
        begin, rows = 0, 0
        for end, (_, _, count) in enumerate(files, 1):
            rows += count
            if rows >= _PIECE_ROWS or end == len(files):
                yield files[begin:end]
                begin, rows = end, 0

    def _forget(self, paths: Iterable[Path]) -> None:
        for path in paths:
            key = os.fsencode(path)
            row = self._database.row("SELECT shard, first, num_windows FROM files WHERE path = ?", (key,))
            if row is None:
                continue
            if row[0] is not None and row[2] > 0:
                self._bury(*row)
            self._database.execute("DELETE FROM files WHERE path = ?", (key,))

    def _bury(self, shard: int, first: int, count: int) -> None:
        """Mark rows dead."""
        self._database.execute("INSERT INTO dead VALUES (?, ?, ?)", (shard, first, count))
        self._database.execute("UPDATE shards SET num_dead = num_dead + ? WHERE id = ?", (count, shard))

    def _tail(self) -> tuple[int, int]:
        """A file of vectors that has room, and how many rows it has; none that is to be written anew."""
        tail = self._database.row(
            "SELECT id, num_rows FROM shards WHERE num_rows < ? AND num_dead * 2 <= num_rows ORDER BY id DESC LIMIT 1",
            (SHARD_ROWS,),
        )
        if tail is not None:
            return int(tail[0]), int(tail[1])
        # Committed before there is such a file: so a database that has never heard of any is not that of its folder.
        cursor = self._database.execute("INSERT INTO shards (num_rows, num_dead) VALUES (0, 0)")
        return int(cursor.lastrowid or 0), 0

    def _appended(self, vectors: NDArray[np.float16], tail: tuple[int, int]) -> tuple[int, int]:
        """Append vectors to a file of them; where they are, once the transaction is committed."""
        number, rows = tail
        path, begin = self._path(number), rows * self.about.dim * 2
        new = not path.exists()
        if (0 if new else path.stat().st_size) < begin:
            raise self._too_short(path)
        with path.open("w+b" if new else "r+b") as stream:
            # What a process that was killed left behind is written over.
            stream.seek(begin)
            stream.truncate()
            stream.write(vectors.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            flush(path.parent)
        self._database.execute("UPDATE shards SET num_rows = ? WHERE id = ?", (rows + len(vectors), number))
        return number, rows

    def _tidy(self) -> None:
        """Remove files of vectors that the index does not know any more."""
        known = {self._path(number) for (number,) in self._database.rows("SELECT id FROM shards")}
        there = set((self.folder / VECTORS).glob("*.f16"))
        (ever,) = self._database.row("SELECT COUNT(*) FROM sqlite_sequence")
        if there and not ever:
            raise AuriscopeError(
                f"{printable(self.folder)}: has vectors that its {FILES} knows nothing of; "
                f"bring that back, or make a new index in another folder"
            )
        for path in there - known:
            with suppress(OSError):
                path.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / VECTORS / f"{number:06d}.f16"

    def _mapped(self, number: int, rows: int) -> NDArray[np.float16]:
        path, dim = self._path(number), self.about.dim
        try:
            return np.memmap(path, dtype="<f2", mode="r", shape=(rows, dim))
        except (OSError, ValueError):
            raise self._too_short(path) from None

    @staticmethod
    def _too_short(path: Path) -> AuriscopeError:
        return AuriscopeError(f"{printable(path)}: is missing or too short; the index is damaged: make a new one")


def _make(folder: Path, about: IndexAbout) -> None:
    """Make an empty index; what says that there is one comes last."""
    make_folder(folder / VECTORS)
    with closing(FileDatabase(folder / FILES, schema=_SCHEMA)) as database:
        (ever,) = database.row("SELECT (SELECT COUNT(*) FROM sqlite_sequence) + (SELECT COUNT(*) FROM files)")
    if ever:
        raise AuriscopeError(f"{printable(folder)}: has recordings, but no {ABOUT}; make a new index in another folder")
    with written_aside(folder / ABOUT) as aside:
        record = {"format_version": _FORMAT_VERSION, **asdict(about)}
        aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


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
            str(record["model"]),
            str(record["model_sha256"]),
            int(record["dim"]),
            float(record["window_seconds"]),
            bool(record["nameless"]),
        )
    except (KeyError, TypeError, ValueError):
        raise AuriscopeError(f"{shown}: its {ABOUT} is damaged; make a new index") from None
