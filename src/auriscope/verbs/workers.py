"""Work that many processes or machines share: files in, vectors out, as they are ready."""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import torch

from auriscope.crossmodal.index import FileState, IndexedFile
from auriscope.errors import AuriscopeError
from auriscope.verbs.sounds import ReaderSettings, SoundReader

Embedded = IndexedFile | tuple[Path, FileState]
"""A file for the index, or its path and why it could not be read."""

AHEAD = 3
"""How many portions wait for each worker: enough to keep it busy, few enough for results to stay small."""


def embedded_here(portions: Sequence[Sequence[Path]], reader: SoundReader) -> Iterator[Embedded]:
    """Embed files in this process."""
    for portion in portions:
        for path in portion:
            yield from reader.read_all([path])


def embedded_by_processes(
    portions: Sequence[Sequence[Path]], settings: ReaderSettings, num_workers: int
) -> Iterator[Embedded]:
    """Share portions of files out over processes of this machine, each of which loads the model.

    ``AuriscopeError`` where one of them is ended by the system.
    """
    if not portions:
        return
    num_threads = max(1, torch.get_num_threads() // num_workers)
    # Started anew: a process that is forked while torch's threads run may hang.
    pool = ProcessPoolExecutor(num_workers, get_context("spawn"), _begin, (settings, num_threads))
    try:
        waiting: set[Future[list[Embedded]]] = set()
        for portion in portions:
            waiting.add(pool.submit(_work, portion))
            if len(waiting) >= AHEAD * num_workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for each in done:
                    yield from each.result()
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for each in done:
                yield from each.result()
    except BrokenProcessPool:
        raise AuriscopeError(
            "a worker process ended, perhaps for want of memory; what was done is kept: run again with fewer workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def embedded_by_ray(
    portions: Sequence[Sequence[Path]], settings: ReaderSettings, num_workers: int | None
) -> Iterator[Embedded]:
    """Share portions of files out over the machines of a Ray cluster; the files lie where all of them see them.

    The cluster is that of ``RAY_ADDRESS``, or else this machine. ``num_workers`` None: one for every core of the
    cluster. ``AuriscopeError`` without Ray, or where a worker is lost and cannot be made again.
    """
    ray = _ray()
    if not portions:
        return
    began = not ray.is_initialized()
    if began:
        ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False)
    try:
        number = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        kind = ray.remote(num_cpus=1, max_restarts=3, max_task_retries=3)(_RayWorker)
        workers = [kind.remote(settings) for _ in range(min(number, len(portions)))]
        waiting: dict[Any, Any] = {}
        for index, portion in enumerate(portions):
            # The first portions go to all in turn, later ones to whoever is ready.
            worker = workers[index % len(workers)]
            if len(waiting) >= AHEAD * len(workers):
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


def portions_of(paths: Sequence[Path], sizes: Sequence[int], *, most_files: int, most_bytes: int) -> list[list[Path]]:
    """Cut a list of files into portions of so many files and bytes at most, but of one file at least."""
    portions: list[list[Path]] = []
    total = 0
    for path, size in zip(paths, sizes, strict=True):
        if not portions or len(portions[-1]) >= most_files or total + size > most_bytes:
            portions.append([])
            total = 0
        portions[-1].append(path)
        total += size
    return portions
