"""Where recordings lie: a local folder, or any object storage that fsspec knows, by URL."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import printable, reason

_KEY = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)*(\.[a-z0-9]+)?")


@dataclass(frozen=True)
class Entry:
    """A whole file as it is listed: its size in bytes, and when it was written, in seconds since 1970."""

    key: str
    num_bytes: int
    written_at: float


class Aside(Protocol):
    """A file that is being written: nobody sees it under its key before ``keep``."""

    def write(self, data: bytes | bytearray) -> None:
        """Add bytes."""

    def keep(self) -> None:
        """Flush it to the disk and give it its key, whole."""

    def discard(self) -> None:
        """Forget it."""


class Storage(Protocol):
    """Files by key, such as ``recordings/sub_7hq2.wav``; keys are made by the server, never by a visitor."""

    def aside(self, key: str) -> Aside:
        """Begin to write a file."""

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading; ``AuriscopeError`` if it is not there."""

    def local(self, key: str) -> Any:
        """Give, as a context manager, a path under which the file can be read."""

    def exists(self, key: str) -> bool:
        """Say whether there is a whole file."""

    def delete(self, key: str) -> None:
        """Remove a file for good; nothing happens if it is not there."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Name all whole files whose key begins so, in order."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """List all whole files whose key begins so, in order."""

    def size(self, key: str) -> int:
        """Give the number of bytes."""

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what was begun and never kept, and say how many."""


def open_storage(url: str) -> Storage:
    """Open a storage: a folder's path, or a URL such as ``s3://bucket/prefix``."""
    if "://" in url and not url.startswith("file://"):
        return ObjectStorage(url)
    return FolderStorage(Path(url.removeprefix("file://")))


def put(storage: Storage, key: str, data: bytes) -> None:
    """Write a whole file."""
    aside = storage.aside(key)
    try:
        aside.write(data)
        aside.keep()
    except BaseException:
        aside.discard()
        raise


def digest(storage: Storage, key: str) -> str | None:
    """Digest a file (SHA-256) in hexadecimal; None if it is not there or cannot be read."""
    found = hashlib.sha256()
    try:
        with storage.open(key) as file:
            while block := file.read(1 << 20):
                found.update(block)
    except (AuriscopeError, OSError):
        return None
    return found.hexdigest()


def checked(key: str) -> str:
    """Give a key back; ``ValueError`` if it is not of the form that this module makes.

    >>> checked("recordings/sub_7hq2.wav")
    'recordings/sub_7hq2.wav'
    """
    if not _KEY.fullmatch(key) or len(key) > 200:
        raise ValueError(f"not a storage key: {key!r}")
    return key


class FolderStorage:
    """Files in a folder. They are written aside (``.part``), flushed, renamed, and the folder is flushed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where a file lies."""
        return self.root / checked(key)

    def aside(self, key: str) -> _FileAside:
        """Begin to write a file."""
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        return _FileAside(target)

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading."""
        try:
            return self.path(key).open("rb")
        except OSError as error:
            raise AuriscopeError(f"{printable(self.path(key))}: cannot be read ({reason(error)})") from None

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Give the path."""
        path = self.path(key)
        if not path.is_file():
            raise AuriscopeError(f"{printable(path)}: there is no such file")
        yield path

    def exists(self, key: str) -> bool:
        """Say whether there is a whole file."""
        return self.path(key).is_file()

    def delete(self, key: str) -> None:
        """Remove a file for good."""
        path = self.path(key)
        with suppress(FileNotFoundError):
            path.unlink()
            _flush_folder(path.parent)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Name all whole files."""
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """List all whole files."""
        # Other folders need not be read.
        for path in sorted((self.root / prefix.rpartition("/")[0]).rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if not key.startswith(prefix) or path.suffix == ".part":
                continue
            with suppress(FileNotFoundError):
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    yield Entry(key, status.st_size, status.st_mtime)

    def size(self, key: str) -> int:
        """Give the number of bytes."""
        return self.path(key).stat().st_size

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what was begun and never kept."""
        count = 0
        for path in self.root.rglob("*.part"):
            # Its writer may keep or discard it at this moment.
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than_seconds:
                    path.unlink()
                    count += 1
        return count


