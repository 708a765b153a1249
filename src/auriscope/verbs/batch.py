"""Many files in one call: a folder of its own for each, one line for each failure, and nothing half-written.

An input's results go to ``out/<stem>``, or to ``out/<stem>-<digest of its path>`` where that name belongs to another
input. A folder belongs to the input that a record in it names: a ``*.json`` with ``{"source": {"path": …}}``, as every
verb writes it. So two inputs with the same base name never meet, in one call or in two, and the results of several
verbs for one input stand together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from auriscope.errors import AuriscopeError
from auriscope.signal.files import find_audio
from auriscope.signal.outputs import cannot_write, make_folder, printable, reason, written_aside

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Progress:
    """How far a job over many files is.

    ``input`` is the file at work as it was given, number ``index`` (from 0) of ``num_inputs``; ``stage`` says in a word
    or two what is being done to it, and ``fraction`` (0 to 1) how much of that file is done.
    """

    input: str
    index: int
    num_inputs: int
    stage: str
    fraction: float

    @property
    def total_fraction(self) -> float:
        """How much of the whole job is done, 0 to 1, every file counting alike."""
        return (self.index + self.fraction) / max(1, self.num_inputs)


ProgressCallback = Callable[[Progress], None]


class FileResult:
    """Base of the dataclasses that say what a verb made of one file, or in one line why there is nothing."""

    input: str
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints: every field, or ``input`` and ``error`` alone."""
        if self.error is not None:
            return {"input": self.input, "error": self.error}
        fields: dict[str, Any] = dataclasses.asdict(self)  # type: ignore[call-overload]  # of dataclasses only
        return {key: value for key, value in fields.items() if key != "error"}

    def facts(self) -> dict[str, Any]:
        """Give what a record keeps of the result: all but where it was written, and whether it was found there."""
        return {key: value for key, value in self.to_dict().items() if key not in {"files", "resumed"}}


def reporter(
    progress: ProgressCallback | None, path: Path, index: int, num_inputs: int, stage: str
) -> Callable[[float], None]:
    """Make what tells ``progress``, if there is any, which share (0 to 1) of one file is done; it tells 0 at once."""

    def report(fraction: float) -> None:
        if progress is not None:
            progress(Progress(os.fspath(path), index, num_inputs, stage, fraction))

    report(0.0)
    return report


def expand_inputs(inputs: StrPath | Iterable[StrPath]) -> list[Path]:
    """List the audio files that inputs stand for, without tracks that an earlier run wrote into an input folder.

    A file that is given by name is kept whatever it is. Raises ``AudioFileError`` for a folder without audio.
    """
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    named = {Path(path) for path in given}
    # Looked up once a folder: a folder may hold a hundred thousand files.
    results: dict[Path, set[str]] = {}
    kept = []
    for path in find_audio(given):
        if path not in named:
            if path.parent not in results:
                results[path.parent] = _results_in(path.parent)
            if path.name in results[path.parent]:
                continue
        kept.append(path)
    return kept


def source_of(path: Path, **more: Any) -> dict[str, Any]:
    """Identify a file by its absolute path, size and time of change, for the record of what was made from it."""
    try:
        status = path.stat()
    except OSError:
        return {"path": _absolute(path), **more}
    return {"path": _absolute(path), "size": status.st_size, "modified_ns": status.st_mtime_ns, **more}


def result_folders(inputs: Sequence[Path], out: StrPath) -> list[Path]:
    """Choose the folder of each input's results under ``out``; the same input always gets the same one.

    Makes ``out``, and raises ``AudioFileError`` when it cannot be made or written to; the folders are not made yet.
    """
    parent = make_folder(out)
    taken: dict[str, str] = {}
    there: dict[str, list[Path]] = {}
    for entry in parent.iterdir():
        there.setdefault(entry.name.casefold(), []).append(entry)
    folders = []
    for path in inputs:
        owner = _absolute(path)
        digest = hashlib.sha256(os.fsencode(owner)).hexdigest()[:8]
        stem = path.stem.strip(" .") or "recording"
        for name in (stem, f"{stem}-{digest}"):
            # Compared without case: a file system may take Talk and talk for the same name.
            key = name.casefold()
            if taken.get(key, owner) == owner and all(_owner(folder) == owner for folder in there.get(key, [])):
                break
        taken[key] = owner
        folders.append(parent / name)
    return folders


