"""What mixtures are drawn from: voices grouped by talker, and noise clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auriscope.data import synthetic
from auriscope.data.cache import AudioStore, ClipStore, open_clips, open_store
from auriscope.data.corpora import Utterance, noise_clips, utterances
from auriscope.errors import CorpusError

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Voice:
    """A talker: their number in the pool, the clips of the store that are theirs, and each clip's share in drawing.

    ``sex`` is as the manifest gives it, None where it does not.
    """

    number: int
    name: str
    clips: NDArray[np.int64]
    cumulative: NDArray[np.float64]
    sex: str | None = None

    @property
    def collection(self) -> str:
        """Where the talker was recorded: what stands before the colon in the name."""
        return self.name.partition(":")[0]

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a clip, each as often as it is long."""
        return int(self.clips[np.searchsorted(self.cumulative, rng.random(), side="right")])


class ClipPool:
    """Clips of several stores of one sample rate behind one numbering."""

    def __init__(self, stores: Sequence[ClipStore]) -> None:
        self._stores = list(stores)
        self._firsts = np.cumsum([0, *(len(store) for store in stores)])
        self.sample_rate = stores[0].sample_rate

    def num_frames(self, clip: int) -> int:
        """Return the length of a clip in samples."""
        store, own = self._locate(clip)
        return store.num_frames(own)

    def read(self, clip: int, start_frame: int = 0, num_frames: int | None = None) -> NDArray[np.float32]:
        """Return (time,) float32 of a clip, as :meth:`AudioStore.read` does."""
        store, own = self._locate(clip)
        return store.read(own, start_frame, num_frames)

    def _locate(self, clip: int) -> tuple[ClipStore, int]:
        store = int(np.searchsorted(self._firsts, clip, side="right")) - 1
        return self._stores[store], clip - int(self._firsts[store])


class NoisePool(ClipPool):
    """Noise clips of one or more corpora, each corpus drawn as often as the others."""

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a clip."""
        store = int(rng.integers(len(self._stores))) if len(self._stores) > 1 else 0
        return int(self._firsts[store]) + int(rng.integers(len(self._stores[store])))


def by_store(listed: Sequence[Utterance], stores: Sequence[ClipStore]) -> list[Sequence[Utterance]]:
    """Cut a list of the utterances of several stores, in their order, into one list for each."""
    ends = np.cumsum([len(store) for store in stores]).tolist()
    return [listed[end - len(store) : end] for end, store in zip(ends, stores, strict=True)]


class VoicePool(ClipPool):
    """Utterances by talker, with the audio.

    A talker is drawn in proportion to the seconds there are of them, but at most ``cap_seconds``, so that prolific
    ones do not dominate; an unknown speaker that stands for many people counts as many. Two talkers of a mixture
    always differ, and two utterances without a speaker label never meet, since they may be one person's.
    """

    def __init__(
        self,
        stores: Sequence[ClipStore],
        listed: Sequence[Sequence[Utterance]],
        cap_seconds: float,
        min_seconds: float = 0.0,
    ) -> None:
        super().__init__(stores)
        by_speaker: dict[str, list[tuple[int, float, int]]] = {}
        sexes: dict[str, str | None] = {}
        for first, store, entries in zip(self._firsts[:-1], stores, listed, strict=True):
            for clip, utterance in enumerate(entries):
                seconds = store.num_frames(clip) / store.sample_rate
                if seconds > 0 and seconds >= min_seconds:
                    item = (int(first) + clip, seconds, utterance.num_speakers)
                    by_speaker.setdefault(utterance.speaker, []).append(item)
                    sexes[utterance.speaker] = utterance.sex
        weights = []
        self.voices: list[Voice] = []
        for name, items in by_speaker.items():
            seconds_of = np.array([seconds for _, seconds, _ in items])
            weights.append(min(float(seconds_of.sum()), cap_seconds * max(people for _, _, people in items)))
            clips = np.array([clip for clip, _, _ in items], dtype=np.int64)
            cumulative = np.cumsum(seconds_of) / seconds_of.sum()
            self.voices.append(Voice(len(self.voices), name, clips, cumulative, sexes[name]))
        self._weights = np.array(weights)
        self._collections: dict[str, NDArray[np.int64]] = {
            name: np.array([number for number, voice in enumerate(self.voices) if voice.collection == name])
            for name in {voice.collection for voice in self.voices}
        }

    def draw_voices(
        self, num_voices: int, rng: np.random.Generator, *, together: bool = False, contrasting: bool = False
    ) -> list[Voice]:
        """Draw different talkers, each by weight among those that are left.

        With ``together`` all are of the first one's collection, if that has so many. With ``contrasting`` the others
        are not of the first one's sex, as far as there are such in the group and the sexes are known.
        """
        if num_voices > len(self.voices):
            raise CorpusError(f"{num_voices} talkers are asked of corpora that hold {len(self.voices)}; add corpora")
        chosen = [self._draw(np.arange(len(self.voices)), rng)]
        group = self._collections[self.voices[chosen[0]].collection]
        if not together or len(group) < num_voices:
            group = np.arange(len(self.voices))
        if contrasting and (sex := self.voices[chosen[0]].sex):
            others = group[[self.voices[number].sex not in (sex, None) for number in group]]
            group = others if len(others) >= num_voices - 1 else group
        while len(chosen) < num_voices:
            number = self._draw(group, rng)
            if number not in chosen:
                chosen.append(number)
        return [self.voices[number] for number in chosen]

    def _draw(self, group: NDArray[np.int64], rng: np.random.Generator) -> int:
        cumulative = np.cumsum(self._weights[group])
        return int(group[np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")])


def voice_pool(
    corpora: Sequence[str],
    split: str,
    *,
    sample_rate: int,
    cap_seconds: float,
    min_seconds: float = 0.0,
    root: Path | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VoicePool:
    """Open the voices of some corpora; the name "synthetic" stands for generated voices that need no data.

    Raises :class:`~auriscope.errors.CorpusError` as :func:`~auriscope.data.corpora.utterances` and
    :func:`~auriscope.data.cache.open_clips` do; a corpus that must only measure is refused for the split "train".
    """
    stores, listed = [], []
    for corpus in corpora:
        if corpus == SYNTHETIC:
            entries = synthetic.utterances(split)
            store = open_store(
                lambda entries=entries: (synthetic.render(entry, sample_rate) for entry in entries),  # type: ignore[misc]
                key=synthetic.key(split),
                sample_rate=sample_rate,
                name=f"{SYNTHETIC}-{split}",
                folder=folder,
            )
        else:
            entries = utterances(corpus, split, root=root, for_training=split == "train")
            store = open_clips(
                entries, sample_rate=sample_rate, name=f"{corpus}-{split}", folder=folder, progress=progress
            )
        stores.append(store)
        listed.append(entries)
    return VoicePool(stores, listed, cap_seconds, min_seconds)


def noise_store(
    split: str, *, corpus: str = "noise", sample_rate: int, root: Path | None = None, folder: Path | None = None
) -> AudioStore:
    """Open the noise clips of a split of a corpus."""
    clips = noise_clips(split, corpus=corpus, root=root)
    return open_clips(clips, sample_rate=sample_rate, name=f"{corpus}-{split}", folder=folder)


def noise_pool(
    corpora: Sequence[str],
    split: str,
    *,
    sample_rate: int,
    root: Path | None = None,
    folder: Path | None = None,
) -> NoisePool:
    """Open the noise clips of a split of some corpora."""
    return NoisePool(
        [noise_store(split, corpus=corpus, sample_rate=sample_rate, root=root, folder=folder) for corpus in corpora]
    )
