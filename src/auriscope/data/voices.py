"""Voices to tell apart: crops of many speakers for training, and fixed sets of trials to measure on.

The sets of trials, by name, each of speakers that no training split has:

- ``libri-halves``: the two halves of every utterance of ``libri_251spk`` and ``libri_other_10spk``. Halves of one
  utterance are a target trial; a first half with every second half of another speaker is a trial that is none.
- ``commonvoice-clips``: every two clips of ``commonvoice_en``, recorded by volunteers on their own devices. Some may
  have taken part under two names, which counts as an error that no model can help.
"""

from __future__ import annotations

import math
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
from auriscope.data.corpora import UNKNOWN_SPEAKER, Utterance, utterances
from auriscope.data.pool import VoicePool, by_store
from auriscope.data.prepared import is_prepared
from auriscope.data.prepared_speech import open_speech
from auriscope.data.render import looped
from auriscope.errors import CorpusError, RecipeError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

HALVES, CLIPS = "libri-halves", "commonvoice-clips"
_CORPORA = {HALVES: ("libri_251spk", "libri_other_10spk"), CLIPS: ("commonvoice_en",)}


@dataclass(frozen=True)
class VoicesConfig:
    """What crops are cut from.

    ``prepared``, a folder of speech that ``prepare`` wrote, takes the place of ``corpora``; utterances whose speaker is
    not known are left out of either. A batch holds ``batch_size`` crops of one length, drawn from ``segment_seconds``;
    utterances that are shorter start over. A speaker is drawn in proportion to the seconds there are of them, at most
    ``cap_seconds``, so that prolific ones do not dominate. ``augmentation`` changes every crop, each time anew; with
    ``speeds_are_voices`` a speaker at another of its speeds, which is another pitch, counts as another one (Yamamoto
    et al., "Speaker augmentation and bandwidth extension for deep speaker embedding", Interspeech 2019).
    ``sample_rate`` is the model's.
    """

    corpora: tuple[str, ...] = ("libri_251spk", "libri_other_10spk", "libri_readers_3spk", "commonvoice_en")
    prepared: str | None = None
    sample_rate: int = 16_000
    batch_size: int = 32
    segment_seconds: tuple[float, float] = (2.0, 3.0)
    cap_seconds: float = 60.0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    speeds_are_voices: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise RecipeError(f"data.batch_size must be at least 2, not {self.batch_size}")
        low, high = self.segment_seconds
        if not 0.1 <= low <= high:
            raise RecipeError(f"data.segment_seconds must be a range from 0.1 up, not {self.segment_seconds}")
        if not self.cap_seconds > 0:
            raise RecipeError(f"data.cap_seconds must be above 0, not {self.cap_seconds}")


