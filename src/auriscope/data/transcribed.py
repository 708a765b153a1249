"""Speech with its words: batches of about the same amount of sound for training, and fixed sets to measure on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.ahead import made_ahead
from auriscope.data.augmentation import AugmentationConfig, Augmenter
from auriscope.data.by_length import BatchesByLength
from auriscope.data.cache import ClipStore, open_clips
from auriscope.data.corpora import Utterance, utterances
from auriscope.data.pool import ClipPool
from auriscope.data.prepared import is_prepared
from auriscope.data.prepared_speech import open_speech
from auriscope.data.render import ClipReader
from auriscope.data.spoken import Spoken, SpokenSet, clean_name, corrupted
from auriscope.errors import CorpusError, RecipeError
from auriscope.text.normalise import letters as letters

FloatArray = NDArray[np.float32]
DIGITS = "digits"
UNSEEN_DIGITS = "digits-unseen"
"""Sets of connected digits: new takes of the speakers of the train split, and the speakers of the split asked for."""
_DIGITS_CORPUS = "fsdd_digits"
_NUM_JOINED = {"valid": 100, "test": 200}


@dataclass(frozen=True)
class JoiningConfig:
    """Short utterances of one speaker joined to longer ones, such as digits to numbers.

    ``num_joined`` is the range of their number, ``gap_seconds`` that of the silence before, between and after them.
    Over the first ``growing_batches`` the largest number grows evenly from the smallest: attention finds its way in
    what is short first (Bengio et al., Curriculum learning, ICML 2009).
    """

    num_joined: tuple[int, int] = (3, 7)
    gap_seconds: tuple[float, float] = (0.05, 0.4)
    growing_batches: int = 0

    def largest(self, index: int) -> int:
        """The largest number of utterances that batch ``index`` joins."""
        fewest, most = self.num_joined
        return most if index >= self.growing_batches else fewest + (most - fewest) * index // self.growing_batches


@dataclass(frozen=True)
class TranscribedConfig:
    """What batches of transcribed speech are made from.

    ``prepared``, a folder of transcribed speech that ``prepare`` wrote, takes the place of ``corpora``.
    ``batch_seconds`` is the sound of a batch, padding included, before any change of speed. Utterances outside
    ``min_seconds`` and ``max_seconds`` are left out, as are those without a text. ``joining`` puts utterances together,
    ``augmentation`` changes every utterance, each time anew. ``sample_rate`` is the model's.

    CTC begins by writing blanks alone, and finds the letters sooner in what is short and clear: in the first
    ``sorted_epochs`` batches come in the order of their length (Amodei et al., Deep Speech 2, arXiv 1512.02595, section
    3.3), and the first ``plain_batches`` are not augmented, which the batch tells by its key ``plain``.
    """

    corpora: tuple[str, ...] = ("libri_251spk",)
    prepared: str | None = None
    sample_rate: int = 16_000
    batch_seconds: float = 120.0
    min_seconds: float = 0.2
    max_seconds: float = 18.0
    joining: JoiningConfig | None = None
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    sorted_epochs: int = 0
    plain_batches: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds < self.max_seconds <= self.batch_seconds:
            raise RecipeError("data needs 0 < min_seconds < max_seconds <= batch_seconds")


class TranscribedBatches:
    """Endless batches of transcribed speech, each fully determined by its index.

    In every epoch the utterances are sorted by length, about, and cut into batches, whose order is drawn; joined
    utterances are drawn anew for each batch.
    """

    def __init__(
        self,
        config: TranscribedConfig,
        *,
        seed: int,
        split: str = "train",
        num_threads: int = 1,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.seed, self.num_threads = config, seed, num_threads
        self.sample_rate = config.sample_rate
        listed: list[Utterance] = []
        stores: list[ClipStore] = []
        if config.prepared is not None:
            listed, stores = open_speech(config.prepared, split, sample_rate=config.sample_rate)
        for corpus in config.corpora if config.prepared is None else ():
            entries = utterances(corpus, split, root=root, for_training=split == "train")
            if corpus == _DIGITS_CORPUS:
                entries = [entry for entry in entries if not entry.held_out]
            listed += entries
            stores.append(
                open_clips(entries, sample_rate=config.sample_rate, name=f"{corpus}-{split}-spoken", folder=folder)
            )
        self._pool = ClipPool(stores)
        self._texts = [letters(entry.text or "") for entry in listed]
        self._speakers = [entry.speaker for entry in listed]
        seconds = np.array([self._pool.num_frames(clip) / config.sample_rate for clip in range(len(listed))])
        usable = (seconds >= config.min_seconds) & (seconds <= config.max_seconds) & (np.array(self._texts) != "")
        self._clips = np.flatnonzero(usable)
        if not len(self._clips):
            raise CorpusError(
                f"{config.prepared or ', '.join(config.corpora)}: no utterance of the split {split} has a text and fits"
            )
        self._seconds = seconds
        self._by_speaker: dict[str, list[int]] = {}
        for clip in self._clips:
            self._by_speaker.setdefault(self._speakers[clip], []).append(int(clip))
        self._by_length = BatchesByLength(
            seconds, self._clips, config.batch_seconds, seed=seed, sorted_epochs=config.sorted_epochs
        )
        self._augmenter = Augmenter(config.augmentation, split, config.sample_rate, root=root, folder=folder)

    @property
    def num_seconds(self) -> float:
        """Seconds of sound in an epoch."""
        return float(self._seconds[self._clips].sum())

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch: ``waveform`` (batch, time), ``lengths`` (batch,), ``text`` and ``id``, and ``plain``."""
        rng: Any = np.random.default_rng([self.seed, 1, index])
        made = self._joined(rng, index) if self.config.joining else self._listed(index)
        waveforms = [waveform for waveform, _, _ in made]
        plain = index < self.config.plain_batches
        for row, waveform in enumerate(() if plain else list(waveforms)):
            drawn = self._augmenter.draw(np.random.default_rng([self.seed, 4, index, row]), len(waveform))
            waveforms[row] = self._augmenter.apply(waveform, drawn)
        facts = {"text": [text for _, text, _ in made], "id": [name for _, _, name in made], "plain": plain}
        return padded(waveforms) | facts

    def _listed(self, index: int) -> list[tuple[FloatArray, str, str]]:
        return [(self._pool.read(int(clip)), self._texts[clip], str(clip)) for clip in self._by_length.numbers(index)]

    def _joined(self, rng: Any, index: int) -> list[tuple[FloatArray, str, str]]:
        joining = self.config.joining
        assert joining is not None
        fewest, most = joining.num_joined[0], joining.largest(index)
        made: list[tuple[FloatArray, str, str]] = []
        longest = 0.0
        speakers = sorted(self._by_speaker)
        while True:
            clips = self._by_speaker[speakers[rng.integers(len(speakers))]]
            chosen = [clips[rng.integers(len(clips))] for _ in range(rng.integers(fewest, most, endpoint=True))]
            waveform = join([self._pool.read(clip) for clip in chosen], joining, self.config.sample_rate, rng)
            longest = max(longest, len(waveform) / self.config.sample_rate)
            if made and longest * (len(made) + 1) > self.config.batch_seconds:
                return made
            made.append((waveform, " ".join(self._texts[clip] for clip in chosen), "-".join(map(str, chosen))))


