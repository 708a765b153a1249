"""Writing any kind of file so that it is whole or not there at all, and naming files in messages, without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import soundfile

from auriscope.errors import AudioFileError

StrPath = str | os.PathLike[str]


def printable(path: StrPath) -> str:
    r"""Give a path as typed, but with line breaks and undecodable bytes escaped, fit for a message of one line.

    >>> printable("a\nb.wav")
    'a\\nb.wav'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(path))


def reason(error: BaseException) -> str:
    """Say in a few words, on one line, what an error of the system or of libsndfile means."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, soundfile.LibsndfileError):
        return " ".join(str(error.error_string).split()).rstrip(".")
    return " ".join(str(error).split()) or type(error).__name__


def make_folder(folder: StrPath) -> Path:
    """Make a folder for results, with its parents, unless it exists, and see that it can be written to.

    Raises:
        AudioFileError: if it cannot be made or written to, or if a file has its name.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise AudioFileError(f"{printable(path)}: a file is in the place of this folder; choose another") from None
    except (OSError, ValueError) as error:
        raise AudioFileError(f"{printable(path)}: cannot make this folder ({reason(error)}); choose another") from None
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise AudioFileError(
            f"{printable(path)}: cannot write to this folder; change its permissions or choose another"
        )
    return path


def cannot_write(path: Path, error: BaseException) -> AudioFileError:
    """Turn whatever kept a file from being written into one line with the cure."""
    if isinstance(error, PermissionError):
        cure = "change the folder's permissions or choose another"
    elif isinstance(error, FileNotFoundError):
        cure = "make its folder first"
    elif isinstance(error, ValueError):
        cure = "choose another name"
    else:
        cure = "free some space or choose another folder"
    return AudioFileError(f"{printable(path)}: cannot be written ({reason(error)}); {cure}")


@contextmanager
def written_aside(path: StrPath) -> Iterator[Path]:
    """Give the path of an empty file to write beside ``path``, which replaces ``path`` when the block ends well.

    The file aside has the same folder and ``.part`` after its name; it is flushed to the disk before it takes its
    place, and removed if anything fails, so that ``path`` is always whole: the new file, the old one, or none.

    Raises:
        AudioFileError: for every ``OSError``, also one of the block; other errors of the block pass through.
    """
    target = Path(path)
    aside = begin_aside(target)
    try:
        yield aside
    except OSError as error:
        discard_aside(aside)
        raise cannot_write(target, error) from None
    except BaseException:
        discard_aside(aside)
        raise
    keep_aside(aside, target)


def begin_aside(target: Path) -> Path:
    """Create the empty file that is written beside ``target``, and return its path."""
    try:
        aside = target.with_name(target.name + ".part")
        if target.is_dir():
            raise AudioFileError(f"{printable(target)}: is a folder; choose another name for the file")
        with aside.open("wb"):
            return aside
    except (OSError, ValueError) as error:
        raise cannot_write(target, error) from None


def keep_aside(aside: Path, target: Path) -> None:
    """Flush the finished file aside to the disk and put it in the place of ``target``."""
    try:
        _flush(aside, os.O_RDWR)
        aside.replace(target)
        if os.name == "posix":
            _flush(target.parent, os.O_RDONLY)
    except OSError as error:
        discard_aside(aside)
        raise cannot_write(target, error) from None


def discard_aside(aside: Path) -> None:
    """Remove the file aside, if it is there."""
    with suppress(OSError):
        aside.unlink()


def _flush(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
