"""Cries of infants: crops for training, with or without the babies' names, and trials to measure on.

As in CryCeleb (Budaghyan et al., arXiv 2305.00969): cries of a baby are put one after the other, and cut into stretches
of three to five seconds for training; two periods of a baby's life are compared, all that was cried in each of them.
The sets of trials, by name, each of babies that no training split has:

- ``infant-cries``: every two recordings of ``infant_cry``. Most babies were recorded within a minute, by one phone, so
  that the phone is told as well as the baby: the figure flatters.
- ``infant-cries-periods``: all recordings of one period with all of another, where a period ends when nothing is
  recorded for an hour. Few babies have two.
- a folder that ``prepare`` wrote of CryCeleb: all cries at birth of every baby, with all at discharge of every baby.

A baby of ``infant_cry`` is a phone and a sex: some phones say of some recordings F and of others M, which are probably
two babies. Such are never compared with each other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.ahead import made_ahead
from auriscope.data.augmentation import AugmentationConfig, Augmenter
from auriscope.data.cache import ClipStore, open_clips
from auriscope.data.corpora import noise_clips, utterances
from auriscope.data.pool import ClipPool
from auriscope.data.prepared import is_prepared
from auriscope.data.prepared_speech import open_speech, read_speech
from auriscope.data.render import looped
from auriscope.data.voices import TrialSet
from auriscope.errors import CorpusError, RecipeError

FloatArray = NDArray[np.float32]

RECORDINGS, PERIODS = "infant-cries", "infant-cries-periods"
CRY_SETS = (RECORDINGS, PERIODS)

_CORPUS = "infant_cry"
_PERIOD_SECONDS = 3600.0
_BIRTH = "B"


@dataclass(frozen=True)
class Unit:
    """Clips of one baby that belong together: "" for a baby that is not known, and ``origin`` what it comes from.

    ``clips`` are numbers in a store, in the order in which they were cried. Babies of one ``origin`` (a phone) may be
    one.
    """

    baby: str
    origin: str
    period: str
    clips: tuple[int, ...]


class JoinedStore:
    """Clips of another store put one after the other, as clips of this one; read as every store."""

    def __init__(self, store: ClipPool, groups: Sequence[tuple[int, ...]]) -> None:
        self.sample_rate = store.sample_rate
        self._store, self._groups = store, list(groups)
        self._ends = [np.cumsum([store.num_frames(clip) for clip in group]) for group in groups]

    def __len__(self) -> int:
        return len(self._groups)

    def num_frames(self, clip: int) -> int:
        """Return the length in samples."""
        return int(self._ends[clip][-1])

    def read(self, clip: int, start_frame: int = 0, num_frames: int | None = None) -> FloatArray:
        """Return (time,) float32; shorter than ``num_frames`` at the end."""
        whole = self.num_frames(clip)
        end = whole if num_frames is None else min(whole, start_frame + num_frames)
        parts = []
        for own, last in zip(self._groups[clip], self._ends[clip].tolist(), strict=True):
            first = last - self._store.num_frames(own)
            if first < end and last > start_frame:
                begin = max(start_frame - first, 0)
                parts.append(self._store.read(own, begin, min(end, last) - first - begin))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


@dataclass(frozen=True)
class CriesConfig:
    """What crops of cries are cut from.

    ``prepared``, a folder that ``prepare`` wrote of CryCeleb, takes the place of ``infant_cry``. Of a baby all
    recordings are joined (of a period, with ``joined`` "periods"; none, with "recordings"), and crops of
    ``segment_seconds`` are cut out, of one length in a batch; babies whose cries are shorter start over.
    ``labelled_share`` of the babies are learnt from, drawn once by ``labelled_seed``. ``unlabelled`` are further
    corpora of cries whose babies are not known; with them, every recording is taken for a baby of its own.

    A batch holds ``views`` crops of each of ``batch_size`` of these, augmented each in its own way.
    """

    prepared: str | None = None
    unlabelled: tuple[str, ...] = ()
    joined: str = "babies"
    sample_rate: int = 16_000
    batch_size: int = 32
    views: int = 1
    segment_seconds: tuple[float, float] = (3.0, 5.0)
    labelled_share: float = 1.0
    labelled_seed: int = 0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        if self.joined not in ("babies", "periods", "recordings"):
            raise RecipeError(f"data.cries.joined must be babies, periods or recordings, not {self.joined!r}")
        if self.unlabelled and (self.joined != "recordings" or self.prepared is not None):
            raise RecipeError("data.cries.unlabelled goes with joined: recordings, and not with prepared")
        if self.batch_size < 2 or self.views < 1:
            raise RecipeError("data.cries.batch_size must be at least 2, and views at least 1")
        low, high = self.segment_seconds
        if not 0.1 <= low <= high:
            raise RecipeError(f"data.cries.segment_seconds must be a range from 0.1 up, not {self.segment_seconds}")
        if not 0.0 < self.labelled_share <= 1.0:
            raise RecipeError(f"data.cries.labelled_share must lie above 0 and not above 1, not {self.labelled_share}")


class CriesBatches:
    """Endless batches of crops with whose they are, each fully determined by its index.

    ``num_speakers`` is that of the babies, or of the recordings where these are not joined.
    """

    def __init__(
        self,
        config: CriesConfig,
        *,
        seed: int,
        split: str = "train",
        num_threads: int = 1,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.seed, self.num_threads = config, seed, num_threads
        units, store = _units(config.prepared, split, config.sample_rate, root, folder, config.unlabelled)
        units = _kept(_joined(units, config.joined), config)
        self.store = JoinedStore(store, [unit.clips for unit in units])
        names = [str(number) if config.joined == "recordings" else unit.baby for number, unit in enumerate(units)]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self._numbers = [numbers[name] for name in names]
        self.num_speakers = len(numbers)
        if self.num_speakers < 2:
            raise CorpusError(f"{config.prepared or _CORPUS}: fewer than two babies to tell apart")
        self._augmenter = Augmenter(config.augmentation, split, config.sample_rate, root=root, folder=folder)

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch: ``waveform`` (crops, time), ``lengths`` and ``speaker``, both (crops,), and ``index``.

        The first view of all comes first, then the second, and so on. Without enough babies some come twice.
        """
        config = self.config
        rng: Any = np.random.default_rng([self.seed, 1, index])
        num_frames = round(float(rng.uniform(*config.segment_seconds)) * config.sample_rate)
        chosen = rng.choice(len(self.store), config.batch_size, replace=len(self.store) < config.batch_size)
        waveform = np.empty((config.views, config.batch_size, num_frames), dtype=np.float32)
        for view in range(config.views):
            for row, unit in enumerate(chosen):
                drawn = self._augmenter.draw(rng, num_frames)
                wanted = int(np.ceil(num_frames * drawn.speed)) + 1
                spare = self.store.num_frames(unit) - wanted
                start = int(rng.integers(spare + 1)) if spare > 0 else int(rng.integers(self.store.num_frames(unit)))
                crop = looped(self.store.read(unit), start, wanted)
                waveform[view, row] = self._augmenter.apply(crop, drawn)[:num_frames]
        return {
            "waveform": torch.from_numpy(waveform.reshape(-1, num_frames)),
            "lengths": torch.full((config.views * config.batch_size,), num_frames),
            "speaker": torch.tensor([self._numbers[unit] for unit in chosen]).repeat(config.views),
            "index": index,
        }


