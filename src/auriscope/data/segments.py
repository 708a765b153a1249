"""Segments of speech of one length, by which a vocoder learns what voices sound like."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auriscope.data.ahead import made_ahead
from auriscope.data.augmentation import turned_up
from auriscope.data.pool import VoicePool, by_store, voice_pool
from auriscope.data.prepared_speech import open_speech
from auriscope.errors import RecipeError


@dataclass(frozen=True)
class SegmentConfig:
    """What segments are cut from.

    ``prepared``, a folder of speech that ``prepare`` wrote, takes the place of ``corpora``. Speakers of more than
    ``cap_seconds`` are drawn as if they had no more. ``level_db`` is the range by which segments are turned up, as far
    as they do not clip. ``sample_rate`` is the model's.
    """

    corpora: tuple[str, ...] = ("ljspeech_1spk",)
    prepared: str | None = None
    sample_rate: int = 16_000
    batch_size: int = 16
    cap_seconds: float = math.inf
    level_db: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise RecipeError(f"data.batch_size must be at least 1, not {self.batch_size}")
        if self.level_db[0] > self.level_db[1]:
            raise RecipeError(f"data.level_db must be a range from less to more, not {self.level_db}")


class SegmentBatches:
    """Endless batches of segments, each fully determined by its index.

    A recording is drawn by its length, and a stretch of ``num_samples`` samples of it; one that is shorter gets zeros
    behind its end.
    """

    def __init__(
        self,
        config: SegmentConfig,
        num_samples: int,
        *,
        seed: int,
        split: str = "train",
        num_threads: int = 1,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.num_samples, self.seed, self.num_threads = config, num_samples, seed, num_threads
        if config.prepared is None:
            self._pool = voice_pool(
                config.corpora,
                split,
                sample_rate=config.sample_rate,
                cap_seconds=config.cap_seconds,
                root=root,
                folder=folder,
            )
            return
        listed, stores = open_speech(config.prepared, split, sample_rate=config.sample_rate)
        self._pool = VoicePool(stores, by_store(listed, stores), config.cap_seconds)

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch: ``waveform`` (batch, num_samples), and ``lengths`` (batch,), which are all that number."""
        config = self.config
        waveform = np.zeros((config.batch_size, self.num_samples), dtype=np.float32)
        for row, segment in enumerate(waveform):
            rng: Any = np.random.default_rng([self.seed, index, row])
            clip = self._pool.draw_voices(1, rng)[0].draw(rng)
            spare = self._pool.num_frames(clip) - self.num_samples
            begin = int(rng.integers(spare, endpoint=True)) if spare > 0 else 0
            found = self._pool.read(clip, begin, self.num_samples)
            segment[: len(found)] = turned_up(found, float(rng.uniform(*config.level_db)))
        lengths = torch.full((config.batch_size,), self.num_samples)
        return {"waveform": torch.from_numpy(waveform), "lengths": lengths}
