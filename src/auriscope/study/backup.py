"""Backups: one file with the database as it was at one moment, the campaign and all recordings; and back again.

A backup is a tar file: ``backup.json`` says what it is, ``folder/`` holds the study's own files, ``database/`` the
database (SQLite's own backup, or ``pg_dump``), ``files/`` the storage, and ``SHA256SUMS`` their digests. The server may
run meanwhile: a recording is in the storage before its row is in the database, so that the database, taken first, names
no file that does not come along. The file holds personal data, and only its owner may read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml
from sqlalchemy import URL, inspect, make_url, select

import auriscope
from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import (
    begin_aside,
    cannot_write,
    discard_aside,
    keep_aside,
    make_folder,
    printable,
    reason,
)
from auriscope.study.database import Database
from auriscope.study.ids import now
from auriscope.study.schema import Submission
from auriscope.study.settings import SECRET_FILE, SERVER_FILE, read_settings
from auriscope.study.storage import Storage, checked, digest, open_storage
from auriscope.study.study import Study, write_secret

_FORMAT = 1
_BLOCK = 1 << 20
_MEMBERS = {"sqlite": "database/study.db", "postgresql": "database/study.dump"}
# Where a study is served is not part of it: a restored one must never write into the database of the first.
_PLACES = ("database", "storage", "queue", "secret")
_SECRETS = "folder/" + SECRET_FILE


@dataclass(frozen=True)
class BackedUp:
    """A backup that was made: the file, its size, and how many of the storage's files it holds."""

    path: Path
    num_bytes: int
    num_files: int
    has_secret: bool


@dataclass(frozen=True)
class Restored:
    """A study that was restored: ``incomplete`` names submissions whose recording is not as it was acknowledged.

    Without the secret (``has_secret``), stamps and links that were given out before do not hold any more.
    """

    folder: Path
    num_files: int
    has_secret: bool
    incomplete: tuple[str, ...]


def backup(study: Study, out: Path, *, with_secret: bool = False) -> BackedUp:
    """Write a backup of a study, whole or not at all; the server may run.

    ``with_secret`` puts the study's secret in, by which everybody who has the file could make stamps. Raises
    ``AuriscopeError`` if the file is there already, or the database cannot be saved.
    """
    if out.exists():
        raise AuriscopeError(f"{printable(out)}: is there already; choose another name")
    aside = begin_aside(out)
    try:
        aside.chmod(0o600)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".auriscope-backup-") as scratch:
            num_files = _fill(study, aside, Path(scratch), out, with_secret)
    except OSError as error:
        discard_aside(aside)
        raise cannot_write(out, error) from None
    except BaseException:
        discard_aside(aside)
        raise
    keep_aside(aside, out)
    return BackedUp(out, out.stat().st_size, num_files, with_secret)


