"""Sounds with their classes: batches of crops for training, and fixed sets to measure on.

Which sets there are, :mod:`auriscope.data.labelled_sets` tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.ahead import made_ahead
from auriscope.data.augmentation import AugmentationConfig, Augmenter
from auriscope.data.labelled_sets import open_labelled
from auriscope.data.pool import ClipPool
from auriscope.data.prepared_labelled import open_labelled_folder
from auriscope.data.transcribed import padded
from auriscope.errors import RecipeError

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class LabelledConfig:
    """What batches of labelled sounds are made from.

    Args:
        set: the set's name (:mod:`auriscope.data.labelled_sets`).
        prepared: a folder of labelled sounds that ``prepare`` wrote, in the place of the set.
        more: further folders of labelled sounds that ``prepare`` wrote, whose train sounds are learnt from beside the
            set's. Their labels are classes of the set; what has another label is left out.
        fold: of a prepared corpus with folds, the one that tests (:func:`~auriscope.data.labelled_sets.open_labelled`).
        sample_rate: the model's.
        batch_size: sounds in a batch.
        segment_seconds: longer sounds are cut to so much, anywhere; shorter ones come whole.
        balance: 0: every sound comes once before any comes again. Above, sounds are drawn, and a class by the power
            ``1 - balance`` of the number of its sounds: with 1 each class as often as the others.
        augmentation: changes every sound, each time anew.
    """

    set: str = "sound-events"
    prepared: str | None = None
    more: tuple[str, ...] = ()
    fold: int | None = None
    sample_rate: int = 16_000
    batch_size: int = 32
    segment_seconds: float = 5.0
    balance: float = 0.0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not self.segment_seconds > 0:
            raise RecipeError("data.batch_size must be at least 1, and segment_seconds above 0")
        if not 0.0 <= self.balance <= 1.0:
            raise RecipeError(f"data.balance must lie between 0 and 1, not {self.balance}")


class LabelledBatches:
    """Endless batches of labelled sounds, each fully determined by its index.

    ``labels`` are the names of the classes.
    """

    def __init__(
        self,
        config: LabelledConfig,
        *,
        seed: int,
        split: str = "train",
        num_threads: int = 1,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.seed, self.num_threads = config, seed, num_threads
        self.labels, clips, stores = open_labelled(
            config.prepared or config.set,
            split,
            sample_rate=config.sample_rate,
            fold=config.fold,
            root=root,
            folder=folder,
        )
        for place in config.more if split == "train" else ():
            _, more_clips, more_stores = open_labelled_folder(
                place, split, sample_rate=config.sample_rate, classes=self.labels
            )
            clips, stores = clips + more_clips, stores + more_stores
        self._pool, self._ids = ClipPool(stores), [f"{clip.corpus}:{clip.name}" for clip in clips]
        self._numbers = [self.labels.index(clip.label) for clip in clips]
        self._order = Order(self._numbers, config.balance, seed)
        self._augmenter = Augmenter(config.augmentation, split, config.sample_rate, root=root, folder=folder)

    def __len__(self) -> int:
        """Return the number of sounds."""
        return len(self._ids)

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch: ``waveform`` (batch, time), ``lengths`` and ``label``, both (batch,), ``id`` and ``index``."""
        config = self.config
        chosen = self._order.numbers(index, config.batch_size)
        longest = round(config.segment_seconds * config.sample_rate)
        waveforms = []
        for row, clip in enumerate(chosen):
            rng: Any = np.random.default_rng([self.seed, 2, index, row])
            drawn = self._augmenter.draw(rng, min(longest, self._pool.num_frames(clip)))
            wanted = ceil(longest * drawn.speed)
            spare = self._pool.num_frames(clip) - wanted
            start = int(rng.integers(spare + 1)) if spare > 0 else 0
            waveforms.append(self._augmenter.apply(self._pool.read(clip, start, wanted), drawn)[:longest])
        return padded(waveforms) | {
            "label": torch.tensor([self._numbers[clip] for clip in chosen]),
            "id": [self._ids[clip] for clip in chosen],
            "index": index,
        }


class Order:
    """Which of some items with classes make up the batch of an index; ``balance`` as of :class:`LabelledConfig`."""

    def __init__(self, classes: list[int], balance: float, seed: int) -> None:
        self._seed, self._num_items = seed, len(classes)
        self._shuffled = lru_cache(4)(self._permutation)
        counts = Counter(classes)
        weights = np.array([counts[each] ** -balance for each in classes])
        self._cumulative = np.cumsum(weights) / weights.sum() if balance > 0 else None

    def numbers(self, index: int, batch_size: int) -> list[int]:
        """The numbers of the items of batch ``index``."""
        if self._cumulative is not None:
            rng = np.random.default_rng([self._seed, 1, index])
            drawn = np.searchsorted(self._cumulative, rng.random(batch_size), side="right")
            return [int(number) for number in drawn.clip(max=self._num_items - 1)]
        places = (divmod(place, self._num_items) for place in range(index * batch_size, (index + 1) * batch_size))
        return [int(self._shuffled(epoch)[place]) for epoch, place in places]

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, 0, epoch]).permutation(self._num_items)


@dataclass(frozen=True)
class LabelledSound:
    """A sound to measure on: ``waveform`` (time,) float32, ``label`` the number of its class.

    Sounds of one ``group`` are not independent of each other.
    """

    id: str
    waveform: FloatArray
    label: int
    group: str


class LabelledSet:
    """A fixed sequence of sounds, each read when it is asked for.

    ``labels`` are the names of the classes, ``numbers`` (sounds,) the class of each sound, ``groups`` and ``seconds``
    likewise. Errors as of :func:`~auriscope.data.labelled_sets.open_labelled`.
    """

    def __init__(
        self,
        name: str,
        split: str = "test",
        *,
        sample_rate: int = 16_000,
        fold: int | None = None,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.labels, clips, stores = open_labelled(
            name, split, sample_rate=sample_rate, fold=fold, root=root, folder=folder
        )
        self.name, self.split, self.sample_rate = name, split, sample_rate
        self._pool, self._ids = ClipPool(stores), [f"{clip.corpus}:{clip.name}" for clip in clips]
        self.numbers = tuple(self.labels.index(clip.label) for clip in clips)
        self.groups = tuple(clip.group for clip in clips)
        self.seconds = tuple(self._pool.num_frames(number) / sample_rate for number in range(len(clips)))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> LabelledSound:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no sound {index} of {len(self)}")
        return LabelledSound(self._ids[index], self._pool.read(index), self.numbers[index], self.groups[index])

    def __iter__(self) -> Iterator[LabelledSound]:
        return (self[index] for index in range(len(self)))

    def batches(self, batch_size: int) -> Iterator[dict[str, Any]]:
        """Give all sounds in order as batches with the keys of :meth:`LabelledBatches.batch`, without ``index``."""
        for first in range(0, len(self), batch_size):
            sounds = [self[index] for index in range(first, min(first + batch_size, len(self)))]
            yield padded([sound.waveform for sound in sounds]) | {
                "label": torch.tensor([sound.label for sound in sounds]),
                "id": [sound.id for sound in sounds],
            }
