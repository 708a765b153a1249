"""Which utterances make a batch: those of about the same length, as many as a number of seconds holds."""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray


class BatchesByLength:
    """Endless batches of numbered utterances, each fully determined by its index.

    In every epoch the utterances are sorted by length, about, and cut into batches of at most ``batch_seconds`` of
    sound, padding included; the order of the batches is drawn, but in the first ``sorted_epochs`` they come in the
    order of their length.

    Args:
        seconds: lengths of all utterances.
        chosen: the numbers of those that there are batches of.
        batch_seconds: sound of a batch.
        seed: what is drawn follows from it.
        sorted_epochs: how many epochs begin with the shortest.
    """

    def __init__(
        self,
        seconds: NDArray[np.float64],
        chosen: NDArray[np.int64],
        batch_seconds: float,
        *,
        seed: int,
        sorted_epochs: int = 0,
    ) -> None:
        self._seconds, self._chosen = seconds, chosen
        self._batch_seconds, self._seed, self._sorted_epochs = batch_seconds, seed, sorted_epochs
        self._epochs: list[list[NDArray[np.int64]]] = []
        self._planning = Lock()

    def numbers(self, index: int) -> NDArray[np.int64]:
        """The utterances of a batch, by going through the epochs up to it; from any number of threads."""
        epoch = 0
        while True:
            with self._planning:
                if epoch == len(self._epochs):
                    self._epochs.append(self._epoch(epoch))
            if index < len(self._epochs[epoch]):
                return self._epochs[epoch][index]
            index -= len(self._epochs[epoch])
            epoch += 1

    def _epoch(self, number: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self._seed, 2, number])
        around = self._seconds[self._chosen] * rng.uniform(0.9, 1.1, len(self._chosen))
        batches: list[list[int]] = [[]]
        longest = 0.0
        for clip in self._chosen[np.argsort(around)]:
            longest = max(longest, float(self._seconds[clip]))
            if batches[-1] and longest * (len(batches[-1]) + 1) > self._batch_seconds:
                batches.append([])
                longest = float(self._seconds[clip])
            batches[-1].append(int(clip))
        places = range(len(batches)) if number < self._sorted_epochs else rng.permutation(len(batches))
        return [np.array(batches[place], dtype=np.int64) for place in places]
