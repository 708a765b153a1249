"""The verb ``index``: folders of recordings in, an index on disk out, in which ``match`` finds sounds by words."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.graph import SoundGraph, require_usearch
from auriscope.crossmodal.index import ABOUT, FileState, IndexAbout, IndexedFile, SoundIndex
from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import printable, reason
from auriscope.verbs.batch import Progress, ProgressCallback, StrPath, expand_inputs
from auriscope.verbs.sounds import MISSING, SoundReader, state_of
from auriscope.verbs.workers import Embedded, embedded_by_processes, embedded_by_ray, embedded_here, portions_of

DEFAULT_INDEX = "auriscope-index"
EXACT_WINDOWS = 1_000_000
"""Beyond so many windows, exact search takes seconds: a graph pays."""

_PORTION_FILES, _PORTION_BYTES = 16, 64 << 20
_COMMIT_WINDOWS, _COMMIT_SECONDS = 4096, 10.0


@dataclass(frozen=True)
class Unreadable:
    """A file that was left out, and one line that says why."""

    path: str
    error: str


@dataclass(frozen=True)
class IndexResult:
    """What became of one input.

    ``num_new``, ``num_changed``, ``num_unchanged`` and ``num_removed`` are files of this input; ``unreadable`` are
    those that were left out, now or, if they are as they were, in an earlier call. ``num_files``, ``num_windows`` and
    ``duration_seconds`` are of all of the index; ``approximate``: it has a graph. Where ``error`` is not None, it says
    in one line why nothing was done.
    """

    input: str
    index: str | None = None
    model: str | None = None
    num_new: int = 0
    num_changed: int = 0
    num_unchanged: int = 0
    num_removed: int = 0
    unreadable: tuple[Unreadable, ...] = ()
    num_files: int = 0
    num_windows: int = 0
    duration_seconds: float = 0.0
    approximate: bool = False
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints: every field, or ``input`` and ``error`` alone."""
        if self.error is not None:
            return {"input": self.input, "error": self.error}
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "error"}


def index(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath = DEFAULT_INDEX,
    *,
    model: StrPath | CrossModal | None = None,
    workers: int | None = None,
    ray: bool = False,
    approximate: bool = False,
    device: Any = "cpu",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_result: Callable[[IndexResult], None] | None = None,
) -> list[IndexResult]:
    """Index recordings, or bring an index of them up to date: new, changed and removed files are found.

    A file is taken to be unchanged while its size and its time of change are. Removed is what the index has of a folder
    that is an input, and the folder has not; of a folder in it that cannot be listed, all is kept. What cannot be read
    is told, left out, and tried again when it has changed. Files of hours run in constant memory. A call that was
    stopped, however, goes on where it was: all but the last ten seconds are kept.

    Args:
        inputs: recordings and folders of them, of any rate, channels and length.
        out: the folder of the index, made if missing.
        model: address of a model of sounds and texts, or the model; by default that of the index, or of a new one what
            ships.
        workers: processes that share the files, each of which loads the model; with ``ray``, workers of the cluster, by
            default as many as that has cores. By default the files are embedded in this process.
        ray: share the files out over the machines of a Ray cluster (extra ``scale``).
        approximate: make a graph of neighbours, for quick search among millions of windows (extra ``search``). An index
            that has one keeps it up to date.
        device: where the model runs.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: embed again what is already there.
        progress: called as the work goes on.
        on_result: called with each result when all is done.

    Returns:
        One result per input, in their order.

    Raises:
        AuriscopeError: nothing can be done at all: the model cannot be loaded, the index cannot be written, is of
            another model or being written by another process.
    """
    folder = Path(out)
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    if workers is not None and workers < 1:
        raise AuriscopeError(f"{workers} workers are none; give one at least")
    if approximate:
        require_usearch()
    tallies = [_listed(each) for each in given]
    if (folder / ABOUT).exists():
        with SoundIndex(folder) as there:
            for tally in tallies:
                if tally.empty and tally.folder is not None and any(there.states(below=tally.folder)):
                    tally.error = None
            if model is None and any(tally.error is None for tally in tallies):
                model = there.model_address
    if all(tally.error is not None for tally in tallies):
        return _told([IndexResult(tally.input, error=tally.error) for tally in tallies], on_result)
    reader = SoundReader(model, device=device, offline=offline)
    if reader.nameless and (ray or workers is not None):
        raise AuriscopeError("workers load the model by its address; give an address, or leave workers out")
    about = IndexAbout(reader.address, reader.sha256, reader.model.dim, reader.model.window_seconds, reader.nameless)
    with SoundIndex.writing(folder, about) as store:
        plan = _planned(tallies, store, force)
        total = len(plan.owners)
        portions = portions_of(plan.owners, plan.sizes, most_files=_PORTION_FILES, most_bytes=_PORTION_BYTES)
        found: Iterator[Embedded] = iter(())
        if total == 0:
            pass
        elif ray:
            found = embedded_by_ray(portions, reader.settings, workers)
        elif workers is not None:
            found = embedded_by_processes(portions, reader.settings, workers)
        else:
            found = embedded_here(portions, reader)
        _filled(store, found, plan, progress)
        store.compact()
        warnings = _with_graph(store, approximate, total, progress)
        results = [
            IndexResult(
                input=tally.input,
                index=os.fspath(folder),
                model=reader.address,
                num_new=tally.num["new"],
                num_changed=tally.num["changed"],
                num_unchanged=tally.num["unchanged"],
                num_removed=tally.num["removed"],
                unreadable=tuple(tally.unreadable),
                num_files=store.num_files,
                num_windows=store.num_windows,
                duration_seconds=round(store.duration_seconds, 3),
                approximate=SoundGraph.exists(folder),
                warnings=warnings,
                error=tally.error,
            )
            for tally in tallies
        ]
    return _told(results, on_result)


