"""Work that many processes or machines share: files in, vectors out, as they are ready."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import torch

from auriscope.crossmodal.index import FileState, IndexedFile
from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import printable
from auriscope.verbs.sounds import ReaderSettings, SoundReader, state_of

Embedded = IndexedFile | tuple[Path, FileState]
"""A file for the index, or its path and why it could not be read."""

AHEAD = 3
"""How many portions wait for each worker: enough to keep it busy, few enough for results to stay small."""


def embedded_here(portions: Iterable[Sequence[Path]], reader: SoundReader) -> Iterator[Embedded]:
    """Embed files in this process."""
    for portion in portions:
        for path in portion:
            yield from reader.read_all([path])


def embedded_by_processes(
    portions: Iterable[Sequence[Path]], settings: ReaderSettings, num_workers: int
) -> Iterator[Embedded]:
    """Share portions of files out over processes of this machine, each of which loads the model.

    A file whose reading ends its process is one that cannot be read. ``AuriscopeError`` where processes end before they
    have read anything.
    """
    coming = iter(portions)
    while True:
        lost = yield from _shared_out(coming, settings, num_workers)
        if not lost:
            return
        # Which file it was that ended a process, nobody knows: each is read by a process that reads nothing else.
        yield from _one_by_one(chain.from_iterable(lost), settings)


def _shared_out(
    portions: Iterator[Sequence[Path]], settings: ReaderSettings, num_workers: int
) -> Generator[Embedded, None, list[Sequence[Path]]]:
    """Embed portions until there are none, or a process ends; returns those that are lost with it."""
    lost: list[Sequence[Path]] = []
    waiting: dict[Future[list[Embedded]], Sequence[Path]] = {}
    pool = _pool(settings, num_workers)
    try:
        while True:
            for portion in islice(portions, 0 if lost else AHEAD * num_workers - len(waiting)):
                try:
                    waiting[pool.submit(_work, portion)] = portion
                except BrokenProcessPool:
                    lost.append(portion)
                    break
            if not waiting:
                return lost
            for each in wait(waiting, return_when=FIRST_COMPLETED).done:
                portion = waiting.pop(each)
                try:
                    found = each.result()
                except BrokenProcessPool:
                    lost.append(portion)
                else:
                    yield from found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_by_one(paths: Iterable[Path], settings: ReaderSettings) -> Iterator[Embedded]:
    """Embed files one after another in a process, and in a new one after each that ends it."""
    pool = None
    try:
        for path in paths:
            if pool is None:
                pool = _pool(settings, 1)
                _see_it_start(pool)
            before = state_of(path)
            try:
                found = pool.submit(_work, [path]).result()
            except BrokenProcessPool:
                pool.shutdown()
                pool = None
                line = f"{printable(path)}: its reading ended the process, perhaps for want of memory; it is left out"
                found = [(path, FileState(before.size, before.modified_ns, line))]
            yield from found
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(settings: ReaderSettings, num_workers: int) -> ProcessPoolExecutor:
    num_threads = max(1, torch.get_num_threads() // num_workers)
    # Started anew: a process that is forked while torch's threads run may hang.
    return ProcessPoolExecutor(num_workers, get_context("spawn"), _begin, (settings, num_threads))


def _see_it_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise AuriscopeError(
            "worker processes end before they read anything, perhaps for want of memory; what was done is kept: "
            "run again with fewer workers"
        ) from None


def embedded_by_ray(
    portions: Iterable[Sequence[Path]], settings: ReaderSettings, num_workers: int | None
) -> Iterator[Embedded]:
    """Share portions of files out over the machines of a Ray cluster; the files lie where all of them see them.

    The cluster is that of ``RAY_ADDRESS``, or else this machine. ``num_workers`` None: one for every core of the
    cluster. ``AuriscopeError`` without Ray, or where a worker is lost and cannot be made again.
    """
    ray = _ray()
    began = not ray.is_initialized()
    if began:
        ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False)
    try:
        number = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        kind = ray.remote(num_cpus=1, max_restarts=3, max_task_retries=3)(_RayWorker)
        workers: list[Any] = []
        waiting: dict[Any, Any] = {}
        for index, portion in enumerate(portions):
            if index < number:
                workers.append(kind.remote(settings))
            # The first portions go to all in turn, later ones to whoever is ready.
            worker = workers[index % number]
            if len(waiting) >= AHEAD * number:
                done, _ = ray.wait(list(waiting), num_returns=1)
                worker = waiting.pop(done[0])
                yield from ray.get(done[0])
            waiting[worker.work.remote(list(portion))] = worker
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            waiting.pop(done[0])
            yield from ray.get(done[0])
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[-1]
        raise AuriscopeError(f"a worker of Ray was lost ({first}); what was done is kept: run again") from None
    finally:
        if began:
            ray.shutdown()


class _RayWorker:
    """A worker on a machine of the cluster; each has one core."""

    def __init__(self, settings: ReaderSettings) -> None:
        torch.set_num_threads(1)
        self._reader = SoundReader(settings.model, device=settings.device, offline=settings.offline)

    def work(self, paths: Sequence[Path]) -> list[Embedded]:
        return self._reader.read_all(paths)


_reader: SoundReader | None = None
"""The one of a worker process."""


def _begin(settings: ReaderSettings, num_threads: int) -> None:
    """Prepare a worker process."""
    global _reader
    # Ctrl-C reaches every process of the terminal: workers end at once, and the parent says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(num_threads)
    _reader = SoundReader(settings.model, device=settings.device, offline=settings.offline)


def _end_with_parent() -> None:
    """A parent that is killed tells nobody: its workers would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    signal.raise_signal(signal.SIGTERM)


def _work(paths: Sequence[Path]) -> list[Embedded]:
    assert _reader is not None
    return _reader.read_all(paths)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise AuriscopeError(
            "sharing work over machines needs Ray; install the extra with: pip install 'auriscope[scale]'"
        ) from None


def portions_of(
    paths: Iterable[Path], sizes: Iterable[int], *, most_files: int, most_bytes: int
) -> Iterator[list[Path]]:
    """Cut a list of files into portions of so many files and bytes at most, but of one file at least."""
    portion: list[Path] = []
    total = 0
    for path, size in zip(paths, sizes, strict=True):
        if portion and (len(portion) >= most_files or total + size > most_bytes):
            yield portion
            portion, total = [], 0
        portion.append(path)
        total += size
    if portion:
        yield portion