def join(waveforms: Sequence[FloatArray], config: JoiningConfig, sample_rate: int, rng: Any) -> FloatArray:
    """Put utterances one after the other, each at the same level, with drawn silences around them."""
    parts: list[FloatArray] = []
    for waveform in waveforms:
        level = float(np.sqrt(np.mean(np.square(waveform)))) or 1.0
        parts += [_silence(config, sample_rate, rng), waveform * np.float32(0.05 / level)]
    return np.concatenate([*parts, _silence(config, sample_rate, rng)])


def _silence(config: JoiningConfig, sample_rate: int, rng: Any) -> FloatArray:
    return np.zeros(round(float(rng.uniform(*config.gap_seconds)) * sample_rate), dtype=np.float32)


def padded(waveforms: Sequence[FloatArray]) -> dict[str, Any]:
    """Stack waveforms of several lengths: ``waveform`` (batch, time) with zeros at the ends, ``lengths`` (batch,)."""
    lengths = [len(waveform) for waveform in waveforms]
    stacked = np.zeros((len(waveforms), max(lengths)), dtype=np.float32)
    for row, waveform in zip(stacked, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return {"waveform": torch.from_numpy(stacked), "lengths": torch.tensor(lengths, dtype=torch.int64)}


def spoken_set(
    name: str,
    split: str,
    *,
    sample_rate: int = 16_000,
    max_items: int | None = None,
    max_seconds: float = float("inf"),
    root: Path | None = None,
    folder: Path | None = None,
) -> SpokenSet:
    """Open a set to measure recognition on: a corpus with texts, or connected digits.

    ``"digits"`` joins three to seven digits that speakers of the train split said in takes that are not trained on,
    ``"digits-unseen"`` those of the speakers of ``split``; both are drawn once and for all. A folder of transcribed
    speech that ``prepare`` wrote is a set too. Behind each may stand one of the conditions of
    :mod:`auriscope.data.spoken`: ``"digits-noisy"``. Utterances longer than ``max_seconds`` are left out. Raises
    ``CorpusError`` when the corpus is missing or has no texts.
    """
    clean, condition = (name, "") if is_prepared(name) else clean_name(name)
    if condition:
        plain = spoken_set(
            clean,
            split,
            sample_rate=sample_rate,
            max_items=max_items,
            max_seconds=max_seconds,
            root=root,
            folder=folder,
        )
        return corrupted(plain, condition, sample_rate=sample_rate, root=root, folder=folder)
    if name in (DIGITS, UNSEEN_DIGITS):
        made = _digits(name, split, sample_rate, root, folder)[:max_items]
        return SpokenSet(name, split, made.__getitem__, [len(item.waveform) / sample_rate for item in made])

    def usable(entry: Utterance) -> bool:
        return entry.duration_seconds <= max_seconds and letters(entry.text or "") != ""

    if is_prepared(name):
        listed, stores = open_speech(name, split, sample_rate=sample_rate)
        pool: ClipReader = ClipPool(stores)
        clips = [clip for clip, entry in enumerate(listed) if usable(entry)][:max_items]
    else:
        listed = [entry for entry in utterances(name, split, root=root) if usable(entry)][:max_items]
        pool = open_clips(listed, sample_rate=sample_rate, name=f"{name}-{split}-spoken", folder=folder)
        clips = list(range(len(listed)))
    if not clips:
        raise CorpusError(f"the corpus {name!r} has no texts in the split {split!r}")

    def read(index: int) -> Spoken:
        entry = listed[clips[index]]
        return Spoken(entry.name, pool.read(clips[index]), letters(entry.text or ""), entry.speaker)

    return SpokenSet(name, split, read, [listed[clip].duration_seconds for clip in clips])


def _digits(name: str, split: str, sample_rate: int, root: Path | None, folder: Path | None) -> list[Spoken]:
    entries: list[Utterance] = utterances(_DIGITS_CORPUS, "train" if name == DIGITS else split, root=root)
    if name == DIGITS:
        # Takes 0 to 4 are the test part of the corpus' own split: the first two choose, the others report.
        takes = ("0", "1") if split == "valid" else ("2", "3", "4")
        entries = [entry for entry in entries if entry.take in takes]
    store = open_clips(entries, sample_rate=sample_rate, name=f"{name}-{split}", folder=folder)
    by_speaker: dict[str, list[int]] = {}
    for clip, entry in enumerate(entries):
        by_speaker.setdefault(entry.speaker, []).append(clip)
    rng: Any = np.random.default_rng([3, ("train", "valid", "test").index(split)])
    made = []
    for number in range(_NUM_JOINED.get(split, 100)):
        speaker = sorted(by_speaker)[number % len(by_speaker)]
        clips = by_speaker[speaker]
        chosen = [clips[rng.integers(len(clips))] for _ in range(rng.integers(3, 7, endpoint=True))]
        waveform = join([store.read(clip) for clip in chosen], JoiningConfig(), sample_rate, rng)
        text = " ".join(letters(entries[clip].text or "") for clip in chosen)
        made.append(Spoken(f"{name}-{number:03d}", waveform, text, speaker))
    return made