def folders_if_written(inputs: Sequence[Path], out: StrPath | None) -> Sequence[Path | None]:
    """Choose the folders as :func:`result_folders` does, or None for each input where nothing is to be written."""
    return [None] * len(inputs) if out is None else result_folders(inputs, out)


def read_record(folder: Path, name: str) -> dict[str, Any] | None:
    """Read the record of an earlier run, or None when there is none that can be read."""
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write in; its files go to ``folder`` when the block ends well, or nowhere at all.

    A new folder appears at once and whole. In one that exists each file replaces its namesake, and what else lies
    there stays. Raises ``AudioFileError`` when the disk refuses.
    """
    aside = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        yield aside
        if not folder.exists():
            aside.replace(folder)
            return
        records = sorted(aside.glob("*.json"))
        for record in records:
            # Until the new record follows the files it tells of, the old one only says whose folder this is.
            old = read_record(folder, record.name)
            if old is not None:
                write_record(folder / record.name, {"source": old.get("source")})
        for path in [*sorted(set(aside.iterdir()) - set(records)), *records]:
            path.replace(folder / path.name)
    except OSError as error:
        raise cannot_write(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def each(
    inputs: Sequence[Path], work: Callable[[Path, int], _Result], failed: Callable[[Path, str], _Result]
) -> Iterator[_Result]:
    """Yield ``work(input, index)`` of every input, or ``failed(input, line)`` where it raised.

    Only what cannot belong to one file stops the others: the user's interrupt, and running out of memory.
    """
    for index, path in enumerate(inputs):
        try:
            result = work(path, index)
        except AuriscopeError as error:
            result = failed(path, str(error))
        except OSError as error:
            result = failed(path, f"{printable(path)}: {reason(error)}")
        except MemoryError:
            raise
        except Exception as error:
            # A defect of ours, but not of the other files: they are finished, and the log has the traceback.
            _logger.debug("while working on %s", path, exc_info=True)
            result = failed(path, f"{printable(path)}: unexpected {type(error).__name__}: {reason(error)}")
        yield result


def collected(found: Iterable[_Result], on_result: Callable[[_Result], None] | None) -> list[_Result]:
    """List results, each of which ``on_result`` is told as soon as there is one."""
    results = []
    for result in found:
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results


def earlier_result(
    kind: type[_Result],
    path: Path,
    folder: Path,
    record_name: str,
    made: dict[str, Any],
    files: Sequence[str] | None,
    *,
    called: str = "files",
) -> _Result | None:
    """Give the result of an earlier call, if it was made from this file with these settings and is still there.

    ``kind`` is a dataclass with ``input``, ``resumed`` and, ``called`` so, the paths of what was written; ``made`` is
    what its record says of how it came to be, and ``files`` are the names of what was written, None: those that the
    record lists.
    """
    record = read_record(folder, record_name) or {}
    if any(record.get(name) != value for name, value in made.items()):
        return None
    if files is None:
        files = [str(name) for name in record.get(called) or ["nothing"]]
    if not all((folder / name).is_file() for name in files):
        return None
    written = [os.fspath(folder / name) for name in files]
    try:
        return TypeAdapter(kind).validate_python({**record, "input": os.fspath(path), called: written, "resumed": True})
    except ValidationError:
        return None


def _absolute(path: Path) -> str:
    with suppress(OSError, RuntimeError, ValueError):
        return os.fspath(path.resolve())
    return os.fspath(path.absolute())


def _owner(folder: Path) -> str | None:
    """Say whose results a folder holds: the path of an input, or None."""
    if folder.is_dir():
        for path in sorted(folder.glob("*.json")):
            source = (read_record(folder, path.name) or {}).get("source")
            if isinstance(source, dict) and isinstance(source.get("path"), str):
                return str(source["path"])
    return None


def _results_in(folder: Path) -> set[str]:
    """The names that records in a folder list as tracks, as sounds that a page plays, or as what was written."""
    names = set()
    for record_path in folder.glob("*.json"):
        record = read_record(folder, record_path.name) or {}
        if not isinstance(record.get("source"), dict):
            continue
        lists = [record[key] for key in ("tracks", "sounds", "outputs") if isinstance(record.get(key), list)]
        listed = [entry.get("path") if isinstance(entry, dict) else entry for entries in lists for entry in entries]
        names |= {name for name in listed if isinstance(name, str)}
    return names
