"""Batches made ahead in the background, in their order whatever the threads do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TypeVar

_T = TypeVar("_T")


def made_ahead(batch: Callable[[int], _T], num_threads: int, start: int = 0, stride: int = 1) -> Iterator[_T]:
    """Give ``batch(start)``, ``batch(start + stride)``, ... without end, made by ``num_threads`` threads.

    ``batch`` must depend on its index only: then the number of threads changes nothing but the speed. A run that was
    stopped after batch i goes on with ``start=i + 1`` and sees what it would have seen.
    """
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="batches")
    waiting: deque[Future[_T]] = deque()
    try:
        for index in count(start, stride):
            waiting.append(pool.submit(batch, index))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
