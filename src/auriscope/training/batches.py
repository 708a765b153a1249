"""Where batches come from: an endless sequence that can be entered at any index, so that a run can be resumed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from auriscope.training.task import Batch


@runtime_checkable
class BatchSource(Protocol):
    """An endless sequence of batches, each fully determined by its index."""

    def iterate(self, start: int, stride: int = 1) -> Iterator[Batch]:
        """Batches ``start``, ``start + stride``, ``start + 2 * stride``, … without end."""
        ...


class _ByIndex(Dataset[Batch]):
    def __init__(self, batch: Callable[[int], Batch]) -> None:
        self.batch = batch

    def __getitem__(self, index: int) -> Batch:
        return self.batch(index)


class _Indices:
    def __init__(self, start: int, stride: int) -> None:
        self.start, self.stride = start, stride

    def __iter__(self) -> Iterator[int]:
        index = self.start
        while True:
            yield index
            index += self.stride


def _leave_interrupts_to_the_loop(_worker: int) -> None:
    # Ctrl-C reaches the whole process group; a worker that died of it would keep the loop from saving its checkpoint.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class IndexedBatches:
    """The batches ``batch(0)``, ``batch(1)``, …, prepared in ``num_workers`` background processes (0: in this one).

    ``batch`` must depend on its index only; then the number of workers changes nothing but the speed.
    """

    def __init__(self, batch: Callable[[int], Batch], num_workers: int = 0) -> None:
        self.batch = batch
        self.num_workers = num_workers

    def iterate(self, start: int, stride: int = 1) -> Iterator[Batch]:
        """Batches ``start``, ``start + stride``, … without end, in this order whatever the workers do."""
        indices = _Indices(start, stride)
        if not self.num_workers:
            return map(self.batch, indices)
        # Its own generator: the loader draws a seed from it, and the run's random state must not notice.
        loader: DataLoader[Any] = DataLoader(
            _ByIndex(self.batch),
            batch_size=None,
            sampler=indices,
            num_workers=self.num_workers,
            prefetch_factor=2,
            worker_init_fn=_leave_interrupts_to_the_loop,
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )
        return iter(loader)


def as_source(batches: Any, num_workers: int = 0) -> BatchSource:
    """Make a source of a ``BatchSource``, of an object with ``batch(index)``, or of a sequence (repeated for ever)."""
    if isinstance(batches, BatchSource):
        return batches
    if callable(getattr(batches, "batch", None)):
        return IndexedBatches(batches.batch, num_workers)
    if isinstance(batches, Sequence) and len(batches):
        return IndexedBatches(lambda index: batches[index % len(batches)])
    raise TypeError(
        f"no batches can be drawn from a {type(batches).__name__}: give it iterate(start, stride) or batch(index)"
    )
