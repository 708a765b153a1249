"""A split of a prepared corpus as a set to measure on."""

from __future__ import annotations

from pathlib import Path

import torch

from auriscope.data.items import EvaluationItem, EvaluationSet
from auriscope.data.prepared import read_prepared
from auriscope.data.stretches import FileStore


class PreparedSet(EvaluationSet):
    """The mixtures of a prepared folder, at any sample rate, read when they are asked for.

    Files of several channels give an item per channel, ``num_channels`` in a row. ``source_names`` are the sources' in
    their order, which means something only where ``fixed_order``. Raises :class:`~auriscope.errors.CorpusError` when
    the folder, the split or, from its items, a file is not there.
    """

    def __init__(self, folder: str | Path, split: str = "test", *, sample_rate: int | None = None) -> None:
        self.corpus = read_prepared(folder)
        super().__init__(str(folder), split, sample_rate or self.corpus.sample_rate)
        self.mixtures = self.corpus.split(split)
        self.num_channels = self.corpus.num_channels
        self.source_names = self.corpus.sources
        self.fixed_order = self.corpus.order == "fixed"

    def __len__(self) -> int:
        return len(self.mixtures) * self.num_channels

    def __getitem__(self, index: int) -> EvaluationItem:
        number, channel = divmod(index, self.num_channels)
        mixture = self.mixtures[number]
        paths = [self.corpus.root / path for path in (mixture.path, *mixture.sources)]
        store = FileStore(paths, [mixture.num_frames] * len(paths), self.corpus.sample_rate, self.sample_rate)
        whole, *sources = (torch.from_numpy(store.read_channels(clip)[channel]) for clip in range(len(paths)))
        stacked = torch.stack(sources)
        return EvaluationItem(
            id=mixture.id if self.num_channels == 1 else f"{mixture.id}#{channel}",
            mixture=whole,
            sources=stacked,
            noise=whole - stacked.sum(0),
            sample_rate=self.sample_rate,
            speakers=tuple(speaker or "" for speaker in mixture.speakers),
            sexes=("",) * len(sources),
            room=None,
            snr_db=None,
        )