class _FileAside:
    def __init__(self, target: Path) -> None:
        self._target = target
        # Two uploads of the same key at once do not write into one file.
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=".part")
        self._path = Path(name)
        self._file = os.fdopen(handle, "wb")

    def write(self, data: bytes | bytearray) -> None:
        self._file.write(data)

    def keep(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.replace(self._target)
        _flush_folder(self._target.parent)

    def discard(self) -> None:
        if not self._file.closed:
            with suppress(OSError):
                # A full disk must not keep it from being removed.
                self._file.close()
            self._path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class ObjectStorage:
    """Files in an object storage, through fsspec: an object appears whole when its upload ends, or not at all."""

    def __init__(self, url: str, **options: Any) -> None:
        import fsspec

        try:
            self._system, self._root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise AuriscopeError(f"{url}: this storage cannot be used: {' '.join(str(error).split())}") from None

    def _path(self, key: str) -> str:
        return f"{self._root}/{checked(key)}"

    def aside(self, key: str) -> _ObjectAside:
        """Begin to write a file."""
        return _ObjectAside(self._system, self._path(key))

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading."""
        try:
            return self._system.open(self._path(key), "rb")  # type: ignore[no-any-return]
        except OSError as error:
            raise AuriscopeError(f"{key}: cannot be read ({reason(error)})") from None

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Give the path of a copy, which is removed afterwards."""
        with tempfile.TemporaryDirectory() as folder, self.open(key) as source:
            copy = Path(folder) / key.rpartition("/")[2]
            with copy.open("wb") as target:
                shutil.copyfileobj(source, target)
            yield copy

    def exists(self, key: str) -> bool:
        """Say whether there is a whole file."""
        self._system.invalidate_cache()
        return bool(self._system.exists(self._path(key)))

    def delete(self, key: str) -> None:
        """Remove a file for good."""
        with suppress(FileNotFoundError):
            self._system.rm_file(self._path(key))
        self._system.invalidate_cache()

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Name all whole files."""
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """List all whole files."""
        self._system.invalidate_cache()
        folder = "/".join([self._root, *prefix.split("/")[:-1]])
        for path, facts in sorted(self._system.find(folder, detail=True).items()):
            key = path[len(self._root) + 1 :]
            if key.startswith(prefix):
                # S3 says it in the list; what others call created is not always a moment, so they are asked.
                written = facts.get("LastModified") or self._system.modified(path)
                yield Entry(key, int(facts["size"]), written.timestamp())

    def size(self, key: str) -> int:
        """Give the number of bytes."""
        return int(self._system.size(self._path(key)))

    def sweep(self, older_than_seconds: float) -> int:  # noqa: ARG002
        """Nothing to do: what was not kept was never sent."""
        return 0


class _ObjectAside:
    """Bytes wait in a temporary file; they are sent when they are kept."""

    def __init__(self, system: Any, path: str) -> None:
        self._system, self._path = system, path
        self._file = tempfile.NamedTemporaryFile(prefix="auriscope-")  # noqa: SIM115 - closed by keep or discard

    def write(self, data: bytes | bytearray) -> None:
        self._file.write(data)

    def keep(self) -> None:
        self._file.flush()
        try:
            # Unlike a file that is opened for writing and closed after an error, this never leaves half an object.
            self._system.put_file(self._file.name, self._path)
        except OSError:
            raise
        except Exception as error:
            # Every system has its own errors for a network that fails; to those who keep files it is one thing.
            raise OSError(errno.EIO, " ".join(str(error).split())) from error
        self._file.close()
        self._system.invalidate_cache()

    def discard(self) -> None:
        self._file.close()
