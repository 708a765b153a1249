"""Training batches of a prepared corpus: random excerpts of its mixtures, or its sources mixed anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.data.ahead import made_ahead
from auriscope.data.corpora import Utterance
from auriscope.data.mixing import MixingConfig, draw_mixture
from auriscope.data.pool import NoisePool, VoicePool
from auriscope.data.prepared import PreparedMixture, read_prepared, speaker_names
from auriscope.data.render import PEAK_LIMIT, render
from auriscope.data.stretches import FileStore
from auriscope.errors import RecipeError

FloatArray = NDArray[np.float32]
# Sources (channels, sources, time), the rest of the mixture (channels, time), its length, numbers of the speakers.
_Excerpt = tuple[FloatArray, FloatArray, int, list[int]]


@dataclass(frozen=True)
class PreparedConfig:
    """Which excerpts of which prepared corpus. Ranges are (low, high) and drawn from uniformly.

    Args:
        prepared: the folder that ``auriscope prepare`` wrote.
        split: "train", "valid" or "test".
        sample_rate: of what comes out, in hertz; files of another rate are resampled.
        segment_seconds: length of an excerpt, which begins anywhere; a shorter mixture is taken whole. A batch is as
            long as its longest excerpt, the others have zeros after their end.
        batch_size: excerpts in a batch. Every channel of an excerpt is a row of its own.
        dynamic_mixing: mix the sources of different mixtures anew instead (Zeghidour and Grangier, Wavesplit, arXiv
            2002.08933, section 3.3). Talkers: different ones, each as often as there is speech of them, at drawn speeds
            and levels, with the noise of any mixture where the corpus has noise. Stems: each from any track, with its
            channels together.
        speed: factor of tempo and pitch, for each talker of a dynamic mixture.
        level_difference_db: of a dynamic mixture, the level of every talker but the first against the first; of
            stems, the gain of each.
        drop_probability: of a dynamic mixture of stems, how often a stem is silent.
        snr_db: of a dynamic mixture, power of all speech over that of the noise.
        level_dbfs: RMS level of a dynamic mixture of talkers.
    """

    prepared: str
    split: str = "train"
    sample_rate: int = 8000
    segment_seconds: float = 4.0
    batch_size: int = 1
    dynamic_mixing: bool = False
    speed: tuple[float, float] = (0.95, 1.05)
    level_difference_db: tuple[float, float] = (-5.0, 5.0)
    drop_probability: float = 0.0
    snr_db: tuple[float, float] = (-6.0, 3.0)
    level_dbfs: tuple[float, float] = (-33.0, -25.0)

    def __post_init__(self) -> None:
        for name in ("speed", "level_difference_db", "snr_db", "level_dbfs"):
            if not getattr(self, name)[0] <= getattr(self, name)[1]:
                raise RecipeError(f"{name} must be two numbers, the lower first; it is {getattr(self, name)}")
        for name in ("sample_rate", "segment_seconds", "batch_size", "speed"):
            value = getattr(self, name)
            if not (value[0] if name == "speed" else value) > 0:
                raise RecipeError(f"{name} must be above zero; it is {value}")

    @property
    def num_frames(self) -> int:
        """Length of an excerpt in samples."""
        return round(self.segment_seconds * self.sample_rate)


class PreparedMixer:
    """Batches of a prepared corpus, the same for the same (config, seed, index) whatever the thread or run.

    A batch holds what one of :class:`~auriscope.data.mixing.DynamicMixer` holds: ``"mixture"`` (batch, time),
    ``"sources"`` (batch, num_sources, time), ``"noise"`` (batch, time), whatever of the mixture is not of the sources,
    ``"lengths"``, ``"num_sources"`` and ``"speakers"``, the speakers' numbers in ``speakers`` or -1. Without dynamic
    mixing, every mixture comes once before any comes again, in an order of its own each time.

    Raises :class:`~auriscope.errors.CorpusError` when the corpus is not as it was prepared, and
    :class:`~auriscope.errors.RecipeError` when its sources cannot be mixed anew.
    """

    def __init__(self, config: PreparedConfig, *, seed: int = 0, num_threads: int = 1) -> None:
        self.config = config
        self.seed = seed
        self.num_threads = num_threads
        self.corpus = read_prepared(config.prepared)
        self.mixtures = self.corpus.split(config.split)
        self.num_sources = len(self.corpus.sources)
        self.speakers = speaker_names(self.mixtures)
        self._numbers = {name: number for number, name in enumerate(self.speakers)}
        self._whole = self._store([mixture.path for mixture in self.mixtures], self.mixtures)
        self._sources = [
            self._store([mixture.sources[number] for mixture in self.mixtures], self.mixtures)
            for number in range(self.num_sources)
        ]
        self._order = lru_cache(2)(self._shuffled)
        if config.dynamic_mixing:
            self._check_remixable()
            if self.corpus.order == "any":
                self._prepare_talkers()

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Tensor]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Tensor]:
        """Make the batch with this index."""
        config = self.config
        if not config.dynamic_mixing:
            make = self._excerpt
        elif self.corpus.order == "any":
            make = self._talkers
        else:
            make = self._stems
        excerpts = _padded([make(index, row) for row in range(config.batch_size)])
        sources = np.concatenate([sources for sources, _, _, _ in excerpts])
        noise = np.concatenate([noise for _, noise, _, _ in excerpts])
        channels = self.corpus.num_channels
        lengths = [length for _, _, length, _ in excerpts for _ in range(channels)]
        speakers = [numbers for _, _, _, numbers in excerpts for _ in range(channels)]
        return {
            "mixture": torch.from_numpy(sources.sum(axis=1) + noise),
            "sources": torch.from_numpy(sources),
            "noise": torch.from_numpy(noise),
            "lengths": torch.tensor(lengths, dtype=torch.int64),
            "num_sources": torch.full((len(lengths),), self.num_sources, dtype=torch.int64),
            "speakers": torch.tensor(speakers, dtype=torch.int64),
        }

    def _excerpt(self, index: int, row: int) -> _Excerpt:
        """An excerpt of a mixture of the corpus."""
        epoch, place = divmod(index * self.config.batch_size + row, len(self.mixtures))
        number = int(self._order(epoch)[place])
        length = min(self.config.num_frames, self._whole.num_frames(number))
        rng = np.random.default_rng([self.seed, index, row])
        start = int(rng.integers(self._whole.num_frames(number) - length + 1))
        sources = np.stack([store.read_channels(number, start, length) for store in self._sources], axis=1)
        rest = self._whole.read_channels(number, start, length) - sources.sum(axis=1)
        speakers = self.mixtures[number].speakers
        return sources, rest, length, [-1 if name is None else self._numbers[name] for name in speakers]

    def _talkers(self, index: int, row: int) -> _Excerpt:
        """A mixture of talkers that the corpus does not hold."""
        rng = np.random.default_rng([self.seed, index, row])
        draw = draw_mixture(self._mixing, rng, self._voices, noises=self._noises)
        images, noise = render(draw, self.config.num_frames, voices=self._voices, noises=self._noises)
        names = [self._voices.voices[talker.speaker].name for talker in draw.talkers]
        numbers = [self._numbers[name.partition(":")[2]] for name in names]
        return images[None], noise[None], self.config.num_frames, numbers

    def _stems(self, index: int, row: int) -> _Excerpt:
        """Stems of several tracks, each from anywhere in one and with a gain of its own."""
        config = self.config
        rng = np.random.default_rng([self.seed, index, row])
        sources = np.zeros((self.corpus.num_channels, self.num_sources, config.num_frames), dtype=np.float32)
        for source, store in enumerate(self._sources):
            track = int(rng.integers(len(self.mixtures)))
            start = int(rng.integers(max(1, store.num_frames(track) - config.num_frames + 1)))
            gain = np.float32(10.0 ** (float(rng.uniform(*config.level_difference_db)) / 20.0))
            if rng.random() >= config.drop_probability:
                stem = store.read_channels(track, start, config.num_frames)
                sources[:, source, : stem.shape[-1]] = gain * stem
        peak = float(np.abs(sources.sum(axis=1)).max())
        sources *= np.float32(min(1.0, PEAK_LIMIT / peak) if peak > 0 else 1.0)
        return sources, np.zeros_like(sources[:, 0]), config.num_frames, [-1] * self.num_sources

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.mixtures))

    def _store(self, paths: Sequence[str], mixtures: Sequence[PreparedMixture]) -> FileStore:
        return FileStore(
            [self.corpus.root / path for path in paths],
            [mixture.num_frames for mixture in mixtures],
            self.corpus.sample_rate,
            self.config.sample_rate,
        )

    def _check_remixable(self) -> None:
        corpus, where = self.corpus, self.config.prepared
        if not corpus.remixable:
            raise RecipeError(
                f"data.dynamic_mixing: the sources of {where} are not what its mixtures hold; leave it out"
            )
        if corpus.order == "fixed":
            return
        if not self.speakers or any(None in mixture.speakers for mixture in self.mixtures):
            raise RecipeError(
                f"data.dynamic_mixing: {where} does not name its speakers, so that one could be paired "
                "with themselves; leave it out"
            )
        if self.num_sources == 1 and self.mixtures[0].noise is None:
            raise RecipeError(f"data.dynamic_mixing: {where} has neither several talkers nor noise alone; leave it out")

    def _prepare_talkers(self) -> None:
        config, corpus = self.config, self.corpus
        spoken = [(m, path, name) for m in self.mixtures for path, name in zip(m.sources, m.speakers, strict=True)]
        listed = [
            Utterance(
                corpus=corpus.name,
                name=path,
                path=corpus.root / path,
                split=config.split,
                duration_seconds=mixture.num_frames / corpus.sample_rate,
                speaker=f"{corpus.name}:{name}",
            )
            for mixture, path, name in spoken
        ]
        voices = self._store([path for _, path, _ in spoken], [mixture for mixture, _, _ in spoken])
        self._voices = VoicePool([voices], [listed], inf)
        noisy = [mixture for mixture in self.mixtures if mixture.noise is not None]
        noises = self._store([str(mixture.noise) for mixture in noisy], noisy)
        self._noises = NoisePool([noises]) if noisy else None
        self._mixing = MixingConfig(
            sample_rate=config.sample_rate,
            num_sources=self.num_sources,
            segment_seconds=config.segment_seconds,
            batch_size=config.batch_size,
            level_difference_db=config.level_difference_db,
            speed=config.speed,
            partial_overlap_probability=0.0,
            noise_probability=1.0,
            snr_db=config.snr_db,
            level_dbfs=config.level_dbfs,
        )


def _padded(excerpts: Sequence[_Excerpt]) -> list[_Excerpt]:
    """Give all excerpts the length of the longest, with zeros after their end."""
    longest = max(length for _, _, length, _ in excerpts)
    return [
        (
            np.pad(sources, ((0, 0), (0, 0), (0, longest - length))),
            np.pad(rest, ((0, 0), (0, longest - length))),
            length,
            speakers,
        )
        for sources, rest, length, speakers in excerpts
    ]