def _fill(study: Study, aside: Path, scratch: Path, out: Path, with_secret: bool) -> int:
    kind = "sqlite" if study.database.is_sqlite else "postgresql"
    saved = scratch / "database"
    _save_database(study, saved)
    about = {
        "format": _FORMAT,
        "auriscope": auriscope.__version__,
        "campaign": study.campaign.name,
        "database": kind,
        "made_at": now().isoformat(timespec="seconds"),
        "has_secret": with_secret,
    }
    sums: dict[str, str] = {}
    num_files = 0
    with tarfile.open(aside, "w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, size: int, source: IO[bytes]) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = size, 0o600
            hashing = _Hashing(source)
            tar.addfile(entry, hashing)
            sums[name] = hashing.digest.hexdigest()

        def add_bytes(name: str, data: bytes) -> None:
            with tempfile.TemporaryFile() as file:
                file.write(data)
                file.seek(0)
                add(name, len(data), file)

        add_bytes("backup.json", json.dumps(about, indent=1).encode())
        with saved.open("rb") as file:
            add(_MEMBERS[kind], saved.stat().st_size, file)
        for path in _own_files(study, {out, aside, scratch}):
            with path.open("rb") as file:
                add(f"folder/{path.relative_to(study.folder).as_posix()}", os.fstat(file.fileno()).st_size, file)
        add_bytes(f"folder/{SERVER_FILE}", _settings_without_places(study.folder / SERVER_FILE))
        if with_secret:
            add_bytes(_SECRETS, study.settings.secret.encode() + b"\n")
        for key in study.storage.keys(""):
            # What was removed since it was listed does not come along.
            with ExitStack() as reading:
                try:
                    path = reading.enter_context(study.storage.local(key))
                    stored = reading.enter_context(path.open("rb"))
                except (AuriscopeError, FileNotFoundError):
                    continue
                add(f"files/{key}", os.fstat(stored.fileno()).st_size, stored)
                num_files += 1
        add_bytes("SHA256SUMS", "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
    return num_files


class _Hashing:
    """Reads a file and digests what was read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


def _own_files(study: Study, left_out: set[Path]) -> Iterator[Path]:
    """Name what lies in the study's folder besides the database, the storage, the queue and the secret."""
    places = [study.settings.storage.removeprefix("file://"), study.settings.queue]
    if study.database.is_sqlite:
        places.append(make_url(study.database.url).database or "")
    ours = {Path(place).absolute() for place in places}
    others = {path.absolute() for path in left_out}
    for path in sorted(study.folder.absolute().rglob("*")):
        inside = {path, *path.parents}
        # SQLite keeps its log beside a database, under the same name and a suffix.
        beside = {path.with_name(path.name.removesuffix(suffix)) for suffix in ("-wal", "-shm", "-journal")}
        # Backups do not hold earlier backups.
        if path.is_symlink() or not path.is_file() or path.suffix in (".part", ".tar"):
            continue
        if path.name in (SERVER_FILE, SECRET_FILE) and path.parent == study.folder.absolute():
            continue
        if not inside & (ours | others) and not beside & ours:
            yield study.folder / path.relative_to(study.folder.absolute())


def _settings_without_places(path: Path) -> bytes:
    values = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    kept = {key: value for key, value in (values or {}).items() if key not in _PLACES}
    return yaml.safe_dump(kept, allow_unicode=True, sort_keys=False).encode() if kept else b""


def _save_database(study: Study, target: Path) -> None:
    url = make_url(study.database.url)
    if not study.database.is_sqlite:
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")
        return
    with closing(sqlite3.connect(url.database or "")) as source, closing(sqlite3.connect(target)) as copy:
        # In one step: all pages are of one moment, and writers go on in the log meanwhile.
        source.backup(copy)


def _run(program: str, url: URL, *arguments: str) -> None:
    """Run a program of PostgreSQL's on a database; the password goes by the environment, where nobody sees it."""
    found = shutil.which(program) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)), None
    )
    if found is None:
        raise AuriscopeError(f"this needs PostgreSQL's program {program}; install its client (postgresql-client)")
    environment = dict(os.environ)
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)
    address = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    done = subprocess.run(
        [found, "--no-password", f"--dbname={address}", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise AuriscopeError(f"{program}: {' '.join(done.stderr.split()) or f'ended with {done.returncode}'}")


def restore(file: Path, folder: Path) -> Restored:
    """Restore a study from a backup into an empty folder, an empty database and an empty storage.

    The folder may hold ``server.yaml`` and ``secret.key``, which then stay: they say, or the environment does, which
    database and storage to use, by default new ones in the folder. Raises ``AuriscopeError``, and leaves nothing of the
    study behind, if the backup is damaged, something is not empty, or the database is of another kind.
    """
    about = _check(file)
    make_folder(folder)
    allowed = (folder / SERVER_FILE, folder / SECRET_FILE)
    there = sorted(path for path in folder.rglob("*") if not path.is_dir() and path not in allowed)
    if there:
        raise AuriscopeError(f"{printable(folder)}: is not empty ({printable(there[0].name)}); give an empty folder")
    try:
        with ExitStack() as undo, tarfile.open(file, "r:") as tar:
            num_files = _restore(tar, folder, str(about["database"]), undo)
            undo.pop_all()
    except OSError as error:
        raise cannot_write(folder, error) from None
    study = Study.open(folder)
    try:
        return Restored(folder, num_files, bool(about["has_secret"]), tuple(_incomplete(study)))
    finally:
        study.close()


def _restore(tar: tarfile.TarFile, folder: Path, kind: str, undo: ExitStack) -> int:
    members = {entry.name: entry for entry in tar.getmembers()}
    for name, entry in members.items():
        target = folder / name.removeprefix("folder/")
        if name.startswith("folder/") and not target.resolve().is_relative_to(folder.resolve()):
            raise AuriscopeError(f"{printable(target)}: lies outside of {printable(folder)}; remove the link there")
        if name.startswith("folder/") and not target.exists():
            undo.callback(target.unlink, missing_ok=True)
            _copy(tar, entry, target)
    if not (folder / SECRET_FILE).exists():
        undo.callback((folder / SECRET_FILE).unlink, missing_ok=True)
        write_secret(folder)
    settings = read_settings(folder)
    url = make_url(settings.database)
    if url.get_backend_name() != kind:
        raise AuriscopeError(
            f"the backup is of {kind} and the settings name {url.get_backend_name()}; set AURISCOPE_STUDY_DATABASE, or "
            f"database in {SERVER_FILE}, to an empty database of {kind}"
        )
    storage = open_storage(settings.storage)
    if next(iter(storage.keys("")), None) is not None:
        raise AuriscopeError(f"{printable(settings.storage)}: holds files already; give an empty storage")
    _see_that_it_is_empty(settings.database)
    num_files = 0
    for name, entry in members.items():
        if name.startswith("files/"):
            key = checked(name.removeprefix("files/"))
            undo.callback(storage.delete, key)
            _store(tar, entry, storage, key)
            num_files += 1
    # Last, and in one step: whatever breaks off before leaves the database as empty as it was.
    _restore_database(tar, members[_MEMBERS[kind]], settings.database, undo)
    return num_files


def _see_that_it_is_empty(address: str) -> None:
    url = make_url(address)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        if path.exists():
            raise AuriscopeError(f"{printable(path)}: is there already; give the address of a new database")
        return
    database = Database(address)
    try:
        database.check()
        if there := inspect(database.engine).get_table_names():
            raise AuriscopeError(f"the database has tables already ({there[0]}); give an empty one")
    finally:
        database.close()


def _restore_database(tar: tarfile.TarFile, entry: tarfile.TarInfo, address: str, undo: ExitStack) -> None:
    url = make_url(address)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        undo.callback(path.unlink, missing_ok=True)
        _copy(tar, entry, path)
        return
    with tempfile.TemporaryDirectory(prefix="auriscope-restore-") as scratch:
        dump = Path(scratch) / "study.dump"
        _copy(tar, entry, dump)
        _run("pg_restore", url, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(dump))


def _check(file: Path) -> dict[str, Any]:
    """Read a whole backup and compare its digests, before anything is written."""
    cure = "take another backup"
    try:
        with tarfile.open(file, "r:") as tar:
            sums: dict[str, str] = {}
            about: Any = None
            said: str | None = None
            for entry in tar:
                _see_that_it_is_ours(entry)
                content, digest = _digested(tar, entry)
                if entry.name == "SHA256SUMS":
                    said = content.decode()
                    continue
                sums[entry.name] = digest
                if entry.name == "backup.json":
                    about = json.loads(content)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise AuriscopeError(f"{printable(file)}: is no backup, or damaged ({reason(error)}); {cure}") from None
    except OSError as error:
        raise AuriscopeError(f"{printable(file)}: cannot be read ({reason(error)})") from None
    if said != "".join(f"{digest}  {name}\n" for name, digest in sums.items()) or not isinstance(about, dict):
        raise AuriscopeError(f"{printable(file)}: is cut off or damaged, its checksums do not hold; {cure}")
    if about.get("format") != _FORMAT or about.get("database") not in _MEMBERS:
        raise AuriscopeError(f"{printable(file)}: is a backup of a newer auriscope; update it first")
    return about


def _digested(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[bytes, str]:
    """Read a member of a backup: its content, if it is one of the two that describe the others, and its digest."""
    keeps = entry.name in ("backup.json", "SHA256SUMS")
    content = bytearray()
    with _reading(tar, entry) as source:
        hashing = _Hashing(source)
        while block := hashing.read(_BLOCK):
            content += block if keeps else b""
    return bytes(content), hashing.digest.hexdigest()


def _see_that_it_is_ours(entry: tarfile.TarInfo) -> None:
    parts = PurePosixPath(entry.name).parts
    known = entry.name in ("backup.json", "SHA256SUMS", *_MEMBERS.values()) or parts[:1] in (("folder",), ("files",))
    is_plain = PurePosixPath(entry.name).as_posix() == entry.name and not entry.name.startswith("/")
    if not entry.isreg() or not known or ".." in parts or not is_plain:
        raise ValueError(f"it holds {printable(entry.name)}")


@contextmanager
def _reading(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[IO[bytes]]:
    source = tar.extractfile(entry)
    assert source is not None
    with source:
        yield source


def _copy(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _reading(tar, entry) as source:
        # It holds personal data, or the secret.
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
            file.flush()
            os.fsync(file.fileno())


def _store(tar: tarfile.TarFile, entry: tarfile.TarInfo, storage: Storage, key: str) -> None:
    aside = storage.aside(key)
    try:
        with _reading(tar, entry) as source:
            while block := source.read(_BLOCK):
                aside.write(block)
        aside.keep()
    except BaseException:
        aside.discard()
        raise


def _incomplete(study: Study) -> Iterator[str]:
    """Name the submissions whose recording is missing or is not as it was acknowledged."""
    with study.database.read() as session:
        acknowledged = session.execute(
            select(Submission.id, Submission.storage_key, Submission.sha256).order_by(Submission.id)
        ).all()
    for submission, key, sha256 in acknowledged:
        if digest(study.storage, key) != sha256:
            yield submission