class VoicesBatches:
    """Endless batches of crops with who speaks, each fully determined by its index.

    ``num_speakers`` is that of the classes: people, or with ``speeds_are_voices`` people at a speed.
    """

    def __init__(
        self,
        config: VoicesConfig,
        *,
        seed: int,
        split: str = "train",
        num_threads: int = 1,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.seed, self.num_threads = config, seed, num_threads
        self.pool = _pool(config, split, root, folder)
        self._augmenter = Augmenter(config.augmentation, split, config.sample_rate, root=root, folder=folder)
        # Each of several equal factors, by which a speed is drawn more often, is the same voice.
        self._speeds = sorted(set(config.augmentation.speed_factors)) if config.speeds_are_voices else [1.0]
        self.num_speakers = len(self.pool.voices) * len(self._speeds)
        if len(self.pool.voices) < 2:
            raise CorpusError(f"{config.prepared or ', '.join(config.corpora)}: fewer than two known speakers to tell")

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch: ``waveform`` (batch, time), ``lengths`` (batch,), all time, ``speaker`` (batch,), ``index``."""
        config = self.config
        rng: Any = np.random.default_rng([self.seed, 1, index])
        num_frames = round(float(rng.uniform(*config.segment_seconds)) * config.sample_rate)
        waveform = np.empty((config.batch_size, num_frames), dtype=np.float32)
        speakers = []
        for row in range(config.batch_size):
            voice = self.pool.draw_voices(1, rng)[0]
            clip = voice.draw(rng)
            drawn = self._augmenter.draw(rng, num_frames)
            # At another speed the crop shall be as long as the others.
            wanted = math.ceil((num_frames + 1) * drawn.speed)
            spare = self.pool.num_frames(clip) - wanted
            start = int(rng.integers(spare + 1)) if spare > 0 else int(rng.integers(self.pool.num_frames(clip)))
            crop = looped(self.pool.read(clip), start, wanted)
            waveform[row] = self._augmenter.apply(crop, drawn)[:num_frames]
            at = self._speeds.index(drawn.speed) if config.speeds_are_voices else 0
            speakers.append(at * len(self.pool.voices) + voice.number)
        return {
            "waveform": torch.from_numpy(waveform),
            "lengths": torch.full((config.batch_size,), num_frames),
            "speaker": torch.tensor(speakers),
            "index": index,
        }


def _pool(config: VoicesConfig, split: str, root: Path | None, folder: Path | None) -> VoicePool:
    if config.prepared is not None:
        listed, stores = open_speech(config.prepared, split, sample_rate=config.sample_rate)
        if any(not _known(entry) for entry in listed):
            raise CorpusError(f"{config.prepared}: has utterances of unknown speakers, who cannot be told apart")
        return VoicePool(stores, by_store(listed, stores), config.cap_seconds)
    lists, opened = [], []
    for corpus in config.corpora:
        every = utterances(corpus, split, root=root, for_training=split == "train")
        entries = [entry for entry in every if _known(entry)]
        if not entries:
            raise CorpusError(f"{corpus} does not tell its speakers apart; take it out of the corpora")
        lists.append(entries)
        opened.append(open_clips(entries, sample_rate=config.sample_rate, name=f"{corpus}-{split}", folder=folder))
    return VoicePool(opened, lists, config.cap_seconds)


def _known(entry: Utterance) -> bool:
    return entry.num_speakers == 1 and entry.speaker.rpartition(":")[2] not in ("", UNKNOWN_SPEAKER)


class TrialSet:
    """A fixed list of trials over recordings, each of which is read when it is asked for.

    ``speakers`` and ``seconds`` are of the recordings; trial k compares the recordings ``first[k]`` and ``second[k]``,
    which are of one speaker where ``targets[k]``.
    """

    def __init__(
        self,
        name: str,
        split: str,
        stretches: Sequence[tuple[ClipStore, int, int, int]],
        speakers: Sequence[str],
        pairs: Sequence[tuple[int, int]],
    ) -> None:
        self.name, self.split, self.speakers = name, split, tuple(speakers)
        self.sample_rate = stretches[0][0].sample_rate
        self.seconds = tuple(frames / self.sample_rate for _, _, _, frames in stretches)
        self.first: IntArray = np.array([one for one, _ in pairs], dtype=np.int64)
        self.second: IntArray = np.array([other for _, other in pairs], dtype=np.int64)
        self.targets: NDArray[np.bool_] = np.array([speakers[one] == speakers[other] for one, other in pairs])
        self._stretches = stretches

    def __len__(self) -> int:
        return len(self.speakers)

    def __getitem__(self, index: int) -> FloatArray:
        """Read a recording, (time,) float32."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no recording {index} of {len(self)}")
        store, clip, start, num_frames = self._stretches[index]
        return store.read(clip, start, num_frames)


def trial_set_names() -> tuple[str, ...]:
    """Every name that :func:`trials` knows."""
    from auriscope.data.cries import CRY_SETS

    return (*_CORPORA, *CRY_SETS)


def trials(
    name: str, split: str, *, sample_rate: int = 16_000, root: Path | None = None, folder: Path | None = None
) -> TrialSet:
    """Open a set of trials, of the split "valid" or "test": one of this module's, or of :mod:`auriscope.data.cries`.

    Raises ``CorpusError`` when there is no such set, or its corpora are missing.
    """
    # Cries are compared by sets of this module's kind.
    from auriscope.data.cries import CRY_SETS, cry_trials

    if name in CRY_SETS or is_prepared(name):
        return cry_trials(name, split, sample_rate=sample_rate, root=root, folder=folder)
    if name not in _CORPORA:
        raise CorpusError(f"there are no trials {name!r}; there are: {', '.join(trial_set_names())}")
    if split not in ("valid", "test"):
        raise CorpusError(f"trials are of the split valid or test, not {split!r}")
    stretches: list[tuple[ClipStore, int, int, int]] = []
    speakers: list[str] = []
    for corpus in _CORPORA[name]:
        listed = utterances(corpus, split, root=root)
        store = open_clips(listed, sample_rate=sample_rate, name=f"{corpus}-{split}", folder=folder)
        for clip, entry in enumerate(listed):
            number = store.num_frames(clip)
            cuts = [(0, number // 2), (number // 2, number - number // 2)] if name == HALVES else [(0, number)]
            stretches += [(store, clip, *cut) for cut in cuts]
            speakers += [entry.speaker] * len(cuts)
    if name == HALVES:
        firsts = range(0, len(speakers), 2)
        pairs = [
            (one, other + 1) for one in firsts for other in firsts if one == other or speakers[one] != speakers[other]
        ]
    else:
        pairs = [(one, other) for one in range(len(speakers)) for other in range(one + 1, len(speakers))]
    return TrialSet(name, split, stretches, speakers, pairs)