def cry_trials(
    name: str, split: str, *, sample_rate: int = 16_000, root: Path | None = None, folder: Path | None = None
) -> TrialSet:
    """Open a set of trials: one of ``CRY_SETS``, or a folder that ``prepare`` wrote of CryCeleb, of "valid" or "test".

    Raises ``CorpusError`` when there is no such set, or its corpus is missing.
    """
    if split not in ("valid", "test"):
        raise CorpusError(f"trials are of the split valid or test, not {split!r}")
    prepared = name if is_prepared(name) else None
    if prepared is None and name not in CRY_SETS:
        raise CorpusError(f"there are no trials {name!r}; there are: {', '.join(CRY_SETS)}")
    units, store = _units(prepared, split, sample_rate, root, folder)
    units = _joined(units, "recordings" if name == RECORDINGS else "periods")
    joined = JoinedStore(store, [unit.clips for unit in units])
    numbers = range(len(units))
    if prepared is None:
        pairs = [(one, other) for one in numbers for other in numbers if one < other and _comparable(units, one, other)]
    else:
        births = [number for number in numbers if units[number].period == _BIRTH]
        later = [number for number in numbers if units[number].period != _BIRTH]
        if not births or not later:
            raise CorpusError(f"{prepared}: has no cries of two periods in the split {split!r} to compare")
        pairs = [(one, other) for one in births for other in later]
    stretches = [(joined, number, 0, joined.num_frames(number)) for number in numbers]
    return TrialSet(name, split, stretches, [unit.baby for unit in units], pairs)