@dataclass
class _Tally:
    """One input: its files by their absolute paths, folders in it that cannot be listed, and what became of all.

    ``empty``: it is a folder that can be listed, and holds no sound; that is an error unless the index had some of it.
    """

    input: str
    folder: Path | None = None
    paths: list[Path] = field(default_factory=list)
    unlisted: list[Path] = field(default_factory=list)
    num: Counter[str] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)
    empty: bool = False
    error: str | None = None


@dataclass
class _Plan:
    """What is to be embedded: whose each file is, and whether it is new or changed; and the sizes of all in bytes."""

    owners: dict[Path, tuple[_Tally, str]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)


def _listed(given: StrPath) -> _Tally:
    """List an input's files, or say why there are none."""
    tally = _Tally(os.fspath(given))
    try:
        if not os.path.exists(given):  # noqa: PTH110  # also of what is no path at all
            raise AuriscopeError(f"{printable(given)}: no such file or folder; check the path")
        if Path(given).is_dir():
            tally.folder = _absolute(given)
            for error in _unlisted(given):
                line = f"{printable(error.filename)}: cannot be listed ({reason(error)}); what was found there is kept"
                tally.unlisted.append(_absolute(error.filename))
                tally.unreadable.append(Unreadable(os.fspath(error.filename), line))
        tally.paths = [_absolute(path) for path in expand_inputs(given)]
    except AuriscopeError as error:
        tally.empty = tally.folder is not None and tally.folder not in tally.unlisted
        tally.error = tally.unreadable[0].error if tally.unreadable else str(error)
    except OSError as error:
        tally.error = f"{printable(given)}: {reason(error)}"
    return tally


def _unlisted(folder: StrPath) -> list[OSError]:
    """Why folders in a folder cannot be listed, of each that cannot be."""
    failed: list[OSError] = []
    for _, folders, _ in os.walk(folder, onerror=failed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
    return [error for error in failed if not isinstance(error, FileNotFoundError)]


def _absolute(path: StrPath) -> Path:
    """An absolute path, with links as they were typed."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _planned(tallies: Sequence[_Tally], store: SoundIndex, force: bool) -> _Plan:
    """Compare files with the index, take out what is gone, and give what is to be embedded."""
    plan = _Plan()
    seen: set[Path] = set()
    for tally in tallies:
        new, changed = (tally, "new"), (tally, "changed")
        for path in tally.paths:
            if path in seen:
                continue
            seen.add(path)
            now, before = state_of(path), store.state(path)
            same = before is not None and (before.size, before.modified_ns) == (now.size, now.modified_ns)
            if same and not force and before is not None:
                if before.error is None:
                    tally.num["unchanged"] += 1
                else:
                    tally.unreadable.append(Unreadable(os.fspath(path), before.error))
                continue
            plan.owners[path] = new if before is None or before.error is not None else changed
            plan.sizes.append(max(0, now.size))
    gone: set[Path] = set()
    for tally in tallies:
        if tally.folder is None or tally.error is not None:
            continue
        there = _Listing()
        for path, state in store.states(below=tally.folder):
            if path in seen or path in gone or there.may_hold(path) or any(map(path.is_relative_to, tally.unlisted)):
                continue
            gone.add(path)
            tally.num["removed"] += state.error is None
    store.remove(gone)
    return plan


class _Listing:
    """The names in the folder that was asked for last: files come folder by folder."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._names: frozenset[str] | None = None

    def may_hold(self, path: Path) -> bool:
        """Whether a file is where it was, or nobody can tell."""
        if path.parent != self._folder:
            self._folder = path.parent
            try:
                self._names = frozenset(os.listdir(path.parent))  # noqa: PTH208  # names alone
            except (FileNotFoundError, NotADirectoryError):
                self._names = frozenset()
            except OSError:
                self._names = None
        return self._names is None or path.name in self._names


def _filled(
    store: SoundIndex,
    found: Iterator[Embedded],
    plan: _Plan,
    progress: ProgressCallback | None,
) -> None:
    """Put into the index what comes, every few seconds, and count it."""
    waiting: list[IndexedFile] = []
    left_out: list[tuple[Path, FileState]] = []
    since = time.monotonic()

    def commit() -> None:
        nonlocal since
        store.add(waiting)
        store.remove(path for path, state in left_out if state.size == MISSING)
        store.note_unreadable(each for each in left_out if each[1].size >= 0)
        waiting.clear()
        left_out.clear()
        since = time.monotonic()

    try:
        for number, each in enumerate(found):
            path = each.path if isinstance(each, IndexedFile) else each[0]
            tally, kind = plan.owners[path]
            if isinstance(each, IndexedFile):
                waiting.append(each)
                tally.num[kind] += 1
            else:
                left_out.append(each)
                tally.unreadable.append(Unreadable(os.fspath(path), each[1].error or ""))
            if progress is not None:
                progress(Progress(os.fspath(path), number, len(plan.owners), "indexing", 1.0))
            num_windows = sum(len(file.embedding) for file in waiting)
            if num_windows >= _COMMIT_WINDOWS or time.monotonic() - since >= _COMMIT_SECONDS:
                commit()
    finally:
        # Also of a call that is stopped: what was embedded is kept.
        commit()


def _with_graph(store: SoundIndex, wanted: bool, total: int, progress: ProgressCallback | None) -> tuple[str, ...]:
    """Make the graph or bring it up to date, and give warnings about it."""
    if not wanted and not SoundGraph.exists(store.folder):
        if store.num_windows <= EXACT_WINDOWS:
            return ()
        return (f"{store.num_windows} windows are many to search one by one; --approximate makes that quick",)

    def report(fraction: float) -> None:
        if progress is not None:
            progress(Progress(os.fspath(store.folder), total, total + 1, "linking neighbours", fraction))

    try:
        SoundGraph(store.folder, writing=True).update(store, on_progress=report)
    except AuriscopeError as error:
        if wanted:
            raise
        return (f"the graph was not brought up to date, and what is new is searched exactly: {error}",)
    return ()


def _told(results: list[IndexResult], on_result: Callable[[IndexResult], None] | None) -> list[IndexResult]:
    for result in results:
        if on_result is not None:
            on_result(result)
    return results