def _comparable(units: Sequence[Unit], one: int, other: int) -> bool:
    """Whether it is known if two units are of one baby: not of one phone that speaks of a boy and a girl."""
    return units[one].baby == units[other].baby or units[one].origin != units[other].origin


def _units(
    prepared: str | None,
    split: str,
    sample_rate: int,
    root: Path | None,
    folder: Path | None,
    unlabelled: Sequence[str] = (),
) -> tuple[list[Unit], ClipPool]:
    """List the clips of a split, each a unit of its own, in the order in which they were cried."""
    if prepared is not None:
        listed, opened = open_speech(prepared, split, sample_rate=sample_rate)
        period_of = {each.path: each.period or "" for each in read_speech(prepared).utterances}
        made = [Unit(cry.speaker, cry.speaker, period_of[cry.name], (n,)) for n, cry in enumerate(listed)]
        return made, ClipPool(opened)
    cries = utterances(_CORPUS, split, root=root, for_training=split == "train")
    order = sorted(range(len(cries)), key=lambda number: (cries[number].speaker, _recorded_at(cries[number].name)))
    units, before = [], None
    period = 0
    for number in order:
        cry = cries[number]
        baby, moment = f"{cry.speaker}-{cry.sex or 'unknown'}", _recorded_at(cry.name)
        if before is None or before[0] != cry.speaker:
            period = 0
        elif moment - before[1] > _PERIOD_SECONDS:
            period += 1
        before = (cry.speaker, moment)
        units.append(Unit(baby, cry.speaker, str(period), (number,)))
    stores: list[ClipStore] = [open_clips(cries, sample_rate=sample_rate, name=f"{_CORPUS}-{split}", folder=folder)]
    for corpus in unlabelled:
        clips = noise_clips(split, corpus=corpus, root=root)
        first = sum(len(store) for store in stores)
        units += [Unit("", f"{corpus}:{clip.name}", "", (first + n,)) for n, clip in enumerate(clips)]
        stores.append(open_clips(clips, sample_rate=sample_rate, name=f"{corpus}-{split}", folder=folder))
    return units, ClipPool(stores)


def _joined(units: Sequence[Unit], by: str) -> list[Unit]:
    """Join the units of every baby, or of every period of theirs."""
    if by == "recordings":
        return list(units)
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.baby, unit.period if by == "periods" else ""), []).append(unit)
    return [
        Unit(baby, own[0].origin, period, tuple(clip for unit in own for clip in unit.clips))
        for (baby, period), own in groups.items()
    ]


def _kept(units: list[Unit], config: CriesConfig) -> list[Unit]:
    """Keep the share of the babies that are learnt from; at least two of them."""
    if config.labelled_share == 1.0:
        return units

    def place(baby: str) -> str:
        return hashlib.sha256(f"{config.labelled_seed} {baby}".encode()).hexdigest()

    babies = sorted({unit.baby for unit in units}, key=place)
    chosen = set(babies[: max(2, round(config.labelled_share * len(babies)))])
    return [unit for unit in units if unit.baby in chosen]


def _recorded_at(name: str) -> float:
    """When a recording of ``infant_cry`` was made, in seconds; its name ends in seconds or milliseconds since 1970.

    >>> _recorded_at("audio/baby072_1430130772174.opus"), _recorded_at("audio/baby004_1433658024.opus")
    (1430130772.174, 1433658024.0)
    """
    found = re.search(r"_(\d{10})(\d{3})?\.", name)
    if found is None:
        raise CorpusError(f"{name}: its name does not tell when it was recorded; keep the corpus' names")
    return int(found[1]) + int(found[2] or 0) / 1000
